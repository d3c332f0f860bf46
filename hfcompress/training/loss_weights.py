"""How the losses share the weight where the user gives none: `alpha` to the teacher's, the rest to the labels."""

from __future__ import annotations

from typing import Any

from hfcompress import registry
from hfcompress.errors import Fault, RequestError
from hfcompress.training.objective import parse_losses, read_losses
from hfcompress.training.schedules import Schedule

DEFAULT_ALPHA = 0.7
"""Weight of the teacher's word against the labels', unless the losses say their own."""


def combine_losses(
    losses: Any, temperature: float | Schedule | None, alpha: float | None, default: str = "kl"
) -> dict[str, Any]:
    """Bring `losses`, `temperature` and `alpha` into one mapping, checked.

    Losses without weights share `alpha` equally, and the task's own loss gets the rest.

    Example:
        >>> combine_losses("kl", 4.0, 0.9)
        {'kl': {'weight': 0.9, 'temperature': 4.0}, 'task': {'weight': 0.1}}

    Raises:
        RequestError: Unknown losses or options, values out of range, or `alpha` beside explicit weights.
    """
    wanted = read_losses(losses or default)
    parse_losses(wanted)
    weighted = [name for name, options in wanted.items() if "weight" in options]
    if alpha is not None and weighted:
        problem = f"cannot stand beside explicit weights ({', '.join(weighted)})."
        raise RequestError(Fault("alpha", problem, "Give either."))
    if not weighted:
        alpha = DEFAULT_ALPHA if alpha is None else alpha
        wanted = {name: options for name, options in wanted.items() if name != "task"} or {default: {}}
        share = alpha / len(wanted)
        wanted = {name: {"weight": share, **options} for name, options in wanted.items()}
        wanted["task"] = {"weight": round(1 - alpha, 12)}
    if temperature is not None:
        for name, options in wanted.items():
            if hasattr(registry.find("loss", name).config, "temperature"):
                options.setdefault("temperature", temperature)
    parse_losses(wanted)
    return wanted
