"""The example of several processes: two of them train one student on CPUs, and one speaks."""

from transformers import AutoModelForSequenceClassification

from tests.cli.test_processes import ROOT, free_port, process


def test_two_processes_train_one_student(teacher_dir, csv, tmp_path):
    done = process(
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port()),
        ROOT / "examples" / "multi_process.py",
        *("--teacher", teacher_dir, "--data", csv, "--output", tmp_path, "--epochs", "1"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("2 processes, loss ") == 1
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.num_hidden_layers == 2
