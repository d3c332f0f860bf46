"""Talking to the Hub: patience with passing trouble, and one sentence for what does not pass."""

from __future__ import annotations

import errno
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hfcompress.errors import HfcompressError, NetworkError, PushError
from hfcompress.sources import connection_errors

T = TypeVar("T")
Say = Callable[[str], None]

WAITS = (2.0, 4.0, 8.0)
"""Seconds between tries, where the Hub names none."""
_LONGEST_WAIT = 300.0
_PASSING = (408, 429, 500, 502, 503, 504)
_AGAIN = "Run the same command again: what is on the Hub already is not sent twice."
LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN (tokens: https://huggingface.co/settings/tokens)."


def silent(_: str) -> None:
    """Say nothing."""


def patiently(call: Callable[[], T], say: Say, state: str) -> T:
    """Ask the Hub, and ask again when it is busy or the connection breaks.

    Args:
        call: Asks; may be called several times.
        say: Where the waiting is told.
        state: One sentence on what is on the Hub, should it fail.

    Raises:
        PushError: The Hub says no.
        NetworkError: It cannot be reached.
    """
    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            pause = seconds_to_wait(error, wait)
            if pause is None:
                raise explain(error, state) from error
            wait_for(pause, error, say)
    try:
        return call()
    except Exception as error:
        raise explain(error, state) from error


def wait_for(seconds: float, error: BaseException, say: Say) -> None:
    """Wait, and tell why."""
    trouble = f"HTTP {status}" if (status := status_of(error)) else "the connection broke"
    say(f"The Hub did not answer well ({trouble}); trying again in {seconds:.0f} s.")
    time.sleep(seconds)


def seconds_to_wait(error: Exception, otherwise: float) -> float | None:
    """Return how long to wait before another try, or None where another one is of no use.

    Args:
        error: What the client raised.
        otherwise: The time where the Hub names none.
    """
    status = status_of(error)
    if status is None:
        return otherwise if _is_connection(error) and not _is_offline(error) else None
    if status not in _PASSING:
        return None
    named = _named_wait(error)
    if named is None:
        return otherwise
    return named if named <= _LONGEST_WAIT else None


def _named_wait(error: BaseException) -> float | None:
    """Return the seconds that the Hub asks to wait."""
    headers = getattr(_response_of(error), "headers", {})
    retry_after = headers.get("Retry-After", "")
    # https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers: `"api";r=0;t=55`
    limit = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit", ""))
    if retry_after.strip().isdigit():
        return float(retry_after)
    return float(limit[1]) if limit else None


def explain(error: Exception, state: str) -> HfcompressError:
    """Turn what the client raised into one sentence and what to do; what is ours already stays, as do bugs.

    Args:
        error: What was raised.
        state: One sentence on what is on the Hub now.
    """
    if isinstance(error, HfcompressError):
        return error
    status = status_of(error)
    if status is not None:
        return PushError(f"{_explain_status(status, error)} {state}")
    if _is_offline(error):
        return NetworkError(f"HF_HUB_OFFLINE is set, so nothing is sent to the Hub. Unset it. {state}")
    if _is_connection(error) or isinstance(error, json.JSONDecodeError):
        trouble = "The Hugging Face Hub cannot be reached, or the connection broke off."
        return NetworkError(f"{trouble} {state} Check the connection. {_AGAIN}")
    if isinstance(error, (ValueError, RuntimeError)):
        return PushError(f"The Hub's client gave up: {_one_line(str(error))}. {state}")
    raise error


def _explain_status(status: int, error: BaseException) -> str:
    said = _one_line(getattr(_root(error), "server_message", None) or "")
    said = f" It says: {said}." if said else ""
    if status == 401:
        return f"The Hub does not accept the token: it is mistyped, expired or revoked. {LOG_IN}"
    if status == 403:
        fix = "Use a token with write permission, of somebody who may write there."
        return f"The Hub does not let this token do that.{said} {fix} {LOG_IN}"
    if status in (409, 412):
        fix = "Look at what is there now, and push again if that may be replaced."
        return f"Somebody else changed the repository at the same time.{said} {fix}"
    if status == 429:
        wait = _named_wait(error)
        when = f"Wait {wait:.0f} seconds" if wait else "Wait a few minutes"
        return f"The Hub takes no more requests for now. {when}, then run the same command again."
    if status >= 500:
        return f"The Hub has trouble (HTTP {status}). Try later, see https://status.huggingface.co. {_AGAIN}"
    return f"The Hub refuses (HTTP {status}).{said}"


def _one_line(text: str) -> str:
    """Return a message on one line, without addresses, which may be signed."""
    return re.sub(r"https?://\S+", "…", " ".join(text.split()))[:300].rstrip(".:- ")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it: the client wraps what happens in its threads."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _root(error: BaseException) -> BaseException:
    """Return the error that has the Hub's answer, or the first."""
    return next((one for one in _chain(error) if getattr(one, "response", None) is not None), error)


def _response_of(error: BaseException) -> Any:
    return getattr(_root(error), "response", None)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the Hub's answer, or None where there was no answer."""
    return getattr(_response_of(error), "status_code", None)


def _is_connection(error: BaseException) -> bool:
    kinds = connection_errors()
    return any(isinstance(one, kinds) and not _is_of_disk(one) for one in _chain(error))


def _is_of_disk(error: BaseException) -> bool:
    """Say whether an OSError tells of a file here, and not of the network."""
    return getattr(error, "filename", None) is not None or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(isinstance(one, OfflineModeIsEnabled) for one in _chain(error))


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keep the client's own warnings off the screen: they hold signed addresses, and `say` tells what matters."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
