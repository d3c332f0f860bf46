"""Which losses cached answers can serve, and what of the answers they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfcompress.errors import Fault
from hfcompress.training.schedules import Schedule

if TYPE_CHECKING:
    from hfcompress.training.cache import Contents
    from hfcompress.training.objective import DistillationLoss, Objective
    from hfcompress.training.signals import Needs

TOP_K_LOSSES = ("kl", "reverse_kl", "jsd")
"""The losses on sums of probabilities: they can do with the likeliest classes and the rest's mass."""

_WORKING = "Losses on logits, hidden states and embeddings work from a cache."


def uncacheable(objective: Objective) -> list[Fault]:
    """Name the losses that read what is too large to be kept: attention probabilities, queries, keys and values."""
    names = [name for name, loss in objective.terms.items() if loss.needs_attentions or loss.teacher_layers]
    if not names:
        return []
    problem = f"{', '.join(names)} read attention probabilities or queries, keys and values, which are not cached."
    return [Fault("losses", problem, f"Leave them out, or train with the teacher itself. {_WORKING}")]


def hidden_layers(objective: Objective) -> tuple[int, ...] | None:
    """Return the teacher's hidden states that the losses read, 0 the embeddings; None where a loss may read all."""
    layers: set[int] = set()
    for loss in objective.terms.values():
        if loss.needs_hidden_states:
            pairs = getattr(loss, "pairs", None)
            if pairs is None:
                return None
            layers |= {theirs for _, theirs in pairs}
    return tuple(sorted(layers))


def temperature_of(loss: DistillationLoss) -> float | None:
    """Return a loss's temperature, or None where it has none or a schedule of them."""
    value = getattr(loss.config, "temperature", None)
    return None if value is None or isinstance(value, Schedule) else float(value)


def top_k_faults(objective: Objective, temperature: float | None = None) -> list[Fault]:
    """Say which losses cannot do with the likeliest classes.

    Args:
        objective: The losses.
        temperature: At which the rest's mass was taken; None when that is still to be chosen.
    """
    faults = []
    terms = objective.row_terms
    unfit = [name for name in terms if name not in TOP_K_LOSSES]
    if unfit:
        fix = f"{', '.join(TOP_K_LOSSES)} work. For the others train with the teacher itself."
        problem = f"{', '.join(unfit)} need every class, and of a large vocabulary only the likeliest are cached."
        faults.append(Fault("losses", problem, fix))
    fit = {name: loss for name, loss in terms.items() if name in TOP_K_LOSSES}
    moving = [name for name, loss in fit.items() if temperature_of(loss) is None]
    if moving:
        problem = f"the temperature of {', '.join(moving)} changes; the mass of the rest is cached at one."
        faults.append(Fault("losses", problem, "Give one number, or train with the teacher itself."))
    found = {name: value for name, loss in fit.items() if (value := temperature_of(loss)) is not None}
    allowed = {temperature} if temperature is not None else set(list(found.values())[:1])
    if not set(found.values()) <= allowed:
        told = ", ".join(f"{name} has {value:g}" for name, value in found.items() if temperature != value)
        one = f"the cache has {temperature:g} as its" if temperature is not None else "a cache has one"
        faults.append(
            Fault("losses", f"{one} temperature: {told}.", "Give all these losses that one, or build another cache.")
        )
    return faults


def need_faults(needs: Needs, contents: Contents) -> list[Fault]:
    """Say what is asked beside logits and was not cached."""
    faults = []
    if needs.attentions or needs.projections:
        problem = "attention probabilities, queries, keys and values are not cached."
        faults.append(
            Fault("teacher", problem, f"Leave those losses out, or train with the teacher itself. {_WORKING}")
        )
    missing = [
        what
        for what, asked, there in (
            ("hidden states", needs.hidden_states, contents.layers),
            ("embeddings", needs.embeddings, contents.embedding_width),
        )
        if asked and not there
    ]
    if missing:
        problem = f"{' and '.join(missing)} were not cached, and a loss reads them."
        faults.append(Fault("teacher", problem, "Build another cache with the losses that you train with."))
    return faults


def loss_faults(objective: Objective, contents: Contents, fix: str) -> list[Fault]:
    """Say which losses cannot do with what was cached.

    Args:
        objective: The losses.
        contents: What was cached.
        fix: What to do where something was not.
    """
    faults = uncacheable(objective)
    for name, loss in objective.terms.items():
        if loss.needs_hidden_states:
            wanted = {theirs for _, theirs in getattr(loss, "pairs", ())}
            missing = sorted(wanted - set(contents.layers))
            if missing or not contents.layers:
                which = f" {', '.join(map(str, missing))}" if missing else ""
                faults.append(Fault("losses", f"{name} reads hidden states{which} that were not cached.", fix))
        if loss.needs_embeddings and not contents.embedding_width:
            faults.append(Fault("losses", f"{name} reads embeddings, which were not cached.", fix))
        if loss.unit == "row" and contents.logits == "none":
            faults.append(Fault("losses", f"{name} reads logits, which were not cached.", fix))
    if contents.top_k:
        faults += top_k_faults(objective, contents.temperature)
    return faults
