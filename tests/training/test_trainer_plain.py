"""Without a teacher, CompressionTrainer is transformers' Trainer bit for bit."""

import pytest
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from hfcompress import CompressionArguments, CompressionTrainer
from tests.tiny import tiny_model
from tests.training.runs import TOKENIZER, arguments, logged, rows, same, summed_cross_entropy, weights

VARIANTS = {
    "plain": {},
    "accumulated": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
    "smoothed": {"label_smoothing_factor": 0.1},
    "evaluated": {"eval_strategy": "epoch", "num_train_epochs": 2},
}


def _train(cls, args, **given):
    """Train a model with dropout, so that one random number too many would show."""
    collator = DataCollatorWithPadding(TOKENIZER)
    trainer = cls(
        tiny_model(seed=3), args, train_dataset=rows(), eval_dataset=rows(30), data_collator=collator, **given
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_and_losses_are_those_of_trainer(variant, tmp_path):
    theirs = _train(Trainer, arguments(tmp_path, TrainingArguments, **VARIANTS[variant]))
    assert len(logged(theirs, "loss")) >= 4
    for args_class in (CompressionArguments, TrainingArguments):
        ours = _train(CompressionTrainer, arguments(tmp_path, args_class, **VARIANTS[variant]))
        assert same(weights(ours.model), weights(theirs.model))
        for key in ("loss", "grad_norm", "learning_rate", "eval_loss"):
            assert logged(ours, key) == logged(theirs, key)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_loss_function_is_used_as_trainer_uses_it(accumulation, tmp_path):
    options = {"per_device_train_batch_size": 16 // accumulation, "gradient_accumulation_steps": accumulation}
    ours, theirs = (
        _train(cls, arguments(tmp_path, **options), compute_loss_func=summed_cross_entropy)
        for cls in (CompressionTrainer, Trainer)
    )
    assert same(weights(ours.model), weights(theirs.model))
    assert logged(ours, "loss") == logged(theirs, "loss")


def test_no_teacher_logs_no_terms_and_saves_no_extra_file(tmp_path):
    trainer = _train(CompressionTrainer, arguments(tmp_path, save_strategy="epoch"))
    assert not [key for entry in trainer.state.log_history for key in entry if key.startswith("loss_")]
    assert not list(tmp_path.glob("checkpoint-*/distillation.safetensors"))


def test_training_changes_the_weights(tmp_path):
    trainer = _train(CompressionTrainer, arguments(tmp_path))
    assert not same(weights(trainer.model), weights(tiny_model(seed=3)))
