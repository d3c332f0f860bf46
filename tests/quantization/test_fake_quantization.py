"""Rounding while training: hand-computed numbers, gradients, and the grid that the exporter writes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.quantization.fake_quantization import ActivationRange, round_weight
from hfcompress.quantization.rewriter import LARGEST, LARGEST_IN_PRODUCT, quantize_weight
from hfcompress.quantization.static import activation_grid


def observed(low, high, learned=False):
    found = ActivationRange(learned, momentum=0.9)
    found.observe(torch.tensor([low, high]))
    return found


def test_a_weight_by_hand():
    weight = torch.tensor([[1.0, -0.51], [0.0, 0.0], [64.0, 1.4]])
    assert round_weight(weight).tolist() == [[1.0, -0.515625], [0.0, 0.0], [64.0, 1.0]]


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_weights_lie_within_half_a_step_and_are_what_the_exporter_writes(seed, in_product):
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) ** 3
    largest = LARGEST_IN_PRODUCT if in_product else LARGEST
    rounded = round_weight(weight, in_product)
    step = weight.abs().amax(dim=1, keepdim=True) / largest
    assert ((rounded - weight).abs() <= 0.5001 * step).all()
    codes, scale = quantize_weight(weight.numpy(), 0, largest)
    np.testing.assert_allclose(rounded.numpy(), codes * scale[:, None], rtol=1e-6)
    again, _ = quantize_weight(rounded.numpy(), 0, largest)
    assert np.array_equal(again, codes)  # a weight on its grid stays there


def test_gradients_pass_through_the_rounding_of_weights():
    weight = torch.randn(3, 4, requires_grad=True)
    (round_weight(weight) * torch.arange(4.0)).sum().backward()
    assert torch.equal(weight.grad, torch.arange(4.0).expand(3, 4))


@given(st.floats(-50, 50), st.floats(-50, 50), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_activations_take_the_values_of_the_exported_grid(one, other, seed):
    found = observed(min(one, other), max(one, other))
    low, high = float(found.low), float(found.high)
    values = 20 * torch.randn(50, generator=torch.Generator().manual_seed(seed))
    scale, zero = activation_grid(low, high)
    codes = np.clip(np.rint(values.numpy() / scale) + zero, 0, 255)
    tie = np.abs(np.abs(values.numpy() / scale % 1) - 0.5) < 1e-3
    expected = (codes - zero) * scale
    np.testing.assert_allclose(
        found(values).numpy()[~tie], expected[~tie], rtol=1e-4, atol=1e-5 * max(high - low, 1e-9)
    )


def test_ranges_are_moving_averages_that_hold_0():
    found = observed(1.0, 3.0)
    assert (float(found.low), float(found.high)) == (0.0, 3.0)
    found.observe(torch.tensor([-1.0, 2.0]))
    assert float(found.low) == pytest.approx(-0.1)
    assert float(found.high) == pytest.approx(0.9 * 3 + 0.1 * 2)


def test_learned_ranges_have_the_gradient_of_learned_step_sizes():
    """With low at 0 the step is high / 255: inside it is (round(x / s) - x / s) / 255, above the range 1."""
    found = observed(0.0, 2.55, learned=True)
    values = torch.tensor([0.013, 5.0], requires_grad=True)
    rounded = found(values, learn=True)
    assert rounded.tolist() == pytest.approx([0.01, 2.55])
    rounded.sum().backward()
    share = 1 / (2 * 255) ** 0.5
    assert float(found.high.grad) == pytest.approx(share * ((1 - 1.3) / 255 + 1), rel=1e-3)
    assert values.grad.tolist() == [1.0, 0.0]
