"""Weights in 4 bits, a scale and a zero point for each block of a row: plain rounding, HQQ and GPTQ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LEVELS = 15
"""The largest code of 4 bits."""

_ROWS = 4096  # rows that are rounded at a time: copies of a large table would not fit beside it
_STEPS = 20  # of HQQ, as published
_NORM, _STRENGTH, _GROWTH = 0.7, 10.0, 1.01  # p, beta and kappa, as published
_DAMPING = 0.01  # of the mean diagonal, as published
_COLUMNS = 128  # whose corrections GPTQ applies to the rest at once


@dataclass
class Blocks:
    """A matrix in 4 bits: `weight ≈ scale · (code − zero)`, where scale and zero are those of the code's block.

    Args:
        codes: 0 … 15, `(rows, blocks · block_size)`; padded where the columns fill no whole block.
        scale: `(rows, blocks)`, float16, or float32 where one does not fit.
        zero: 0 … 15, `(rows, blocks)`.
        columns: Columns of the matrix.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    columns: int

    @property
    def block_size(self) -> int:
        """Columns of a block."""
        return int(self.codes.shape[1] // self.scale.shape[1])

    def weight(self) -> np.ndarray:
        """Return the matrix that the codes stand for, `(rows, columns)`."""
        zero, scale = (np.repeat(part.astype(np.float32), self.block_size, axis=1) for part in (self.zero, self.scale))
        return ((self.codes - zero) * scale)[:, : self.columns]


def pack(codes: np.ndarray) -> np.ndarray:
    """Put two codes of 4 bits into each byte, the earlier one into the lower half.

    Example:
        >>> pack(np.array([[1, 2, 3]], np.uint8)).tolist()
        [[33, 3]]
    """
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return np.asarray(even[:, 0::2] | (even[:, 1::2] << 4), dtype=np.uint8)


def round_to_blocks(weight: np.ndarray, block_size: int, hqq: bool = False) -> Blocks:
    """Round a matrix to 4 bits, each block of a row on the grid between its smallest and its largest number.

    Args:
        weight: Finite float numbers, `(rows, columns)`.
        block_size: Columns of a block.
        hqq: Whether the grid is then fitted, where that lowers a block's squared error.
    """
    rows, columns = weight.shape
    count = -(-columns // block_size)
    codes = np.zeros((rows, count * block_size), np.uint8)
    zero = np.zeros((rows, count), np.uint8)
    scale = np.zeros((rows, count), scale_type(weight))
    for part in _parts(rows):
        blocks = _padded(weight[part], block_size).reshape(-1, block_size)
        grid = _grid(blocks, scale.dtype)
        if hqq:
            grid = _fitted(blocks, *grid)
        codes[part] = _codes(blocks, *grid).reshape(-1, count * block_size)
        scale[part], zero[part] = (part_of.reshape(-1, count) for part_of in grid)
    return Blocks(codes, scale, zero, columns)


def gptq(weight: np.ndarray, block_size: int, covariance: np.ndarray) -> Blocks:
    """Round a matrix column by column, each column's error made good by the columns that are not yet rounded.

    Frantar et al. 2022: with `H = X Xᵀ` of the inputs and `U` the upper Cholesky factor of `H⁻¹`, the error
    `e = (w_j − q_j) / U_jj` of column `j` is taken off the later ones as `e · U_j,k`.

    Args:
        weight: `(outputs, inputs)`.
        block_size: Inputs of a block.
        covariance: `X Xᵀ` of the inputs that calibration rows gave, `(inputs, inputs)`, up to a factor.

    Raises:
        ValueError: The covariance is not finite.
    """
    rows, columns = weight.shape
    left = _padded(np.array(weight, np.float32), block_size)
    upper = _inverse_root(covariance, left.shape[1])
    codes = np.zeros(left.shape, np.uint8)
    scale = np.zeros((rows, left.shape[1] // block_size), scale_type(weight))
    zero = np.zeros(scale.shape, np.uint8)
    span = max(_COLUMNS // block_size, 1) * block_size
    for start in range(0, left.shape[1], span):
        stop = min(start + span, left.shape[1])
        errors = np.zeros((rows, stop - start), np.float32)
        for column in range(start, stop):
            block = column // block_size
            if column % block_size == 0:
                grid = _grid(left[:, column : column + block_size], scale.dtype)
                scale[:, block], zero[:, block] = grid[0][:, 0], grid[1][:, 0]
            codes[:, column] = _codes(left[:, column, None], *grid)[:, 0]
            rounded = (codes[:, column] - grid[1][:, 0].astype(np.float32)) * grid[0][:, 0].astype(np.float32)
            error = (left[:, column] - rounded) / upper[column, column]
            left[:, column + 1 : stop] -= np.outer(error, upper[column, column + 1 : stop])
            errors[:, column - start] = error
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return Blocks(codes, scale, zero, columns)


def scale_type(weight: np.ndarray) -> type:
    """Return float16, which halves what scales take, or float32 where a scale could be too large for it."""
    peak = max(float(weight.max(initial=0)), -float(weight.min(initial=0)))
    return np.float16 if peak < float(np.finfo(np.float16).max) else np.float32


def _parts(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS))


def _padded(weight: np.ndarray, block_size: int) -> np.ndarray:
    """Fill the last block of each row with zeros."""
    return np.pad(np.asarray(weight, np.float32), ((0, 0), (0, -weight.shape[1] % block_size)))


def _grid(blocks: np.ndarray, kind: np.dtype[np.floating]) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and zero point of each block, `(blocks, 1)`: the grid holds 0, so padding and pruned zeros stay."""
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)
    exact = np.maximum((high - low) / LEVELS, np.finfo(np.float16).tiny).astype(np.float32)
    scale = exact.astype(kind)
    short = scale.astype(np.float32) < exact  # rounded up, so that no number lies beyond the grid
    scale[short] = np.nextafter(scale[short], np.asarray(np.inf, kind))
    zero = np.clip(np.rint(-low / scale.astype(np.float32)), 0, LEVELS).astype(np.uint8)
    return scale[:, None], zero[:, None]


def _codes(blocks: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(blocks / scale.astype(np.float32)) + zero, 0, LEVELS).astype(np.uint8)


def _fitted(blocks: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return grids fitted by half-quadratic splitting (HQQ, Badri and Shaji 2023), where they have a smaller error.

    `min ‖W − Ŵ‖_p` is solved in turns: the outliers `E` of `W − Ŵ` by soft thresholding, then the grid of `W − E`.
    The zero points of 4 bits are whole numbers here, so it is the scale that is fitted, by least squares.
    """
    best, kind = scale.astype(np.float32), scale.dtype
    lowest = _squared_error(blocks, best, zero)
    tried, strength = best, _STRENGTH / np.maximum(np.abs(blocks).max(axis=1, keepdims=True), 1e-12)
    for _ in range(_STEPS):
        steps = _codes(blocks, tried, zero) - zero.astype(np.float32)
        missed = blocks - steps * tried
        size = np.abs(missed)
        shrunk = np.maximum(size - np.maximum(size, 1e-8) ** (_NORM - 1) / (strength * _STRENGTH), 0)
        target = blocks - np.sign(missed) * shrunk
        fitted = (target * steps).sum(axis=1, keepdims=True) / np.maximum((steps**2).sum(axis=1, keepdims=True), 1)
        tried = np.where(fitted > 0, fitted, tried).astype(kind).astype(np.float32)
        tried = np.maximum(tried, np.finfo(np.float16).tiny)
        error = _squared_error(blocks, tried, zero)
        best, lowest = np.where(error < lowest, tried, best), np.minimum(error, lowest)
        strength = strength * _GROWTH
    return best.astype(kind), zero


def _squared_error(blocks: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    steps = _codes(blocks, scale, zero) - zero.astype(np.float32)
    return np.asarray(((blocks - steps * scale) ** 2).sum(axis=1, keepdims=True))


def _inverse_root(covariance: np.ndarray, size: int) -> np.ndarray:
    """Return the upper Cholesky factor of the inverse of a damped covariance, with 1 for inputs that are padding."""
    if not np.isfinite(covariance).all():
        raise ValueError("the covariance of the inputs is not finite")
    damped = np.eye(size)
    count = len(covariance)
    damped[:count, :count] = covariance
    mean = float(np.mean(np.diag(covariance))) or 1.0
    damped[np.arange(count), np.arange(count)] += _DAMPING * mean
    inverse = np.linalg.inv(damped)
    return np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
