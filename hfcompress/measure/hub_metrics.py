"""Metrics of the `evaluate` library: any on the Hub by its name, or a script on this machine."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, NetworkError, RequestError

if TYPE_CHECKING:
    from evaluate import EvaluationModule


def compute(
    name: str, predictions: Sequence[Any], references: Sequence[Any], own: Iterable[str] = (), **options: Any
) -> dict[str, float]:
    """Score predictions with a metric of the `evaluate` library.

    A metric is a script that runs on this machine. So a name stands for Hugging Face's own metrics only, and a
    script or folder is taken only where its path is written as one.

    Args:
        name: A metric's name (`accuracy`, `seqeval`, `rouge`), or the path of a metric script or its folder (`./mine`).
        predictions: In the form that the metric takes; `Task.for_metric` returns them.
        references: The same.
        own: The metrics that need no network, for messages.
        **options: For the metric, for example `average="macro"` for `f1`.

    Returns:
        Its numbers by name; what is no single number is left out.

    Raises:
        NetworkError: The metric has to come from the Hub, which cannot be reached.
        RequestError: There is no such metric, or it cannot score these predictions.
    """
    metric = _load(name, own)
    try:
        found = metric.compute(predictions=list(predictions), references=list(references), **options) or {}
    # Whatever a metric's own code raises: most often ValueError or TypeError.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise RequestError(Fault(name, f"this metric cannot score the model's answers: {reason}.")) from error
    return {key: float(value) for key, value in found.items() if isinstance(value, numbers.Real)}


def _load(name: str, own: Iterable[str]) -> EvaluationModule:
    import evaluate

    _check_name(name, own)
    try:
        return evaluate.load(name, keep_in_memory=True)
    except ImportError as error:
        reason = str(error).strip().replace("\n", " ").rstrip(".")
        raise RequestError(Fault(name, f"this metric needs packages that are not installed: {reason}.")) from error
    # Whatever a metric's own script raises while it is imported, too.
    except Exception as error:
        if "/" not in name and isinstance(error, (OSError, ConnectionError)):
            _ask_hub(name, own)
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise RequestError(Fault(name, f"this metric cannot be loaded: {reason}.")) from error


def _check_name(name: str, own: Iterable[str]) -> None:
    """Refuse what could mean a script that the user did not mean to run."""
    if not name or "/" in name:
        if not name or not Path(name).exists():
            raise RequestError(Fault(name, "is no metric's name, and there is no such script or folder.", _known(own)))
    elif name.endswith(".py") or (Path(name) / f"{name}.py").is_file():
        fix = f"For the script here write ./{name}; for Hugging Face's metric run this in another folder."
        raise RequestError(Fault(name, "is both a metric's name and a script in this folder.", fix))


def _ask_hub(name: str, own: Iterable[str]) -> None:
    """Find out why a metric of Hugging Face's could not be had: `evaluate` says the same of everything."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().repo_info(f"evaluate-metric/{name}", repo_type="space", timeout=10)
    except (RepositoryNotFoundError, HFValidationError):
        raise RequestError(Fault(name, "there is no such metric.", _known(own))) from None
    # Each version of huggingface_hub has connection errors of its own.
    except Exception:
        raise NetworkError(
            f"The Hugging Face Hub cannot be reached to get the metric '{name}', and it is not in the local cache. "
            f"Check the connection (or unset HF_HUB_OFFLINE). {_known(own)}".rstrip()
        ) from None


def _known(own: Iterable[str]) -> str:
    names = ", ".join(own)
    return f"Measured without a network: {names}." if names else ""
