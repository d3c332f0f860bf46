"""Narrower heads of whole models: exact at full width, within budgets, saved and loaded, refused where impossible."""

import copy

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from hfcompress.calibration import calibration_inputs
from hfcompress.calibration.sensitivity import measure_sensitivity
from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.factorization.head_clock import time_widths
from hfcompress.factorization.head_size import HeadSizeConfig, head_size, predict_head_size
from hfcompress.factorization.heads import cut_by_data, cut_by_weights
from hfcompress.factorization.svd import SvdConfig, svd
from hfcompress.modeling.factors import merge
from hfcompress.modeling.groups import scales_scores
from hfcompress.modeling.linear import weight_of
from hfcompress.modeling.narrow_heads import attentions_of, put_heads, read_heads
from hfcompress.modeling.structure import structure_of
from hfcompress.modeling.targets import targets_of
from tests.modeling.test_structure import NAMED
from tests.modeling.test_surgery import outputs
from tests.pruning.contexts import tiny_context
from tests.pruning.images import image_context
from tests.tiny import tiny_head, tiny_model

TEXT = [
    *("albert", "bart", "bert", "distilbert", "electra", "gpt2", "mobilebert", "mpnet"),
    *("mt5", "roberta", "t5", "xlm-roberta"),
]


@pytest.fixture
def context(tmp_path):
    return tiny_context(tmp_path)


def sharp(family="bert", layers=2, **options):
    """A model whose heads attend to some tokens more than to others."""
    head = "ForImageClassification" if family == "vit" else "ForSequenceClassification"
    model = tiny_head(family, head, layers, **NAMED, **options)
    with torch.no_grad():
        for attention in attentions_of(model):
            for name in attention.layers:
                weight_of(model.get_submodule(name)).normal_(std=0.2 if family in ("t5", "mt5") else 0.4)
    return model


def widths(model):
    return {one.group: one.width for one in attentions_of(model)}


def run(model, context, **options):
    return head_size(model, parse(HeadSizeConfig, {"examples": 24, **options}), context)


def cuts_of(model, context, data):
    found = {}
    batches = calibration_inputs(model, context, 24, 32) if data else []
    for one in attentions_of(model):
        heads, ends = read_heads(model, one), (one.layers[0], one.layers[-1])
        if data:
            known = measure_sensitivity(model, ends, batches, context.task, 0.5, 0)
            found[one.group] = cut_by_data(heads, one.heads, *(known[name] for name in ends))
        else:
            found[one.group] = cut_by_weights(heads, one.heads)
    return found


def narrowed(model, cuts, width):
    """A copy with heads of another width."""
    small = copy.deepcopy(model)
    heads = {
        one.group: cuts[one.group].narrow(read_heads(small, one), width, scales_scores(one.module))
        for one in attentions_of(small)
    }
    return put_heads(small, heads)


@pytest.mark.parametrize(("family", "data"), [(f, data) for f in TEXT for data in (True, False)] + [("vit", False)])
def test_at_the_full_width_it_answers_as_before(family, data, context):
    model = sharp(family)
    (width,) = {*widths(model).values()}
    same = narrowed(model, cuts_of(model, context, data), width)
    assert torch.allclose(outputs(same), outputs(model), atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "bart"])
def test_the_wider_the_nearer(family, context):
    model = sharp(family)
    cuts = cuts_of(model, context, True)
    batches = calibration_inputs(model, context, 24, 32)

    def error(small):
        with torch.no_grad():
            return float(sum((small(**one).logits - model(**one).logits).square().sum() for one in batches))

    errors = [error(narrowed(model, cuts, width)) for width in (2, 5, 7)]
    assert errors[0] > errors[-1]  # in between what the loss sees may fall and squares not
    plain = [error(narrowed(model, cuts_of(model, context, False), width)) for width in (2, 5, 7)]
    assert sum(errors) < sum(plain)


@pytest.mark.parametrize("family", TEXT)
def test_every_family_is_saved_and_loaded(family, context, tmp_path):
    model = run(sharp(family), context, rank_ratio=0.5, multiple=1)
    (width,) = {*widths(model).values()}
    assert width == (2 if family == "mobilebert" else 4)
    model.save_pretrained(tmp_path / "small")
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small", output_loading_info=True)
    assert not {kind: names for kind, names in report.items() if names}
    assert torch.equal(outputs(loaded), outputs(model))
    assert widths(loaded) == widths(model)
    body = transformers.AutoModel.from_pretrained(tmp_path / "small")
    assert torch.equal(outputs(body), outputs(model.base_model))


def test_images_need_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("hfcompress.factorization.head_size.calibration_inputs", None)
    model = run(sharp("vit"), image_context(tmp_path), rank=4, data=False)
    model.save_pretrained(tmp_path / "small")
    loaded = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "small")
    assert torch.equal(outputs(loaded), outputs(model))
    assert {*widths(loaded).values()} == {4}


def test_t5_with_heads_all_alike_is_a_stock_model(context):
    model = run(sharp("t5"), context, rank=4)
    assert model.config.d_kv == 4
    assert not hasattr(model.config, "quantization_config")
    other = run(sharp("t5"), context, rank=4, layers=[1])
    assert other.config.d_kv == 8
    assert {entry["width"] for entry in structure_of(other.config).heads.values()} == {4}


def test_the_manifest_says_the_width(context):
    model = run(sharp("bert"), context, rank=3, layers=[1])
    place = "encoder.layer.1"
    expected = {f"{place}.attention.self.{name}": {"shape": [12, 32]} for name in ("query", "key", "value")}
    structure = structure_of(model.config)
    assert structure.modules == {**expected, f"{place}.attention.output.dense": {"shape": [32, 12]}}
    assert structure.heads == {f"{place}.heads": {"kept": [0, 1, 2, 3], "of": 4, "width": 3}}


@pytest.mark.parametrize("target", ["target_params", "target_macs", "target_latency"])
def test_a_budget_is_shared_out(target, context, monkeypatch):
    """Measured times of heads this small are noise: here each dimension takes 1 ms."""
    module = "hfcompress.factorization.head_size.time_widths"
    monkeypatch.setattr(module, lambda heads, width, *rest: np.arange(width + 1.0))
    model = sharp("bert", layers=3)
    whole = sum(module.weight.numel() for name, module in targets_of(model, modules=["*attention*"]).items())
    small = run(copy.deepcopy(model), context, **{target: 0.6}, multiple=1)
    found = widths(small).values()
    assert len({*found}) > 1
    assert sum(found) <= 0.6 * 3 * 8
    left = sum(module.weight.numel() for name, module in targets_of(small, modules=["*attention*"]).items())
    assert 0.5 * whole < left <= 0.6 * whole


def test_energy_keeps_what_it_says(context):
    kept = [widths(run(sharp("bert"), context, energy=share, multiple=1)) for share in (0.5, 0.99)]
    assert all(width <= kept[1][group] for group, width in kept[0].items())
    assert kept[0] != kept[1]


@pytest.mark.parametrize("options", [{"rank": 8}, {"rank": 100}, {"rank_ratio": 1.0}])
def test_heads_that_would_not_get_narrower_stay(options, context):
    model, told = sharp("bert"), []
    before, config = outputs(model), model.config.to_dict()
    context.say = told.append
    run(model, context, **options)
    assert told == ["heads stay as wide as they are, since they would not gain: encoder.layer.{0,1}.heads"]
    assert torch.equal(outputs(model), before)
    assert model.config.to_dict() == config


def test_heads_can_be_made_narrower_again(context):
    model = run(sharp("bert"), context, rank=6)
    run(model, context, rank_ratio=0.5, multiple=1)
    assert {*widths(model).values()} == {3}
    assert {entry["width"] for entry in structure_of(model.config).heads.values()} == {3}


def test_low_rank_afterwards(context, tmp_path):
    model = svd(run(sharp("bert"), context, rank=6), parse(SvdConfig, {"rank": 8}), context)
    model.save_pretrained(tmp_path / "small")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small")
    assert torch.equal(outputs(loaded), outputs(model))
    with pytest.raises(RequestError, match=r"8 of these layers are of low rank already, such as '.*layer\.0.*query'"):
        run(model, context, rank=4)
    before, heads = outputs(model), structure_of(model.config).heads
    assert torch.allclose(outputs(merge(model)), before, atol=1e-5)
    assert structure_of(model.config).heads == heads


def test_low_rank_feed_forward_networks_are_no_hindrance(context):
    model = svd(sharp("bert"), parse(SvdConfig, {"rank": 8, "exclude": ["*attention*"]}), context)
    assert {*widths(run(model, context, rank=4)).values()} == {4}


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_what_it_would_make_is_told_beforehand(family, context):
    model = sharp(family)
    before = copy.deepcopy(model.state_dict())
    options = parse(HeadSizeConfig, {"rank": 4, "examples": 24})
    config = predict_head_size(model, options, context)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    expected = context.findings.pop("low_rank")
    small = head_size(model, options, context)
    assert small.config.to_dict() == config.to_dict()
    assert expected["is_divergence"]
    assert expected["milliseconds"] > 0
    assert context.findings["low_rank"]["predicted_loss"] == expected["predicted_loss"] > 0
    layers = [small.get_submodule(name) for one in attentions_of(small) for name in one.layers]
    assert expected["parameters"] == sum(weight_of(layer).numel() for layer in layers)


def test_the_clock_never_falls():
    times = time_widths(2, 8, 16, 16, 4)
    assert times.shape == (9,)
    assert (np.diff(times) >= 0).all()
    assert times[0] == 0


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("llama", "rotary positions turn queries and keys"),
        ("qwen3", "rotary positions"),
        ("modernbert", "rotary positions"),
        ("deberta-v2", "scores are also products with positions"),
        ("squeezebert", "come from grouped convolutions"),
    ],
)
def test_families_that_cannot_are_refused(family, why, context):
    with pytest.raises(ModelError, match=f"heads of {family} cannot be made narrower: .*{why}.*Use activation"):
        run(tiny_head(family, "ForSequenceClassification"), context, rank=4)


def test_convolutions_are_refused(context):
    with pytest.raises(RequestError, match=r"the layers of this resnet are convolutions, .* Choose tucker"):
        run(tiny_head("resnet", "ForImageClassification"), context, rank=4)


def test_positions_in_the_scores_are_refused(context):
    if not transformers.__version__.startswith("4."):
        pytest.skip("transformers 5 has no such positions any more")
    model = tiny_model("bert", position_embedding_type="relative_key", attn_implementation="eager")
    with pytest.raises(ModelError, match="its position_embedding_type is not absolute"):
        run(model, context, rank=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing says what the ranks are to be"),
        ({"rank": 4, "energy": 0.9}, "rank and energy are given"),
        ({"rank": 0}, "rank"),
        ({"rank": 4, "modules": ["*.query"]}, "modules: they hold no attention as a whole"),
        ({"rank": 4, "modules": ["*.nothing"]}, "matches nothing"),
        ({"rank": 4, "layers": [7]}, "there is no layer 7"),
        ({"target_params": 0.01}, r"The smallest possible model takes 0\.5"),
    ],
)
def test_bad_options_are_refused(options, message, context):
    with pytest.raises(RequestError, match=message):
        run(tiny_model(), context, **options)


def test_nan_is_refused_and_the_layer_named(context):
    model = tiny_model()
    weight_of(model.bert.encoder.layer[1].attention.self.value).data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"layer\.1\.attention\.self\.value"):
        run(model, context, rank=4)
