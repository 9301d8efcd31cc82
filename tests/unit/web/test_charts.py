"""Charts drawn as SVG: scales, columns, lines, heat maps."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.web.templatetags import reports
from tocsin.web.templatetags.reports import Axes, Scale, Series


def drawn(html: str) -> ElementTree.Element:
    """The chart, which must be well-formed."""
    return ElementTree.fromstring(f"<div>{html}</div>")


def axes(count: int, scale: Scale, text: str = "x") -> Axes:
    return Axes("Alerts & <more>", [text] * count, [f"{text} {number}" for number in range(count)], scale, str)


@given(st.floats(0, 1e9))
def test_number_scale_reaches_the_largest_in_few_round_steps(largest: float) -> None:
    scale = reports.number_scale(largest)
    assert scale.top >= largest
    assert 2 <= len(scale.ticks) <= 6
    assert str(int(scale.step)).rstrip("0") in ("1", "2", "5")


@given(st.floats(0, 3e7))
def test_duration_scale_reaches_the_largest_in_few_steps(largest: float) -> None:
    scale = reports.duration_scale(largest)
    assert scale.top >= largest
    assert 2 <= len(scale.ticks) <= 6


@pytest.mark.parametrize(
    ("largest", "ticks"), [(0, [0, 1]), (100, [0, 30, 60, 90, 120]), (7000, [0, 1800, 3600, 5400, 7200])]
)
def test_duration_scale_has_the_steps_of_a_clock(largest: float, ticks: list[float]) -> None:
    assert reports.duration_scale(largest).ticks == ticks


def test_columns_stack_and_end_at_the_scale() -> None:
    picture = drawn(reports.columns(axes(2, Scale(10, 5)), [Series("a", [4, 0]), Series("b", [6, None])]))
    bars = [
        (one.get("class"), one.get("y"), one.get("height"))
        for one in picture.iter("rect")
        if "hover" not in one.get("class", "")
    ]
    assert bars == [("series-1", "60%", "40%"), ("series-2", "0%", "60%")]
    assert [item.text for item in picture.iter("li")] == ["a", "b"]


def test_chart_has_a_name_and_a_tooltip_for_each_place() -> None:
    picture = drawn(reports.columns(axes(3, Scale(10, 5), "<b>"), [Series("a", [1, 2, 3])]))
    svg = picture.find(".//svg")
    assert svg is not None
    assert (svg.get("role"), svg.get("aria-label")) == ("img", "Alerts & <more>")
    assert [one.text for one in picture.iter("title")] == ["<b> 0", "<b> 1", "<b> 2"]
    assert not list(picture.iter("li"))


def test_line_is_interrupted_where_it_has_no_value() -> None:
    picture = drawn(reports.lines(axes(4, Scale(10, 5)), [Series("p50", [5, 10, None, 0])]))
    assert [one.get("points") for one in picture.iter("polyline")] == ["12.5,50 37.5,0", "87.5,100"]
    assert len(list(picture.iter("circle"))) == 3


@pytest.mark.parametrize("count", [1, 6, 7, 31, 92])
def test_labels_are_few_however_many_places(count: int) -> None:
    picture = drawn(reports.columns(axes(count, Scale(10, 5)), [Series("a", [1] * count)]))
    labels = [one for one in picture.iter("text") if one.get("class") == "chart-x"]
    assert 1 <= len(labels) <= 6


def test_heat_map_is_darkest_at_the_most_and_marks_columns() -> None:
    values = {(0, 0): 1, (1, 1): 10}
    picture = drawn(
        reports.heat_map("Week", ["Mo", "Tu"], ["a", "b"], values, lambda row, column: f"{row}-{column}", [False, True])
    )
    assert [one.get("class") for one in picture.iter("rect")] == ["heat-marked", "heat-1", "heat-0", "heat-0", "heat-5"]
    assert [one.text for one in picture.iter("title")] == ["0-0", "0-1", "1-0", "1-1"]


def test_charts_have_no_style_and_no_script() -> None:
    html = reports.lines(axes(2, Scale(10, 5)), [Series("a", [1, 2])]) + reports.heat_map(
        "W", ["a"], ["b"], {}, lambda *_: "", [False]
    )
    assert not re.search(r"<script|style=|\son\w+=", html)
