"""Image processors and models without a text's head: what loads, and what is named when it does not."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from hfcompress.errors import ModelError, NetworkError
from hfcompress.modeling.load import load_image_processor, load_model, load_processor
from hfcompress.tasks import TASKS
from tests.tiny import VISION, tiny_head, tiny_tokenizer

IMAGES, TEXTS, EMBEDDINGS = TASKS["image-classification"], TASKS["text-classification"], TASKS["sentence-similarity"]
SETTINGS = {
    "do_resize": True,
    "size": {"height": 16, "width": 16},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}


@pytest.fixture
def folder(tmp_path):
    tiny_head("vit", "ForImageClassification").save_pretrained(tmp_path)
    return tmp_path


def describe(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps({**SETTINGS, **settings}))
    return str(folder)


@pytest.mark.parametrize(
    "kind", ["ViTImageProcessor", "ViTImageProcessorFast", "BitImageProcessor", "ConvNextImageProcessorFast"]
)
def test_every_name_gives_the_processor_that_needs_no_torchvision(folder, kind):
    size = {"shortest_edge": 16} if not kind.startswith("ViT") else SETTINGS["size"]
    source = describe(folder, image_processor_type=kind, size=size, crop_size={"height": 16, "width": 16}, crop_pct=1.0)
    processor = load_processor(source, IMAGES)
    assert not type(processor).__name__.endswith("Fast")
    pixels = processor([np.full((20, 20, 3), 255, np.uint8)], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.unique().tolist() == [2.0]  # (1 - 0.5) / 0.25


def test_a_saved_processor_is_loaded_alike(folder, tmp_path):
    processor = load_image_processor(describe(folder, image_processor_type="ViTImageProcessor"))
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "ViTImageProcessor"  # which both majors know
    assert load_image_processor(str(tmp_path)).to_dict() == processor.to_dict()


def test_a_text_task_gets_a_tokenizer(folder):
    tiny_tokenizer().save_pretrained(folder)
    assert load_processor(str(folder), TEXTS)("the film")["input_ids"][0] == 2


def message_of(source):
    with pytest.raises(ModelError) as error:
        load_processor(source, IMAGES)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_or_broken_processor_is_named(folder):
    fix = "Save the image processor into the model's folder: `image_processor.save_pretrained(folder)`."
    assert message_of(str(folder)) == f"{folder}: has no image processor (preprocessor_config.json). {fix}"
    for content in ("{ no", '{"image_processor_type": "Wonder"}'):
        (folder / "preprocessor_config.json").write_text(content)
        message = message_of(str(folder))
        assert message.startswith(f"{folder}: its image processor cannot be loaded: ")
        assert message.endswith(fix)
    assert message_of(str(folder / "nowhere")) == f"{folder / 'nowhere'}: there is no such folder."


def test_a_processors_own_code_is_never_executed(folder, monkeypatch):
    (folder / "processing_own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run the model's own code"))
    source = describe(folder, image_processor_type="Own", auto_map={"AutoImageProcessor": "processing_own.P"})
    message_of(source)
    assert not (folder / "ran").exists()


def test_a_processor_on_the_hub_that_cannot_be_reached_is_told_apart():
    with pytest.raises(NetworkError, match="cannot be reached .* 'nobody/nothing'"):
        load_processor("nobody/nothing", IMAGES)


def test_without_pillow_the_package_to_install_is_named(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "PIL" else find(name, *rest))
    assert message_of(str(folder)).endswith("images need Pillow, which is not installed. Run: pip install pillow")


@pytest.mark.parametrize("family", VISION)
def test_a_vision_body_gets_a_new_head_but_no_new_body(family, tmp_path):
    model = tiny_head(family, "ForImageClassification")
    model.base_model.save_pretrained(tmp_path)
    assert load_model(str(tmp_path), IMAGES, num_labels=5).config.num_labels == 5
    first = next(
        name
        for name, _ in model.named_parameters()
        if name.endswith(("convolution.weight", "key.weight", "k_proj.weight"))
    )
    weights = model.state_dict()
    del weights[first]
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ModelError, match=f"its weights lack {first}"):
        load_model(str(tmp_path), IMAGES)


def test_a_count_of_batches_may_be_missing(tmp_path):
    model = tiny_head("resnet", "ForImageClassification")
    weights = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    model.save_pretrained(tmp_path, state_dict=weights)
    inputs = {"pixel_values": torch.rand(1, 3, 32, 32)}
    assert torch.equal(load_model(str(tmp_path), IMAGES)(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("head", ["", "ForMaskedLM", "ForSequenceClassification"])
def test_an_embedding_model_is_the_body_of_any_checkpoint(head, tmp_path):
    model = tiny_head("bert", head)
    model.save_pretrained(tmp_path)
    ids = torch.tensor([[2, 7, 9, 3]])
    loaded = load_model(str(tmp_path), EMBEDDINGS)
    assert torch.equal(loaded(ids).last_hidden_state, model.base_model(ids).last_hidden_state)


def test_an_embedding_model_with_layers_missing_is_refused(tmp_path):
    tiny_head("bert").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"its weights lack encoder\.layer\.2\..* \(and 15 more\)"):
        load_model(str(tmp_path), EMBEDDINGS)
