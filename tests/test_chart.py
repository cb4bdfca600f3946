"""Charts: well-formed, with a text for who does not see them, and as high as what they show."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from bigncc import chart
from bigncc.registration import Registration, Sites
from bigncc.sections import table_of
from bigncc.summary import BINS, Summary
from bigncc.transform import Translation
from tests.test_sections import LAYOUT, said
from tests.test_summary import of


def drawn(text):
    """Parse a drawing and check what all of them have."""
    found = ET.fromstring(text)
    assert found.get("role") == "img"
    assert found.get("aria-label")
    # shapes and classes only: nothing runs, and nothing is asked for
    assert {each.tag for each in found.iter()} <= {"svg", "rect", "line", "polyline", "circle", "text"}
    assert not any(name in ("style", "href", "onload") for each in found.iter() for name in each.attrib)
    return found


def test_the_bars_of_a_histogram_are_as_high_as_its_shares():
    values = np.clip(np.random.default_rng(0).normal(0.5, 0.3, 500), -1, 1)
    summary = of(values.tolist())
    bars = [each for each in drawn(chart.histogram(summary, 0.25)).iter("rect") if each.get("class") == "bar"]
    heights = np.array([float(bar.get("height")) for bar in bars])
    counts = np.array([n for n in summary.histogram if n])
    np.testing.assert_allclose(heights / heights.sum(), counts / counts.sum(), atol=1e-3)
    left = [float(bar.get("x")) for bar in bars]
    assert left == sorted(left)
    assert len({bar.get("fill") for bar in bars}) > 10


def test_the_cumulative_share_ends_at_one_and_is_told_at_the_threshold():
    summary = of([-0.9, 0.1, 0.6, 0.8])
    text = chart.cumulative(summary, 0.5)
    (curve,) = drawn(text).iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in curve.get("points").split()]
    assert len(points) == BINS + 1
    heights = [y for _, y in points]
    assert heights == sorted(heights, reverse=True)
    assert (heights[0], heights[-1]) == (chart.HIGH - chart.BOTTOM, chart.TOP)
    assert "50.0 % of the valid area is below 0.5" in text


@pytest.mark.parametrize("draw", [chart.histogram, chart.cumulative])
def test_nothing_is_drawn_of_nothing(draw):
    assert not list(drawn(draw(Summary(), 0.5)).iter("circle"))


def test_bad_sections_are_shaded_where_they_are():
    items = {(z,): of([0.1 if z == 20 else 0.8] * 9) for z in range(30)}
    found = drawn(chart.sections(table_of(said(items), LAYOUT)))
    (shade,) = [each for each in found.iter("rect") if each.get("class") == "suspect"]
    dots = [float(each.get("cx")) for each in found.iter("circle")]
    assert len(dots) == 30
    inside = [
        z for z, x in enumerate(dots) if float(shade.get("x")) < x < float(shade.get("x")) + float(shade.get("width"))
    ]
    assert inside == [20]
    assert "suspect sections: 20" in found.get("aria-label")


def test_residuals_are_drawn_at_their_sites_to_one_scale():
    positions = np.array([[10.0, 20.0], [50.0, 90.0], [70.0, 30.0]])
    residuals = np.array([[0.1, 0.0], [0.0, -0.2], [9.0, 9.0]])
    sites = Sites(positions, residuals, residuals, np.ones(3), np.array([True, True, False]))
    shift = Translation((0.0, 0.0))
    found = drawn(chart.residuals(Registration(shift, shift, (0.1, 0.1), sites, "translation", (100, 120))))
    arrows = [each for each in found.iter("line") if each.get("class") == "arrow"]
    ends = np.array([[float(a.get(name)) for name in ("x1", "x2", "y1", "y2")] for a in arrows])
    np.testing.assert_allclose(ends[:, 3] - ends[:, 2], [20, 0], atol=0.11)
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], [0, -40], atol=0.11)
    assert len([each for each in found.iter("line") if each.get("class") == "apart"]) == 2
    assert "2 of 3 sites agree" in found.get("aria-label")


def test_words_cannot_leave_their_place():
    words = '"><script>alert(1)</script>'
    found = drawn(chart.shares([(0.25, "agrees", ""), (0.75, "none", "")], words))
    assert found.get("aria-label") == words
    assert [float(each.get("width")) for each in found.iter("rect")] == [25, 75]
