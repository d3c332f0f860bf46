"""What is told of one linear layer or convolution: the same of every class."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfcompress.modeling.linear import (
    channels_in,
    channels_out,
    fan_in,
    fan_out,
    in_shape_of_weight,
    is_conv1d_of_gpt2,
    is_convolution,
    matrix,
    rows_of,
    weight_of,
)

LINEAR, GPT2 = nn.Linear(8, 6), Conv1D(6, 8)
TEXT, IMAGE = nn.Conv1d(8, 6, 1), nn.Conv2d(8, 6, 3)
GROUPED, DEPTHWISE = nn.Conv1d(8, 6, 1, groups=2), nn.Conv2d(8, 8, 3, groups=8)
each = pytest.mark.parametrize("module", [LINEAR, GPT2, TEXT, IMAGE, GROUPED, DEPTHWISE], ids=repr)


@pytest.mark.parametrize(
    ("module", "reads", "gives", "by_output", "by_input"),
    [
        (LINEAR, 8, 6, 8, 6),
        (GPT2, 8, 6, 8, 6),
        (TEXT, 8, 6, 8, 6),
        (IMAGE, 8, 6, 72, 54),
        (GROUPED, 8, 6, 4, 3),
        (DEPTHWISE, 8, 8, 9, 9),
    ],
)
def test_channels_and_weights_of_one(module, reads, gives, by_output, by_input):
    assert (channels_in(module), channels_out(module)) == (reads, gives)
    assert (fan_in(module), fan_out(module)) == (by_output, by_input)
    assert gives * by_output == reads * by_input == weight_of(module).numel()


def test_classes_are_told_apart():
    assert [is_convolution(module) for module in (LINEAR, GPT2, TEXT, IMAGE)] == [False, False, True, True]
    assert [is_conv1d_of_gpt2(module) for module in (LINEAR, GPT2, TEXT, IMAGE)] == [False, True, False, False]


@each
def test_a_matrix_goes_back_into_the_weights_shape(module):
    assert matrix(module).shape == (channels_out(module), fan_in(module))
    assert torch.equal(in_shape_of_weight(module, matrix(module)), module.weight)


def test_rows_of_every_kind_of_layer_multiply_its_inputs():
    values = torch.randn(3, 8)
    torch.testing.assert_close(values @ rows_of(LINEAR)[0].T + LINEAR.bias, LINEAR(values))
    torch.testing.assert_close(values @ rows_of(GPT2)[0].T + GPT2.bias, GPT2(values))
    halves = [half @ rows.T for half, rows in zip(values.chunk(2, dim=1), rows_of(GROUPED), strict=True)]
    torch.testing.assert_close(torch.cat(halves, dim=1) + GROUPED.bias, GROUPED(values[:, :, None])[:, :, 0])
    patch = torch.randn(1, 8, 3, 3)
    torch.testing.assert_close(rows_of(IMAGE)[0] @ patch.flatten() + IMAGE.bias, IMAGE(patch).flatten())


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 2), lambda: Conv1D(2, 4), lambda: nn.Conv2d(4, 2, 3, groups=2)])
def test_rows_are_a_view(make):
    layer = make()
    rows_of(layer).zero_()
    assert not layer.weight.any()
