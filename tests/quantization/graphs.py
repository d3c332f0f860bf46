"""Small ONNX graphs made by hand, and how to run them."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH, OUTER, ROWS = 32, 48, 40


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(path, nodes, weights, inputs, outputs=("y",), **options):
    """Write a graph; an input whose name starts with `ids` takes whole numbers, all others take floats."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.INT64 if name.startswith("ids") else TensorProto.FLOAT, shape)
        for name, shape in inputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        values,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="hand")
    onnx.save(model, str(path), **options)
    return path


def product(path, kind="MatMul", weight=None, **attributes):
    """`x · w`, with a bias for `Gemm`."""
    weight = array(WIDTH, OUTER) if weight is None else weight
    weights = {"w": weight}
    if kind == "Gemm":
        weights["b"] = array(weight.shape[0 if attributes.get("transB") else 1], seed=1)
    node = helper.make_node(kind, ["x", *weights], ["y"], "product", **attributes)
    return write(path, [node], weights, {"x": ["rows", weight.shape[1 if attributes.get("transB") else 0]]})


def tied(path, twice=False):
    """An embedding, and an output layer with the same weight: transposed in the graph, or written twice."""
    embedding = array(ROWS, WIDTH)
    nodes = [helper.make_node("Gather", ["e", "ids"], ["x"], "embed")]
    weights = {"e": embedding}
    if twice:
        weights["t"] = np.ascontiguousarray(embedding.T)
    else:
        nodes.append(helper.make_node("Transpose", ["e"], ["t"], "turn", perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["x", "t"], ["y"], "head"))
    return write(path, nodes, weights, {"ids": ["batch", "length"]})


def run(path, level=None, **inputs):
    """Return all outputs of a file, computed on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if level is not None:
        options.graph_optimization_level = level
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, inputs)


def weights_of(path):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}


def kinds(path):
    return sorted(node.op_type for node in onnx.load(str(path)).graph.node)


def optimized_kinds(path, tmp_path):
    """Return the operators that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return kinds(tmp_path / "optimized.onnx")
