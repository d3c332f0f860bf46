"""Runs of the Trainer in processes of their own: two together, or one that is killed; `python -m` starts it."""

import gc
import json
import os
import signal
import sys
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file

from hfcompress.tasks import find_task
from hfcompress.training.collator import PairedCollator
from hfcompress.training.distiller import DistillerCallback
from tests.tiny import sentences, tiny_head, tiny_model
from tests.training.pruners import ScoredConfig
from tests.training.runs import (
    ALL_LOSSES,
    NO_DROPOUT,
    TOKENIZER,
    At,
    build,
    learned,
    rows,
    small_student,
    summed_cross_entropy,
)

_SGD = {"optim": "sgd", "learning_rate": 0.05, "num_train_epochs": 2, "losses": ALL_LOSSES}

TOGETHER = {
    "projections": {**_SGD},
    "grouped": {**_SGD, "length_grouping": True},
    "accumulated": {**_SGD, "gradient_accumulation_steps": 2, "length_grouping": True},
    "hidden states only": {**_SGD, "losses": {"hidden_mse": 1}},
    "loss function": {**_SGD, "given": {"compute_loss_func": summed_cross_entropy}},
    "pruned": {**_SGD, "given": {"pruning": {"method": "magnitude", "sparsity": 0.6, "every": 1}}},
    "scored": {**_SGD, "given": {"pruning": ScoredConfig()}},
    "scored, accumulated": {**_SGD, "gradient_accumulation_steps": 2, "given": {"pruning": ScoredConfig()}},
}
"""Runs that one process and two must end with the same weights."""

LANGUAGE = {
    "tied head with a bias": ("bert", "fill-mask", "ForMaskedLM", NO_DROPOUT["bert"]),
    "untied head": ("llama", "text-generation", "ForCausalLM", {"tie_word_embeddings": False}),
}
"""Language models, whose output layer runs outside the forward pass."""

RESUMED = {**_SGD, "length_grouping": True, "save_strategy": "steps", "save_steps": 5}
"""A run of 8 steps that is stopped after its checkpoint at step 5, in the second epoch, and resumed."""

KILLED = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "losses": ALL_LOSSES,
    "save_strategy": "steps",
    "save_steps": 5,
}
"""A run of 16 steps."""


def train(folder, size, **options):
    """Train on 64 rows in optimizer steps of 16, in micro-batches of `size` rows; projections to a wider teacher."""
    trainer = build(
        small_student(),
        folder,
        tiny_model(layers=4, width=48),
        data=rows(64),
        per_device_train_batch_size=size,
        **options,
    )
    if trainer.args.process_index:
        # As if its random numbers had been others: training must begin with those of the first process.
        torch.nn.init.zeros_(next(trainer.distiller.modules.parameters()))
        if trainer.pruner is not None:
            for parameter in trainer.pruner.learned.parameters():
                torch.nn.init.zeros_(parameter)
    return trainer


def train_language(folder, size, name):
    """Distil a tiny language model on 32 texts in optimizer steps of 8, in micro-batches of `size`."""
    family, task, head, config = LANGUAGE[name]
    texts = Dataset.from_dict({"text": [text for text, _ in sentences(32)]})
    data = find_task(task).encode(texts, TOKENIZER, 64)
    assert len(data) == 32
    return build(
        tiny_head(family, head, layers=1, seed=2, **config),
        folder,
        tiny_head(family, head, layers=2, seed=1, **config),
        data=data,
        per_device_train_batch_size=size,
        given={"data_collator": PairedCollator(find_task(task), TOKENIZER)},
        **{**_SGD, "losses": {"kl": 0.7, "hidden_mse": 0.3, "task": 0.3}},
    )


def killed_run(folder, callbacks=None, **options):
    """Build the run that is killed: dropout in the student, projections."""
    return build(
        tiny_model(layers=2, seed=1), folder, tiny_model(layers=4, width=48), callbacks=callbacks, **KILLED | options
    )


def resumed_run(folder, size):
    """Stop a run in its second epoch and resume it with another trainer, as a new process would."""
    stop = At(6, lambda control: setattr(control, "should_training_stop", True))
    train(folder, size, callbacks=[stop], **RESUMED).train()
    trainer = train(folder, size, **RESUMED)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-5"))
    return trainer


def _write(trainer, folder, name):
    if trainer.is_world_process_zero():
        save_file(learned(trainer), folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(trainer.state.log_history))


def together(folder):
    """Run everything that two processes are compared on."""
    for name, options in TOGETHER.items():
        trainer = train(folder / name, 8 // options.get("gradient_accumulation_steps", 1), **options)
        assert trainer.args.world_size == 2
        assert [c for c in trainer.callback_handler.callbacks if isinstance(c, DistillerCallback)]
        trainer.train()
        _write(trainer, folder, name)
    for name in LANGUAGE:
        trainer = train_language(folder / name, 4, name)
        assert trainer.distiller.student.head is not None
        trainer.train()
        _write(trainer, folder, name)
    _write(resumed_run(folder / "resumed", 8), folder, "resumed")


def killed(folder):
    """Kill this process two steps after its checkpoint."""
    killed_run(folder, [At(7, lambda _: os.kill(os.getpid(), signal.SIGKILL))]).train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    gc.freeze()  # each of the Trainer's runs collects garbage, else over all of torch
    {"together": together, "killed": killed}[sys.argv[1]](Path(sys.argv[2]))
