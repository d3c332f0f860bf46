"""An ONNX file as a model: run by ONNX Runtime, called with tensors by name, as a PyTorch model is."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError
from hfcompress.tasks.text2text_generation import shift_right

if TYPE_CHECKING:
    import onnxruntime
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig
    from transformers.utils.generic import ModelOutput

ONNX_FOLDER = "onnx"
"""Where a model folder keeps its ONNX files: the name that Optimum and transformers.js look for."""

_PAST = "past_key_values"


def is_onnx(source: str | Path) -> bool:
    """Say whether a model is given as an ONNX file.

    Example:
        >>> is_onnx("small/onnx/model_quantized.onnx")
        True
    """
    return Path(source).suffix == ".onnx"


def model_folder(file: Path) -> Path:
    """Return the folder with an ONNX file's config and tokenizer: its own, or the one above `onnx/`.

    Raises:
        ModelError: There is no such file, or no config.json beside it.
    """
    if not file.is_file():
        raise ModelError(Fault(str(file), "there is no such file.", "Make one with `hfcompress export`."))
    for folder in (file.parent, file.parent.parent):
        if (folder / "config.json").is_file():
            return folder
    fix = "Leave the file where it was exported: the config and the tokenizer lie beside it, or above its onnx folder."
    raise ModelError(Fault(str(file), "has no config.json beside it or in the folder above.", fix))


def start_session(file: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open an ONNX file in ONNX Runtime, on the CPU.

    Args:
        file: The file; large weights lie beside it.
        threads: Threads of one operator; None for as many as torch has now.

    Raises:
        ModelError: ONNX Runtime is not installed, or cannot read the file.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModelError(
            Fault(str(file), "needs ONNX Runtime, which is not installed.", "Run: pip install onnxruntime")
        )
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads that spin would take the cores from whatever runs next in this process.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # onnxruntime's own exceptions share no base class but this.
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(
            Fault(str(file), f"ONNX Runtime cannot open it: {reason}.", "Export the model anew.")
        ) from error


class OnnxModel:
    """An ONNX graph that is called as a PyTorch model is.

    What the graph takes and nobody gives is filled in as PyTorch's models do it: an empty cache of earlier tokens,
    positions from 0, one kind of segments, a mask that hides nothing.

    Args:
        file: The ONNX file.
        config: The model's config.
        threads: As for `start_session`.

    Raises:
        ModelError: As `start_session`.
    """

    def __init__(self, file: Path, config: PretrainedConfig, threads: int | None = None) -> None:
        import torch

        self.file = file
        self.config = config
        self.device = torch.device("cpu")
        self.session = start_session(file, threads)
        self._nodes = {node.name: node for node in self.session.get_inputs()}
        self.output_names = [node.name for node in self.session.get_outputs()]
        self.main_input_name = "pixel_values" if "pixel_values" in self._nodes else "input_ids"

    @property
    def input_names(self) -> list[str]:
        """What the graph takes."""
        return list(self._nodes)

    def eval(self) -> OnnxModel:
        """Return itself: a graph has no other mode."""
        return self

    def __call__(self, **inputs: Tensor) -> ModelOutput:
        """Run the graph once.

        Args:
            **inputs: Tensors by name; what the graph does not take is left out.

        Returns:
            The outputs by name, as tensors; the cache is left out.

        Raises:
            ModelError: The graph cannot take these inputs.
        """
        from transformers.utils.generic import ModelOutput

        return ModelOutput(self.run([name for name in self.output_names if not name.startswith("present")], inputs))

    def run(self, names: list[str], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return some of the graph's outputs, the cache among them where it is asked for.

        Raises:
            ModelError: As when it is called.
        """
        import torch

        feeds = {name: value.numpy() for name, value in self.fill_in(inputs).items()}
        try:
            values = self.session.run(names, feeds)
        # onnxruntime's own exceptions share no base class but this.
        except Exception as error:
            sizes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())
            reason = " ".join(str(error).split())[:300].rstrip(".")
            fix = "Give no longer texts, or images of another size, than the model was made for."
            raise ModelError(Fault(str(self.file), f"cannot run on {sizes}: {reason}.", fix)) from error
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    def fill_in(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the graph takes: the given inputs that it knows, and the rest made up.

        Raises:
            ModelError: It takes something that cannot be made up.
        """
        found = {name: inputs[name] if name in inputs else self._made_up(name, inputs) for name in self._nodes}
        return {name: value.detach().cpu().to(self._dtype(name)).contiguous() for name, value in found.items()}

    def _made_up(self, name: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return an input that nobody gave."""
        import torch

        main = inputs.get(self.main_input_name)
        if main is not None:
            if name == "attention_mask":
                return torch.ones_like(main)
            if name == "token_type_ids":
                return torch.zeros_like(main)
            if name == "position_ids":
                return torch.arange(main.shape[1]).expand(len(main), -1)
            if name == "decoder_input_ids":
                return shift_right(main, self.config)
            if name == "use_cache_branch":
                return torch.tensor([False])
            if name.startswith(_PAST):
                return self._empty(name, len(main))
        raise ModelError(Fault(str(self.file), f"takes {name}, which it was not given."))

    def _empty(self, name: str, batch_size: int) -> Tensor:
        """Return a cache of no tokens: the graph's fixed sizes, the batch, and 0 for the length."""
        import torch

        sizes = [size if isinstance(size, int) else 0 for size in self._nodes[name].shape]
        return torch.zeros([batch_size, *sizes[1:]])

    def _dtype(self, name: str) -> torch.dtype:
        """Return the type of number that an input has."""
        import torch

        kind = self._nodes[name].type.removeprefix("tensor(").removesuffix(")")
        dtype: torch.dtype = getattr(torch, {"float": "float32", "double": "float64"}.get(kind, kind))
        return dtype


def load_onnx(source: str | Path, threads: int | None = None) -> OnnxModel:
    """Open an ONNX file together with the config beside it; an encoder and a decoder that write are opened both.

    Args:
        source: The file; of an encoder and a decoder either.
        threads: As for `start_session`.

    Raises:
        ModelError: A file, its config or ONNX Runtime is missing or unusable.
    """
    from hfcompress.modeling.load import load_config
    from hfcompress.modeling.onnx_seq2seq import OnnxSeq2Seq, pair_of

    file = Path(source)
    folder = model_folder(file)
    config = load_config(str(folder))
    pair = pair_of(file)
    return OnnxModel(file, config, threads) if pair is None else OnnxSeq2Seq(*pair, config, threads)
