"""A teacher with another tokenizer: logit losses work on its own tokens, losses on tokens are refused."""

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from hfcompress.errors import TeacherError
from hfcompress.training.teacher_checks import check_teacher, same_vocabulary
from tests.tiny import sentences, tiny_model, tiny_tokenizer
from tests.training.runs import LABELS, TOKENIZER, Record, build, logged, same, small_student, weights

OTHER = tiny_tokenizer(extra=["zebra", "apple"])
"""The same words under other numbers."""

LOGIT_LOSSES = {"kl": 0.5, "jsd": 0.1, "logit_mse": 0.2, "task": 0.3}


def _two_tokenizations(count=30):
    texts, names = zip(*sentences(count), strict=True)
    theirs = {f"teacher_{name}": column for name, column in OTHER(list(texts)).items()}
    return Dataset.from_dict({**TOKENIZER(list(texts)), **theirs, "labels": [LABELS.index(name) for name in names]})


def _pad_both(features):
    """Pad the student's columns with its tokenizer and the teacher's with the teacher's."""
    ours = [{name: value for name, value in row.items() if not name.startswith("teacher_")} for row in features]
    theirs = [{name[8:]: value for name, value in row.items() if name.startswith("teacher_")} for row in features]
    batch = DataCollatorWithPadding(TOKENIZER)(ours)
    if theirs[0]:
        padded = DataCollatorWithPadding(OTHER, pad_to_multiple_of=8)(theirs)
        batch.update({f"teacher_{name}": value for name, value in padded.items()})
    return batch


def _reading_other(teacher):
    """Copy the teacher into one that reads the other tokenizer's numbers and answers the same."""
    other = tiny_model(layers=4)
    other.load_state_dict(teacher.state_dict())
    table = other.get_input_embeddings().weight.data
    for word, number in OTHER.get_vocab().items():
        if word in TOKENIZER.get_vocab():
            table[number] = teacher.get_input_embeddings().weight.data[TOKENIZER.get_vocab()[word]]
    return other


def _given(**more):
    return {"data_collator": _pad_both, "teacher_processing_class": OTHER, **more}


def test_logit_losses_work_with_each_models_own_tokens(teacher, tmp_path):
    """A teacher that says the same of its own tokens teaches the same."""
    data, losses = _two_tokenizations(), {"losses": LOGIT_LOSSES, "num_train_epochs": 2, "optim": "sgd"}
    apart, together = small_student(), small_student()
    first = build(apart, tmp_path, _reading_other(teacher), data=data, given=_given(), **losses)
    second = build(together, tmp_path, teacher, data=data, given={"data_collator": _pad_both}, **losses)
    first.train()
    second.train()
    assert logged(first, "loss_kl") == pytest.approx(logged(second, "loss_kl"), abs=1e-6)
    for name, tensor in weights(apart).items():
        assert torch.allclose(tensor, weights(together)[name], atol=1e-6)
    assert not same(weights(apart), weights(small_student()))


def test_each_model_gets_its_own_columns(teacher, tmp_path):
    student = small_student("distilbert")
    asked, told = Record(student), Record(teacher)
    build(student, tmp_path, teacher, data=_two_tokenizations(), given=_given(), losses=LOGIT_LOSSES).train()
    for ours, theirs in zip(asked.calls, told.calls, strict=True):
        assert not [name for name in {**ours, **theirs} if name.startswith("teacher_")]
        assert theirs["input_ids"].shape[1] % 8 == 0
        assert ours["input_ids"].max() < theirs["input_ids"].max() == len(OTHER) - 1
        assert "token_type_ids" in theirs
        assert "token_type_ids" not in ours


def test_evaluation_and_prediction_need_no_tokens_of_the_teacher(teacher, tmp_path):
    trainer = build(small_student(), tmp_path, teacher, data=_two_tokenizations(), given=_given(), losses=LOGIT_LOSSES)
    held_out = _two_tokenizations(12)
    plain = held_out.remove_columns([name for name in held_out.column_names if name.startswith("teacher_")])
    assert trainer.evaluate(plain)["eval_loss"] == trainer.evaluate(held_out)["eval_loss"]
    assert trainer.predict(plain.remove_columns("labels")).predictions.shape == (12, 2)


@pytest.mark.parametrize(
    ("losses", "refused", "working"),
    [
        ({"kl": 1, "hidden_mse": 1}, "hidden_mse compare", "losses on logits still work: kl."),
        (
            {"kl": 1, "jsd": 1, "hidden_cosine": 1, "hidden_mse": 1},
            "hidden_cosine, hidden_mse compare",
            "work: kl, jsd.",
        ),
        ({"hidden_mse": 1}, "hidden_mse compare", "losses on logits still work, such as kl."),
    ],
)
def test_losses_on_tokens_are_refused_and_those_that_work_are_named(losses, refused, working, teacher, tmp_path):
    with pytest.raises(TeacherError, match=refused) as caught:
        build(small_student(), tmp_path, teacher, data=_two_tokenizations(), given=_given(), losses=losses)
    assert working in str(caught.value)


def test_data_without_the_teachers_tokens_is_refused(teacher, tmp_path):
    with pytest.raises(TeacherError, match="teacher_input_ids and teacher_attention_mask"):
        build(small_student(), tmp_path, teacher, given=_given(), losses=LOGIT_LOSSES)


def test_vocabularies_are_compared_word_by_word():
    """Both have as many words as each other when one is renamed; that makes them no less different."""
    assert same_vocabulary(TOKENIZER, tiny_tokenizer())
    assert not same_vocabulary(tiny_tokenizer(extra=["zebra"]), tiny_tokenizer(extra=["apple"]))


@pytest.mark.parametrize(("size", "shared"), [(64, True), (65, False)])
def test_without_tokenizers_the_vocabulary_sizes_are_compared(size, shared):
    assert check_teacher(tiny_model(layers=4, vocab_size=size), small_student()).shares_tokens is shared
