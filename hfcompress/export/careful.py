"""The fewest nodes that stay in float so that a file keeps the quality: chosen on some rows, confirmed on others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.data import TaskData
from hfcompress.errors import Fault, RequestError
from hfcompress.export.config import ExportConfig
from hfcompress.export.feeds import calibration_feeds
from hfcompress.export.methods import Maker, Quantized
from hfcompress.export.variants import Variant
from hfcompress.measure.quality import predict
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.quantization.convert import Batches, quantizable
from hfcompress.quantization.sensitivity import Choice, fewest_float_nodes, rank_nodes
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class Careful:
    """What the search for sensitive nodes needs.

    Args:
        work: The folder in which the graphs' folders lie, beside a config.json.
        config: What is asked for.
        task: Gives the metric.
        processor: The model's tokenizer or image processor.
        data: Training rows rank the nodes; of the validation rows one half chooses, the other confirms.
        seed: Decides which rows are in which half.
    """

    work: Path
    config: ExportConfig
    task: Task
    processor: Any
    data: TaskData | None
    seed: int

    @property
    def embeddings(self) -> bool:
        """Whether embeddings are quantized too."""
        return not self.config.no_quantize_embeddings

    def choose(
        self, variant: Variant, maker: Maker, max_drop: float, say: Callable[[str], None]
    ) -> tuple[Quantized, Choice]:
        """Return float graphs in fewer bits with the fewest nodes left in float, and how they were found.

        Args:
            variant: The float graphs.
            maker: Writes them in fewer bits.
            max_drop: What the main metric may lose.
            say: Told in one line what happens.

        Raises:
            RequestError: There are no data.
            ExportError: No choice keeps the quality; the nearest is named.
        """
        exact = variant.files[0]
        one, other = self.halves()
        nodes = [name for file in variant.files for name in quantizable(file, self.embeddings)]
        calibration = self.calibration()

        def make(keep_float: Collection[str]) -> Path:
            return self._quantized(variant, maker, keep_float).variant.files[0]

        def ranked() -> list[str]:
            say(f"asking how much each of {len(nodes)} nodes suffers in fewer bits")
            return rank_nodes(
                {name: [name] for name in nodes},
                make,
                lambda file: [self.answers(file, calibration)],
                [self.answers(exact, calibration)],
            )

        say("looking for the fewest nodes that have to stay in float")
        found = fewest_float_nodes(
            ranked,
            lambda kept: self.quality(make(kept), one),
            lambda kept: self.quality(make(kept), other),
            (self.quality(exact, one), self.quality(exact, other)),
            max_drop,
        )
        return self._quantized(variant, maker, found.kept_float), found

    def halves(self) -> tuple[Dataset, Dataset]:
        """Split the validation rows by the seed: one half chooses, the other confirms.

        Raises:
            RequestError: There are no data.
        """
        rows = self._data("max_drop").validation
        order = np.random.default_rng(self.seed).permutation(len(rows))
        middle = len(rows) // 2
        return rows.select(np.sort(order[:middle])), rows.select(np.sort(order[middle:]))

    def calibration(self) -> Dataset:
        """Return the rows that are looked at, never those that confirm.

        Raises:
            RequestError: There are no data.
        """
        data = self._data("quantize")
        rows = self.halves()[0] if data.train is data.validation else data.train
        return rows.select(range(min(self.config.calibration_rows, len(rows))))

    def feeds(self, files: Sequence[Path]) -> dict[str, Batches]:
        """Return what each graph takes on the calibration rows, by the file's name.

        Raises:
            RequestError: There are no data.
            DataError: There are no rows.
        """
        longest = self._data("quantize").max_length
        return calibration_feeds(files, self.task, self.processor, self.calibration(), longest)

    def _data(self, what: str) -> TaskData:
        if self.data is None:
            raise RequestError(Fault(what, "is measured on data, and there is none."))
        return self.data

    def _quantized(self, variant: Variant, maker: Maker, keep_float: Collection[str]) -> Quantized:
        folder = self.work / "careful"
        shutil.rmtree(folder, ignore_errors=True)
        return maker.make(variant, folder, keep_float)

    def answers(self, file: Path, rows: Dataset) -> np.ndarray:
        """Return what a file, or the pair that it belongs to, answers."""
        longest = self.data.max_length if self.data else None
        return predict(load_onnx(file), self.processor, rows, self.task, longest)

    def quality(self, file: Path, rows: Dataset) -> float:
        """Return a file's main metric."""
        answers = self.answers(file, rows)
        metrics = self.task.metrics(answers, self.task.references(rows))
        return float(metrics[self.task.main_of(metrics)])
