"""What the README shows works: its commands parse, its Python runs, its numbers are those of the committed results."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import DataCollatorWithPadding

from hfcompress.cli.main import VERBS
from tests.tiny import sentences

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("hfcompress ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_parses(line):
    from hfcompress.cli.options import read_arguments

    name, *words = shlex.split(line)[1:]
    assert name in VERBS
    request, _ = read_arguments(name, importlib.import_module(f"hfcompress.cli.{name}").VERB, words)
    assert request.configs


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {line.split()[1] for block in blocks("bash") for line in block.splitlines() if line.startswith("make ")}
    assert named >= {"quickstart", "test"}
    assert named <= targets


def test_python_runs(tokenizer, tmp_path, monkeypatch):
    from tests.tiny import tiny_model

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
    for block in blocks("python"):
        exec(block, names)  # noqa: S102
    assert names["student"].config.num_hidden_layers == 3
    assert names["trainer"].state.global_step == 4


def test_tables_are_those_of_the_committed_results():
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "benchmarks" / "readme_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert all(f"<!-- {name} -->" in README for name in module.TABLES)
    assert README == module.render(README), "run: python benchmarks/readme_tables.py"
