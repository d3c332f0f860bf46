"""The structure of each model, layer by layer: heads, FFN neurons, ranks, bits and zeros, beside the widest of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfcompress.measure.report import drawing
from hfcompress.measure.report.figures import NAME_LENGTH
from hfcompress.measure.report.text import clean, number, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SQUARES = 24  # more heads than this are drawn as a bar
_LEFT, _MIDDLE, _NOTES = 0.08, 0.42, 0.7  # where heads, neurons and notes begin
_HEADS, _NEURONS = 0.22, 0.17  # how wide the most of them are


@dataclass(frozen=True)
class Structure:
    """Layers of one model, or of several that are alike.

    Args:
        name: The models' names.
        layers: One entry a layer.
    """

    name: str
    layers: Sequence[Mapping[str, Any]]


def structures(measurements: Mapping[str, Any]) -> list[Structure]:
    """Return the structures that are known; models with the same layers share one."""
    found: list[tuple[list[str], Sequence[Mapping[str, Any]]]] = []
    for model in measurements["models"]:
        layers = model.get("layers")
        if not layers:
            continue
        same = next((names for names, known in found if known == layers), None)
        if same is None:
            found.append(([shorten(model["name"], NAME_LENGTH)], layers))
        else:
            same.append(shorten(model["name"], NAME_LENGTH))
    return [Structure(", ".join(names), layers) for names, layers in found]


def height_of(shown: Sequence[Structure]) -> float:
    """Return the inches that the deepest of these needs."""
    return 0.24 * (1.45 + deepest(shown))


def deepest(shown: Sequence[Structure]) -> int:
    """Return the largest number of layers."""
    return max(len(structure.layers) for structure in shown)


def draw_structure(axes: Axes, structure: Structure, shown: Sequence[Structure], rows: int) -> None:
    """Draw one row a layer.

    Args:
        axes: Where.
        structure: What.
        shown: All that are shown; the largest numbers of heads and neurons give the scale.
        rows: How many layers there is room for.
    """
    heads, neurons = (_most(shown, name) for name in ("heads", "neurons"))
    unlike = len({layer.get("head_size") for one in shown for layer in one.layers} - {None}) > 1
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(rows - 0.4, -1.85)
    axes.text(0, -1.5, clean(structure.name, 68), fontsize=10.5, va="center")
    noted = [
        name for name in ("rank", "bits", "zeros") if any(layer.get(name) is not None for layer in structure.layers)
    ]
    for x, title in ((0, "layer"), (_LEFT, "heads"), (_MIDDLE, "FFN neurons"), (_NOTES, ", ".join(noted))):
        axes.text(x, -0.72, title, color=drawing.MUTED, fontsize=9, va="center")
    for row, layer in enumerate(structure.layers):
        axes.text(0, row, clean(layer.get("layer", row), 8), color=drawing.MUTED, fontsize=9, va="center")
        _draw_heads(axes, row, number(layer, "heads"), heads, number(layer, "head_size") if unlike else None)
        _draw_bar(axes, row, _MIDDLE, _NEURONS, number(layer, "neurons"), neurons, drawing.GREEN)
        axes.text(_NOTES, row, _note(layer, noted), fontsize=8.5, va="center", in_layout=False)


def _most(shown: Sequence[Structure], name: str) -> float:
    return max((number(layer, name) or 0 for structure in shown for layer in structure.layers), default=0)


def _draw_heads(axes: Axes, row: int, heads: float | None, most: float, size: float | None) -> None:
    """Draw a square for each head, and pale ones up to the most of a layer; sizes where they differ."""
    if heads is None or most > _MOST_SQUARES:
        _draw_bar(axes, row, _LEFT, _HEADS - 0.04, heads, most, drawing.ORANGE)
        return
    step = _HEADS / max(most, 8)
    for place in range(int(most)):
        colour = drawing.ORANGE if place < heads else drawing.GHOST
        axes.barh(row, 0.78 * step, left=_LEFT + place * step, height=0.56, color=colour)
    said = f"{heads:.0f}" if size is None else f"{heads:.0f} × {size:.0f}"
    axes.text(_LEFT + most * step + 0.008, row, said, fontsize=9, va="center")


def _draw_bar(axes: Axes, row: int, start: float, width: float, value: float | None, most: float, colour: str) -> None:
    if value is None or not most:
        return
    axes.barh(row, width, left=start, height=0.56, color=drawing.GHOST)
    axes.barh(row, width * value / most, left=start, height=0.56, color=colour)
    axes.text(start + width + 0.012, row, f"{value:,.0f}", fontsize=9, va="center")


def _note(layer: Mapping[str, Any], names: Sequence[str]) -> str:
    """Say what ranks, bits and zeros a layer has, as far as it has any."""
    zeros = number(layer, "zeros")
    found = {name: _one_or_each(layer.get(name)) for name in names if name != "zeros"}
    if zeros is not None:
        found["zeros"] = f"{100 * zeros:.0f} %"
    if len(names) == 1:
        return clean(found.get(names[0], ""), 24)
    forms = {"rank": "rank {}", "bits": "{} bit", "zeros": "{} zeros"}
    return clean(", ".join(forms[name].format(one) for name, one in found.items() if one), 24)


def _one_or_each(value: Any) -> str:
    """Return a number, or where the parts of a layer differ each part's."""
    if isinstance(value, Mapping):
        known = {part: one for part, one in value.items() if one is not None}
        if len(set(known.values())) <= 1:
            return str(next(iter(known.values()), ""))
        return ", ".join(f"{part} {one}" for part, one in known.items())
    return "" if value is None else str(value)
