"""Fewer outputs, then 1 × 1: the optimum of each rank; strides stay with the first, and 1 × 1 becomes two of them."""

import pytest
import torch

from hfcompress.factorization.kernels import ThinKernel
from tests.factorization.kernels_seen import drawn, gradient_of, measured_loss, seen_of, smooth


@pytest.mark.parametrize("options", [{}, {"kernel_size": 1, "padding": 0, "stride": 2}])
def test_the_first_has_the_window(options):
    layer, values = drawn(**options), smooth()
    first, second = ThinKernel(layer, seen_of(layer, values)).chain((3,))
    assert first.weight.shape == (3, *layer.weight.shape[1:])
    assert (first.stride, first.padding) == (layer.stride, layer.padding)
    assert second.weight.shape == (8, 3, 1, 1)
    assert (second.stride, second.bias is None, first.bias is None) == ((1, 1), False, True)


@pytest.mark.parametrize("seed", range(3))
def test_no_other_matrix_of_its_rank_loses_less(seed):
    layer, values = drawn(seed=seed, kernel_size=1, padding=0), smooth(seed=seed)
    gradient = gradient_of(8)
    seen = seen_of(layer, values, gradient)
    best = ThinKernel(layer, seen)
    generator = torch.Generator().manual_seed(seed)
    for rank in (1, 2, 4):
        chain = best.chain((rank,))
        least = measured_loss(layer, chain, values, gradient)
        assert best.loss((rank,)) == pytest.approx(least, rel=1e-3)
        for _ in range(5):
            for one in chain:
                one.weight.data.add_(0.02 * torch.randn(one.weight.shape, generator=generator))
            assert measured_loss(layer, chain, values, gradient) > least


def test_plain_it_is_the_nearest():
    layer, values = drawn(), smooth()
    sizes = torch.linalg.svdvals(layer.weight.detach().flatten(1))
    off = ThinKernel(layer, seen_of(layer, values), plain=True).chain((5,)).dense().weight - layer.weight
    assert float(off.norm()) == pytest.approx(float(sizes[5:].norm()), rel=1e-4)
