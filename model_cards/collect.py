"""Keeps the card of an output folder here, with what it was written from: `python model_cards/collect.py OUT NAME`.

A test writes each card again from what lies beside it and compares. The weights stay away: `files.txt` names them.
"""

import shutil
import sys
from pathlib import Path

from hfcompress.hub.card import CARD, write_card

KEPT = ("compression.json", "measurements.json", "config.json", "tokenizer_config.json")
NAMED = (".safetensors", ".onnx", ".html")
"""Of these files a card says only that they are there."""


def collect(source: Path, name: str) -> Path:
    """Copy what a card is written from, and write it."""
    target = Path(__file__).parent / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in KEPT:
        if (source / file).is_file():
            shutil.copyfile(source / file, target / file)
    if (source / "figures").is_dir():
        shutil.copytree(source / "figures", target / "figures", copy_function=shutil.copyfile)
    found = [path.relative_to(source) for path in source.rglob("*") if path.suffix in NAMED and path.is_file()]
    named = sorted(path.as_posix() for path in found if path.parts[0] != "steps")
    (target / "files.txt").write_text("".join(f"{file}\n" for file in named), encoding="utf-8")
    return rewrite(target, target)


def rewrite(kept: Path, target: Path) -> Path:
    """Write a kept card again into a folder, as it was written where the weights are.

    Args:
        kept: A folder here.
        target: Where the card goes; may be the same.
    """
    whole = target / "whole"
    shutil.copytree(kept, whole, ignore=shutil.ignore_patterns(CARD, "whole"))
    for file in (kept / "files.txt").read_text(encoding="utf-8").split():
        (whole / file).parent.mkdir(exist_ok=True)
        (whole / file).touch()
    card = write_card(whole, name=kept.name).replace(target / CARD)
    shutil.rmtree(whole)
    return card


if __name__ == "__main__":
    collect(Path(sys.argv[1]), sys.argv[2])
