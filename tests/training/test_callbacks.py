"""Ctrl-C saves a checkpoint and stops; the second stops at once; and the bar keeps to stderr."""

import os
import signal

import pytest

from hfcompress.training.callbacks import InterruptCallback, ProgressCallback
from tests.tiny import tiny_model
from tests.training.runs import At, build, learned, same, small_student
from tests.training.worker import killed_run

SIGNALS = [signal.SIGINT, signal.SIGTERM]


class Signal(At):
    """Sends this process a signal at the beginning of a step, one or more times."""

    def __init__(self, step, number, times=1):
        self.step, self.number, self.times = step, number, times

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step - 1:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def on_step_end(self, *_, **__):
        pass


@pytest.fixture(autouse=True)
def handlers():
    """Whatever a test does, the handlers are those from before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_a_checkpoint_and_stops_after_the_step(number, tmp_path):
    interrupt = InterruptCallback()
    trainer = build(small_student(), tmp_path, tiny_model(layers=4), callbacks=[interrupt, Signal(3, number)])
    trainer.train()
    assert interrupt.interrupted
    assert trainer.state.global_step == 3
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]


def test_a_run_that_was_interrupted_goes_on_exactly(tmp_path):
    whole = killed_run(tmp_path / "whole")
    whole.train()
    killed_run(tmp_path / "stopped", [InterruptCallback(), Signal(11, signal.SIGINT)]).train()
    assert (tmp_path / "stopped" / "checkpoint-11").is_dir()
    resumed = killed_run(tmp_path / "stopped", [InterruptCallback()])
    resumed.train(resume_from_checkpoint=True)
    assert same(learned(resumed), learned(whole))


def test_the_same_trainer_goes_on_after_an_interrupt(tmp_path):
    interrupt = InterruptCallback()
    trainer = build(small_student(), tmp_path, tiny_model(layers=4), callbacks=[interrupt, Signal(2, signal.SIGINT)])
    trainer.train()
    assert trainer.state.global_step == 2
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 4
    assert not interrupt.interrupted


def test_a_second_signal_stops_at_once(tmp_path):
    callbacks = [InterruptCallback(), Signal(2, signal.SIGINT, times=2)]
    trainer = build(small_student(), tmp_path, tiny_model(layers=4), callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.state.global_step == 1
    assert not list(tmp_path.glob("checkpoint-*"))


def test_while_training_the_signals_are_caught_and_afterwards_given_back(handlers, tmp_path):
    during = []
    look = At(1, lambda _: during.append([signal.getsignal(number) for number in SIGNALS]))
    build(small_student(), tmp_path, tiny_model(layers=4), callbacks=[InterruptCallback(), look]).train()
    assert all(handler not in handlers.values() for handler in during[0])


def test_after_a_failure_restore_gives_the_signals_back(tmp_path):
    def fail(_):
        raise RuntimeError("out of memory")

    interrupt = InterruptCallback()
    trainer = build(small_student(), tmp_path, tiny_model(layers=4), callbacks=[interrupt, At(1, fail)])
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()
    interrupt.restore()
    interrupt.restore()


def test_the_bar_counts_the_steps_on_stderr(tmp_path, capsys):
    progress = ProgressCallback("distilling")
    trainer = build(small_student(), tmp_path, tiny_model(layers=4), callbacks=[progress])
    trainer.train()
    shown = capsys.readouterr()
    assert "distilling" in shown.err
    assert "4/4" in shown.err
    assert "distilling" not in shown.out
    assert progress.bar is None


def test_the_bar_shows_the_sparsity_now_and_to_come(tmp_path, capsys):
    pruning = {"method": "magnitude", "sparsity": 0.8, "schedule": "linear", "warmup": 0, "cooldown": 0, "every": 1}
    trainer = build(small_student(), tmp_path, given={"pruning": pruning})
    trainer.add_callback(ProgressCallback("pruning", alterations=trainer.alterations.values()))
    trainer.train()
    shown = capsys.readouterr().err
    assert all(f"sparsity {share:.2f} of 0.80" in shown for share in (0.2, 0.4, 0.6, 0.8))
