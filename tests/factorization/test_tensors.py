"""Kernels as chains: exact at full rank, optimal where a matrix decides, as near as tensorly's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.factorization.tensors import canonical, spatial, tucker

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))


def drawn(shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole(found):
    """The kernel that a chain stands for."""
    if hasattr(found, "core"):
        return torch.einsum("op,pqhw,qi->oihw", found.up, found.core, found.down)
    if hasattr(found, "up"):
        return torch.einsum("or,rh,rw,ri->oihw", found.up, found.column, found.row, found.down)
    return torch.einsum("orw,rih->oihw", found.row, found.column)


def error(found, kernel):
    return float((whole(found) - kernel).norm() / kernel.norm())


@given(SHAPES, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_at_full_rank_they_are_the_kernel(shape, seed):
    kernel = drawn(shape, seed)
    outputs, inputs, height, width = shape
    assert error(tucker(kernel, outputs, inputs), kernel) < 1e-6
    assert error(spatial(kernel, min(inputs * height, outputs * width)), kernel) < 1e-6


def test_a_kernel_of_few_products_is_found():
    sides = [drawn((size, 2), seed) for seed, size in enumerate((6, 5, 3, 3))]
    kernel = torch.einsum("or,ir,hr,wr->oihw", *sides)
    assert error(canonical(kernel, 2), kernel) < 1e-3
    found = canonical(kernel, 2)
    sizes = [found.up.norm(dim=0), found.down.norm(dim=1), found.column.norm(dim=1), found.row.norm(dim=1)]
    assert all(torch.allclose(size, sizes[0]) for size in sizes)


def test_columns_and_rows_are_the_best_there_are():
    kernel = drawn((6, 5, 3, 3))
    matrix = kernel.permute(1, 2, 0, 3).reshape(15, 18)
    sizes = torch.linalg.svdvals(matrix)
    for rank in (1, 4, 9):
        expected = float(sizes[rank:].square().sum().sqrt() / kernel.norm())
        assert error(spatial(kernel, rank), kernel) == pytest.approx(expected)


@pytest.mark.parametrize("ranks", [(2, 2), (4, 3), (6, 2)])
def test_tucker_is_as_near_as_tensorlys(ranks):
    tensorly = pytest.importorskip("tensorly")
    kernel = drawn((8, 6, 3, 3))
    (core, factors), _ = tensorly.decomposition.partial_tucker(kernel.numpy(), rank=ranks, modes=[0, 1])
    theirs = tensorly.tenalg.multi_mode_dot(core, factors, modes=[0, 1])
    theirs = np.linalg.norm(theirs - kernel.numpy()) / float(kernel.norm())
    assert error(tucker(kernel, *ranks), kernel) <= theirs * 1.001


def test_cp_is_as_near_as_tensorlys():
    tensorly = pytest.importorskip("tensorly")
    kernel = drawn((8, 6, 3, 3))
    theirs = tensorly.decomposition.parafac(kernel.numpy(), rank=6, n_iter_max=50, random_state=0)
    theirs = np.linalg.norm(tensorly.cp_to_tensor(theirs) - kernel.numpy()) / float(kernel.norm())
    assert error(canonical(kernel, 6), kernel) <= theirs * 1.02


def test_error_falls_with_the_rank():
    kernel = drawn((8, 6, 3, 3))
    for chain in (
        [tucker(kernel, n, n) for n in (1, 3, 6)],
        [spatial(kernel, n) for n in (1, 5, 12)],
        [canonical(kernel, n) for n in (1, 4, 12)],
    ):
        errors = [error(found, kernel) for found in chain]
        assert errors == sorted(errors, reverse=True)


def test_a_kernel_of_zeros_stays_one():
    kernel = torch.zeros(4, 3, 3, 3)
    for found in (tucker(kernel, 2, 2), spatial(kernel, 2), canonical(kernel, 2)):
        assert (whole(found) == 0).all()
