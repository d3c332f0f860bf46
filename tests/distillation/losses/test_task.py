"""The hard-label loss: the sum that a model's mean came from."""

import pytest
import torch

from hfcompress.distillation.losses.task import TaskLoss
from hfcompress.training.objective import LossConfig


def test_gives_back_the_sum_of_the_mean():
    values = torch.tensor([0.5, 1.5, 4.0])
    assert TaskLoss(LossConfig(), None)(values.mean(), torch.tensor(3)).item() == pytest.approx(6.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_half_precision_in_float32(dtype):
    # 70070 is beyond float16 and between two bfloat16 values.
    value = TaskLoss(LossConfig(), None)(torch.tensor(70.0, dtype=dtype), torch.tensor(1001))
    assert value.item() == 70070.0


def test_passes_the_gradient_on():
    mean = torch.tensor(0.7, requires_grad=True)
    TaskLoss(LossConfig(), None)(mean, torch.tensor(5)).backward()
    assert mean.grad.item() == 5.0
