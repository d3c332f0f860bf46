"""A teacher's answers from disk in the teacher's place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hfcompress.errors import DataError, Fault, TeacherError
from hfcompress.tasks.question_answering import FAR_BELOW
from hfcompress.training import cache
from hfcompress.training.answers import Answer, LogitRows, Rows
from hfcompress.training.cache import CacheFolder, again, ranges
from hfcompress.training.cache_identity import example_digests
from hfcompress.training.cache_losses import loss_faults, need_faults
from hfcompress.training.signals import Needs, Signals
from hfcompress.training.teacher import CACHE_COLUMN, Teacher
from hfcompress.training.teacher_checks import label_order
from hfcompress.training.top_k import TopKRows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig

    from hfcompress.tasks import Task
    from hfcompress.training.objective import Objective


def is_cache(source: str | Path) -> bool:
    """Say whether a folder holds cached answers, finished or not."""
    return CacheFolder.exists(Path(source))


class NoRows:
    """Rows of a teacher whose logits no loss reads."""

    def beside(self, student: Signals, part: slice) -> tuple[Signals, Signals]:
        """Return the student's signals, and nothing beside."""
        return student, Signals()


class CachedTeacher(Teacher):
    """Answers from a folder of cached ones.

    Args:
        folder: The folder.
        student: The student's config: the answers are put into the order of its labels.
        train_dataset: The examples to train on: all that were cached or some, in any order. None checks
            nothing.

    Attributes:
        train_dataset: The same with the column `cache_row`, which says where the answer to an example stands.

    Raises:
        TeacherError: The cache is not finished or damaged, its labels are not the student's, or examples are not in it.
    """

    columns = frozenset({CACHE_COLUMN})
    shares_tokens = True

    def __init__(self, folder: Path, student: PretrainedConfig, train_dataset: Dataset | None = None) -> None:
        self.folder = CacheFolder(Path(folder))
        self.folder.require_complete()
        self.header, self.contents = self.folder.header, self.folder.header.contents
        self.arrays = self.folder.open()
        self.config = self.folder.config
        self.label_order = label_order(self.config, student) if self.header.names_labels else None
        self.device = torch.device("cpu")
        self.same_tokens = False
        self.train_dataset = None if train_dataset is None else self._locate(train_dataset)

    @property
    def top_k(self) -> int:
        """How many of the classes are kept, 0 where all are."""
        return self.contents.top_k

    def to(self, device: torch.device) -> None:
        """Give answers there."""
        self.device = device

    def prepare(self, needs: Needs, deferred: bool) -> None:
        """Make sure that what is asked was cached.

        Raises:
            TeacherError: It was not.
        """
        faults = need_faults(needs, self.contents)
        if faults:
            raise TeacherError(*faults)

    def check(self, objective: Objective, task: Task) -> None:
        """Make sure that the losses can do with what was cached.

        Raises:
            TeacherError: They cannot; all reasons.
        """
        faults = loss_faults(objective, self.contents, again(self.folder.path))
        compared = objective.token_losses or ([task.name] if task.name and not task.foreign_teachers else [])
        if compared and not self.same_tokens:
            problem = (
                f"the teacher read other tokens than the student, and {', '.join(compared)} compares token by token."
            )
            faults.append(
                Fault(str(self.folder.path), problem, "Build a cache on the student's own tokens, or leave it out.")
            )
        if faults:
            raise TeacherError(*faults)

    def ask(self, batch: Mapping[str, Any]) -> Answer:
        """Look a batch's answers up.

        Raises:
            DataError: The batch does not say which examples it holds.
        """
        if CACHE_COLUMN not in batch:
            fix = "Let the collator keep it, and set `remove_unused_columns` as the Trainer has it by default."
            raise DataError(Fault(CACHE_COLUMN, "is missing from the batch: it says where the answers stand.", fix))
        places = batch[CACHE_COLUMN].cpu().numpy()
        hidden: list[Tensor] = []
        if self.contents.layers:
            tokens = self._tokens(places)
            empty = torch.empty(0, self.contents.hidden_width, device=self.device)
            hidden = [
                self._read(cache.hidden_name(layer), tokens) if layer in self.contents.layers else empty
                for layer in range(max(self.contents.layers) + 1)
            ]
        embeddings = self._read(cache.EMBEDDINGS, places) if self.contents.embedding_width else None
        return Answer(Signals(hidden_states=tuple(hidden), embeddings=embeddings), self._rows(places, batch))

    def _read(self, name: str, places: np.ndarray) -> Tensor:
        """Return entries of an array of halves, in single precision."""
        return torch.from_numpy(self.arrays[name][places]).to(self.device).float()

    def _tokens(self, places: np.ndarray) -> np.ndarray:
        offsets = self.arrays[cache.TOKEN_OFFSETS]
        return ranges(offsets[places], offsets[places + 1] - offsets[places])

    def _rows(self, places: np.ndarray, batch: Mapping[str, Any]) -> Rows:
        """Return the logits of the examples at some places, one after the other."""
        if self.contents.logits == "none":
            return NoRows()
        if self.contents.logits == "positions":
            return LogitRows(self._position_logits(places, batch["attention_mask"].bool()))
        offsets = self.arrays[cache.ROW_OFFSETS]
        counts = offsets[places + 1] - offsets[places]
        rows = ranges(offsets[places], counts)
        if self.contents.top_k:
            indices = torch.from_numpy(self.arrays[cache.TOP_INDICES][rows].astype(np.int64)).to(self.device)
            values, rest = (self._read(name, rows) for name in (cache.TOP_VALUES, cache.TOP_REST))
            return TopKRows(values, indices, rest, self.contents.classes, self.contents.temperature)
        if self.label_order is None:
            return LogitRows(self._read(cache.LOGITS, rows))
        order = self.label_order
        if self.config.problem_type == "multi_label_classification" and (counts == len(order)).all():
            rows = rows.reshape(-1, len(order))[:, order.numpy()].ravel()  # a row a label, of two classes: no and yes
            return LogitRows(self._read(cache.LOGITS, rows))
        return LogitRows(self._read(cache.LOGITS, rows)[:, order.to(self.device)])

    def _position_logits(self, places: np.ndarray, mask: Tensor) -> Tensor:
        """Return logits of positions, all starts first, padded as the student's tokens are: `(2 · batch, seq)`."""
        values = self._read(cache.POSITION_LOGITS, self._tokens(places))
        padded = values.new_full((*mask.shape, values.shape[-1]), FAR_BELOW)
        padded[mask.to(self.device)] = values
        return padded.permute(2, 0, 1).flatten(0, 1)

    # Which example of the data is which of the cache.

    def _locate(self, rows: Dataset) -> Dataset:
        """Return the examples with the column that says where their answers stand, found by their contents."""
        names = getattr(rows, "column_names", None)
        if names is None or not hasattr(rows, "add_column") or not hasattr(rows, "__len__"):
            problem = f"cached answers need a datasets.Dataset, got a {type(rows).__name__}."
            raise TeacherError(Fault("train_dataset", problem, "Turn it into one, or train with the teacher itself."))
        known = set(self.header.columns) <= set(names)
        digests = example_digests(rows, self.header.columns, self.header.names_labels) if known else None
        if CACHE_COLUMN in names:
            places = np.asarray(rows.with_format(None)[CACHE_COLUMN], dtype=np.int64)
            self._check_places(places, digests)
        elif digests is None:
            missing = ", ".join(sorted(set(self.header.columns) - set(names)))
            problem = f"lacks {missing}, by which its examples are found in the cache."
            raise TeacherError(Fault("train_dataset", problem, f"Or give it the column {CACHE_COLUMN}."))
        else:
            places = self._places_of(digests)
            rows = rows.add_column(CACHE_COLUMN, places.tolist())
        self.same_tokens = digests is not None and not self.header.prefix
        return rows

    def _check_places(self, places: np.ndarray, digests: np.ndarray | None) -> None:
        known = self.arrays[cache.DIGESTS]
        if len(places) and not (0 <= places.min() and places.max() < len(known)):
            problem = f"names answers from {places.min()} to {places.max()}; there are {len(known)}, counted from 0."
            raise TeacherError(Fault(CACHE_COLUMN, problem, again(self.folder.path)))
        if digests is not None:
            self._refuse(int((known[places] != digests).sum()), len(places))

    def _places_of(self, digests: np.ndarray) -> np.ndarray:
        known = np.asarray(self.arrays[cache.DIGESTS])
        order = np.argsort(known, kind="stable")
        found = np.searchsorted(known, digests, sorter=order).clip(max=len(known) - 1)
        self._refuse(int((known[order[found]] != digests).sum()), len(digests))
        return order[found]

    def _refuse(self, missing: int, total: int) -> None:
        if missing:
            problem = f"{missing} of its {total} examples are not those that the teacher answered."
            fix = f"The data or its tokenization changed. {again(self.folder.path)}"
            raise TeacherError(Fault("train_dataset", problem, fix))
