"""What losses ask of the two models' configs, and what is said of models that have no such structure."""

import pytest
from transformers import AutoConfig

from hfcompress.errors import RequestError
from hfcompress.modeling.projections import head_size, key_value_heads
from hfcompress.training.objective import ModelPair, build_objective, parse_losses
from tests.tiny import FAMILIES, tiny_config

STRUCTURAL = ["hidden_mse", "hidden_cosine", "attention_mse", "attention_kl", "minilm", "minilmv2", "embedding_mse"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODER_DECODERS = {
    "t5": {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8},
    "bart": {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4},
}


def resnet():
    return AutoConfig.for_model("resnet")


@pytest.mark.parametrize("name", STRUCTURAL)
def test_a_model_without_the_structure_is_refused_with_what_is_missing_and_what_works(name):
    with pytest.raises(RequestError) as error:
        build_objective(parse_losses(name), ModelPair(resnet(), tiny_config()))
    (fault,) = error.value.faults
    assert "the student's config (resnet) gives no such number" in fault.problem
    assert "hidden_size" in fault.problem or "num_attention_heads" in fault.problem
    assert fault.fix == "Losses on logits work: dkd, jsd, kl, logit_mse, reverse_kl, task."


def test_both_models_are_named_where_both_lack_it():
    with pytest.raises(RequestError) as error:
        build_objective(parse_losses("minilm"), ModelPair(resnet(), resnet()))
    assert [fault.problem.partition(" and the ")[2].split("'")[0] for fault in error.value.faults] == [
        "student",
        "teacher",
    ]


def test_losses_that_need_no_structure_are_built_for_any_model():
    losses = "kl,jsd,reverse_kl,dkd,logit_mse,rkd"
    assert list(build_objective(parse_losses(losses), ModelPair(resnet(), resnet())).terms) == losses.split(",")


def test_sizes_that_differ_by_stage_are_no_number():
    """Swin's attention heads are a list."""
    with pytest.raises(RequestError, match=r"losses on relations need num_attention_heads, and the student's config"):
        build_objective(parse_losses("minilmv2"), ModelPair(AutoConfig.for_model("swin"), tiny_config()))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_loss_is_built_for_every_family(family):
    pair = ModelPair(tiny_config(family, 2), tiny_config("bert", 4, 64))
    assert list(build_objective(parse_losses(",".join(STRUCTURAL)), pair).terms) == STRUCTURAL


@pytest.mark.parametrize(("family", "sizes"), ENCODER_DECODERS.items())
def test_every_loss_is_built_for_models_that_spell_their_sizes_otherwise(family, sizes):
    config = AutoConfig.for_model(family, **sizes)
    objective = build_objective(parse_losses(",".join(STRUCTURAL)), ModelPair(config, tiny_config()))
    assert list(objective.terms) == STRUCTURAL


@pytest.mark.parametrize(
    ("family", "options", "expected"),
    [
        ("bert", {}, (4, 8)),
        ("llama", {"num_key_value_heads": 2}, (2, 8)),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 16}, (2, 16)),
        ("t5", {"d_model": 32, "d_kv": 16}, (4, 16)),
        ("mobilebert", {"intra_bottleneck_size": 16}, (4, 4)),
    ],
)
def test_grouped_and_wide_heads_are_read_from_the_config(family, options, expected):
    config = AutoConfig.for_model(family, **{**SIZES, **options})
    assert (key_value_heads(config), head_size(config)) == expected
