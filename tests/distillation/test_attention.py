"""Losses on attention probabilities: which layers, which heads, which tokens; and real models."""

import pytest
import torch

from hfcompress.distillation.attention import keys_of
from hfcompress.errors import RequestError
from hfcompress.training.objective import ModelPair, build_objective, parse_losses
from hfcompress.training.signals import Signals, without_padding
from tests.distillation.losses.support import build
from tests.tiny import tiny_config, tiny_model

LOSSES = ["attention_mse", "attention_kl"]


@pytest.mark.parametrize(
    ("layer_map", "expected"),
    [
        ("uniform", [(0, 1), (1, 3)]),
        ("last", [(0, 2), (1, 3)]),
        ("skip", [(0, 1), (1, 3)]),
        ("2:3", [(1, 2)]),
        ([(1, 1), (2, 1)], [(0, 0), (1, 0)]),
    ],
)
def test_hidden_state_m_stands_for_the_attention_of_layer_m(layer_map, expected):
    assert build("attention_mse", (2, 4), (4, 4), layer_map=layer_map).pairs == expected


def test_named_maps_leave_out_a_layer_that_falls_on_the_teachers_embeddings():
    assert build("attention_kl", (4, 4), (2, 4)).pairs == [(1, 0), (2, 1), (3, 1)]


@pytest.mark.parametrize("layer_map", ["0:0,1:2", "1:0", "0:1", [(0, 3)]])
def test_explicit_pairs_with_embeddings_are_refused(layer_map):
    with pytest.raises(RequestError, match=r"layer_map: \d:\d names the embeddings \(0\), which have no attention"):
        build("attention_mse", (2, 4), (4, 4), layer_map=layer_map)


@pytest.mark.parametrize("name", LOSSES)
def test_other_numbers_of_heads_are_refused_unless_their_mean_is_compared(name):
    pair = ModelPair(tiny_config("bert", 2, num_attention_heads=2), tiny_config("bert", 2, num_attention_heads=4))
    with pytest.raises(RequestError) as error:
        build_objective(parse_losses(name), pair)
    assert str(error.value) == (
        f"losses.{name}.heads: cannot be each: the student has 2 attention heads, the teacher 4. "
        'Set it to "mean", or use minilmv2.'
    )
    assert list(build_objective(parse_losses({name: {"heads": "mean"}}), pair).terms) == [name]


def test_says_which_keys_are_real_for_each_real_token():
    mask = torch.tensor([[True, True, False], [False, True, False]])
    assert keys_of(mask).tolist() == [[True, True, False], [True, True, False], [False, True, False]]


def test_tokens_come_in_the_order_of_hidden_states_without_padding():
    """Each token's first key tells its place: what the student looks at is where the hidden state says it stands."""
    mask = torch.tensor([[False, True, True], [True, True, False]])
    places = torch.arange(6.0).view(2, 3)
    attention = places[:, None, :, None].expand(2, 2, 3, 3)
    ((ours, _),) = build("attention_mse", (1, 4), (1, 4)).compared(
        Signals(attentions=(attention,), mask=mask), Signals(attentions=(attention,), mask=mask)
    )
    (hidden,) = without_padding((places[..., None],), mask)
    assert ours.amax((1, 2)).tolist() == hidden[:, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", LOSSES)
def test_a_padded_batch_of_real_models_gives_the_losses_of_its_rows_alone(name):
    student, teacher = (tiny_model("bert", n, width=w, attn_implementation="eager") for n, w in ((2, 32), (4, 16)))
    (loss,) = build_objective(parse_losses(name), ModelPair(student.config, teacher.config)).terms.values()
    ids = torch.randint(5, 64, (2, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])

    def values(ids, mask):
        says = (model(input_ids=ids, attention_mask=mask, output_attentions=True) for model in (student, teacher))
        return loss(*(Signals(attentions=tuple(outputs.attentions), mask=mask.bool()) for outputs in says))

    with torch.no_grad():
        together = values(ids, mask)
        alone = torch.cat([values(ids[:1], mask[:1]), values(ids[1:, :4], mask[1:, :4])])
    assert len(together) == 11
    assert together.min() > 0
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-8)
