"""The structure manifest: a pruned model is saved, loaded anywhere, trained, cut and pruned again."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForSequenceClassification, Trainer, TrainingArguments

from hfcompress import CompressionArguments, CompressionTrainer, cut
from hfcompress.errors import ModelError
from hfcompress.measure.size import measure_size
from hfcompress.modeling.building import build_model
from hfcompress.modeling.families import _RENAMED, FAMILIES
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.load import load_config, load_model
from hfcompress.modeling.projections import layer_heads, record_projections
from hfcompress.modeling.structure import Structure, structure_of
from hfcompress.modeling.surgery import keep_layers, keep_units
from hfcompress.tasks import TASKS
from tests.modeling.test_surgery import outputs, some, with_emptied
from tests.tiny import CONVOLUTIONAL, ENCODER_DECODERS, HEADS, tiny_head, tiny_inputs, tiny_model, tiny_tokenizer

CLASSIFY = TASKS["text-classification"]
# transformers 5 gives BART three labels before it reads its own number.
NAMED = {"id2label": {0: "bad", 1: "good"}}


def pruned(family="bert", head="ForSequenceClassification", choose=with_emptied, **options):
    model = tiny_head(family, head, **NAMED, **options)
    return keep_units(model, choose(groups_of(model, ["heads", "neurons", "filters"])))


@pytest.mark.parametrize(
    ("family", "head"), [(f, head) for f, heads in HEADS.items() for head in heads if f not in CONVOLUTIONAL]
)
def test_saved_and_loaded_it_computes_the_same(family, head, tmp_path):
    model = pruned(family, head)
    model.save_pretrained(tmp_path)
    loaded, report = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path, output_loading_info=True)
    assert not {kind: names for kind, names in report.items() if names}
    assert torch.equal(outputs(loaded), outputs(model))
    assert structure_of(loaded.config).to_dict() == structure_of(model.config).to_dict()
    if head in ("ForMaskedLM", "ForCausalLM", "ForSeq2SeqLM"):
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert tied == (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight)


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_filters_saved_and_loaded(family, tmp_path):
    model = pruned(family, "ForImageClassification", some)
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert torch.allclose(outputs(loaded), outputs(model), atol=1e-6)  # kernels depend on where weights lie in memory


FRESH = """
import sys, torch, hfcompress
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    print(model(input_ids=torch.tensor([[5, 6, 7]])).logits.double().tolist())
"""


@pytest.mark.parametrize("order", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_a_fresh_process_needs_only_the_import(order, tmp_path):
    model = pruned()
    model.save_pretrained(tmp_path)
    script = FRESH if order == "before" else "import transformers.modeling_utils\n" + FRESH
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert json.loads(done.stdout) == model(input_ids=torch.tensor([[5, 6, 7]])).logits.double().tolist()


def test_the_manifest_can_be_read(tmp_path):
    keep_units(
        model := tiny_model("bert", layers=2),
        {"encoder.layer.0.heads": [], "encoder.layer.1.heads": [1, 3], "encoder.layer.1.neurons": range(5)},
    ).save_pretrained(tmp_path)
    place = "encoder.layer.{}"
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"] == {
        "quant_method": "hfcompress",
        "format": 1,
        "modules": {
            **{f"{place.format(0)}.attention.self.{name}": {"zeros": 8} for name in ("query", "key", "value")},
            f"{place.format(0)}.attention.output.dense": {"constant": 32},
            **{f"{place.format(1)}.attention.self.{name}": {"shape": [16, 32]} for name in ("query", "key", "value")},
            f"{place.format(1)}.attention.output.dense": {"shape": [32, 16]},
            f"{place.format(1)}.intermediate.dense": {"shape": [5, 32]},
            f"{place.format(1)}.output.dense": {"shape": [32, 5]},
        },
        "heads": {
            f"{place.format(0)}.heads": {"kept": [], "of": 4},
            f"{place.format(1)}.heads": {"kept": [1, 3], "of": 4},
        },
    }
    assert layer_heads(model.config) == [0, 2]


@pytest.mark.parametrize("family", ["bert", "t5", "bart", "vit"])
def test_the_body_loads_without_its_head(family, tmp_path):
    head = "ForImageClassification" if family == "vit" else "ForSequenceClassification"
    model = pruned(family, head)
    model.save_pretrained(tmp_path)
    body = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(outputs(body), outputs(model.base_model))
    body.save_pretrained(tmp_path / "body")
    again = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path / "body")
    assert torch.equal(outputs(again.base_model), outputs(body))


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"device_map": "cpu"}, {"low_cpu_mem_usage": True}])
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_loads_as_any_other_model(family, options, tmp_path):
    model = pruned(family)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, **options)
    assert loaded.dtype == options.get("dtype", torch.float32)
    expected = outputs(model.to(loaded.dtype)).float()
    assert torch.allclose(outputs(loaded).float(), expected, atol=1e-6)
    assert loaded.float().dtype == torch.float32


def test_works_in_a_pipeline(tmp_path):
    model = pruned()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (found,) = transformers.pipeline("text-classification", model=str(tmp_path))("the film is fine")
    assert found["label"] in ("bad", "good")


def arguments(kind, folder):
    return kind(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=2,
        report_to=[],
        learning_rate=1e-2,
        use_cpu=True,
    )


@pytest.mark.parametrize(
    ("trainer", "kind"), [(Trainer, TrainingArguments), (CompressionTrainer, CompressionArguments)]
)
def test_what_was_loaded_trains_and_is_saved_again(trainer, kind, tmp_path):
    pruned().save_pretrained(tmp_path / "a")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a")
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    rows = [{"input_ids": [2, 5 + i, 3], "attention_mask": [1, 1, 1], "labels": i % 2} for i in range(6)]
    running = trainer(model=model, args=arguments(kind, tmp_path / "run"), train_dataset=rows)
    running.train()
    running.save_model(str(tmp_path / "b"))
    moved = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    assert "bert.encoder.layer.0.attention.output.dense.bias" in moved  # of a layer without heads
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "b")
    assert torch.equal(outputs(again), outputs(model.eval()))
    configs = [json.loads((tmp_path / name / "config.json").read_text())["quantization_config"] for name in "ab"]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("family", ["bert", "mpnet", "t5", "gpt2", "qwen3", "squeezebert", "deberta-v2"])
def test_what_was_loaded_can_be_pruned_again(family, tmp_path):
    model = pruned(family, HEADS[family][-1], some)
    model.save_pretrained(tmp_path)
    loaded = getattr(transformers, f"AutoModel{HEADS[family][-1]}").from_pretrained(tmp_path)
    for one in (model, loaded):
        keep_units(one, with_emptied(groups_of(one)))
    assert torch.equal(outputs(loaded), outputs(model))
    loaded.save_pretrained(tmp_path / "again")
    again = getattr(transformers, f"AutoModel{HEADS[family][-1]}").from_pretrained(tmp_path / "again")
    assert torch.equal(outputs(again), outputs(model))


@pytest.mark.parametrize("family", sorted(set(HEADS) - set(CONVOLUTIONAL)))
def test_layers_can_be_left_out_afterwards(family, tmp_path):
    head = HEADS[family][-1]
    model = pruned(family, head, layers=4)
    small = keep_layers(model, [0, 2, 3])
    small.save_pretrained(tmp_path)
    loaded = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path)
    assert torch.equal(outputs(loaded), outputs(small))
    if family != "albert":
        heads = layer_heads(model.config)
        assert layer_heads(small.config) == [heads[0], *heads[2:]]
    assert torch.equal(outputs(cut(model, [0, 1, 2, 3])), outputs(model))


def test_cutting_away_what_was_pruned_leaves_a_stock_model():
    model = keep_units(tiny_model("bert", layers=2), {"encoder.layer.1.heads": [0]})
    assert not hasattr(cut(model, [0]).config, "quantization_config")


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_encoder_and_decoder_are_cut_apart(family):
    model = pruned(family, "ForSeq2SeqLM", layers=3)
    small = cut(model, [0, 2], [1])
    assert torch.isfinite(outputs(small)).all()


def test_sizes_count_what_is_there(tmp_path):
    model = pruned()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    size = measure_size(load_config(str(tmp_path)), CLASSIFY, 16)
    dense = measure_size(tiny_model("bert").config, CLASSIFY, 16)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters()) < dense.parameters
    assert size.macs < dense.macs
    assert torch.equal(outputs(load_model(str(tmp_path), CLASSIFY)), outputs(model))


def test_a_config_builds_the_layers_it_says():
    model = pruned()
    other = build_model(AutoModelForSequenceClassification, model.config)
    assert {n: t.shape for n, t in other.state_dict().items()} == {n: t.shape for n, t in model.state_dict().items()}
    assert torch.isfinite(outputs(other.eval())).all()


def test_relations_of_a_pruned_layer_are_recorded_and_of_an_emptied_one_refused():
    model = keep_units(tiny_model("bert"), {"encoder.layer.0.heads": [1, 2, 3], "encoder.layer.1.heads": []})
    with record_projections(model, [0]) as recorded:
        outputs(model)
        assert recorded[0].query.shape[2:] == (3, 8)
    with pytest.raises(ModelError, match="pruning left layer 1 no heads"), record_projections(model, [1]):
        pass


def test_a_stock_model_is_saved_as_before(tmp_path):
    model = tiny_model("bert")
    model.save_pretrained(tmp_path / "a")
    keep_units(model, {group.name: range(group.units) for group in groups_of(model)}).save_pretrained(tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "quantization_config" not in (tmp_path / "a" / "config.json").read_text()


def changed(folder, change):
    pruned().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    change(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))


QUERY = "encoder.layer.1.attention.self.query"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=99), "made by a newer hfcompress .structure format 99, this one reads 1"),
        (lambda c: c.update(format="x"), "quantization_config.format: .* is 'x', not a number"),
        (lambda c: c.update(modules=3), "quantization_config.modules: .* is 3, not a mapping"),
        (lambda c: c.update(more=1), "quantization_config.more: .* is not known"),
        (lambda c: c["modules"].update({QUERY: {"rank": 3}}), f"modules.{QUERY}: .* known are shape, zeros, constant"),
        (lambda c: c["modules"].update({QUERY: {"shape": [0, 32]}}), f"modules.{QUERY}.shape: .* not sizes"),
        (lambda c: c["modules"].update({QUERY: {"shape": [64, 32]}}), r"\[64, 32\] does not fit into \[32, 32\]"),
        (lambda c: c["modules"].update({"encoder.layer.9.x": {"zeros": 1}}), "a module that .* does not have"),
        (lambda c: c["modules"].update({"pooler.dense.x": {"zeros": 1}}), "a module that .* does not have"),
        (lambda c: c["heads"].update({"encoder.layer.0.heads": {"kept": [7], "of": 4}}), "heads.encoder.layer.0.heads"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_and_its_key_named(change, message, tmp_path):
    changed(tmp_path, change)
    with pytest.raises(ModelError, match=message):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path), CLASSIFY)


def test_names_of_the_other_major_of_transformers_are_understood():
    model = pruned("vit", "ForImageClassification")
    here = structure_of(model.config)
    (other,) = {row for row in _RENAMED["vit"] if row != FAMILIES["vit"]}
    own = FAMILIES["vit"]
    parts = dict(zip((*own.attention, *own.ffn), (*other.attention, *other.ffn), strict=True))

    def renamed(name):
        number, _, part = name.removeprefix(f"{own.layers}.").partition(".")
        return f"{other.layers}.{number}.{parts.get(part, part)}"

    there = [{renamed(name): entry for name, entry in names.items()} for names in (here.modules, here.heads)]
    assert not here.modules.keys() & there[0].keys()
    model.config.quantization_config = Structure(*there)
    assert structure_of(model.config).to_dict() == here.to_dict()


def test_another_quantization_is_left_alone():
    config = tiny_model("bert").config
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert not structure_of(config)
    assert Structure().to_dict() == {"quant_method": "hfcompress", "format": 1, "modules": {}, "heads": {}}


def test_inputs_of_this_file_are_padded():
    assert not tiny_inputs(tiny_model("bert"))["attention_mask"].all()


@pytest.mark.parametrize("kept", [[0], [10**10 - 1], [0, 0], [1, 0], [-1], [0.5]])
def test_a_manifest_that_tells_of_very_many_heads_takes_no_memory(kept):
    heads = {"encoder.layer.0.heads": {"kept": kept, "of": 10**10}}
    if kept in ([0], [10**10 - 1]):
        assert Structure(heads=heads).heads == heads
    else:
        with pytest.raises(ModelError, match="damaged"):
            Structure(heads=heads)
