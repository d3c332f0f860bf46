"""Students: a cut of the teacher, a preset, or another model, ready for the teacher's task and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from hfcompress import labels
from hfcompress.errors import Fault, ModelError, NetworkError, RequestError, unknown
from hfcompress.modeling.building import build_model
from hfcompress.modeling.cut import cut, cut_config
from hfcompress.modeling.initialise import initialise_from_teacher
from hfcompress.modeling.load import load_config, load_model, load_tokenizer
from hfcompress.modeling.parse_cut import PREFIX, parse_cut_of
from hfcompress.modeling.presets import PRESETS, fit_to_teacher, is_preset, preset_config, reads_images
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

StudentInit = Literal["pretrained", "random", "teacher"]


def build_student(
    spec: str,
    teacher: PreTrainedModel,
    teacher_tokenizer: PreTrainedTokenizerBase,
    task: Task,
    init: StudentInit = "pretrained",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Build a student and its tokenizer (or image processor).

    Args:
        spec: A cut of the teacher (`cut:layers=3`), a preset, or a Hub id, folder or short name.
        teacher: Gives weights to a cut, and number and names of the labels to every student.
        teacher_tokenizer: A cut reads the same tokens; so does every student that is not pretrained.
        task: Decides the class.
        init: Where the weights of a student that is no cut come from: `pretrained`, its own checkpoint and tokenizer;
            `random`, none; `teacher`, the teacher, as far as its sizes allow (`initialise_from_teacher`).

    Raises:
        RequestError: The cut cannot be read, or does not fit the teacher or `init`.
        ModelError: The model cannot be used.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    import transformers

    config = student_config(spec, teacher.config, init)
    if spec.startswith(PREFIX):
        return cut(teacher, *parse_cut_of(spec, teacher.config)), teacher_tokenizer
    if init == "pretrained":
        student = load_model(spec, task, **label_settings(teacher.config))
        return student, teacher_tokenizer if reads_images(config) else load_tokenizer(spec)
    student = build_model(getattr(transformers, task.auto_model), config).eval()
    if init == "teacher":
        initialise_from_teacher(student, teacher)
    return student, teacher_tokenizer


def student_config(spec: str, teacher: PretrainedConfig, init: StudentInit = "pretrained") -> PretrainedConfig:
    """Return the config that `build_student` would give, without touching weights.

    Raises:
        RequestError: The cut cannot be read, or does not fit the teacher or `init`.
        ModelError: The model cannot be used.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    if init not in get_args(StudentInit):
        raise RequestError(unknown("initialisation", init, get_args(StudentInit), "student_init"))
    if spec.startswith(PREFIX):
        if init != "pretrained":
            fix = f"Leave student_init out, or choose a preset ({', '.join(sorted(PRESETS))}) or a folder."
            raise RequestError(Fault("student_init", f"{spec} always starts with its teacher's weights.", fix))
        return cut_config(teacher, *parse_cut_of(spec, teacher))
    config = _named_config(spec, teacher, init)
    if reads_images(config) != reads_images(teacher):
        kinds = {True: "images", False: "tokens"}
        problem = f"takes {kinds[reads_images(config)]}, the teacher takes {kinds[reads_images(teacher)]}."
        raise ModelError(Fault(spec, problem, "Choose a student of the teacher's kind."))
    if init != "pretrained":
        fit_to_teacher(config, teacher)
    return config


def _named_config(spec: str, teacher: PretrainedConfig, init: StudentInit) -> PretrainedConfig:
    """Return the config of a student that is no cut, with the teacher's labels."""
    settings = label_settings(teacher)
    if init != "pretrained" and is_preset(spec):
        config = preset_config(spec)
        config.update(settings)
        return config
    try:
        return load_config(spec, **settings)
    except NetworkError as error:
        if not is_preset(spec):
            raise
        help_ = "Or build it without its pretrained weights: --student-init teacher."
        raise NetworkError(f"{error} {help_}") from error


def label_settings(teacher: PretrainedConfig) -> dict[str, Any]:
    """Return the config values that give a student the teacher's labels; what the teacher leaves open stays so."""
    return {name: value for name, value in labels.label_settings(teacher).items() if value is not None}
