"""Cosine distance of hidden states: values by hand."""

import pytest
import torch

from tests.distillation.losses.support import build, hidden


def test_same_direction_is_zero_right_angle_one_opposite_two():
    student = hidden([[3.0, 0.0], [1.0, 0.0], [1.0, 1.0], [3.0, 4.0]])
    teacher = hidden([[0.1, 0.0], [0.0, 9.0], [-2.0, -2.0], [4.0, 3.0]])
    value = build("hidden_cosine", (1, 2), (1, 2), layer_map=[(0, 0)])(student, teacher)
    assert value.tolist() == pytest.approx([0.0, 1.0, 2.0, 1 - 24 / 25])


def test_is_the_mean_over_mapped_pairs():
    student, teacher = hidden([[1.0, 0.0]], [[1.0, 0.0]]), hidden([[0.0, 1.0]], [[-1.0, 0.0]])
    assert build("hidden_cosine", (1, 2), (1, 2))(student, teacher).tolist() == pytest.approx([(1 + 2) / 2])


def test_a_zero_vector_is_at_right_angles_to_all_and_has_a_finite_gradient():
    student = hidden([[0.0, 0.0]])
    student.hidden_states[0].requires_grad_()
    value = build("hidden_cosine", (1, 2), (1, 2), layer_map=[(0, 0)])(student, hidden([[1.0, 2.0]]))
    value.sum().backward()
    assert value.item() == 1.0
    assert torch.isfinite(student.hidden_states[0].grad).all()


def test_projects_the_student_onto_the_teachers_width():
    loss = build("hidden_cosine", (1, 1), (1, 2), layer_map=[(0, 0)])
    with torch.no_grad():
        loss.projections[0].weight.copy_(torch.tensor([[3.0], [4.0]]))
    assert loss(hidden([[5.0]]), hidden([[1.0, 0.0]])).tolist() == pytest.approx([1 - 3 / 5])
