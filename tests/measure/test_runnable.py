"""Models of both kinds are loaded, called and scored alike; what is none is refused."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hfcompress.errors import ModelError, RequestError
from hfcompress.measure.quality import predict
from hfcompress.measure.runnable import config_of, file_of, folder_of, inputs_of, load_runnable, processor_of
from hfcompress.tasks import TASKS
from tests.tiny import sentences

TASK = TASKS["text-classification"]


def test_an_onnx_file_answers_as_its_folder(exported):
    texts, names = zip(*sentences(23), strict=True)
    rows = Dataset.from_dict({"text": list(texts), "labels": [int(name == "positive") for name in names]})
    sources = [str(exported.folder), str(exported.float)]
    answers = [
        predict(load_runnable(source, TASK), processor_of(source, TASK), rows, TASK, None, batch_size=5)
        for source in sources
    ]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_config_and_file_of_either_kind(exported):
    assert folder_of(str(exported.int8)) == str(exported.folder)
    assert config_of(str(exported.int8)).id2label == {0: "negative", 1: "positive"}
    assert file_of(str(exported.int8)) == "onnx/model_quantized.onnx"
    assert file_of(str(exported.folder)) == "model.safetensors"
    assert file_of("google/no-such-folder") is None


def test_what_a_model_takes(exported):
    assert inputs_of(load_runnable(str(exported.float), TASK)) == {"input_ids", "attention_mask"}
    assert inputs_of(exported.model) >= {"input_ids", "attention_mask", "token_type_ids", "labels"}


def test_what_is_no_model(exported, tmp_path):
    cases = {
        tmp_path / "nothing.onnx": "there is no such file",
        tmp_path / "alone.onnx": "has no config.json beside it",
        exported.folder / "broken.onnx": "ONNX Runtime cannot open it",
    }
    (tmp_path / "alone.onnx").write_bytes(b"")
    (exported.folder / "broken.onnx").write_bytes(b"no graph")
    for file, said in cases.items():
        with pytest.raises(ModelError, match=said):
            load_runnable(str(file), TASK)


def test_an_onnx_file_cannot_write(exported):
    model = load_runnable(str(exported.float), TASK)
    rows = Dataset.from_dict({"text": ["fine film"], "labels": [1]})
    with pytest.raises(RequestError, match="goes with PyTorch models"):
        predict(model, processor_of(str(exported.float), TASK), rows, TASK, None, generate=True)


def test_sessions_take_the_threads_they_are_given(exported):
    for threads in (1, 2):
        options = load_runnable(str(exported.float), TASK, threads).session.get_session_options()
        assert options.intra_op_num_threads == threads
    assert torch.get_num_threads() == 1
