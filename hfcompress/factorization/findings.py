"""What a low-rank step leaves in its record: curves of energy, ranks, and the loss that is expected."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hfcompress.errors import RequestError
from hfcompress.factorization.ranks import Ranked, RankOptions, choose_ranks
from hfcompress.modeling.linear import matrix
from hfcompress.naming import brief_names, first_few

if TYPE_CHECKING:
    from hfcompress.context import Context

logger = logging.getLogger(__name__)

KEY = "low_rank"
"""Where the findings stand in a step's record."""

_POINTS = 32
"""How many ranks a curve is given at; more of them at the low ranks, where it bends."""

_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Budgets for which the loss is predicted beside the one that was asked for."""


@dataclass(frozen=True)
class Loss:
    """What a method makes least.

    Args:
        name: In words.
        is_divergence: Whether it is an estimate of how far the model's answers move, in nats an example: half the
            quadratic form of the Fisher information, so that it can be compared with what is measured.
    """

    name: str
    is_divergence: bool = False


WEIGHTS = Loss("squares of the weights")
SEEN_WEIGHTS = Loss("squares of the weights, by what the loss sees of them")
TOKENS = Loss("squares of the embeddings")
PRODUCTS = Loss("squares of the attentions' products")
OUTPUTS = Loss("squares of the outputs")
DIVERGENCE = Loss("outputs, by what the loss sees of them", is_divergence=True)


def note_ranks(
    context: Context,
    known: Mapping[str, Ranked],
    ranks: Mapping[str, int | None],
    options: RankOptions,
    loss: Loss,
) -> dict[str, Any]:
    """Note each layer's rank, and what the loss is expected to be.

    Args:
        context: Gets the findings.
        known: What is known of each layer, by name.
        ranks: What was chosen; None for a layer that stays dense.
        options: How it was.
        loss: What `known` counts.

    Returns:
        The findings, to which more can be added.
    """
    sizes = {name: _parameters(layer, ranks[name]) for name, layer in known.items()}
    found: dict[str, Any] = {
        "loss": loss.name,
        "is_divergence": loss.is_divergence,
        "predicted_loss": short(_loss_at(known, ranks)),
        "loss_of_all": short(sum(float(layer.losses[0]) for layer in known.values())),
        "parameters": sum(sizes.values()),
        "dense_parameters": sum(_parameters(layer, None) for layer in known.values()),
        "cost": options.budget[0] if options.budget else "parameters",
        "share": short(_share(known, ranks)),
        "by_budget": _by_budget(known, options),
        "by_ratio": _by_ratio(known, options),
        "layers": [_layer(name, layer, ranks[name]) for name, layer in known.items()],
    }
    context.findings[KEY] = found
    return found


def note_curves(context: Context, layers: Mapping[str, nn.Module], known: Mapping[str, Ranked], loss: Loss) -> None:
    """Add to the findings what each layer loses by rank: of its energy, and of its weights' squares.

    Args:
        context: Has findings of `note_ranks`.
        layers: The layers whose weights' squares are told, by name.
        known: What is known of each.
        loss: What `known` counts.
    """
    found = context.findings[KEY]
    found["ranks"] = {str(full): _grid(full) for full in sorted({len(one.losses) - 1 for one in known.values()})}
    for entry in found["layers"]:
        losses = known[entry["name"]].losses
        places = _grid(len(losses) - 1)
        entry["lost"] = _shares(losses, places)
        if loss is WEIGHTS or entry["name"] not in layers:
            continue
        plain = squares_lost(matrix(layers[entry["name"]]))
        if len(plain) == len(losses):
            entry["squares_lost"] = _shares(plain, places)


def tell_dense(
    context: Context, known: Mapping[str, Ranked], ranks: Mapping[str, int | None], options: RankOptions
) -> None:
    """Say in one line which layers stay dense, and why."""
    dense = [name for name, rank in ranks.items() if rank is None]
    if not dense:
        return
    if options.budget is not None:
        why = "which loses least within the budget"
    elif options.energy is not None:
        why = "since what keeps that energy would not make them smaller"
    else:
        limits = first_few({f"{known[name].largest} at {known[name].outputs} x {known[name].inputs}" for name in dense})
        why = f"since the rank that was asked for would not make them smaller; the largest that does is {limits}"
    count = f"all {len(dense)} layers stay" if len(dense) == len(ranks) else f"{len(dense)} of {len(ranks)} layers stay"
    context.say(f"{count} dense, {why}: {brief_names(dense)}")


def warn_of_few(ranks: Mapping[str, int], seen: Mapping[str, int], what: str) -> None:
    """Warn where less was seen than the rank: a direction that nothing lies in counts for nothing.

    Args:
        ranks: What was chosen, by layer.
        seen: How many vectors were seen at each.
        what: What these are: tokens, or patches.
    """
    few = [name for name, rank in ranks.items() if seen[name] < rank]
    if few:
        text = "fewer %s than the rank were seen at %s: directions that none of them has are lost; give more examples"
        logger.warning(text, what, brief_names(few))


@torch.no_grad()
def squares_lost(weight: Tensor) -> np.ndarray:
    """Return what of a matrix's squares all but the first 0, 1, 2, … singular values hold, `(full rank + 1,)`."""
    weight = weight.float()
    squares = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    sizes = torch.linalg.eigvalsh(squares).clamp(min=0).cpu().double().numpy()
    return np.append(np.cumsum(sizes)[::-1], 0.0)


def _layer(name: str, known: Ranked, rank: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "outputs": known.outputs,
        "inputs": known.inputs,
        "rank": rank,
        "largest": known.largest,
        "loss": short(float(known.losses[rank])) if rank is not None else 0.0,
    }


def _grid(full: int) -> list[int]:
    """Return the ranks at which curves are given."""
    return sorted({round(full * float(share) ** 1.5) for share in np.linspace(0, 1, _POINTS)})


def _shares(losses: np.ndarray, places: Sequence[int]) -> list[float]:
    """Return what share is lost at some ranks."""
    whole = float(losses[0]) or 1.0
    return [float(f"{losses[place] / whole:.3g}") for place in places]


def _parameters(layer: Ranked, rank: int | None) -> int:
    return layer.outputs * layer.inputs if rank is None else rank * (layer.outputs + layer.inputs)


def _loss_at(known: Mapping[str, Ranked], ranks: Mapping[str, int | None]) -> float:
    return sum(float(known[name].losses[rank]) for name, rank in ranks.items() if rank is not None)


def _share(known: Mapping[str, Ranked], ranks: Mapping[str, int | None]) -> float:
    """Return what share of the layers' cost is kept."""
    kept = (known[name].dense_cost if rank is None else known[name].costs[rank] for name, rank in ranks.items())
    return float(sum(kept)) / sum(layer.dense_cost for layer in known.values())


def _by_budget(known: Mapping[str, Ranked], options: RankOptions) -> list[list[float]]:
    """Return what is expected for several budgets: the share that is kept and the loss."""
    return _expected(known, [_only(options, target_params=share) for share in _SHARES])


def _by_ratio(known: Mapping[str, Ranked], options: RankOptions) -> list[list[float]]:
    """Return the same for one ratio of all layers."""
    return _expected(known, [_only(options, rank_ratio=share) for share in _SHARES])


def _only(options: RankOptions, **choice: float) -> RankOptions:
    return RankOptions(multiple=options.multiple, **choice)  # type: ignore[arg-type]


def _expected(known: Mapping[str, Ranked], several: Sequence[RankOptions]) -> list[list[float]]:
    found = []
    for options in several:
        try:
            ranks = choose_ranks(known, options)
        except RequestError:  # less than the smallest ranks
            continue
        found.append([short(_share(known, ranks)), short(_loss_at(known, ranks))])
    return found


def short(value: float) -> float:
    """Return a number as it is worth writing down."""
    return float(f"{value:.4g}")
