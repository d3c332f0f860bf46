"""What the tests of tasks share: short trainings, without and with a teacher."""

import transformers
from transformers import Trainer, TrainingArguments

from hfcompress.training.arguments import CompressionArguments
from hfcompress.training.trainer import CompressionTrainer
from tests.tiny import tiny_config, tiny_tokenizer
from tests.training.runs import arguments

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def fresh(task, layers, **overrides):
    """An untrained BERT for a task, without dropout."""
    return getattr(transformers, task.auto_model).from_config(tiny_config("bert", layers, **NO_DROPOUT, **overrides))


def train(model, task, rows, folder, teacher=None, **options):
    """Train on encoded rows in padded batches of 8: with plain transformers, or with a teacher."""
    cls, kind = (Trainer, TrainingArguments) if teacher is None else (CompressionTrainer, CompressionArguments)
    options = {"per_device_train_batch_size": 8, "learning_rate": 5e-3, "seed": 0, **options}
    given = {} if teacher is None else {"teacher": teacher}
    tokenizer = tiny_tokenizer()
    trainer = cls(
        model,
        arguments(folder, kind, **options),
        train_dataset=rows,
        data_collator=task.collator(tokenizer),
        processing_class=tokenizer,
        **given,
    )
    trainer.train()
    return trainer


def first_losses(trainer):
    """What was logged at the first step."""
    return {name: value for name, value in trainer.state.log_history[0].items() if name.startswith("loss")}
