"""The Seq2Seq trainer: it learns from a teacher, and evaluates by generating with the student alone."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from hfcompress.tasks import TASKS
from hfcompress.training.seq2seq import Seq2SeqCompressionArguments, Seq2SeqCompressionTrainer
from tests.tiny import sentences, tiny_head, tiny_tokenizer
from tests.training.runs import arguments, logged, same, weights

TASK = TASKS["text2text-generation"]
TOKENIZER = tiny_tokenizer()


def rows(count=20):
    texts = [text for text, _ in sentences(count)]
    data = Dataset.from_dict({"text": texts, "labels": [" ".join(text.split()[:4]) for text in texts]})
    return TASK.encode(data, TOKENIZER, None)


def build(family, folder, teacher=None, cls=Seq2SeqCompressionTrainer, args=Seq2SeqCompressionArguments, **options):
    student = tiny_head(family, "ForSeq2SeqLM", layers=1, seed=1)
    defaults = {"per_device_train_batch_size": 10, "predict_with_generate": True, "generation_max_length": 6}
    given = {} if teacher is None else {"teacher": teacher}
    return cls(
        student,
        arguments(folder, args, **{**defaults, **options}),
        train_dataset=rows(),
        eval_dataset=rows(6),
        data_collator=TASK.collator(TOKENIZER),
        processing_class=TOKENIZER,
        **given,
    )


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_it_learns_from_a_teacher_and_generates_without_it(family, tmp_path):
    teacher = tiny_head(family, "ForSeq2SeqLM", layers=2)
    trainer = build(family, tmp_path, teacher)
    seen = []
    trainer.compute_metrics = lambda found: seen.append(found) or {"rows": len(found.predictions)}
    before = weights(trainer.model)
    trainer.train()
    assert not same(before, weights(trainer.model))
    assert all(np.isfinite(logged(trainer, "loss_kl")))

    calls = []
    teacher.register_forward_pre_hook(lambda *_: calls.append(1))
    metrics = trainer.evaluate()
    assert metrics["eval_rows"] == 6
    assert np.isfinite(metrics["eval_loss"])
    assert not calls
    inputs = TASK.collator(TOKENIZER)(list(rows(6)))
    wanted = trainer.model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_length=6
    )
    assert np.array_equal(seen[0].predictions[:, : wanted.shape[1]], wanted.numpy())
    assert np.isin(seen[0].predictions[:, wanted.shape[1] :], [0, -100]).all()


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_loss_it_evaluates_is_the_plain_one(family, tmp_path):
    trainer = build(family, tmp_path, tiny_head(family, "ForSeq2SeqLM"), predict_with_generate=False)
    with torch.no_grad():
        batch = TASK.collator(TOKENIZER)(list(rows(6)))
        own = trainer.model.eval()(**batch).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(own, rel=1e-5)


def test_without_a_teacher_it_is_transformers_own_bit_for_bit(tmp_path):
    ends = []
    for cls, args in (
        (Seq2SeqCompressionTrainer, Seq2SeqCompressionArguments),
        (Seq2SeqTrainer, Seq2SeqTrainingArguments),
    ):
        trainer = build("t5", tmp_path, cls=cls, args=args)
        trainer.train()
        ends.append((weights(trainer.model), trainer.evaluate()["eval_loss"]))
    (ours, our_loss), (theirs, their_loss) = ends
    assert same(ours, theirs)
    assert our_loss == their_loss
