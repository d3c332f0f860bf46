"""KL on attention probabilities: values by hand, zeros, and dropout."""

from math import log

import pytest
import torch

from hfcompress.distillation.losses.attention_kl import SMALLEST
from hfcompress.training.signals import Signals
from tests.distillation.losses.support import build

MASK = torch.tensor([[True, True, False]])


def looking(*heads):
    """Signals of one layer; each head looks alike at both tokens, and at the padded one."""
    layer = torch.tensor([[[head] * 3 for head in heads]], dtype=torch.float64)
    return Signals(attentions=(layer.requires_grad_(),), mask=MASK)


def test_is_the_mean_divergence_over_heads_at_each_token():
    value = build("attention_kl", (1, 4), (1, 4))(
        looking((0.5, 0.5, 0.0), (0.2, 0.8, 0.0)), looking((0.75, 0.25, 0.0), (0.2, 0.8, 0.0))
    )
    assert value.tolist() == pytest.approx([(3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)) / 2] * 2)


def test_compares_the_mean_over_heads_where_asked():
    value = build("attention_kl", (1, 4), (1, 4), heads="mean")(
        looking((0.5, 0.5, 0.0), (0.5, 0.5, 0.0)), looking((1.0, 0.0, 0.0), (0.5, 0.5, 0.0))
    )
    assert value.tolist() == pytest.approx([3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)] * 2)


def test_a_zero_where_the_teacher_looks_costs_a_lot_but_not_infinitely():
    student, teacher = looking((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)), looking((0.5, 0.5, 0.0), (0.5, 0.5, 0.0))
    value = build("attention_kl", (1, 4), (1, 4))(student, teacher)
    value.sum().backward()
    expected = 1 / 2 * log(1 / 2) + 1 / 2 * log(1 / 2 / SMALLEST) + SMALLEST
    assert value.tolist() == pytest.approx([expected] * 2)
    assert torch.isfinite(student.attentions[0].grad).all()


def test_zeros_of_both_cost_nothing():
    alike = looking((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    assert build("attention_kl", (1, 4), (1, 4))(alike, alike).tolist() == [0.0, 0.0]


def test_is_not_negative_where_dropout_scales_the_probabilities_up():
    value = build("attention_kl", (1, 4), (1, 4))(
        looking((0.55, 0.55, 0.0), (1.1, 0.0, 0.0)), looking((0.5, 0.5, 0.0), (1.0, 0.0, 0.0))
    )
    assert value.tolist() == pytest.approx([0.1 - log(1.1)] * 2)
