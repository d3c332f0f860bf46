"""Columns and rows: their sizes by hand, the nearest by singular values, and 1 × 1 as a matrix."""

import pytest
import torch

from hfcompress.factorization.kernels import ThinKernel
from hfcompress.factorization.spatial import SpatialKernel, _kernel
from tests.factorization.kernels_seen import drawn, seen_of, smooth


def kernel_of(plain):
    layer, values = drawn(stride=2), smooth()
    return layer, SpatialKernel(layer, seen_of(layer, values), plain)


@pytest.mark.parametrize("plain", [False, True])
def test_columns_go_down_and_rows_across(plain):
    _, kernel = kernel_of(plain)
    column, row = kernel.chain((5,))
    assert (column.weight.shape, column.stride, column.padding) == ((5, 6, 3, 1), (2, 1), (1, 0))
    assert (row.weight.shape, row.stride, row.padding) == ((8, 5, 1, 3), (1, 2), (0, 1))
    assert kernel.full == (18,)


def test_plain_they_are_the_nearest():
    layer, kernel = kernel_of(plain=True)
    weight = layer.weight.detach()
    sizes = torch.linalg.svdvals(weight.permute(1, 2, 0, 3).reshape(18, 24))
    for rank in (1, 7, 12):
        off = kernel.chain((rank,)).dense().weight - weight
        assert float(off.norm()) == pytest.approx(float(sizes[rank:].norm()), rel=1e-4)


def test_one_by_one_is_a_matrix():
    layer, values = drawn(kernel_size=1, padding=0), smooth()
    assert type(_kernel(layer, seen_of(layer, values), False)) is ThinKernel
