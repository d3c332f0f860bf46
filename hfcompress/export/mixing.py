"""Mixed precision of an export: what each node loses is measured once, then bits are assigned under one aim."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.errors import ExportError, Fault, RequestError
from hfcompress.export.careful import Careful
from hfcompress.export.methods import Maker, Quantized
from hfcompress.export.variants import Variant
from hfcompress.measure.latency import Effort, time_calls
from hfcompress.modeling.onnx_model import OnnxModel
from hfcompress.quantization.convert import convert_beside
from hfcompress.quantization.mixed import (
    FLOAT,
    INT4,
    INT8,
    Bits,
    Part,
    cheapest,
    measure_losses,
    mixed_writer,
    parts_of,
    spread,
    upgrades,
    within_costs,
)
from hfcompress.quantization.sensitivity import fewest_float_nodes
from hfcompress.quantization.weight_only import FourBit, Int4Config, four_bits

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_LENGTH = 128
_EFFORT = Effort(rounds=20, warm_up=3, seconds=8)
_TIGHTENINGS = 4


@dataclass
class Mixing:
    """The search for bits.

    Args:
        variant: The float graphs.
        maker: Writes them; its settings hold the aim.
        config: The model's config.
        careful: Knows rows and metric.
        say: Told in one line what happens.
    """

    variant: Variant
    maker: Maker
    config: PretrainedConfig
    careful: Careful
    say: Callable[[str], None]

    def choose(self) -> tuple[Quantized, dict[str, Any]]:
        """Return the files, and what the record says of each node: its bits, what it loses alone, its bytes.

        Raises:
            RequestError: There are no data, or the aim is out of reach of any choice.
            ExportError: The aim is not met on the rows, or by the clock.
        """
        settings = self.maker.settings
        found: dict[str, Any] = {}
        if settings.max_size is not None:
            bits = self._within_size(settings.max_size)
        elif settings.target_latency is not None:
            bits, found["latency_ratio"] = self._within_time(settings.target_latency)
        else:
            bits = {}
        if settings.max_drop is not None:
            bits, choice = self._within_drop(bits, settings.max_drop)
            found |= {"max_drop": settings.max_drop, **choice}
        made = self._make(bits)
        return made, found | {"bits": self._table(bits)}

    @cached_property
    def four(self) -> dict[str, FourBit]:
        """How each graph's weights are rounded to 4 bits, by the file's name."""
        settings = self.maker.settings
        config = Int4Config(algorithm=settings.algorithm, block_size=settings.block_size)
        return {file.name: four_bits(file, config, self.maker.feeds.get(file.name)) for file in self.variant.files}

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The decisions."""
        found: dict[str, Part] = {}
        for file in self.variant.files:
            found |= parts_of(file, self.four[file.name], self.careful.embeddings)
        return found

    @cached_property
    def losses(self) -> dict[str, dict[int, float]]:
        """What each part loses alone, by its bits."""
        rows, exact = self.careful.calibration(), self.variant.files[0]
        self.say(f"asking what each of {len(self.parts)} weights loses in 8 and in 4 bits")
        try:
            return measure_losses(
                self.parts,
                self._trial,
                lambda file: [self.careful.answers(file, rows)],
                [self.careful.answers(exact, rows)],
            )
        finally:
            self._clear()

    def _within_size(self, size: float) -> Bits:
        """Return the bits that lose the least within a size of the weights, in MB or as a part of the float ones.

        Raises:
            RequestError: Not even the fewest bits fit.
        """
        whole = sum(part.sizes[FLOAT] for part in self.parts.values())
        least = sum(min(part.sizes.values()) for part in self.parts.values())
        unit = whole if size <= 1 else 1e6
        budget = size * unit
        if budget < least:
            fix = f"The smallest possible model takes {math.ceil(1000 * least / unit) / 1000:g}: give that or more."
            raise RequestError(Fault("max_size", f"{size:g} cannot be met.", fix))
        sizes = {name: part.sizes for name, part in self.parts.items()}
        return spread(self.parts, within_costs(self.parts, self.losses, sizes, budget))

    def _within_drop(self, start: Bits, max_drop: float) -> tuple[Bits, dict[str, Any]]:
        """Return the fewest bytes that keep the metric: bits are given back step by step, the most useful first.

        Where the bits follow from another aim they only have to keep the metric.
        """
        steps = [] if start else upgrades(self.parts, self.losses)
        first = start or spread(self.parts, {name: cheapest(part) for name, part in self.parts.items()})
        names = {f"{name}: {bits}": (name, bits) for name, bits in steps}

        def at(taken: Collection[str]) -> Bits:
            bits = dict(first)
            for name, more in (names[one] for one in taken):
                bits |= dict.fromkeys(self.parts[name].nodes, max(more, bits[name]))
            return bits

        def quality(rows: Any, taken: Collection[str]) -> float:
            return self.careful.quality(self._trial(at(taken)), rows)

        one, other = self.careful.halves()
        exact = self.variant.files[0]
        floats = self.careful.quality(exact, one), self.careful.quality(exact, other)
        self.say("looking for the fewest bits that keep the quality")
        try:
            found = fewest_float_nodes(
                lambda: list(names), partial(quality, one), partial(quality, other), floats, max_drop,
                "steps to more bits",
            )  # fmt: skip
        finally:
            self._clear()
        said = found.to_dict()
        del said["kept_float"]
        return at(found.kept_float), said

    def _within_time(self, ratio: float) -> tuple[Bits, float]:
        """Return the bits that lose the least within a part of the float file's time, and the part that they take.

        A product's time in some bits is its share of all products of the time of the file with all of them in these;
        the clock then decides, and where it says more the budget is tightened.

        Raises:
            ExportError: The time is not reached.
        """
        self.say("timing the graph in 32, 8 and 4 bits")
        times = {bits: self._time(self._all(bits)) for bits in (FLOAT, INT8, INT4)}
        whole = sum(part.products for part in self.parts.values())
        costs = {
            name: {bits: times[bits] * part.products / whole for bits in self.losses[name]}
            for name, part in self.parts.items()
        }
        least = sum(min(cost.values()) for cost in costs.values())
        budget = ratio * times[FLOAT]
        measured = []
        for _ in range(_TIGHTENINGS):
            if budget < least:
                break
            bits = spread(self.parts, within_costs(self.parts, self.losses, costs, budget))
            measured.append(self._time(bits) / times[FLOAT])
            if measured[-1] <= ratio:
                return bits, measured[-1]
            budget *= ratio / measured[-1] * 0.99
        best = min([*measured, times[INT8] / times[FLOAT], times[INT4] / times[FLOAT]])
        raise ExportError(
            f"--target-latency {ratio:g} cannot be met: the fastest that was found takes {best:.2f} of the float "
            "file's time on this machine. Allow more time, or prune the model first."
        )

    def _all(self, bits: int) -> Bits:
        return spread(self.parts, {n: bits if bits in part.sizes else INT8 for n, part in self.parts.items()})

    def _time(self, bits: Bits) -> float:
        """Return the milliseconds of a call with some bits, put right by how the float file does beside it."""
        inputs = self.careful.task.example_inputs(self.config, 1, _LENGTH)
        float_file, trial = self.variant.files[0], self._trial(bits)
        try:
            models = [OnnxModel(file, self.config, threads=1) for file in (float_file, trial)]
        finally:
            self._clear()
        calls = {str(index): partial(model, **inputs) for index, model in enumerate(models)}
        exact, other = np.median(time_calls(calls, _EFFORT), axis=0)
        self.__dict__.setdefault("_float_ms", exact)
        return float(other / exact * self.__dict__["_float_ms"])

    def _trial(self, bits: Bits) -> Path:
        """Write files with some bits beside the float ones, and return the first."""
        for file in self.variant.files:
            convert_beside(file, _trial_name(file), mixed_writer(self.four[file.name], bits))
        return _trial_name(self.variant.files[0])

    def _clear(self) -> None:
        for file in self.variant.files:
            _trial_name(file).unlink(missing_ok=True)

    def _make(self, bits: Bits) -> Quantized:
        folder = self.careful.work / "mixed"
        shutil.rmtree(folder, ignore_errors=True)
        return self.maker.make(self.variant, folder, bits=bits)

    def _table(self, bits: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return each node's bits, the squared relative error that they cause alone, and the bytes of its weight."""
        return [
            {
                "node": node,
                "bits": bits[node],
                "loss": self.losses[name][bits[node]],
                "bytes": part.sizes[bits[node]],
            }
            for name, part in self.parts.items()
            for node in part.nodes
        ]


def _trial_name(file: Path) -> Path:
    return file.with_name(f"{file.stem}_trial.onnx")
