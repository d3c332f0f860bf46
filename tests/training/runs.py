"""What the training tests share: tokenized tiny rows, arguments, and one call that builds a trainer."""

from functools import cache

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import DataCollatorWithPadding, TrainerCallback

from hfcompress import CompressionArguments, CompressionTrainer
from tests.tiny import sentences, tiny_model, tiny_tokenizer

LABELS = ["negative", "positive"]

ALL_LOSSES = {
    "kl": 0.5,
    "reverse_kl": 0.1,
    "jsd": 0.1,
    "logit_mse": 0.1,
    "hidden_mse": 0.2,
    "hidden_cosine": 0.1,
    "task": 0.5,
}

NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
}

TOKENIZER = tiny_tokenizer()


@cache
def rows(count=62):
    """Tokenized, unpadded rows with labels; their lengths differ."""
    texts, names = zip(*sentences(count), strict=True)
    return Dataset.from_dict({**TOKENIZER(list(texts)), "labels": [LABELS.index(name) for name in names]})


def arguments(folder, cls=CompressionArguments, **options):
    """Arguments of a short run on the CPU: one epoch of batches of 16, nothing saved."""
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 16,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return cls(**defaults | options)


def build(student, folder, teacher=None, *, cls=CompressionTrainer, data=None, given=None, callbacks=None, **options):
    """Build a trainer; `given` goes to the trainer, other options to its arguments."""
    keywords = {"args": arguments(folder, **options), "train_dataset": rows() if data is None else data}
    keywords |= {
        "data_collator": DataCollatorWithPadding(TOKENIZER),
        "processing_class": TOKENIZER,
        "callbacks": callbacks,
    }
    if teacher is not None:
        keywords["teacher"] = teacher
    return cls(student, **keywords | (given or {}))


def small_student(family="bert", **overrides):
    """A student of two layers without dropout, other than any teacher here."""
    return tiny_model(family, layers=2, seed=1, **NO_DROPOUT[family], **overrides)


def weights(model):
    """Copy a model's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def learned(trainer):
    """Everything that training changes: the student, the losses' projections, the pruner's scores."""
    beside = [trainer.distiller.modules] if trainer.distiller is not None else []
    beside += [trainer.pruner.learned] if trainer.pruner is not None else []
    return {name: tensor for module in (trainer.model, *beside) for name, tensor in weights(module).items()}


def same(one, other):
    """Say whether two sets of weights are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def distance(one, other):
    """Return the largest difference between two sets of weights."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def logged(trainer, key):
    """Return what was logged under a key, step by step."""
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def summed_cross_entropy(outputs, labels, num_items_in_batch=None):
    """A `compute_loss_func` as transformers documents it: the sum over the items, divided by their number."""
    return cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


class At(TrainerCallback):
    """Does something when a step has ended (after its checkpoint was asked for, before it is written)."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            self.action(control)


class Record:
    """Notes the keyword arguments of each call of a model's forward pass."""

    def __init__(self, model):
        self.calls, self.training = [], []
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, model, args, kwargs):
        self.calls.append(dict(kwargs))
        self.training.append(model.training)
