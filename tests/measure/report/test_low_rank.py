"""Ranks: layers that share a panel, dots where the ranks are, and what is said of expected and measured loss."""

import numpy as np
import pytest

from hfcompress.measure.report import drawing, low_rank, text
from tests.measure.report import measured


@pytest.fixture
def found():
    return measured.low_rank()


def test_layers_of_one_kind_share_a_panel(found):
    panels = low_rank.panels(found)
    assert [(one.name, one.numbers, len(one.curves)) for one in panels] == [
        ("attention.self.query", ("0", "5"), 6),
        ("output.dense", ("0", "5"), 6),
    ]
    first = panels[0].curves[1]
    assert np.array(first.lost) == pytest.approx(np.array([(0, 100), (8, 20), (32, 1.5), (96, 0.2), (384, 0)]))
    assert (first.rank, first.depth, panels[0].curves[0].rank) == (40, 0.2, None)


def test_too_many_kinds_are_drawn_together(found):
    for place, layer in enumerate(found["layers"]):
        layer |= {"name": f"encoder.stages.0.part{place}.weight", "outputs": 384}
    found["layers"] += [{**found["layers"][0], "name": "another"}]
    (panel,) = low_rank.panels(found)
    assert (panel.name, len(panel.curves)) == ("all layers", 13)


def test_what_cannot_be_drawn_is_left_out(found):
    found["layers"][0]["lost"] = [1.0]
    found["layers"][2]["lost"] = None
    found["layers"][4]["outputs"] = "many"
    found["layers"].append("a layer")
    assert [len(panel.curves) for panel in low_rank.panels(found)] == [6, 3]
    assert low_rank.panels({"layers": [{"name": "one"}]}) == []
    assert low_rank.findings({"steps": [{"findings": {"low_rank": []}}, "a step"]}) == []


def test_dots_stand_on_the_curves_at_the_ranks(found):
    with drawing.style("test"):
        _, (axes,) = drawing.new_figure(low_rank.HEIGHT)
        low_rank.draw_panel(axes, low_rank.panels(found)[0])
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in dots] == [40, 48, 56, 64, 72]
    ranks, lost = [0, 8, 32, 96, 384], [100, 20, 1.5, 0.2, low_rank._LEAST / 10]
    assert float(dots[0].get_ydata()[0]) == pytest.approx(np.exp(np.interp(40, ranks, np.log(lost))))


@pytest.mark.parametrize("layers", [6, 12])
def test_titles_and_keys_do_not_lie_on_each_other(layers):
    panel = low_rank.panels(measured.low_rank(layers))[0]
    with drawing.style("test"):
        figure, (axes,) = drawing.new_figure(low_rank.HEIGHT)
        low_rank.draw_panel(axes, panel)
        figure.canvas.draw()
    boxes = [axes._left_title.get_window_extent(), *(one.get_window_extent() for one in axes.texts)]
    assert [one.get_text() for one in axes.texts] == ["layer 0", str(layers - 1)]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert boxes[-1].x1 <= figure.bbox.x1


def test_expected_and_measured_loss_stand_beside_each_other(found):
    with drawing.style("test"):
        (axes,) = low_rank.draw_losses(found).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["this model, expected"] == [[pytest.approx(59.98), 1.2e-3]]
    assert lines["this model, measured"] == [[pytest.approx(59.98), 9.6e-4]]
    assert lines["one ratio for all"][0] == pytest.approx([29.67, 0.05])
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == pytest.approx(9.6e-6)
    assert axes.get_xlabel() == "parameters of these layers kept, %"


def test_what_is_no_divergence_is_a_share_beside_which_nothing_measured_stands():
    found = measured.low_rank(is_divergence=False) | {"cost": "latency"}
    with drawing.style("test"):
        (axes,) = low_rank.draw_losses(found).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert "this model, measured" not in lines
    assert lines["this model, expected"] == [[pytest.approx(59.98), pytest.approx(0.08)]]
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)
    assert axes.get_xlabel() == "time of these layers kept, %"


def test_without_other_budgets_there_is_no_figure(found):
    assert low_rank.draw_losses(found | {"by_budget": [], "by_ratio": None}) is None
    assert low_rank.draw_losses(found | {"predicted_loss": None}) is None


def test_the_page_says_what_came_of_it(found):
    (block,) = low_rank.blocks({"steps": [{"name": "small", "findings": {"low_rank": found}}]})
    assert (block["name"], block["thin"], block["left_out"], block["squares"]) == ("small", "10 of 12", 0, True)
    assert block["facts"] == [
        ("expected loss", "0.0012 nats an example"),
        ("measured divergence", "9.6 × 10⁻⁴ nats an example, on 64 training rows"),
        ("parameters of these layers", "6.4 M of 10.6 M"),
    ]
    assert block["dense"][1] == {
        "name": "bert.encoder.layer.0.output.dense",
        "shape": "384 × 1,536",
        "largest": "306",
    }
    shares = low_rank._facts(found | {"is_divergence": False})
    assert shares[0] == ("expected loss", "0.08 % of the outputs, by what the loss sees of them")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.00123, "0.0012"), (45.67, "46"), (9.6e-4, "9.6 × 10⁻⁴"), (1e-5, "1.0 × 10⁻⁵"), (-3e7, "−3.0 × 10⁷")],
)
def test_small_numbers_are_written_with_powers_of_ten(value, shown):
    assert text.scientific(value) == shown


def test_a_power_alone_has_no_factor():
    assert text.scientific(1e-5, 1) == "10⁻⁵"
