"""MiniLMv2: relations by hand, relation heads that divide, and those that do not."""

from math import log

import pytest
import torch

from hfcompress.distillation.losses.minilmv2 import MiniLMv2Config, MiniLMv2Loss
from hfcompress.errors import RequestError
from hfcompress.modeling.projections import Projections
from hfcompress.training.objective import ModelPair
from hfcompress.training.signals import Signals
from tests.distillation.losses.support import build, random_signals
from tests.tiny import tiny_config

MASK = torch.tensor([[True, True, False]])


def loss_for(student, teacher, **options):
    """The loss for two models given as (width, heads) and further config values."""
    configs = [
        tiny_config("bert", 2, width, num_attention_heads=heads, **more[0] if more else {})
        for width, heads, *more in (student, teacher)
    ]
    return MiniLMv2Loss(MiniLMv2Config(**options), ModelPair(*configs))


@pytest.mark.parametrize("relation", ["qq", "kk", "vv"])
def test_equals_the_value_by_hand(relation):
    """Vectors of size 4, so that dot products are halved: 2 log 3 becomes log 3, which is 3/4 against 1/4."""
    root = (2 * log(3)) ** 0.5
    named = {"qq": "query", "kk": "key", "vv": "value"}[relation]

    def saying(*tokens):
        other = torch.zeros(1, 3, 1, 4).double()
        ours = torch.tensor([tokens], dtype=torch.float64)[:, :, None]
        sides = {side: ours if side == named else other for side in ("query", "key", "value")}
        return Signals(projections={0: Projections(**sides)}, mask=MASK)

    nothing, junk = [0.0] * 4, [9.0] * 4
    student, teacher = saying(nothing, nothing, junk), saying([root, 0.0, 0.0, 0.0], nothing, junk)
    divergence = 3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)
    alone = build("minilmv2", (1, 4), (1, 4), relation_heads=1, relations=[relation])(student, teacher)
    assert alone.tolist() == pytest.approx([divergence, 0.0])
    all_three = build("minilmv2", (1, 4), (1, 4), relation_heads=1)(student, teacher)
    assert all_three.tolist() == pytest.approx([divergence / 3, 0.0])


def test_agrees_with_heads_put_side_by_side_and_split_again_written_out():
    student, teacher = random_signals(1, (1, 4), lengths=(3, 3)), random_signals(2, (1, 8), lengths=(3, 3))
    expected = 0
    for side in ("query", "key", "value"):
        for head in range(4):
            p, q = (
                torch.softmax(x @ x.transpose(1, 2) / x.shape[-1] ** 0.5, -1)
                for x in (
                    getattr(signals.projections[0], side).reshape(2, 3, width)[..., head * size : (head + 1) * size]
                    for signals, width, size in ((teacher, 8, 2), (student, 4, 1))
                )
            )
            expected = expected + (p * (p / q).log()).sum(-1).flatten() / 12
    torch.testing.assert_close(build("minilmv2", (1, 4), (1, 8), relation_heads=4)(student, teacher), expected)


def test_how_heads_divide_a_width_changes_nothing():
    """The projections of 12 dimensions say the same as 2 heads of 6 or 3 heads of 4."""
    student, teacher = random_signals(3, (1, 12)), random_signals(4, (1, 12))

    def with_heads(signals, heads):
        layer = signals.projections[0]
        sides = (side.flatten(2).unflatten(2, (heads, -1)) for side in (layer.query, layer.key, layer.value))
        return Signals(projections={0: Projections(*sides)}, mask=signals.mask)

    loss = build("minilmv2", (1, 12), (1, 12), relation_heads=6)
    assert torch.equal(loss(student, teacher), loss(with_heads(student, 3), with_heads(teacher, 4)))


def test_relation_heads_are_the_students_heads_unless_told():
    assert loss_for((32, 4), (48, 8)).heads == 4
    assert loss_for((32, 4), (48, 8), relation_heads=16).heads == 16


def test_relation_heads_that_do_not_divide_are_refused_with_those_that_would():
    with pytest.raises(RequestError) as error:
        loss_for((32, 4), (50, 5), relations=["qq", "vv"])
    assert str(error.value) == (
        "losses.minilmv2.relation_heads: 4 relation heads do not divide the teacher's query width 50, "
        "the teacher's value width 50. Allowed for this pair: 1, 2."
    )


def test_grouped_keys_and_values_have_a_width_of_their_own():
    grouped = {"num_key_value_heads": 2, "head_dim": 8}
    with pytest.raises(
        RequestError, match=r"32 relation heads do not divide the student's key width 16, the student's value"
    ):
        loss_for((32, 4, grouped), (64, 4), relation_heads=32)
    assert loss_for((32, 4, grouped), (64, 4), relation_heads=32, relations=["qq"]).heads == 32
    with pytest.raises(RequestError, match=r"Allowed for this pair: 1, 2, 4, 8, 16\."):
        loss_for((32, 4, grouped), (64, 4), relation_heads=3)


def test_heads_wider_than_their_share_of_the_width_count():
    """Qwen3 and Gemma say the head's size apart: 4 heads of 24 are 96 wide in a model of width 32."""
    assert loss_for((32, 4, {"head_dim": 24}), (32, 4), relation_heads=32).heads == 32
    with pytest.raises(RequestError, match="48 relation heads do not divide the teacher's query width 32"):
        loss_for((32, 4, {"head_dim": 24}), (32, 4), relation_heads=48)
