"""What is logged: each loss's share under `loss_NAME`, and their sum is `loss`."""

import math

import pytest
import torch
from transformers import DataCollatorWithPadding

from tests.tiny import tiny_model
from tests.training.runs import ALL_LOSSES, TOKENIZER, At, Record, build, logged, rows, small_student


def _shares(trainer):
    return [
        {key.removeprefix("loss_"): value for key, value in entry.items() if key.startswith("loss_")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("logging_steps", [1, 3])
def test_the_shares_sum_to_the_loss(logging_steps, accumulation, teacher, tmp_path):
    trainer = build(
        small_student(),
        tmp_path,
        teacher,
        losses=ALL_LOSSES,
        logging_steps=logging_steps,
        num_train_epochs=2,
        per_device_train_batch_size=16 // accumulation,
        gradient_accumulation_steps=accumulation,
    )
    trainer.train()
    shares = _shares(trainer)
    assert len(shares) == 8 // logging_steps
    assert all(set(entry) == set(ALL_LOSSES) for entry in shares)
    # transformers 4 logs the sum rounded to four digits.
    assert [sum(entry.values()) for entry in shares] == pytest.approx(logged(trainer, "loss"), abs=6e-5)


def test_a_loss_of_weight_0_is_neither_computed_nor_logged(teacher, tmp_path):
    student = small_student()
    record = Record(student)
    trainer = build(student, tmp_path, teacher, losses={"kl": 1, "hidden_mse": 0, "task": 0})
    trainer.train()
    assert [set(entry) for entry in _shares(trainer)] == [{"kl"}] * 4
    assert all("labels" not in call for call in record.calls)


def test_shares_are_the_weighted_means_of_the_losses(teacher, tmp_path):
    """One batch of all rows, whose losses are known before the first step."""
    student, data = small_student(), rows(16)
    trainer = build(student, tmp_path, teacher, losses={"logit_mse": 0.2, "task": {"weight": 0.5}}, data=data)
    batch = DataCollatorWithPadding(TOKENIZER)([dict(row) for row in data])
    labels = batch.pop("labels")
    with torch.no_grad():
        ours, theirs = student(**batch).logits, teacher(**batch).logits
    squares = 0.2 * float(((ours - theirs) ** 2).mean())
    chosen = torch.log_softmax(ours, 1)[torch.arange(16), labels]
    trainer.train()
    assert _shares(trainer)[0] == pytest.approx({"logit_mse": squares, "task": -0.5 * float(chosen.mean())}, rel=1e-5)


def test_what_was_left_unlogged_does_not_leak_into_the_next_training(teacher, tmp_path):
    """The first training ends after one step, before anything was logged."""
    stop = At(1, lambda control: setattr(control, "should_training_stop", True))
    trainer = build(small_student(), tmp_path, teacher, callbacks=[stop], logging_steps=2)
    trainer.train()
    trainer.remove_callback(stop)
    trainer.train()
    shares = [sum(entry.values()) for entry in _shares(trainer)]
    assert shares == pytest.approx(logged(trainer, "loss"), abs=6e-5)


def test_losses_are_finite_and_divergences_not_negative(tmp_path):
    trainer = build(small_student(), tmp_path, tiny_model(layers=4, width=48), losses=ALL_LOSSES)
    trainer.train()
    values = [value for entry in _shares(trainer) for value in entry.values()]
    assert all(math.isfinite(value) and value >= 0 for value in values)
