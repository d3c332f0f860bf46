"""Token classification: a tag for each word."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault
from hfcompress.label_kinds import LabelPlaces
from hfcompress.labels import with_labels
from hfcompress.tasks.base import IGNORED, Column, Labelled, LabelOptions, Task
from hfcompress.tasks.entities import OUTSIDE, score_tags
from hfcompress.tasks.text import TextCollator, pad_labels, require_fast, truncation

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput

    from hfcompress.tasks.base import Collator


class TokenClassification(Task):
    """A tag for each word; the logits of a word are those of its first piece.

    An answer and a reference is a text: a row's tags, separated by spaces.
    """

    def encode_labels(self, parts: dict[str, Dataset], options: LabelOptions) -> Labelled:
        """Turn lists of tags, one a word, into lists of numbers in the model's order."""
        from datasets import ClassLabel, List

        faults = [fault for part, rows in parts.items() for fault in _not_one_a_word(rows, part)]
        if faults:
            raise DataError(*faults)
        places = LabelPlaces(next(iter(parts.values())), options.names, options.model_names)
        found = places.in_parts(parts)
        used = {place for row in found.get("training", []) for place in row}
        if len(used) == 1:
            only = places.names[used.pop()]
            raise DataError(Fault("labels", f"all words of the training rows have the tag '{only}': nothing to learn."))
        # The names stay with the rows: what is scored are tags, not their numbers.
        feature = List(ClassLabel(names=list(places.names)))
        encoded = {part: with_labels(rows, found[part]).cast_column("labels", feature) for part, rows in parts.items()}
        return Labelled(encoded, places.names)

    def unknown_labels(self, rows: Dataset, known: Any) -> list[Any]:
        """Return -100 for each word."""
        return [[IGNORED] * len(words) for words in rows["text"]]

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Tokenize words; the first piece of each has its label and a 1 in `row_mask`.

        The column `words` says which words these are: a word that is cut, or that the tokenizer drops, has no piece.
        """
        require_fast(processor, "token classification")
        tokenizer = _for_words(processor)
        limit = truncation(tokenizer, max_length)

        def encode_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            tokens = tokenizer(batch["text"], is_split_into_words=True, return_token_type_ids=True, **limit)
            firsts = [_first_pieces(tokens.word_ids(index)) for index in range(len(batch["text"]))]
            columns = dict(tokens)
            columns["row_mask"] = [[int(word is not None) for word in row] for row in firsts]
            columns["words"] = [[word for word in row if word is not None] for row in firsts]
            if "labels" in batch:
                pairs = zip(firsts, batch["labels"], strict=True)
                columns["labels"] = [[IGNORED if word is None else tags[word] for word in row] for row, tags in pairs]
            return columns

        # Without their names: -100 is none of them.
        plain = rows.cast_column("labels", _list_of_numbers()) if "labels" in rows.column_names else rows
        return plain.map(encode_batch, batched=True, remove_columns=rows.column_names, desc="tokenizing")

    def collator(self, processor: Any) -> Collator:
        """Pad tokens, labels and `row_mask`."""
        return WordCollator(processor)

    def rows(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Return one row a word: what stands at its first piece, and its label."""
        kept, labels = _words_of(batch), batch.get("labels")
        return outputs["logits"][kept], None if labels is None else labels[kept]

    def count_rows(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of words."""
        return _words_of(batch).sum()

    def answers(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> np.ndarray:
        """Return the number of each word's tag, one array a text."""
        import numpy as np

        best = outputs["logits"].argmax(-1)
        found = np.empty(len(best), dtype=object)
        for index, (places, kept) in enumerate(zip(best, _words_of(batch), strict=True)):
            found[index] = places[kept].cpu().numpy()
        return found

    def finish(self, answers: list[np.ndarray], encoded: Dataset, rows: Dataset, processor: Any) -> np.ndarray:
        """Return each row's tags as a text; words without a piece get `O`, or the first tag where there is no `O`."""
        import numpy as np

        names = _names(rows)
        missing = OUTSIDE if OUTSIDE in names else names[0]
        found = []
        for answer, words, text in zip(answers, encoded["words"], rows["text"], strict=True):
            tags = [missing] * len(text)
            for word, place in zip(words, answer, strict=True):
                tags[word] = names[place]
            found.append(" ".join(tags))
        return np.array(found)

    def references(self, rows: Dataset) -> np.ndarray:
        """Return each row's right tags as a text."""
        import numpy as np

        names = _names(rows)
        return np.array([" ".join(names[place] for place in row) for row in rows["labels"]])

    def for_metric(self, answers: np.ndarray, references: np.ndarray) -> tuple[list[Any], list[Any]]:
        """Return lists of tags, as seqeval takes them."""
        predicted, wanted = ([str(tags).split() for tags in np_rows.ravel()] for np_rows in (answers, references))
        return predicted, wanted

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score tags: entities where they mark such, and words."""
        return score_tags(answers, references)

    def main_of(self, metrics: Mapping[str, float]) -> str:
        """Return the metric that tables show: F1 of entities, or the accuracy of plain tags."""
        return "f1" if "f1" in metrics else "accuracy"


class WordCollator(TextCollator):
    """Pads a batch, with 0 where `row_mask` ends."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors, all `(batch, longest)`."""
        import torch

        ours = ("row_mask", "words")
        batch = super().__call__([{name: value for name, value in row.items() if name not in ours} for row in rows])
        if "row_mask" in rows[0]:
            masks = [row["row_mask"] for row in rows]
            length = batch["input_ids"].shape[1]
            batch["row_mask"] = torch.tensor(pad_labels(masks, length, self.tokenizer.padding_side, padding=0))
        return batch


def _words_of(batch: Mapping[str, Any]) -> Tensor:
    """Return where words are decided on, `(batch, seq)`; in a batch of a user's own, where labels are."""
    return batch["row_mask"].bool() if "row_mask" in batch else batch["labels"].ne(IGNORED)


def _for_words(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a tokenizer that reads words as if a space stood before each, as there does inside a text."""
    from tokenizers.pre_tokenizers import ByteLevel

    split = tokenizer.backend_tokenizer.pre_tokenizer
    if not isinstance(split, ByteLevel) or split.add_prefix_space:
        return tokenizer
    tokenizer = deepcopy(tokenizer)
    tokenizer.add_prefix_space = True
    tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    return tokenizer


def _first_pieces(words: list[int | None]) -> list[int | None]:
    """Keep the number of each word at its first piece alone."""
    return [word if word != before else None for before, word in zip([None, *words], words, strict=False)]


def _names(rows: Dataset) -> list[str]:
    # A space in a name would make two tags of it.
    return ["_".join(name.split()) for name in rows.features["labels"].feature.names]


def _list_of_numbers() -> Any:
    from datasets import List, Value

    return List(Value("int64"))


def _not_one_a_word(rows: Dataset, part: str) -> list[Fault]:
    """Return the faults of tags that are no lists, or not one a word."""
    labels = rows["labels"]
    strange = [index for index, tags in enumerate(labels) if not isinstance(tags, list)]
    if strange:
        first = f"the first is row {strange[0]}, from 0: {labels[strange[0]]!r}"
        fix = "Write a list of tags a row, one a word; a csv cannot hold lists, jsonl can."
        return [Fault("labels", f"{len(strange)} {part} rows have tags that are not lists ({first}).", fix)]
    pairs = [(len(tags), len(words)) for tags, words in zip(labels, rows["text"], strict=True)]
    bad = [index for index, (tags, words) in enumerate(pairs) if tags != words]
    if not bad:
        return []
    tags, words = pairs[bad[0]]
    first = f"the first is row {bad[0]}, from 0: {tags} tags, {words} words"
    return [Fault("labels", f"{len(bad)} {part} rows do not have one tag a word ({first}).")]


def _are_no_words(value: object) -> bool:
    return not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value)


TASK = TokenClassification(
    name="token-classification",
    sample='"Marie Curie was born in Warsaw."',
    auto_model="AutoModelForTokenClassification",
    ort_model="ORTModelForTokenClassification",
    heads=("ForTokenClassification",),
    columns=(
        Column("text", ("tokens", "words"), is_missing=_are_no_words, what="list of words"),
        Column("labels", ("ner_tags", "pos_tags", "tags", "labels")),
    ),
    main_metric="f1",
    names_labels=True,
)
