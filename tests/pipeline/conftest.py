"""A recipe of two quick steps, and a folder to work in."""

import pytest
import yaml

from tests.cli.support import SHORT, hfcompress


@pytest.fixture
def recipe(tmp_path, teacher_dir, csv, monkeypatch):
    """Write a recipe of two steps into a folder of its own, with changes at the top, and return its path."""
    monkeypatch.chdir(tmp_path)
    options = {SHORT[i].removeprefix("--").replace("-", "_"): SHORT[i + 1] for i in range(0, len(SHORT), 2)}

    def write(**changes):
        values = {
            "model": str(teacher_dir),
            "data": {"dataset": str(csv), "max_train_samples": 32},
            "steps": [
                {"finetune": dict(options), "as": "teacher"},
                {"distill": {"student": "cut:layers=2", **options}, "as": "student"},
            ],
        } | changes
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


@pytest.fixture
def run(recipe, tmp_path):
    """Run the recipe into `out`, with overrides and flags."""
    path = recipe()
    return lambda *words: hfcompress("run", path, "--output-dir", tmp_path / "out", *words)
