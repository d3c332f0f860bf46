"""Text generation: each token is predicted from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault
from hfcompress.tasks.base import IGNORED, Column
from hfcompress.tasks.language_modeling import BLOCK, LanguageModeling, TokenCollator, block_length

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from hfcompress.tasks.base import Collator


class TextGeneration(LanguageModeling):
    """Next-token prediction: a text is its own label.

    A text begins and ends as its tokenizer does it, and ends with the end-of-sequence token where the tokenizer has one
    and leaves it out, so that the model learns to stop. Texts are never joined; a long one is cut into blocks, of which
    only the first has the beginning and only the last the end. A block starts with the token on which the one before
    ends, so that every token but a text's first is predicted exactly once.
    """

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Tokenize texts into blocks of at most `max_length` tokens (512 unless said, or the tokenizer's limit).

        Raises:
            DataError: No text has two tokens, so that there is nothing to predict.
        """
        length = block_length(processor, max_length)

        def blocks(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
            parts = [
                (row, tokens[start : start + length])
                for row, tokens in zip(indices, _whole_texts(processor, batch["text"]), strict=True)
                for start in range(0, len(tokens) - 1, length - 1)
            ]
            ids = [part for _, part in parts]
            mask = [[1] * len(part) for part in ids]
            return {"input_ids": ids, "attention_mask": mask, "labels": ids, BLOCK: [row for row, _ in parts]}

        encoded = rows.map(blocks, batched=True, with_indices=True, remove_columns=rows.column_names, desc="tokenizing")
        if len(encoded) == 0:
            raise DataError(Fault("text", "no text has two tokens: there is no next token to predict."))
        return encoded

    def collator(self, processor: Any) -> Collator:
        """Pad at the end; what is padding is known by its place, since its token may be the end-of-sequence one."""
        return TokenCollator(processor)

    def targets(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the next token at each position, `(batch, seq)`, -100 where it is none to be learned."""
        from torch.nn.functional import pad

        return pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)


def _whole_texts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Return the tokens of each text, uncut, with the end-of-sequence token behind them where there is one."""
    # Not verbose: that a text is longer than the model takes is no reason to warn here.
    found = tokenizer(texts, truncation=False, return_token_type_ids=False, verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [tokens if end is None or tokens[-1:] == [end] else [*tokens, end] for tokens in found]


TASK = TextGeneration(
    name="text-generation",
    sample='"Once upon a time"',
    auto_model="AutoModelForCausalLM",
    ort_model="ORTModelForCausalLM",
    heads=("ForCausalLM", "LMHeadModel"),
    columns=(Column("text", ("text", "content", "sentence", "document", "article", "review")),),
    main_metric="accuracy",
)
