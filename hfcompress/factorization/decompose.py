"""One matrix as the product of two thin ones, at every rank at once: plain, Fisher-weighted, or for its outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfcompress.modeling.factors import Factors

FLOOR = 1e-8
"""Eigenvalues below this share of the largest count as this much of it: rows and columns that nothing reads."""


@dataclass(frozen=True)
class Decomposition:
    """A matrix as a sum of products of a column and a row, the most important first.

    Args:
        columns: `(outputs, terms)`.
        rows: `(terms, inputs)`.
        losses: What is lost when the first 0, 1, 2, … terms stay, `(terms + 1,)`, falling to 0.
        weight: The matrix `(outputs, inputs)`.
        mean: Of the inputs, `(inputs,)`; None where it is not known.
    """

    columns: Tensor
    rows: Tensor
    losses: Tensor
    weight: Tensor
    mean: Tensor | None = None

    def factors(self, rank: int) -> Factors:
        """Return the factors of the first `rank` terms, each term's size shared by its column and its row.

        The shift makes up for what the terms that are left out give on average, `(W − up down) E[x]`.
        """
        up, down = self.columns[:, :rank], self.rows[:rank]
        shift = None if self.mean is None else (self.weight - up @ down) @ self.mean
        tall, wide = up.norm(dim=0), down.norm(dim=1)
        scale = (wide / tall.clamp(min=torch.finfo(tall.dtype).tiny)).sqrt()
        scale = torch.where((scale > 0) & scale.isfinite(), scale, torch.ones_like(scale))
        return Factors(down / scale[:, None], up * scale, shift)


def svd(weight: Tensor) -> Decomposition:
    """Decompose a matrix so that `‖W − M‖²` is least at each rank (Eckart and Young 1936).

    Args:
        weight: `(outputs, inputs)`.
    """
    weight = weight.double()
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    return Decomposition(left * sizes, right, _tail(sizes.square()), weight)


def fisher_svd(weight: Tensor, information: Tensor) -> Decomposition:
    """Decompose a matrix so that errors count by how much the loss sees of each input's weights.

    Hsu et al. 2022, "Language model compression with weighted low-rank factorization", arXiv 2207.00112, equation 6:
    `‖(W − M) D‖²`, `D² = diag(Σ_i I_ij)`, the information `I_ij` summed over the weights `W_ij` of one input `j`.

    Args:
        weight: `(outputs, inputs)`.
        information: Of each input `Σ_i I_ij`, the mean square of the loss's gradient there, `(inputs,)`.
    """
    weight, seen = weight.double(), _seen(information)
    left, sizes, right = torch.linalg.svd(weight * seen, full_matrices=False)
    return Decomposition(left * sizes, right / seen, _tail(sizes.square()), weight)


def svd_losses(weight: Tensor, information: Tensor | None = None) -> Tensor:
    """Return the losses of `svd`, or of `fisher_svd`, alone: singular vectors are not needed.

    Args:
        weight: `(outputs, inputs)`.
        information: As there.

    Returns:
        What is lost at rank 0, 1, 2, …, `(terms + 1,)`.
    """
    weight = weight.double()
    return _tail(torch.linalg.svdvals(weight if information is None else weight * _seen(information)).square())


def _seen(information: Tensor) -> Tensor:
    """Return how much errors of each input's weights count; those of inputs that the loss does not see a little."""
    seen = information.double().sqrt()
    return seen.clamp(min=(FLOOR * seen.max()).clamp(min=torch.finfo(torch.float64).tiny))


def for_outputs(
    weight: Tensor, covariance: Tensor, mean: Tensor | None = None, gradient: Tensor | None = None
) -> Decomposition:
    """Decompose a matrix so that its outputs on real inputs change least: `E‖√G (W − M)(x − E[x])‖²` at each rank.

    Args:
        weight: `(outputs, inputs)`.
        covariance: Of the inputs `x`, `(inputs, inputs)`.
        mean: Of the inputs, where a bias can make up for it: `(inputs,)`.
        gradient: Second moment `G` of the loss's gradient with respect to the outputs, `(outputs, outputs)`; losses are
            then `½ tr(G ΔW C ΔWᵀ)`, what the loss grows by. None counts all outputs alike.
    """
    weight, covariance = weight.double(), covariance.double()
    if is_low(weight):
        return on_narrow_side(weight, weight @ covariance @ weight.T, mean, gradient)
    return on_narrow_side(weight, covariance, mean, None if gradient is None else weight.T @ gradient.double() @ weight)


def is_low(weight: Tensor) -> bool:
    """Say whether a matrix `(outputs, inputs)` has no more outputs than inputs: these are then its narrow side."""
    outputs, inputs = weight.shape
    return outputs <= inputs


def on_narrow_side(
    weight: Tensor, covariance: Tensor, mean: Tensor | None = None, gradient: Tensor | None = None
) -> Decomposition:
    """Decompose a matrix as `for_outputs` does, from moments of its narrow side alone.

    With `A = √G W √C` the best `M` of rank `r` keeps `A`'s first `r` singular vectors (reduced-rank regression, Izenman
    1975). Where the matrix has no more outputs than inputs they are eigenvectors `u` of `√G W C Wᵀ √G`, and
    `M = √G⁻¹ U Uᵀ √G W`; otherwise eigenvectors `v` of `√C Wᵀ G W √C`, and `M = W √C V Vᵀ √C⁻¹`. Neither needs a
    Cholesky factor, which a covariance of too few rows does not have.

    Args:
        weight: `(outputs, inputs)`.
        covariance: Where there are no more outputs than inputs of the outputs, `W C Wᵀ`, `(outputs, outputs)`;
            otherwise of the inputs, `(inputs, inputs)`.
        mean: Of the inputs, where a bias can make up for it: `(inputs,)`.
        gradient: Second moment of the loss's gradient on the same side: `G`, or `Wᵀ G W`. None counts all outputs
            alike.
    """
    weight, covariance = weight.double(), covariance.double()
    if is_low(weight):
        root, inverse = (None, None) if gradient is None else _roots(gradient)
        sizes, vectors = _eigen(covariance if root is None else root @ covariance @ root)
        columns = vectors if inverse is None else inverse @ vectors
        rows = vectors.T @ (weight if root is None else root @ weight)
    else:
        root, inverse = _roots(covariance)
        seen = weight.T @ weight if gradient is None else gradient.double()
        sizes, vectors = _eigen(root @ seen @ root)
        columns, rows = weight @ (root @ vectors), vectors.T @ inverse
    half = 1.0 if gradient is None else 0.5
    return Decomposition(columns, rows, half * _tail(sizes), weight, None if mean is None else mean.double())


def losses_on_narrow_side(weight: Tensor, covariance: Tensor, gradient: Tensor | None = None) -> Tensor:
    """Return the losses of `on_narrow_side` alone, in half the time: eigenvectors are not needed.

    Args:
        weight: `(outputs, inputs)`.
        covariance: As there.
        gradient: As there.

    Returns:
        What is lost at rank 0, 1, 2, …, `(terms + 1,)`.
    """
    covariance = covariance.double()
    if is_low(weight):
        return _losses(covariance, gradient, halved=gradient is not None)
    seen = weight.double().T @ weight.double() if gradient is None else gradient
    return _losses(seen.double(), covariance, halved=gradient is not None)


def _losses(matrix: Tensor, moments: Tensor | None, halved: bool) -> Tensor:
    """Return the tails of the eigenvalues of `Rᵀ A R`, `R Rᵀ` being the moments; None for `R = 1`."""
    if moments is not None:
        values, vectors = torch.linalg.eigh(moments.double())
        root = vectors * _at_least(values).sqrt()
        matrix = root.T @ matrix @ root
    sizes = torch.linalg.eigvalsh((matrix + matrix.T) / 2).clamp(min=0).flip(0)
    return (0.5 if halved else 1.0) * _tail(sizes)


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, none below 0, and eigenvectors, the largest first."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.clamp(min=0).flip(0), vectors.flip(1)


def _roots(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square root of a matrix of second moments and its inverse; directions without any get a little."""
    values, vectors = torch.linalg.eigh(moments.double())
    sizes = _at_least(values).sqrt()
    return (vectors * sizes) @ vectors.T, (vectors / sizes) @ vectors.T


def _at_least(values: Tensor) -> Tensor:
    """Return ascending eigenvalues, none below `FLOOR` of the largest."""
    return values.clamp(min=(FLOOR * values[-1]).clamp(min=torch.finfo(torch.float64).tiny))


def _tail(sizes: Tensor) -> Tensor:
    """Return the sums of all but the first 0, 1, 2, … sizes, `(sizes + 1,)`."""
    return torch.cat([sizes.flip(0).cumsum(0).flip(0), sizes.new_zeros(1)])
