"""The fewest nodes that stay in float so that int8 keeps the quality: chosen on some rows, confirmed on others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.data import TaskData
from hfcompress.errors import Fault, RequestError
from hfcompress.export.int8 import Int8, quantized
from hfcompress.export.variants import Variant
from hfcompress.measure.quality import predict
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.quantization.dynamic import quantizable
from hfcompress.quantization.sensitivity import Choice, fewest_float_nodes, rank_nodes
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset

_CALIBRATION = 128  # rows; ranking asks only how far outputs move


@dataclass
class Careful:
    """What the search for sensitive nodes needs.

    Args:
        work: The folder in which the graphs' folders lie, beside a config.json.
        embeddings: Whether embeddings are quantized too.
        task: Gives the metric.
        processor: The model's tokenizer or image processor.
        data: Training rows rank the nodes; of the validation rows one half chooses, the other confirms.
        seed: Decides which rows are in which half.
    """

    work: Path
    embeddings: bool
    task: Task
    processor: Any
    data: TaskData | None
    seed: int

    def choose(self, variant: Variant, max_drop: float, say: Callable[[str], None]) -> tuple[Int8, Choice]:
        """Return float graphs in int8 with the fewest nodes left in float, and how they were found.

        Args:
            variant: The float graphs.
            max_drop: What the main metric may lose.
            say: Told in one line what happens.

        Raises:
            RequestError: There are no data.
            ExportError: No choice keeps the quality; the nearest is named.
        """
        if self.data is None:
            raise RequestError(Fault("max_drop", "is measured on data, and there is none."))
        data, exact = self.data, variant.files[0]
        nodes = [name for file in variant.files for name in quantizable(file, self.embeddings)]
        one, other = self._halves(data.validation)
        rows = one if data.train is data.validation else data.train  # never the rows that confirm
        calibration = rows.select(range(min(_CALIBRATION, len(rows))))

        def make(keep_float: Collection[str]) -> Path:
            return self._quantized(variant, keep_float).variant.files[0]

        def ranked() -> list[str]:
            say(f"asking how much each of {len(nodes)} nodes suffers in 8 bits")
            return rank_nodes(
                {name: [name] for name in nodes},
                make,
                lambda file: [self._answers(file, calibration)],
                [self._answers(exact, calibration)],
            )

        say("looking for the fewest nodes that have to stay in float")
        found = fewest_float_nodes(
            ranked,
            lambda kept: self._quality(make(kept), one),
            lambda kept: self._quality(make(kept), other),
            (self._quality(exact, one), self._quality(exact, other)),
            max_drop,
        )
        return self._quantized(variant, found.kept_float), found

    def _halves(self, rows: Dataset) -> tuple[Dataset, Dataset]:
        """Split rows by the seed."""
        order = np.random.default_rng(self.seed).permutation(len(rows))
        middle = len(rows) // 2
        return rows.select(np.sort(order[:middle])), rows.select(np.sort(order[middle:]))

    def _quantized(self, variant: Variant, keep_float: Collection[str]) -> Int8:
        folder = self.work / "careful"
        shutil.rmtree(folder, ignore_errors=True)
        return quantized(variant, folder, self.embeddings, keep_float)

    def _answers(self, file: Path, rows: Dataset) -> np.ndarray:
        longest = self.data.max_length if self.data else None
        return predict(load_onnx(file), self.processor, rows, self.task, longest)

    def _quality(self, file: Path, rows: Dataset) -> float:
        answers = self._answers(file, rows)
        metrics = self.task.metrics(answers, self.task.references(rows))
        return float(metrics[self.task.main_of(metrics)])
