"""Callbacks: the progress bar, and stopping on Ctrl-C with a checkpoint."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
import torch.distributed
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hfcompress.training.alteration import Alteration


class ProgressCallback(TrainerCallback):
    """One bar on stderr with the losses beside it; stdout stays for the result.

    Args:
        title: What is being done.
        show: False keeps it from showing anything.
        alterations: What changes the model meanwhile; the bar shows how far.
    """

    def __init__(self, title: str, show: bool = True, alterations: Iterable[Alteration] = ()) -> None:
        self.title = title
        self.show = show
        self.alterations = tuple(alterations)
        self.bar: tqdm | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Open the bar where training goes on from."""
        if self.show and state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc=self.title, unit="step", file=sys.stderr
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the losses."""
        shown = {name: f"{value:.3g}" for name, value in (logs or {}).items() if name.startswith("loss")}
        if self.bar is not None and shown:
            said = [f"{name}={value}" for name, value in shown.items()]
            said += [alteration.progress() for alteration in self.alterations]
            self.bar.set_postfix_str(", ".join(filter(None, said)))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, where training ended or failed."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class InterruptCallback(TrainerCallback):
    """Turns Ctrl-C (or SIGTERM) into: finish this step, save a checkpoint, stop. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._before: dict[int, Any] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Listen for the signals, where that is possible (the main thread)."""
        self.interrupted = False
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            self.restore()
            raise KeyboardInterrupt
        self.interrupted = True

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Save and stop after the step in which the signal came, on all processes after the same one."""
        if args.world_size > 1:
            heard = torch.tensor(float(self.interrupted), device=args.device)
            torch.distributed.all_reduce(heard)
            self.interrupted = bool(heard > 0)
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Give the signals back."""
        self.restore()

    def restore(self) -> None:
        """Put the former signal handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
