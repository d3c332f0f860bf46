"""`hfcompress card`: writes, prints and protects a folder's model card."""

import pytest

from hfcompress.cli import card
from hfcompress.cli.options import read_arguments
from hfcompress.cli.output import Output
from hfcompress.errors import OutputExistsError, RequestError
from tests.hub.cards import make_folder


def run(capsys, *words):
    request, output = read_arguments("card", card.VERB, list(map(str, words)))
    card.run(request, output)
    return capsys.readouterr().out


def test_it_writes_the_card(tmp_path, capsys):
    folder = make_folder(tmp_path / "small")
    said = run(capsys, folder, "--repo-id", "me/tiny")
    assert said == f"{folder / 'README.md'} is written. Read it before you share it.\n"
    assert 'model="me/tiny"' in (folder / "README.md").read_text(encoding="utf-8")


def test_dry_run_prints_it_and_writes_nothing(tmp_path, capsys):
    folder = make_folder(tmp_path / "small")
    assert run(capsys, folder, "--dry-run").startswith("---\nbase_model: google-bert/bert-base-uncased\n")
    assert not (folder / "README.md").exists()


def test_an_edited_card_needs_overwrite(tmp_path, capsys):
    folder = make_folder(tmp_path / "small")
    (folder / "README.md").write_text("mine")
    with pytest.raises(OutputExistsError, match="Pass --overwrite"):
        run(capsys, folder)
    run(capsys, folder, "--overwrite")
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_faults(tmp_path):
    with pytest.raises(RequestError, match="name a folder"):
        card.run(read_arguments("card", card.VERB, [])[0], Output())
    with pytest.raises(RequestError, match="holds no compression.json"):
        card.run(read_arguments("card", card.VERB, [str(tmp_path)])[0], Output())


@pytest.mark.parametrize("example", card.VERB.examples)
def test_examples_parse(example):
    read_arguments("card", card.VERB, example.split()[2:])
