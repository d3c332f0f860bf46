"""Writing: the file is what protobuf would write, and past a limit the weights lie beside it where everybody looks."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from hfcompress.export.layout import external_name, graph_names, with_suffix
from hfcompress.export.weights import find_weights, fold_constants
from hfcompress.export.writing import Weight, write_graph
from hfcompress.tasks import find_task
from tests.tiny import tiny_config


def linear_graph():
    """`input @ transpose(weight) + bias`, traced without weights: they are inputs; sizes are made of constants."""
    value = helper.make_tensor_value_info
    minus_one = onnx.numpy_helper.from_array(np.array(-1))
    nodes = [
        helper.make_node("Identity", ["weight"], ["copy"]),
        helper.make_node("Transpose", ["copy"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["input", "turned"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Constant", [], ["one"], value=minus_one),
        helper.make_node("Constant", [], ["axes"], value=onnx.numpy_helper.from_array(np.array([0]))),
        helper.make_node("Unsqueeze", ["one", "axes"], ["size"]),
        helper.make_node("Reshape", ["sum", "size"], ["output"]),
    ]
    shapes = {"input": ["batch_size", 40], "weight": [30, 40], "bias": [30]}
    inputs = [value(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "linear", inputs, [value("output", TensorProto.FLOAT, [None])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def layer():
    return torch.nn.Linear(40, 30)


def answer(file, layer):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = torch.randn(2, 40)
    (found,) = session.run(None, {"input": inputs.numpy()})
    return torch.allclose(torch.from_numpy(found), layer(inputs).flatten(), atol=1e-5)


def test_weights_are_found_turned_and_written(tmp_path, layer):
    model = linear_graph()
    weights = find_weights(model, layer.state_dict().get)
    assert {name: weight.shape for name, weight in weights.items()} == {"weight.transposed": [40, 30], "bias": [30]}
    assert [value.name for value in model.graph.input] == ["input"]
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add", "Constant", "Reshape"]
    file = tmp_path / "model.onnx"
    write_graph(model, weights, file)
    assert answer(file, layer)
    onnx.checker.check_model(str(file), full_check=True)
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
    assert np.array_equal(held["weight.transposed"], layer.weight.detach().numpy().T)


def test_a_large_graph_has_its_weights_in_one_file_beside_it(tmp_path, layer):
    model = linear_graph()
    weights = find_weights(model, layer.state_dict().get)
    file = tmp_path / "model.onnx"
    write_graph(model, weights, file, largest=1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx_data"]
    held = {
        tensor.name: len(tensor.external_data) for tensor in onnx.load(file, load_external_data=False).graph.initializer
    }
    assert held == {"weight.transposed": 3, "bias": 0}  # location, offset, length; a small one stays
    assert answer(file, layer)


def test_a_weight_that_is_read_as_it_is_stays_as_it_is(layer):
    model = linear_graph()
    model.graph.node.insert(0, helper.make_node("Identity", ["weight"], ["other"]))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["other"], ["unused"]))
    weights = find_weights(model, layer.state_dict().get)
    assert weights["weight"].shape == [30, 40]
    assert "Transpose" in [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("tensor", [torch.tensor(3), torch.zeros(0), torch.arange(6).view(2, 3), torch.ones(2).bool()])
def test_every_kind_of_tensor_is_written(tmp_path, tensor):
    identity = helper.make_node("Identity", ["held"], ["output"])
    kind = helper.np_dtype_to_tensor_dtype(tensor.numpy().dtype)
    output = helper.make_tensor_value_info("output", kind, None)
    model = helper.make_model(helper.make_graph([identity], "held", [], [output]))
    write_graph(model, {"held": Weight(tensor)}, tmp_path / "model.onnx")
    (held,) = onnx.load(tmp_path / "model.onnx").graph.initializer
    assert np.array_equal(onnx.numpy_helper.to_array(held), tensor.numpy())


def test_constants_that_are_outputs_stay():
    node = helper.make_node("Constant", [], ["output"], value=onnx.numpy_helper.from_array(np.array([1.0])))
    output = helper.make_tensor_value_info("output", TensorProto.DOUBLE, [1])
    model = helper.make_model(helper.make_graph([node], "constant", [], [output]))
    fold_constants(model)
    assert len(model.graph.node) == 1


def test_names_are_those_that_optimum_and_transformers_js_look_for(tmp_path):
    assert external_name(tmp_path / "model.onnx") == "model.onnx_data"
    assert with_suffix("decoder_model_merged.onnx", "quantized") == "decoder_model_merged_quantized.onnx"
    classify, write = find_task("text-classification"), find_task("text2text-generation")
    assert graph_names(classify, tiny_config("bart")) == ("model.onnx",)
    assert graph_names(write, tiny_config("t5")) == ("encoder_model.onnx", "decoder_model_merged.onnx")
