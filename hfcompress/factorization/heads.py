"""The two products of each attention head, queries with keys and values with the output, cut to fewer dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hfcompress.calibration.least_squares import regression
from hfcompress.factorization.decompose import FLOOR, Decomposition, for_outputs
from hfcompress.modeling.narrow_heads import Affine, Heads

if TYPE_CHECKING:
    from hfcompress.calibration.sensitivity import Sensitivity


@dataclass(frozen=True)
class HeadCuts:
    """An attention's heads at every width at once.

    Args:
        scores: Of each head, what stands between its queries and its keys: the identity, in a sum of products.
        values: Of each head, the part of the output's matrix that reads it, in a sum of products.
        losses: What is lost when each head keeps 0, 1, 2, … dimensions, `(width + 1,)`.
        mean: Of what the output reads, `(heads · width,)`.
        covariance: Of what the output reads, about that mean, `(heads · width, heads · width)`.
    """

    scores: Sequence[Decomposition]
    values: Sequence[Decomposition]
    losses: Tensor
    mean: Tensor
    covariance: Tensor

    def narrow(self, heads: Heads, width: int, scaled: bool) -> Heads:
        """Return the weights of heads that are less wide.

        With `up down` in the place of the identity, scores are `(down q)·(upᵀ k)`; values become `down v`. The output
        that reads those is fitted for all heads together, since what one of them lost may be told from the others. Its
        bias makes up for the means: what attends adds up to 1.

        Args:
            heads: As they are.
            width: How wide they become.
            scaled: Whether scores are divided by the root of the width; queries make up for it.
        """
        scores, values = ([one.factors(width) for one in found] for found in (self.scores, self.values))
        scale = (width / len(self.scores[0].rows)) ** 0.5 if scaled else 1.0
        value = torch.block_diag(*(one.down for one in values))
        seen, dense = value @ self.covariance, heads.output.weight
        output = regression(seen @ value.T, seen @ dense.T, torch.cat([one.up for one in values], dim=1).T).T
        bias = heads.output.bias
        if bias is not None:
            bias = bias + (dense - output @ value) @ self.mean
        return Heads(
            _behind(torch.block_diag(*(one.down for one in scores)) * scale, heads.query),
            _behind(torch.block_diag(*(one.up.T for one in scores)), heads.key),
            _behind(value, heads.value),
            Affine(output, bias),
        )


def cut_by_data(heads: Heads, count: int, query: Sensitivity, output: Sensitivity) -> HeadCuts:
    """Cut heads so that the model's loss grows least on the rows it was looked at with.

    To a change `δq` of its queries the loss adds `½ E[(gᵀ δq)²]`, where the gradients `g` are sums of the keys, about
    their mean, each weighed by what the loss sees of its score: softmax takes no notice of what all keys share. So a
    head's queries and keys are cut for `½ tr(G (I − M) E[q qᵀ] (I − M)ᵀ)`, `G` the second moment of `g`, and its values
    for `½ tr(G' (W − M) Cov[v] (W − M)ᵀ)` behind the output.

    Args:
        heads: Their weights.
        count: How many they are.
        query: What is known of the layer that gives the queries (or all three).
        output: What is known of the layer that reads the values.
    """
    asked = heads.query.weight @ query.covariance.double() @ heads.query.weight.T
    mean = _through(heads.query, query.mean.double())
    seen = query.gradient[: len(asked), : len(asked)]
    scores = _cut_scores(asked + torch.outer(mean, mean), seen, count)
    values = _cut_values(heads.output, output.covariance, output.gradient, count)
    losses = _sum(scores) + _sum(values)
    return HeadCuts(scores, values, losses, output.mean.double(), output.covariance.double())


def cut_by_weights(heads: Heads, count: int) -> HeadCuts:
    """Cut heads so that `W_Qᵀ W_K` and `W_O W_V` change least, as if all inputs were alike.

    The queries' bias counts as one more input; that of the keys is without effect, and that of the values goes into the
    output's. Losses are shares of what each of the two products is, summed.

    Args:
        heads: Their weights.
        count: How many they are.
    """
    asked, seen, covariance = (one.weight @ one.weight.T for one in (heads.query, heads.key, heads.value))
    if heads.query.bias is not None:
        asked = asked + torch.outer(heads.query.bias, heads.query.bias)
    scores = _cut_scores(asked, seen, count)
    values = _cut_values(heads.output, covariance, None, count)
    losses = torch.stack([one / one[0].clamp(min=FLOOR**2) for one in (_sum(scores), _sum(values))]).sum(0)
    mean = covariance.new_zeros(len(covariance)) if heads.value.bias is None else heads.value.bias
    return HeadCuts(scores, values, losses, mean, covariance)


def _cut_scores(asked: Tensor, seen: Tensor, count: int) -> list[Decomposition]:
    """Cut each head's scores.

    Args:
        asked: Second moment of the queries, `(heads · width, heads · width)`.
        seen: Second moment of what they are multiplied with, of the same shape.
        count: How many heads there are.
    """
    pairs = zip(_blocks(asked, count), _blocks(seen, count), strict=True)
    return [for_outputs(torch.eye(len(one)).to(one), one, None, other) for one, other in pairs]


def _cut_values(output: Affine, covariance: Tensor, gradient: Tensor | None, count: int) -> list[Decomposition]:
    """Cut each head's values.

    Args:
        output: The layer that reads them.
        covariance: Of the values, `(heads · width, heads · width)`.
        gradient: Second moment of the loss's gradient behind that layer, `(outputs, outputs)`.
        count: How many heads there are.
    """
    pairs = zip(output.weight.chunk(count, dim=1), _blocks(covariance, count), strict=True)
    return [for_outputs(weight, own, None, gradient) for weight, own in pairs]


def _sum(found: Sequence[Decomposition]) -> Tensor:
    """Return what all heads lose together."""
    return torch.stack([one.losses for one in found]).sum(0)


def _blocks(moments: Tensor, count: int) -> Tensor:
    """Return each head's own part of second moments of all channels, `(heads, width, width)`.

    Each direction gets a little, since a head may have nothing at all: its output may be 0, or all its keys the same.
    """
    width = len(moments) // count
    blocks = moments.double().view(count, width, count, width).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    least = (FLOOR * moments.diagonal().double().mean()).clamp(min=FLOOR**2)
    return blocks + least * torch.eye(width, dtype=torch.float64, device=moments.device)


def _through(layer: Affine, values: Tensor) -> Tensor:
    """Return what a layer gives."""
    given = layer.weight @ values
    return given if layer.bias is None else given + layer.bias


def _behind(matrix: Tensor, layer: Affine) -> Affine:
    """Return a layer and a matrix behind it as one."""
    return Affine(matrix @ layer.weight, None if layer.bias is None else matrix @ layer.bias)
