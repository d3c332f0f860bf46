"""Zeros: counted exactly, tensor by tensor, in files and in models; by component and by layer."""

import pytest
import torch
from safetensors.torch import save_file

from hfcompress.measure.runnable import load_runnable
from hfcompress.measure.size import empty_model
from hfcompress.measure.sizes import describe
from hfcompress.measure.zeros import count_zeros, describe_zeros, zeros_by_layer
from hfcompress.tasks import TASKS
from tests.measure.onnx_files import LABELS, save
from tests.tiny import tiny_head, tiny_model

TASK = TASKS["text-classification"]


def without_zeros(family="bert", layers=2):
    model = tiny_model(family, layers, id2label=LABELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.masked_fill_(parameter == 0, 0.5)
    return model


def test_zeros_of_a_file_by_hand(tmp_path):
    save_file(
        {"a": torch.tensor([0.0, -0.0, 1e-30, 2.0]), "b": torch.zeros(3), "n": torch.zeros(2).long()},
        tmp_path / "model.safetensors",
    )
    assert count_zeros(tmp_path) == {"a": (2, 4), "b": (3, 3)}


def test_a_file_and_the_model_itself_agree(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert count_zeros(tmp_path) == count_zeros(model)


def test_a_layer_half_of_whose_weights_are_zero(tmp_path):
    model = without_zeros()
    with torch.no_grad():
        for parameter in model.bert.encoder.layer[1].parameters():
            parameter.view(-1)[: parameter.numel() // 2] = 0
    save(tmp_path, model)
    found = describe(str(tmp_path), load_runnable(str(tmp_path), TASK), TASK, 16)
    inside = sum(parameter.numel() for parameter in model.bert.encoder.layer[1].parameters())
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert found["zeros"] == pytest.approx(inside / 2 / whole)
    assert found["component_zeros"] == {"embeddings": 0, "attention": 0.25, "ffn": 0.25, "norm": 0.25, "head": 0}
    assert [layer["zeros"] for layer in found["layers"]] == [0, 0.5]


def test_a_dense_models_layers_say_nothing_of_zeros(tmp_path):
    save(tmp_path, without_zeros())
    found = describe(str(tmp_path), load_runnable(str(tmp_path), TASK), TASK, 16)
    assert found["zeros"] == 0
    assert all("zeros" not in layer for layer in found["layers"])


def test_buffers_are_no_parameters(tmp_path):
    model = tiny_head("resnet", "ForImageClassification")
    model.save_pretrained(tmp_path)
    task = TASKS["image-classification"]
    found = describe_zeros(count_zeros(tmp_path), empty_model(model.config, task))
    assert found == describe_zeros(count_zeros(model), model)
    zeros = sum(int((parameter == 0).sum()) for parameter in model.parameters())
    assert found["zeros"] == zeros / sum(parameter.numel() for parameter in model.parameters())


def test_layers_that_share_weights_share_their_zeros():
    model = tiny_head("albert", "ForSequenceClassification", layers=3)
    with torch.no_grad():
        for parameter in model.albert.encoder.albert_layer_groups.parameters():
            parameter.zero_()
    assert zeros_by_layer(count_zeros(model), model) == [1, 1, 1]


def test_an_encoder_decoders_layers_come_one_stack_after_the_other():
    model = tiny_head("t5", "ForSeq2SeqLM")
    with torch.no_grad():
        for parameter in model.decoder.block[0].parameters():
            parameter.zero_()
    shares = zeros_by_layer(count_zeros(model), model)
    assert len(shares) == 4
    assert shares[2] == 1
    assert max(shares[0], shares[1], shares[3]) < 0.01


def test_an_unknown_architecture_has_no_layers():
    model = torch.nn.Linear(2, 2)
    model.config = type("Config", (), {"model_type": "unheard-of"})()
    model.base_model = model
    assert zeros_by_layer(count_zeros(model), model) is None
