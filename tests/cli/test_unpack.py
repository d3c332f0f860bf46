"""`hfcompress unpack`: restores a checkpoint, or says what is wrong with the file."""

import pytest

from hfcompress.cli import unpack
from hfcompress.cli.options import read_arguments
from hfcompress.clustering.container import pack
from tests.cli.support import hfcompress, tree


@pytest.fixture
def packed(teacher_dir, tmp_path):
    pack(teacher_dir, tmp_path / "model.hfz")
    return tmp_path / "model.hfz"


def test_it_restores_every_byte(packed, teacher_dir, tmp_path):
    done = hfcompress("unpack", packed, "--output-dir", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert tree(tmp_path / "out") == tree(teacher_dir)
    assert done.json["folder"] == str(tmp_path / "out")
    assert done.json["files"] == {name: len(data) for name, data in tree(teacher_dir).items()}


def test_an_existing_folder_needs_overwrite(packed, teacher_dir, tmp_path):
    assert hfcompress("unpack", packed, "--output-dir", tmp_path / "out").code == 0
    (tmp_path / "out" / "config.json").write_text("{}")
    done = hfcompress("unpack", packed, "--output-dir", tmp_path / "out")
    assert done.code == 2
    assert "exists already" in done.err
    assert hfcompress("unpack", packed, "--output-dir", tmp_path / "out", "--overwrite").code == 0
    assert tree(tmp_path / "out") == tree(teacher_dir)


@pytest.mark.parametrize("beside", ["notes.txt", "config.json"])
def test_a_folder_of_other_things_is_never_replaced(packed, tmp_path, beside):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    (tmp_path / "out" / beside).write_text("mine")
    done = hfcompress("unpack", packed, "--output-dir", tmp_path / "out", "--overwrite")
    assert done.code == 2
    assert "is not replaced" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.hfz", "out"]
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"


def test_a_packed_file_is_not_replaced_by_what_it_holds(packed, tmp_path):
    assert hfcompress("unpack", packed, "--output-dir", tmp_path / "out").code == 0
    inside = packed.rename(tmp_path / "out" / "model.hfz")
    done = hfcompress("unpack", inside, "--output-dir", tmp_path / "out", "--overwrite")
    assert done.code == 2
    assert "the run reads" in done.err
    assert inside.is_file()


def test_dry_run_says_whether_the_file_is_whole(packed, tmp_path):
    done = hfcompress("unpack", packed, "--output-dir", tmp_path / "out", "--dry-run")
    assert (done.code, "is whole" in done.out, "Nothing was written" in done.out) == (0, True, True)
    assert list(tmp_path.iterdir()) == [packed]
    packed.write_bytes(packed.read_bytes()[:-9])
    done = hfcompress("unpack", packed, "--output-dir", tmp_path / "out", "--dry-run")
    assert done.code == 2
    assert "is damaged at" in done.err


@pytest.mark.parametrize(
    ("words", "fault"), [((), "name a file"), (("nothing.hfz",), "is not there"), ((__file__,), "is not a .hfz file")]
)
def test_faults(words, fault, tmp_path):
    done = hfcompress("unpack", *words, "--output-dir", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert fault in done.err
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("example", unpack.VERB.examples)
def test_examples_parse(example):
    read_arguments("unpack", unpack.VERB, example.split()[2:])
