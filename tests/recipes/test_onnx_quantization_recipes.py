"""The recipes int8-edge and static-int8 run from start to end, shortened; their files are in few bits."""

import json

import onnx
import pytest

from hfcompress.errors import RequestError
from hfcompress.export.backends.base import find_backend
from tests.cli.support import hfcompress
from tests.tiny import sentences, tiny_head, tiny_tokenizer

try:
    find_backend("auto")
except RequestError:
    pytest.skip("no export backend is installed", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("brisk")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A tiny model and tiny rows in the places of the real ones, and a short step."""
    folder = tmp_path_factory.mktemp("tiny")
    model = tiny_head("bert", "ForMaskedLM", hidden_size=32, vocab_size=2000)
    model.save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [{"text": text, "label": label, "source": "rotten_tomatoes"} for text, label in sentences(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    short = {"num_train_epochs": 1, "warmup_steps": 0, "save_strategy": "no"}
    return [
        f"model={folder / 'model'}",
        f"data.dataset={folder / 'rows.jsonl'}",
        "data.validation=20",
        "data.max_length=16",
        'export.fusion="off"',
        *(f"steps.0.finetune.{key}={value}" for key, value in short.items()),
    ]


def kinds(file):
    return {node.op_type for node in onnx.load(str(file)).graph.node}


def test_int8_edge_writes_eight_bits_that_keep_the_quality(words, tmp_path):
    done = hfcompress("run", "int8-edge", "--output-dir", tmp_path / "out", *words, "export.max_drop=0.9", "--json")
    assert done.code == 0, done.err
    made = done.json["export"]["quantization"]
    assert made["method"] == "dynamic int8"
    assert max(made["drop_selected"], made["drop_confirmed"]) <= 0.9
    assert "MatMulInteger" in kinds(tmp_path / "out" / "onnx" / "model_quantized.onnx")


def test_static_int8_calibrates_on_training_rows_and_adds_four_bits(words, tmp_path):
    more = ("export.block_size=16", "export.calibration_rows=16")
    done = hfcompress("run", "static-int8", "--output-dir", tmp_path / "out", *words, *more, "--json")
    assert done.code == 0, done.err
    static, four = done.json["export"]["quantizations"]
    assert static["method"] == "static int8"
    assert len(static["calibrator_errors"]) == 3
    assert four["algorithm"] == "gptq"
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds(tmp_path / "out" / "onnx" / "model_quantized.onnx")
    assert "MatMulNBits" in kinds(tmp_path / "out" / "onnx" / "model_q4.onnx")
