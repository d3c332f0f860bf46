"""How figures are drawn: one palette for light and dark, SVG that follows the page's colours, PNG for the card."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that follow the reader's scheme, (light, dark). Figures are drawn in the light ones; in an SVG each becomes
# the variable of the page, so no two may be alike. Texts keep a contrast of 4.5 on `surface` and on `panel`.
THEME = {
    "ink": ("#1b2026", "#e9ecef"),
    "muted": ("#56606b", "#a7b0ba"),
    "line": ("#d3d9df", "#39414a"),
    "ghost": ("#e8ebee", "#2a3037"),
    "surface": ("#fefefe", "#14171b"),
    "panel": ("#f5f6f8", "#1c2026"),
    "accent": ("#00639c", "#6bbcf0"),
    "worse": ("#a83f00", "#ff9f66"),
    "better": ("#00714f", "#4fd0a5"),
    "reference": ("#4a525b", "#c1c8d0"),
}
INK, MUTED, LINE, GHOST, SURFACE, REFERENCE = (
    THEME[name][0] for name in ("ink", "muted", "line", "ghost", "surface", "reference")
)

# Okabe and Ito (2008): distinct for colour-blind readers, in print, and on light and dark grounds alike.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, YELLOW = "#e69f00", "#56b4e9", "#f0e442"
SERIES = (REFERENCE, BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
MARKERS = (("o", 11), ("s", 8.5), ("^", 8.5), ("D", 5.5), ("v", 8), ("P", 8), ("X", 7.5), ("p", 7))  # form and size
ON_COLOUR = {BLUE: "#fdfdfd", REFERENCE: "#fdfdfd"}  # what is written on a colour; on all others nearly black
NEARLY_BLACK = "#0b0c0d"

COLUMN = 5.0  # inches: two figures side by side on a wide page, one on a telephone, where letters stay readable
_FALLBACK_FONTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Arial Unicode MS", "Noto Sans")

_STYLE: dict[str, Any] = {
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a label may hold dollar signs
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": SURFACE,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "svg.fonttype": "none",  # text stays text: readable aloud, selectable, in any script
    "figure.dpi": 100,
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """Draw in the report's style; the name makes the ids in an SVG the same in every run."""
    import matplotlib
    from matplotlib import font_manager

    with warnings.catch_warnings(), matplotlib.rc_context():
        matplotlib.rcdefaults()  # nobody's own style changes the page
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        installed = {font.name for font in font_manager.fontManager.ttflist}
        families = ["DejaVu Sans", *(font for font in _FALLBACK_FONTS if font in installed)]
        settings: Any = _STYLE | {"font.family": families, "svg.hashsalt": name}
        matplotlib.rcParams.update(settings)
        yield


def new_figure(height: float, width: float = COLUMN, rows: int = 1, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """Return an empty figure of so many inches, and its axes row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def colour(place: int) -> str:
    """Return the colour of a model; the first is neutral."""
    return SERIES[place] if place < len(SERIES) else SERIES[1 + (place - 1) % (len(SERIES) - 1)]


def marker(place: int) -> dict[str, Any]:
    """Return how a model's points look: a form each, the first the largest, so that none hides another."""
    form, size = MARKERS[place % len(MARKERS)]
    look = {"marker": form, "markersize": size, "color": colour(place), "linestyle": "none"}
    return look | {"markeredgecolor": SURFACE, "markeredgewidth": 0.8}


def to_svg(figure: Figure, name: str, title: str) -> str:
    """Return a figure as an `svg` element for a page: its colours are the page's, its ids its own."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    inner = drawn[drawn.index(">") + 1 :]
    used = set(re.findall(r'<[^>]*(?:url\(#|href="#)([^")]+)', inner))
    # Only inside tags: matplotlib escapes `<` and `>` in texts, so that a foreign text is never touched.
    inner = re.sub(r"<[^>]+>", lambda tag: _for_page(tag[0], name, used), inner)
    width, height = (value * 72 for value in figure.get_size_inches())
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{name}-title" '
        f'style="--width: {width / 0.75:.0f}px"><title id="{name}-title">{escape(title)}</title>{inner.strip()}'
    )


def _for_page(tag: str, name: str, used: Collection[str]) -> str:
    """Return a tag of an SVG with ids that no other figure has, the page's font and the page's colours."""
    tag = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", tag)
    tag = tag.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    tag = re.sub(r"font: (?:\d+ )?([\d.]+px) [^;\"]*", r"font-size: \1", tag)
    for role, (light, _) in THEME.items():
        tag = tag.replace(light, f"var(--{role})")
    return tag


def to_png(figure: Figure, path: Path) -> None:
    """Write a figure for a model card, with the same bytes in every run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=160, metadata={"Software": None})
