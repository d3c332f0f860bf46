"""What holds for every registered loss between a student and its teacher; a new loss is tested by being registered."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from hfcompress import registry
from tests.distillation.losses.support import (
    BATCHWISE,
    DISTILLATION_LOSSES,
    build,
    from_tensors,
    mapped,
    padded,
    random_signals,
    take,
    tensors,
)

every_loss = pytest.mark.parametrize("name", DISTILLATION_LOSSES)
SMALLER, LARGER = (2, 4), (4, 6)


def test_all_losses_but_the_task_compare_with_the_teacher():
    assert set(registry.methods("loss")) - set(DISTILLATION_LOSSES) == {"task"}


@pytest.mark.parametrize("name", registry.methods("loss"))
def test_every_loss_has_its_own_test_file(name):
    assert (Path(__file__).parent / f"test_{name}.py").is_file()


@every_loss
def test_every_loss_names_its_paper(name):
    assert "https://arxiv.org/abs/" in registry.find("loss", name).target.__doc__


@every_loss
@pytest.mark.parametrize("teacher", [SMALLER, LARGER])
def test_gives_one_value_for_each_row_token_or_text(name, teacher):
    loss = build(name, SMALLER, teacher)
    student_says, teacher_says = (random_signals(i, s, rows=4) for i, s in ((1, SMALLER), (2, teacher)))
    assert loss(student_says, teacher_says).shape == ({"row": 4, "token": 5, "text": 3}[loss.unit],)


@every_loss
def test_is_zero_with_zero_gradient_where_student_and_teacher_agree(name):
    teacher = random_signals(3)
    student = mapped(teacher, lambda tensor: tensor.clone().requires_grad_())
    value = build(name)(student, teacher)
    value.sum().backward()
    assert value.abs().max() < 1e-12
    assert all(tensor.grad is None or tensor.grad.abs().max() < 1e-12 for tensor in tensors(student))


@every_loss
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(0.01, 100),
    rows=st.integers(1, 5),
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=4),
)
def test_is_finite_and_never_negative(name, seed, scale, rows, lengths):
    student, teacher = (random_signals(seed + i, rows=rows, lengths=lengths, scale=scale) for i in (0, 1))
    loss = build(name)
    value = loss(student, teacher)
    assert len(value) == {"row": rows, "token": sum(lengths), "text": len(lengths)}[loss.unit]
    assert torch.isfinite(value).all()
    assert (value > -1e-9).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_is_finite_with_finite_gradient_at_extreme_signals(name, dtype):
    student, teacher = (random_signals(seed, scale=1e4, dtype=dtype) for seed in (4, 5))
    student = mapped(student, lambda tensor: tensor.clone().requires_grad_())
    value = build(name).float()(student, teacher)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert all(tensor.grad is None or torch.isfinite(tensor.grad).all() for tensor in tensors(student))


@every_loss
@pytest.mark.parametrize("teacher_shape", [SMALLER, LARGER])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_computes_half_precision_signals_in_float32(name, dtype, teacher_shape):
    loss = build(name, SMALLER, teacher_shape).float()
    student, teacher = random_signals(6, SMALLER, dtype=dtype), random_signals(7, teacher_shape, dtype=dtype)
    value = loss(student, teacher)
    wide = loss(mapped(student, torch.Tensor.float), mapped(teacher, torch.Tensor.float))
    assert value.dtype == torch.float32
    assert torch.equal(value, wide)


@every_loss
def test_leaves_autocast_before_it_takes_differences(name):
    loss = build(name, SMALLER, LARGER).float()
    student, teacher = random_signals(8, SMALLER, dtype=torch.float32), random_signals(9, LARGER, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    if list(loss.parameters()):  # autocast is right to halve a projection
        torch.testing.assert_close(value, loss(student, teacher), rtol=0.05, atol=0.05)
    else:
        assert torch.equal(value, loss(student, teacher))


@every_loss
@pytest.mark.parametrize("teacher_shape", [SMALLER, LARGER])
def test_gradient_agrees_with_finite_differences(name, teacher_shape):
    loss, teacher = build(name, SMALLER, teacher_shape), random_signals(11, teacher_shape)
    student = mapped(random_signals(10, SMALLER), torch.Tensor.requires_grad_)
    loss(student, teacher).sum().backward()
    inputs = tensors(student)
    read = [index for index, tensor in enumerate(inputs) if tensor.grad is not None]

    def value(*given):
        return loss(from_tensors(student, [*map(dict(zip(read, given, strict=True)).get, range(len(inputs)))]), teacher)

    assert read
    assert gradcheck(value, [inputs[index] for index in read])


@pytest.mark.parametrize("name", sorted(set(DISTILLATION_LOSSES) - BATCHWISE))
def test_does_not_depend_on_what_else_is_in_the_batch(name):
    loss, student, teacher = build(name), random_signals(12), random_signals(13)
    whole = [loss(take(student, [i], [i]), take(teacher, [i], [i])) for i in range(3)]
    for keep in ([0], [2, 1], [1, 2, 0]):
        together = loss(take(student, keep, keep), take(teacher, keep, keep))
        torch.testing.assert_close(together, torch.cat([whole[i] for i in keep]))


@every_loss
@pytest.mark.parametrize("fill", [0.0, 7.0, 1e300, float("inf"), float("nan")])
@pytest.mark.parametrize("sides", [(0, 2), (3, 0), (1, 1)])
def test_padding_changes_neither_value_nor_gradient(name, sides, fill):
    loss, teacher = build(name, SMALLER, LARGER), random_signals(15, LARGER)

    def value_and_gradients(change):
        student = mapped(random_signals(14, SMALLER), torch.Tensor.requires_grad_)
        value = loss(change(student), change(teacher))
        value.sum().backward()
        return value.detach(), [tensor.grad for tensor in tensors(student) if tensor.grad is not None]

    wider = value_and_gradients(lambda signals: padded(signals, *sides, fill))
    torch.testing.assert_close(wider, value_and_gradients(lambda signals: signals))


@every_loss
def test_nothing_at_all_sums_to_zero(name):
    empty = random_signals(14, rows=0, lengths=())
    assert build(name)(empty, empty).sum() == 0


@every_loss
def test_texts_of_nothing_but_padding_have_no_part_in_the_gradient(name):
    loss = build(name)
    student, teacher = (random_signals(seed, rows=0, lengths=(0, 2)) for seed in (16, 17))
    student = mapped(student, torch.Tensor.requires_grad_)
    value = loss(student, teacher)
    value.sum().backward()
    assert torch.isfinite(value).all()
    for layer in student.projections.values():
        for tensor in (layer.query, layer.key, layer.value):
            assert tensor.grad is None or (tensor.grad[0] == 0).all()
    for attention in student.attentions:
        assert attention.grad is None or (attention.grad[0] == 0).all()
