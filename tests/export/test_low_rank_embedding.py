"""Models with low-rank token embeddings are exported as any other; a table that a head uses, too, is stored once."""

import pytest

pytest.importorskip("onnxruntime")

import onnx

from hfcompress.export.cases import answered_cases
from hfcompress.export.validation import Graphs, Proof
from tests.export.support import task_of_head
from tests.export.test_pruned import traced
from tests.modeling.test_low_rank_embedding import factorized, tiny

RANK = 16
"""Smaller tables count as constants, of which transformers' exporter keeps copies."""


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", "ForMaskedLM"),
        ("bert", "ForSequenceClassification"),
        pytest.param("gpt2", "ForCausalLM", marks=pytest.mark.slow),
        pytest.param("bart", "ForSeq2SeqLM", marks=pytest.mark.slow),
        pytest.param("t5", "ForSeq2SeqLM", marks=pytest.mark.slow),
    ],
)
def test_answers_as_in_pytorch(family, head, tmp_path):
    model = factorized(tiny(family, head), rank=RANK)
    files = traced(model, head, tmp_path)
    Proof(answered_cases(model, task_of_head(head), Graphs(files).input_names), 1e-5).require(files)
    for file in files:
        stored = [tuple(tensor.dims) for tensor in onnx.load(file).graph.initializer]
        assert len([shape for shape in stored if shape in ((64, RANK), (RANK, 64))]) == 1
