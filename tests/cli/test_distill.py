"""`hfcompress distill`: a complete folder that loads anywhere and tells where it came from, or nothing at all."""

import getpass
import hashlib
import json
import re
import socket
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hfcompress.training.callbacks import InterruptCallback
from tests.brisk import QUICK
from tests.cli.support import distill_words, hfcompress, tree
from tests.tiny import sentences


@pytest.fixture(scope="module")
def record(distilled):
    return json.loads((distilled[1] / "compression.json").read_text())


def test_the_folder_is_complete_and_nothing_is_left_beside_it(distilled):
    _, folder = distilled
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "compression.json"} <= names
    assert not {name for name in names if name.startswith((".", "checkpoint", "validation", "step"))}
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_its_files_can_be_read_by_whom_the_umask_allows(distilled):
    _, folder = distilled
    usual = folder / "compression.json"
    assert {path.stat().st_mode for path in folder.rglob("*") if path.is_file()} == {usual.stat().st_mode}


def test_plain_transformers_loads_it(distilled):
    _, folder = distilled
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.num_hidden_layers == 2
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert AutoTokenizer.from_pretrained(folder)("fine film")["input_ids"][0] == 2
    classify = pipeline("text-classification", model=str(folder))
    text = "the film is fine"
    with torch.inference_mode():
        logits = model(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits[0]
    (answer,) = classify(text)
    assert answer["label"] == model.config.id2label[int(logits.argmax())]
    assert answer["score"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


def test_the_student_is_the_teachers_layers_trained_further(distilled, teacher_dir):
    student = AutoModelForSequenceClassification.from_pretrained(distilled[1])
    teacher = AutoModelForSequenceClassification.from_pretrained(teacher_dir)
    for ours, theirs in ((0, 1), (1, 3)):
        moved = (
            student.bert.encoder.layer[ours].output.dense.weight
            - teacher.bert.encoder.layer[theirs].output.dense.weight
        )
        assert 0 < moved.abs().max() < 1e-3


def test_stdout_is_one_json_document_with_the_record(distilled, record):
    done, folder = distilled
    assert done.json == record | {"output_dir": str(folder)}


def test_record_of_source_data_seed_versions_and_hardware(record, teacher_dir, csv):
    digest = hashlib.sha256((teacher_dir / "model.safetensors").read_bytes()).hexdigest()
    assert record["source"] == {"model": teacher_dir.name, "sha256": {"model.safetensors": digest}}
    rows = {
        "dataset": csv.name,
        "training_rows": 86,
        "unlabeled_rows": 0,
        "validation_rows": 10,
        "labels": ["negative", "positive"],
        "max_length": None,
        "overlap": 0,
        "held_out": {"seed": 42, "rows": 10},
    }
    statistics = record["data"]["statistics"]
    assert record["data"] == rows | {"fingerprint": record["data"]["fingerprint"], "statistics": statistics}
    assert statistics["training"]["labels"] == {"negative": 43, "positive": 43}
    assert statistics["validation"]["rows"] == 10
    assert re.fullmatch("[0-9a-f]{64}", record["data"]["fingerprint"])
    assert record["seed"] == 42
    assert record["versions"]["torch"] == torch.__version__
    assert {"hfcompress", "python", "transformers", "safetensors"} <= set(record["versions"])
    assert {"processor", "cores", "accelerator", "system"} == set(record["hardware"])


def test_record_of_the_step_and_its_result(record, distilled):
    (step,) = record["steps"]
    assert (step["name"], step["method"], step["before"]) == ("student", "distill", None)
    assert step["config"] == {"student": "cut:layers=2", "num_train_epochs": 1.0, "save_strategy": "no"}
    assert step["seconds"] >= 0
    first, second = record["results"]
    assert (first["name"], second["name"]) == ("original", "student")
    assert step["after"].items() <= second["quality"].items()
    assert second["bytes"] == (distilled[1] / "model.safetensors").stat().st_size
    assert second["parameters"] == 22946  # the teacher's 40034 less two layers of 8544
    assert first["parameters"] == 22946 + 2 * 8544


def test_no_file_tells_of_the_machine(distilled, teacher_dir, csv):
    _, folder = distilled
    names = {socket.gethostname(), getpass.getuser()} - {"root", "user", "localhost"}
    secrets = [str(folder.parent), str(teacher_dir.parent), str(csv.parent), *(name for name in names if len(name) > 4)]
    for path in filter(Path.is_file, folder.rglob("*")):
        assert [secret for secret in secrets if secret.encode() in path.read_bytes()] == [], path.name
    strings = re.findall(r'"(/[^"]*)"', (folder / "compression.json").read_text())
    assert strings == []


def test_table_on_stdout_and_the_rest_on_stderr(teacher_dir, csv, tmp_path, brisk):
    done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out"))
    assert done.code == 0
    assert len(re.findall(r"^ accuracy % \(95 %\)", done.out, re.MULTILINE)) == 1
    assert f'model = pipeline("text-classification", model="{tmp_path / "out"}")' in done.out
    assert "step 1 of 1: distill (student)" in done.err
    assert "step 1 of 1" not in done.out
    assert "distill: 100%" in done.err


def test_dry_run_writes_nothing_and_says_what_the_real_run_makes(teacher_dir, csv, tmp_path, distilled, monkeypatch):
    took = []
    monkeypatch.setattr(InterruptCallback, "on_step_end", lambda self, args, state, *_, **__: took.append(state))
    monkeypatch.setattr("hfcompress.pipeline.finishing.SETTINGS", QUICK)
    words = distill_words(teacher_dir, csv, tmp_path / "out", "--gradient-accumulation-steps", "2", "--json")
    before = tree(tmp_path)
    dry = hfcompress(*words, "--num-train-epochs", "1.5", "--per-device-train-batch-size", "20", "--dry-run")
    assert dry.code == 0, dry.err
    assert tree(tmp_path) == before == {}
    (plan,) = dry.json["steps"]
    assert (dry.json["training_rows"], dry.json["validation_rows"]) == (86, 10)
    real = hfcompress(*words, "--num-train-epochs", "1.5", "--per-device-train-batch-size", "20")
    # 86 rows are 5 batches of 20, those 3 steps an epoch: 1.5 epochs are 5 steps.
    assert plan["optimizer_steps"] == took[0].global_step == 5
    student = real.json["results"][1]
    assert (plan["parameters"], plan["macs"]) == (student["parameters"], student["macs"])


def test_dry_run_beside_an_existing_folder_is_allowed_and_leaves_it(teacher_dir, csv, distilled):
    _, folder = distilled
    before = tree(folder.parent)
    assert hfcompress(*distill_words(teacher_dir, csv, folder, "--dry-run")).code == 0
    assert tree(folder.parent) == before


def test_an_existing_folder_is_refused_before_anything_is_loaded(csv, tmp_path):
    (tmp_path / "out").mkdir()
    done = hfcompress(*distill_words(tmp_path / "no such model", csv, tmp_path / "out"))
    assert done.code == 2
    assert done.faults == [
        f"{tmp_path / 'out'}: exists already. Choose another --output-dir, or pass --overwrite to replace it once the "
        "new one is complete."
    ]


def test_overwrite_replaces_no_folder_of_the_users(teacher_dir, csv, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    (tmp_path / "notes").write_text("a file")
    before = tree(tmp_path)
    for name in ("home", "notes"):
        done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / name, "--overwrite"))
        assert done.code == 2
        assert "is not replaced, for hfcompress did not make it" in done.err
    assert tree(tmp_path) == before


def test_overwrite_keeps_the_old_folder_until_the_new_one_is_complete(teacher_dir, csv, tmp_path, monkeypatch, brisk):
    out = tmp_path / "out"
    assert hfcompress(*distill_words(teacher_dir, csv, out)).code == 0
    old = tree(out)
    again = distill_words(teacher_dir, csv, out, "--overwrite", "--seed", "1")
    with monkeypatch.context() as patch:
        patch.setattr("hfcompress.pipeline.runner.finish", lambda *_, **__: 1 / 0)
        assert hfcompress(*again).code == 1
    assert tree(out) == old
    done = hfcompress(*again)
    assert "step 1 of 1: distill (student) is done already" in done.err
    assert done.code == 0
    assert tree(out)["compression.json"] != old["compression.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def bad(name, header, rows):
    return pytest.param(header + "\n" + "\n".join(rows), id=name)


@pytest.mark.parametrize(
    "content",
    [
        bad("no label column", "text,kind", ["fine,positive", "dull,negative"] * 10),
        bad("empty texts", "text,label", ["fine,positive", ",negative"] * 10),
        bad("single class", "text,label", ["fine,positive", "warm,positive"] * 10),
        bad("other labels", "text,label", ["fine,spam", "dull,ham"] * 10),
        bad("no rows", "text,label", []),
        bad("one row", "text,label", ["fine,positive"]),
        bad("nothing", "", []),
    ],
)
def test_bad_data_is_refused_and_nothing_is_written(content, teacher_dir, tmp_path):
    data = tmp_path / "bad.csv"
    data.write_text(content.strip("\n"))
    before = tree(tmp_path)
    done = hfcompress(*distill_words(teacher_dir, data, tmp_path / "out"))
    assert done.code == 2, done.err
    assert "unexpected" not in done.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("missing", ["./no.csv", "no/such/thing.csv", "no.jsonl"])
def test_a_data_file_that_is_not_there_is_named(missing, teacher_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hfcompress(*distill_words(teacher_dir, missing, "out"))
    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert missing in done.err


def test_an_absent_column_is_named_with_those_there_are(teacher_dir, csv, tmp_path):
    done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", "--text-column", "txt"))
    assert done.code == 2
    assert "there is no column 'txt'. Did you mean 'text'? Allowed: label, text." in done.err


def test_rows_and_validation_as_asked(teacher_dir, csv, tmp_path, brisk):
    held_out = tmp_path / "held-out.csv"
    held_out.write_text("text,label\n" + "\n".join(",".join(row) for row in sentences(12, seed=5)))
    for more, sizes in {
        ("--max-train-samples", "20"): (20, 10),
        ("--validation", "0.25"): (72, 24),
        ("--validation", "30"): (66, 30),
        ("--validation", held_out): (96, 12),
        ("--where", "label=positive", "--validation", "30"): None,
    }.items():
        done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", "--dry-run", "--json", *more))
        if sizes is None:
            assert done.code == 2  # a single class is left
        else:
            assert (done.json["training_rows"], done.json["validation_rows"]) == sizes
