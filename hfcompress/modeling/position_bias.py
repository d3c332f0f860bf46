"""Attention with fewer heads than the bias by position that all layers share (MPNet, T5): it picks its own part."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_BIAS_HOLDS_MASK = version("transformers").startswith("4.")  # T5 hands the mask on inside the bias


def pick_heads(attention: nn.Module, kept: Sequence[int], heads: int) -> None:
    """Let an attention module use its own heads' part of the bias by position, and hand on the whole.

    Args:
        attention: The module whose `forward` takes `position_bias`; changed in place, its class is a subclass now.
        kept: The original numbers of the heads that it has.
        heads: How many the bias has.
    """
    attention._kept_heads = list(kept)  # type: ignore[assignment]
    attention._bias_heads = heads  # type: ignore[assignment]
    if not isinstance(attention, _Picking):
        attention.__class__ = _picking(type(attention))  # type: ignore[arg-type]


class _Picking:
    """What an attention module gets in addition."""

    _kept_heads: list[int]
    _bias_heads: int
    _computed: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention with its own heads' bias; what it hands on is the whole one."""
        parent: Any = super()
        kind: Any = type(self)
        named = {**dict(zip(_parameters(kind), args, strict=False)), **kwargs}
        whole: Tensor | None = named.get("position_bias")
        if whole is not None:
            named["position_bias"] = whole[:, self._kept_heads]
        outputs = parent.forward(**named)
        if not hasattr(self, "has_relative_attention_bias"):
            return outputs  # MPNet hands nothing on
        if whole is None:
            whole = self._whole(outputs[1], named.get("mask"))
        return (outputs[0], whole, *outputs[2:])

    def compute_bias(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the bias of all heads, keep it to be handed on, and return that of the own heads."""
        parent: Any = super()
        self._computed = parent.compute_bias(*args, **kwargs)
        return self._computed[:, self._kept_heads]

    def _whole(self, own: Tensor, mask: Tensor | None) -> Tensor:
        """Return the bias `(batch, all heads, queries, keys)` where the layer made its own part of it."""
        computed, self._computed = self._computed, None
        if computed is None:  # zeros, and the mask: the same for each head
            return own[:, :1].expand(-1, self._bias_heads, -1, -1)
        whole = computed[:, :, -own.shape[2] :]
        return whole + mask[..., : whole.shape[-1]] if _BIAS_HOLDS_MASK and mask is not None else whole


@cache
def _picking(kind: Any) -> type[nn.Module]:
    """Return the subclass of an attention class; it prints as the class itself."""
    return type(kind.__name__, (_Picking, kind), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})


@cache
def _parameters(kind: Any) -> list[str]:
    """Return the names of the parameters of the attention's own `forward`, in order."""
    return list(inspect.signature(kind.__mro__[2].forward).parameters)[1:]
