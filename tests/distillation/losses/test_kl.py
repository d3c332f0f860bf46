"""Forward KL: values and gradients by hand, and what the temperature does."""

from dataclasses import replace
from math import log

import pytest
import torch

from tests.distillation.losses.support import build, logits, random_signals

# softmax(log 3, 0) is (3/4, 1/4), softmax(0, 0) is (1/2, 1/2).
SKEWED, FLAT = (log(3), 0.0), (0.0, 0.0)
DIVERGENCE = 3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)


def test_equals_the_value_by_hand():
    value = build("kl", temperature=1.0)(logits(FLAT, SKEWED), logits(SKEWED, SKEWED))
    assert value.tolist() == pytest.approx([DIVERGENCE, 0.0])


def test_divides_logits_by_the_temperature_and_multiplies_by_its_square():
    softened = tuple(3 * value for value in SKEWED)
    assert build("kl", temperature=3.0)(logits(FLAT), logits(softened)).item() == pytest.approx(9 * DIVERGENCE)


def test_a_constant_added_to_all_logits_changes_nothing():
    student, teacher = logits((1.0, 2.0, 0.5)), logits((0.0, 1.0, -1.0))
    shifted = build("kl")(logits((8.0, 9.0, 7.5)), logits((-3.0, -2.0, -4.0)))
    torch.testing.assert_close(shifted, build("kl")(student, teacher))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_gradient_is_temperature_times_the_difference_of_probabilities(temperature):
    student, teacher = random_signals(1), random_signals(2)
    student.logits.requires_grad_()
    build("kl", temperature=temperature)(student, teacher).sum().backward()
    p, q = (torch.softmax(signals.logits / temperature, -1) for signals in (teacher, student))
    torch.testing.assert_close(student.logits.grad, temperature * (q - p))


def test_gradient_at_high_temperature_is_the_difference_of_centred_logits_over_the_classes():
    student = logits((3.0, 0.0, -3.0), requires_grad=True)
    build("kl", temperature=1e4)(student, logits((1.0, 1.0, -2.0))).sum().backward()
    torch.testing.assert_close(student.logits.grad, torch.tensor([[2.0, -1.0, -1.0]]).double() / 3, rtol=1e-3, atol=0)


def test_a_certain_teacher_makes_it_the_cross_entropy():
    student = random_signals(3)
    certain = torch.nn.functional.one_hot(torch.tensor([0, 2, 1]), 3) * 1e4
    value = build("kl", temperature=1.0)(student, logits(*certain.tolist()))
    expected = torch.nn.functional.cross_entropy(student.logits, torch.tensor([0, 2, 1]), reduction="none")
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd", "dkd"])
def test_several_teachers_are_one_whose_probabilities_are_their_weighted_mean(name):
    one, other = log(3), -log(3)  # (3/4, 1/4) and (1/4, 3/4), of weights 1/4 and 3/4: 3/8 against 5/8
    both = tuple((weight, torch.tensor([[2 * z, 0.0]]).double()) for weight, z in ((0.25, one), (0.75, other)))
    student = random_signals(4, rows=1)
    student = logits(student.logits[0, :2].tolist())
    mean = logits((2 * log(3 / 5), 0.0))
    value = build(name, temperature=2.0)(student, replace(logits((9e9, 0.0)), members=both))
    torch.testing.assert_close(value, build(name, temperature=2.0)(student, mean), rtol=1e-6, atol=1e-9)
