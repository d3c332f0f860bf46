"""Mean squared error on embeddings: values by hand, with and without a projection."""

import pytest
import torch

from tests.distillation.losses.support import build, embeddings


def test_is_the_mean_over_dimensions_of_each_text():
    value = build("embedding_mse", (1, 2), (1, 2))(
        embeddings([1.0, 0.0], [2.0, 2.0]), embeddings([0.0, 0.0], [2.0, 5.0])
    )
    assert value.tolist() == pytest.approx([1 / 2, 9 / 2])


def test_projects_the_student_onto_the_teachers_width_and_learns_how():
    loss = build("embedding_mse", (1, 1), (1, 2))
    with torch.no_grad():
        loss.projection.weight.copy_(torch.tensor([[2.0], [3.0]]))
    value = loss(embeddings([10.0]), embeddings([21.0, 30.0]))
    value.sum().backward()
    assert value.tolist() == pytest.approx([((20 - 21) ** 2 + 0) / 2])
    assert loss.projection.weight.grad.tolist() == [[(20 - 21) * 10.0], [0.0]]


def test_learns_nothing_beside_the_student_where_the_widths_agree():
    assert not list(build("embedding_mse", (1, 4), (3, 4)).parameters())
