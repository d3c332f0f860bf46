"""Sums of products of vectors: sizes shared alike, the seed decides, one kernel of few products is found."""

import pytest
import torch

from hfcompress.factorization.cp import CanonicalKernel, _kernel
from hfcompress.factorization.kernels import ThinKernel
from tests.factorization.kernels_seen import drawn, seen_of, smooth


def kernel_of(plain=False, seed=0, weight=None):
    layer, values = drawn(), smooth()
    if weight is not None:
        layer.weight.data.copy_(weight)
    return layer, values, CanonicalKernel(layer, seen_of(layer, values), plain, seed)


@pytest.mark.parametrize("plain", [False, True])
def test_the_vectors_of_a_product_are_of_one_size(plain):
    *_, kernel = kernel_of(plain)
    down, column, row, up = (one.weight.detach() for one in kernel.chain((7,)))
    sizes = [down.flatten(1).norm(dim=1), column.flatten(1).norm(dim=1), row.flatten(1).norm(dim=1)]
    for size in sizes:
        torch.testing.assert_close(size, up.flatten(1).norm(dim=0), atol=1e-5, rtol=1e-4)


def test_a_kernel_of_few_products_is_found():
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(size, 2, generator=generator) for size in (8, 6, 3, 3)]
    layer, values, kernel = kernel_of(weight=torch.einsum("or,ir,hr,wr->oihw", *sides))
    torch.testing.assert_close(kernel.chain((2,))(values), layer(values), atol=5e-3, rtol=1e-2)
    assert kernel.loss((2,)) < 1e-4 * kernel.whole


def test_the_seed_decides():
    first, again, other = (kernel_of(seed=seed)[2].chain((5,))[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_no_rank_is_offered_that_would_not_be_smaller():
    layer, _, kernel = kernel_of()
    (full,) = kernel.full
    assert full == (8 * 6 * 9 - 1) // (8 + 6 + 3 + 3)
    assert sum(one.weight.numel() for one in kernel.chain((full,))) < layer.weight.numel()


def test_one_by_one_is_a_matrix():
    layer, values = drawn(kernel_size=1, padding=0), smooth()
    assert type(_kernel(layer, seen_of(layer, values), False)) is ThinKernel
