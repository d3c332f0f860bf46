"""What holds for every registered loss between a student and its teacher; a new loss is tested by being registered."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from hfcompress import registry
from tests.distillation.losses.support import DISTILLATION_LOSSES, build, from_tensors, random_signals, tensors

every_loss = pytest.mark.parametrize("name", DISTILLATION_LOSSES)
SMALLER, LARGER = (2, 4), (4, 6)


def test_all_losses_but_the_task_compare_with_the_teacher():
    assert set(registry.methods("loss")) - set(DISTILLATION_LOSSES) == {"task"}


@pytest.mark.parametrize("name", registry.methods("loss"))
def test_every_loss_has_its_own_test_file(name):
    assert (Path(__file__).parent / f"test_{name}.py").is_file()


@every_loss
@pytest.mark.parametrize("teacher", [SMALLER, LARGER])
def test_gives_one_value_for_each_row_or_token(name, teacher):
    loss = build(name, SMALLER, teacher)
    value = loss(random_signals(1, SMALLER), random_signals(2, teacher))
    assert value.shape == ({"row": 3, "token": 5}[loss.unit],)


@every_loss
def test_is_zero_with_zero_gradient_where_student_and_teacher_agree(name):
    teacher = random_signals(3)
    inputs = [tensor.clone().requires_grad_() for tensor in tensors(teacher)]
    value = build(name)(from_tensors(*inputs), teacher)
    value.sum().backward()
    assert value.abs().max() < 1e-12
    assert all(tensor.grad is None or tensor.grad.abs().max() < 1e-12 for tensor in inputs)


@every_loss
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), rows=st.integers(1, 5), tokens=st.integers(1, 7))
def test_is_finite_and_never_negative(name, seed, scale, rows, tokens):
    student, teacher = (random_signals(seed + i, rows=rows, tokens=tokens, scale=scale) for i in (0, 1))
    value = build(name)(student, teacher)
    assert torch.isfinite(value).all()
    assert value.min() > -1e-9


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_is_finite_with_finite_gradient_at_extreme_signals(name, dtype):
    student, teacher = (random_signals(seed, scale=1e4, dtype=dtype) for seed in (4, 5))
    inputs = [tensor.clone().requires_grad_() for tensor in tensors(student)]
    value = build(name).float()(from_tensors(*inputs), teacher)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert all(tensor.grad is None or torch.isfinite(tensor.grad).all() for tensor in inputs)


@every_loss
@pytest.mark.parametrize("teacher_shape", [SMALLER, LARGER])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_computes_half_precision_signals_in_float32(name, dtype, teacher_shape):
    loss = build(name, SMALLER, teacher_shape).float()
    student, teacher = random_signals(6, SMALLER, dtype=dtype), random_signals(7, teacher_shape, dtype=dtype)
    value = loss(student, teacher)
    wide = loss(*(from_tensors(*(tensor.float() for tensor in tensors(signals))) for signals in (student, teacher)))
    assert value.dtype == torch.float32
    assert torch.equal(value, wide)


@every_loss
def test_leaves_autocast_before_it_takes_differences(name):
    loss = build(name, SMALLER, LARGER).float()
    student, teacher = random_signals(8, SMALLER, dtype=torch.float32), random_signals(9, LARGER, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(student, teacher), rtol=0.05, atol=0.05)


@every_loss
@pytest.mark.parametrize("teacher_shape", [SMALLER, LARGER])
def test_gradient_agrees_with_finite_differences(name, teacher_shape):
    loss, teacher = build(name, SMALLER, teacher_shape), random_signals(11, teacher_shape)
    inputs = [tensor.requires_grad_() for tensor in tensors(random_signals(10, SMALLER))]
    assert gradcheck(lambda *own: loss(from_tensors(*own), teacher), inputs)


@every_loss
def test_a_row_or_token_does_not_depend_on_its_neighbours(name):
    loss, student, teacher = build(name), random_signals(12), random_signals(13)
    whole = loss(student, teacher)
    for keep in ([0], [2, 1], [1, 2, 0]):
        part = loss(*(from_tensors(*(tensor[keep] for tensor in tensors(signals))) for signals in (student, teacher)))
        torch.testing.assert_close(part, whole[keep])


@every_loss
def test_no_rows_or_tokens_sum_to_zero(name):
    empty = random_signals(14, rows=0, tokens=0)
    assert build(name)(empty, empty).sum() == 0
