"""Tucker-2: a full side has no 1 × 1 of its own, pairs of ranks by what they lose, as near as tensorly when plain."""

import pytest
import torch

from hfcompress.factorization.kernels import ThinKernel
from hfcompress.factorization.tucker import PlainTuckerKernel, TuckerKernel, _kernel
from tests.factorization.kernels_seen import drawn, seen_of, smooth


def kernel_of(kind=TuckerKernel, **options):
    layer, values = drawn(**options), smooth()
    return layer, values, kind(layer, seen_of(layer, values))


@pytest.mark.parametrize(
    ("ranks", "sizes"),
    [((5, 4), [(4, 6), (5, 4), (8, 5)]), ((5, 6), [(5, 6), (8, 5)]), ((8, 4), [(4, 6), (8, 4)]), ((8, 6), [(8, 6)])],
)
@pytest.mark.parametrize("kind", [TuckerKernel, PlainTuckerKernel])
def test_a_full_side_has_no_layer_of_its_own(kind, ranks, sizes):
    layer, values, kernel = kernel_of(kind)
    chain = kernel.chain(ranks)
    assert [(one.out_channels, one.in_channels) for one in chain] == sizes
    assert kernel.shapes(ranks) == chain.shapes()
    if ranks == (8, 6):
        torch.testing.assert_close(chain(values), layer(values), atol=1e-5, rtol=1e-5)


def test_with_all_inputs_it_is_the_best_of_its_rank():
    layer, _, kernel = kernel_of()
    thin = ThinKernel(layer, kernel.seen)
    for rank in (2, 4, 6):
        assert kernel.loss((rank, 6)) == pytest.approx(thin.loss((rank,)), rel=1e-3)


def test_plain_it_is_as_near_as_tensorlys():
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import partial_tucker

    layer, _, kernel = kernel_of(PlainTuckerKernel)
    weight = layer.weight.detach().double()
    (core, (up, down)), _ = partial_tucker(weight.numpy(), rank=[4, 3], modes=[0, 1], random_state=0)
    expected = torch.from_numpy(tensorly.tenalg.multi_mode_dot(core, [up, down], modes=[0, 1]))
    found = kernel.chain((4, 3)).dense().weight.detach().double()
    assert float((found - weight).norm()) <= float((expected - weight).norm()) * 1.001


def test_pairs_that_the_other_side_cannot_tell_apart_are_not_offered():
    _, _, kernel = kernel_of(inputs=6, outputs=8, kernel_size=(1, 2), padding=0)
    assert all(outputs <= 2 * inputs for outputs, inputs in kernel.grid(2))
    assert {inputs for _, inputs in kernel.grid(2)} == {2, 4, 6}


def test_plain_ranks_are_the_same_share_of_both_sides():
    _, _, kernel = kernel_of(PlainTuckerKernel)
    assert kernel.grid(2) == [(2, 2), (4, 2), (6, 4), (8, 6)]


def test_one_by_one_is_a_matrix():
    layer, values = drawn(kernel_size=1, padding=0), smooth()
    assert type(_kernel(layer, seen_of(layer, values), False)) is ThinKernel
