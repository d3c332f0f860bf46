"""Validation: hand-made answers, graphs that were broken on purpose, padding that nobody reads."""

import numpy as np
import onnx
import pytest
import torch

from hfcompress.errors import ExportError
from hfcompress.export.cases import Case, answered_cases
from hfcompress.export.validation import Graphs, Proof
from tests.export.support import task_of_head
from tests.tiny import tiny_head

HEAD = "ForSequenceClassification"


def compare(expected, got, name="logits", mask=None, multi_label=False):
    """Compare two arrays as the outputs of one case."""
    inputs = {} if mask is None else {"attention_mask": torch.tensor(mask)}
    case = Case("case", inputs, {name: np.array(expected, dtype=np.float32)})
    return Proof([case], 1e-4, multi_label)._compare("case", {name: np.array(got, dtype=np.float32)}, case)


def test_differences_are_absolute_and_in_parts_of_the_largest_output():
    found = compare([[1.0, -4.0]], [[1.5, -4.0]])
    assert (found.largest, found.relative, found.agreement, found.finite) == (0.5, 0.125, 1.0, True)


def test_labels_are_compared():
    assert compare([[1.0, 2.0], [3.0, 1.0]], [[3.0, 2.0], [3.0, 1.0]]).agreement == 0.5
    assert compare([[1.0, -2.0], [3.0, 1.0]], [[3.0, 2.0], [3.0, 1.0]], multi_label=True).agreement == 0.75
    assert compare([[1.0], [2.0]], [[1.0], [3.0]]).agreement is None
    assert compare([[0.0, 9.0, 1.0]], [[0.0, 1.0, 9.0]], "start_logits", [[1, 1, 0]]).agreement == 1.0


def test_what_stands_at_padding_is_not_read_but_must_be_finite():
    mask = [[1, 0], [0, 0]]
    ours = [[[1.0, 2.0], [5.0, 5.0]], [[7.0, 7.0], [7.0, 7.0]]]
    other = [[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    found = compare(ours, other, mask=mask)
    assert (found.largest, found.finite, found.agreement) == (0.0, True, 1.0)
    other[1][1][0] = np.nan
    assert not compare(ours, other, mask=mask).finite


def test_where_the_model_itself_is_not_finite_nothing_is_asked():
    assert compare([[np.nan, 1.0]], [[3.0, 1.0]]).finite
    assert compare([[np.nan, 1.0]], [[np.nan, 1.0]]).largest == 0.0


@pytest.fixture
def export(tmp_path):
    """A traced model, its cases and its file."""
    backend = pytest.importorskip("hfcompress.export.backends.optimum").OptimumBackend()
    pytest.importorskip("optimum.onnx")
    model = tiny_head("bert", HEAD)
    (file,) = backend.trace(model, task_of_head(HEAD), tmp_path, None)
    return file, answered_cases(model, task_of_head(HEAD), Graphs([file]).input_names)


def test_the_cases_are_padded_single_unseen_longest_and_nothing_at_all(export):
    _, cases = export
    shapes = {case.name: tuple(case.inputs["input_ids"].shape) for case in cases}
    assert shapes == {
        "padded": (3, 9),
        "single text": (1, 16),
        "unseen length": (2, 37),
        "longest": (1, 78),  # of 80 positions, two may be kept for padding
        "fully padded row": (2, 8),
    }
    assert cases[-1].inputs["attention_mask"].sum(dim=1).tolist() == [8, 0]
    assert cases[0].inputs["token_type_ids"].any()


def test_a_broken_graph_is_refused(export):
    file, cases = export
    Proof(cases, 1e-5).require([file])
    model = onnx.load(file)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 0.01, bias.name))
    onnx.save(model, file)
    with pytest.raises(ExportError, match=r"does not answer as the model does .*0\.01.*Nothing was written"):
        Proof(cases, 1e-4).require([file])
    assert Proof(cases, 0.9).require([file]).agreement is not None


def test_a_graph_whose_length_was_fixed_is_refused(export):
    file, cases = export
    model = onnx.load(file)
    positions = next(t for t in model.graph.initializer if t.name.endswith("position_embeddings.weight"))
    values = onnx.numpy_helper.to_array(positions).copy()
    values[16:] = 0  # as a tracer leaves it that saw 16 tokens
    positions.CopyFrom(onnx.numpy_helper.from_array(values, positions.name))
    onnx.save(model, file)
    found = {case.case: case.relative for case in Proof(cases, 1e-5).of([file]).cases}
    assert found["padded"] < 1e-5
    assert found["single text"] < 1e-5
    assert found["unseen length"] > 1e-4


def test_numbers_that_are_not_finite_are_refused(export):
    file, cases = export
    model = onnx.load(file)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(2, np.nan, np.float32), bias.name))
    onnx.save(model, file)
    with pytest.raises(ExportError, match="not finite where the model's are"):
        Proof(cases, 1e-4).require([file])
