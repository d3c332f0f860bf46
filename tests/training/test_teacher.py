"""The teacher teaches and nothing else: evaluation mode, no labels, no trace in optimizer or checkpoint."""

import pytest
import torch
from safetensors.torch import load_file

from hfcompress.errors import ModelError, TeacherError
from tests.tiny import sentences, tiny_model
from tests.training.runs import (
    ALL_LOSSES,
    LABELS,
    TOKENIZER,
    Record,
    build,
    logged,
    rows,
    same,
    small_student,
    weights,
)


@pytest.fixture
def pairs():
    """Rows of two texts, so that segment ids say something."""
    texts, names = zip(*sentences(24), strict=True)
    encoded = TOKENIZER(list(texts), list(reversed(texts)))
    return type(rows()).from_dict({**encoded, "labels": [LABELS.index(name) for name in names]})


def test_a_teacher_in_training_mode_is_asked_in_evaluation_mode(teacher, tmp_path):
    teacher.train()
    record = Record(teacher)
    trainer = build(small_student(), tmp_path, teacher)
    teacher.train()
    trainer.train()
    assert record.training == [False] * 4


def test_the_teacher_stays_as_it_was(teacher, tmp_path):
    before = weights(teacher)
    build(small_student(), tmp_path, teacher, losses=ALL_LOSSES).train()
    assert same(weights(teacher), before)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_teacher_is_not_optimised_nor_part_of_the_student(teacher, tmp_path):
    student = small_student()
    names = set(student.state_dict())
    trainer = build(student, tmp_path, teacher)
    trainer.train()
    optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in student.parameters()}
    assert set(student.state_dict()) == names


def test_a_checkpoint_holds_no_teacher(tmp_path):
    student = small_student()
    trainer = build(student, tmp_path, tiny_model(layers=4, width=48), losses=ALL_LOSSES, save_strategy="epoch")
    trainer.train()
    trainer.save_model()
    checkpoint = tmp_path / "checkpoint-4"
    assert set(load_file(checkpoint / "model.safetensors")) == set(student.state_dict())
    learned = load_file(checkpoint / "distillation.safetensors")
    assert {tuple(tensor.shape) for tensor in learned.values()} == {(48, 32)}
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    assert len(state["state"]) == len(list(student.parameters())) + len(learned)
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {"model.safetensors"}


@pytest.mark.parametrize("options", [{}, {"label_smoothing_factor": 0.1}])
def test_the_teacher_is_given_no_labels(options, teacher, tmp_path):
    record = Record(teacher)
    build(small_student(), tmp_path, teacher, **options).train()
    assert {frozenset(call) for call in record.calls} == {
        frozenset({"input_ids", "attention_mask", "token_type_ids", "return_dict"})
    }


def test_a_distilbert_student_does_not_starve_its_bert_teacher(pairs, teacher, tmp_path):
    student = small_student("distilbert")
    asked, told = Record(student), Record(teacher)
    build(student, tmp_path, teacher, data=pairs, losses=ALL_LOSSES).train()
    assert all("token_type_ids" not in call for call in asked.calls)
    assert all(call["token_type_ids"].any() for call in told.calls)
    assert len(asked.calls) == len(told.calls) == 2


@pytest.mark.parametrize(("losses", "asked"), [({"kl": 1}, False), ({"kl": 1, "hidden_mse": 1}, True)])
def test_hidden_states_are_asked_for_only_when_a_loss_needs_them(losses, asked, teacher, tmp_path):
    student = small_student()
    records = Record(student), Record(teacher)
    build(student, tmp_path, teacher, losses=losses).train()
    for record in records:
        assert {call.get("output_hidden_states", False) for call in record.calls} == {asked}


def test_a_teacher_given_by_folder_teaches_like_the_model(teacher_dir, tmp_path):
    from transformers import AutoModelForSequenceClassification

    names = {"id2label": {0: "negative", 1: "positive"}}
    by_folder, by_model = small_student(**names), small_student(**names)
    loaded = AutoModelForSequenceClassification.from_pretrained(teacher_dir)
    first = build(by_folder, tmp_path, str(teacher_dir), losses=ALL_LOSSES)
    first.train()
    second = build(by_model, tmp_path, loaded, losses=ALL_LOSSES)
    second.train()
    assert same(weights(by_folder), weights(by_model))
    assert logged(first, "loss_kl") == logged(second, "loss_kl")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="has no config.json"):
        build(small_student(), tmp_path, str(tmp_path))


def test_a_folder_whose_model_has_no_trained_head_is_refused(tmp_path, tokenizer):
    tiny_model(layers=3).base_model.save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(TeacherError, match="--finetune-teacher"):
        build(small_student(), tmp_path, str(tmp_path / "bare"))
