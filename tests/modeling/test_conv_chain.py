"""A chain of convolutions says what one it stands for, and becomes that; where there is none it says so."""

import pytest
import torch

from hfcompress.modeling.low_rank import chain_of

POINT = [1, 1, 1, 1, 0, 0, 1, 1]
CHAINS = {
    "one": [[6, 4, 3, 2, 2, 1, 1, 0, 2, 1, 1]],
    "between points": [[3, 4, *POINT, 1], [5, 3, 3, 3, 2, 2, 1, 1, 1, 1, 1], [6, 5, *POINT, 1]],
    "column and row": [[3, 4, 3, 1, 2, 1, 1, 0, 2, 1, 1], [6, 3, 1, 3, 1, 2, 0, 1, 1, 1, 1]],
    "channel by channel": [
        [5, 4, *POINT, 1], [5, 1, 3, 1, 2, 1, 1, 0, 1, 1, 5], [5, 1, 1, 3, 1, 2, 0, 1, 1, 1, 5], [6, 5, *POINT, 1],
    ],
    "groups": [[4, 2, *POINT, 2], [6, 2, 3, 3, 1, 1, 1, 1, 1, 1, 2]],
    "points with strides": [[3, 4, 1, 1, 2, 2, 0, 0, 1, 1, 1], [6, 3, 3, 3, 1, 1, 0, 0, 1, 1, 1]],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("bias", [True, False])
def test_it_becomes_the_one_that_computes_the_same(name, bias):
    torch.manual_seed(0)
    chain = chain_of(CHAINS[name], bias, dtype=torch.float64).train()
    values = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    dense = chain.dense()
    torch.testing.assert_close(dense(values), chain(values))
    for what in ("kernel_size", "stride", "padding", "dilation", "in_channels", "out_channels"):
        assert getattr(chain, what) == getattr(dense, what)
    assert dense.training
    assert (dense.bias is None) != bias


def test_its_window_by_hand():
    chain = chain_of(CHAINS["column and row"], bias=False)
    assert (chain.kernel_size, chain.stride, chain.padding, chain.dilation) == ((3, 3), (2, 2), (1, 1), (2, 1))


def test_its_weight_is_no_parameter_of_its_own():
    chain = chain_of(CHAINS["column and row"], bias=False, dtype=torch.float64)
    assert chain.weight.dtype == torch.float64
    assert not chain.weight.requires_grad
    assert [name for name, _ in chain.named_parameters()] == ["0.weight", "1.weight"]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([[3, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1], [6, 3, 3, 1, 1, 1, 0, 0, 1, 1, 1]], "reach along the same axis"),
        ([[3, 4, 1, 1, 2, 2, 0, 0, 1, 1, 1], [6, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1]], "padding stands between"),
    ],
)
def test_where_there_is_no_such_one_it_says_so(shapes, message):
    with pytest.raises(ValueError, match=message):
        chain_of(shapes, bias=False).dense()
