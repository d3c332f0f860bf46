"""Output folders: refused, moved into place whole, and the old one kept until the new one stands."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from hfcompress.errors import DiskSpaceError, HfcompressError, OutputExistsError, OutputInUseError
from hfcompress.folders import (
    RECORD,
    bytes_on_disk,
    move_inside,
    move_into_place,
    owned,
    refuse_existing,
    refuse_foreign,
    refuse_inputs_inside,
    require_space,
    scratch_folder,
    work_folder,
)


def folder(path, content):
    path.mkdir()
    (path / "model").write_text(content)
    return path


@dataclass
class Reads:
    """What a run reads, as recipes say it."""

    model: str
    data: list[str]


def tree(path):
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def test_the_work_folder_is_a_hidden_sibling(tmp_path):
    assert work_folder(tmp_path / "out") == tmp_path / ".out.partial"


def test_an_existing_output_is_refused_unless_it_may_be_replaced(tmp_path):
    output = folder(tmp_path / "out", "old")
    with pytest.raises(OutputExistsError, match=r"exists already\. Choose another --output-dir, or pass --overwrite"):
        refuse_existing(output, overwrite=False)
    refuse_existing(output, overwrite=True)
    assert tree(tmp_path) == {"out/model": "old"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_output_may_lie_below_folders_that_do_not_exist_yet(tmp_path, monkeypatch, overwrite):
    refuse_existing(tmp_path / "a" / "b" / "out", overwrite)
    monkeypatch.chdir(tmp_path)
    refuse_existing(Path("out"), overwrite)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError, match="file: is not a folder that can be written to"):
        refuse_existing(tmp_path / "file" / "out", overwrite=False)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputExistsError, match="is not a folder that can be written to"):
        refuse_existing(tmp_path / "out", overwrite=False)


def test_a_finished_folder_moves_into_place(tmp_path):
    move_into_place(folder(tmp_path / "work", "new"), tmp_path / "out")
    assert tree(tmp_path) == {"out/model": "new"}


def test_a_finished_folder_replaces_the_old_one(tmp_path):
    output = folder(tmp_path / "out", "old")
    (output / "leftover").write_text("old")
    move_into_place(folder(tmp_path / "work", "new"), output)
    assert tree(tmp_path) == {"out/model": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def failing_rename(monkeypatch, source):
    rename = Path.rename

    def fail(self, target):
        if self == source:
            raise OSError("the disk is full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)


@pytest.mark.parametrize("earlier", [False, True], ids=["nothing there", "an old one there"])
def test_when_the_move_fails_all_is_as_before(tmp_path, monkeypatch, earlier):
    output = folder(tmp_path / "out", "old") if earlier else tmp_path / "out"
    work = folder(tmp_path / "work", "new")
    failing_rename(monkeypatch, work)
    with pytest.raises(OSError, match="the disk is full"):
        move_into_place(work, output)
    assert tree(tmp_path) == {"work/model": "new"} | ({"out/model": "old"} if earlier else {})


def test_the_old_one_stands_while_it_cannot_be_put_aside(tmp_path, monkeypatch):
    output, work = folder(tmp_path / "out", "old"), folder(tmp_path / "work", "new")
    failing_rename(monkeypatch, output)
    with pytest.raises(OSError, match="the disk is full"):
        move_into_place(work, output)
    assert tree(tmp_path) == {"work/model": "new", "out/model": "old"}


def test_what_an_interrupted_move_put_aside_is_not_lost_before_the_new_one_stands(tmp_path, monkeypatch):
    folder(tmp_path / ".out.old", "old")
    work = folder(tmp_path / "work", "new")
    with monkeypatch.context() as patch:
        failing_rename(patch, work)
        with pytest.raises(OSError, match="the disk is full"):
            move_into_place(work, tmp_path / "out")
    assert tree(tmp_path) == {"work/model": "new", "out/model": "old"}
    move_into_place(work, tmp_path / "out")
    assert tree(tmp_path) == {"out/model": "new"}


def test_a_stale_old_one_gives_way(tmp_path):
    folder(tmp_path / ".out.old", "older")
    move_into_place(folder(tmp_path / "work", "new"), folder(tmp_path / "out", "old"))
    assert tree(tmp_path) == {"out/model": "new"}


@pytest.mark.parametrize(("free", "fits"), [(2_000_000, True), (1_999_999, False), (0, False)])
def test_a_full_disk_is_said_before_the_work_starts(tmp_path, monkeypatch, free, fits):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=free))
    target = tmp_path / "not" / "there" / "yet"
    if fits:
        require_space(target, 2_000_000)
    else:
        with pytest.raises(DiskSpaceError, match=rf"has {free / 1e6:,.0f} MB free, and this run writes about 2 MB\."):
            require_space(target, 2_000_000)
    assert asked == [tmp_path]
    assert issubclass(DiskSpaceError, HfcompressError)


def test_bytes_on_disk_are_those_of_all_files_below(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"12345")
    assert bytes_on_disk(tmp_path) == 8


@pytest.mark.parametrize("leads_to", ["nowhere", "out", "real"], ids=["dangling", "looping", "to a folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_is_no_output(tmp_path, leads_to, overwrite):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(leads_to)
    with pytest.raises(OutputExistsError, match="is a link"):
        refuse_existing(tmp_path / "out", overwrite)
    if leads_to != "real":
        with pytest.raises(OutputExistsError, match="is not a folder"):
            refuse_existing(tmp_path / "out" / "below", overwrite)


def test_the_current_folder_is_no_output(tmp_path, monkeypatch):
    (tmp_path / "out" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "below")
    for output in (Path("."), Path(".."), tmp_path / "out"):
        with pytest.raises(OutputExistsError, match="holds the current folder"):
            refuse_existing(output, overwrite=True)


def test_only_folders_that_were_made_here_are_replaced(tmp_path):
    refuse_foreign(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    refuse_foreign(tmp_path / "empty")
    mine = folder(tmp_path / "mine", "precious")
    with pytest.raises(OutputExistsError, match="did not make it"):
        refuse_foreign(mine)
    (mine / RECORD).write_text("{}")
    refuse_foreign(mine)


def test_what_a_run_reads_is_not_replaced_by_it(tmp_path):
    output = folder(tmp_path / "out", "old")
    (tmp_path / "link").symlink_to(output / "model")
    outside = folder(tmp_path / "outside", "data")
    refuse_inputs_inside(output, Reads("bert-base", [str(outside)]))
    with pytest.raises(OutputExistsError, match="the run reads"):
        refuse_inputs_inside(output, [Reads(str(output / "model"), [])])
    refuse_inputs_inside(output, {"model": "bert-base", "data": [str(outside), None, 3, "x" * 5000, "a\0b"]})
    for inputs in (output, {"steps": [{"distill": {"teacher": [str(output / "model")]}}]}, [tmp_path / "link"]):
        with pytest.raises(OutputExistsError, match="the run reads"):
            refuse_inputs_inside(output, inputs)


def test_an_output_has_one_owner(tmp_path):
    with owned(tmp_path / "out"):
        with pytest.raises(OutputInUseError, match="another run"), owned(tmp_path / "other" / ".." / "out"):
            pass
        with owned(tmp_path / "other"):
            pass
    with owned(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_owner_is_free(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom hfcompress.folders import owned\n"
        "with owned(Path(sys.argv[1])):\n    print('mine', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline().split() == [b"mine"]
    with pytest.raises(OutputInUseError), owned(tmp_path / "out"):
        pass
    process.kill()
    process.communicate()
    with owned(tmp_path / "out"):
        pass


def test_a_scratch_folder_is_new_and_leaves_nothing(tmp_path):
    folder(tmp_path / ".out.export", "left by a killed run")
    with scratch_folder(tmp_path / "out", "export") as work:
        assert list(work.iterdir()) == []
        (work / "file").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_move_put_aside_is_put_back(tmp_path):
    folder(tmp_path / ".out.old", "old")
    with pytest.raises(OutputExistsError, match="exists already"):
        refuse_existing(tmp_path / "out", overwrite=False)
    assert tree(tmp_path) == {"out/model": "old"}


def test_files_move_into_a_folder_the_last_one_last(tmp_path, monkeypatch):
    work, output = folder(tmp_path / "work", "new"), folder(tmp_path / "out", "old")
    (work / "figures").mkdir()
    (output / "figures").mkdir()
    (output / "figures" / "stale").write_text("")
    (output / "kept").write_text("kept")
    moved, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (moved.append(self.name), replace(self, target)))
    move_inside(work, output, last="figures")
    assert moved == ["model", "figures"]
    assert tree(output) == {"model": "new", "kept": "kept"}
