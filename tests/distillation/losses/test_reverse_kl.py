"""Reverse KL: values and gradients by hand."""

from math import log

import pytest
import torch

from tests.distillation.losses.support import build, logits, random_signals

SKEWED, FLAT = (log(3), 0.0), (0.0, 0.0)  # (3/4, 1/4) and (1/2, 1/2)
DIVERGENCE = 1 / 2 * log(2 / 3) + 1 / 2 * log(2)


def test_equals_the_value_by_hand():
    value = build("reverse_kl", temperature=1.0)(logits(FLAT, SKEWED), logits(SKEWED, SKEWED))
    assert value.tolist() == pytest.approx([DIVERGENCE, 0.0])


def test_divides_logits_by_the_temperature_and_multiplies_by_its_square():
    softened = tuple(3 * value for value in SKEWED)
    assert build("reverse_kl", temperature=3.0)(logits(FLAT), logits(softened)).item() == pytest.approx(9 * DIVERGENCE)


def test_is_forward_kl_with_the_roles_exchanged():
    one, other = random_signals(1), random_signals(2)
    torch.testing.assert_close(build("reverse_kl")(one, other), build("kl")(other, one))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_gradient_agrees_with_the_formula(temperature):
    """The derivative of Σ q log(q/p) by the logit z_i is q_i · (log(q_i/p_i) − KL) / T."""
    student, teacher = random_signals(3), random_signals(4)
    student.logits.requires_grad_()
    build("reverse_kl", temperature=temperature)(student, teacher).sum().backward()
    q, p = (torch.softmax(signals.logits / temperature, -1) for signals in (student, teacher))
    ratio = (q / p).log()
    expected = temperature * q * (ratio - (q * ratio).sum(-1, keepdim=True))
    torch.testing.assert_close(student.logits.grad, expected)
