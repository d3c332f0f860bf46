"""Cached answers are the teacher's in every task, and with a teacher that reads tokens of its own."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from hfcompress.data import encode
from hfcompress.errors import TeacherError
from hfcompress.tasks import find_task
from hfcompress.training.cache_building import Job, build, cached
from hfcompress.training.cache_identity import CacheIdentity
from hfcompress.training.cache_plan import CacheSettings
from hfcompress.training.cached_teacher import CachedTeacher
from hfcompress.training.collator import PairedCollator
from hfcompress.training.signals import Signals
from hfcompress.training.teacher_checks import check_teacher
from tests.tiny import sentences, tiny_head, tiny_model, tiny_tokenizer
from tests.training.caches import objective_of
from tests.training.runs import build as trainer_of
from tests.training.runs import distance, learned

TOKENIZER = tiny_tokenizer()
TEXTS = [text for text, _ in sentences(20)]
TAGS = {"id2label": {0: "O", 1: "GOOD", 2: "BAD"}, "label2id": {"O": 0, "GOOD": 1, "BAD": 2}, "num_labels": 3}
SWAPPED = {"id2label": {0: "BAD", 1: "GOOD", 2: "O"}, "label2id": {"BAD": 0, "GOOD": 1, "O": 2}, "num_labels": 3}


def tagged():
    """Texts whose first piece of each word is compared; special tokens are not."""
    encoded = TOKENIZER(TEXTS)
    keep = [[0, *[1] * (len(ids) - 2), 0] for ids in encoded["input_ids"]]
    labels = [[-100, *[place % 3 for place in range(len(ids) - 2)], -100] for ids in encoded["input_ids"]]
    return Dataset.from_dict({**encoded, "row_mask": keep, "labels": labels})


def spans():
    encoded = TOKENIZER(TEXTS)
    ends = [len(ids) - 2 for ids in encoded["input_ids"]]
    return Dataset.from_dict({**encoded, "start_positions": [1] * len(ends), "end_positions": ends})


def written(name):
    """Rows as the task encodes them."""
    columns = {"text": TEXTS} | ({"labels": TEXTS[::-1]} if name == "text2text-generation" else {})
    return find_task(name).encode(Dataset.from_dict(columns), TOKENIZER, 64)


CASES = {
    "token-classification": ("bert", "ForTokenClassification", tagged, TAGS, SWAPPED),
    "question-answering": ("bert", "ForQuestionAnswering", spans, {}, {}),
    "fill-mask": ("bert", "ForMaskedLM", lambda: written("fill-mask"), {}, {}),
    "text-generation": ("gpt2", "ForCausalLM", lambda: written("text-generation"), {}, {}),
    "text2text-generation": ("bart", "ForSeq2SeqLM", lambda: written("text2text-generation"), {}, {}),
}
LARGE = ["fill-mask", "text-generation", "text2text-generation"]
PLACES = [11, 3, 17, 0, 8]


def job_for(name, losses, **settings):
    family, head, rows, ours, theirs = CASES[name]
    teacher, student = tiny_head(family, head, 2, **ours), tiny_head(family, head, 1, seed=1, **theirs)
    task = find_task(name)
    return Job(
        check_teacher(teacher, student, TOKENIZER, TOKENIZER, task),
        rows(),
        PairedCollator(task, TOKENIZER),
        objective_of(teacher, student, losses),
        CacheIdentity("model"),
        CacheSettings(batch_size=6, **settings),
    ), student


def both(job, student, folder):
    """Return the teacher's own answer to a batch, the cached one, and the batch."""
    found = cached(job, folder, student.config)
    batch = job.collate([found.train_dataset[place] for place in PLACES])
    job.teacher.prepare(job.objective.teacher_needs, deferred=False)
    return job.teacher.ask(batch), found.ask(batch), batch


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_teachers(name, tmp_path):
    job, student = job_for(name, {"kl": 1})
    online, offline, _ = both(job, student, tmp_path / "cache")
    logits = online.rows.part(slice(None)).logits
    assert offline.rows.values.shape == logits.shape
    assert torch.allclose(offline.rows.values, logits, rtol=2**-10, atol=1e-5)
    assert not torch.allclose(offline.rows.values.flip(0), logits, rtol=2**-10, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if "2text" not in name])
def test_hidden_states_are_the_teachers(name, tmp_path):
    job, student = job_for(name, {"kl": 1, "hidden_mse": 1, "embedding_mse": 1})
    online, offline, _ = both(job, student, tmp_path / "cache")
    for layer in (0, 2):
        assert torch.allclose(offline.signals.hidden_states[layer], online.signals.hidden_states[layer], atol=3e-3)
    assert torch.allclose(offline.signals.embeddings, online.signals.embeddings, atol=3e-3)


@pytest.mark.parametrize("name", LARGE)
def test_the_likeliest_words_and_the_rest_give_the_divergence(name, tmp_path):
    job, student = job_for(name, {"kl": {"temperature": 2}}, top_k=63)  # of 64
    online, offline, batch = both(job, student, tmp_path / "cache")
    kl, everything = job.objective.terms["kl"], slice(None)
    logits = online.rows.part(everything).logits
    ours = Signals(logits=torch.randn(logits.shape, generator=torch.Generator().manual_seed(3)))
    exact = kl(*online.rows.beside(ours, everything))
    assert len(exact) == int(job.teacher.task.count_rows(batch)) > len(PLACES)
    kept = kl(*offline.rows.beside(ours, everything))
    assert torch.allclose(kept, exact, rtol=1e-3, atol=1e-4)
    part = offline.rows.beside(replace(ours, logits=ours.logits[2:4]), slice(2, 4))
    assert torch.allclose(kl(*part), kept[2:4])


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_students_learn_the_same(name, accumulated, tmp_path):
    losses = {"kl": {"weight": 0.7, "temperature": 2}, "task": 0.3}
    options = {"losses": losses, "optim": "sgd", "learning_rate": 0.1, "gradient_accumulation_steps": accumulated}
    options["per_device_train_batch_size"] = 4 // accumulated
    settings = {"top_k": 63} if name in LARGE else {}
    runs = []
    for source in ("online", "offline"):
        job, student = job_for(name, losses, **settings)
        student.config.update({key: 0.0 for key in vars(student.config) if key.endswith(("dropout", "_pdrop"))})
        for module in student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.0
        teacher, data = job.teacher, job.rows
        if source == "offline":
            teacher = cached(job, tmp_path / "cache", student.config)
            data = teacher.train_dataset
        given = {"data_collator": job.collate}
        run = trainer_of(student, tmp_path / source, teacher, data=data, given=given, **options)
        start = learned(run)
        run.train()
        assert distance(learned(run), start) > 1e-3
        runs.append(learned(run))
    assert distance(*runs) < 3e-5


def test_embeddings_of_a_model_without_logits(tmp_path):
    task = find_task("sentence-similarity")
    teacher, student = tiny_head("bert", "", 2), tiny_head("bert", "", 1, seed=1)
    rows = Dataset.from_dict(dict(TOKENIZER(TEXTS)))
    objective = objective_of(teacher, student, {"embedding_cosine": 1})
    checked = check_teacher(teacher, student, TOKENIZER, TOKENIZER, task)
    job = Job(checked, rows, PairedCollator(task, TOKENIZER), objective, CacheIdentity("model"))
    online, offline, _ = both(job, student, tmp_path / "cache")
    assert torch.allclose(offline.signals.embeddings, online.signals.embeddings, atol=3e-3)
    assert not (tmp_path / "cache" / "logits.npy").exists()


def test_images(tmp_path):
    teacher, student = tiny_head("vit", "ForImageClassification", 2), tiny_head("vit", "ForImageClassification", 1)
    pixels = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rows = Dataset.from_dict({"pixel_values": pixels.tolist(), "labels": [0, 1] * 10})
    objective = objective_of(teacher, student, {"kl": 1, "hidden_mse": 1, "embedding_mse": 1})
    checked = check_teacher(teacher, student, task=find_task("image-classification"))

    def collate(examples):
        columns = {name: torch.tensor([example[name] for example in examples]) for name in examples[0]}
        return {name: value.float() if name == "pixel_values" else value for name, value in columns.items()}

    job = Job(checked, rows, collate, objective, CacheIdentity("model"), CacheSettings(batch_size=5))
    online, offline, _ = both(job, student, tmp_path / "cache")
    assert torch.allclose(offline.rows.values, online.rows.values, rtol=2**-10, atol=1e-5)
    assert torch.allclose(offline.signals.hidden_states[2], online.signals.hidden_states[2], atol=3e-3)
    assert torch.allclose(offline.signals.embeddings, online.signals.embeddings, atol=3e-3)


def foreign(losses):
    """A teacher of text classification whose tokens are others than the student's."""
    theirs = tiny_tokenizer(["one", "more"])
    task = find_task("text-classification")
    texts = Dataset.from_dict({"text": TEXTS, "labels": [0, 1] * 10})
    rows = encode(texts, task, TOKENIZER, 64, theirs)
    teacher, student = tiny_model(layers=3), tiny_model(seed=1)
    checked = check_teacher(teacher, student, theirs, TOKENIZER, task)
    assert not checked.shares_tokens
    collate = PairedCollator(task, TOKENIZER, theirs)
    return Job(checked, rows, collate, objective_of(teacher, student, losses), CacheIdentity("model")), student


def test_a_teacher_that_reads_tokens_of_its_own(tmp_path):
    job, student = foreign({"kl": 1, "embedding_mse": 1})
    online, offline, batch = both(job, student, tmp_path / "cache")
    assert torch.allclose(offline.rows.values, online.rows.values, rtol=2**-10, atol=1e-5)
    assert not torch.equal(batch["teacher_input_ids"], batch["input_ids"])


def test_students_need_not_carry_the_teachers_tokens(tmp_path):
    job, student = foreign({"kl": 1})
    located = cached(job, tmp_path / "cache", student.config).train_dataset
    lean = located.remove_columns([name for name in located.column_names if name.startswith("teacher_")])
    found = CachedTeacher(tmp_path / "cache", student.config, lean)
    found.check(job.objective, job.teacher.task)
    assert found.train_dataset["cache_row"] == list(range(20))


def test_losses_on_tokens_want_the_students_own_tokens(tmp_path):
    losses = {"kl": 1, "hidden_mse": 1}
    job, student = foreign(losses)
    with pytest.raises(
        TeacherError, match="read other tokens than the student, and hidden_mse compares token by token"
    ):
        cached(job, tmp_path / "cache", student.config)
    same, student = job_for("token-classification", {"kl": 1})
    build(same, tmp_path / "tags")
    lean = same.rows.remove_columns("input_ids").add_column("cache_row", list(range(20)))
    with pytest.raises(TeacherError, match="and token-classification compares token by token"):
        CachedTeacher(tmp_path / "tags", student.config, lean).check(same.objective, same.teacher.task)
