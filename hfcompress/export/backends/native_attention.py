"""Attention as plain matrix products while a model is traced: the graph stays small, and answers as PyTorch does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NAME = "hfcompress_export"
"""What transformers calls `attend`."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute scaled dot product attention, softmax(QKᵀ·scaling + bias + mask)·V, in the order that runtimes fuse.

    A query whose keys are all masked gets zeros, as PyTorch's own kernel gives: padding must not turn into NaN.

    Args:
        module: The attention layer.
        query: `(batch, heads, seq, size)`.
        key: `(batch, key-value heads, keys, size)`.
        value: As `key`.
        attention_mask: 0 or the type's smallest number, `(batch, 1, seq or 1, keys)`; None where all is seen.
        scaling: Of the scores; None for 1/√size.
        position_bias: Added to the scores, as T5 does.

    Returns:
        `(batch, seq, heads, size)`, and no attention weights.
    """
    import torch

    groups = query.shape[1] // key.shape[1]
    scores = torch.matmul(query, _repeat(key, groups).transpose(-1, -2))
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    for addend in (position_bias, attention_mask):
        scores = scores if addend is None else scores + addend
    context = torch.matmul(torch.softmax(scores, dim=-1), _repeat(value, groups))
    if attention_mask is not None:
        seen = attention_mask.amax(dim=-1, keepdim=True) > torch.finfo(attention_mask.dtype).min
        context = torch.where(seen, context, torch.zeros((), dtype=context.dtype))
    return context.transpose(1, 2).contiguous(), None


def _repeat(states: Tensor, groups: int) -> Tensor:
    """Give each query head its key-value head, `(batch, heads, keys, size)`."""
    if groups == 1:
        return states
    batch, heads, keys, size = states.shape
    return states[:, :, None].expand(batch, heads, groups, keys, size).reshape(batch, heads * groups, keys, size)


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model that runs PyTorch's fused attention run `attend` instead, within the block.

    A model that computes its attention in its own way keeps it.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask

    before = model.config._attn_implementation
    if before != "sdpa":
        yield
        return
    AttentionInterface.register(NAME, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
