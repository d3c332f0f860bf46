"""A student learns from cached answers what it learns from the teacher itself."""

import pytest
import torch
from datasets import Dataset, concatenate_datasets

from hfcompress.errors import DataError, TeacherError
from hfcompress.training.cache_building import build, cached
from hfcompress.training.cached_teacher import CachedTeacher
from tests.tiny import tiny_model
from tests.training.caches import LOSSES, job_of, objective_of, teacher_model, train_from
from tests.training.runs import At, distance, learned, logged, rows, same, small_student
from tests.training.runs import build as trainer_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache of the answers to all rows that every loss that can be cached reads."""
    folder = tmp_path_factory.mktemp("cache") / "answers"
    build(job_of(), folder)
    return folder


def coarse(model, step=1 / 8):
    """Round a classifier's logits so that half precision holds them exactly."""
    model.classifier.register_forward_hook(lambda *call: (call[-1] / step).round() * step)
    return model


@pytest.mark.parametrize("accumulated", [1, 4])
def test_losses_and_weights_are_the_teachers_within_half_precision(accumulated, folder, tmp_path):
    options = {"losses": LOSSES, "gradient_accumulation_steps": accumulated, "optim": "sgd", "learning_rate": 0.05}
    options["per_device_train_batch_size"] = 16 // accumulated
    online = trainer_of(small_student(), tmp_path / "online", teacher_model(), **options)
    start = learned(online)
    online.train()
    offline = train_from(folder, small_student(), tmp_path / "offline", **options)
    offline.train()
    assert distance(learned(online), start) > 5e-3
    assert distance(learned(online), learned(offline)) < 2e-5
    for name in ("loss", "loss_kl", "loss_hidden_mse", "loss_embedding_mse"):
        assert logged(offline, name) == pytest.approx(logged(online, name), abs=2e-4)


def test_they_are_exactly_the_teachers_when_half_precision_holds_its_logits(tmp_path):
    losses = {"kl": {"weight": 0.5, "temperature": {"start": 4, "end": 1}}, "logit_mse": 0.2, "task": 0.5}
    teacher = coarse(teacher_model())
    online = trainer_of(small_student(), tmp_path / "online", teacher, losses=losses)
    online.train()
    build(job_of(teacher, losses=losses), tmp_path / "cache")
    offline = train_from(tmp_path / "cache", small_student(), tmp_path / "offline", losses=losses)
    offline.train()
    assert same(learned(online), learned(offline))
    assert logged(online, "loss") == logged(offline, "loss")


def test_logits_are_the_teachers_to_half_precision(folder):
    batch = rows()[:8]
    found = CachedTeacher(folder, small_student().config, rows())
    logits = found.ask({"cache_row": torch.arange(8)}).rows.values
    teacher = teacher_model()
    inputs = [torch.tensor([batch[name][i] for name in ("input_ids", "attention_mask")]) for i in range(8)]
    with torch.no_grad():
        exact = torch.cat([teacher(ids[None], attention_mask=mask[None]).logits for ids, mask in inputs])
    assert logits.dtype == torch.float32
    assert ((logits - exact).abs() <= exact.abs() * 2**-11 + 1e-6).all()


@pytest.mark.parametrize("stop", [3, 6])
def test_a_run_from_a_cache_resumes_exactly(stop, folder, tmp_path):
    options = {"losses": LOSSES, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2}
    whole = train_from(folder, small_student(), tmp_path / "whole", **options)
    whole.train()
    halt = At(stop, lambda control: setattr(control, "should_training_stop", True))
    train_from(folder, small_student(), tmp_path / "cut", callbacks=[halt], **options).train()
    torch.manual_seed(99)
    resumed = train_from(folder, small_student(), tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8
    assert same(learned(resumed), learned(whole))


def test_examples_are_found_in_any_order_and_number(folder):
    order = [40, 3, 3, 61, 0]
    some = rows().select(order)
    found = CachedTeacher(folder, small_student().config, some)
    assert found.train_dataset["cache_row"] == order
    whole = CachedTeacher(folder, small_student().config, rows())
    assert whole.train_dataset["cache_row"] == list(range(62))
    assert CachedTeacher(folder, small_student().config, whole.train_dataset.select(order)).same_tokens


def test_examples_that_the_teacher_did_not_see_are_refused(folder):
    ids = rows()["input_ids"]
    changed = rows().remove_columns("input_ids").add_column("input_ids", [[7, *ids[0][1:]], *ids[1:]])
    with pytest.raises(TeacherError, match="1 of its 62 examples are not those that the teacher answered"):
        CachedTeacher(folder, small_student().config, changed)


def test_other_labels_in_the_data_change_nothing(folder):
    flipped = rows().map(lambda row: {"labels": 1 - row["labels"]})
    assert CachedTeacher(folder, small_student().config, flipped).same_tokens


def test_columns_that_cannot_be_are_refused(folder):
    config = small_student().config
    with pytest.raises(TeacherError, match="names answers from 0 to 62; there are 62"):
        CachedTeacher(folder, config, rows().select(range(2)).add_column("cache_row", [0, 62]))
    with pytest.raises(TeacherError, match="lacks attention_mask, input_ids, token_type_ids"):
        CachedTeacher(folder, config, Dataset.from_dict({"labels": [0, 1]}))
    with pytest.raises(TeacherError, match=r"need a datasets\.Dataset, got a list"):
        CachedTeacher(folder, config, [1, 2])
    with pytest.raises(DataError, match="cache_row: is missing from the batch"):
        CachedTeacher(folder, config).ask({"input_ids": torch.zeros(1, 1)})


def test_tokens_in_batch_order_for_hidden_states(folder):
    found = CachedTeacher(folder, small_student().config, rows())
    lengths = [len(ids) for ids in rows()["input_ids"]]
    one, other = (found.ask({"cache_row": torch.tensor(places)}).signals.hidden_states for places in ([5, 9], [9, 5]))
    assert len(one) == 5
    assert one[2].shape == (lengths[5] + lengths[9], 48)
    assert torch.equal(one[2][: lengths[5]], other[2][lengths[9] :])
    assert torch.equal(one[2][lengths[5] :], other[2][: lengths[9]])


def test_layers_that_no_loss_reads_are_not_kept(folder):
    found = CachedTeacher(folder, small_student().config)
    assert found.contents.layers == (0, 2, 4)  # two layers of the student on four of the teacher
    assert not (folder / "hidden_001.npy").exists()
    deeper = small_student(**{"num_hidden_layers": 4})
    found = CachedTeacher(folder, deeper.config, rows())
    with pytest.raises(TeacherError, match="hidden_mse reads hidden states 1, 3 that were not cached"):
        found.check(objective_of(teacher_model(), deeper), job_of().teacher.task)


NAMES = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}, "num_labels": 3}
OTHER = {"id2label": {0: "c", 1: "a", 2: "b"}, "label2id": {"c": 0, "a": 1, "b": 2}, "num_labels": 3}


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several"])
def test_labels_are_brought_into_the_students_order(several, tmp_path):
    kind = {"problem_type": "multi_label_classification"} if several else {}
    teacher, student = teacher_model(**NAMES, **kind), tiny_model(seed=1, **OTHER, **kind)
    data = rows(8)
    if several:
        data = data.remove_columns("labels").add_column("labels", [[1.0, 0.0, 1.0]] * 8)
    job = job_of(teacher, student, data, {"kl": 1})
    found = cached(job, tmp_path / "cache", student.config)
    batch = job.collate([found.train_dataset[place] for place in range(8)])
    exact, kept = job.teacher.ask(batch).rows.values, found.ask(batch).rows.values
    assert kept.shape == ((24, 2) if several else (8, 3))
    assert (exact - kept).abs().max() < 4e-4
    assert (exact - kept.flip(0)).abs().max() > 2e-3


def test_other_labels_than_the_students_are_refused(tmp_path):
    build(job_of(teacher_model(**NAMES), tiny_model(**NAMES), rows(8), {"kl": 1}), tmp_path / "cache")
    others = tiny_model(num_labels=3, id2label={0: "x", 1: "y", 2: "z"})
    with pytest.raises(TeacherError, match=r"its labels \(a, b, c\) are not the student's \(x, y, z\)"):
        CachedTeacher(tmp_path / "cache", others.config)


def test_rows_without_labels_are_rows_like_others(tmp_path):
    unknown = rows(8).map(lambda row: {"labels": -100})
    both = concatenate_datasets([rows(8), unknown])
    build(job_of(rows=both, losses={"kl": 1}), tmp_path / "cache")
    found = CachedTeacher(tmp_path / "cache", small_student().config, both)
    values = found.ask({"cache_row": torch.arange(16)}).rows.values
    assert torch.allclose(values[:8], values[8:], atol=5e-4)
