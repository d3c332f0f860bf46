"""What tasks on texts share: tokenization and padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import BatchEncoding, PreTrainedTokenizerBase

from hfcompress.errors import Fault, ModelError
from hfcompress.tasks.base import IGNORED


def truncation(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> dict[str, Any]:
    """Return the tokenizer's options that cut texts to so many tokens, or to its own limit."""
    limit = min(max_length or tokenizer.model_max_length, tokenizer.model_max_length)
    # Tokenizers without a limit of their own say a huge number, which the fast ones cannot take.
    return {"truncation": True, "max_length": limit} if limit < 1_000_000 else {}


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, batch: dict[str, list[Any]], max_length: int | None
) -> BatchEncoding:
    """Tokenize columns `text` and perhaps `text_pair`, unpadded."""
    # The segment ids are asked for by name: DistilBERT's tokenizer leaves them out, its BERT teacher wants them.
    limit = truncation(tokenizer, max_length)
    return tokenizer(batch["text"], batch.get("text_pair"), return_token_type_ids=True, **limit)


class TextCollator:
    """Pads a batch with a tokenizer; labels that are one a token are padded with what is ignored.

    Args:
        tokenizer: Pads its own columns.

    Raises:
        ModelError: It has no padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.pad_token is None:
            fix = (
                "Set one and save both again: `tokenizer.pad_token = tokenizer.eos_token`, "
                "`model.config.pad_token_id = tokenizer.pad_token_id`."
            )
            raise ModelError(Fault("tokenizer", "has no padding token, so texts cannot stand in one batch.", fix))
        self.tokenizer = tokenizer

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors: token columns `(batch, longest)`, labels `(batch,)` or `(batch, longest)`."""
        import torch
        from transformers.data.data_collator import pad_without_fast_tokenizer_warning as pad

        texts = [name for name in rows[0] if name != "labels"]
        batch = dict(pad(self.tokenizer, [{name: row[name] for name in texts} for row in rows], return_tensors="pt"))
        if "labels" in rows[0]:
            labels = [row["labels"] for row in rows]
            if isinstance(labels[0], list) and not (labels[0] and isinstance(labels[0][0], float)):
                labels = pad_labels(labels, batch["input_ids"].shape[1], self.tokenizer.padding_side)
            batch["labels"] = torch.tensor(labels)
        return batch


def pad_labels(labels: list[list[int]], length: int, side: str, padding: int = IGNORED) -> list[list[int]]:
    """Pad lists of labels to a length, on the side on which the tokens are padded, with what is ignored."""
    missing = [[padding] * (length - len(row)) for row in labels]
    return [pad + row if side == "left" else row + pad for row, pad in zip(labels, missing, strict=True)]


def require_fast(tokenizer: PreTrainedTokenizerBase, reason: str) -> None:
    """Refuse a tokenizer that cannot say where its tokens come from.

    Args:
        tokenizer: A model's tokenizer.
        reason: What it is needed for.

    Raises:
        ModelError: It is one of the slow ones.
    """
    if not tokenizer.is_fast:
        problem = f"{type(tokenizer).__name__} cannot say where in the text its tokens stand, which {reason} needs."
        raise ModelError(Fault("tokenizer", problem, "Load it with use_fast=True, or choose another model."))
