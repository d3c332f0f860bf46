"""Kernels at every rank: exact at the full one, what they lose is what is measured, data help and never harm."""

import pytest
import torch

from hfcompress.factorization.cp import CanonicalKernel
from hfcompress.factorization.kernels import ThinKernel, directions, is_point, multiples, spread
from hfcompress.factorization.spatial import SpatialKernel
from hfcompress.factorization.tucker import PlainTuckerKernel, TuckerKernel
from tests.factorization.kernels_seen import drawn, gradient_of, measured_loss, seen_of, smooth

KERNELS = {
    "channel": (ThinKernel, lambda *of: ThinKernel(*of, plain=True)),
    "spatial": (lambda *of: SpatialKernel(*of, plain=False), lambda *of: SpatialKernel(*of, plain=True)),
    "tucker": (TuckerKernel, PlainTuckerKernel),
    "cp": (lambda *of: CanonicalKernel(*of, plain=False), lambda *of: CanonicalKernel(*of, plain=True)),
}
LAYERS = {
    "more outputs": {"outputs": 9, "inputs": 6},
    "more inputs": {"outputs": 5, "inputs": 6},
    "stride": {"stride": 2},
    "unlike sides": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 1), "dilation": (2, 1)},
    "few outputs": {"outputs": 2, "inputs": 6, "kernel_size": (1, 2), "padding": 0},
}
every_kernel = pytest.mark.parametrize("name", KERNELS)
every_layer = pytest.mark.parametrize("form", LAYERS)


def kernels(name, form, seed=0):
    """Of one convolution the kernel that knows the data, and the plain one; with images and a gradient."""
    layer, values = drawn(seed=seed, **LAYERS[form]), smooth(seed=seed)
    gradient = gradient_of(layer.out_channels)
    seen = seen_of(layer, values, gradient)
    return layer, values, gradient, *(make(layer, seen) for make in KERNELS[name])


def steps(kernel):
    """Ranks from small to full."""
    count = max(kernel.full)
    return [tuple(max(1, -(-full * step // count)) for full in kernel.full) for step in range(1, count + 1)]


@every_layer
@pytest.mark.parametrize("name", [name for name in KERNELS if name != "cp"])
def test_at_full_rank_it_is_the_convolution(name, form):
    layer, values, _, *both = kernels(name, form)
    for kernel in both:
        chain = kernel.chain(kernel.full)
        torch.testing.assert_close(chain(values), layer(values), atol=1e-5, rtol=1e-5)
        assert kernel.loss(kernel.full) < 1e-9 * kernel.whole


@every_layer
@every_kernel
def test_what_it_loses_is_what_is_measured(name, form):
    layer, values, gradient, *both = kernels(name, form)
    for kernel in both:
        ranks = steps(kernel)[len(steps(kernel)) // 2]
        expected = measured_loss(layer, kernel.chain(ranks), values, gradient)
        assert kernel.loss(ranks) == pytest.approx(expected, rel=0.03, abs=1e-6 * kernel.whole)


@every_layer
@every_kernel
def test_less_is_lost_with_more_rank(name, form):
    kernel = kernels(name, form)[3]
    ranks = steps(kernel)[:: 4 if name == "cp" else 1]
    losses = [kernel.whole, *(kernel.loss(one) for one in ranks)]
    slack = 0.05 if name == "cp" else 1e-3  # least squares begin at random, regressions shrink a little
    assert all(after <= before + slack * kernel.whole for before, after in zip(losses, losses[1:], strict=False))
    assert losses[-1] < 0.5 * losses[0]


@every_layer
@every_kernel
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_what_it_knows_it_loses_no_more_than_the_nearest_kernel(name, form, seed):
    *_, aware, plain = kernels(name, form, seed)
    for ranks in steps(aware)[:: 4 if name == "cp" else 2]:
        assert aware.loss(ranks) <= plain.loss(ranks) + 1e-4 * aware.whole, ranks


@every_kernel
def test_its_shapes_are_those_of_its_chain(name):
    for kernel in kernels(name, "unlike sides")[3:]:
        for ranks in kernel.grid(2):
            if sum(map(lambda shape: shape[0], kernel.shapes(ranks))) < 40:
                assert kernel.shapes(ranks) == kernel.chain(ranks).shapes()


def test_multiples_end_with_the_full_rank():
    assert multiples(20, 8) == [8, 16, 20]
    assert multiples(3, 8) == [3]
    assert spread(200, 8) == [8, 16, 40, 64, 88, 120, 160, 200]
    assert spread(16, 8) == [8, 16]
    assert spread(3, 8) == [3]


def test_directions_are_orthonormal_and_begin_with_those_that_are_read():
    layer, values = drawn(), smooth()
    with torch.no_grad():
        layer.weight[:, 2:] = 0
    weight = layer.weight.detach().double().flatten(2)
    found = directions(weight, seen_of(layer, values).covariance, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(found @ found.T, torch.eye(len(found), dtype=torch.float64), atol=1e-8, rtol=0)
    reading = torch.einsum("oit,qi->oqt", weight, found[:2])
    assert float(reading.norm()) == pytest.approx(float(weight.norm()), rel=1e-3)


def test_a_point_is_one_wide():
    assert is_point(drawn(kernel_size=1, padding=0))
    assert not is_point(drawn(kernel_size=(1, 3), padding=0))
