"""Figures of quality against time and size, of sizes by component, and of quality by class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfcompress.measure.report import drawing, text
from hfcompress.measure.report.classes import kept_classes
from hfcompress.measure.report.labels import label_bars
from hfcompress.measure.report.text import clean, number, pair, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_LENGTH = 30
_MOST_COMPONENTS = 7
_COMPONENTS = {
    "embeddings": drawing.SKY,
    "attention": drawing.ORANGE,
    "ffn": drawing.GREEN,
    "head": drawing.PURPLE,
    "norm": drawing.YELLOW,
    "other": drawing.REFERENCE,
}
_SPARE = (drawing.BLUE, drawing.VERMILLION, drawing.PURPLE, drawing.YELLOW, drawing.ORANGE, drawing.GREEN)


def quality_against(measurements: Mapping[str, Any], main: str, path: tuple[str, ...], label: str) -> Figure | None:
    """Draw each model's main metric, with its interval, against an amount; None with fewer than two such models.

    Args:
        measurements: Of all models.
        main: The metric.
        path: Where a model's entry holds the amount.
        label: The amount's name and unit.
    """
    scale = 100 if text.is_share(main) else 1
    unit = 1e-6 if path[-1] == "bytes" else 1
    points = []
    for place, model in enumerate(measurements["models"]):
        value, amount = number(model, "quality", "metrics", main), number(model, *path)
        if value is not None and amount is not None:
            interval = pair(model, "quality", "interval") or (value, value)
            points.append((place, unit * amount, scale * value, scale * interval[0], scale * interval[1]))
    if len(points) < 2:
        return None
    figure, (axes,) = drawing.new_figure(3.7)
    for place, x, y, low, high in points:
        axes.plot([x, x], [low, high], color=drawing.colour(place), linewidth=max(1.4, 3.2 - 0.5 * place), zorder=2)
        axes.plot(x, y, zorder=3, **drawing.marker(place))
    axes.set_xlim(0, 1.1 * max(point[1] for point in points) or 1)
    axes.set_xlabel(label)
    axes.set_ylabel(f"{main}, %" if scale == 100 else main)
    axes.grid(axis="y")
    names = [shorten(model["name"], NAME_LENGTH) for model in measurements["models"]]
    label_bars(axes, [(names[place], x, low, high) for place, x, _, low, high in points])
    return figure


def components(measurements: Mapping[str, Any]) -> Figure | None:
    """Draw each model's bytes by component, one bar a model; None where no model has them."""
    models = [model for model in measurements["models"] if _bytes_by_component(model)]
    if not models:
        return None
    found = [_bytes_by_component(model) for model in models]
    names = _component_names(found)
    colours = _component_colours(names)
    figure, (axes,) = drawing.new_figure(0.95 + 0.62 * len(models))
    for row, (model, sizes) in enumerate(zip(models, found, strict=True)):
        _stack(axes, row, sizes, colours, max(sum(each.values()) for each in found))
        total = number(model, "bytes")
        label_row(axes, row, shorten(model["name"], NAME_LENGTH), f"{text.megabytes(total)} MB" if total else "")
    finish_rows(axes, len(models), "MB")
    handles = [axes.barh([0], [0], color=colours[name], label=name) for name in names]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=_columns(len(names)), handlelength=0.9, handleheight=0.9
    )
    return figure


def _columns(entries: int) -> int:
    """Return how many columns make a legend of at most four columns even."""
    return entries if entries <= 4 else min(4, -(-entries // 2))


def _stack(axes: Axes, row: int, sizes: Mapping[str, float], colours: Mapping[str, str], longest: float) -> None:
    """Draw one model's bar; parts that are wide enough bear their MB."""
    start = 0.0
    for name, colour in colours.items():
        size = sizes.get(name, 0) if name != "other" else _rest(sizes, colours)
        edge = 0.8 if size > 0.01 * longest else 0
        axes.barh(row, size, left=start, height=0.46, color=colour, edgecolor=drawing.SURFACE, linewidth=edge)
        if size > 0.085 * longest:
            ink = drawing.ON_COLOUR.get(colour, drawing.NEARLY_BLACK)
            axes.text(start + size / 2, row, f"{size:.3g}", color=ink, ha="center", va="center", fontsize=9)
        start += size


def _rest(sizes: Mapping[str, float], named: Collection[str]) -> float:
    return sum(size for name, size in sizes.items() if name not in named or name == "other")


def _bytes_by_component(model: Mapping[str, Any]) -> dict[str, float]:
    """Return MB by component."""
    found = {clean(name, 18): number({"": value}, "") for name, value in (model.get("component_bytes") or {}).items()}
    return {name: value / 1e6 for name, value in found.items() if value}


def _component_names(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the components in their order, the smallest of too many together as `other`, which comes last."""
    names = list(dict.fromkeys(name for sizes in found for name in sizes if name != "other"))
    largest = sorted(names, key=lambda name: -max(sizes.get(name, 0) for sizes in found))[:_MOST_COMPONENTS]
    rest = len(names) > len(largest) or any("other" in sizes for sizes in found)
    return [name for name in names if name in largest] + (["other"] if rest else [])


def _component_colours(names: Sequence[str]) -> dict[str, str]:
    spare = [one for one in _SPARE if one not in {_COMPONENTS.get(name) for name in names}]
    return {name: _COMPONENTS.get(name) or (spare.pop(0) if spare else drawing.REFERENCE) for name in names}


def label_row(axes: Axes, row: int, name: str, figures: str) -> None:
    """Write a model's name above its bar, and its figures at the right end."""
    for x, side, words, ink in ((0.0, "left", name, drawing.INK), (1.0, "right", figures, drawing.MUTED)):
        axes.text(
            x, row - 0.33, words, transform=axes.get_yaxis_transform(), ha=side, va="bottom", color=ink, fontsize=9.5
        )


def finish_rows(axes: Axes, rows: int, label: str) -> None:
    """Turn axes into rows from top to bottom over a horizontal scale that begins at zero."""
    axes.set_ylim(rows - 0.6, -0.85)
    axes.set_xlim(left=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=3)
    axes.set_xlabel(label)


def classes(measurements: Mapping[str, Any]) -> Figure | None:
    """Draw the F1 of each class for each model, one row a class; None where no model has classes."""
    models = [(place, model) for place, model in enumerate(measurements["models"]) if model.get("classes")]
    if not models:
        return None
    before = {str(row["label"]): row for row in models[0][1]["classes"]}
    labels = [str(row["label"]) for row in kept_classes(models[-1][1]["classes"], before)]
    figure, (axes,) = drawing.new_figure(1.15 + 0.25 * (len(models) + 1) // 2 + 0.3 * len(labels))
    rows = {label: row for row, label in enumerate(labels)}
    points: dict[int, list[float]] = {}
    for place, model in models:
        found = [(number(row, "f1"), rows.get(str(row["label"]))) for row in model["classes"]]
        known = [(100 * f1, row) for f1, row in found if f1 is not None and row is not None]
        for f1, row in known:
            points.setdefault(row, []).append(f1)
        axes.plot(
            [f1 for f1, _ in known],
            [row for _, row in known],
            label=shorten(model["name"], NAME_LENGTH),
            zorder=3,
            **drawing.marker(place),
        )
    for row, values in points.items():
        axes.plot([min(values), max(values)], [row, row], color=drawing.LINE, linewidth=2.5, zorder=1)
    axes.set_yticks(range(len(labels)), [shorten(label, 22) for label in labels], color=drawing.INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    low, high = (pick(map(pick, points.values()), default=50.0) for pick in (min, max))
    spread = max(10.0, 1.16 * (high - low))  # so that a tenth of a point does not look like much
    axes.set_xlim((low + high - spread) / 2, (low + high + spread) / 2)
    axes.set_xlabel("F1, %")
    figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3)
    return figure
