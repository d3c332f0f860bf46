"""Mean squared error on hidden states: values by hand, with and without a projection."""

import pytest
import torch

from tests.distillation.losses.support import build, hidden


def test_is_the_mean_over_dimensions_and_mapped_pairs_at_each_token():
    # Uniform from 1 layer to 2: embeddings with embeddings, layer 1 with layer 2; the teacher's layer 1 is not read.
    student = hidden([[1.0, 0.0], [0.0, 0.0]], [[2.0, 2.0], [1.0, 1.0]])
    teacher = hidden([[0.0, 0.0], [0.0, 4.0]], [[9e9, 9e9], [9e9, 9e9]], [[2.0, 5.0], [1.0, 1.0]])
    value = build("hidden_mse", (1, 2), (2, 2))(student, teacher)
    assert value.tolist() == pytest.approx([(1 / 2 + 9 / 2) / 2, (16 / 2 + 0) / 2])


def test_projects_the_student_onto_the_teachers_width():
    loss = build("hidden_mse", (1, 1), (1, 2), layer_map=[(1, 1)])
    with torch.no_grad():
        loss.projections[0].weight.copy_(torch.tensor([[2.0], [3.0]]))
    value = loss(hidden([[7.0]], [[1.0]]), hidden([[0.0, 0.0]], [[2.0, 7.0]]))
    assert value.tolist() == pytest.approx([((2 - 2) ** 2 + (3 - 7) ** 2) / 2])


def test_learns_the_projection():
    loss = build("hidden_mse", (1, 1), (1, 2), layer_map=[(1, 1)])
    with torch.no_grad():
        loss.projections[0].weight.copy_(torch.tensor([[2.0], [3.0]]))
    loss(hidden([[7.0]], [[10.0]]), hidden([[0.0, 0.0]], [[21.0, 30.0]])).sum().backward()
    assert loss.projections[0].weight.grad.tolist() == [[(20 - 21) * 10.0], [0.0]]
