"""A process that runs a command and sends itself a signal in the middle of a training run; `python -m` starts it."""

import os
import sys

import torch

from hfcompress.cli.main import main
from hfcompress.training.callbacks import InterruptCallback

_begin, _end = InterruptCallback.on_train_begin, InterruptCallback.on_step_end


def send(number, run, step):
    """Send this process a signal at the end of an optimizer step of its first, second, … training run."""
    begun = []

    def on_train_begin(self, *args, **kwargs):
        begun.append(self)
        _begin(self, *args, **kwargs)

    def on_step_end(self, args, state, control, **kwargs):
        if len(begun) == run and state.global_step == step:
            os.kill(os.getpid(), number)
        _end(self, args, state, control, **kwargs)

    InterruptCallback.on_train_begin, InterruptCallback.on_step_end = on_train_begin, on_step_end


if __name__ == "__main__":
    torch.set_num_threads(1)
    send(*map(int, sys.argv[1:4]))
    sys.exit(main(sys.argv[4:]))
