"""What CompressionTrainer minimises is what the papers write: compared with a training loop written out by hand."""

import copy

import pytest
import torch
from transformers import DataCollatorWithPadding

from tests.tiny import tiny_model
from tests.training.runs import TOKENIZER, build, distance, rows, small_student, weights

TEMPERATURE = 4.0
MAP = [(1, 2), (2, 4)]
LOSSES = {"kl": {"weight": 0.7, "temperature": TEMPERATURE}, "hidden_mse": 0.2, "task": 0.3}


class RecordingCollator:
    """Notes the rows of each micro-batch in the order of training."""

    def __init__(self):
        self.pad = DataCollatorWithPadding(TOKENIZER)
        self.batches = []

    def __call__(self, features):
        self.batches.append([dict(row) for row in features])
        return self.pad(features)


def _row_losses(student, teacher, projections, row):
    """Hinton's loss, the hidden states' squared differences, and the cross entropy, of one unpadded row."""
    inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}
    ours = student(**inputs, output_hidden_states=True)
    with torch.no_grad():
        theirs = teacher(**inputs, output_hidden_states=True)
    p = torch.softmax(theirs.logits[0] / TEMPERATURE, 0)
    q = torch.softmax(ours.logits[0] / TEMPERATURE, 0)
    hinton = TEMPERATURE**2 * (p * (p.log() - q.log())).sum()
    hidden = 0.0
    for number, (mine, its) in enumerate(MAP):
        state = ours.hidden_states[mine][0]
        state = state @ projections[number].T if projections else state
        hidden += (state - theirs.hidden_states[its][0]).square().mean(1).sum() / len(MAP)
    return hinton, hidden, -torch.log_softmax(ours.logits[0], 0)[row["labels"]]


def _train_by_hand(student, teacher, projections, steps, optimizer):
    for batch in steps:
        parts = [_row_losses(student, teacher, projections, row) for row in batch]
        tokens = sum(len(row["input_ids"]) for row in batch)
        hinton, hidden, task = (sum(values) for values in zip(*parts, strict=True))
        optimizer.zero_grad()
        (0.7 * hinton / len(batch) + 0.2 * hidden / tokens + 0.3 * task / len(batch)).backward()
        optimizer.step()


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize("optim", ["sgd", "adamw_torch"])
def test_weights_are_those_of_a_loop_written_by_hand(optim, width, accumulation, tmp_path):
    student, teacher, collator = small_student(), tiny_model(layers=4, width=width), RecordingCollator()
    rate = {"sgd": 0.05, "adamw_torch": 1e-3}[optim]
    trainer = build(
        student,
        tmp_path,
        teacher,
        data=rows(22),
        given={"data_collator": collator, "layer_map": MAP},
        losses=LOSSES,
        optim=optim,
        learning_rate=rate,
        adam_epsilon=1e-6,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        per_device_train_batch_size=8 // accumulation,
        gradient_accumulation_steps=accumulation,
    )
    twin = copy.deepcopy(student).train()
    projections = [p.detach().clone().requires_grad_() for p in trainer.distiller.modules.parameters()]
    assert len(projections) == (0 if width == 32 else len(MAP))
    trainer.train()

    batches = collator.batches
    assert [len(batch) for batch in batches] == ([8, 8, 6] if accumulation == 1 else [4, 4, 4, 4, 4, 2])
    steps = [sum(batches[i : i + accumulation], []) for i in range(0, len(batches), accumulation)]
    parameters = [*twin.parameters(), *projections]
    by_hand = {
        "sgd": lambda: torch.optim.SGD(parameters, lr=rate),
        "adamw_torch": lambda: torch.optim.AdamW(parameters, lr=rate, eps=1e-6, weight_decay=0.0),
    }[optim]()
    _train_by_hand(twin, teacher, projections, steps, by_hand)
    assert distance(weights(twin), weights(student)) < 5e-6
    for mine, its in zip(projections, trainer.distiller.modules.parameters(), strict=True):
        assert torch.allclose(mine, its, atol=5e-6)
