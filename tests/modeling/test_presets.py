"""Presets: the published sizes, and what they take over from a teacher."""

import pytest
import torch
from transformers import AutoModel

from hfcompress.modeling.presets import PRESETS, first_position, fit_to_teacher, is_preset, preset_config, reads_images
from hfcompress.sources import SHORT_NAMES
from tests.tiny import tiny_config

# Parameters of the published checkpoints' base models, in millions.
MILLIONS = {
    "bert-tiny": 4.4,
    "bert-mini": 11.2,
    "bert-small": 28.8,
    "bert-medium": 41.4,
    "tinybert": 14.4,
    "minilm-l6-h384": 22.7,
    "distilbert": 66.4,
    "mobilebert": 24.6,
    "squeezebert": 51.1,
    "resnet-18": 11.2,
    "mobilenet-v1": 3.2,
    "mobilenet-v2": 2.2,
}


@pytest.mark.parametrize("name", PRESETS)
def test_each_has_its_published_size_and_a_pretrained_checkpoint(name):
    with torch.device("meta"):
        model = AutoModel.from_config(preset_config(name))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == MILLIONS[name]
    assert "/" in SHORT_NAMES[name]


def test_a_folder_of_that_name_is_no_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_preset("bert-tiny")
    assert not is_preset("bert-base")
    (tmp_path / "bert-tiny").mkdir()
    assert not is_preset("bert-tiny")


@pytest.mark.parametrize("name", [name for name in PRESETS if not reads_images(preset_config(name))])
def test_takes_vocabulary_special_tokens_segments_and_positions_of_the_teacher(name):
    config = preset_config(name)
    teacher = tiny_config("bert", vocab_size=77, type_vocab_size=3, max_position_embeddings=33, pad_token_id=5)
    fit_to_teacher(config, teacher)
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (77, 33, 5)
    assert getattr(config, "type_vocab_size", 3) == 3


def test_positions_before_the_first_token_do_not_count():
    roberta = tiny_config("roberta", max_position_embeddings=80, pad_token_id=1, type_vocab_size=1)
    assert (first_position(roberta), first_position(tiny_config("bert"))) == (2, 0)
    config = preset_config("bert-tiny")
    fit_to_teacher(config, roberta)
    assert (config.max_position_embeddings, config.type_vocab_size, config.pad_token_id) == (78, 1, 1)
    student = tiny_config("mpnet", pad_token_id=7)
    fit_to_teacher(student, tiny_config("bert", max_position_embeddings=40, pad_token_id=0))
    assert student.max_position_embeddings == 41


def test_what_the_teacher_does_not_say_stays():
    config = preset_config("bert-tiny")
    fit_to_teacher(config, tiny_config("t5"))
    assert (config.max_position_embeddings, config.type_vocab_size) == (512, 2)
    fit_to_teacher(config, tiny_config("deberta-v2", type_vocab_size=0))
    assert config.type_vocab_size == 2


@pytest.mark.parametrize("name", ["mobilenet-v1", "mobilenet-v2", "resnet-18"])
def test_takes_the_images_of_the_teacher(name):
    config = preset_config(name)
    fit_to_teacher(config, tiny_config("vit", image_size=28, num_channels=1))
    assert config.num_channels == 1
    assert getattr(config, "image_size", 28) == 28
