"""Mean squared error on attention probabilities: values by hand."""

from dataclasses import replace

import pytest
import torch

from hfcompress.training.signals import Signals
from tests.distillation.losses.support import build, random_signals

# One text of two tokens and a padded position, two heads: at each token, where the heads look.
MASK = torch.tensor([[True, True, False]])
OURS = [[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [9.0, 9.0, 9.0]], [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [9.0, 9.0, 9.0]]]
THEIRS = [[[0.75, 0.25, 5.0], [0.0, 1.0, 5.0], [0.0, 0.0, 0.0]], [[1.0, 0.0, 5.0], [0.75, 0.25, 5.0], [0.0, 0.0, 0.0]]]


def looking(*layers):
    return Signals(attentions=tuple(torch.tensor([heads], dtype=torch.float64) for heads in layers), mask=MASK)


def test_is_the_mean_over_heads_and_real_keys_at_each_token():
    value = build("attention_mse", (1, 4), (1, 4))(looking(OURS), looking(THEIRS))
    first = (2 * 0.25**2 / 2 + 0) / 2
    second = (2 * 1.0**2 / 2 + 2 * 0.5**2 / 2) / 2
    assert value.tolist() == pytest.approx([first, second])


def test_is_the_mean_over_mapped_pairs():
    value = build("attention_mse", (2, 4), (2, 4))(looking(OURS, THEIRS), looking(THEIRS, THEIRS))
    assert value.tolist() == pytest.approx([0.0625 / 4, (1 + 0.25) / 4])


def test_can_compare_the_mean_over_heads():
    value = build("attention_mse", (1, 4), (1, 4), heads="mean")(looking(OURS), looking([THEIRS[0]]))
    # The student's heads look on average (3/4, 1/4) and (5/8, 3/8).
    assert value.tolist() == pytest.approx([0.0, (5 / 8) ** 2])


def test_its_gradient_is_that_of_the_mean_square():
    student, teacher = random_signals(1, (1, 4), lengths=(3,)), random_signals(2, (1, 4), lengths=(3,))
    student = replace(student, attentions=(student.attentions[0].requires_grad_(),))
    build("attention_mse", (1, 4), (1, 4))(student, teacher).sum().backward()
    difference = student.attentions[0] - teacher.attentions[0]
    torch.testing.assert_close(student.attentions[0].grad, 2 * difference.detach() / (2 * 3))
