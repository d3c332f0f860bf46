"""What tasks on words share: one row of logits for each word to be said, and scores that are sums over words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfcompress.tasks.base import IGNORED, Task

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput

BLOCK = "row"
"""The column that names the row of the data from which a block of tokens comes."""

_BLOCK_LENGTH = 512
_CHUNK = 2**24


class LanguageModeling(Task):
    """A task whose answer is a word at each of many positions.

    What is kept of the answer to an example is three sums over its words: the negative log-likelihood, the words that
    were right, and the words. So scores never hold logits of more than one batch.
    """

    def targets(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the token that the model is to say at each position, `(batch, seq)`, -100 where none."""
        return batch["labels"]

    def rows(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return one row for each token to be said: logits `(rows, vocabulary)` and the token, `(rows,)`."""
        import torch

        wanted = self.targets(batch).flatten()
        chosen = wanted.ne(IGNORED).nonzero().squeeze(-1)
        return torch.index_select(outputs["logits"].flatten(0, 1), 0, chosen), wanted[chosen]

    def count_rows(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of tokens to be said."""
        return self.targets(batch).ne(IGNORED).sum()

    def count_labels(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the same: transformers' own loss is the mean over exactly these."""
        return self.count_rows(batch)

    def answers(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> np.ndarray:
        """Return the sums over each example's tokens, `(batch, 3)`: negative log-likelihood, right ones, all."""
        import torch
        from torch.nn.functional import cross_entropy

        logits, wanted = self.rows(outputs, batch)
        places = self.targets(batch).ne(IGNORED)
        examples = places.nonzero()[:, 0]
        sums = torch.zeros(len(places), 3, dtype=torch.float64, device=examples.device)
        for part in in_chunks(*logits.shape):
            values, labels = logits[part].float(), wanted[part]
            surprise = cross_entropy(values, labels, reduction="none").double()
            right = values.argmax(-1).eq(labels).double()
            sums.index_add_(0, examples[part], torch.stack([surprise, right, torch.ones_like(right)], dim=-1))
        return sums.cpu().numpy()

    def finish(self, answers: list[np.ndarray], encoded: Dataset, rows: Dataset, processor: Any) -> np.ndarray:
        """Add up the blocks of each row, `(rows, numbers)`; a row too short for a block counts nothing."""
        import numpy as np

        if BLOCK not in encoded.column_names:
            return np.stack(answers)
        sums = np.zeros((len(rows), len(answers[0])))
        np.add.at(sums, np.asarray(encoded[BLOCK]), np.stack(answers))
        return sums

    def references(self, rows: Dataset) -> np.ndarray:
        """Return nothing of use, one entry a row: the answers were scored while they were at hand."""
        import numpy as np

        return np.zeros(len(rows))

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score the sums `(rows, 3)` over all tokens: the share that is right, cross entropy in nats, perplexity."""
        surprise, right, tokens = (float(value) for value in answers[:, :3].sum(0))
        cross_entropy = surprise / max(1.0, tokens)
        return {
            "accuracy": right / max(1.0, tokens),
            "cross_entropy": cross_entropy,
            "perplexity": math.exp(min(cross_entropy, 700.0)),  # beyond that a float is too small
        }


def in_chunks(rows: int, vocabulary: int) -> list[slice]:
    """Return the parts in which rows of logits are computed: each of at most 2²⁴ numbers (64 MiB), or one row."""
    size = max(1, _CHUNK // max(1, vocabulary))
    return [slice(start, min(rows, start + size)) for start in range(0, rows, size)]


def block_length(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """Return how many tokens a block has at most: what is asked, or 512, and never more than the tokenizer's limit."""
    return int(min(max_length or _BLOCK_LENGTH, tokenizer.model_max_length))


class TokenCollator:
    """Pads all columns of tokens at the end, whatever the tokenizer's side.

    Padding at the end leaves the positions of the real tokens as they are; padding in front of them shifts them in
    models that count positions from the first column, as GPT-2 does where nobody gives it positions.

    Args:
        tokenizer: Its padding token fills `input_ids`; where it has none any token does, since the mask is 0 there.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.fillers = {"input_ids": padding or 0, "labels": IGNORED}

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return tensors `(batch, longest)`, one for each column of tokens."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        return {
            name: pad_sequence(
                [torch.tensor(row[name], dtype=torch.long) for row in rows],
                batch_first=True,
                padding_value=self.fillers.get(name, 0),
            )
            for name in rows[0]
            if name != BLOCK
        }
