"""`hfcompress`: finds the verb, runs it, and turns every failure into one sentence and an exit code."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hfcompress._version import __version__
from hfcompress.cli.output import report_error
from hfcompress.errors import HfcompressError, RequestError, unknown

VERBS = {
    "distill": "train a small model to answer as a large one does",
    "prune": "remove weights, heads, neurons, layers, filters or words from a model",
    "factorize": "replace a model's linear layers by pairs of thin ones",
    "quantize": "give a model's weights eight or four bits, in PyTorch or in ONNX files",
    "cluster": "let the weights of each matrix share a few values, and pack them by their entropy",
    "pack": "put a checkpoint into one small file, without loss",
    "unpack": "restore the checkpoint of a packed file, every byte of it",
    "augment": "write variants of texts, without labels, for a teacher to speak on",
    "evaluate": "score models on held-out data, side by side",
    "export": "write ONNX files that answer as the model does, in float32 and in fewer bits",
    "bench": "measure models side by side: time, size, memory, quality, and a report",
    "card": "write the model card of a finished folder",
    "push": "put a finished folder on the Hub",
    "inspect": "show what a model is made of: parameters, bytes, MACs",
    "run": "run a recipe: several steps in order, from a YAML file",
    "quickstart": "see the main job on a real model and real sentences, without the Hub",
    "list": "list methods, losses, layer maps, tasks and recipes",
    "env": "show versions and hardware, for bug reports",
}
"""Each is the module of its name in this package; the lines stand here so that `--help` imports nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return 0 when done, 2 if the request is wrong, 1 if it failed, 130 if stopped by Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get("HFCOMPRESS_DEBUG") == "1"
    try:
        with _sigterm_like_ctrl_c():
            _dispatch(words, debug)
    except HfcompressError as error:
        if debug:
            raise
        report_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        report_error(
            HfcompressError("Stopped. Finished steps and checkpoints are kept: run the same command again to go on.")
        )
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): there is nobody left to tell.
        sys.stdout = open(os.devnull, "w")
        return 0
    except Exception as error:  # the last line of defence: a sentence instead of a traceback
        if debug:
            raise
        report_error(_explain(error))
        return 1
    return 0


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM (a scheduler's or a container's stop) do what Ctrl-C does: checkpoints are written, work is kept."""

    def stop(number: int, frame: FrameType | None) -> None:
        on_interrupt = signal.getsignal(signal.SIGINT)
        if not callable(on_interrupt):  # in the background of a shell script Ctrl-C is ignored
            raise KeyboardInterrupt
        on_interrupt(signal.SIGINT, frame)

    if threading.current_thread() is not threading.main_thread():  # others cannot set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dispatch(words: list[str], debug: bool) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())  # noqa: T201
        return
    if words[0] in ("-V", "--version"):
        print(f"hfcompress {__version__}")  # noqa: T201
        return
    name = words[0]
    if name not in VERBS:
        raise RequestError(unknown("verb", name, VERBS))
    from hfcompress.cli.methods import with_method
    from hfcompress.cli.options import build_parser, read_arguments

    verb = importlib.import_module(f"hfcompress.cli.{name}").VERB
    if any(word in ("-h", "--help") for word in words[1:]):
        print(build_parser(name, with_method(verb, words[1:])).format_help())  # noqa: T201
        return
    if not debug:
        _hush()
    request, output = read_arguments(name, verb, words[1:])
    verb.run(request, output)


def usage() -> str:
    """Return the text of `hfcompress --help`."""
    verbs = "\n".join(f"  {name:<12}{text}" for name, text in VERBS.items())
    return (
        "Make a fine-tuned Hugging Face model several times smaller and faster, and prove what that cost.\n\n"
        f"usage: hfcompress VERB [options]\n\n{verbs}\n\n"
        "`hfcompress VERB --help` shows a verb's options and examples.\n"
        "Exit codes: 0 done, 2 the request is wrong, 1 it failed while running, 130 stopped by Ctrl-C."
    )


def _hush() -> None:
    """Keep other libraries' chatter off the screen; HFCOMPRESS_DEBUG=1 lets it through."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=r"(?!hfcompress)")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.ERROR)
    logging.getLogger("hfcompress").setLevel(logging.WARNING)


def _explain(error: Exception) -> HfcompressError:
    # safetensors and torch tell of a full disk in words alone.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "no space left" in str(error).lower():
        return HfcompressError(
            "The disk is full. Finished steps are kept: free some space and run the same command again to go on."
        )
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return HfcompressError(
            "Memory ran out. Use a smaller --per-device-train-batch-size with --gradient-accumulation-steps, "
            "or a smaller --max-length."
        )
    first = (str(error).strip() or "no message").split("\n")[0]
    return HfcompressError(
        f"Something unexpected went wrong ({type(error).__name__}: {first}). "
        "Set HFCOMPRESS_DEBUG=1 for the traceback, and please report it with the output of `hfcompress env`."
    )
