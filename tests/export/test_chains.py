"""Chains of convolutions are exported as any other layers; graphs answer alike at batches of any size."""

import pytest

pytest.importorskip("onnxruntime")

import onnx

from hfcompress.export.cases import answered_cases
from hfcompress.export.validation import Graphs, Proof
from tests.export.support import task_of_head
from tests.export.test_pruned import traced
from tests.factorization.test_convolutions import METHODS, chains, dense, factorized, quick  # noqa: F401
from tests.pruning.images import image_context

HEAD = "ForImageClassification"


@pytest.mark.parametrize(
    ("method", "family"),
    [*((method, "resnet") for method in METHODS), ("tucker", "mobilenet_v2"), ("channel", "vit")],
)
def test_answers_as_in_pytorch(method, family, tmp_path):
    model = factorized(method, image_context(tmp_path), dense(family), target_macs=0.6)
    files = traced(model, HEAD, tmp_path)
    cases = answered_cases(model, task_of_head(HEAD), Graphs(files).input_names)
    assert len({len(case.inputs["pixel_values"]) for case in cases}) > 1
    Proof(cases, 1e-5).require(files)
    stored = [list(tensor.dims) for tensor in onnx.load(files[0]).graph.initializer]
    shapes = [shape[:4] for chain in chains(model).values() for shape in chain.shapes()]
    assert all(stored.count(shape) >= shapes.count(shape) for shape in shapes)
