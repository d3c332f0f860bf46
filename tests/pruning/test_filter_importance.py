"""Importance of filters against sums done by hand and gradients taken one image at a time."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from hfcompress.calibration import calibration_batches
from hfcompress.errors import ModelError
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.masking import masked
from hfcompress.pruning.filter_importance import batch_norm, importance_of, magnitude, taylor
from tests.pruning.images import digits, image_context, network


@pytest.fixture
def model():
    return network()


@pytest.fixture
def groups(model):
    return groups_of(model, ("filters",))


def test_magnitudes_of_tied_filters_add_up(model, groups):
    stem = groups[0]
    expected = sum(model.get_submodule(channels.module).weight[3].abs().sum().item() for channels in stem.writers)
    assert len(stem.writers) == 3  # the stem, and the two layers of the first stage
    assert magnitude(model, groups)[stem.name][3].item() == pytest.approx(expected, rel=1e-5)


def test_batch_norms_give_their_scales(model, groups):
    inner = next(group for group in groups if len(group.between) == 1)
    norm = model.get_submodule(inner.between[0].module)
    norm.weight.data[2] = -7
    assert torch.equal(batch_norm(model, groups)[inner.name], norm.weight.detach().abs())
    norms = [model.get_submodule(channels.module).weight for channels in groups[0].between]
    expected = torch.stack(norms).abs().mean(0).detach()
    assert torch.allclose(batch_norm(model, groups)[groups[0].name], expected)


def test_taylor_is_the_squared_gradient_of_each_image_whatever_the_batches(model, groups, tmp_path):
    context = image_context(tmp_path)
    (whole,) = calibration_batches(model, context, 3, 3, labelled=True)
    found = taylor(model, groups, context, [whole])
    in_parts = taylor(model, groups, context, calibration_batches(model, context, 3, 2, labelled=True))
    for group in groups[::5]:
        expected = torch.zeros(group.units)
        for pixels, label in zip(whole["pixel_values"], whole["labels"], strict=True):
            gate = torch.ones(group.units, requires_grad=True)
            with masked(model, [group], {group.name: gate}):
                loss = functional.cross_entropy(model(pixel_values=pixels[None]).logits, label[None])
            expected += torch.autograd.grad(loss, gate)[0].square()
        assert torch.allclose(found[group.name], expected, rtol=1e-3, atol=1e-9), group.name
        assert torch.allclose(found[group.name], in_parts[group.name], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("kind", ["magnitude", "batch_norm"])
def test_sizes_are_relative_to_their_group(model, groups, kind, tmp_path):
    for scores in importance_of(model, groups, kind, image_context(tmp_path), []).values():
        assert scores.mean().item() == pytest.approx(1, abs=1e-5)


def test_a_group_whose_scales_are_all_zero_is_worth_nothing(model, groups, tmp_path):
    for channels in groups[0].between:
        model.get_submodule(channels.module).weight.data.zero_()
    found = importance_of(model, groups, "batch_norm", image_context(tmp_path), [])
    assert found[groups[0].name].eq(0).all()


def test_weights_that_are_no_numbers_are_refused(model, groups, tmp_path):
    model.get_submodule(groups[1].writers[0].module).weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=f"importance of '{groups[1].name}' is NaN or infinite"):
        importance_of(model, groups, "magnitude", image_context(tmp_path), [])


def test_rows_without_labels_are_left_out(model, tmp_path):
    data = digits()
    unknown = data.train.map(lambda row: {"labels": -100})
    batches = calibration_batches(
        model, image_context(tmp_path, replace(data, unlabeled=unknown)), 1000, 16, labelled=True
    )
    assert sum(len(batch["labels"]) for batch in batches) == len(data.train)
    assert all(batch["labels"].ge(0).all() for batch in batches)
