"""ONNX files that are called as PyTorch models: inputs made up, encoder and decoder opened together, texts written."""

import json
import shutil
import warnings

import numpy as np
import onnx
import pytest
import torch
import transformers
from datasets import Dataset
from onnx import TensorProto, helper

from hfcompress.errors import ModelError
from hfcompress.measure.quality import predict
from hfcompress.modeling import onnx_model
from hfcompress.modeling.onnx_model import is_onnx, load_onnx, model_folder, start_session
from hfcompress.modeling.onnx_seq2seq import OnnxSeq2Seq, pair_of
from hfcompress.tasks import TASKS
from tests.tiny import sentences, tiny_config, tiny_head, tiny_tokenizer

INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def graph(file, nodes, inputs, outputs, constants=()):
    """Write a graph by hand: inputs and outputs as name -> (type, shape)."""
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in ends.items()]
        for ends in (inputs, outputs)
    ]
    made = helper.make_graph(nodes, "tiny", *values, [onnx.numpy_helper.from_array(v, n) for n, v in constants])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
    return file


def echo(folder, taken):
    """A graph that returns its inputs as floats, under the names `got_…`; a config lies beside it."""
    tiny_config().save_pretrained(folder)
    nodes = [helper.make_node("Cast", [name], [f"got_{name}"], to=FLOAT) for name in taken]
    outputs = {f"got_{name}": (FLOAT, shape) for name, (_, shape) in taken.items()}
    return graph(folder / "model.onnx", nodes, taken, outputs)


def test_an_onnx_file_is_known_by_its_name():
    assert is_onnx("small/onnx/model_quantized.onnx")
    assert not is_onnx("small")


def test_the_config_lies_beside_the_file_or_above_its_folder(tmp_path):
    (tmp_path / "onnx").mkdir()
    file = echo(tmp_path, {"input_ids": (INT, ["batch", "seq"])})
    assert model_folder(file) == tmp_path
    moved = tmp_path / "onnx" / "model.onnx"
    shutil.copy(file, moved)
    assert model_folder(moved) == tmp_path
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config.json beside it or in the folder above"):
        model_folder(moved)
    with pytest.raises(ModelError, match="there is no such file"):
        model_folder(tmp_path / "other.onnx")


def test_what_nobody_gives_is_made_up_as_pytorch_does(tmp_path):
    text = (INT, ["batch", "seq"])
    names = ["input_ids", "attention_mask", "token_type_ids", "position_ids"]
    file = echo(tmp_path, {**dict.fromkeys(names, text), "past_key_values.0.key": (FLOAT, ["batch", 4, "past", 8])})
    model = load_onnx(file)
    assert model.input_names == [*names, "past_key_values.0.key"]
    assert model.main_input_name == "input_ids"
    found = model.eval()(input_ids=torch.tensor([[7, 8, 9], [7, 0, 0]]))
    assert found["got_attention_mask"].tolist() == [[1, 1, 1]] * 2
    assert found["got_token_type_ids"].tolist() == [[0, 0, 0]] * 2
    assert found["got_position_ids"].tolist() == [[0, 1, 2]] * 2
    assert found["got_past_key_values.0.key"].shape == (2, 4, 0, 8)


def test_what_is_given_is_taken_in_the_graphs_type_and_the_rest_left_out(tmp_path):
    model = load_onnx(echo(tmp_path, {"input_ids": (INT, ["batch", "seq"]), "attention_mask": (INT, ["batch", "seq"])}))
    ids = torch.tensor([[1, 2], [3, 4]])
    found = model(input_ids=ids.int().T, attention_mask=torch.tensor([[True, False], [True, True]]), labels=ids)
    assert found["got_input_ids"].tolist() == [[1, 3], [2, 4]]
    assert found["got_attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_an_input_that_cannot_be_made_up_is_named(tmp_path):
    model = load_onnx(echo(tmp_path, {"input_ids": (INT, ["batch", "seq"]), "bbox": (INT, ["batch", "seq", 4])}))
    with pytest.raises(ModelError, match="takes bbox, which it was not given"):
        model(input_ids=torch.tensor([[1, 2]]))


def test_inputs_that_the_graph_cannot_take_are_named_with_their_sizes(tmp_path):
    model = load_onnx(echo(tmp_path, {"input_ids": (INT, ["batch", 4])}))
    with pytest.raises(ModelError, match=r"cannot run on input_ids \(1, 2\): .*Got: 2 Expected: 4"):
        model(input_ids=torch.tensor([[1, 2]]))


def test_images_are_the_main_input_where_there_are_any(tmp_path):
    model = load_onnx(echo(tmp_path, {"pixel_values": (FLOAT, ["batch", 3, "height", "width"])}))
    assert model.main_input_name == "pixel_values"
    pixels = torch.rand(2, 3, 4, 4)
    assert torch.equal(model(pixel_values=pixels)["got_pixel_values"], pixels)


def test_a_decoder_that_reads_the_source_again_reads_it_one_place_later(tmp_path):
    taken = dict.fromkeys(["input_ids", "decoder_input_ids"], (INT, ["batch", "seq"]))
    file = echo(tmp_path, taken)
    tiny_config("bart").save_pretrained(tmp_path)
    found = load_onnx(file)(input_ids=torch.tensor([[7, 8, 9]]))
    assert found["got_decoder_input_ids"].tolist() == [[3, 7, 8]]  # 3 starts its decoder


def test_the_cache_is_left_out_unless_it_is_asked_for(tmp_path):
    tiny_config("gpt2").save_pretrained(tmp_path)
    text = (INT, ["batch", "seq"])
    nodes = [helper.make_node("Cast", ["input_ids"], [name], to=FLOAT) for name in ("logits", "present.0.key")]
    outputs = {"logits": (FLOAT, text[1]), "present.0.key": (FLOAT, text[1])}
    model = load_onnx(graph(tmp_path / "model.onnx", nodes, {"input_ids": text}, outputs))
    ids = torch.tensor([[1, 2]])
    assert list(model(input_ids=ids)) == ["logits"]
    assert model.run(["present.0.key"], {"input_ids": ids})["present.0.key"].tolist() == [[1, 2]]


def test_a_broken_file_and_a_missing_runtime_are_said(tmp_path, monkeypatch):
    file = echo(tmp_path, {"input_ids": (INT, ["batch", "seq"])})
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot open it: .*Export the model anew"):
        load_onnx(file)
    monkeypatch.setattr(onnx_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs ONNX Runtime, which is not installed. Run: pip install onnxruntime"):
        start_session(file)


def test_threads_are_those_asked_for_or_torchs(tmp_path):
    file = echo(tmp_path, {"input_ids": (INT, ["batch", "seq"])})
    assert start_session(file, 2).get_session_options().intra_op_num_threads == 2
    assert start_session(file).get_session_options().intra_op_num_threads == torch.get_num_threads()


WORDS = 64


def pair(folder, family="bart", suffix="", end=None):
    """A pair that says the token after the last one, and ends after `end`; its cache counts the tokens read so far."""
    folder.mkdir(exist_ok=True)
    config = tiny_config(family)
    config.save_pretrained(folder)
    text, state = ["batch", "source"], (FLOAT, ["batch", "source", 1])
    encoder = [helper.make_node("Cast", ["input_ids"], ["as_float"], to=FLOAT)]
    encoder += [helper.make_node("Mul", ["as_float", "mask"], ["masked"])]
    encoder.insert(1, helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT))
    encoder += [helper.make_node("Unsqueeze", ["masked", "last"], ["last_hidden_state"])]
    last = ("last", np.array([2]))
    file = folder / f"encoder_model{suffix}.onnx"
    graph(
        file, encoder, dict.fromkeys(["input_ids", "attention_mask"], (INT, text)), {"last_hidden_state": state}, [last]
    )
    cache = (FLOAT, ["batch", 1, "past", 1])
    decoder = [
        helper.make_node("Add", ["input_ids", "one"], ["next"]),
        helper.make_node("OneHot", ["next", "words", "values"], ["logits"], axis=-1),
        helper.make_node("Cast", ["input_ids"], ["new"], to=FLOAT),
        helper.make_node("Unsqueeze", ["new", "axes"], ["new_4d"]),
        helper.make_node("Concat", ["past_key_values.0.decoder.key", "new_4d"], ["present.0.decoder.key"], axis=2),
        helper.make_node("Unsqueeze", ["encoder_hidden_states", "axis"], ["source"]),
        helper.make_node("Cast", ["use_cache_branch"], ["again"], to=FLOAT),
        helper.make_node("Add", ["source", "again"], ["present.0.encoder.key"]),
    ]
    inputs = {
        "input_ids": (INT, ["batch", "target"]),
        "encoder_hidden_states": state,
        "past_key_values.0.decoder.key": cache,
        "past_key_values.0.encoder.key": cache,
        "use_cache_branch": (TensorProto.BOOL, [1]),
    }
    outputs = {
        "logits": (FLOAT, ["batch", "target", WORDS]),
        "present.0.decoder.key": (FLOAT, ["batch", 1, "all", 1]),
        "present.0.encoder.key": (FLOAT, ["batch", 1, "source", 1]),
    }
    constants = {"one": 1, "words": WORDS, "axes": [1, 3], "axis": [1]}
    arrays = [(name, np.array(value)) for name, value in constants.items()]
    arrays.append(("values", np.array([0, 1], dtype=np.float32)))
    graph(folder / f"decoder_model_merged{suffix}.onnx", decoder, inputs, outputs, arrays)
    settings = {"decoder_start_token_id": 3, "eos_token_id": end, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    return folder / f"decoder_model_merged{suffix}.onnx"


@pytest.mark.parametrize("suffix", ["", "_quantized"])
@pytest.mark.parametrize("part", ["encoder_model", "decoder_model_merged"])
def test_an_encoder_and_a_decoder_of_one_suffix_are_opened_together(tmp_path, part, suffix):
    pair(tmp_path, suffix=suffix)
    model = load_onnx(tmp_path / f"{part}{suffix}.onnx")
    assert isinstance(model, OnnxSeq2Seq)
    assert (model.encoder.file.name, model.file.name) == (
        f"encoder_model{suffix}.onnx",
        f"decoder_model_merged{suffix}.onnx",
    )
    assert model.input_names == ["input_ids", "attention_mask", "decoder_input_ids"]


def test_half_a_pair_is_refused_and_another_file_is_no_pair(tmp_path):
    decoder = pair(tmp_path, suffix="_quantized")
    (tmp_path / "encoder_model_quantized.onnx").rename(tmp_path / "encoder_model.onnx")
    with pytest.raises(ModelError, match=r"there is no encoder_model_quantized.onnx beside it, the other half"):
        load_onnx(decoder)
    assert pair_of(tmp_path / "model.onnx") is None


def test_a_pair_answers_from_an_empty_cache(tmp_path):
    model = load_onnx(pair(tmp_path))
    ids, mask = torch.tensor([[5, 6, 3], [5, 3, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    found = model(input_ids=ids, attention_mask=mask, decoder_input_ids=torch.tensor([[3, 9], [3, 4]]))
    assert found["logits"].argmax(-1).tolist() == [[4, 10], [4, 5]]
    assert found["encoder_last_hidden_state"].squeeze(-1).tolist() == [[5, 6, 3], [5, 3, 0]]
    again = model(input_ids=ids)  # the decoder reads the source, one place later
    assert again["logits"].argmax(-1).tolist() == [[4, 6, 7], [4, 6, 4]]


def test_a_pair_writes_from_the_start_token_with_its_cache(tmp_path):
    model = load_onnx(pair(tmp_path, end=6))
    assert model.generate(torch.tensor([[5, 3]]), max_new_tokens=9).tolist() == [[3, 4, 5, 6]]
    caches = []
    run = model.run
    model.run = lambda names, inputs: caches.append(inputs) or run(names, inputs)
    model.generate(torch.tensor([[5, 3]]), max_new_tokens=3)
    own = [given.get("past_key_values.0.decoder.key", torch.zeros(0)).flatten().tolist() for given in caches]
    assert own == [[], [3], [3, 4]]
    # What the first step makes of the source stays, whatever later ones return.
    assert [given["past_key_values.0.encoder.key"].flatten().tolist() for given in caches[1:]] == [[5, 3]] * 2


def test_the_generation_configs_rules_hold(tmp_path):
    file = pair(tmp_path)
    rules = {"decoder_start_token_id": 3, "eos_token_id": 5, "min_length": 4, "forced_bos_token_id": 9}
    (tmp_path / "generation_config.json").write_text(json.dumps({**rules, "forced_eos_token_id": 5}))
    assert load_onnx(file).generate(torch.tensor([[7]]), max_new_tokens=4).tolist() == [[3, 9, 10, 11, 5]]
    with pytest.raises(ValueError, match="num_beams must be 1 and do_sample False"):
        load_onnx(file).generate(torch.tensor([[7]]), num_beams=2)


def test_without_a_generation_config_the_models_own_config_says_how_to_write(tmp_path):
    file = pair(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    written = load_onnx(file).generate(torch.tensor([[7]]), max_new_tokens=3)
    assert written[0, 0] == 3
    assert written.shape[1] <= 4


class Bare(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


@pytest.mark.skipif(transformers.__version__ >= "5", reason="torch's old tracer knows models of transformers 4")
def test_quality_is_measured_as_that_of_the_pytorch_model(tmp_path):
    model, tokenizer = tiny_head("distilbert", "ForSequenceClassification"), tiny_tokenizer()
    model.save_pretrained(tmp_path)
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in names}
    ids = torch.full((2, 5), 7)
    ends = {"input_names": names, "output_names": ["logits"], "dynamic_axes": axes}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Bare(model), (ids, torch.ones_like(ids)), tmp_path / "model.onnx", **ends, dynamo=False)
    texts, labels = zip(*sentences(20), strict=True)
    rows = Dataset.from_dict({"text": texts, "labels": [int(label == "positive") for label in labels]})
    task = TASKS["text-classification"]
    expected = predict(model, tokenizer, rows, task, 32)
    found = predict(load_onnx(tmp_path / "model.onnx"), tokenizer, rows, task, 32)
    np.testing.assert_allclose(found, expected, atol=1e-5)
