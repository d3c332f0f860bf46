"""Fill-mask: tokens that were hidden are found again, as encoders are pretrained."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault, ModelError
from hfcompress.tasks.base import IGNORED, Column
from hfcompress.tasks.language_modeling import BLOCK, LanguageModeling, TokenCollator, block_length

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hfcompress.tasks.base import Collator

_SHARE = 0.15
_HIDDEN, _REPLACED = 0.8, 0.1


class FillMask(LanguageModeling):
    """Masked language modeling with the masks of BERT, drawn once for each text.

    Of each text (or block of a long one) 15 % of the tokens are to be found again, at least one, special tokens never;
    80 % of these become the mask token, 10 % another token, 10 % stay. What is drawn depends on the tokens alone: the
    same text has the same masks in every epoch and every run, as in BERT's original code (static masking). So a
    teacher's answers can be cached, and a resumed run goes on exactly.

    Source: Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers*, 2019, section 3.1,
    https://arxiv.org/abs/1810.04805.
    """

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Tokenize and mask texts, in blocks of at most `max_length` tokens (512 unless said, or the tokenizer's own).

        Raises:
            ModelError: The tokenizer has no mask token.
            DataError: No text has a token that could be masked.
        """
        if processor.mask_token_id is None:
            raise ModelError(Fault("tokenizer", "has no mask token, which fill-mask needs.", "Choose a masked model."))
        special = set(processor.all_special_ids)
        # Not `range(vocab_size)`: it lacks what was added, and may hold special tokens.
        ordinary = sorted(set(processor.get_vocab().values()) - special)
        length = block_length(processor, max_length)

        def blocks(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
            encoded: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": [], BLOCK: []}
            for text, tokens in _blocks(processor, batch["text"], length):
                found = mask_tokens(tokens, special, ordinary, processor.mask_token_id)
                if found is not None:
                    values = (found[0], [1] * len(tokens), found[1], indices[text])
                    for column, value in zip(encoded.values(), values, strict=True):
                        column.append(value)
            return encoded

        encoded = rows.map(blocks, batched=True, with_indices=True, remove_columns=rows.column_names, desc="tokenizing")
        if len(encoded) == 0:
            raise DataError(Fault("text", "no text has a token that could be masked."))
        return encoded

    def collator(self, processor: Any) -> Collator:
        """Pad at the end."""
        return TokenCollator(processor)


def mask_tokens(
    tokens: list[int], special: set[int], ordinary: list[int], mask_token: int
) -> tuple[list[int], list[int]] | None:
    """Mask tokens; the same tokens always in the same way.

    Args:
        tokens: A text's tokens.
        special: Tokens that are never masked.
        ordinary: Tokens that may stand in another's place.
        mask_token: The token that hides another.

    Returns:
        The tokens after masking, and the labels: the token that stood there, -100 where nothing was drawn. None when
        there is nothing to mask.
    """
    places = [place for place, token in enumerate(tokens) if token not in special]
    if not places:
        return None
    # Only `random()` is used: Python promises the same numbers for a seed in every version for it alone.
    draw = random.Random(_seed(tokens)).random  # noqa: S311
    order = sorted((draw(), place) for place in places)
    masked, labels = list(tokens), [IGNORED] * len(tokens)
    for _, place in order[: max(1, round(_SHARE * len(places)))]:
        labels[place] = tokens[place]
        fate, other = draw(), ordinary[int(draw() * len(ordinary))]
        if fate < _HIDDEN:
            masked[place] = mask_token
        elif fate < _HIDDEN + _REPLACED:
            masked[place] = other
    return masked, labels


def _seed(tokens: list[int]) -> int:
    return int.from_bytes(hashlib.sha256(repr(tokens).encode()).digest()[:8], "big")


def _blocks(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> Iterable[tuple[int, list[int]]]:
    """Cut texts into blocks, each with the special tokens of a text; return which text each is of, and its tokens."""
    if tokenizer.is_fast:
        found = tokenizer(
            texts, truncation=True, max_length=length, return_overflowing_tokens=True, return_token_type_ids=False
        )
        return zip(found["overflow_to_sample_mapping"], found["input_ids"], strict=True)
    room = length - tokenizer.num_special_tokens_to_add()
    plain = tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    return [
        (text, tokenizer.build_inputs_with_special_tokens(tokens[start : start + room]))
        for text, tokens in enumerate(plain)
        for start in range(0, len(tokens), room)
    ]


TASK = FillMask(
    name="fill-mask",
    sample='"Warsaw is the [MASK] of Poland."',
    auto_model="AutoModelForMaskedLM",
    ort_model="ORTModelForMaskedLM",
    heads=("ForMaskedLM",),
    columns=(Column("text", ("text", "content", "sentence", "document", "article", "review")),),
    main_metric="accuracy",
)
