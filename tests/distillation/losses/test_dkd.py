"""Decoupled knowledge distillation: values by hand, its identity with KL, and which class is the target."""

from dataclasses import replace
from math import log

import pytest
import torch

from tests.distillation.losses.support import build, logits, random_signals

# Probabilities (1/2, 3/8, 1/8) and three times 1/3.
SKEWED, FLAT = (log(4), log(3), 0.0), (0.0, 0.0, 0.0)
TARGET = 1 / 2 * log((1 / 2) / (1 / 3)) + 1 / 2 * log((1 / 2) / (2 / 3))
OTHERS = 3 / 4 * log((3 / 4) / (1 / 2)) + 1 / 4 * log((1 / 4) / (1 / 2))


def labelled(signals, *labels):
    return replace(signals, labels=torch.tensor(labels))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_equals_the_value_by_hand(alpha, beta):
    loss = build("dkd", temperature=1.0, alpha=alpha, beta=beta)
    value = loss(labelled(logits(FLAT, SKEWED), 0, 0), logits(SKEWED, SKEWED))
    assert value.tolist() == pytest.approx([alpha * TARGET + beta * OTHERS, 0.0])


def test_weighs_target_and_others_one_to_eight_unless_told():
    value = build("dkd", temperature=1.0)(labelled(logits(FLAT), 0), logits(SKEWED))
    assert value.item() == pytest.approx(TARGET + 8 * OTHERS)


def test_divides_logits_by_the_temperature_and_multiplies_by_its_square():
    softened = tuple(3 * value for value in SKEWED)
    value = build("dkd", temperature=3.0)(labelled(logits(FLAT), 0), logits(softened))
    assert value.item() == pytest.approx(9 * (TARGET + 8 * OTHERS))


def test_the_target_is_the_label_also_where_the_teacher_errs():
    loss = build("dkd", temperature=1.0, beta=0.0)
    value = loss(labelled(logits(FLAT), 2), logits(SKEWED))
    assert value.item() == pytest.approx(1 / 8 * log((1 / 8) / (1 / 3)) + 7 / 8 * log((7 / 8) / (2 / 3)))


def test_the_target_is_the_teachers_likeliest_class_where_the_label_is_unknown():
    loss, student, teacher = build("dkd"), random_signals(1), random_signals(2)
    likeliest = teacher.logits.argmax(-1)
    expected = loss(replace(student, labels=likeliest), teacher)
    assert torch.equal(loss(replace(student, labels=None), teacher), expected)
    assert torch.equal(loss(replace(student, labels=torch.full((3,), -100)), teacher), expected)
    half_known = torch.stack([likeliest[0], torch.tensor(-100), likeliest[2]])
    assert torch.equal(loss(replace(student, labels=half_known), teacher), expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_with_the_teachers_doubt_as_beta_it_is_forward_kl(temperature):
    """Equation 6: KL = TCKD + (1 − p_t) · NCKD, row by row."""
    student, teacher = random_signals(3, rows=8), random_signals(4, rows=8)
    student = replace(student, labels=torch.arange(8) % 3)
    options = {"temperature": temperature}
    target, others = (build("dkd", alpha=1 - part, beta=part, **options)(student, teacher) for part in (0.0, 1.0))
    certainty = torch.softmax(teacher.logits / temperature, -1).gather(1, student.labels[:, None])[:, 0]
    torch.testing.assert_close(target + (1 - certainty) * others, build("kl", **options)(student, teacher))


def test_with_two_classes_it_is_alpha_times_forward_kl():
    student, teacher = labelled(logits((1.0, 2.0), (0.3, -4.0)), 0, 0), logits((0.5, -1.0), (3.0, 0.0))
    torch.testing.assert_close(build("dkd", alpha=2.5)(student, teacher), 2.5 * build("kl")(student, teacher))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_certain_teacher_still_teaches_the_other_classes(dtype):
    """Plain KL forgets them; the target's 6e4 is near the largest float16."""
    teacher = labelled(logits((6e4, 2.0, 0.0)), 0)
    student = labelled(logits((6e4, 0.0, 0.0), requires_grad=True), 0)
    value = build("dkd", temperature=1.0)(
        replace(student, logits=student.logits.to(dtype)), replace(teacher, logits=teacher.logits.to(dtype))
    )
    value.sum().backward()
    p = torch.softmax(torch.tensor([2.0, 0.0]), -1).double()
    torch.testing.assert_close(student.logits.grad[0, 1:], 8 * (0.5 - p), rtol=1e-2, atol=0)
    assert value.item() == pytest.approx(8 * (p * (p / 0.5).log()).sum().item(), rel=1e-2)
