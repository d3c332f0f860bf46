"""What the README shows works: its commands parse, its Python runs, its numbers are those of the committed results."""

import importlib.util
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import DataCollatorWithPadding

from tests.snippets import blocks, check_other_line, commands, make_targets, parse, run_python, shell_lines
from tests.tiny import sentences, tiny_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", commands(README))
def test_command_parses(line):
    assert parse(line).configs


def test_other_lines_name_what_is_there():
    lines = [line for line, _ in shell_lines(README) if not line.startswith("hfcompress ")]
    assert {"make quickstart", "make test"} <= set(lines)
    assert {"quickstart", "test"} <= make_targets()
    for line in lines:
        check_other_line(line)


def test_python_runs(tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = sentences(16)
    names = {
        "teacher": tiny_model("bert", layers=6),
        "tokenizer": tokenizer,
        "collator": DataCollatorWithPadding(tokenizer),
        "train_dataset": Dataset.from_dict(
            {**tokenizer([text for text, _ in rows]), "labels": [int(label == "positive") for _, label in rows]}
        ),
    }
    for block in blocks(README, "python"):
        run_python(block, names)
    assert names["student"].config.num_hidden_layers == 3
    assert names["trainer"].state.global_step == 4


def test_tables_are_those_of_the_committed_results():
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "benchmarks" / "readme_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert all(f"<!-- {name} -->" in README for name in module.TABLES)
    assert README == module.render(README), "run: python benchmarks/readme_tables.py"
