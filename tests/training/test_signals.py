"""Signals: what several teachers say together, precision, and what losses ask for."""

from dataclasses import replace
from math import log

import pytest
import torch

from hfcompress.training.signals import Needs, Signals, full_precision, log_softmax, present, without_padding

# softmax(log 3, 0) is (3/4, 1/4), softmax(0, log 3) is (1/4, 3/4).
FIRST, SECOND = torch.tensor([[log(3), 0.0]]).double(), torch.tensor([[0.0, log(3)]]).double()


def test_log_probabilities_of_one_model_are_those_of_its_softened_logits():
    says = Signals(logits=2 * FIRST)
    assert says.log_probabilities(2.0).exp().tolist() == [pytest.approx([3 / 4, 1 / 4])]
    assert says.log_probabilities().exp().tolist() == [pytest.approx([9 / 10, 1 / 10])]


def test_several_teachers_give_the_weighted_mean_of_their_probabilities():
    says = Signals(members=((0.25, FIRST), (0.75, SECOND)))
    assert says.log_probabilities().exp().tolist() == [pytest.approx([3 / 8, 5 / 8])]


def test_each_teacher_is_softened_before_the_mean_is_taken():
    says = Signals(members=((0.25, 2 * FIRST), (0.75, 2 * SECOND)))
    assert says.log_probabilities(2.0).exp().tolist() == [pytest.approx([3 / 8, 5 / 8])]
    assert says.log_probabilities(1.0).exp().tolist() == [
        pytest.approx([0.25 * 0.9 + 0.75 * 0.1, 0.25 * 0.1 + 0.75 * 0.9])
    ]


def test_the_teachers_own_logits_come_before_what_stands_for_them_all():
    says = Signals(logits=torch.tensor([[9e9, 0.0]]), members=((1.0, FIRST),))
    torch.testing.assert_close(says.log_probabilities(), FIRST.log_softmax(-1))


def test_several_teachers_who_agree_are_one():
    logits = torch.randn(4, 3, dtype=torch.float64)
    says = Signals(members=tuple((weight, logits) for weight in (0.5, 0.3, 0.2)))
    torch.testing.assert_close(says.log_probabilities(3.0), log_softmax(logits, 3.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_certain_teachers_who_contradict_each_other_share_the_probability(dtype):
    sure = torch.tensor([[1e4, 0.0]]).to(dtype)
    says = Signals(members=((0.5, sure), (0.5, sure.flip(-1))))
    result = says.log_probabilities()
    assert result.dtype == torch.float32
    assert result.tolist() == [pytest.approx([log(1 / 2)] * 2)]


def test_a_teacher_without_weight_has_no_say():
    says = Signals(members=((1.0, FIRST), (0.0, SECOND)))
    torch.testing.assert_close(says.log_probabilities(), FIRST.log_softmax(-1))


def test_a_signal_that_nobody_filled_is_named_as_the_losss_fault():
    with pytest.raises(ValueError, match="reads a signal that it did not ask for"):
        present(Signals().mask)
    with pytest.raises(ValueError, match="reads a signal"):
        Signals().log_probabilities()
    assert present(FIRST) is FIRST


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_losses_compute_in_float32_at_least(dtype, expected):
    assert full_precision(torch.ones(2, dtype=dtype)).dtype == expected
    assert log_softmax(torch.ones(1, 2, dtype=dtype), 2.0).dtype == expected


def test_keeps_the_vectors_of_real_tokens_in_order():
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, True, False], [False, True, False]])
    (kept,) = without_padding((states,), mask)
    assert kept.tolist() == [[0.0, 1.0], [2.0, 3.0], [8.0, 9.0]]


def test_nothing_but_padding_leaves_no_tokens():
    (kept,) = without_padding((torch.ones(2, 3, 4),), torch.zeros(2, 3, dtype=torch.bool))
    assert kept.shape == (0, 4)


@pytest.mark.parametrize(
    "asked", [{"hidden_states": True}, {"embeddings": True}, {"attentions": True}, {"projections": (0,)}]
)
def test_any_need_beside_the_logits_counts(asked):
    assert not Needs().any
    assert replace(Needs(), **asked).any
