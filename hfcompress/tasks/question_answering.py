"""Extractive question answering: the part of a context that answers a question, or none of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault
from hfcompress.labels import with_labels
from hfcompress.tasks.base import IGNORED, Column, Labelled, LabelOptions, Task
from hfcompress.tasks.spans import OUTSIDE, Offset, answer_faults, best_span, score_answer, token_span
from hfcompress.tasks.text import TextCollator, require_fast, truncation

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from torch import Tensor
    from transformers import BatchEncoding, PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput

    from hfcompress.tasks.base import Collator

logger = logging.getLogger(__name__)

UNKNOWN = 1_000_000
"""The position of an answer that nobody gave: behind every sequence, where transformers' loss ignores it."""

POSITIONS = ("start_positions", "end_positions")
FAR_BELOW = -1e4
_LONGEST_QUESTION = 64
_STRIDE = 128


class QuestionAnswering(Task):
    """The first and the last token of an answer; both at the first special token where there is none.

    A context too long for the model is read in windows that overlap; each is an example of its own.
    """

    def encode_labels(self, parts: dict[str, Dataset], options: LabelOptions) -> Labelled:
        """Check answers, `{"text": [...], "answer_start": [...]}` as in SQuAD, empty where there is none."""
        faults = [fault for part, rows in parts.items() for fault in answer_faults(rows, part)]
        if faults:
            raise DataError(*faults)
        if "training" in parts and not any(row["text"] for row in parts["training"]["labels"]):
            raise DataError(Fault("labels", "no training row has an answer: there is nothing to learn."))
        encoded = {}
        for part, rows in parts.items():
            plain = [{name: list(row[name]) for name in ("text", "answer_start")} for row in rows["labels"]]
            encoded[part] = with_labels(rows, plain).cast_column("labels", _answers_feature())
        return Labelled(encoded)

    def unknown_labels(self, rows: Dataset, known: Any) -> list[Any]:
        """Return an answer without a text whose start is -100."""
        return [{"text": [], "answer_start": [IGNORED]}] * len(rows)

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Tokenize questions with windows of their contexts, and find the first right answer in each window.

        A window without the answer has both positions at the first special token, as where there is no answer.
        """
        require_fast(processor, "question answering")
        limits = _limits(processor, max_length)

        def encode_batch(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
            questions = [_cut(processor, question, limits["question"]) for question in batch["text"]]
            tokens = processor(
                questions,
                batch["text_pair"],
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_token_type_ids=True,
                **limits["options"],
            )
            places = tokens.pop("overflow_to_sample_mapping")
            columns = {**tokens, "row": [indices[place] for place in places]}
            columns["offset_mapping"] = [_context_offsets(tokens, index) for index in range(len(places))]
            if "labels" in batch:
                first = [_first_special(processor, ids) for ids in columns["input_ids"]]
                answers = [batch["labels"][place] for place in places]
                spans = list(map(_positions, answers, columns["offset_mapping"], first))
                columns |= dict(zip(POSITIONS, map(list, zip(*spans, strict=True)), strict=True))
            return columns

        encoded = rows.map(
            encode_batch, batched=True, with_indices=True, remove_columns=rows.column_names, desc="tokenizing"
        )
        if "labels" in rows.column_names:
            _warn_of_lost_answers(rows, encoded)
        return encoded

    def collator(self, processor: Any) -> Collator:
        """Pad tokens; the positions move along."""
        return SpanCollator(processor)

    def rows(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Return one row for each start and then for each end: logits over the tokens, and the right one.

        Padding has the same, very low logits in every model, so that it adds nothing to a divergence.
        """
        import torch

        logits = torch.cat([outputs["start_logits"], outputs["end_logits"]])
        if "attention_mask" in batch:
            logits = logits.masked_fill(batch["attention_mask"].repeat(2, 1) == 0, FAR_BELOW)
        if POSITIONS[0] not in batch:
            return logits, None
        labels = torch.cat([batch[name] for name in POSITIONS])
        return logits, labels.masked_fill(labels >= logits.shape[1], IGNORED)

    def count_rows(self, batch: Mapping[str, Any]) -> Tensor:
        """Return twice the number of examples."""
        return super().count_rows(batch) * 2

    def count_labels(self, batch: Mapping[str, Any]) -> Tensor:
        """Return how many examples have a known answer: transformers' loss is the mean over starts and over ends."""
        starts = batch.get(POSITIONS[0])
        if starts is None:
            return self.count_rows(batch) * 0
        return starts.lt(batch["input_ids"].shape[1]).sum()

    def answers(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> np.ndarray:
        """Return logits of start and end, `(2, tokens)` without the padding, one array each."""
        import numpy as np
        import torch

        both = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=1).float()
        found = np.empty(len(both), dtype=object)
        for index, (logits, mask) in enumerate(zip(both, batch["attention_mask"].bool(), strict=True)):
            found[index] = logits[:, mask].cpu().numpy()
        return found

    def finish(self, answers: list[np.ndarray], encoded: Dataset, rows: Dataset, processor: Any) -> np.ndarray:
        """Return each row's answer as a text: the best span of all its windows.

        Where the rows have unanswerable questions among them, it is empty when "no answer" scores higher in every
        window: SQuAD 2's threshold of 0.
        """
        import numpy as np

        best: dict[int, tuple[float, int, int]] = {}
        nothing = np.full(len(rows), np.inf)
        columns = encoded.select_columns(["row", "input_ids", "offset_mapping"])
        for (start, end), feature in zip(answers, columns, strict=True):
            row, first = feature["row"], _first_special(processor, feature["input_ids"])
            nothing[row] = min(nothing[row], float(start[first] + end[first]))
            span = best_span(start, end, np.asarray(feature["offset_mapping"]))
            if span is not None and (row not in best or span[0] > best[row][0]):
                best[row] = span
        may_be_empty = any(not row["text"] for row in rows["labels"]) if "labels" in rows.column_names else True
        found = []
        for row, context in enumerate(rows["text_pair"]):
            score, begin, end = best.get(row, (-np.inf, 0, 0))
            found.append("" if may_be_empty and nothing[row] > score else context[begin:end])
        return np.array(found)

    def references(self, rows: Dataset) -> np.ndarray:
        """Return each row's right answers, a tuple of texts."""
        import numpy as np

        found = np.empty(len(rows), dtype=object)
        for index, row in enumerate(rows["labels"]):
            found[index] = tuple(row["text"])
        return found

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score answers as SQuAD does: exact match and F1 of the words, from 0 to 1."""
        exact, f1 = zip(*map(score_answer, answers, references), strict=True)
        return {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}

    def row_scores(self, answers: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Return each row's F1."""
        import numpy as np

        return np.array([f1 for _, f1 in map(score_answer, answers, references)])


class SpanCollator(TextCollator):
    """Pads a batch of windows, and moves positions where padding comes before the tokens."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors: token columns `(batch, longest)`, positions `(batch,)`."""
        import torch

        other = ("row", "offset_mapping", *POSITIONS)
        batch = super().__call__([{name: value for name, value in row.items() if name not in other} for row in rows])
        longest = batch["input_ids"].shape[1]
        left = self.tokenizer.padding_side == "left"
        before = [longest - len(row["input_ids"]) if left else 0 for row in rows]
        for name in POSITIONS:
            if name in rows[0]:
                moved = [row[name] + shift for row, shift in zip(rows, before, strict=True)]
                batch[name] = torch.tensor(moved)
        return batch


def _limits(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> dict[str, Any]:
    """Return how many tokens a question may have, and the tokenizer's options that cut contexts into windows.

    Raises:
        DataError: No window has room for a context.
    """
    cut = truncation(tokenizer, max_length)
    if not cut:
        return {"question": None, "options": {}}
    room = cut["max_length"] - tokenizer.num_special_tokens_to_add(pair=True)
    question = min(_LONGEST_QUESTION, room // 2)
    if question < 1:
        problem = f"{cut['max_length']} tokens leave no room for a question and a context."
        raise DataError(Fault("max_length", problem, "Give more; 384 is usual."))
    stride = min(_STRIDE, (room - question) // 2)
    options = {"truncation": "only_second", "max_length": cut["max_length"], "stride": stride, "padding": False}
    return {"question": question, "options": options}


def _cut(tokenizer: PreTrainedTokenizerBase, question: str, most: int | None) -> str:
    """Cut a question to so many tokens."""
    if most is None or len(question.encode()) < most:  # a token has one byte at least
        return question
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return question if len(offsets) <= most else question[: offsets[most - 1][1]]


def _context_offsets(tokens: BatchEncoding, index: int) -> list[Offset]:
    """Return the offsets of a feature's tokens, (-1, -1) for those that are not of the context."""
    pairs = zip(tokens.sequence_ids(index), tokens["offset_mapping"][index], strict=True)
    return [tuple(offset) if part == 1 else OUTSIDE for part, offset in pairs]


def _first_special(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> int:
    """Return where "no answer" stands: at the tokenizer's `cls` token, or at the first one."""
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def _positions(answer: Mapping[str, Any], offsets: Sequence[Offset], nowhere: int) -> tuple[int, int]:
    """Return the first and last token of the first right answer in one window."""
    if not answer["text"]:
        return (UNKNOWN, UNKNOWN) if answer["answer_start"] else (nowhere, nowhere)
    begin = answer["answer_start"][0]
    return token_span(offsets, begin, begin + len(answer["text"][0])) or (nowhere, nowhere)


def _warn_of_lost_answers(rows: Dataset, encoded: Dataset) -> None:
    """Say how many answers no window holds whole.

    Raises:
        DataError: That is so of all of them.
    """
    wanted = {index for index, answer in enumerate(rows["labels"]) if answer["text"]}
    starts = zip(encoded["row"], encoded[POSITIONS[0]], encoded[POSITIONS[1]], strict=True)
    lost = sorted(wanted - {row for row, start, end in starts if 0 < start <= end < UNKNOWN})
    if not lost:
        return
    if len(lost) == len(wanted):
        problem = f"no window holds any of the {len(wanted)} answers whole."
        raise DataError(Fault("max_length", problem, "Give more; 384 is usual."))
    logger.warning(
        "%d of %d answers are cut in every window of their context (the first is row %d, from 0); they are learned as "
        "'no answer'. A higher max_length helps.", len(lost), len(wanted), lost[0]
    )  # fmt: skip


def _answers_feature() -> Any:
    from datasets import List, Value

    return {"text": List(Value("string")), "answer_start": List(Value("int64"))}


TASK = QuestionAnswering(
    name="question-answering",
    sample='question="Where was she born?", context="Marie Curie was born in Warsaw."',
    auto_model="AutoModelForQuestionAnswering",
    ort_model="ORTModelForQuestionAnswering",
    heads=("ForQuestionAnswering",),
    columns=(
        Column("text", ("question",), what="question"),
        Column("text_pair", ("context",), what="context"),
        Column("labels", ("answers",)),
    ),
    main_metric="f1",
    label_columns=POSITIONS,
)
