"""Whether ONNX files answer as the PyTorch model does: largest difference, and how often they say the same label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.errors import ExportError
from hfcompress.export.cases import Case
from hfcompress.export.layout import ENCODER
from hfcompress.modeling.onnx_model import start_session

if TYPE_CHECKING:
    import onnxruntime

Arrays = Mapping[str, np.ndarray]

_PAST, _PRESENT, _BRANCH = "past_key_values", "present", "use_cache_branch"
_PLACES = ("start_logits", "end_logits")
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Difference:
    """How far a graph is from the model in one case.

    Args:
        case: What was tried.
        largest: The largest absolute difference of a number.
        relative: The same in parts of the largest number that the model answers.
        agreement: Share of the labels that are the same; None where the outputs are no labels.
        finite: Whether every number is finite that the model's is.
    """

    case: str
    largest: float
    relative: float
    agreement: float | None
    finite: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Validation:
    """How far graphs are from the model in all cases."""

    cases: tuple[Difference, ...]

    @property
    def largest(self) -> float:
        """The largest absolute difference."""
        return max(case.largest for case in self.cases)

    @property
    def relative(self) -> float:
        """The largest relative difference."""
        return max(case.relative for case in self.cases)

    @property
    def agreement(self) -> float | None:
        """The mean share of equal labels over the cases that have labels."""
        shares = [case.agreement for case in self.cases if case.agreement is not None]
        return float(np.mean(shares)) if shares else None

    def within(self, tolerance: float) -> bool:
        """Say whether every case is within a tolerance, in parts of the largest output."""
        return self.relative <= tolerance and all(case.finite for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "cases": [case.to_dict() for case in self.cases],
            "largest_difference": self.largest,
            "largest_relative_difference": self.relative,
            "label_agreement": self.agreement,
        }


@dataclass(frozen=True)
class Proof:
    """What ONNX files have to answer.

    Args:
        cases: Batches with the model's answers.
        tolerance: Largest difference that float graphs may have, in parts of the largest output.
        multi_label: Whether an output above 0 is a label, rather than the largest.
    """

    cases: Sequence[Case]
    tolerance: float
    multi_label: bool = False

    def of(self, files: Sequence[Path]) -> Validation:
        """Run ONNX files on all cases, and where they have a cache in two steps, too.

        Args:
            files: One graph, or an encoder and a decoder; a suffix such as `_quantized` may stand behind their names.

        Raises:
            ModelError: ONNX Runtime cannot open a file.
        """
        graphs = Graphs(files)
        found = []
        for case in self.cases:
            inputs = {name: tensor.numpy() for name, tensor in case.inputs.items()}
            found.append(self._compare(case.name, graphs.run(inputs), case))
            if case.steps and graphs.has_cache:
                found.append(self._compare(f"{case.name}, in two steps", graphs.run_in_steps(inputs), case))
        return Validation(tuple(found))

    def require(self, files: Sequence[Path]) -> Validation:
        """Make sure that ONNX files answer as the model does.

        Raises:
            ExportError: They do not; the worst case is named.
            ModelError: ONNX Runtime cannot open a file.
        """
        found = self.of(files)
        worst = max(found.cases, key=lambda case: (not case.finite, case.relative))
        if not worst.finite:
            raise ExportError(
                f"The ONNX graph answers numbers that are not finite where the model's are ({worst.case}). "
                "Nothing was written. Try another --backend or --opset."
            )
        if not found.within(self.tolerance):
            raise ExportError(
                f"The ONNX graph does not answer as the model does ({worst.case}): its largest difference is "
                f"{worst.largest:.2g}, {worst.relative:.2g} of the largest output, and {self.tolerance:g} is allowed. "
                "Nothing was written. Try another --backend or --opset; --tolerance allows more."
            )
        return found

    def _compare(self, name: str, found: Arrays, case: Case) -> Difference:
        """Compare what a graph answers with what the model does.

        Answers at padding, and to texts that are nothing but padding, have to be finite where the model's are; what
        they say nobody reads, and kinds of attention differ in it.
        """
        largest = relative = 0.0
        finite = True
        shares = []
        for key in found.keys() & case.expected.keys():
            expected, got = case.expected[key], found[key]
            usable = np.isfinite(expected)
            finite = finite and bool(np.isfinite(got[usable]).all())
            read = usable & np.isfinite(got) & _is_read(expected, key, case)
            difference = float(np.abs(expected[read] - got[read]).max(initial=0.0))
            largest = max(largest, difference)
            relative = max(relative, difference / max(float(np.abs(expected[read]).max(initial=0.0)), _TINY))
            share = self._agreement(key, expected, got, case)
            shares += [] if share is None else [share]
        return Difference(name, largest, relative, float(np.mean(shares)) if shares else None, finite)

    def _agreement(self, name: str, expected: np.ndarray, got: np.ndarray, case: Case) -> float | None:
        """Return the share of equal labels (or places, where a text answers a question); None where there are none."""
        read = _is_read(expected, name, case)
        if name in _PLACES:
            rows = read.any(axis=1)
            one, other = (np.where(read, values, -np.inf)[rows].argmax(axis=1) for values in (expected, got))
            return float((one == other).mean())
        if name != "logits" or expected.shape[-1] < 2:
            return None
        if self.multi_label:
            return float(((expected > 0) == (got > 0))[read].mean())
        return float((expected.argmax(axis=-1) == got.argmax(axis=-1))[read[..., 0]].mean())


class Graphs:
    """A model's ONNX files, opened: one graph, or an encoder and a decoder.

    Args:
        files: The files.

    Raises:
        ModelError: ONNX Runtime cannot open one.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        sessions = {file.name: start_session(file) for file in files}
        self.input_names = {node.name for session in sessions.values() for node in session.get_inputs()}
        stem = Path(ENCODER).stem
        self.encoder = next((session for name, session in sessions.items() if name.startswith(stem)), None)
        self.main = next(session for session in sessions.values() if session is not self.encoder)

    @property
    def has_cache(self) -> bool:
        """Whether earlier tokens can be given as a cache."""
        return any(node.name.startswith(_PAST) for node in self.main.get_inputs())

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Return the outputs of a batch, with an empty cache where there is one."""
        return self._step(self._encoded(inputs), {})

    def run_in_steps(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Return the logits of a batch whose tokens are given in two halves, the first half's cache with the second."""
        encoded = self._encoded(inputs)
        half = encoded["input_ids"].shape[1] // 2
        mask = encoded.get("attention_mask")
        first = {**encoded, "input_ids": encoded["input_ids"][:, :half]}
        later = {**encoded, "input_ids": encoded["input_ids"][:, half:]}
        if mask is not None:
            first["attention_mask"] = mask[:, :half]
        one = self._step(first, {})
        other = self._step(later, one, earlier=half)
        return {"logits": np.concatenate([one["logits"], other["logits"]], axis=1)}

    def _encoded(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Return what the main graph reads: of an encoder-decoder the encoder's output and the decoder's tokens."""
        if self.encoder is None:
            return dict(inputs)
        names = {node.name for node in self.encoder.get_inputs()}
        (hidden,) = self.encoder.run(["last_hidden_state"], {name: inputs[name] for name in names})
        return {
            "input_ids": inputs["decoder_input_ids"],
            "encoder_hidden_states": hidden,
            "encoder_attention_mask": inputs["attention_mask"],
        }

    def _step(self, inputs: Arrays, before: Arrays, earlier: int = 0) -> dict[str, np.ndarray]:
        """Run the main graph once.

        Args:
            inputs: What it reads.
            before: The outputs of the step before, with its cache.
            earlier: How many tokens the cache holds.
        """
        feeds = {node.name: self._feed(node, inputs, before, earlier) for node in self.main.get_inputs()}
        names = [node.name for node in self.main.get_outputs()]
        found = dict(zip(names, self.main.run(names, feeds), strict=True))
        if before:  # the cache of what the encoder said does not change, and a later step does not repeat it
            kept = {name: value for name, value in before.items() if name.startswith(_PRESENT) and ".encoder." in name}
            found |= kept
        return found

    def _feed(self, node: onnxruntime.NodeArg, inputs: Arrays, before: Arrays, earlier: int) -> np.ndarray:
        """Return one input of the main graph."""
        if node.name in inputs:
            return np.ascontiguousarray(inputs[node.name])
        main = next(inputs[name] for name in ("input_ids", "pixel_values") if name in inputs)
        if node.name.startswith(_PAST):
            present = node.name.replace(_PAST, _PRESENT, 1)
            return before[present] if before else _empty_cache(node.shape, len(main))
        if node.name == _BRANCH:
            return np.array([bool(before)])
        if node.name == "position_ids":
            return np.broadcast_to(np.arange(earlier, earlier + main.shape[1]), main.shape).copy()
        if node.name == "decoder_attention_mask":
            return np.ones_like(inputs["decoder_input_ids"])
        return np.ones_like(main) if node.name == "attention_mask" else np.zeros_like(main)


def _empty_cache(shape: Sequence[int | str], batch_size: int) -> np.ndarray:
    """Return a cache of no tokens: the graph's fixed sizes, the batch, and 0 for the length."""
    sizes = [size if isinstance(size, int) else 0 for size in shape]
    return np.zeros([batch_size, *sizes[1:]], dtype=np.float32)


def _is_read(values: np.ndarray, name: str, case: Case) -> np.ndarray:
    """Say of each number whether it stands at a real token, or answers a text that has one."""
    mask = case.inputs.get("attention_mask")
    if mask is None:
        return np.ones(values.shape, dtype=bool)
    real: np.ndarray = mask.numpy().astype(bool)
    of_tokens = values.ndim == 3 or name in _PLACES
    if not (of_tokens and values.shape[:2] == real.shape):
        real = np.asarray(real.any(axis=1))
    return np.broadcast_to(real.reshape(real.shape + (1,) * (values.ndim - real.ndim)), values.shape)
