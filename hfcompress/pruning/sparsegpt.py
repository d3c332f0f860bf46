"""SparseGPT: weights are set to zero column by column, and those to their right make up for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt

from hfcompress.config import option
from hfcompress.modeling.linear import rows_of
from hfcompress.pruning.statistics import OneShot, prune_on_rows, smallest
from hfcompress.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.modeling.statistics import Moments


@dataclass
class SparseGPTConfig(OneShot):
    """Options of `sparsegpt`."""

    block_size: Annotated[int, Ge(1)] = option(128, help="inputs among which the weights to remove are chosen together")
    damping: Annotated[float, Gt(0)] = option(
        0.01, help="what is added to every input's mean square, as a share of their mean; grows where it must"
    )


@register("pruning", "sparsegpt", SparseGPTConfig)
def sparsegpt(model: PreTrainedModel, config: SparseGPTConfig, context: Context) -> PreTrainedModel:
    """Set weights to zero and let the others make up for it, so that each layer's outputs change least (one-shot).

    Frantar & Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", arXiv
    2301.00774, algorithm 1: with `H = X Xᵀ + damping` and `U` the upper Cholesky factor of `H⁻¹`, weight `w_j` of an
    output costs `(w_j / U_jj)²`; removing it adds `-(w_j / U_jj) U_j,j:` to the weights from j on. The zeros alone save
    neither time nor bytes.

    Args:
        model: The model; changed in place.
        config: What is pruned, and on how many rows.
        context: Gives the calibration rows; their labels are not used.

    Returns:
        The model. On the calibration rows no output is further from the dense one than without the changes of weights.

    Raises:
        RequestError: The filters match nothing, or the pattern does not fit a layer.
        ModelError: Weights or activations are NaN or infinite; the layer is named.
    """

    def prune(module: nn.Module, moments: Moments) -> None:
        rows = rows_of(module)
        for number, group in enumerate(rows):
            inputs = slice(number * group.shape[-1], (number + 1) * group.shape[-1])
            hessian = moments.second_moment[inputs, inputs].to(group.device)
            group.copy_(remove(group.double(), hessian, config))

    return prune_on_rows(model, config, context, prune, products=True)


def remove(dense: Tensor, hessian: Tensor, config: SparseGPTConfig) -> Tensor:
    """Return weights with zeros in them whose outputs are near those of the dense ones.

    Args:
        dense: `(outputs, inputs)` in float64; stays as it is.
        hessian: The inputs' second moment `(inputs, inputs)`.
        config: How many weights are removed, block size and damping.
    """
    factor = inverse_factor(hessian, config.damping)
    weights, removed = dense.clone(), torch.zeros_like(dense, dtype=torch.bool)
    for start, end in _blocks(dense.shape[1], config):
        errors = _remove_block(
            weights[:, start:end], removed[:, start:end], factor[start:end, start:end], config, start
        )
        weights[:, end:] -= errors @ factor[start:end, end:]
    return _better_rows(dense, weights, removed, hessian)


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """Return the upper triangular `U` with `UᵀU = (H + damping)⁻¹`; inputs that are always 0 get the damping alone.

    Args:
        hessian: `(inputs, inputs)`.
        damping: As a share of the mean of the diagonal; ten times as much until the matrix can be factorized.
    """
    mean = hessian.diagonal().mean().clamp_min(torch.finfo(hessian.dtype).tiny)
    eye = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    while True:
        # Factorized from its last column on, H = VVᵀ with V upper triangular, so that U = V⁻¹ needs no inverse of H.
        factor, failed = torch.linalg.cholesky_ex((hessian / mean + damping * eye).flip(0, 1))
        if not failed:
            return torch.linalg.solve_triangular(factor.flip(0, 1), eye, upper=True) / mean.sqrt()
        damping *= 10


def _blocks(inputs: int, config: SparseGPTConfig) -> list[tuple[int, int]]:
    """Divide the inputs into blocks; none cuts through an M of the pattern."""
    of = config.kept_of[1] if config.kept_of else 1
    size = max(of, config.block_size // of * of)
    return [(start, min(start + size, inputs)) for start in range(0, inputs, size)]


def _remove_block(weights: Tensor, removed: Tensor, factor: Tensor, config: SparseGPTConfig, start: int) -> Tensor:
    """Remove weights of one block of inputs, in place, each on behalf of those to its right.

    Args:
        weights: `(outputs, block)`.
        removed: Is filled with what was removed, likewise.
        factor: The block's part of the inverse's factor, `(block, block)`.
        config: How many weights are removed.
        start: How many inputs stand before the block; the numbers removed up to its end add up to the sparsity.

    Returns:
        What each removal cost, as a multiple of its row of the factor, `(outputs, block)`.
    """
    outputs, width = weights.shape
    scale = factor.diagonal()
    if config.kept_of is None:
        before, after = (round((config.sparsity or 0) * outputs * end) for end in (start, start + width))
        removed.copy_(smallest((weights / scale).square().flatten(), after - before).view_as(removed))
    errors = torch.zeros_like(weights)
    for column in range(width):
        if config.kept_of is not None and column % config.kept_of[1] == 0:
            kept, of = config.kept_of
            among = slice(column, column + of)
            removed[:, among] = smallest((weights[:, among] / scale[among]).square(), of - kept)
        gone = removed[:, column]
        errors[:, column] = weights[:, column].where(gone, 0) / scale[column]
        weights[:, column:] -= torch.outer(errors[:, column], factor[column, column:])
        weights[:, column].masked_fill_(gone, 0)
    return errors


def _better_rows(dense: Tensor, updated: Tensor, removed: Tensor, hessian: Tensor) -> Tensor:
    """Return the updated weights, or the dense ones with zeros in them in rows where these come nearer.

    A removal is made up for as if nothing to its right were removed later, which now and then does harm.
    """

    def errors(weights: Tensor) -> Tensor:
        change = dense - weights
        return (change @ hessian * change).sum(dim=1, keepdim=True)

    plain = dense.masked_fill(removed, 0)
    return torch.where(errors(updated) <= errors(plain), updated, plain)
