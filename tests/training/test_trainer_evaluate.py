"""Evaluation is the task's: the plain Trainer's loss, the student alone, no labels needed to predict."""

import numpy as np
import pytest
import torch
from transformers import Trainer

from tests.tiny import tiny_model
from tests.training.runs import ALL_LOSSES, Record, build, logged, rows, small_student, summed_cross_entropy


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing_factor": 0.1}, {"given": "loss function"}])
def test_eval_loss_is_the_plain_trainers(options, family, teacher, tmp_path):
    options = {**options, "per_device_eval_batch_size": 7}
    if options.pop("given", None):
        options["given"] = {"compute_loss_func": summed_cross_entropy}
    student = small_student(family)
    ours = build(student, tmp_path, teacher, losses=ALL_LOSSES, **options).evaluate(rows(30))
    theirs = build(student, tmp_path, cls=Trainer, **options).evaluate(rows(30))
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-7)


def test_eval_loss_is_the_mean_cross_entropy(teacher, tmp_path):
    student = small_student()
    found = build(student, tmp_path, teacher, per_device_eval_batch_size=7).evaluate(rows(30))["eval_loss"]
    losses = []
    for row in rows(30):
        logits = student(**{name: torch.tensor([row[name]]) for name in ("input_ids", "token_type_ids")}).logits[0]
        losses.append(-torch.log_softmax(logits, 0)[row["labels"]].item())
    assert found == pytest.approx(sum(losses) / 30, abs=1e-6)


def test_the_teacher_is_not_asked_in_evaluation(teacher, tmp_path):
    record = Record(teacher)
    trainer = build(small_student(), tmp_path, teacher, losses=ALL_LOSSES)
    evaluated, predicted = trainer.evaluate(rows(30)), trainer.predict(rows(30))
    assert record.calls == []
    assert not [key for key in (*evaluated, *predicted.metrics) if "kl" in key or "hidden" in key]
    assert predicted.predictions.shape == (30, 2)


def test_evaluation_during_training_asks_the_teacher_for_training_batches_alone(teacher, tmp_path):
    record = Record(teacher)
    given = {"eval_dataset": rows(30)}
    trainer = build(
        small_student(), tmp_path, teacher, given=given, eval_strategy="steps", eval_steps=1, logging_steps=2
    )
    trainer.train()
    assert len(record.calls) == 4
    assert len(logged(trainer, "eval_loss")) == 4
    # An evaluation between two steps of one logged mean changes nothing in it.
    shares = [
        sum(entry[f"loss_{name}"] for name in ("kl", "task")) for entry in trainer.state.log_history if "loss" in entry
    ]
    assert shares == pytest.approx(logged(trainer, "loss"), abs=1e-4)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_student_predicts_with_and_without_labels(family, labels, teacher, tmp_path):
    student = small_student(family)
    data = rows(30) if labels else rows(30).remove_columns("labels")
    found = build(student, tmp_path, teacher).predict(data)
    plain = build(student, tmp_path, cls=Trainer).predict(data)
    np.testing.assert_array_equal(found.predictions, plain.predictions)
    assert ("test_loss" in found.metrics) is labels


def test_metrics_are_computed_on_the_students_predictions(tmp_path):
    def metrics(predictions):
        return {"right": float((predictions.predictions.argmax(-1) == predictions.label_ids).mean())}

    teacher, student = tiny_model(layers=4), small_student()
    found = build(student, tmp_path, teacher, losses=ALL_LOSSES, given={"compute_metrics": metrics}).evaluate(rows(30))
    plain = build(student, tmp_path, cls=Trainer, given={"compute_metrics": metrics}).evaluate(rows(30))
    assert found["eval_right"] == plain["eval_right"]
