"""Chains of convolutions compute what the one computed, at full rank, with any stride, padding and dilation."""

import pytest
import torch
from torch import nn

from hfcompress.factorization.chains import canonical_chain, channel_chain, spatial_chain, tucker_chain
from hfcompress.factorization.decompose import svd
from hfcompress.factorization.tensors import canonical, spatial, tucker
from hfcompress.modeling.low_rank import chain_of

MAKE = {
    "tucker": lambda layer: tucker_chain(layer, tucker(layer.weight.detach(), 6, 4)),
    "spatial": lambda layer: spatial_chain(layer, spatial(layer.weight.detach(), 12)),
    "channel": lambda layer: channel_chain(layer, svd(layer.weight.detach().flatten(1)).factors(6)),
}
LAYERS = {
    "plain": {"kernel_size": 3},
    "stride and padding": {"kernel_size": 3, "stride": 2, "padding": 1},
    "unlike sides": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 1), "dilation": (2, 1)},
    "same": {"kernel_size": 3, "padding": "same"},
    "no bias": {"kernel_size": 3, "padding": 1, "bias": False},
}


def layer_of(name):
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, **LAYERS[name]).double()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", MAKE)
def test_at_full_rank_it_gives_the_same(kind, name):
    layer = layer_of(name)
    values = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    chain = MAKE[kind](layer)
    torch.testing.assert_close(chain(values), layer(values), atol=1e-6, rtol=1e-6)
    assert (chain.in_channels, chain.out_channels) == (4, 6)
    assert (chain.bias is None) == (layer.bias is None)


@pytest.mark.parametrize("name", LAYERS)
def test_products_of_vectors_give_what_their_kernel_gives(name):
    layer = layer_of(name)
    found = canonical(layer.weight.detach(), 5)
    kernel = torch.einsum("or,rh,rw,ri->oihw", found.up, found.column, found.row, found.down)
    values = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    chain = canonical_chain(layer, found)
    with torch.no_grad():
        layer.weight.copy_(kernel)
    torch.testing.assert_close(chain(values), layer(values), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", MAKE)
def test_its_shapes_build_it_again(kind):
    chain = MAKE[kind](layer_of("unlike sides"))
    again = chain_of(chain.shapes(), bias=True, dtype=torch.float64)
    again.load_state_dict(chain.state_dict())
    values = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    assert torch.equal(again(values), chain(values))


@pytest.mark.parametrize("shapes", [[], [[1] * 10], [[2, 1, *[1] * 8, 1], [2, 3, *[1] * 8, 1]], [[0, *[1] * 10]]])
def test_shapes_of_no_chain_are_refused(shapes):
    with pytest.raises(ValueError, match="convolution|unpack"):
        chain_of(shapes, bias=False)
