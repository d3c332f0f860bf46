"""The example of the container makes a smaller file, and the model that comes out of it is the one that went in."""

import re
import sys

from tests.test_examples import load


def test_script_packs_and_unpacks(teacher_dir, csv, tmp_path, monkeypatch, capsys):
    words = ["pack.py", "--model", str(teacher_dir), "--data", str(csv), "--output", str(tmp_path), "--clusters", "8"]
    monkeypatch.setattr(sys, "argv", words)
    load("pack").main()
    said = re.fullmatch(r"(\d+) bytes, packed (\d+); the weights are the same again: True\n", capsys.readouterr().out)
    assert said
    assert int(said[2]) == (tmp_path / "model.hfz").stat().st_size < int(said[1]) / 2
