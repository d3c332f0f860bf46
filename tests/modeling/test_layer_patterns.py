"""What configs say of single layers is cut with them: kinds of attention, windows, groups of shared weights."""

import pytest
import torch
import transformers

from hfcompress.errors import ModelError
from hfcompress.modeling.cut import cut, cut_config
from hfcompress.modeling.layer_patterns import fitting_layers, layer_groups, stack_depths
from hfcompress.modeling.parse_cut import parse_cut_of
from tests.tiny import tiny_config, tiny_head, tiny_inputs

FOUR = transformers.__version__.startswith("4.")


def test_kinds_of_layers_and_windows_are_those_of_the_kept():
    kinds = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]
    config = tiny_config(
        "qwen2", layers=4, use_sliding_window=True, sliding_window=4, max_window_layers=2, layer_types=kinds
    )
    small = cut_config(config, [1, 2, 3])
    assert small.layer_types == kinds[1:]
    assert small.max_window_layers == 1
    assert config.layer_types == kinds


def test_a_sliding_window_stays_with_its_layer(tmp_path):
    options = {"use_sliding_window": True, "sliding_window": 2, "max_window_layers": 1}
    model = tiny_head("qwen2", "ForCausalLM", layers=2, **options)
    assert model.config.layer_types == ["full_attention", "sliding_attention"]
    small = cut(model, [1])
    small.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.layer_types == ["sliding_attention"]
    ids = tiny_inputs(model)["input_ids"][:1]
    with torch.no_grad():
        far = loaded(input_ids=ids).logits[0, -1]
        ids[0, 0] = 9  # out of the window of the last token
        assert torch.allclose(loaded(input_ids=ids).logits[0, -1], far, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "kinds"),
    [([0, 3], "GG"), ([0, 1, 3], "GLG"), ([0, 1, 2, 3, 5], "GLLGL"), ([0, 4, 5], "GLL"), ([0], "G")],
)
def test_modernbert_keeps_each_layers_kind(layers, kinds):
    small = cut_config(tiny_config("modernbert", layers=6), layers)
    if FOUR:
        found = ["L" if place % small.global_attn_every_n_layers else "G" for place in range(len(layers))]
    else:
        found = [{"full_attention": "G", "sliding_attention": "L"}[kind] for kind in small.layer_types]
    assert "".join(found) == kinds


@pytest.mark.skipif(not FOUR, reason="transformers 5 lists the kind of each layer")
def test_a_pattern_that_transformers_4_cannot_express_is_refused_with_one_that_it_can():
    config = tiny_config("modernbert", layers=6)
    with pytest.raises(ModelError) as error:
        cut_config(config, [0, 1, 3, 4, 5])
    assert "one layer in 3 attends to all tokens, which 0,1,3,4,5 would break" in str(error.value)
    suggested = str(error.value).split("Keep for example ")[1].split(" or ")[0].rstrip(",")
    assert cut_config(config, [int(layer) for layer in suggested.split(",")]).num_hidden_layers == 5


@pytest.mark.skipif(FOUR, reason="the same is refused under transformers 4")
def test_transformers_5_expresses_any_pattern():
    small = cut_config(tiny_config("modernbert", layers=6), [0, 1, 3, 4, 5])
    assert [kind[0] for kind in small.layer_types] == ["f", "s", "f", "s", "s"]


def test_modernberts_first_layer_stays_first():
    with pytest.raises(ModelError, match="the first layer of modernbert has no norm .* Keep layer 0 too: 0, 1, 2."):
        cut_config(tiny_config("modernbert", layers=3), [1, 2])


@pytest.mark.parametrize("count", range(1, 23))
def test_any_number_of_modernberts_layers_can_be_kept(count):
    config = tiny_config("modernbert", layers=22)
    (layers,) = parse_cut_of(f"cut:layers={count}", config)
    assert (len(layers), layers[0]) == (count, 0)
    assert cut_config(config, layers).num_hidden_layers == count


def test_modernberts_layers_are_spread_evenly_as_written_by_hand():
    expected = [0, 2, 4, 6, 8, 10, 12, 14, 17, 18, 20] if FOUR else [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21]
    assert fitting_layers(11, tiny_config("modernbert", layers=22), 22) == expected


def test_attention_divided_by_the_layers_number_is_not_renumbered():
    config = tiny_config("gpt2", layers=4, scale_attn_by_inverse_layer_idx=True)
    assert cut_config(config, [0, 1]).n_layer == 2
    with pytest.raises(ModelError, match="scale_attn_by_inverse_layer_idx.* Keep the first layers: 0,1."):
        cut_config(config, [0, 2])


def test_groups_of_shared_weights_are_kept_with_their_layers():
    model = tiny_head("albert", "ForSequenceClassification", layers=4, num_hidden_groups=2)
    small = cut(model, [2, 3])
    assert (small.config.num_hidden_groups, small.config.num_hidden_layers) == (1, 2)
    ours, theirs = (m.albert.encoder.albert_layer_groups for m in (small, model))
    assert all(torch.equal(a, b) for a, b in zip(ours[0].parameters(), theirs[1].parameters(), strict=True))
    assert cut_config(model.config, [1, 2]).num_hidden_groups == 2
    assert layer_groups(cut(model, [0, 1, 2]).config) == [0, 0, 1]
    with pytest.raises(ModelError, match="layers 0,2,3 do not divide evenly among the 2 groups"):
        cut(model, [0, 2, 3])


def test_depths():
    assert stack_depths(tiny_config("bert", layers=3)) == (3,)
    assert stack_depths(tiny_config("t5", layers=3, num_decoder_layers=2)) == (3, 2)
    assert stack_depths(tiny_head("bart", "ForCausalLM", layers=3, decoder_layers=1).config) == (1,)
    with pytest.raises(ModelError, match="resnet cannot be cut"):
        stack_depths(tiny_config("resnet"))
