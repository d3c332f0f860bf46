"""Decompositions: equal to the matrix at full rank, best at every other, for what each of them minimises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.factorization.decompose import fisher_svd, for_outputs, is_low, losses_on_narrow_side, svd, svd_losses

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def drawn(seed, outputs, inputs, rows=40):
    """A matrix, inputs `(rows, inputs)` with a mean, and gradients `(rows, outputs)`."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    values = torch.randn(rows, inputs, generator=generator, dtype=torch.float64) @ mix + 3
    gradients = torch.randn(rows, outputs, generator=generator, dtype=torch.float64) ** 3
    return torch.randn(outputs, inputs, generator=generator, dtype=torch.float64), values, gradients


def moments(values):
    mean = values.mean(0)
    return mean, (values - mean).T @ (values - mean) / len(values)


def change(weight, found, values, gradient=None):
    """What factors change of the outputs on average, squared: seen through a gradient, or all alike."""
    bias = 0 if found.shift is None else found.shift
    outputs = values @ weight.T - (values @ found.down.T @ found.up.T + bias)
    outputs = outputs - outputs.mean(0) if found.shift is None else outputs
    root = torch.eye(len(weight), dtype=torch.float64)
    if gradient is not None:
        size, vectors = torch.linalg.eigh(gradient)
        root = (vectors * size.clamp(min=0).sqrt()) @ vectors.T / 2**0.5
    return float((outputs @ root).square().sum(1).mean())


@given(SHAPES, st.integers(0, 1000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_at_full_rank_it_is_the_matrix(shape, seed, weighted):
    weight, values, gradients = drawn(seed, *shape)
    mean, covariance = moments(values)
    gradient = gradients.T @ gradients / len(gradients) if weighted else None
    for found in (
        svd(weight),
        fisher_svd(weight, weight.square().sum(0) + 0.1),
        for_outputs(weight, covariance, mean, gradient),
    ):
        factors = found.factors(min(shape))
        assert torch.allclose(factors.up @ factors.down, weight, atol=1e-6)
        assert factors.shift is None or factors.shift.abs().max() < 1e-5


@given(SHAPES, st.integers(0, 1000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_it_says_is_lost_is_lost_and_falls_with_the_rank(shape, seed, weighted):
    weight, values, gradients = drawn(seed, *shape)
    mean, covariance = moments(values)
    gradient = gradients.T @ gradients / len(gradients) if weighted else None
    found = for_outputs(weight, covariance, mean, gradient)
    assert (found.losses.diff() <= 1e-9).all()
    assert found.losses[-1] == 0
    for rank in range(min(shape) + 1):
        lost = change(weight, found.factors(rank), values, gradient)
        assert lost == pytest.approx(float(found.losses[rank]), rel=1e-4, abs=1e-6 * float(found.losses[0]) + 1e-9)


@given(SHAPES, st.integers(0, 1000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_losses_without_the_vectors_are_the_same(shape, seed, weighted):
    weight, values, gradients = drawn(seed, *shape)
    _, covariance = moments(values)
    gradient = gradients.T @ gradients / len(gradients) if weighted else None
    whole = for_outputs(weight, covariance, gradient=gradient)
    if is_low(weight):
        found = losses_on_narrow_side(weight, weight @ covariance @ weight.T, gradient)
    else:
        found = losses_on_narrow_side(weight, covariance, weight.T @ gradient @ weight if weighted else None)
    torch.testing.assert_close(found, whole.losses, rtol=1e-6, atol=1e-7 * float(whole.losses[0]))
    information = values.square().mean(0)
    scale = float(weight.square().sum())
    torch.testing.assert_close(svd_losses(weight), svd(weight).losses, rtol=1e-6, atol=1e-9 * scale)
    seen = fisher_svd(weight, information).losses
    torch.testing.assert_close(svd_losses(weight, information), seen, rtol=1e-6, atol=1e-9 * float(seen[0]) + 1e-30)


@given(SHAPES, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_knowing_the_inputs_never_loses_more_than_plain_svd(shape, seed):
    weight, values, _ = drawn(seed, *shape)
    mean, covariance = moments(values)
    plain, aware = svd(weight), for_outputs(weight, covariance, mean)
    for rank in range(min(shape) + 1):
        ours, theirs = (change(weight, one.factors(rank), values) for one in (aware, plain))
        assert ours <= theirs * (1 + 1e-6) + 1e-7 * float(aware.losses[0])


def test_plain_svd_by_hand():
    found = svd(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    assert found.losses.tolist() == pytest.approx([25, 9, 0])
    factors = found.factors(1)
    assert torch.allclose(factors.up @ factors.down, torch.tensor([[0.0, 0.0], [0.0, 4.0]], dtype=torch.float64))
    assert float(factors.up.norm()) == pytest.approx(2)
    assert float(factors.down.norm()) == pytest.approx(2)


def test_fisher_information_turns_the_choice_around():
    """The loss sees 100 times as much of the first input's weights: they stay, though the others are larger."""
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    factors = fisher_svd(weight, torch.tensor([100.0, 1.0])).factors(1)
    assert torch.allclose(factors.up @ factors.down, torch.tensor([[3.0, 0.0], [0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_inputs_that_never_vary_cost_nothing(shape):
    """Where only one direction of the inputs varies, rank 1 is exact: the bias makes up for the rest."""
    torch.manual_seed(0)
    weight = torch.randn(*shape, dtype=torch.float64)
    values = 2 + torch.randn(50, 1, dtype=torch.float64) * torch.randn(1, shape[1], dtype=torch.float64)
    mean, covariance = moments(values)
    found = for_outputs(weight, covariance, mean)
    assert change(weight, found.factors(1), values) < 1e-12
    assert change(weight, svd(weight).factors(1), values) > 1e-3


def test_a_matrix_of_zeros_stays_one():
    for found in (svd(torch.zeros(3, 4)), fisher_svd(torch.zeros(3, 4), torch.zeros(4))):
        factors = found.factors(2)
        assert factors.up.isfinite().all()
        assert (factors.up @ factors.down == 0).all()
    factors = for_outputs(torch.zeros(3, 4), torch.zeros(4, 4), torch.zeros(4), torch.zeros(3, 3)).factors(2)
    assert (factors.up @ factors.down == 0).all()
    assert (factors.shift == 0).all()
