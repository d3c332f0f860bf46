"""A tiny classifier with its ONNX files, which several tests of measuring look at."""

from types import SimpleNamespace

import pytest

from tests.measure.onnx_files import LABELS, export, quantize, save
from tests.tiny import tiny_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder with a BERT of two layers, `onnx/model.onnx` and `onnx/model_quantized.onnx`."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("exported")
    model = tiny_model("bert", layers=2, id2label=LABELS)
    save(folder, model)
    float_file = export(tiny_model("bert", layers=2, attn_implementation="eager"), folder / "onnx" / "model.onnx")
    int8_file = quantize(float_file, folder / "onnx" / "model_quantized.onnx")
    return SimpleNamespace(folder=folder, model=model, float=float_file, int8=int8_file)
