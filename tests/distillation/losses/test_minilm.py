"""MiniLM: attention and value relations by hand, its layers, and grouped keys."""

from math import log

import pytest
import torch

from hfcompress.distillation.losses.minilm import MiniLMLoss
from hfcompress.distillation.relations import RelationConfig
from hfcompress.errors import RequestError
from hfcompress.modeling.projections import Projections
from hfcompress.training.objective import ModelPair
from hfcompress.training.signals import Signals
from tests.distillation.losses.support import build, random_signals
from tests.tiny import tiny_config

MASK = torch.tensor([[True, True, False]])


def vectors(*heads):
    """`(1, 3 tokens, heads, size)` from each head's list of vectors; the third token is padding."""
    return torch.tensor([heads], dtype=torch.float64).transpose(1, 2)


def saying(layer, **projections):
    return Signals(projections={layer: Projections(**projections)}, mask=MASK)


def test_is_attention_divergence_plus_value_divergence():
    """Vectors of size 4, so that dot products are halved: 2 log 3 becomes log 3, which is 3/4 against 1/4."""
    junk, nothing, three = [9.0] * 4, [0.0] * 4, [2 * log(3), 0.0, 0.0, 0.0]
    one, root = [1.0, 0.0, 0.0, 0.0], [(2 * log(3)) ** 0.5, 0.0, 0.0, 0.0]
    zeros = vectors([nothing, nothing, junk])
    # The teacher's tokens both look with (3/4, 1/4); its values relate as (3/4, 1/4) and, for 0 · 0, (1/2, 1/2).
    teacher = saying(
        0, query=vectors([one, one, junk]), key=vectors([three, nothing, junk]), value=vectors([root, nothing, junk])
    )
    student = saying(0, query=zeros, key=zeros, value=zeros)
    divergence = 3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)
    value = build("minilm", (1, 4), (1, 4))(student, teacher)
    assert value.tolist() == pytest.approx([2 * divergence, divergence])


def test_agrees_with_softmax_and_kl_written_out():
    student, teacher = random_signals(1, (1, 4), lengths=(3, 3)), random_signals(2, (1, 6), lengths=(3, 3))
    value = build("minilm", (1, 4), (1, 6))(student, teacher)

    def distribution(layer, one, other, size):
        scores = torch.einsum("bihd,bjhd->bihj", getattr(layer, one), getattr(layer, other)) / size**0.5
        return torch.softmax(scores, -1)

    expected = 0
    for sides in (("query", "key"), ("value", "value")):
        p, q = distribution(teacher.projections[0], *sides, 3), distribution(student.projections[0], *sides, 2)
        expected = expected + (p * (p / q).log()).sum(-1).mean(-1).flatten()
    torch.testing.assert_close(value, expected)


def test_compares_the_last_layers_unless_told():
    last, told = build("minilm", (2, 4), (4, 4)), build("minilm", (2, 4), (4, 4), student_layer=1, teacher_layer=3)
    assert (last.student_layers, last.teacher_layers) == ((1,), (3,))
    assert (told.student_layers, told.teacher_layers) == ((0,), (2,))
    student, teacher = random_signals(3, (2, 4)), random_signals(4, (4, 4))
    swapped = [
        Signals(projections={to: signals.projections[at]}, mask=signals.mask)
        for signals, at, to in ((student, 0, 1), (teacher, 2, 3))
    ]
    assert torch.equal(told(student, teacher), last(*swapped))


def test_all_layers_that_do_not_exist_are_named():
    with pytest.raises(RequestError) as error:
        build("minilm", (2, 4), (4, 4), student_layer=3, teacher_layer=5)
    assert str(error.value).split("\n") == [
        "losses.minilm.student_layer: the student has no layer 3. Allowed: 1 to 2.",
        "losses.minilm.teacher_layer: the teacher has no layer 5. Allowed: 1 to 4.",
    ]


def test_other_numbers_of_heads_are_refused_with_what_works():
    pair = ModelPair(tiny_config("bert", 2, 4, num_attention_heads=2), tiny_config("bert", 2, 8, num_attention_heads=4))
    with pytest.raises(RequestError, match=r"minilm: .* student has 2 attention heads, the teacher 4\. Use minilmv2\."):
        MiniLMLoss(RelationConfig(), pair)


def test_grouped_keys_and_values_count_once_for_each_query_head():
    student = random_signals(5, (1, 4)).projections[0]
    mask = random_signals(5, (1, 4)).mask
    shared = Projections(student.query, student.key[:, :, :1], student.value[:, :, :1])
    written_out = Projections(student.query, student.key[:, :, [0, 0]], student.value[:, :, [0, 0]])
    teacher = random_signals(6, (1, 4))
    values = [
        build("minilm", (1, 4), (1, 4))(Signals(projections={0: layer}, mask=mask), teacher)
        for layer in (shared, written_out)
    ]
    assert torch.equal(*values)
