"""What the tests of cached answers share: a job on tiny rows, and a student that learns from a cache."""

from dataclasses import replace

from transformers import DataCollatorWithPadding

from hfcompress.tasks import find_task
from hfcompress.training.cache_building import Job, Watch, build
from hfcompress.training.cache_identity import CacheIdentity, model_sha256, tokenization_sha256
from hfcompress.training.cache_plan import CacheSettings
from hfcompress.training.cached_teacher import CachedTeacher
from hfcompress.training.objective import ModelPair, build_objective, parse_losses
from hfcompress.training.teacher_checks import check_teacher
from tests.tiny import tiny_model
from tests.training import runs

LOSSES = {"kl": 0.5, "logit_mse": 0.1, "hidden_mse": 0.2, "hidden_cosine": 0.1, "embedding_mse": 0.1, "task": 0.5}


def teacher_model(**options):
    """A teacher of four layers, wider than the students."""
    return tiny_model(**{"layers": 4, "width": 48} | options)


def objective_of(teacher, student, losses=LOSSES):
    return build_objective(parse_losses(losses), ModelPair(student.config, teacher.config))


def job_of(
    teacher=None, student=None, rows=None, losses=LOSSES, *, collate=None, task="text-classification", **options
):
    """Return a job; `settings`, `watch` and what else it takes can be given."""
    teacher = teacher_model() if teacher is None else teacher
    student = runs.small_student() if student is None else student
    identity = CacheIdentity(model_sha256(teacher), "data", tokenization_sha256(runs.TOKENIZER, 64))
    defaults = {"identity": identity, "settings": CacheSettings(batch_size=8)} | options
    return Job(
        check_teacher(teacher, student, task=find_task(task)),
        runs.rows() if rows is None else rows,
        collate or DataCollatorWithPadding(runs.TOKENIZER),
        objective_of(teacher, student, losses),
        **defaults,
    )


def files(folder):
    """Return the contents of all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interrupted(job, folder, after):
    """Build until so many batches are done, as if Ctrl-C was pressed then."""

    def stop(done, _total):
        if done == after:
            raise KeyboardInterrupt

    try:
        build(replace(job, watch=Watch(report=stop)), folder)
    except KeyboardInterrupt:
        return
    raise AssertionError("it was not stopped")


def train_from(folder, student, output, data=None, **options):
    """Return a trainer whose teacher is a cache."""
    found = CachedTeacher(folder, student.config, runs.rows() if data is None else data)
    return runs.build(student, output, found, data=found.train_dataset, **options)
