"""With a teacher, the same samples give the same weights however they are split into micro-batches."""

import pytest

from tests.tiny import tiny_model
from tests.training.runs import (
    ALL_LOSSES,
    build,
    distance,
    learned,
    logged,
    rows,
    small_student,
    summed_cross_entropy,
    weights,
)

VARIANTS = {
    "all losses": {},
    "an uneven last micro-batch": {"count": 61},
    "an incomplete last accumulation": {"count": 50},
    "label smoothing": {"label_smoothing_factor": 0.1},
    "length grouping": {"length_grouping": True},
    "projections": {"width": 48},
    "plain SGD": {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0},
    "a loss function": {"given": {"compute_loss_func": summed_cross_entropy}},
}


def _train(folder, micro_batches, count=62, width=32, **options):
    teacher = tiny_model(layers=4, width=width)
    options = {"losses": ALL_LOSSES} | options
    sizes = {"per_device_train_batch_size": 16 // micro_batches, "gradient_accumulation_steps": micro_batches}
    trainer = build(small_student(), folder, teacher, data=rows(count), **options, **sizes)
    trainer.train()
    assert trainer.state.global_step == 4
    return trainer


@pytest.mark.parametrize("variant", VARIANTS)
def test_accumulation_of_1_4_and_8_gives_the_same_weights(variant, tmp_path):
    whole, four, eight = (_train(tmp_path, n, **VARIANTS[variant]) for n in (1, 4, 8))
    reference = learned(whole)
    assert distance(weights(whole.model), weights(small_student())) > 1e-3
    for split in (four, eight):
        assert distance(learned(split), reference) < 2e-6
        assert logged(split, "loss") == pytest.approx(logged(whole, "loss"), abs=1.1e-4)
        assert logged(split, "grad_norm") == pytest.approx(logged(whole, "grad_norm"), rel=1e-4)


def test_the_task_loss_alone_trains_as_without_a_teacher(tmp_path):
    taught = build(small_student(), tmp_path, tiny_model(layers=4), losses={"task": 1})
    plain = build(small_student(), tmp_path)
    taught.train()
    plain.train()
    assert distance(weights(taught.model), weights(plain.model)) < 2e-6
