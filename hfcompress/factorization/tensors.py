"""A convolution's kernel as a chain of smaller ones: Tucker-2, CP, and a column and a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_STEPS = 100
"""Rounds of alternating least squares at most."""

_ENOUGH = 1e-6
"""The relative gain of a round below which no further one is made."""

_RIDGE = 1e-10
"""Keeps alternating least squares from products that cancel each other, as a share of what their sizes are."""


@dataclass(frozen=True)
class Tucker:
    """A kernel as `W_oihw ≈ Σ_pq up_op core_pqhw down_qi`.

    Args:
        down: `(inner inputs, inputs)`.
        core: `(inner outputs, inner inputs, height, width)`.
        up: `(outputs, inner outputs)`.
    """

    down: Tensor
    core: Tensor
    up: Tensor


@dataclass(frozen=True)
class Canonical:
    """A kernel as `W_oihw ≈ Σ_r up_or column_rh row_rw down_ri`.

    Args:
        down: `(rank, inputs)`.
        column: `(rank, height)`.
        row: `(rank, width)`.
        up: `(outputs, rank)`.
    """

    down: Tensor
    column: Tensor
    row: Tensor
    up: Tensor


@dataclass(frozen=True)
class Spatial:
    """A kernel as `W_oihw ≈ Σ_r row_orw column_rih`.

    Args:
        column: `(rank, inputs, height)`.
        row: `(outputs, rank, width)`.
    """

    column: Tensor
    row: Tensor


def tucker(kernel: Tensor, inner_outputs: int, inner_inputs: int) -> Tucker:
    """Decompose a kernel along its channels, by orthogonal iteration (De Lathauwer et al. 2000).

    Kim et al. 2016, "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications",
    arXiv 1511.06530: Tucker-2, since the two spatial sides are small already.

    Args:
        kernel: `(outputs, inputs, height, width)`.
        inner_outputs: Rank along the outputs.
        inner_inputs: Rank along the inputs.
    """
    kernel = kernel.double()
    up = _leading(kernel.flatten(1), inner_outputs)
    down = _leading(kernel.transpose(0, 1).flatten(1), inner_inputs)
    before = 0.0
    for _ in range(_STEPS):
        up = _leading(torch.einsum("oihw,iq->oqhw", kernel, down).flatten(1), inner_outputs)
        down = _leading(torch.einsum("oihw,op->iphw", kernel, up).flatten(1), inner_inputs)
        core = torch.einsum("oihw,op,iq->pqhw", kernel, up, down)
        kept = float(core.square().sum())
        if kept - before <= _ENOUGH * kept:
            break
        before = kept
    return Tucker(down.T, core, up)


def canonical(kernel: Tensor, rank: int, seed: int = 0) -> Canonical:
    """Decompose a kernel into products of four vectors, by alternating least squares.

    Lebedev et al. 2015, "Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition", arXiv 1412.6553.

    Args:
        kernel: `(outputs, inputs, height, width)`.
        rank: How many products are summed.
        seed: Of the vectors that it begins with.
    """
    kernel = kernel.double()
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.randn(size, rank, generator=generator, dtype=torch.float64) for size in kernel.shape]
    before = float("inf")
    for _ in range(_STEPS):
        for axis in range(4):
            sides[axis] = _fitted(kernel, sides, axis)
        error = float((_product(*sides) - kernel).square().sum())
        if error >= before * (1 - _ENOUGH):
            break
        before = error
    up, down, column, row = balanced(sides)
    return Canonical(down.T, column.T, row.T, up)


def spatial(kernel: Tensor, rank: int) -> Spatial:
    """Decompose a kernel into columns and rows; the best there is, by singular values.

    Jaderberg et al. 2014, "Speeding up Convolutional Neural Networks with Low Rank Expansions", arXiv 1405.3866, their
    second scheme.

    Args:
        kernel: `(outputs, inputs, height, width)`.
        rank: How many channels are in between.
    """
    outputs, inputs, height, width = kernel.shape
    matrix = kernel.double().permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    root = sizes[:rank].sqrt()
    column = (left[:, :rank] * root).T.reshape(-1, inputs, height)
    row = (root[:, None] * right[:rank]).reshape(-1, outputs, width).transpose(0, 1)
    return Spatial(column, row)


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """Return the first left singular vectors, `(rows, rank)`."""
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return vectors.flip(1)[:, :rank]


def _product(up: Tensor, down: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Return the kernel that products of vectors sum up to, by one product of matrices."""
    return torch.einsum("ohr,iwr->oihw", up[:, None] * column, down[:, None] * row)


def _fitted(kernel: Tensor, sides: list[Tensor], axis: int) -> Tensor:
    """Return the vectors along one axis that fit best to those along the others, `(size, rank)`."""
    others = [side for place, side in enumerate(sides) if place != axis]
    gram = torch.ones(others[0].shape[1], others[0].shape[1], dtype=torch.float64)
    for side in others:
        gram = gram * (side.T @ side)
    letters = "oihw"
    rest = letters.replace(letters[axis], "")
    terms = ",".join(f"{letter}r" for letter in rest)
    products = torch.einsum(f"{letters},{terms}->{letters[axis]}r", kernel, *others)
    scale = gram.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny / _RIDGE)
    ridge = _RIDGE * scale * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram + ridge, products.T).T


def balanced(sides: list[Tensor]) -> list[Tensor]:
    """Share each product's size among its vectors, each `(size, rank)`: lopsided ones make fine-tuning diverge."""
    sizes = [side.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny) for side in sides]
    mean = torch.stack(sizes).log().mean(0).exp()
    return [side / size * mean for side, size in zip(sides, sizes, strict=True)]
