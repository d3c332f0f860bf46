"""Size: parameters, components and multiply-accumulates against sums and products done by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from hfcompress.measure.size import empty_model, measure_size, weight_bytes
from hfcompress.modeling.families import FAMILIES as FAMILIES_TABLE
from hfcompress.tasks import TASKS
from tests.tiny import FAMILIES, tiny_config, tiny_head, tiny_model

TASK = TASKS["text-classification"]
IMAGES = TASKS["image-classification"]


def bert_macs(layers, width, ffn, length, labels):
    """Multiply-accumulates of a BERT classifier, counted by hand."""
    projections = 4 * length * width * width  # query, key, value, output
    attention = 2 * length * length * width  # scores, and their product with the values; all heads together
    feed_forward = 2 * length * width * ffn
    pooler_and_head = width * width + width * labels  # of the first token alone
    return layers * (projections + attention + feed_forward) + pooler_and_head


def test_macs_of_a_tiny_bert():
    # One layer: 4·16·32·32 = 65536, 2·16·16·32 = 16384, 2·16·32·64 = 65536; pooler 1024, head 64.
    size = measure_size(tiny_config("bert", layers=1), TASK, length=16)
    assert size.macs == 65536 + 16384 + 65536 + 1024 + 64 == bert_macs(1, 32, 64, 16, 2)
    assert size.length == 16


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from([16, 32, 48]),
    st.sampled_from([8, 64, 80]),
    st.integers(1, 78),
    st.integers(2, 5),
)
def test_macs_of_any_bert(layers, width, ffn, length, labels):
    config = tiny_config("bert", layers=layers, width=width, num_labels=labels, intermediate_size=ffn)
    assert measure_size(config, TASK, length).macs == bert_macs(layers, width, ffn, length, labels)


def test_components_of_a_tiny_bert():
    size = measure_size(tiny_config("bert", layers=3), TASK)
    assert size.components == {
        "embeddings": (64 + 80 + 2) * 32 + 2 * 32,  # words, positions, segments; norm
        "attention": 3 * 4 * (32 * 32 + 32),
        "ffn": 3 * (32 * 64 + 64 + 64 * 32 + 32),
        "norm": 3 * 4 * 32,
        "head": 32 * 32 + 32 + 32 * 2 + 2,  # pooler and classifier
    }
    assert size.parameters == sum(size.components.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_of_the_real_model(family):
    model = tiny_model(family, layers=3)
    size = measure_size(model.config, TASK)
    assert size.parameters == sum(size.components.values()) == sum(p.numel() for p in model.parameters())


def test_tied_weights_count_once():
    config = tiny_config("albert", layers=4, embedding_size=16)
    one_layer = tiny_config("albert", layers=1, embedding_size=16)
    model = AutoModelForSequenceClassification.from_config(config)
    size = measure_size(config, TASK, 16)
    assert size.parameters == sum(p.numel() for p in model.parameters()) == measure_size(one_layer, TASK).parameters
    assert size.macs > 3 * measure_size(one_layer, TASK, 16).macs  # shared weights, but four times the work


def test_an_architecture_without_a_row_is_divided_by_its_own_names(monkeypatch):
    monkeypatch.delitem(FAMILIES_TABLE, "albert")
    size = measure_size(tiny_config("albert", layers=2, embedding_size=16), TASK)
    assert set(size.components) == {"albert.embeddings", "albert.encoder", "albert.pooler", "classifier.weight"} | {
        "classifier.bias"
    }


def conv(side, kernel, before, after):
    """Multiply-accumulates of one convolution whose output is `side` by `side`."""
    return side * side * kernel * kernel * before * after


def test_macs_of_a_tiny_resnet_by_hand():
    # Of 32 pixels the embedder makes 8 a side (a stride of 2, then pooling); the second stage halves that.
    embedder = conv(16, 7, 3, 8)
    first = 2 * conv(8, 3, 8, 8)
    second = conv(4, 3, 8, 16) + conv(4, 3, 16, 16) + conv(4, 1, 8, 16) + 2 * conv(4, 3, 16, 16)
    config = tiny_config("resnet", num_labels=3)
    config.image_size, config.downsample_in_first_stage = 32, False
    size = measure_size(config, IMAGES)
    assert size.macs == embedder + first + second + 16 * 3
    assert size.length == 32
    config.image_size = 64
    assert measure_size(config, IMAGES).macs == 4 * (embedder + first + second) + 16 * 3


def test_an_architecture_that_says_no_size_is_measured_on_224_pixels():
    assert measure_size(tiny_config("resnet"), IMAGES).length == 224


def test_grey_images_cost_less_in_the_first_convolution():
    grey = measure_size(tiny_config("resnet", num_channels=1, image_size=32), IMAGES).macs
    colour = measure_size(tiny_config("resnet", image_size=32), IMAGES).macs
    assert colour - grey == conv(16, 7, 2, 8)


@pytest.mark.parametrize("family", ["vit", "resnet", "mobilenet_v1", "mobilenet_v2"])
def test_parameters_of_a_vision_model_are_those_of_the_real_one(family):
    model = tiny_head(family, "ForImageClassification")
    size = measure_size(model.config, IMAGES)
    assert size.parameters == sum(size.components.values()) == sum(p.numel() for p in model.parameters())
    assert size.macs > 0


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize("task", ["text2text-generation", "text-classification"])
def test_encoder_and_decoder_are_both_counted(family, task):
    deep = measure_size(tiny_config(family, layers=4), TASKS[task], 16)
    flat = measure_size(tiny_config(family, layers=2), TASKS[task], 16)
    attention, ffn = 4 * 16 * 32 * 32 + 2 * 16 * 16 * 32, 2 * 16 * 32 * 64
    assert deep.macs - flat.macs == 2 * (3 * attention + 2 * ffn)  # a decoder's layer has cross-attention too
    assert deep.length == 16


def test_an_embedding_model_is_a_classifier_less_its_head():
    size = measure_size(tiny_config("bert", layers=1), TASKS["sentence-similarity"], length=16)
    assert size.macs == bert_macs(1, 32, 64, 16, 0)
    assert size.components["head"] == 32 * 32 + 32  # its pooler


def test_length_is_cut_to_what_the_model_takes():
    config = tiny_config("roberta")
    size = measure_size(config, TASK, length=500)
    assert size.length == config.max_position_embeddings - 2
    assert size.macs == measure_size(config, TASK, length=78).macs


def test_measuring_takes_no_memory_and_leaves_the_config():
    config = tiny_config("bert", vocab_size=50_000_000)
    before = config.to_dict()
    assert measure_size(config, TASK, 8).parameters > 1_600_000_000
    assert config.to_dict() == before
    assert next(empty_model(config, TASK).parameters()).device == torch.device("meta")


def test_weight_bytes_are_those_of_the_safetensors_files(tmp_path):
    save_file({"a": torch.zeros(1000)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(500)}, tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"0" * 9999)
    (tmp_path / "sub").mkdir()
    save_file({"c": torch.zeros(500)}, tmp_path / "sub" / "other.safetensors")
    expected = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert weight_bytes(tmp_path) == expected >= 6000
    assert weight_bytes(tmp_path / "sub" / "nothing") == 0
