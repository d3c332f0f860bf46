"""Blocks of 4 bits: every weight within half a step, zeros kept, GPTQ nearer to what the inputs ask for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hfcompress.quantization.blocks import LEVELS, gptq, pack, round_to_blocks
from tests.quantization.graphs import array

MATRICES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=st.floats(-1e4, 1e4, width=32)
)


@given(MATRICES, st.sampled_from([16, 32]))
def test_weights_come_back_within_half_a_step_and_zeros_stay_zero(weight, block_size):
    blocks = round_to_blocks(weight, block_size)
    found = blocks.weight()
    step = np.repeat(blocks.scale.astype(np.float32), block_size, axis=1)[:, : weight.shape[1]]
    assert found.shape == weight.shape
    assert (np.abs(found - weight) <= step * 0.502).all()
    assert (found[weight == 0] == 0).all()
    assert blocks.codes.max() <= LEVELS
    assert blocks.zero.max() <= LEVELS


@given(MATRICES)
def test_fitted_scales_never_have_a_larger_error(weight):
    plain, fitted = round_to_blocks(weight, 16), round_to_blocks(weight, 16, hqq=True)
    one, other = (((blocks.weight() - weight).astype(np.float64) ** 2).sum() for blocks in (plain, fitted))
    assert other <= one * (1 + 1e-5) + 1e-12
    assert np.isfinite(fitted.scale).all()


def test_fitted_scales_win_on_weights_with_outliers():
    weight = np.random.default_rng(0).standard_t(3, (64, 128)).astype(np.float32)
    one, other = (((round_to_blocks(weight, 32, hqq).weight() - weight) ** 2).mean() for hqq in (False, True))
    assert other < 0.97 * one


def test_weights_on_the_grid_are_exact():
    weight = (np.arange(32, dtype=np.float32) % 16 - 4)[None] * 0.25
    np.testing.assert_array_equal(round_to_blocks(weight, 16).weight(), weight)


def test_a_scale_too_large_for_half_precision_is_kept_in_float():
    weight = np.full((2, 16), 3e9, np.float32)
    blocks = round_to_blocks(weight, 16)
    assert blocks.scale.dtype == np.float32
    np.testing.assert_allclose(blocks.weight(), weight, rtol=1e-6)


def test_two_codes_share_a_byte():
    assert pack(np.array([[1, 2], [15, 0]], np.uint8)).tolist() == [[0x21], [0x0F]]


def test_gptq_errs_less_on_the_inputs_it_was_shown_and_padding_is_nothing():
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 40)) + 0.1 * rng.normal(size=(400, 40))
    weight = array(24, 40)
    plain = round_to_blocks(weight, 16)
    found = gptq(weight, 16, (inputs.T @ inputs).astype(np.float32))
    one, other = (np.square(inputs @ (blocks.weight() - weight).T).mean() for blocks in (plain, found))
    assert other < 0.5 * one
    assert found.codes.shape == (24, 48)


def test_gptq_with_inputs_that_do_not_hang_together_is_plain_rounding():
    weight = array(8, 32)
    np.testing.assert_array_equal(gptq(weight, 16, np.eye(32)).codes, round_to_blocks(weight, 16).codes)


def test_a_covariance_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        gptq(array(4, 16), 16, np.full((16, 16), np.nan))


def test_inputs_that_never_carry_anything_are_borne():
    assert np.isfinite(gptq(array(4, 16), 16, np.zeros((16, 16))).weight()).all()
