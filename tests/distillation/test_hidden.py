"""Losses on hidden states: padding is without effect, in made-up signals and in real models of every family."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress import registry
from hfcompress.distillation.hidden import HiddenStateLoss
from hfcompress.training.objective import ModelPair, build_objective, parse_losses
from hfcompress.training.signals import Signals, without_padding
from tests.distillation.losses.support import build
from tests.tiny import FAMILIES, tiny_model

HIDDEN_LOSSES = [
    name for name, method in registry.methods("loss").items() if issubclass(method.target, HiddenStateLoss)
]


@pytest.mark.parametrize("name", HIDDEN_LOSSES)
@pytest.mark.parametrize("garbage", [1e30, float("nan"), float("inf")])
@settings(max_examples=25, deadline=None)
@given(mask=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_garbage_at_padded_positions_changes_neither_loss_nor_gradient(name, garbage, mask):
    mask = torch.tensor(mask)
    loss = build(name, (1, 3), (1, 5))
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (
        [torch.randn(*mask.shape, width, generator=generator, dtype=torch.float64) for _ in range(2)]
        for width in (3, 5)
    )

    def value_and_gradient(fill):
        filled = [[states.masked_fill(~mask[..., None], fill) for states in model] for model in (ours, theirs)]
        leaves = [states.requires_grad_() for states in filled[0]]
        signals = [Signals(hidden_states=without_padding(tuple(states), mask)) for states in filled]
        value = loss(*signals)
        value.sum().backward()
        return value, [leaf.grad for leaf in leaves]

    (value, gradients), (expected, expected_gradients) = value_and_gradient(garbage), value_and_gradient(0.0)
    assert len(value) == mask.sum()
    assert torch.equal(value, expected)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert torch.equal(gradient, expected_gradient)
        assert not gradient[~mask].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_gives_the_losses_of_its_rows_alone(family):
    student, teacher = tiny_model(family, layers=2), tiny_model("bert", layers=4, width=16)
    terms = build_objective(parse_losses(",".join(HIDDEN_LOSSES)), ModelPair(student.config, teacher.config)).terms
    ids = torch.randint(5, 64, (2, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    ids[1, 4:] = student.config.pad_token_id

    def losses(ids, mask):
        signals = []
        for model in (student, teacher):
            outputs = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            signals.append(Signals(hidden_states=without_padding(outputs.hidden_states, mask.bool())))
        return [loss(*signals) for loss in terms.values()]

    with torch.no_grad():
        batch, rows = losses(ids, mask), [losses(ids[:1], mask[:1]), losses(ids[1:, :4], mask[1:, :4])]
    alone = [torch.cat(parts) for parts in zip(*rows, strict=True)]
    assert [len(values) for values in batch] == [11] * len(HIDDEN_LOSSES)
    torch.testing.assert_close(batch, alone, rtol=1e-4, atol=1e-5)


def test_hidden_states_to_compare_are_float32_even_where_autocast_halves_the_projection():
    loss = build("hidden_mse", (1, 4), (1, 8)).float()
    student, teacher = (Signals(hidden_states=(torch.ones(3, width).half(),) * 2) for width in (4, 8))
    with torch.autocast("cpu", torch.bfloat16):
        pairs = loss.mapped(student, teacher)
    assert [(ours.dtype, theirs.dtype) for ours, theirs in pairs] == [(torch.float32, torch.float32)] * 2
