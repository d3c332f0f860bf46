"""Any Trainer subclass can take the mixin; and an optimizer of one's own must train the projections too."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from hfcompress import CompressionArguments, CompressionMixin, RequestError
from tests.tiny import tiny_model
from tests.training.runs import (
    ALL_LOSSES,
    Record,
    arguments,
    build,
    distance,
    logged,
    rows,
    same,
    small_student,
    weights,
)


class WeightedTrainer(Trainer):
    """As in many tutorials: a loss of its own, extra keyword arguments passed over."""

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        # Weights that are the same for both classes: the mean stays one over rows.
        loss = 3 * cross_entropy(outputs["logits"], labels)
        return (loss, outputs) if return_outputs else loss


class EagerTrainer(Trainer):
    """Asks for data and optimizer while it is being built."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.first = next(iter(self.get_train_dataloader()))
        self.create_optimizer()


class WeightedCompressionTrainer(CompressionMixin, WeightedTrainer):
    pass


class EagerCompressionTrainer(CompressionMixin, EagerTrainer):
    pass


class Seq2SeqCompressionTrainer(CompressionMixin, Seq2SeqTrainer):
    pass


@dataclass
class Seq2SeqCompressionArguments(CompressionArguments, Seq2SeqTrainingArguments):
    pass


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_task_loss_is_the_subclasss_own(accumulation, teacher, tmp_path):
    sizes = {"per_device_train_batch_size": 16 // accumulation, "gradient_accumulation_steps": accumulation}
    tripled = build(
        small_student(), tmp_path, teacher, cls=WeightedCompressionTrainer, losses={"kl": 1, "task": 1}, **sizes
    )
    plain = build(small_student(), tmp_path, teacher, losses={"kl": 1, "task": 3})
    tripled.train()
    plain.train()
    assert logged(tripled, "loss_task") == pytest.approx(logged(plain, "loss_task"), rel=1e-4)
    assert distance(weights(tripled.model), weights(plain.model)) < 2e-6


def test_without_a_teacher_a_subclass_trains_as_it_did(tmp_path):
    ours = build(tiny_model(seed=3), tmp_path, cls=WeightedCompressionTrainer)
    ours.train()
    theirs = build(tiny_model(seed=3), tmp_path, cls=WeightedTrainer)
    theirs.train()
    assert same(weights(ours.model), weights(theirs.model))
    assert ours.evaluate(rows(20))["eval_loss"] == theirs.evaluate(rows(20))["eval_loss"]


def test_a_subclass_evaluates_with_its_own_loss(teacher, tmp_path):
    student = small_student("distilbert")
    ours = build(student, tmp_path, teacher, cls=WeightedCompressionTrainer).evaluate(rows(20))
    theirs = build(student, tmp_path, cls=WeightedTrainer).evaluate(rows(20))
    assert ours["eval_loss"] == theirs["eval_loss"]


def test_a_subclass_may_use_data_and_optimizer_while_it_is_built(teacher, tmp_path):
    """Its look at the data, before there was a teacher, must not starve the teacher of columns later."""
    record = Record(teacher)
    eager = build(small_student("distilbert"), tmp_path, teacher, cls=EagerCompressionTrainer)
    eager.train()
    assert all("token_type_ids" in call for call in record.calls)
    plain = build(small_student("distilbert"), tmp_path, teacher)
    plain.train()
    assert same(weights(eager.model), weights(plain.model))


def test_the_seq2seq_trainer_takes_the_mixin(teacher, tmp_path):
    args = arguments(tmp_path, Seq2SeqCompressionArguments, losses=ALL_LOSSES, predict_with_generate=False)
    ours = build(small_student(), tmp_path, teacher, cls=Seq2SeqCompressionTrainer, given={"args": args})
    plain = build(small_student(), tmp_path, teacher, losses=ALL_LOSSES)
    ours.train()
    plain.train()
    assert same(weights(ours.model), weights(plain.model))
    alone = build(ours.model, tmp_path, cls=Seq2SeqTrainer, given={"args": args})
    assert ours.evaluate(rows(20))["eval_loss"] == alone.evaluate(rows(20))["eval_loss"]


def test_plain_training_arguments_mean_the_default_losses(teacher, tmp_path):
    given = {"args": arguments(tmp_path, TrainingArguments)}
    plain, ours = build(small_student(), tmp_path, teacher, given=given), build(small_student(), tmp_path, teacher)
    plain.train()
    ours.train()
    assert same(weights(plain.model), weights(ours.model))
    assert logged(plain, "loss_kl") == logged(ours, "loss_kl")


def test_an_optimizer_without_the_projections_is_refused(tmp_path):
    student = small_student()
    given = {"optimizers": (torch.optim.SGD(student.parameters(), lr=0.1), None)}
    trainer = build(student, tmp_path, tiny_model(layers=4, width=48), given=given, losses={"hidden_mse": 1})
    with pytest.raises(RequestError, match="lacks the losses' learned projections"):
        trainer.train()


def test_an_optimizer_of_ones_own_is_taken_where_there_are_no_projections(teacher, tmp_path):
    student = small_student()
    own = torch.optim.SGD(student.parameters(), lr=0.1)
    build(student, tmp_path, teacher, given={"optimizers": (own, None)}, losses={"hidden_mse": 1}).train()
    assert not same(weights(student), weights(small_student()))


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_projections_are_trained_and_decayed_like_weights(optim, tmp_path):
    trainer = build(
        small_student(),
        tmp_path,
        tiny_model(layers=4, width=48),
        losses={"hidden_mse": 1},
        optim=optim,
        weight_decay=0.01,
    )
    before = weights(trainer.distiller.modules)
    trainer.train()
    learned = {id(p) for p in trainer.distiller.modules.parameters()}
    groups = [g for g in trainer.optimizer.param_groups if learned & {id(p) for p in g["params"]}]
    assert [group["weight_decay"] for group in groups] == [0.01]
    assert len(learned) == 3
    after = weights(trainer.distiller.modules)
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_training_a_second_time_keeps_one_group_for_the_projections(tmp_path):
    trainer = build(small_student(), tmp_path, tiny_model(layers=4, width=48), losses={"hidden_mse": 1})
    trainer.train()
    trainer.train()
    found = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(found) == len(set(found))
