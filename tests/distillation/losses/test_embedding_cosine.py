"""Cosine distance of embeddings: values by hand."""

import pytest
import torch

from tests.distillation.losses.support import build, embeddings


def test_same_direction_is_zero_right_angle_one_opposite_two():
    student = embeddings([3.0, 0.0], [1.0, 0.0], [1.0, 1.0], [3.0, 4.0])
    teacher = embeddings([0.1, 0.0], [0.0, 9.0], [-2.0, -2.0], [4.0, 3.0])
    value = build("embedding_cosine", (1, 2), (1, 2))(student, teacher)
    assert value.tolist() == pytest.approx([0.0, 1.0, 2.0, 1 - 24 / 25])


def test_projects_the_student_onto_the_teachers_width():
    loss = build("embedding_cosine", (1, 1), (1, 2))
    with torch.no_grad():
        loss.projection.weight.copy_(torch.tensor([[3.0], [4.0]]))
    assert loss(embeddings([5.0]), embeddings([1.0, 0.0])).tolist() == pytest.approx([1 - 3 / 5])


def test_a_zero_embedding_has_a_finite_gradient():
    student = embeddings([0.0, 0.0])
    student.embeddings.requires_grad_()
    build("embedding_cosine", (1, 2), (1, 2))(student, embeddings([1.0, 2.0])).sum().backward()
    assert torch.isfinite(student.embeddings.grad).all()
