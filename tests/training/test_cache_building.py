"""Building a cache: announced, refused, stopped and gone on with, compared, checked when it is opened."""

import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from hfcompress.errors import DiskSpaceError, NonFiniteLossError, TeacherError
from hfcompress.training import cache_plan
from hfcompress.training.cache import CacheFolder
from hfcompress.training.cache_building import Watch, build, cached
from hfcompress.training.cache_identity import CacheIdentity, model_sha256, tokenization_sha256
from hfcompress.training.cache_plan import CacheSettings
from hfcompress.training.cached_teacher import CachedTeacher, is_cache
from tests.tiny import tiny_tokenizer
from tests.training.caches import files, interrupted, job_of, teacher_model
from tests.training.runs import Record, rows, small_student
from tests.training.test_trainer_resume import ROOT

KL = {"kl": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a cache that was built without a stop."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    build(job_of(), folder)
    return files(folder)


def test_the_size_is_said_before_anything_is_written(tmp_path):
    said = []
    watch = Watch(say=lambda line: said.append((line, (tmp_path / "cache").exists())))
    build(job_of(watch=watch), tmp_path / "cache")
    size = sum(len(data) for name, data in files(tmp_path / "cache").items() if name.endswith(".npy"))
    assert said == [(f"The cache of the teacher's answers takes {size / 1e6:,.1f} MB in {tmp_path / 'cache'}.", False)]
    assert CacheFolder(tmp_path / "cache").header.size == size


def test_it_is_refused_when_the_disk_lacks_room(tmp_path, monkeypatch):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 10**6 - 10, 10))
    with pytest.raises(DiskSpaceError, match="this run writes about"):
        build(job_of(), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("after", [1, 5])
def test_a_build_that_was_stopped_goes_on_and_ends_with_the_same_bytes(after, whole, tmp_path):
    folder = tmp_path / "cache"
    interrupted(job_of(), folder, after)
    assert is_cache(folder)
    with pytest.raises(
        TeacherError, match=f"is not finished: {1 - after / 8:.0%} of the teacher's answers are missing"
    ):
        CachedTeacher(folder, small_student().config)
    job = job_of()
    asked = Record(job.teacher.model)
    build(job, folder)
    assert len(asked.calls) == 8 - after
    assert files(folder) == whole


def test_a_build_that_was_killed_goes_on(whole, tmp_path):
    command = [sys.executable, "-m", "tests.training.cache_worker", "killed", str(tmp_path / "cache")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    build(job_of(), tmp_path / "cache")
    assert files(tmp_path / "cache") == whole


def test_two_processes_share_the_work_and_write_the_same_bytes(whole, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command += ["tests.training.cache_worker", "together", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert files(tmp_path / "cache") == whole
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [4, 4]


def test_a_finished_cache_is_used_without_asking_the_teacher(tmp_path):
    build(job_of(losses=KL), tmp_path / "cache")
    job = job_of(losses=KL, rows=rows())
    asked = Record(job.teacher.model)
    found = cached(job, tmp_path / "cache", small_student().config)
    assert asked.calls == []
    assert found.train_dataset["cache_row"] == list(range(62))


OTHERS = {
    "another model": {"teacher": teacher_model(seed=5)},
    "other data": {"identity": lambda own: replace(own, data="other")},
    "another tokenization": {"identity": lambda own: replace(own, tokenization="other")},
    "another model, another tokenization": {"identity": lambda own: replace(own, model="other", tokenization="other")},
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("part", OTHERS)
def test_exactly_what_differs_is_named(part, finished, tmp_path):
    first = job_of(losses=KL)
    build(first, tmp_path / "cache") if finished else interrupted(first, tmp_path / "cache", 2)
    change = dict(OTHERS[part])
    if "identity" in change:
        change["identity"] = change["identity"](first.identity)
    with pytest.raises(TeacherError) as error:
        build(job_of(losses=KL, **change), tmp_path / "cache")
    folder = tmp_path / "cache"
    assert str(error.value) == (
        f"{folder}: was built from {part}. Delete {folder} and build it again, or name another folder."
    )


def test_data_without_a_hash_of_its_own_is_compared_by_its_examples(tmp_path):
    identity = CacheIdentity("model", None, "tokens")
    build(job_of(losses=KL, identity=identity), tmp_path / "cache")
    with pytest.raises(TeacherError, match="was built from other data"):
        build(job_of(losses=KL, identity=identity, rows=rows(60)), tmp_path / "cache")
    with pytest.raises(TeacherError, match="was built from another tokenization") as error:
        build(job_of(losses=KL, identity=replace(identity, tokenization="x"), rows=rows(60)), tmp_path / "cache")
    assert "other data" not in str(error.value)


def test_losses_that_read_what_was_not_cached_are_named(tmp_path):
    build(job_of(losses=KL), tmp_path / "cache")
    losses = {"kl": 1, "hidden_mse": 1, "embedding_cosine": 1}
    with pytest.raises(TeacherError) as error:
        build(job_of(losses=losses), tmp_path / "cache")
    hidden, embedding = error.value.faults
    assert hidden.problem == "has other contents: hidden_mse reads hidden states 0, 2, 4 that were not cached."
    assert embedding.problem == "has other contents: embedding_cosine reads embeddings, which were not cached."


def test_losses_on_attention_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TeacherError, match="attention_mse, minilm read attention probabilities or queries") as error:
        build(job_of(losses={"kl": 1, "attention_mse": 1, "minilm": 1}), tmp_path / "cache")
    assert "Losses on logits, hidden states and embeddings work from a cache." in str(error.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["logits.npy", "hidden_002.npy", "digests.npy"])
def test_damaged_files_are_found_when_it_is_opened(name, whole, tmp_path):
    for file, data in whole.items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / name).write_bytes(whole[name][:-1])
    with pytest.raises(TeacherError, match=rf"{name}: has {len(whole[name]) - 1:,} bytes, not {len(whole[name]):,}"):
        CachedTeacher(tmp_path, small_student().config)
    (tmp_path / name).write_bytes(b"\x93NUMPY" + b"x" * (len(whole[name]) - 6))
    with pytest.raises(TeacherError, match=f"{name}: is not the array that cache.json says"):
        CachedTeacher(tmp_path, small_student().config)
    (tmp_path / name).unlink()
    with pytest.raises(TeacherError, match=f"{name}: is missing"):
        CachedTeacher(tmp_path, small_student().config)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', "[]"])
def test_a_header_that_is_none_is_refused(text, tmp_path):
    (tmp_path / "cache.json").write_text(text)
    with pytest.raises(TeacherError, match=r"cache\.json: cannot be read"):
        CachedTeacher(tmp_path, small_student().config)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(TeacherError, match=r"holds other files \(thesis\.txt\)"):
        build(job_of(losses=KL), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert not is_cache(tmp_path)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (float("nan"), NonFiniteLossError, r"logits for example \d+ \(counted from 0\) hold NaN or infinity"),
        (float("-inf"), NonFiniteLossError, "hold NaN or infinity"),
        (70000.0, TeacherError, "reach 70000, beyond half precision"),
    ],
)
def test_answers_that_half_precision_cannot_hold_stop_the_build(value, kind, message, tmp_path):
    job = job_of(losses=KL)
    rare = max(range(62), key=lambda place: len(rows()[place]["input_ids"]))

    def spoil(_module, _inputs, output):
        output[0, 0] = value
        return output

    job.teacher.model.classifier.register_forward_hook(spoil)
    with pytest.raises(kind, match=message) as error:
        build(job, tmp_path / "cache")
    assert f"example {rare} " in str(error.value)  # the longest stands first in the first batch


def test_masked_logits_become_the_lowest_half(tmp_path):
    job = job_of(losses=KL)
    job.teacher.model.classifier.register_forward_hook(lambda *call: call[-1].index_fill(1, torch.tensor(1), -1e30))
    build(job, tmp_path / "cache")
    values = CachedTeacher(tmp_path / "cache", small_student().config).ask({"cache_row": torch.arange(3)}).rows.values
    assert values[:, 1].tolist() == [-65504.0] * 3


def test_a_collator_that_draws_at_random_is_refused(tmp_path):
    pad = job_of().collate

    def collate(examples):
        batch = pad(examples)
        return batch | {"input_ids": torch.where(torch.rand(batch["input_ids"].shape) < 0.5, 4, batch["input_ids"])}

    with pytest.raises(TeacherError, match="draws input_ids at random"):
        build(job_of(losses=KL, collate=collate), tmp_path / "cache")


def test_data_that_holds_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(TeacherError, match="holds nothing that the teacher reads"):
        build(job_of(losses=KL, rows=Dataset.from_dict({"text": ["a"]})), tmp_path / "cache")
    with pytest.raises(TeacherError, match="train_dataset: is empty"):
        build(job_of(losses=KL, rows=rows().select([])), tmp_path / "cache")


def test_the_model_is_known_by_config_and_weights():
    one = teacher_model()
    assert model_sha256(one) == model_sha256(teacher_model())
    with torch.no_grad():
        one.classifier.bias[0] += 1e-6
    assert model_sha256(one) != model_sha256(teacher_model())
    assert model_sha256(teacher_model(layer_norm_eps=1e-5)) != model_sha256(teacher_model())


def test_the_tokenization_is_known_by_vocabulary_and_length_not_by_what_was_called():
    used = tiny_tokenizer()
    used(["a film", "the story is fine"], truncation=True, max_length=5, padding=True)
    assert tokenization_sha256(used) == tokenization_sha256(tiny_tokenizer())
    assert tokenization_sha256(used, 64) == tokenization_sha256(used, 512)  # its own limit is 64
    assert tokenization_sha256(used, 32) != tokenization_sha256(used)
    assert tokenization_sha256(tiny_tokenizer(["more"])) != tokenization_sha256(used)
    assert tokenization_sha256(None) is None


def test_another_number_of_likeliest_classes_is_another_content(tmp_path, monkeypatch):
    wide = {"num_labels": 9}
    job = {"teacher": teacher_model(**wide), "student": small_student(**wide), "losses": KL}
    build(job_of(**job, settings=CacheSettings(8, top_k=3)), tmp_path / "cache")
    with pytest.raises(TeacherError, match="has other contents: the 3 likeliest classes, not 4"):
        build(job_of(**job, settings=CacheSettings(8, top_k=4)), tmp_path / "cache")
    build(job_of(**job), tmp_path / "cache")
    monkeypatch.setattr(cache_plan, "_DENSE", 8)
    build(job_of(**job), tmp_path / "other")
    assert CacheFolder(tmp_path / "other").header.contents.logits == "dense"  # 32 would be all
