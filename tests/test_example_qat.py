"""The example that trains with rounding writes a static int8 file with the trained ranges."""

import sys

import onnx
import pytest

from hfcompress.errors import RequestError
from hfcompress.export.backends.base import find_backend
from tests.test_examples import load
from tests.tiny import tiny_model, tiny_tokenizer

try:
    find_backend("auto")
except RequestError:
    pytest.skip("no export backend is installed", allow_module_level=True)


def test_script_writes_eight_bits(csv, tmp_path, monkeypatch, capsys):
    tiny_model(vocab_size=2000).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    words = ["qat.py", "--model", str(tmp_path / "model"), "--data", str(csv), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    load("qat").main()
    graph = onnx.load(str(tmp_path / "out" / "onnx" / "model_quantized.onnx")).graph
    assert "QuantizeLinear" in {node.op_type for node in graph.node}
    assert "model_quantized.onnx" in capsys.readouterr().out
