"""Tasks: found by name or by a checkpoint's architecture, and scored against hand-computed values."""

import numpy as np
import pytest
import transformers

from hfcompress import registry
from hfcompress.errors import ModelError, RequestError
from hfcompress.tasks import (
    TASKS,
    are_default_labels,
    find_task,
    task_of_class,
    task_of_config,
    trained_labels,
)
from tests.tiny import FAMILIES, tiny_config, tiny_model

CLASSIFICATION = TASKS["text-classification"]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_row_names_things_that_exist(task):
    assert TASKS[task.name] is task
    assert hasattr(transformers, task.auto_model)
    assert task.ort_model.startswith("ORTModel")
    assert task.main_metric
    assert task.columns
    assert task.processor in ("tokenizer", "image_processor")
    assert registry.find("loss", task.default_loss)


def test_a_task_is_found_by_name_and_a_mistyped_one_is_refused():
    assert find_task("text-classification") is CLASSIFICATION
    with pytest.raises(RequestError, match=r"^task: there is no task 'text-clasification'\. Did you mean 'text-class"):
        find_task("text-clasification")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_classifier_is_known_by_its_class(family):
    assert task_of_class(type(tiny_model(family)).__name__) is CLASSIFICATION


@pytest.mark.parametrize(
    ("architectures", "known"),
    [
        (["BertForSequenceClassification"], True),
        (["BertModel"], True),
        (["BertForMaskedLM"], True),
        (["BertForPreTraining"], True),
        (["BertForMaskedLM", "BertForSequenceClassification"], True),
        ([], True),
        (None, True),
        (["BertForMultipleChoice"], False),
        (["BertForMaskedLM", "BertForMultipleChoice"], False),
    ],
)
def test_the_architecture_says_the_task(architectures, known):
    config = tiny_config(architectures=architectures)
    if known:
        assert task_of_config(config, "folder") is CLASSIFICATION
        return
    says = r"^folder: is a BertForMultipleChoice, a task that hfcompress does not know\. Pass --task; allowed: "
    with pytest.raises(ModelError, match=says):
        task_of_config(config, "folder")


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("BertForTokenClassification", "token-classification"),
        ("RobertaForQuestionAnswering", "question-answering"),
        ("GPT2LMHeadModel", "text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("ViTForImageClassification", "image-classification"),
    ],
)
def test_every_head_has_its_task(architecture, name):
    assert task_of_config(tiny_config(architectures=[architecture]), "folder") is TASKS[name]
    assert task_of_config(tiny_config(architectures=["BertForMaskedLM", architecture]), "folder") is TASKS[name]


@pytest.mark.parametrize(
    ("architectures", "labels"),
    [
        (["BertForSequenceClassification"], ("no", "yes")),
        (["BertForMaskedLM"], None),
        (["BertModel"], None),
        ([], None),
        (None, None),
    ],
)
def test_only_a_trained_head_has_labels(architectures, labels):
    config = tiny_config(architectures=architectures, id2label={1: "yes", 0: "no"})
    assert trained_labels(config, CLASSIFICATION) == labels


@pytest.mark.parametrize(
    ("names", "default"),
    [
        (("LABEL_0", "LABEL_1"), True),
        (("LABEL_0",), True),
        (("LABEL_1", "LABEL_0"), False),
        (("LABEL_0", "positive"), False),
        (("label_0", "label_1"), False),
    ],
)
def test_label_names_that_name_nothing_are_known(names, default):
    assert are_default_labels(names) is default


def test_transformers_own_names_are_the_default_ones():
    assert are_default_labels(trained_labels(tiny_config(architectures=["XForSequenceClassification"]), CLASSIFICATION))


def test_accuracy_and_macro_f1_are_those_computed_by_hand():
    logits = np.array([[2.0, 1, 0], [0, 1, 2], [0, 3, 1], [5, 1, 1]])  # predicted 0, 2, 1, 0
    labels = np.array([0, 2, 2, 1])
    # class 0: precision 1/2, recall 1; class 1: 0, 0; class 2: precision 1, recall 1/2: F1 2/3, 0, 2/3
    assert CLASSIFICATION.metrics(logits, labels) == pytest.approx({"accuracy": 0.5, "f1_macro": 4 / 9})


@pytest.mark.parametrize(("logits", "accuracy"), [([[1, 0], [0, 1]], 1.0), ([[0, 1], [1, 0]], 0.0)])
def test_all_right_is_one_and_all_wrong_is_zero(logits, accuracy):
    found = CLASSIFICATION.metrics(np.array(logits), np.array([0, 1]))
    assert found == {"accuracy": accuracy, "f1_macro": accuracy}
    assert all(type(value) is float for value in found.values())
