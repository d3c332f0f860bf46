"""Running statistics against means and variances taken by hand."""

import pytest
import torch

from hfcompress.pruning.batch_norms import reestimate
from tests.pruning.images import network


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [{"pixel_values": torch.randn((rows, 3, 16, 16), generator=generator) * rows} for rows in (2, 5)]


def stem_outputs(model, batch):
    with torch.no_grad():
        return model.resnet.embedder.embedder.convolution(batch["pixel_values"])


def test_the_first_norm_averages_the_batches(batches):
    model = network()
    reestimate(model, batches)
    norm = model.resnet.embedder.embedder.normalization
    outputs = [stem_outputs(model, batch) for batch in batches]
    mean = torch.stack([values.mean((0, 2, 3)) for values in outputs]).mean(0)
    variance = torch.stack([values.var((0, 2, 3)) for values in outputs]).mean(0)
    assert torch.allclose(norm.running_mean, mean, rtol=1e-5, atol=1e-6)
    assert torch.allclose(norm.running_var, variance, rtol=1e-5)
    assert norm.num_batches_tracked == 2


def test_twice_is_once(batches):
    model = network()
    reestimate(model, batches)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    reestimate(model, batches)
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(batches, training):
    model = network().train(training)
    before, momenta = dict(network().named_parameters()), [m.momentum for m in norms(model)]
    reestimate(model, batches)
    assert all(module.training == training for module in model.modules())
    assert [m.momentum for m in norms(model)] == momenta
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_single_rows_say_nothing(batches):
    model, other = network(), network()
    alone = {"pixel_values": batches[0]["pixel_values"][:1]}
    reestimate(model, [*batches, alone])
    reestimate(other, batches)
    assert all(
        torch.equal(one, two) for one, two in zip(*(m.state_dict().values() for m in (model, other)), strict=True)
    )
    untouched = network()
    reestimate(untouched, [alone])
    assert all(
        torch.equal(one, two)
        for one, two in zip(untouched.state_dict().values(), network().state_dict().values(), strict=True)
    )


def norms(model):
    return [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
