"""Escaped external texts, relative times, and rules after a status action changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.admin.simple_rules import StatusEffect, action_of_status, with_status_action
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer
from tocsin.web.integrations import condition_form
from tocsin.web.templatetags.ui_tags import code_spans
from tocsin.web.ui.formatting import format_moment, format_time_left, initials, is_long, safe_html

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("one\ntwo", "one<br>two"),
        ("<p>Hello <b>you</b></p>", "<p>Hello <b>you</b></p>"),
        ("<p><script>x</script>ok</p>", "<p>ok</p>"),
        ("<b onclick='x()'>b</b>", "<b>b</b>"),
        ("<a href='javascript:x()'>l</a>", '<a rel="noopener noreferrer nofollow">l</a>'),
        ("<p><img src=http://x/y.png></p>", "<p></p>"),
        ("<h1>Big</h1>", "<strong>Big</strong><br>"),
    ],
)
def test_a_text_from_outside_is_shown_without_harm(text: str, shown: str) -> None:
    assert safe_html(text) == shown


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("one line", False),
        ("line\n" * 7, True),
        ("<p>a</p>" * 3, False),
        ("<p>a</p>" * 4, True),
        ("<ul>" + "<li>a</li>" * 7 + "</ul>", True),
    ],
)
def test_description_over_six_lines_is_collapsed(text: str, folded: bool) -> None:
    assert is_long(text) is folded


@given(st.text())
def test_no_text_from_outside_brings_a_script(text: str) -> None:
    for shown in (safe_html(text), safe_html(f"<p>{text}</p>")):
        assert "<script" not in shown.lower()


@pytest.mark.parametrize(
    ("ago", "message"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=50), "1 min ago"),
        (timedelta(minutes=6), "6 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(days=2), "2 d ago"),
        (timedelta(seconds=-30), "in a moment"),
        (timedelta(hours=-2), "in 2 h"),
    ],
)
def test_moment_is_shown_briefly(ago: timedelta, message: str) -> None:
    assert format_moment(NOW - ago, NOW) == message


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (timedelta(minutes=2, seconds=10), "2:10"),
        (timedelta(seconds=5), "0:05"),
        (timedelta(hours=1, minutes=2, seconds=3), "1:02:03"),
        (timedelta(days=3), "3 days"),
        (timedelta(0), "now"),
        (timedelta(seconds=-4), "now"),
    ],
)
def test_a_countdown_counts_minutes_and_seconds(left: timedelta, message: str) -> None:
    assert format_time_left(left) == message


@pytest.mark.parametrize(
    ("name", "letters"),
    [("Alice Andersson", "AA"), ("bob", "BO"), ("j.doe", "JD"), ("Anna-Lena", "AL"), ("🙂", "🙂"), ("", "")],
)
def test_initials_are_two_letters_at_most(name: str, letters: str) -> None:
    assert initials(name) == letters


KIND = load_kinds()["haloitsm"]
HALO = KIND.rules


def by(own: dict[str, Any], status: str) -> StatusEffect:
    """What a status does when an integration has these rules of its own."""
    return action_of_status(compile_normalizer(KIND, IntegrationDefinition(rules=own)), status)


@pytest.mark.parametrize("status", ["New", "Resolved", "Closed", "In Progress", "new stuff", "Überprüft"])
@pytest.mark.parametrize("expected", list(StatusEffect))
@pytest.mark.parametrize("then", list(StatusEffect))
def test_last_status_action_clicked_wins_and_others_are_unchanged(
    status: str, expected: StatusEffect, then: StatusEffect
) -> None:
    others = [other for other in ("New", "Resolved", "Closed", "In Progress", "On Hold") if other != status]
    before = {other: by({}, other) for other in others}
    own = with_status_action({}, HALO, status, expected)
    own = with_status_action(own, HALO, status, then)
    assert by(own, status) is then
    assert {other: by(own, other) for other in others} == before


@pytest.mark.parametrize("status", ["New", "Resolved", "Closed", "In Progress"])
def test_restored_status_action_leaves_no_rule_behind(status: str) -> None:
    usual = by({}, status)
    other = next(one for one in StatusEffect if one is not usual)
    own = with_status_action(with_status_action({}, HALO, status, other), HALO, status, usual)
    assert by(own, status) is usual


@pytest.mark.parametrize(
    ("kind", "status", "effect"),
    [
        ("api", "healed", StatusEffect.CLOSE),
        ("api", "acknowledged", StatusEffect.UPDATE),
        ("api", "wobbly", StatusEffect.OPEN),
        ("logicmonitor", "RESOLVED", StatusEffect.CLOSE),
        ("logicmonitor", "firing", StatusEffect.OPEN),
    ],
)
def test_status_that_no_rule_names_does_what_its_words_say(kind: str, status: str, effect: StatusEffect) -> None:
    assert action_of_status(compile_normalizer(load_kinds()[kind], IntegrationDefinition()), status) is effect


@pytest.mark.parametrize("status", ["healed", "firing", "resolved", "acknowledged"])
@pytest.mark.parametrize("effect", list(StatusEffect))
def test_status_action_decides_before_common_words(status: str, effect: StatusEffect) -> None:
    kind = load_kinds()["api"]
    own = with_status_action({}, kind.rules, status, effect)
    assert action_of_status(compile_normalizer(kind, IntegrationDefinition(rules=own)), status) is effect


def test_yaml_comes_back_as_it_was() -> None:
    value = {"open": {"any": [{"field": "source_status", "operator": "equals", "value": "no"}, {"not": {"x": 1}}]}}
    assert condition_form.read(condition_form.write(value), "rules") == value
    assert condition_form.write({}) == ""
    assert condition_form.read("", "rules") is None


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x", "a: &x [*x]\nb: *y", "!!python/object:os.system x"])
def test_yaml_that_cannot_be_read_names_its_place(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        condition_form.read(text, "rules")
    assert caught.value.field == "rules"


def test_backticks_become_code_and_stay_escaped() -> None:
    assert code_spans("Run `tocsin <backup>` & wait") == "Run <code>tocsin &lt;backup&gt;</code> &amp; wait"
    assert code_spans("a ` alone") == "a ` alone"
