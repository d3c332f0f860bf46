"""What is seen of convolutions: patches as torch cuts them, moments by hand, gradients by autograd."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from hfcompress.calibration import calibration_inputs
from hfcompress.errors import ModelError
from hfcompress.factorization import patches
from hfcompress.factorization.patches import look_at, norm_of, patches_of
from tests.pruning.images import image_context, network
from tests.tiny import tiny_head

LAYERS = {
    "plain": {"kernel_size": 3},
    "stride and padding": {"kernel_size": 3, "stride": 2, "padding": 1},
    "unlike sides": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 1), "dilation": (2, 1)},
    "same": {"kernel_size": 3, "padding": "same", "dilation": 2},
    "point": {"kernel_size": 1, "stride": 2},
}


@pytest.mark.parametrize("name", LAYERS)
def test_patches_are_those_that_torch_cuts(name):
    torch.manual_seed(0)
    layer, values = nn.Conv2d(4, 5, bias=False, **LAYERS[name]), torch.randn(2, 4, 9, 8)
    expected = layer(values)
    found = patches_of(layer, values, torch.arange(expected[0, 0].numel())) @ layer.weight.flatten(1).T
    torch.testing.assert_close(found.unflatten(0, (2, -1)).transpose(1, 2), expected.flatten(2), atol=1e-5, rtol=1e-5)
    if layer.padding != "same":
        unfolded = functional.unfold(values, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        torch.testing.assert_close(
            patches_of(layer, values, torch.tensor([3, 1])).view(2, 2, -1)[1, 0], unfolded[1, :, 3]
        )


def looked_at(tmp_path, monkeypatch, fisher=True):
    monkeypatch.setattr(patches, "_PLACES", 10**6)
    model, context = network(), image_context(tmp_path)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    batches = calibration_inputs(model, context, 12, 6)
    return model, layers, batches, look_at(model, layers, batches, context, fisher)


def test_moments_are_those_of_all_patches(tmp_path, monkeypatch):
    model, layers, batches, seen = looked_at(tmp_path, monkeypatch)
    name = next(name for name in layers if "stages.1" in name and "layer.0" in name)
    inputs = []
    handle = layers[name].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        [model(**batch) for batch in batches]
    handle.remove()
    every = torch.cat(
        [functional.unfold(one, 3, 1, 1, layers[name].stride).movedim(1, 2).flatten(0, 1) for one in inputs]
    )
    torch.testing.assert_close(seen[name].mean, every.double().mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(seen[name].covariance, every.double().T.cov(correction=0), atol=1e-6, rtol=1e-4)
    assert seen[name].size == tuple(inputs[0].shape[2:])


def test_gradients_tell_how_far_answers_move(tmp_path, monkeypatch):
    model, layers, batches, seen = looked_at(tmp_path, monkeypatch)
    assert all(one.gradient.diagonal().sum() > 0 for one in seen.values())
    assert all(torch.allclose(one.gradient, one.gradient.T) for one in seen.values())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(not layer._forward_hooks for layer in layers.values())


def test_without_fisher_each_place_counts_as_one(tmp_path, monkeypatch):
    _, layers, _, seen = looked_at(tmp_path, monkeypatch, fisher=False)
    name, layer = next(iter(layers.items()))
    height, width = seen[name].size
    places = (height // layer.stride[0]) * (width // layer.stride[1])
    assert torch.equal(seen[name].gradient, torch.eye(layer.out_channels, dtype=torch.float64) * places)


def test_numbers_that_are_none_are_told_by_layer(tmp_path):
    model, context = network(), image_context(tmp_path)
    name = next(name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d))
    model.get_submodule(name).bias.data[0] = float("nan")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    with pytest.raises(ModelError, match="NaN or infinite"):
        look_at(model, layers, calibration_inputs(model, context, 4, 4), context, True)


def test_the_norm_behind_a_convolution():
    model = tiny_head("mobilenet_v2", "ForImageClassification")
    name = "mobilenet_v2.layer.0.expand_1x1"
    assert norm_of(model, f"{name}.convolution") is model.get_submodule(f"{name}.normalization")
    assert norm_of(tiny_head("vit"), "embeddings.patch_embeddings.projection") is None
