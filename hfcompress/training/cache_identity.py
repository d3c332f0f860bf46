"""What a cache of answers was computed from: hashes of the model, of the data and of how it was tokenized."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.tasks.base import IGNORED, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation")
"""What of a config says where a model came from, or how it is run, and not what it is."""


@dataclass(frozen=True)
class CacheIdentity:
    """Hashes of what a teacher's answers depend on.

    Args:
        model: Of the teacher's config and weights.
        data: Of the rows; None leaves it to the encoded examples, which are compared in any case.
        tokenization: Of the tokenizer or image processor and the length limit; None when unknown.
    """

    model: str
    data: str | None = None
    tokenization: str | None = None


def model_sha256(model: PreTrainedModel) -> str:
    """Return the SHA-256 of a model's config and of all weights, one after the other."""
    import torch

    config = {name: value for name, value in model.config.to_diff_dict().items() if name not in _VOLATILE}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenization_sha256(processor: Any, max_length: int | None = None) -> str | None:
    """Return the SHA-256 of a tokenizer or image processor as it is saved, and the length limit; None without one."""
    if processor is None:
        return None
    if getattr(processor, "is_fast", False):
        state: Any = json.loads(processor.backend_tokenizer.to_str())
        # Calls leave their options behind here.
        state |= {"truncation": None, "padding": None}
    elif hasattr(processor, "get_vocab"):
        state = [type(processor).__name__, processor.get_vocab(), processor.special_tokens_map]
    else:
        state = processor.to_dict() if hasattr(processor, "to_dict") else repr(processor)
    limit = min(max_length or 10**9, getattr(processor, "model_max_length", None) or 10**9, 10**9)
    sides = [getattr(processor, side, None) for side in ("padding_side", "truncation_side")]
    return hashlib.sha256(json.dumps([state, limit, sides], sort_keys=True, default=str).encode()).hexdigest()


def identity_columns(rows: Dataset, read: Sequence[str], task: Task, prefix: str, others: Sequence[str]) -> list[str]:
    """Return the columns that tell examples apart: what the teacher reads, and what says which logits are compared.

    Args:
        rows: Encoded.
        read: The columns that the teacher's forward pass takes.
        task: Knows the labels' columns.
        prefix: Stands before the teacher's columns.
        others: Further columns.
    """
    wanted = [*(prefix + name for name in sorted(read)), *others, *task.label_columns]
    return [
        name for name in wanted if name in rows.column_names and (name not in task.label_columns or _lists(rows, name))
    ]


def _lists(rows: Dataset, name: str) -> bool:
    """Say whether a column holds a label a token: then it says which logits are compared, or is read."""
    return len(rows) > 0 and isinstance(rows[0][name], list) and not any(isinstance(x, float) for x in rows[0][name])


def example_digests(rows: Dataset, columns: Sequence[str], names_labels: bool) -> np.ndarray:
    """Hash each example, `(examples,)` in 64 bits.

    Args:
        rows: Encoded.
        columns: What of them.
        names_labels: Whether labels have names: then their numbers may differ from one student to another, and only
            which tokens have one counts.
    """
    found = np.empty(len(rows), dtype=np.uint64)
    start = 0
    for batch in rows.select_columns(list(columns)).with_format(None).iter(1000):
        size = len(batch[columns[0]])
        for place in range(size):
            digest = hashlib.blake2b(digest_size=8)
            for name in columns:
                values = np.asarray(batch[name][place])
                if name == "labels" and names_labels:
                    values = values != IGNORED
                digest.update(f"{name} {values.dtype.kind} {values.shape} ".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
            found[start + place] = int.from_bytes(digest.digest(), "little")
        start += size
    return found
