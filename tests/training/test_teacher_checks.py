"""A teacher that would teach noise, or other labels, is refused; one with the labels in another order is put right."""

import copy
import logging

import pytest
import torch

from hfcompress.errors import TeacherError
from hfcompress.training.signals import Needs
from hfcompress.training.teacher_checks import check_teacher, is_untrained
from tests.tiny import FAMILIES, tiny_model
from tests.training.runs import build, logged, small_student

NAMES = {0: "bad", 1: "fair", 2: "good"}


def _reordered(model, order):
    """Copy a model whose label number i is the original's number `order[i]`, name and weights."""
    other = copy.deepcopy(model)
    other.classifier.weight.data = model.classifier.weight.data[order].clone()
    other.classifier.bias.data = model.classifier.bias.data[order].clone()
    other.config.id2label = {new: model.config.id2label[old] for new, old in enumerate(order)}
    other.config.label2id = {name: number for number, name in other.config.id2label.items()}
    return other


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 1, 2]])
def test_labels_in_another_order_are_permuted(order, tmp_path):
    student = small_student(num_labels=3, id2label=NAMES)
    losses = {"kl": 1, "logit_mse": 1}
    trainer = build(student, tmp_path, _reordered(student, order), losses=losses, learning_rate=0.0)
    trainer.train()
    assert logged(trainer, "loss_kl") == pytest.approx([0.0] * 4, abs=1e-6)
    assert logged(trainer, "loss_logit_mse") == pytest.approx([0.0] * 4, abs=1e-10)


def test_unnamed_labels_are_taken_in_their_order(tmp_path):
    student = small_student(num_labels=3)
    teacher = _reordered(student, [1, 2, 0])
    teacher.config.id2label = dict(student.config.id2label)
    trainer = build(student, tmp_path, teacher, losses={"logit_mse": 1}, learning_rate=0.0)
    trainer.train()
    assert min(logged(trainer, "loss_logit_mse")) > 1e-3


def test_other_label_names_are_refused(tmp_path):
    student = small_student(id2label={0: "no", 1: "yes"})
    with pytest.raises(TeacherError, match=r"its labels \(bad, good\) are not the student's \(no, yes\)") as caught:
        build(student, tmp_path, tiny_model(layers=4, id2label={0: "bad", 1: "good"}))
    assert "id2label" in caught.value.faults[0].fix


def test_another_number_of_labels_is_refused(tmp_path):
    with pytest.raises(TeacherError, match="has 3 labels, the student 2"):
        build(small_student(), tmp_path, tiny_model(layers=4, num_labels=3))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_untrained_head_is_refused_and_a_trained_one_is_not(family):
    fresh, trained = tiny_model(family, trained_head=False), tiny_model(family)
    assert is_untrained(fresh)
    assert not is_untrained(trained)
    with pytest.raises(TeacherError, match="never trained") as caught:
        check_teacher(fresh, small_student())
    assert "--finetune-teacher" in caught.value.faults[0].fix


def test_one_bias_other_than_zero_makes_a_head_trained():
    model = tiny_model(trained_head=False)
    model.classifier.bias.data[1] = 1e-8
    assert not is_untrained(model)


def test_all_faults_are_told_at_once(tmp_path):
    with pytest.raises(TeacherError) as caught:
        build(small_student(), tmp_path, tiny_model(layers=4, num_labels=3, trained_head=False))
    assert len(caught.value.faults) == 2


def test_the_student_cannot_be_its_own_teacher(tmp_path):
    student = small_student()
    with pytest.raises(TeacherError, match="is the student itself"):
        build(student, tmp_path, student)


def test_a_copy_of_the_student_can_be_its_teacher(tmp_path):
    student = small_student()
    trainer = build(student, tmp_path, copy.deepcopy(student), losses={"kl": 1}, learning_rate=0.0)
    trainer.train()
    assert logged(trainer, "loss_kl") == pytest.approx([0.0] * 4, abs=1e-6)


@pytest.mark.parametrize(("layers", "warned"), [(4, True), (1, False)])
def test_a_student_larger_than_its_teacher_is_warned_of(layers, warned, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "hfcompress"):
        build(tiny_model(layers=layers, seed=1), tmp_path, tiny_model(layers=2))
    assert ("larger than its teacher" in caplog.text) is warned


def test_what_a_teacher_takes_leaves_the_labels_out(teacher):
    checked = check_teacher(teacher.train(), small_student("distilbert"))
    assert not checked.model.training
    assert {"input_ids", "token_type_ids", "attention_mask"} <= checked.columns
    assert "labels" not in checked.columns


def test_a_teachers_answer_carries_no_gradient(teacher):
    checked = check_teacher(teacher, small_student())
    checked.prepare(Needs(hidden_states=True), deferred=False)
    answer = checked.ask({"input_ids": torch.tensor([[2, 5, 3]]), "labels": torch.tensor([0])})
    assert not answer.rows.values.requires_grad
    assert answer.rows.labels.tolist() == [0]
    assert len(answer.signals.hidden_states) == 5
    assert not any(states.requires_grad for states in answer.signals.hidden_states)
