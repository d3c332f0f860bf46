"""Tasks on words under the Trainer: a student learns from its teacher, the same however the batch is split."""

import pytest
import torch
from datasets import Dataset

from hfcompress.tasks import TASKS
from hfcompress.training import building, teacher
from hfcompress.training.collator import PairedCollator
from hfcompress.training.heads import DeferredHead
from tests.tiny import sentences, tiny_head, tiny_tokenizer
from tests.training.runs import build, distance, logged, weights

TOKENIZER = tiny_tokenizer()
NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "llama": {},
    "t5": {"dropout_rate": 0.0},
    "bart": {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
}
RUNS = [
    ("fill-mask", "bert", "ForMaskedLM"),
    ("text-generation", "gpt2", "ForCausalLM"),
    ("text-generation", "llama", "ForCausalLM"),
    ("text2text-generation", "t5", "ForSeq2SeqLM"),
    ("text2text-generation", "bart", "ForSeq2SeqLM"),
]
each = pytest.mark.parametrize(("name", "family", "head"), RUNS, ids=[f"{name}-{family}" for name, family, _ in RUNS])


def rows(task, count=16):
    texts = [text for text, _ in sentences(count)]
    targets = {"labels": [" ".join(text.split()[: 1 + place % 5]) for place, text in enumerate(texts)]}
    return task.encode(Dataset.from_dict({"text": texts, **(targets if len(task.columns) > 1 else {})}), TOKENIZER, 12)


def train(name, family, head, folder, size=8, splits=1, **options):
    """Train on the same 16 or more blocks in steps of 8, as one batch or in `splits` micro-batches."""
    student = tiny_head(family, head, layers=1, seed=1, **NO_DROPOUT[family])
    task = TASKS[name]
    defaults = {"optim": "sgd", "learning_rate": 0.1, "num_train_epochs": 2}
    trainer = build(
        student,
        folder,
        tiny_head(family, head, layers=2, width=48),
        data=rows(task).select(range(16)),
        given={"data_collator": PairedCollator(task, TOKENIZER)},
        per_device_train_batch_size=size // splits,
        gradient_accumulation_steps=splits,
        **{**defaults, **options},
    )
    trainer.train()
    return trainer


@each
def test_a_student_comes_closer_to_its_teacher(name, family, head, tmp_path):
    trainer = train(
        name, family, head, tmp_path, losses="kl", optim="adamw_torch", learning_rate=3e-3, num_train_epochs=15
    )
    values = logged(trainer, "loss_kl")
    assert values[-1] < values[0] / 2


@each
def test_accumulated_batches_of_other_padding_give_the_same_weights(name, family, head, tmp_path):
    losses = {"kl": 0.5, "logit_mse": 0.01, "task": 0.5}
    whole = train(name, family, head, tmp_path, losses=losses)
    parts = train(name, family, head, tmp_path, splits=4, losses=losses)
    assert distance(weights(whole.model), weights(parts.model)) < 2e-5
    assert logged(parts, "loss") == pytest.approx(logged(whole, "loss"), rel=1e-3)


@each
def test_logits_in_parts_give_the_weights_that_whole_logits_give(name, family, head, tmp_path, monkeypatch):
    parts = train(name, family, head, tmp_path)
    assert parts.distiller.student.head is not None
    monkeypatch.setattr(DeferredHead, "in_chunks", lambda self, rows: [slice(n, n + 3) for n in range(0, rows, 3)])
    many_parts = train(name, family, head, tmp_path)
    monkeypatch.setattr(building.DeferredHead, "of", lambda model: None)
    plain = train(name, family, head, tmp_path)
    assert plain.distiller.student.head is plain.distiller.teacher.listener.head is None
    for other in (parts, many_parts):
        assert distance(weights(plain.model), weights(other.model)) < 2e-5
        for loss in ("loss_kl", "loss_task"):
            assert logged(other, loss) == pytest.approx(logged(plain, loss), rel=1e-3)


@each
def test_hidden_states_of_all_real_tokens_are_compared(name, family, head, tmp_path):
    trainer = train(name, family, head, tmp_path, losses={"hidden_mse": 1.0, "kl": 1.0})
    assert all(value > 0 for value in logged(trainer, "loss_hidden_mse"))


def test_a_teacher_asked_alone_gives_the_rows_of_its_own_logits():
    model, task = tiny_head("t5", "ForSeq2SeqLM"), TASKS["text2text-generation"]
    from hfcompress.training.signals import Needs

    columns = frozenset({"input_ids", "attention_mask", "decoder_input_ids"})
    asked = teacher.ModelTeacher(model, task, columns, label_order=None, shares_tokens=True)
    asked.prepare(Needs(), deferred=True)
    batch = task.collator(TOKENIZER)(list(rows(task, 5)))
    found = asked.ask(batch).rows.part(slice(None))
    wanted, labels = task.rows(model(**batch), batch)
    torch.testing.assert_close(found.logits, wanted.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.labels, labels)
