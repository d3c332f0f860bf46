"""Loading: what is broken is named with what to do about it, and nothing that comes with a model is ever executed."""

import json
import shutil

import pytest
import torch
import transformers

from hfcompress.errors import ModelError, NetworkError
from hfcompress.modeling.load import load_config, load_model, load_tokenizer
from hfcompress.tasks import TASKS
from tests.tiny import tiny_model

TASK = TASKS["text-classification"]


@pytest.fixture
def folder(teacher_dir, tmp_path):
    """A copy of a sound model of 4 layers and 2 labels, to be broken."""
    return shutil.copytree(teacher_dir, tmp_path / "model")


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def fault_of(load, *args, **options):
    with pytest.raises(ModelError) as error:
        load(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_loads_model_config_and_tokenizer(folder):
    model = load_model(str(folder), TASK)
    assert (model.config.num_hidden_layers, model.dtype, model.training) == (4, torch.float32, False)
    assert load_config(str(folder)).id2label == {0: "negative", 1: "positive"}
    assert load_tokenizer(str(folder))("the film")["input_ids"][0] == 2


def test_loads_half_precision_weights_as_float32(folder):
    tiny_model("bert", layers=4).half().save_pretrained(folder)
    assert {parameter.dtype for parameter in load_model(str(folder), TASK).parameters()} == {torch.float32}


def test_config_values_can_be_overridden(folder):
    assert load_config(str(folder), num_labels=5).num_labels == 5


def test_a_checkpoint_without_a_head_gets_a_new_one(folder):
    tiny_model("bert", layers=4).bert.save_pretrained(folder)
    assert load_model(str(folder), TASK, num_labels=3).classifier.weight.shape == (3, 32)


@pytest.mark.parametrize("load", [load_config, load_tokenizer, lambda source: load_model(source, TASK)])
def test_a_folder_that_is_no_model_is_refused(load, tmp_path):
    assert fault_of(load, str(tmp_path)).startswith(f"{tmp_path}: is not a model folder: it has no config.json.")
    assert fault_of(load, "./nowhere") == "./nowhere: there is no such folder."


def test_a_hub_id_that_cannot_be_reached_is_told_apart():
    with pytest.raises(NetworkError, match="cannot be reached .* 'nobody/nothing'.* or give a local folder"):
        load_model("nobody/nothing", TASK)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{ no", "is not a valid JSON file"),
        (b"\xff\xfe\x00", "is not a valid JSON file"),
        (b"[1, 2]", ""),
        (b'{"model_type": "wonder"}', "model type `wonder`"),
    ],
)
def test_a_broken_config_is_named(folder, content, reason):
    (folder / "config.json").write_bytes(content)
    message = fault_of(load_config, str(folder))
    assert message.startswith(f"{folder}: its config.json cannot be used: ")
    assert reason in message
    assert message.endswith("Give a Hub id or a folder that `save_pretrained` wrote.")


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    message = fault_of(load_model, str(folder), TASK)
    assert "its weights cannot be used: Error no file named model.safetensors found" in message
    assert "Weights are read from safetensors files only" in message


@pytest.mark.parametrize("size", [0, 7, 5000, -50])
def test_weights_cut_short_are_named(folder, size):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    message = fault_of(load_model, str(folder), TASK)
    assert "its weights cannot be used: " in message
    assert "download a damaged one again" in message


class Canary:
    """A pickle that creates a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_refused_without_being_read(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.weight": Canary(folder / "ran")}, folder / "pytorch_model.bin")
    message = fault_of(load_model, str(folder), TASK)
    assert "turn a pickle (pytorch_model.bin) into one with `save_pretrained`" in message
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"intermediate_size": 128}, "bert.encoder.layer.0.intermediate.dense.bias has the shape (128,) (and 11 more)"),
        ({"vocab_size": 70}, "bert.embeddings.word_embeddings.weight has the shape (70, 32)."),
    ],
)
def test_weights_of_another_shape_are_named_with_the_shape_expected(folder, config, reason):
    change(folder / "config.json", **config)
    message = fault_of(load_model, str(folder), TASK)
    assert f"its weights do not fit its config, which says {reason}" in message
    assert "Use the config.json" in message


def test_a_head_for_another_number_of_labels_is_refused(folder):
    message = fault_of(load_model, str(folder), TASK, num_labels=5)
    assert "which says classifier.bias has the shape (5,) (and 1 more)." in message
    assert "the number of labels" in message


def test_layers_without_weights_are_not_filled_with_random_numbers(folder):
    change(folder / "config.json", num_hidden_layers=5)
    message = fault_of(load_model, str(folder), TASK)
    assert "its weights lack bert.encoder.layer.4.attention.output.LayerNorm.bias (and 15 more)." in message


@pytest.mark.parametrize(
    "config", [{"num_attention_heads": 5}, {"hidden_act": "wow"}, {"hidden_size": "wide"}, {"hidden_size": -4}]
)
def test_a_config_that_no_model_can_be_built_from_is_a_model_error(folder, config):
    change(folder / "config.json", **config)
    assert "cannot be used: " in fault_of(load_model, str(folder), TASK)


@pytest.fixture
def code_of_its_own(folder, monkeypatch):
    """A model folder whose files ask for its own code, which creates the file `ran`; no question may be asked."""
    for module in ("configuration_own", "modeling_own", "tokenization_own"):
        (folder / f"{module}.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    classes = {"AutoConfig": "configuration_own.C", "AutoModelForSequenceClassification": "modeling_own.M"}
    change(folder / "config.json", auto_map=classes)
    tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_own.T", None]}}
    change(folder / "tokenizer_config.json", tokenizer_class="T", **tokenizer)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run the model's own code"))
    return folder


def test_a_model_that_needs_its_own_code_is_refused_without_a_question(code_of_its_own):
    change(code_of_its_own / "config.json", model_type="own")
    for load in (load_config, lambda source: load_model(source, TASK)):
        message = fault_of(load, str(code_of_its_own))
        assert "it needs code of its own, which hfcompress never runs." in message
        assert "trust_remote_code" not in message
    assert not (code_of_its_own / "ran").exists()


def test_a_stock_model_that_offers_its_own_code_is_loaded_without_it(code_of_its_own):
    assert type(load_model(str(code_of_its_own), TASK)).__module__.startswith("transformers.")
    assert not (code_of_its_own / "ran").exists()


def test_a_tokenizers_own_code_is_never_executed(code_of_its_own):
    if transformers.__version__.startswith("4."):
        assert "it needs code of its own, which hfcompress never runs." in fault_of(
            load_tokenizer, str(code_of_its_own)
        )
    else:  # reads tokenizer.json without the code
        assert len(load_tokenizer(str(code_of_its_own))) > 20
    assert not (code_of_its_own / "ran").exists()


@pytest.mark.parametrize("content", [None, "{ no", "{}"])
def test_a_missing_or_broken_tokenizer_is_named(folder, content):
    if content is None:
        for file in [*folder.glob("tokenizer*"), *folder.glob("special*")]:
            file.unlink()
    else:
        (folder / "tokenizer.json").write_text(content)
    message = fault_of(load_tokenizer, str(folder))
    assert "its tokenizer " in message
    assert message.endswith("Save the tokenizer into the model's folder: `tokenizer.save_pretrained(folder)`.")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(folder, value):
    model = load_model(str(folder), TASK)
    with torch.no_grad():
        model.bert.encoder.layer[2].output.dense.weight[0, 0] = value
        model.classifier.bias[0] = value
    model.save_pretrained(folder)
    said = fault_of(load_model, str(folder), TASK)
    assert "its weights hold NaN or infinity: bert.encoder.layer.2.output.dense.weight (and 1 more)" in said


def test_weights_in_half_precision_that_are_not_finite_are_named(folder):
    model = tiny_model("bert", layers=4).half()
    model.classifier.bias.data[0] = float("inf")
    model.save_pretrained(folder)
    assert "classifier.bias" in fault_of(load_model, str(folder), TASK)
