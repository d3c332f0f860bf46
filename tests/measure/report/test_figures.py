"""Figures: names that do not lie on each other, components that add up, colours that are told apart."""

import itertools

import pytest

from hfcompress.measure.report import drawing, figures, labels, latency
from tests.measure.report.measured import realistic


def boxes_of(bars):
    with drawing.style("test"):
        figure, (axes,) = drawing.new_figure(3.7)
        axes.set_xlim(0, 100)
        labels.label_bars(axes, bars)
        figure.canvas.draw()
        return axes, [text.get_window_extent() for text in axes.texts]


@pytest.mark.parametrize(
    "places", [[10, 50, 90], [50, 50], [50, 50, 50], [0, 1, 2, 3, 100], [10, 11, 12, 13, 14, 15, 16, 17]]
)
def test_names_lie_within_the_figure_and_not_on_each_other(places):
    bars = [(f"a longer name {n}", float(x), 80.0 - n % 2, 84.0 + n % 3) for n, x in enumerate(places)]
    axes, boxes = boxes_of(bars)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1 + 1
        assert box.y1 <= axes.bbox.y1 + 1


def test_names_of_bars_apart_stand_above_them():
    axes, boxes = boxes_of([("one", 20.0, 1.0, 2.0), ("two", 80.0, 1.0, 2.0)])
    for x, box in zip((20, 80), boxes, strict=True):
        assert (box.x0 + box.x1) / 2 == pytest.approx(axes.transData.transform((x, 0))[0], abs=1)


def test_fewer_than_two_points_are_no_figure():
    measurements, _ = realistic()
    for model in measurements["models"][1:]:
        model["quality"] = None
    assert figures.quality_against(measurements, "accuracy", ("bytes",), "MB") is None


def test_stacked_parts_add_up_to_all_bytes():
    measurements, _ = realistic()
    measurements["models"] = measurements["models"][:1]
    measurements["models"][0]["component_bytes"] = {f"part {n}": (n + 1) * 1e6 for n in range(11)} | {"other": 5e5}
    with drawing.style("test"):
        (axes,) = figures.components(measurements).axes
    widths = [patch.get_width() for patch in axes.patches if patch.get_width() > 0]
    assert sum(widths) == pytest.approx(66.5)
    assert len(widths) == 8
    assert widths[-1] == pytest.approx(1 + 2 + 3 + 4 + 0.5)


def test_each_component_has_a_colour_of_its_own():
    names = ["embeddings", "attention", "ffn", "head", "norm", "bottleneck", "convolution", "other"]
    found = figures._component_colours(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)


def test_each_of_eight_models_has_a_colour_and_a_form_of_its_own():
    assert len({drawing.colour(place) for place in range(8)}) == 8
    assert len({drawing.marker(place)["marker"] for place in range(8)}) == 8
    assert drawing.colour(9) == drawing.colour(2)


def test_colours_that_follow_the_page_are_told_apart():
    light = [pair[0] for pair in drawing.THEME.values()]
    fixed = [*drawing.SERIES[1:], *drawing.ON_COLOUR.values(), drawing.NEARLY_BLACK]
    assert len(set(light)) == len(light)
    assert not set(light) & set(fixed)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("name", ["ink", "muted", "accent", "worse", "better"])
def test_texts_have_contrast(name, scheme):
    for ground in ("surface", "panel"):
        assert contrast(drawing.THEME[name][scheme], drawing.THEME[ground][scheme]) >= 4.5


@pytest.mark.parametrize("colour", [*drawing.SERIES[1:], drawing.REFERENCE])
def test_what_is_written_on_a_colour_has_contrast(colour):
    assert contrast(drawing.ON_COLOUR.get(colour, drawing.NEARLY_BLACK), colour) >= 4.5


def test_panels_are_the_settings_in_their_order():
    measurements, _ = realistic()
    found = latency.panels(measurements)
    assert [title for title, _ in found] == [
        "batch 1 · 32 tokens · 1 thread",
        "batch 1 · 128 tokens · 1 thread",
        "batch 32 · 128 tokens · 1 thread",
        "batch 1 · 128 tokens · 2 threads",
    ]
    assert [len(rows) for _, rows in found] == [4, 4, 4, 4]
    assert latency.rounds_of(found) == 40


def test_without_settings_the_headline_is_the_one_panel():
    measurements, _ = realistic()
    for model in measurements["models"]:
        model["latencies"] = None
    measurements["models"][1]["latency"] = None
    ((title, rows),) = latency.panels(measurements)
    assert title == "batch 1 · 128 tokens · 1 thread"
    assert [place for place, _, _ in rows] == [0, 2, 3]
    assert latency.rounds_of([(title, rows)]) == 0
