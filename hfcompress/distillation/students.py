"""Students: a cut of the teacher, or another model, ready for the teacher's task and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfcompress.modeling.cut import PREFIX, cut, cut_config, parse_cut
from hfcompress.modeling.load import load_config, load_model, load_tokenizer
from hfcompress.tasks import Task, label_names

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def build_student(
    spec: str, teacher: PreTrainedModel, teacher_tokenizer: PreTrainedTokenizerBase, task: Task
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Build a student and its tokenizer.

    Args:
        spec: A cut of the teacher (`cut:layers=3`), or a Hub id, folder or short name.
        teacher: Gives weights to a cut, and number and names of the labels to every student.
        teacher_tokenizer: A cut reads the same tokens.
        task: Decides the class.

    Raises:
        RequestError: The cut cannot be read, or does not fit the teacher.
        ModelError: The model cannot be used.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    if spec.startswith(PREFIX):
        return cut(teacher, parse_cut(spec, teacher.config.num_hidden_layers)), teacher_tokenizer
    return load_model(spec, task, **label_settings(teacher.config)), load_tokenizer(spec)


def student_config(spec: str, teacher: PretrainedConfig) -> PretrainedConfig:
    """Return the config that `build_student` would give, without touching weights."""
    if spec.startswith(PREFIX):
        return cut_config(teacher, parse_cut(spec, teacher.num_hidden_layers))
    return load_config(spec, **label_settings(teacher))


def label_settings(teacher: PretrainedConfig) -> dict[str, object]:
    """Return the config values that give a model another's labels."""
    names = label_names(teacher)
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
