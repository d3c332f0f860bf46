"""The ranks of convolutions: one or two each, of which a budget takes those that lose least for what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.errors import RequestError
from hfcompress.factorization.chains import dense_shapes, macs_of, weights_of
from hfcompress.factorization.conv_clock import time_chains
from hfcompress.factorization.findings import DIVERGENCE, KEY, OUTPUTS, short
from hfcompress.factorization.kernels import Kernel, Ranks
from hfcompress.factorization.ranks import Budget, Ranked, RankOptions, choose_ranks

if TYPE_CHECKING:
    from hfcompress.context import Context
    from hfcompress.factorization.convolutions import ConvOptions

_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Budgets for which the loss is predicted beside the one that was asked for."""


@dataclass(frozen=True)
class Offers:
    """What can be had of one layer: each costs more than the one before, and loses less.

    Args:
        ranks: Of each.
        known: Losses and costs by number, from 1 on; 0 stands for nothing.
    """

    ranks: list[Ranks]
    known: Ranked


def choose_conv_ranks(kernels: Mapping[str, Kernel], options: RankOptions) -> dict[str, Ranks | None]:
    """Choose each convolution's ranks; None for one that stays as it is, since it would not gain.

    One number as rank is that of the outputs; Tucker's inner inputs get it, too, as far as there are inputs. A ratio is
    that of the largest ranks below break-even, the same share of outputs and inputs.

    Raises:
        RequestError: The budget is less than what the smallest ranks cost; the best that can be had is offered.
    """
    if options.budget is None and options.energy is None:
        return {name: _alike(kernel, options) for name, kernel in kernels.items()}
    return _bought(_offers(kernels, options), options)


def _bought(offers: Mapping[str, Offers], options: RankOptions) -> dict[str, Ranks | None]:
    """Choose by a budget or by energy among what is offered; numbers stand for ranks."""
    numbers = choose_ranks({name: one.known for name, one in offers.items()}, replace(options, multiple=1))
    return {name: None if number is None else offers[name].ranks[number - 1] for name, number in numbers.items()}


def _alike(kernel: Kernel, options: RankOptions) -> Ranks | None:
    """Return a layer's ranks by one number or one ratio for all; None where it would not become smaller."""
    if options.rank is not None:
        ranks = tuple(min(options.rank, full) for full in kernel.full)
        too_large = options.rank > kernel.full[0]
    else:
        ranks = share(kernel.full, (options.rank_ratio or 1) * _largest(kernel), options.multiple)
        too_large = False
    return None if too_large or _weights(kernel, ranks) >= kernel.layer.weight.numel() else ranks


def _largest(kernel: Kernel) -> int:
    """Return the largest first rank at which the layer becomes smaller; 0 without."""
    fitting = (
        rank
        for rank in range(kernel.full[0], 0, -1)
        if _weights(kernel, share(kernel.full, rank)) < kernel.layer.weight.numel()
    )
    return next(fitting, 0)


def share(full: Ranks, rank: float, multiple: int = 1) -> Ranks:
    """Return ranks that are the same share of the full ones, the first as given, in multiples where that can be."""
    scaled = (rank / full[0] * one for one in full)
    return tuple(
        min(one, max(multiple, int(wanted + 1e-9) // multiple * multiple))
        for one, wanted in zip(full, scaled, strict=True)
    )


def _weights(kernel: Kernel, ranks: Ranks) -> int:
    return weights_of(kernel.shapes(ranks))


def _offers(kernels: Mapping[str, Kernel], options: RankOptions) -> dict[str, Offers]:
    """Return what can be had of each layer."""
    what: Budget = options.budget[0] if options.budget else "parameters"
    return {name: _offers_of(kernel, what, options.multiple) for name, kernel in kernels.items()}


def _offers_of(kernel: Kernel, what: Budget, multiple: int) -> Offers:
    """Return the best ranks of one layer, those left out that cost more and lose no less than others."""
    dense, size = dense_shapes(kernel.layer), kernel.seen.size
    count = weights_of if what == "parameters" else lambda shapes: macs_of(shapes, size)
    costs = {ranks: count(kernel.shapes(ranks)) for ranks in kernel.grid(multiple)}
    best: list[tuple[Ranks, float]] = []
    for ranks in sorted(costs, key=lambda ranks: costs[ranks]):
        if costs[ranks] < count(dense):
            loss = kernel.loss(ranks)
            if not best or loss < best[-1][1]:
                best.append((ranks, loss))
    bought = [one for one, _ in best]
    prices, whole = np.array([float(costs[one]) for one in bought]), float(count(dense))
    if what == "latency" and bought:
        prices, whole = time_chains(dense, [kernel.shapes(one) for one in bought], size)
    losses = np.array([kernel.whole, *(loss for _, loss in best), 0.0])  # the last one is the layer as it is
    layer = kernel.layer
    return Offers(bought, Ranked(layer.out_channels, layer.in_channels, losses, np.array([0.0, *prices]), whole))


def note_conv_ranks(
    context: Context, kernels: Mapping[str, Kernel], ranks: Mapping[str, Ranks | None], options: ConvOptions
) -> None:
    """Note each convolution's ranks, and what the loss is expected to be.

    Args:
        context: Gets the findings.
        kernels: The convolutions at every rank, by name.
        ranks: What was chosen; None for one that stays dense.
        options: How it was.
    """
    loss = DIVERGENCE if options.fisher else OUTPUTS
    losses = {name: 0.0 if chosen is None else kernels[name].loss(chosen) for name, chosen in ranks.items()}
    sizes = {name: _sizes(kernels[name], chosen) for name, chosen in ranks.items()}
    before = [_sizes(kernel, None) for kernel in kernels.values()]
    parameters, macs = map(sum, zip(*sizes.values(), strict=True))
    dense_parameters, dense_macs = map(sum, zip(*before, strict=True))
    what = options.budget[0] if options.budget else "parameters"
    context.findings[KEY] = {
        "loss": loss.name,
        "is_divergence": loss.is_divergence,
        "predicted_loss": short(sum(losses.values())),
        "loss_of_all": short(sum(kernel.whole for kernel in kernels.values())),
        "parameters": parameters,
        "dense_parameters": dense_parameters,
        "macs": macs,
        "dense_macs": dense_macs,
        "cost": what,
        "share": short(parameters / dense_parameters if what == "parameters" else macs / dense_macs),
        "by_budget": _by_budget(kernels, what, options.multiple) if options.budget else [],
        "by_ratio": [],
        "layers": [_entry(name, kernels[name], chosen, losses[name]) for name, chosen in ranks.items()],
    }


def _sizes(kernel: Kernel, ranks: Ranks | None) -> tuple[int, int]:
    """Return weights and multiply-accumulates of a layer."""
    shapes = dense_shapes(kernel.layer) if ranks is None else kernel.shapes(ranks)
    return weights_of(shapes), macs_of(shapes, kernel.seen.size)


def _entry(name: str, kernel: Kernel, ranks: Ranks | None, loss: float) -> dict[str, Any]:
    return {
        "name": name,
        "outputs": kernel.layer.out_channels,
        "inputs": kernel.layer.in_channels,
        "kernel": list(kernel.layer.kernel_size),
        "rank": None if ranks is None else ranks[0],
        "ranks": None if ranks is None else list(ranks),
        "largest": _largest(kernel),
        "loss": short(loss),
    }


def _by_budget(kernels: Mapping[str, Kernel], what: Budget, multiple: int) -> list[list[float]]:
    """Return what is expected for several budgets: the share that is kept and the loss; by no clock."""
    if what == "latency":
        return []
    target = {"parameters": "target_params", "macs": "target_macs"}[what]
    offers = {name: _offers_of(kernel, what, multiple) for name, kernel in kernels.items()}
    return [point for point in (_expected(offers, target, share) for share in _SHARES) if point]


def _expected(offers: Mapping[str, Offers], target: str, share: float) -> list[float]:
    """Return the share that is kept, and the loss; nothing where the budget cannot be met."""
    known = {name: one.known for name, one in offers.items()}
    try:
        numbers = choose_ranks(known, RankOptions(multiple=1, **{target: share}))  # type: ignore[arg-type]
    except RequestError:  # less than the smallest ranks
        return []
    chosen: Sequence[tuple[Ranked, int | None]] = [(known[name], number) for name, number in numbers.items()]
    kept = sum(float(one.dense_cost if number is None else one.costs[number]) for one, number in chosen)
    lost = sum(float(one.losses[number]) for one, number in chosen if number is not None)
    return [short(kept / sum(one.dense_cost for one in known.values())), short(lost)]
