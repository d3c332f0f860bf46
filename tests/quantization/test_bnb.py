"""bitsandbytes: the same layers as transformers makes while it loads; what is saved loads again, rebuilt layers too."""

import importlib.util
import json

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, BitsAndBytesConfig

from hfcompress import registry
from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.factorization.svd import SvdConfig, svd
from hfcompress.modeling.linear import float_weight
from hfcompress.modeling.load import load_model
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.modeling.manifest import quantized_by
from hfcompress.modeling.packed import compute_as_stored
from hfcompress.modeling.structure import Structure
from hfcompress.modeling.targets import targets_of
from hfcompress.pipeline.quantized import refuse_quantized
from hfcompress.pipeline.recipe import build_recipe, read_steps
from hfcompress.tasks import find_task
from hfcompress.training.lora import LoraOptions, adapted
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_inputs

bnb = pytest.importorskip("bitsandbytes")
TASK = find_task("text-classification")
METHODS = {name: one for name, one in registry.methods("quantization").items() if name.startswith("bnb_")}
SIZES = {"t5": {"d_kv": 64}}
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def context(tmp_path):
    return tiny_context(tmp_path)


def wide(family, **overrides):
    """A model with layers that four bits suit, and factors of rank 64, too."""
    return tiny_head(family, "ForSequenceClassification", width=256, **SIZES.get(family, {}), **overrides)


def quantized(method, model, context, **options):
    return METHODS[method].target(model, parse(METHODS[method].config, options), context).eval()


def layers(model):
    kinds = (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def answers(model, seed=0):
    with torch.no_grad():
        return model(**tiny_inputs(model, seed)).logits


def test_the_methods_are_listed():
    assert list(METHODS) == ["bnb_fp4", "bnb_int8", "bnb_nf4"]


@each_method
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_layers_are_those_that_from_pretrained_makes(method, family, context, tmp_path):
    model = wide(family)
    model.save_pretrained(tmp_path / "float")
    expected = set(targets_of(model)) - {name for name in targets_of(model) if name.endswith(".wo")}
    made = quantized(method, model, context)
    assert set(layers(made)) == expected  # neither head nor embeddings; of T5 transformers keeps `wo` in float
    told = BitsAndBytesConfig.from_dict(made.config.quantization_config.to_dict())
    place = tmp_path / "float"
    stock = AutoModelForSequenceClassification.from_pretrained(place, quantization_config=told, dtype=torch.float32)
    compute_as_stored(stock)
    one, other = made.state_dict(), stock.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one if isinstance(one[name], torch.Tensor))
    assert torch.equal(answers(made), answers(stock))


@each_method
@pytest.mark.parametrize("low_rank", [False, True], ids=["stock", "low_rank"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_what_is_saved_loads_again_and_is_saved_again(method, family, low_rank, context, tmp_path):
    model = wide(family)
    model = svd(model, parse(SvdConfig, {"rank": 64}), context) if low_rank else model
    made = quantized(method, model, context)
    assert len(layers(made)) > 0
    made.save_pretrained(tmp_path / "once")
    again = load_model(str(tmp_path / "once"), TASK).eval()
    assert torch.equal(answers(again), answers(made))
    again.save_pretrained(tmp_path / "twice")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "twice", dtype=torch.float32).eval()
    compute_as_stored(plain)
    assert torch.equal(answers(plain), answers(made))
    assert layers(plain) == layers(made)
    assert any(isinstance(module, LowRankLinear) for module in plain.modules()) is low_rank
    body, found = AutoModel.from_pretrained(tmp_path / "twice", output_loading_info=True)
    assert not found["missing_keys"]
    assert len(layers(body)) == len(layers(made))
    assert quantized_by(made.config) == quantized_by(plain.config) == "bitsandbytes"
    held = json.loads((tmp_path / "twice" / "config.json").read_text())["quantization_config"]
    assert held["quant_method"] == ("hfcompress" if low_rank else "bitsandbytes")


def test_eight_bits_are_within_half_a_step_and_four_within_half_a_gap(context):
    model = wide("bert")
    before = {name: module.weight.detach().clone() for name, module in targets_of(model).items()}
    eight = quantized("bnb_int8", wide("bert"), context)
    for name, weight in before.items():
        step = weight.abs().amax(1, keepdim=True) / 127
        # bitsandbytes reads float16, which is off by up to 1/2048 of the number
        assert ((float_weight(eight.get_submodule(name)) - weight).abs() <= 0.5 * step + weight.abs() / 1024).all()
    four = quantized("bnb_nf4", model, context, no_double_quantization=True)
    for name, weight in before.items():
        largest = weight.reshape(-1, 64).abs().amax(1, keepdim=True).expand(-1, 64).reshape(weight.shape)
        widest = (1 - 0.6961928) / 2  # between the two lowest of NF4's values
        assert ((float_weight(four.get_submodule(name)) - weight).abs() <= widest * largest + 1e-6).all()


def test_layers_that_not_every_cpu_reads_stay_float_in_four_bits(context):
    said = []
    context.say = said.append
    made = quantized("bnb_nf4", wide("bert", intermediate_size=96), context)
    assert [name for name in layers(made) if "attention" not in name] == [
        f"bert.encoder.layer.{number}.intermediate.dense" for number in range(2)
    ]  # of 256 inputs and 96 outputs; the other way round 96 inputs are no multiple of 64
    needs = "four bits need inputs in multiples of 64 and outputs in multiples of 32"
    assert said == [f"2 of 12 layers stay float: {needs}"]
    kept = context.findings["bitsandbytes"]["kept_float"]
    assert [name for name in kept if "layer.0" in name] == ["bert.encoder.layer.0.output.dense"]
    assert len(layers(quantized("bnb_int8", wide("bert", intermediate_size=96), context))) == 12
    with pytest.raises(RequestError, match=f"{needs}, which none of the 12 layers has. Name other modules"):
        quantized("bnb_nf4", tiny_head("bert", "ForSequenceClassification", intermediate_size=48), context)


def test_what_ran_is_saved_as_it_was_loaded(context):
    made = quantized("bnb_nf4", wide("bert"), context)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    answers(made)
    after = made.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_findings_say_what_stays_float(context):
    made = quantized("bnb_nf4", wide("bert"), context, exclude=["*.query"])
    assert len(layers(made)) == 10
    found = context.findings["bitsandbytes"]
    assert (found["bits"], found["layers"]) == (4, 10)
    assert [name for name in found["kept_float"] if "query" not in name] == ["bert.pooler.dense", "classifier"]
    assert 0 < found["share"] < 1


def test_weights_that_are_no_numbers_are_refused(context):
    model = wide("bert")
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="NaN"):
        quantized("bnb_nf4", model, context)


def test_bitsandbytes_missing(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else found(name)
    )
    with pytest.raises(RequestError, match=r"pip install 'hfcompress\[bnb\]'"):
        parse(METHODS["bnb_nf4"].config, {})


def test_a_damaged_manifest_is_told():
    with pytest.raises(ModelError, match=r"quantization_config\.bitsandbytes"):
        Structure(modules={"a": {"zeros": 3}}, bitsandbytes={"load_in_4bit": True})
    assert "bitsandbytes" not in Structure(modules={"a": {"zeros": 3}}).to_dict()


LORA = {"lora": {"rank": 2}}


@pytest.mark.parametrize(
    ("steps", "places"),
    [
        ([{"bnb_nf4": {}}, {"bnb_int8": {}}, {"svd": {"rank": 4}}], ["steps.1.bnb_int8", "steps.2.svd"]),
        ([{"bnb_nf4": {}}, {"finetune": {}}], ["steps.1.finetune"]),
        ([{"bnb_nf4": {}}, {"distill": {"student": "cut:layers=1"}}], ["steps.1.distill"]),
        ([{"svd": {"rank": 4}}, {"bnb_nf4": {}}, {"finetune": LORA}], []),
        ([{"bnb_nf4": {}}, {"distill": {"student": "bert-tiny"}}, {"svd": {"rank": 4}}], []),
    ],
)
def test_steps_that_would_change_packed_weights_are_refused(steps, places):
    recipe = build_recipe({"model": "m", "data": {"dataset": "d"}, "steps": steps})
    config = wide("bert").config
    if not places:
        refuse_quantized(config, read_steps(recipe))
        return
    with pytest.raises(RequestError) as caught:
        refuse_quantized(config, read_steps(recipe))
    assert [fault.where for fault in caught.value.faults] == places


def test_a_starting_model_that_is_quantized_is_refused_and_so_is_an_export(context):
    model = svd(wide("bert"), parse(SvdConfig, {"rank": 64}), context)
    steps = read_steps(build_recipe({"model": "m", "data": {"dataset": "d"}, "steps": [{"svd": {"rank": 4}}]}))
    refuse_quantized(model.config, steps)
    config = quantized("bnb_int8", model, context).config
    with pytest.raises(RequestError, match=r"steps\.0\.svd.*quantized already \(bitsandbytes\)"):
        refuse_quantized(config, steps)
    with pytest.raises(RequestError, match="export"):
        refuse_quantized(config, [], exports=True)


@each_method
def test_adapters_are_trained_beside_packed_weights_and_merged_into_them(method, context):
    made = quantized(method, wide("bert"), context)
    name = "bert.encoder.layer.0.output.dense"
    before = float_weight(made.get_submodule(name)).clone()
    with adapted(made, LoraOptions(rank=2), seed=0):
        learned = [key for key, one in made.named_parameters() if one.requires_grad]
        assert sum("lora_" in key for key in learned) == 24
        assert [key for key in learned if "lora_" not in key] == ["classifier.weight", "classifier.bias"]
        assert made.is_quantized is False
        adapter = made.get_submodule(name)
        adapter.lora_B["default"].weight.data.normal_()
        delta = adapter.get_delta_weight("default").detach()
    assert made.is_quantized is True
    assert len(layers(made)) == 12
    merged = float_weight(made.get_submodule(name))
    steps = (before + delta).abs().max() * (1 / 127 if method == "bnb_int8" else 0.35)
    assert (merged - before - delta).abs().max() <= steps
    assert not torch.equal(merged, before)
