"""What low-rank steps found out: what each layer loses by rank, which layers stay dense, expected and measured loss."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfcompress.measure.report import drawing, text
from hfcompress.measure.report.text import clean, number, pair

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PLACES = 12  # with more kinds of layers, all are drawn together
_LEAST = 0.01  # %, the lowest that is drawn: what is lost beyond is nothing to any reader
_RAMP = (drawing.BLUE, drawing.GREEN, drawing.ORANGE)  # from the first layer to the last
_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")
_MOST_DENSE = 200

HEIGHT = 2.9
"""Inches of a panel."""


@dataclass(frozen=True)
class Curve:
    """What one layer loses.

    Args:
        name: The layer.
        depth: Its place among the layers of its kind, 0 to 1.
        lost: Ranks, and the shares that are lost at them, in percent.
        squares: The same of its weights' squares; empty where that is what the method counts.
        rank: What was chosen; None for a layer that stays dense.
    """

    name: str
    depth: float
    lost: list[tuple[float, float]]
    squares: list[tuple[float, float]]
    rank: float | None


@dataclass(frozen=True)
class Panel:
    """Layers of one kind.

    Args:
        name: What their names have in common behind the number.
        numbers: The first and the last layer's number, as far as they have one.
        curves: One a layer.
    """

    name: str
    numbers: tuple[str, str]
    curves: list[Curve]


def findings(record: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what low-rank steps found out, with the steps' names."""
    steps = [step for step in (record or {}).get("steps") or () if isinstance(step, Mapping)]
    found = [(clean(step.get("name", ""), 60), (step.get("findings") or {}).get("low_rank")) for step in steps]
    return [(name, one) for name, one in found if isinstance(one, Mapping) and isinstance(one.get("layers"), list)]


def panels(found: Mapping[str, Any]) -> list[Panel]:
    """Return the curves of the layers, kind by kind, in the model's order."""
    layers = [layer for layer in found["layers"] if isinstance(layer, Mapping) and _points(found, layer, "lost")]
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        kinds.setdefault(_place(layer)[1], []).append(layer)
    if len(kinds) > _MOST_PLACES:
        kinds = {"all layers": layers}
    return [_panel(name, found, own) for name, own in kinds.items()]


def _panel(name: str, found: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> Panel:
    last = max(len(layers) - 1, 1)
    curves = [
        Curve(
            clean(layer.get("name", ""), 80),
            place / last,
            _points(found, layer, "lost"),
            _points(found, layer, "squares_lost"),
            number(layer, "rank"),
        )
        for place, layer in enumerate(layers)
    ]
    return Panel(text.shorten(name, 40), (_place(layers[0])[0], _place(layers[-1])[0]), curves)


def _place(layer: Mapping[str, Any]) -> tuple[str, str]:
    """Return the number of the block that a layer stands in, if any, and its name behind that."""
    name = clean(layer.get("name", ""), 200)
    found = _NUMBER.search(name)
    return ("", name) if found is None else (found[1], name[found.end() :])


def _points(found: Mapping[str, Any], layer: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    """Return a curve in percent; empty where it is not known."""
    shares, grids = layer.get(key), found.get("ranks")
    full = min(number(layer, "outputs") or 0, number(layer, "inputs") or 0)
    ranks = grids.get(f"{full:.0f}") if isinstance(grids, Mapping) else None
    if not isinstance(shares, list) or not isinstance(ranks, list) or len(shares) != len(ranks):
        return []
    pairs = [pair({"": both}, "") for both in zip(ranks, shares, strict=True)]
    return [(rank, max(100 * share, 0.0)) for rank, share in filter(None, pairs)]


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw what layers of one kind lose by rank, a dot at the rank that was chosen, over that of their weights."""
    import numpy as np

    axes.set_title(panel.name, loc="left", fontsize=10.5, color=drawing.INK, pad=8)
    axes.set_yscale("log")
    axes.set_ylim(_LEAST, 130)
    axes.set_xlim(0, max(rank for curve in panel.curves for rank, _ in curve.lost))
    axes.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.set_xlabel("rank")
    axes.set_ylabel("lost, %")
    _draw_band(axes, [curve.squares for curve in panel.curves if curve.squares])
    look: Any = {"marker": "o", "markersize": 5, "markeredgecolor": drawing.SURFACE, "markeredgewidth": 0.6}
    for curve in panel.curves:
        tone = _tone(curve.depth)
        ranks, lost = np.array(curve.lost).T
        lost = lost.clip(_LEAST / 10)
        axes.plot(ranks, lost, color=tone, linewidth=1.1, alpha=0.9, zorder=2)
        if curve.rank is not None:
            height = float(np.exp(np.interp(curve.rank, ranks, np.log(lost))))
            axes.plot(curve.rank, max(height, _LEAST), color=tone, zorder=3, clip_on=False, **look)
    _draw_key(axes, panel)


def _draw_band(axes: Axes, curves: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Draw the room between the lowest and the highest of several curves."""
    import numpy as np

    if curves:
        ranks = np.unique([rank for curve in curves for rank, _ in curve])
        lost = np.array([np.interp(ranks, *np.array(curve).T) for curve in curves]).clip(_LEAST / 10)
        axes.fill_between(ranks, lost.min(0), lost.max(0), color=drawing.LINE, linewidth=1, zorder=1)


def _tone(depth: float) -> str:
    """Return the colour of a layer between the first, 0, and the last, 1."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    return to_hex(LinearSegmentedColormap.from_list("depth", _RAMP)(depth))


def _draw_key(axes: Axes, panel: Panel) -> None:
    """Draw which colour is which layer, at the top on the right, where the curves have fallen."""
    first, last = panel.numbers
    if len(panel.curves) < 2 or not first or first == last:
        return
    place = axes.transAxes
    look: Any = {"linewidth": 3.5, "solid_capstyle": "butt", "clip_on": False, "transform": place}
    for step in range(12):
        start = 0.74 + 0.015 * step
        axes.plot([start, start + 0.015], [1.06, 1.06], color=_tone(step / 11), **look)
    for x, words, side in ((0.72, f"layer {first}", "right"), (0.936, last, "left")):
        axes.text(x, 1.06, words, transform=place, ha=side, va="center", fontsize=9, color=drawing.MUTED)


def draw_losses(found: Mapping[str, Any]) -> Figure | None:
    """Draw the loss that is expected for what is kept: by budget, with one ratio for all, and of this model.

    What was measured stands beside it where it can be compared; None where nothing is expected of other budgets.
    """
    scale = 1.0 if found.get("is_divergence") else 100 / (number(found, "loss_of_all") or 1)
    lines = [
        ("ranks by what pays best", _expected(found, "by_budget", scale), drawing.BLUE, "-"),
        ("one ratio for all", _expected(found, "by_ratio", scale), drawing.VERMILLION, "--"),
    ]
    share, loss = number(found, "share"), number(found, "predicted_loss")
    measured = number(found, "measured_loss") if found.get("is_divergence") else None
    if share is None or loss is None or not any(points for _, points, _, _ in lines):
        return None
    figure, (axes,) = drawing.new_figure(3.7)
    for label, points, tone, form in lines:
        if points:
            axes.plot(*zip(*points, strict=True), color=tone, linestyle=form, linewidth=1.6, label=label, zorder=2)
    dots = [
        ("this model, expected", scale * loss, "o", drawing.BLUE),
        ("this model, measured", measured, "D", drawing.REFERENCE),
    ]
    for label, value, form, tone in dots:
        if value is not None and value > 0:
            look: Any = {"markersize": 8, "markeredgecolor": drawing.SURFACE, "linestyle": "none"}
            axes.plot(100 * share, value, marker=form, color=tone, label=label, zorder=3, **look)
    _scale_losses(axes, [value for _, value, _, _ in dots if value], bool(found.get("is_divergence")))
    axes.grid(axis="y")
    axes.set_xlabel(f"{_COSTS.get(str(found.get('cost')), 'parameters')} of these layers kept, %")
    axes.set_ylabel("divergence, nats an example" if found.get("is_divergence") else "lost, %")
    figure.legend(loc="outside upper left", ncols=2, handletextpad=0.5)
    return figure


def _scale_losses(axes: Axes, drawn: Sequence[float], is_divergence: bool) -> None:
    """Let shares begin at nothing; divergences span powers of ten, but none far below what is drawn of the model."""
    if not is_divergence:
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log")
    axes.minorticks_off()
    lowest = min(drawn, default=0) / 100
    if lowest > axes.get_ylim()[0]:
        axes.set_ylim(bottom=lowest)
    axes.yaxis.set_major_formatter(lambda value, _: text.scientific(value, 1))


_COSTS = {"parameters": "parameters", "macs": "multiply-accumulates", "latency": "time"}


def _expected(found: Mapping[str, Any], key: str, scale: float) -> list[tuple[float, float]]:
    """Return shares in percent and the losses that are expected, in the order of the shares."""
    pairs = [pair({"": both}, "") for both in found.get(key) or ()]
    return sorted((100 * share, scale * loss) for share, loss in filter(None, pairs) if loss > 0)


def blocks(record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return for each step what the page says in words and tables."""
    return [_block(name, found) for name, found in findings(record)]


def _block(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    layers = [layer for layer in found["layers"] if isinstance(layer, Mapping)]
    dense = [layer for layer in layers if number(layer, "rank") is None]
    rows = [
        {
            "name": clean(layer.get("name", ""), 120),
            "shape": " × ".join(f"{number(layer, key) or 0:,.0f}" for key in ("outputs", "inputs")),
            "largest": f"{number(layer, 'largest') or 0:,.0f}",
        }
        for layer in dense[:_MOST_DENSE]
    ]
    return {
        "name": name,
        "thin": f"{len(layers) - len(dense)} of {len(layers)}",
        "counts": clean(found.get("loss", ""), 80),
        "squares": any(layer.get("squares_lost") for layer in layers),
        "facts": _facts(found),
        "dense": rows,
        "left_out": max(0, len(dense) - _MOST_DENSE),
    }


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was expected and what came of it."""
    loss, whole, measured = (number(found, key) for key in ("predicted_loss", "loss_of_all", "measured_loss"))
    after, before, rows = (number(found, key) for key in ("parameters", "dense_parameters", "measured_on"))
    facts = []
    if loss is not None:
        share = f"{100 * loss / whole:.3g} % of the {clean(found.get('loss', ''), 80)}" if whole else text.plain(loss)
        facts.append(
            ("expected loss", f"{text.scientific(loss)} nats an example" if found.get("is_divergence") else share)
        )
    if measured is not None:
        facts.append(
            (
                "measured divergence",
                f"{text.scientific(measured)} nats an example, on {rows or 0:,.0f} training rows",
            )
        )
    if after is not None and before:
        facts.append(("parameters of these layers", f"{text.count(after)} of {text.count(before)}"))
    return facts
