"""What filters cost: the multiply-accumulates of a convolutional network as its groups shrink."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.modeling.groups import Group
from hfcompress.modeling.linear import channels_in, channels_out, weight_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Product:
    """A part of a cost: a constant times the units of each of its groups.

    A convolution that reads one group and writes another costs in proportion to both.
    """

    constant: int
    groups: tuple[str, ...]

    def of(self, units: Mapping[str, int]) -> int:
        """Return the cost for so many units by group."""
        return self.constant * math.prod(units[name] for name in self.groups)


class Cost:
    """A sum of products of group sizes, exact for any choice of units."""

    def __init__(self, products: Iterable[Product]) -> None:
        self.products = list(products)
        self._by_group: dict[str, list[Product]] = {}
        for product in self.products:
            for name in set(product.groups):
                self._by_group.setdefault(name, []).append(product)

    def of(self, units: Mapping[str, int]) -> int:
        """Return the whole cost for so many units by group."""
        return sum(product.of(units) for product in self.products)

    def saved(self, units: Mapping[str, int], name: str, left: int) -> int:
        """Return what is saved when a group keeps only `left` units and the others stay as they are."""
        touched = self._by_group.get(name, [])
        fewer = {**units, name: left}
        return sum(product.of(units) - product.of(fewer) for product in touched)


def count_of(groups: Sequence[Group]) -> Cost:
    """Return the cost that counts units, each as one."""
    return Cost(Product(1, (group.name,)) for group in groups)


def macs_of(model: PreTrainedModel, groups: Sequence[Group], inputs: dict[str, Tensor]) -> Cost:
    """Return the cost that counts multiply-accumulates of convolutions and linear layers, for one image.

    Args:
        model: The model, in evaluation mode.
        groups: Its groups of filters.
        inputs: One image, as the model takes it; at how many places a filter works depends on its size.
    """
    read, written, alone = (
        {channels.module: group.name for group in groups for channels in getattr(group, side)}
        for side in ("readers", "writers", "between")
    )
    products: list[Product] = []

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        constant = output[0].numel() // channels_out(module) * weight_of(module)[0, 0].numel()
        if name in alone:
            products.append(Product(constant, (alone[name],)))
            return
        if name not in read:
            constant *= channels_in(module)
        if name not in written:
            constant *= channels_out(module)
        products.append(Product(constant, tuple(side[name] for side in (read, written) if name in side)))

    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: note(name, module, output))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    try:
        with torch.no_grad():
            model(**_moved(inputs, model))
    finally:
        for handle in handles:
            handle.remove()
    return Cost(products)


def _moved(inputs: dict[str, Tensor], model: PreTrainedModel) -> dict[str, Any]:
    return {name: value.to(model.device, model.dtype) for name, value in inputs.items()}
