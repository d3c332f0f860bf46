"""Mean squared error on logits: values by hand, and its kinship to soft targets."""

import pytest
import torch

from tests.distillation.losses.support import build, logits


def test_equals_the_value_by_hand():
    value = build("logit_mse")(logits((1.0, 2.0, 4.0), (0.0, 0.0, 0.0)), logits((1.0, 0.0, 1.0), (0.0, 3.0, 0.0)))
    assert value.tolist() == pytest.approx([13 / 3, 3.0])


def test_is_twice_the_limit_of_kl_on_centred_logits_at_high_temperature():
    student, teacher = logits((3.0, 0.0, -3.0)), logits((1.0, 1.0, -2.0))
    soft = build("kl", temperature=1e4)(student, teacher)
    torch.testing.assert_close(2 * soft, build("logit_mse")(student, teacher), rtol=1e-3, atol=0)
