"""Writing the report: `report.html`, which needs nothing beside itself, and `figures/*.png` for the model card."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, RequestError
from hfcompress.measure.report import classes, details, drawing, figures, latency, low_rank, structure, summary, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("quality_latency", "quality_size", "latency", "components", "layers", "expected_loss", "ranks", "classes")


def report_available() -> bool:
    """Say whether the packages that draw and write the report are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("matplotlib", "jinja2"))


def write_report(measurements: Mapping[str, Any], record: Mapping[str, Any] | None, folder: Path) -> list[Path]:
    """Draw the figures and write the page.

    The same measurements give the same bytes. Texts and labels are foreign: they are escaped, and long ones are cut.

    Args:
        measurements: What `measurements.json` holds; the first model is what the others are compared with.
        record: What `compression.json` holds: steps, source and export; None where there is none.
        folder: Where `report.html` and `figures/` go; figures of an earlier report there are replaced.

    Returns:
        The files written, the page first.

    Raises:
        RequestError: matplotlib or Jinja2 is not installed, or no model was measured.
    """
    if not report_available():
        problem = "the report needs matplotlib and Jinja2, which are not installed."
        raise RequestError(Fault("report", problem, "Run: pip install 'hfcompress[report]'"))
    if not measurements.get("models"):
        raise RequestError(Fault("report", "the measurements hold no model.", "Run: hfcompress bench --model M"))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = folder / "figures"
    drawn = _draw(measurements, record, pictures)
    for name in FIGURES:
        if name not in drawn:
            (pictures / f"{name}.png").unlink(missing_ok=True)
    page = folder / "report.html"
    page.write_text(_render(measurements, record, drawn), encoding="utf-8")
    return [page, *(pictures / f"{name}.png" for name in drawn)]


def _draw(measurements: Mapping[str, Any], record: Mapping[str, Any] | None, folder: Path) -> dict[str, list[str]]:
    """Write PNG files and return SVG elements by figure, in the order of the page; figures without data are absent."""
    main = summary.main_metric(measurements)
    drawn = {}
    single = {
        "quality_latency": (
            lambda: figures.quality_against(measurements, main, ("latency", "median_ms"), "ms a call, median"),
            f"{main} against time",
        ),
        "quality_size": (
            lambda: figures.quality_against(measurements, main, ("bytes",), "MB on disk"),
            f"{main} against size",
        ),
        "components": (lambda: figures.components(measurements), "Size by component"),
        "classes": (lambda: figures.classes(measurements), "F1 by class"),
    }
    for name, (make, title) in single.items():
        with drawing.style(name):
            figure = make()
            if figure is not None:
                drawing.to_png(figure, folder / f"{name}.png")
                drawn[name] = [drawing.to_svg(figure, name, title)]
    drawn["latency"] = _draw_latency(measurements, folder)
    drawn["layers"] = _draw_layers(measurements, folder)
    found = [one for _, one in low_rank.findings(record)]
    drawn["expected_loss"] = _draw_losses(found, folder)
    drawn["ranks"] = _draw_ranks(found, folder)
    return {name: drawn[name] for name in FIGURES if drawn.get(name)}


def _draw_latency(measurements: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw each setting by itself for the page, and all together for the card."""
    panels = latency.panels(measurements)
    drawn = []
    with drawing.style("latency"):
        for place, panel in enumerate(panels):
            figure, (axes,) = drawing.new_figure(latency.panel_height(panel))
            latency.draw_panel(axes, panel)
            drawn.append(drawing.to_svg(figure, f"latency-{place}", f"Time a call, {panel[0]}"))
        if panels:
            height = max(map(latency.panel_height, panels))
            figure, all_axes = _grid(len(panels), height)
            for axes, panel in zip(all_axes, panels, strict=False):
                latency.draw_panel(axes, panel)
            drawing.to_png(figure, folder / "latency.png")
    return drawn


def _draw_layers(measurements: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw each structure by itself for the page, and all together for the card."""
    shown = structure.structures(measurements)
    drawn = []
    with drawing.style("layers"):
        for place, one in enumerate(shown):
            figure, (axes,) = drawing.new_figure(structure.height_of([one]))
            structure.draw_structure(axes, one, shown, len(one.layers))
            drawn.append(drawing.to_svg(figure, f"layers-{place}", f"Layers of {one.name}"))
        if shown:
            figure, all_axes = _grid(len(shown), structure.height_of(shown))
            for axes, one in zip(all_axes, shown, strict=False):
                structure.draw_structure(axes, one, shown, structure.deepest(shown))
            drawing.to_png(figure, folder / "layers.png")
    return drawn


def _draw_losses(found: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Draw the expected loss of each low-rank step; the card gets the last one's."""
    drawn = []
    with drawing.style("expected_loss"):
        for place, one in enumerate(found):
            figure = low_rank.draw_losses(one)
            if figure is not None:
                drawn.append(drawing.to_svg(figure, f"expected_loss-{place}", "Expected loss by what is kept"))
                drawing.to_png(figure, folder / "expected_loss.png")
    return drawn


def _draw_ranks(found: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Draw what each kind of layer loses by rank, by itself for the page, and all together for the card."""
    panels = [panel for one in found for panel in low_rank.panels(one)]
    drawn = []
    with drawing.style("ranks"):
        for place, panel in enumerate(panels):
            figure, (axes,) = drawing.new_figure(low_rank.HEIGHT)
            low_rank.draw_panel(axes, panel)
            drawn.append(drawing.to_svg(figure, f"ranks-{place}", f"Lost by rank, {panel.name}"))
        if panels:
            figure, all_axes = _grid(len(panels), low_rank.HEIGHT)
            for axes, panel in zip(all_axes, panels, strict=False):
                low_rank.draw_panel(axes, panel)
            drawing.to_png(figure, folder / "ranks.png")
    return drawn


def _grid(panels: int, height: float) -> tuple[Figure, Sequence[Any]]:
    """Return a figure for several panels, at most two side by side, without the axes that stay empty."""
    columns = min(2, panels)
    rows = -(-panels // columns)
    figure, axes = drawing.new_figure(height * rows, drawing.COLUMN * columns, rows, columns)
    for empty in axes[panels:]:
        empty.set_axis_off()
    return figure, axes


def _render(measurements: Mapping[str, Any], record: Mapping[str, Any] | None, drawn: Mapping[str, list[str]]) -> str:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hfcompress.measure.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    models = measurements["models"]
    return environment.get_template("page.html").render(
        theme=drawing.THEME,
        css=Markup(_read("page.css")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_digest=digest,
        figures={name: [Markup(svg) for svg in svgs] for name, svgs in drawn.items()},  # noqa: S704 - matplotlib escapes
        main=summary.main_metric(measurements),
        models=[_column(model) for model in models],
        task=measurements["task"],
        headline=summary.headline(measurements),
        table=summary.table(measurements),
        words=summary.in_words(measurements),
        parts=details.component_rows(measurements),
        timed=details.latency_rows(measurements),
        rounds=latency.rounds_of(latency.panels(measurements)),
        low_rank=low_rank.blocks(record),
        classes=classes.class_blocks(measurements),
        examples=details.example_rows(measurements),
        examples_total=measurements.get("examples_total") or len(measurements.get("examples") or ()),
        steps=details.steps(record),
        bits=details.bits(record),
        description=text.clean((record or {}).get("description") or "", 400),
        facts=details.facts(measurements, record),
    )


def _read(name: str) -> str:
    return (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")


def _column(model: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands above a model's column."""
    kind = " · ".join(str(model[key]) for key in ("runtime", "precision") if model.get(key))
    return {"name": text.clean(model["name"], 60), "kind": text.clean(kind, 60)}
