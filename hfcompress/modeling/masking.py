"""Silencing units without removing them: what a model would answer if they were gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hfcompress.modeling.groups import Group
from hfcompress.modeling.linear import is_convolution

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@contextmanager
def masked(model: PreTrainedModel, groups: Sequence[Group], masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply each unit by its mask while the model runs: 1 leaves it as it is, 0 silences it.

    Gradients flow into the masks. The masks are read at each call, so that they can be changed inside the `with`.

    Args:
        model: The model.
        groups: Its groups.
        masks: By group name, `(units,)` for all texts alike or `(batch, units)`; groups without one stay as they are.
    """
    handles = []
    for group in groups:
        if group.name not in masks:
            continue
        for channels in group.readers:

            def silence(module: nn.Module, args: Any, channels: Any = channels, name: str = group.name) -> Any:
                values = args[0]
                mask = channels.spread(masks[name]).to(values.dtype)
                return (values * _beside(mask, values, is_convolution(module)), *args[1:])

            handles.append(model.get_submodule(channels.module).register_forward_pre_hook(silence))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _beside(mask: Tensor, values: Tensor, channels_first: bool) -> Tensor:
    """Shape a mask `(channels,)` or `(batch, channels)` so that it multiplies values."""
    if mask.dim() == 2:
        between = (1,) * (values.dim() - 2)
        return mask.view(len(mask), -1, *between) if channels_first else mask.view(len(mask), *between, -1)
    return mask.view(-1, *(1,) * (values.dim() - 2)) if channels_first else mask
