"""What plans count, and what a record says of models, files and machines."""

import hashlib
import json

import pytest

from hfcompress.errors import OutputExistsError
from hfcompress.pipeline import provenance
from hfcompress.pipeline.plan import training_length


@pytest.mark.parametrize(
    ("rows", "training", "steps"),
    [
        (32, {}, 3),  # three epochs of one batch of 32
        (33, {}, 6),
        (100, {"per_device_train_batch_size": 10, "num_train_epochs": 1}, 10),
        (100, {"per_device_train_batch_size": 10, "num_train_epochs": 0.25}, 3),
        (100, {"per_device_train_batch_size": 10, "num_train_epochs": 2, "gradient_accumulation_steps": 4}, 6),
        (100, {"max_steps": 7, "num_train_epochs": 50}, 7),
        (100, {"max_steps": -1, "num_train_epochs": 0}, 0),
    ],
)
def test_optimizer_steps(rows, training, steps):
    assert training_length(training, rows).steps == steps


def test_a_folder_is_known_by_its_name_and_the_digest_of_its_weights(teacher_dir, monkeypatch):
    digest = hashlib.sha256((teacher_dir / "model.safetensors").read_bytes()).hexdigest()
    expected = {"model": teacher_dir.name, "sha256": {"model.safetensors": digest}}
    assert provenance.source_record(str(teacher_dir)) == expected
    monkeypatch.chdir(teacher_dir)
    assert provenance.source_record(".") == expected


def test_settings_lose_their_paths_and_nothing_else(teacher_dir):
    settings = {
        "student": str(teacher_dir),
        "teacher": "first",
        "deepspeed": "/home/me/zero.json",
        "losses": '{"kl": {"temperature": 4}, "task": 0.3}' * 20,
        "learning_rate": 1e-4,
        "optim": "sgd",
    }
    shown = provenance.without_paths(settings, ["first"])
    assert shown.pop("student")["model"] == teacher_dir.name
    assert shown.pop("deepspeed") == "zero.json"
    assert shown == {name: settings[name] for name in shown}
    assert provenance.without_paths({"student": "cut:layers=3"}) == {"student": "cut:layers=3"}


def test_a_step_of_a_folders_name_is_the_step(teacher_dir, monkeypatch):
    monkeypatch.chdir(teacher_dir.parent)
    name = teacher_dir.name
    assert provenance.without_paths({"teacher": name}, [name]) == {"teacher": name}
    assert provenance.without_paths({"teacher": name})["teacher"]["model"] == name


def test_fingerprints_differ_when_a_part_does():
    parts = [{"a": 1}, {"a": 2}, {"b": 1}, [{"a": 1}], "x"]
    found = {provenance.fingerprint(part) for part in parts}
    assert len(found) == len(parts)
    assert provenance.fingerprint({"a": 1, "b": 2}) == provenance.fingerprint({"b": 2, "a": 1})
    assert all(len(text) == 12 for text in found)


def test_lists_of_numbers_stand_in_one_line_and_all_else_as_json_has_it(tmp_path):
    values = {"curve": [1.0, 0.5, 1e-05], "text": "[\n1,  2\n]", "both": [1, "a"], "none": [], "inside": [[1, 2], [3]]}
    provenance.write_json(tmp_path / "found.json", values)
    text = (tmp_path / "found.json").read_text()
    assert json.loads(text) == values
    assert '"curve": [1.0, 0.5, 1e-05],' in text


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "record.json"
    provenance.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        provenance.write_json(path, {("a", "tuple"): 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_only_an_earlier_result_or_an_empty_folder_is_replaced(tmp_path):
    ours, empty, theirs = (tmp_path / name for name in ("ours", "empty", "theirs"))
    for folder in (ours, empty, theirs):
        folder.mkdir()
    (ours / "compression.json").write_text("{}")
    (theirs / "notes").write_text("")
    for folder in (ours, empty, tmp_path / "new"):
        provenance.refuse_output(folder, overwrite=True)
    provenance.refuse_output(tmp_path / "new", overwrite=False)
    for folder, overwrite in ((theirs, True), (theirs / "notes", True), (ours, False), (empty, False)):
        with pytest.raises(OutputExistsError):
            provenance.refuse_output(folder, overwrite)
