"""Writing a model card: the same from the same folder, never over somebody's own, only for folders of hfcompress."""

import pytest

from hfcompress.errors import ModelError, OutputExistsError, RequestError
from hfcompress.hub.card import build_card, is_ours, write_card
from tests.hub.cards import RECORD, make_folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "small-reviews")


def test_the_same_folder_gives_the_same_card(folder):
    assert str(build_card(folder)) == str(build_card(folder))
    first = write_card(folder).read_bytes()
    assert write_card(folder).read_bytes() == first


def test_an_edited_card_is_not_replaced_silently(folder):
    path = write_card(folder)
    written = path.read_text()
    assert is_ours(path)
    edited = written.replace("license: apache-2.0", "license: mit")
    path.write_text(edited)
    assert not is_ours(path)
    with pytest.raises(OutputExistsError, match="somebody has edited it since. Pass --overwrite"):
        write_card(folder)
    assert path.read_text() == edited
    write_card(folder, overwrite=True)
    assert path.read_text() == written


@pytest.mark.parametrize("text", ["# Mine\n", "", "\xff"])
def test_somebody_elses_card_is_not_replaced(text, folder):
    (folder / "README.md").write_bytes(text.encode("latin-1"))
    with pytest.raises(OutputExistsError, match="hfcompress did not write it"):
        write_card(folder)


def test_line_ends_of_windows_are_no_edit(folder):
    path = write_card(folder)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert is_ours(path)


def test_the_name_may_be_given(folder):
    path = write_card(folder, name="another")
    assert "\n# another\n" in path.read_text()
    assert "your-name/another" in path.read_text()


def test_folders_that_get_no_card(tmp_path):
    with pytest.raises(ModelError, match="there is no such folder"):
        build_card(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"holds no compression.json, so nothing is known of how it was made\. Cards are"
    ):
        build_card(tmp_path)
    (tmp_path / "compression.json").write_text("{")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError) as caught:
        build_card(tmp_path)
    assert [fault.problem for fault in caught.value.faults] == [
        "does not hold a JSON object.",
        "is not a JSON file that can be read.",
    ]
    with pytest.raises(RequestError, match="there is no task 'nothing'"):
        build_card(make_folder(tmp_path / "out", {**RECORD, "task": "nothing"}))
    with pytest.raises(RequestError, match="such as me/model, got 'me'"):
        build_card(tmp_path / "out", repo_id="me")
