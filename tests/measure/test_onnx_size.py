"""Bytes of ONNX files by component, though exporter, fusion and quantization take the names away."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfcompress.measure import onnx_size
from hfcompress.measure.onnx_size import onnx_bytes, precision_of, read_weights
from hfcompress.measure.size import measure_size
from hfcompress.measure.sizes import describe
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.tasks import TASKS
from tests.measure.onnx_files import export, quantize, save
from tests.tiny import tiny_model

TASK = TASKS["text-classification"]
MODULES = ("bert.encoder.layer.0.attention.self.query", "bert.pooler.dense", "bert.encoder.layer.0.output.LayerNorm")


def described(file):
    return describe(str(file), load_onnx(file), TASK, 16)


def test_bytes_by_component_of_a_float_file(exported):
    found = described(exported.float)
    assert (found["runtime"], found["precision"], found["file"]) == ("ONNX Runtime", "float32", "onnx/model.onnx")
    assert found["bytes"] == exported.float.stat().st_size == sum(found["component_bytes"].values())
    # Four bytes a number; biases that are equal, here 0, are kept once. What is left is the graph itself.
    for name, count in measure_size(exported.model.config, TASK, 16).components.items():
        if name != "norm":
            assert found["component_bytes"][name] == pytest.approx(4 * count, rel=0.05), name
    assert found["parameters"] == sum(p.numel() for p in exported.model.parameters())


def test_bytes_by_component_of_an_int8_file(exported):
    found = described(exported.int8)
    assert found["precision"] == "int8"
    assert found["bytes"] == exported.int8.stat().st_size == sum(found["component_bytes"].values())
    assert found["layers"] == [
        {"layer": layer, "heads": 4, "head_size": 8, "neurons": 64, "rank": None, "bits": {"attention": 8, "ffn": 8}}
        for layer in range(2)
    ]
    weights = {name: 2 * size for name, size in {"attention": 4 * 32 * 32, "ffn": 2 * 32 * 64}.items()}
    names = {weight.name: weight for weight in read_weights(exported.int8, _modules(exported.model))}
    matrices = [weight for weight in names.values() if weight.is_matrix and ".layer." in weight.module]
    assert sum(weight.elements for weight in matrices) == sum(weights.values())
    assert {weight.bits for weight in matrices} == {8}


def _modules(model):
    return [name for name, module in model.named_modules() if list(module.parameters(recurse=False))]


def test_layers_that_stay_in_float_are_seen(exported, tmp_path):
    kept = [f"/bert/encoder/layer.1/attention/self/{name}/MatMul" for name in ("query", "key")]
    file = quantize(exported.float, exported.float.with_name("model_mixed.onnx"), nodes_to_exclude=kept)
    found = described(file)
    assert found["precision"] == "mixed"
    assert [layer["bits"] for layer in found["layers"]] == [{"attention": 8, "ffn": 8}, {"attention": 20, "ffn": 8}]
    file.unlink()


@pytest.mark.parametrize("family", ["distilbert", "mpnet", "electra"])
def test_other_families(family, tmp_path):
    model = tiny_model(family, layers=2, attn_implementation="eager")
    save(tmp_path, model)
    found = described(export(model, tmp_path / "onnx" / "model.onnx"))
    components = measure_size(model.config, TASK, 16).components
    for name in ("embeddings", "attention", "ffn"):
        assert found["component_bytes"][name] == pytest.approx(4 * components[name], rel=0.05), name
    assert [layer["bits"] for layer in found["layers"]] == [{"attention": 32, "ffn": 32}] * 2


def graph(nodes, **tensors):
    """A graph of nodes (type, name, inputs, output, domain) and initializers."""
    made = [
        helper.make_node(kind, inputs, [output], name=name, domain=domain, **more)
        for kind, name, inputs, output, domain, more in nodes
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])
    return helper.make_model(helper.make_graph(made, "g", [value], [], weights))


def test_a_fused_node_goes_with_what_follows_it(tmp_path):
    nodes = [
        ("Attention", "Attention_0", ["x", "qkv"], "a", "com.microsoft", {}),
        ("Cast", "", ["a"], "b", "", {"to": 1}),
        ("MatMul", "node_1", ["b", "w"], "c", "", {}),
        (
            *("SkipLayerNormalization", "Skip_0"),
            ["c", "x", f"{MODULES[2]}.weight", "", f"{MODULES[0]}.bias"],
            "d",
            "",
            {},
        ),
    ]
    numbers = np.zeros((4, 4), np.float32)
    model = graph(
        nodes, qkv=numbers, w=numbers, **{f"{MODULES[2]}.weight": numbers[0], f"{MODULES[0]}.bias": numbers[0]}
    )
    onnx.save(model, tmp_path / "m.onnx")
    found = {weight.name: weight.module for weight in read_weights(tmp_path / "m.onnx", MODULES)}
    assert found == {
        "qkv": MODULES[0],
        "w": MODULES[0],
        f"{MODULES[2]}.weight": MODULES[2],
        f"{MODULES[0]}.bias": MODULES[0],
    }


def test_a_nodes_metadata_say_where_it_stands(tmp_path):
    model = graph([("MatMul", "node_7", ["x", "val_7"], "y", "", {})], val_7=np.zeros((4, 4), np.float32))
    scopes = ["", "bert", MODULES[1], "linear_3"]
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(scopes))
    onnx.save(model, tmp_path / "m.onnx")
    (weight,) = read_weights(tmp_path / "m.onnx", MODULES)
    assert (weight.module, weight.elements, weight.bits, weight.is_matrix) == (MODULES[1], 16, 32, True)


def test_a_wrappers_name_before_a_weight_is_passed_over(tmp_path):
    name = f"model.{MODULES[1]}.weight_int8"
    onnx.save(
        graph([("MatMul", "int8_7", ["x", name], "y", "", {})], **{name: np.zeros((4, 4), np.int8)}), tmp_path / "m"
    )
    (weight,) = read_weights(tmp_path / "m", MODULES)
    assert (weight.module, weight.bits) == (MODULES[1], 8)


def test_four_bits(tmp_path):
    packed, scales = np.zeros((8, 1, 16), np.uint8), np.ones((8, 1), np.float32)
    node = ("MatMulNBits", "/bert/pooler/dense/MatMul", ["x", "w", "s"], "y", "com.microsoft", {"bits": 4})
    onnx.save(graph([node], w=packed, s=scales), tmp_path / "m.onnx")
    weights = read_weights(tmp_path / "m.onnx", MODULES)
    assert [(w.module, w.bits, w.elements, w.is_matrix) for w in weights] == [
        (MODULES[1], 4, 256, True),
        (MODULES[1], 32, 8, False),
    ]
    assert precision_of(weights) == "int4"


def test_external_data_are_counted(tmp_path, monkeypatch):
    numbers = np.zeros((64, 64), np.float32)
    model = graph([("MatMul", "/bert/pooler/dense/MatMul", ["x", "w"], "y", "", {})], w=numbers)
    file = tmp_path / "model.onnx"
    onnx.save(model, file, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    expected = file.stat().st_size + numbers.nbytes
    assert onnx_bytes(file) == expected
    (weight,) = read_weights(file, MODULES)
    assert weight.bytes == numbers.nbytes
    monkeypatch.setattr(onnx_size.importlib.util, "find_spec", lambda name: None)
    assert onnx_bytes(file) == expected
    assert read_weights(file, MODULES) is None


def test_no_matrix_no_precision():
    assert precision_of([]) == "float32"
