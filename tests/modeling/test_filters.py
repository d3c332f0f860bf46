"""Filters: the groups of each family by hand, and that removing them is the same as silencing them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoBackbone, AutoModelForImageClassification

from hfcompress.errors import ModelError
from hfcompress.modeling.filters import filter_groups
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.masking import masked
from hfcompress.modeling.surgery import keep_units
from tests.tiny import CONVOLUTIONAL, tiny_config, tiny_head, tiny_inputs, tiny_model

VARIANTS = {
    "resnet": {},
    "resnet-bottleneck": {"layer_type": "bottleneck", "hidden_sizes": [16, 32], "depths": [2, 2]},
    "resnet-stem-apart": {"embedding_size": 4, "downsample_in_bottleneck": True, "layer_type": "bottleneck"},
    "mobilenet_v1": {},
    "mobilenet_v1-padded": {"tf_padding": False, "depth_multiplier": 0.3},
    "mobilenet_v2": {},
    "mobilenet_v2-expanding": {"first_layer_is_expansion": False, "finegrained_output": False, "output_stride": 8},
}
"""Tiny configs by family, and after it what differs."""


def lively(name, head="ForImageClassification"):
    """A tiny model whose batch norms have statistics and scales of their own, so that each filter counts."""
    model = tiny_head(name.partition("-")[0], head, **VARIANTS[name])
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5), (module.bias, 0.0, 0.5),
                (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5),
            ):  # fmt: skip
                tensor.data.uniform_(low, high, generator=generator)
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(std=(2 / fan_in) ** 0.5, generator=generator)
    return model.eval()


def answer(model):
    """Logits of two images with more contrast than the tiny ones have."""
    with torch.no_grad():
        return model(pixel_values=4 * tiny_inputs(model)["pixel_values"] - 2).logits


def modules(channels):
    return [each.module for each in channels]


def test_a_resnet_whose_stem_is_the_first_stage_by_hand():
    stage = "resnet.encoder.stages.{}.layers.{}"
    found = {group.name: group for group in filter_groups(tiny_head("resnet", "ForImageClassification"))}
    assert {name: group.units for name, group in found.items()} == {
        "embedder.embedder.filters": 8,
        "encoder.stages.0.layers.0.layer.0.filters": 8,
        "encoder.stages.1.layers.0.layer.0.filters": 16,
        "encoder.stages.1.layers.0.layer.1.filters": 16,
        "encoder.stages.1.layers.1.layer.0.filters": 16,
    }
    stem, last = found["embedder.embedder.filters"], found["encoder.stages.1.layers.0.layer.1.filters"]
    first, second, third = stage.format(0, 0), stage.format(1, 0), stage.format(1, 1)
    assert modules(stem.writers) == ["resnet.embedder.embedder.convolution", f"{first}.layer.1.convolution"]
    assert modules(stem.between) == ["resnet.embedder.embedder.normalization", f"{first}.layer.1.normalization"]
    assert set(modules(stem.readers)) == {
        f"{first}.layer.0.convolution", f"{second}.layer.0.convolution", f"{second}.shortcut.convolution",
    }  # fmt: skip
    assert set(modules(last.writers)) == {
        f"{second}.layer.1.convolution", f"{second}.shortcut.convolution", f"{third}.layer.1.convolution",
    }  # fmt: skip
    assert set(modules(last.readers)) == {f"{third}.layer.0.convolution", "classifier.1"}


def test_a_bottleneck_has_two_groups_inside():
    names = [group.name for group in filter_groups(lively("resnet-bottleneck"))]
    assert [name for name in names if name.startswith("encoder.stages.0.layers.1")] == [
        "encoder.stages.0.layers.1.layer.0.filters", "encoder.stages.0.layers.1.layer.1.filters",
    ]  # fmt: skip


def test_mobilenet_v1_is_a_chain():
    groups = filter_groups(tiny_head("mobilenet_v1", "ForImageClassification"))
    assert [group.name for group in groups] == [
        "conv_stem.filters", *(f"layer.{number}.filters" for number in range(1, 26, 2)),
    ]  # fmt: skip
    assert modules(groups[0].between) == [
        f"mobilenet_v1.{place}" for place in (
            "conv_stem.normalization", "layer.0.convolution", "layer.0.normalization",
        )
    ]  # fmt: skip
    assert modules(groups[0].readers) == ["mobilenet_v1.layer.1.convolution"]
    assert modules(groups[-1].readers) == ["classifier"]


def test_mobilenet_v2_ties_what_its_shortcuts_add():
    model = tiny_head("mobilenet_v2", "ForImageClassification")
    groups = filter_groups(model)
    shared = [group for group in groups if len(group.writers) > 1]
    added = sum(layer.use_residual for layer in model.mobilenet_v2.layer)
    assert sum(len(group.writers) - 1 for group in shared) == added > 0
    assert sum("expand_1x1" in group.name for group in groups) == len(model.mobilenet_v2.layer)
    assert modules(groups[-1].readers) == ["classifier"]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_layer_has_its_place(name):
    model = lively(name)
    groups = filter_groups(model)
    written = [module for group in groups for module in modules((*group.writers, *group.between))]
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    assert sorted(written) == sorted(place for place, module in model.named_modules() if isinstance(module, kinds))
    read = [module for group in groups for module in modules((*group.readers, *group.between))]
    inner = [place for place, m in model.named_modules() if isinstance(m, (*kinds, torch.nn.Linear))]
    stem = "embedder.convolution" if name.startswith("resnet") else "conv_stem.convolution"
    first = {place for place in inner if place.endswith((stem, "first_conv.convolution"))}
    assert len(first) == 1
    assert sorted(read) == sorted(set(inner) - first)


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=3, deadline=None)
@given(st.randoms(use_true_random=False))
def test_removed_is_the_same_as_silenced(name, random):
    model = lively(name)
    groups = groups_of(model, ("filters",))
    kept = {group.name: sorted(random.sample(range(group.units), random.randint(1, group.units))) for group in groups}
    masks = {group.name: torch.zeros(group.units) for group in groups}
    for place, units in kept.items():
        masks[place][units] = 1
    with masked(model, groups, masks):
        silenced = answer(model)
    assert torch.allclose(answer(keep_units(model, kept)), silenced, atol=1e-5)
    assert {group.name: group.units for group in groups_of(model, ("filters",))} == {
        place: len(units) for place, units in kept.items()
    }


@pytest.mark.parametrize("name", ["resnet", "resnet-bottleneck", "mobilenet_v1", "mobilenet_v2"])
def test_each_group_alone(name):
    model = lively(name)
    whole = answer(model)
    for group in groups_of(model, ("filters",)):
        small = copy.deepcopy(model)
        kept = list(range(1, group.units, 2))
        mask = torch.zeros(group.units)
        mask[kept] = 1
        with masked(model, [group], {group.name: mask}):
            silenced = answer(model)
        assert not torch.allclose(silenced, whole, atol=1e-4), group.name
        assert torch.allclose(answer(keep_units(small, {group.name: kept})), silenced, atol=1e-5), group.name


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_without_a_classifier_the_answer_keeps_its_width(family):
    headed = filter_groups(tiny_head(family, "ForImageClassification"))
    bare = filter_groups(tiny_head(family))
    answered = next(group.name for group in headed if any("classifier" in c.module for c in group.readers))
    assert [group.name for group in bare] == [group.name for group in headed if group.name != answered]
    no_classes = AutoModelForImageClassification.from_config(tiny_config(family, num_labels=0))
    assert [group.name for group in filter_groups(no_classes)] == [group.name for group in bare]


def test_a_backbone_answers_with_each_stage():
    assert filter_groups(AutoBackbone.from_config(tiny_config("resnet"))) == []


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_pruned_models_reload_and_are_pruned_again(family, tmp_path):
    model = lively(family)
    for _ in range(2):
        kept = {group.name: list(range(0, group.units, 2)) for group in groups_of(model, ("filters",))}
        expected = answer(keep_units(model, kept))
        model.save_pretrained(tmp_path)
        model = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
        assert torch.allclose(answer(model), expected, atol=1e-6)


def test_texts_have_no_filters():
    with pytest.raises(ModelError, match=r"^bert has no filters that could be removed\."):
        groups_of(tiny_model("bert"), ("filters",))
