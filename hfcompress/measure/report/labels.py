"""Names above vertical bars in a figure, raised where they would lie on each other or on a bar."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfcompress.measure.report import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels
_GAP = 5  # pixels
_FONT = 9.5
_HIGHEST = 260  # pixels that a name is raised at most
_CROSSED = 40.0  # so many pixels higher is as bad as a crossed name


def label_bars(axes: Axes, bars: Sequence[tuple[str, float, float, float]]) -> None:
    """Write a name above each bar, and make room for all names within the axes.

    Args:
        axes: With the horizontal limits that stay.
        bars: Name, place, lower and upper end, in data coordinates.
    """
    lowest, highest = min(bar[2] for bar in bars), max(bar[3] for bar in bars)
    span = highest - lowest or abs(highest) or 1.0
    top = highest + 0.25 * span
    for _ in range(4):  # more room makes the bars shorter, which moves the names a little
        axes.set_ylim(lowest - 0.06 * span, top)
        axes.figure.canvas.draw()
        placed = _place(axes, bars)
        needed = max(box[3] for box in placed) - axes.bbox.y1
        if needed <= 0:
            break
        top += 1.1 * needed / axes.bbox.height * (top - lowest)
    for (name, x, _, high), box in zip(bars, placed, strict=True):
        to_data = axes.transData.inverted()
        _, bottom = to_data.transform((box[0], box[1]))
        middle, _ = to_data.transform(((box[0] + box[2]) / 2, box[1]))
        axes.plot([x, x], [high, bottom], color=drawing.MUTED, linewidth=0.7, zorder=1)
        axes.text(middle, bottom, name, ha="center", va="bottom", fontsize=_FONT, zorder=4)


def _place(axes: Axes, bars: Sequence[tuple[str, float, float, float]]) -> list[Box]:
    """Return a box for each name: the lowest that is free. Of several orders to place them in, the best."""
    stems = []
    for _, x, low, high in bars:
        (middle, bottom), (_, top) = axes.transData.transform([(x, low), (x, high)])
        stems.append((middle - 2, bottom, middle + 2, top))
    sizes = [_size(axes, name) for name, *_ in bars]
    from_left = sorted(range(len(bars)), key=lambda place: stems[place][0])
    from_below = sorted(range(len(bars)), key=lambda place: stems[place][3])
    tried = [_in_order(axes, order, stems, sizes) for order in (from_left, from_left[::-1], from_below)]
    return min(tried, key=lambda found: found[0])[1]


def _in_order(
    axes: Axes, order: Sequence[int], stems: Sequence[Box], sizes: Sequence[tuple[float, float]]
) -> tuple[float, list[Box]]:
    """Place names one after the other, above the bar or beside the line that leads there, and say how bad it looks.

    No name lies on a bar or on another name; a name on another's line counts as much as one that is raised high.
    """
    names: dict[int, Box] = {}
    lines: list[Box] = []
    badness = 0.0
    for place in order:
        left, _, right, top = stems[place]
        width, height = sizes[place]
        starts = [_within(axes, start, width) for start in ((left + right - width) / 2, right + 1, left - 1 - width)]
        others = [stem for index, stem in enumerate(stems) if index != place]
        bad, box = 10.0 * _HIGHEST, (left, top, left + width, top + height)
        for up, start in itertools.product(range(_GAP, _HIGHEST, 2), starts):
            if up >= bad:
                break  # no name further up looks better
            tried = (start, top + up, start + width, top + up + height)
            if any(_meet(tried, taken) for taken in (*names.values(), *others)):
                continue
            crossed = sum(_meet(tried, line) for line in lines)
            crossed += sum(_meet((left, top, right, tried[1]), name) for name in names.values())
            if up + _CROSSED * crossed < bad:
                bad, box = up + _CROSSED * crossed, tried
        badness += bad
        names[place] = box
        lines.append((left, top, right, box[1]))
    return badness, [names[place] for place in range(len(stems))]


def _within(axes: Axes, start: float, width: float) -> float:
    return float(min(max(start, axes.bbox.x0 + 2), axes.bbox.x1 - width))


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _size(axes: Axes, name: str) -> tuple[float, float]:
    """Return how wide and high a name will be, in pixels, with some room for other fonts."""
    text = axes.text(0, 0, name, fontsize=_FONT)
    extent = text.get_window_extent()
    text.remove()
    return float(extent.width) + 8, float(extent.height) + 3
