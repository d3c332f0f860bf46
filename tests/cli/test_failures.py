"""What goes wrong while running ends in one sentence that says what to do, exit code 1, and no traceback."""

import errno
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedModel

from hfcompress.folders import owned
from hfcompress.training.objective import Objective
from tests.cli.support import distill_words, hfcompress, tree

pytestmark = pytest.mark.usefixtures("brisk")

ON_THE_HUB = ("--teacher", "bert-base", "--student", "distilbert", "--dataset", "stanfordnlp/sst2")


def one_sentence(done):
    """The error line of a command that failed while running, and told so in one line without a traceback."""
    assert (done.code, done.out) == (1, "")
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.err
    return lines[0]


def test_no_network_and_offline_mode(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = hfcompress("distill", *ON_THE_HUB, "--output-dir", tmp_path / "out")
    said = one_sentence(done)
    assert "Hub cannot be reached to get the model 'google-bert/bert-base-uncased'" in said
    assert "unset HF_HUB_OFFLINE" in said
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), TimeoutError("slow")])
def test_no_network_without_offline_mode(error, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", refuse)
    done = hfcompress("distill", *ON_THE_HUB, "--output-dir", tmp_path / "out")
    assert "cannot be reached" in one_sentence(done)
    assert tree(tmp_path) == {}


def test_a_data_set_on_the_hub_without_network(teacher_dir, tmp_path):
    done = hfcompress(*distill_words(teacher_dir, "stanfordnlp/sst2", tmp_path / "out"))
    assert "to get the dataset 'stanfordnlp/sst2'" in one_sentence(done)


def test_a_disk_without_room_is_refused_before_anything_starts(teacher_dir, csv, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    said = one_sentence(hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out")))
    assert f"{tmp_path} has 0 MB free" in said
    assert "Free some space, or choose a place on another disk." in said
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_while_saving(error, teacher_dir, csv, tmp_path, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    said = one_sentence(hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out")))
    assert "The disk is full." in said
    assert "run the same command again" in said
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_a_number(teacher_dir, csv, tmp_path, monkeypatch):
    honest = Objective.row_shares
    monkeypatch.setattr(Objective, "row_shares", lambda *args: {n: v * float("nan") for n, v in honest(*args).items()})
    said = one_sentence(hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out")))
    assert "The loss became nan at step 1." in said
    assert "Lower the learning rate" in said
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_diverges_while_it_is_fine_tuned_is_not_kept(teacher_dir, csv, tmp_path):
    wild = ("--learning-rate", "1e30", "--optim", "sgd", "--max-grad-norm", "0", "--finetune-teacher")
    said = one_sentence(hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", *wild)))
    assert "Training diverged: weights became NaN or infinite. Lower the learning rate" in said
    assert not list(tmp_path.rglob("step.json"))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_too_little_memory(error, teacher_dir, csv, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("hfcompress.training.trainer.CompressionTrainer.train", fail)
    said = one_sentence(hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out")))
    assert "Memory ran out. Use a smaller --per-device-train-batch-size" in said


def test_the_unexpected_is_told_in_a_sentence_and_raised_for_debugging(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("hfcompress.environment.versions", fail)
    said = one_sentence(hfcompress("env"))
    assert "(ZeroDivisionError: division). Set HFCOMPRESS_DEBUG=1 for the traceback" in said
    monkeypatch.setenv("HFCOMPRESS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        hfcompress("env")


def test_debugging_raises_what_is_wrong_with_a_request_too(monkeypatch):
    monkeypatch.setenv("HFCOMPRESS_DEBUG", "1")
    with pytest.raises(ValueError, match="there is no verb 'distil'"):
        hfcompress("distil")


def test_a_reader_that_went_away_is_no_failure(monkeypatch):
    def gone(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("hfcompress.cli.output.Output.result", gone)
    assert hfcompress("env").code == 0


def test_signals_are_given_back_after_a_failure(teacher_dir, csv, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Objective, "row_shares", lambda *_: 1 / 0)
    assert hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out")).code == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_stops_as_ctrl_c_does(monkeypatch):
    def wait(*_):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("hfcompress.cli.main._dispatch", wait)
    for on_interrupt in (signal.default_int_handler, signal.SIG_IGN):  # as in the background of a shell script
        ignored = signal.signal(signal.SIGINT, on_interrupt)
        done = hfcompress("env")
        signal.signal(signal.SIGINT, ignored)
        assert (done.code, "Stopped" in done.err) == (130, True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_run_on_one_output_is_refused_by_name(teacher_dir, csv, tmp_path):
    with owned(tmp_path / "out"):
        done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out"))
    assert "out: is being written by another run of hfcompress" in one_sentence(done)
    assert tree(tmp_path) == {}


def test_a_teacher_or_data_in_the_output_are_not_replaced(teacher_dir, csv, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(teacher_dir, out / "steps" / "teacher")
    shutil.copy(csv, out / "data.csv")
    (out / "compression.json").write_text("{}")
    before = tree(tmp_path)
    for teacher, data in ((out / "steps" / "teacher", csv), (teacher_dir, out / "data.csv")):
        done = hfcompress(*distill_words(teacher, data, out), "--overwrite")
        assert (done.code, "the run reads" in done.err) == (2, True)
    assert tree(tmp_path) == before
