"""Relational distillation: distances and angles by hand, and texts that coincide."""

from itertools import permutations

import pytest
import torch

from tests.distillation.losses.support import build, embeddings, random_signals

# A triangle with sides 3, 4 and 5, and three texts on a line, the second halfway.
TRIANGLE = embeddings([0.0, 0.0], [3.0, 0.0], [0.0, 4.0])
LINE = embeddings([0.0, 0.0], [1.0, 0.0], [2.0, 0.0])


def test_distances_over_their_mean_by_hand():
    loss = build("rkd", (1, 2), (1, 2), distance_weight=1.0, angle_weight=0.0)
    # Sides 3, 4, 5 have the mean 4; those of the line, 1, 2 and 1, have the mean 4/3. All differences are below 1.
    near, far, opposite = ((3 / 4 - 3 / 4) ** 2 / 2, (1 - 3 / 2) ** 2 / 2, (5 / 4 - 3 / 4) ** 2 / 2)
    expected = [(near + far) / 2, (near + opposite) / 2, (far + opposite) / 2]
    assert loss(TRIANGLE, LINE).tolist() == pytest.approx(expected)


def test_angles_by_hand():
    loss = build("rkd", (1, 2), (1, 2), distance_weight=0.0, angle_weight=1.0)
    # Cosines at the triangle's corners are 0, 3/5 and 4/5; along the line 1, −1 and 1. Huber is linear beyond 1.
    assert loss(TRIANGLE, LINE).tolist() == pytest.approx([1 / 2, 8 / 5 - 1 / 2, (1 / 5) ** 2 / 2])


def test_angles_weigh_twice_the_distances_unless_told():
    distance, angle = (
        build("rkd", distance_weight=1.0 - share, angle_weight=share)(TRIANGLE, LINE) for share in (0.0, 1.0)
    )
    torch.testing.assert_close(build("rkd")(TRIANGLE, LINE), distance + 2 * angle)


def test_the_mean_over_texts_is_the_mean_over_all_pairs_and_triplets():
    student, teacher = random_signals(1, lengths=(1,) * 5), random_signals(2, (4, 6), lengths=(1,) * 5)
    huber = torch.nn.functional.huber_loss

    def distances(e):
        plain = torch.stack([(e[i] - e[j]).norm() for i, j in permutations(range(5), 2)])
        return plain / plain.mean()

    def angles(e):
        cosine = torch.nn.functional.cosine_similarity
        return torch.stack([cosine(e[i] - e[j], e[k] - e[j], dim=0) for i, j, k in permutations(range(5), 3)])

    expected = huber(distances(student.embeddings), distances(teacher.embeddings))
    expected = expected + 2 * huber(angles(student.embeddings), angles(teacher.embeddings))
    torch.testing.assert_close(build("rkd", (2, 4), (4, 6))(student, teacher).mean(), expected)


def test_scale_shift_and_rotation_of_a_space_change_nothing():
    student, teacher = random_signals(3), random_signals(4)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    moved = embeddings(*(7 * student.embeddings @ turn + 3).tolist())
    torch.testing.assert_close(build("rkd")(moved, teacher), build("rkd")(student, teacher))


def test_one_text_alone_costs_nothing_and_two_have_no_angle():
    assert build("rkd")(embeddings([1.0, 2.0]), embeddings([5.0, 0.0])).tolist() == [0.0]
    assert build("rkd")(embeddings([1.0, 2.0], [0.0, 0.0]), embeddings([5.0, 0.0], [9.0, 9.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("texts", [[[1.0, 2.0]] * 3, [[1.0, 2.0], [1.0, 2.0], [3.0, 0.0]], [[0.0, 0.0], [1e-30, 0.0]]])
def test_coinciding_texts_have_a_finite_value_and_gradient(texts):
    student = embeddings(*texts)
    student.embeddings.requires_grad_()
    teacher = random_signals(5, lengths=(1,) * len(texts))
    value = build("rkd")(student, teacher)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(student.embeddings.grad).all()
    assert torch.isfinite(build("rkd")(teacher, student)).all()
