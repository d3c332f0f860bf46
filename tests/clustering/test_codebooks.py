"""Codebooks of weights: few values, zeros that stay, exact outliers, groups of rows."""

import pytest
import torch

from hfcompress.clustering.codebooks import Sharing, share


def matrix(rows=24, columns=20, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_a_codebook_by_hand():
    weight = torch.tensor([[0.0, 1.0, 3.0], [10.0, 0.0, 12.0]])
    book = share(weight, Sharing(2))
    assert book.values.tolist() == [0.0, 2.0, 11.0]
    assert book.places.tolist() == [[0, 1, 1], [2, 0, 2]]
    assert book.weight().tolist() == [[0.0, 2.0, 2.0], [11.0, 0.0, 11.0]]


def test_information_decides_where_the_values_lie():
    weight = torch.tensor([[0.0, 1.0, 3.0], [10.0, 0.0, 12.0]])
    information = torch.tensor([[1.0, 3.0, 1.0], [1.0, 1.0, 0.5]])
    assert share(weight, Sharing(2), information).values.tolist() == pytest.approx([0, 1.5, 32 / 3])


@pytest.mark.parametrize("clusters", [2, 7, 256])
def test_no_more_values_than_clusters_and_zero(clusters):
    weight = matrix(64, 64)
    weight[torch.rand(64, 64) < 0.5] = 0
    shared = share(weight, Sharing(clusters)).weight()
    assert torch.equal(shared == 0, weight == 0)
    assert len(shared.unique()) == clusters + 1


def test_as_few_values_as_clusters_stay():
    weight = matrix()[:2, :4].repeat(5, 5)
    assert torch.equal(share(weight, Sharing(8)).weight(), weight)
    assert torch.equal(share(torch.zeros(9, 9), Sharing(8)).weight(), torch.zeros(9, 9))


def test_outliers_stay_exact():
    weight = matrix()
    book = share(weight, Sharing(4, outliers=0.1))
    largest = weight.abs().flatten().topk(48).indices.sort().values
    assert torch.equal(book.exact, largest)
    assert torch.equal(book.weight().flatten()[largest], weight.flatten()[largest])
    rest = book.weight().flatten()[~torch.isin(torch.arange(480), largest)]
    assert len(rest.unique()) == 4


def test_zeros_are_no_outliers():
    weight = torch.zeros(20, 20)
    weight[0, :3] = torch.tensor([1.0, 2.0, 3.0])
    assert share(weight, Sharing(2, outliers=0.1)).exact.tolist() == [0, 1, 2]


@pytest.mark.parametrize("groups", [1, 3, 5, 24, 100])
def test_each_group_of_rows_has_values_of_its_own(groups):
    weight = matrix()
    shared = share(weight, Sharing(4, groups=groups)).weight()
    step = -(-24 // groups)
    parts = zip(shared.split(step), weight.split(step), strict=True)
    assert all(torch.equal(part, share(whole, Sharing(4)).weight()) for part, whole in parts)
    assert all(len(part.unique()) == 4 for part in shared.split(step))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_and_shapes_stay(dtype):
    weight = matrix().reshape(6, 4, 5, 4).to(dtype)
    shared = share(weight, Sharing(8, groups=2, outliers=0.01)).weight()
    assert (shared.dtype, shared.shape) == (dtype, weight.shape)


def test_weights_that_do_not_lie_in_order_are_shared_alike():
    weight = matrix()
    assert torch.equal(share(weight.T, Sharing(8)).weight(), share(weight.T.contiguous(), Sharing(8)).weight())
