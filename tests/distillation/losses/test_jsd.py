"""Generalised Jensen–Shannon divergence: a value by hand, its end points and limits."""

from math import log

import pytest
import torch

from tests.distillation.losses.support import build, logits, random_signals

SKEWED, FLAT = (log(3), 0.0), (0.0, 0.0)  # (3/4, 1/4) and (1/2, 1/2)


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        # The mixture is (5/8, 3/8).
        (0.5, (3 / 4 * log(6 / 5) + 1 / 4 * log(2 / 3)) / 2 + (1 / 2 * log(4 / 5) + 1 / 2 * log(4 / 3)) / 2),
        # The mixture is (9/16, 7/16).
        (0.25, (3 / 4 * log(4 / 3) + 1 / 4 * log(4 / 7)) / 4 + (1 / 2 * log(8 / 9) + 1 / 2 * log(8 / 7)) * 3 / 4),
    ],
)
def test_equals_the_value_by_hand(beta, expected):
    assert build("jsd", temperature=1.0, beta=beta)(logits(FLAT), logits(SKEWED)).item() == pytest.approx(expected)


def test_divides_logits_by_the_temperature_and_multiplies_by_its_square():
    softened = tuple(3 * value for value in SKEWED)
    warm, cold = build("jsd", temperature=3.0), build("jsd", temperature=1.0)
    torch.testing.assert_close(warm(logits(FLAT), logits(softened)), 9 * cold(logits(FLAT), logits(SKEWED)))


@pytest.mark.parametrize(("beta", "name"), [(0.0, "kl"), (1.0, "reverse_kl")])
def test_end_points_are_the_two_divergences_not_zero(beta, name):
    student, teacher = random_signals(1), random_signals(2)
    value = build("jsd", beta=beta)(student, teacher)
    assert value.max() > 0.1
    torch.testing.assert_close(value, build(name)(student, teacher))


@pytest.mark.parametrize(("beta", "share", "name"), [(1e-6, 1e-6, "kl"), (1 - 1e-6, 1e-6, "reverse_kl")])
def test_near_an_end_point_it_is_that_share_of_the_divergence(beta, share, name):
    student, teacher = random_signals(3), random_signals(4)
    value = build("jsd", beta=beta)(student, teacher) / share
    torch.testing.assert_close(value, build(name)(student, teacher), rtol=1e-4, atol=0)


def test_halfway_it_is_symmetric():
    one, other = random_signals(5), random_signals(6)
    torch.testing.assert_close(build("jsd")(one, other), build("jsd")(other, one))


def test_halfway_it_is_log_two_for_predictions_that_share_nothing():
    value = build("jsd", temperature=1.0)(logits((1e4, 0.0)), logits((0.0, 1e4)))
    assert value.item() == pytest.approx(log(2))
