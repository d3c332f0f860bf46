"""Rows without labels: the teacher speaks on all of them, the task's loss on those with labels alone."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from hfcompress import CompressionArguments, CompressionTrainer
from tests.tiny import tiny_model

NAN = float("nan")
IDS = torch.tensor([[2, 6, 7, 3], [2, 9, 8, 3], [2, 11, 5, 3], [2, 14, 10, 3]])
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def trainer_of(tmp_path, loss, **config):
    student, teacher = (tiny_model("bert", seed=seed, **QUIET, **config) for seed in (1, 2))
    args = CompressionArguments(
        output_dir=str(tmp_path), losses={loss: 1.0, "task": 1.0}, use_cpu=True, report_to="none"
    )
    return CompressionTrainer(student, args, teacher=teacher), student, teacher


def loss_of(trainer, *batches):
    """The loss of one optimizer step over these micro-batches, as gradients see it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = len(batches)
    found, count = trainer.get_batch_samples(iter(batches), len(batches), torch.device("cpu"))
    losses = [trainer.compute_loss(trainer.model, batch, num_items_in_batch=count) for batch in found]
    return sum(losses) / (len(batches) if trainer._trainer_divides else 1)


KINDS = {
    "classes": (
        {},
        torch.tensor([1, -100, 0, -100]),
        lambda logits, labels: cross_entropy(logits, labels),
        "kl",
    ),
    "several labels": (
        {"problem_type": "multi_label_classification", "num_labels": 3},
        torch.tensor([[1.0, 0, 1], [NAN] * 3, [0, 0, 1], [NAN] * 3]),
        binary_cross_entropy_with_logits,
        "kl",
    ),
    "numbers": (
        {"problem_type": "regression", "num_labels": 1},
        torch.tensor([0.5, NAN, -2.0, NAN]),
        lambda logits, labels: mse_loss(logits.squeeze(-1), labels),
        "logit_mse",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", [(4,), (1, 3), (1, 1, 1, 1)], ids=str)
def test_the_task_counts_known_labels_and_the_teacher_all_rows(kind, split, tmp_path):
    config, labels, task, loss = KINDS[kind]
    trainer, student, teacher = trainer_of(tmp_path, loss, **config)
    parts = zip(IDS.split(split), labels.split(split), strict=True)
    value = loss_of(trainer, *({"input_ids": ids, "labels": part} for ids, part in parts))
    with torch.no_grad():
        ours, theirs = student(IDS).logits, teacher(IDS).logits
    known = [0, 2]
    if kind == "classes":
        p, q = (torch.log_softmax(logits / 2, -1) for logits in (theirs, ours))
        taught = 4 * (p.exp() * (p - q)).sum(-1).mean()
    elif kind == "several labels":
        p, q = torch.sigmoid(theirs / 2), torch.sigmoid(ours / 2)
        taught = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    else:
        taught = (ours - theirs).square().mean()
    torch.testing.assert_close(value, taught + task(ours[known], labels[known]), rtol=1e-5, atol=1e-6)
    value.backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in student.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_without_any_label_is_the_teachers_alone(kind, tmp_path):
    config, labels, _, loss = KINDS[kind]
    trainer, _, _ = trainer_of(tmp_path, loss, **config)
    unknown = labels[[1, 3]]
    value = loss_of(trainer, {"input_ids": IDS[:2], "labels": unknown})
    assert torch.isfinite(value)
    assert value > 0
    value.backward()


def test_a_regression_refuses_losses_on_probabilities(tmp_path):
    with pytest.raises(ValueError, match="kl compare probabilities of classes.*Use logit_mse"):
        trainer_of(tmp_path, "kl", problem_type="regression", num_labels=1)
