"""Cleaning of each field type: length limits, numbers, empty dates, and never an error."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.inbound import fields
from tocsin.inbound.fields import CLEANERS, FIELDS, Attachment, FieldKind, priority_of


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (34.0, "34"),
        (34.5, "34.5"),
        (-0.0, "0"),
        (1e300, "1e+300"),
        (float("nan"), None),
        (float("inf"), None),
        (7, "7"),
        (True, "true"),
        (False, "false"),
        (None, None),
        ("", None),
        ([], None),
        ({}, None),
        ([1, "a", None, 2.0], "1, a, 2"),
        ({"id": 1, "name": "Acme"}, '{"id":1,"name":"Acme"}'),
        ([[1], [2]], "[[1],[2]]"),
        ({"a": "\ud800"}, "(dict)"),
    ],
)
def test_values_become_text(value: object, message: str | None) -> None:
    assert fields.text_of(value) == message


def test_an_integer_of_any_length_becomes_text() -> None:
    assert fields.text_of(10**5000) is not None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("  VPN\r\n down \t now ", "VPN down now"),
        ("a\x00b\ud800c", "a\ufffdb\ufffdc"),
        ("   ", None),
        ("\x1f", None),
        ("x" * 301, "x" * 299 + "…"),
        ("x" * 300, "x" * 300),
        ("Zürich\u00a0HB", "Zürich HB"),
    ],
)
def test_a_line_is_one_clean_line(value: str, message: str | None) -> None:
    assert fields.clean_line(value, 300) == message


def test_text_keeps_its_line_breaks() -> None:
    assert fields.clean_text("a\r\n\x00b", 100) == "a\r\n\ufffdb"
    assert fields.clean_text(" \n ", 100) is None
    assert fields.clean_text("y" * 200, 100) == "y" * 99 + "…"


def test_two_long_ids_that_begin_alike_stay_different() -> None:
    one, two = (fields.clean_id("x" * 100_000 + end, 200) for end in "ab")
    assert one is not None
    assert two is not None
    assert one != two
    assert len(one) <= 200
    assert fields.clean_id(20817.0, 200) == "20817"


@pytest.mark.parametrize("value", ["javascript:alert(1)", "ftp://x", "//x", "x", "http://" + "x" * 3000, 7])
def test_only_web_addresses_are_links(value: object) -> None:
    assert fields.clean_url(value, 2000) is None


def test_a_web_address_is_a_link() -> None:
    assert fields.clean_url(" HTTPS://acme.example/ticket?id=7 ", 2000) == "HTTPS://acme.example/ticket?id=7"


@pytest.mark.parametrize("value", ["1900-01-01T00:00:00", "0001-01-01T00:00:00Z", "01/01/1900 00:00:00", None, ""])
def test_a_date_that_is_not_set_is_no_value(value: object) -> None:
    assert fields.clean_date(value, 40) is None


def test_a_date_stays_as_its_sender_wrote_it() -> None:
    assert fields.clean_date("2026-11-24T09:29:58.91", 40) == "2026-11-24T09:29:58.91"


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2026-11-24T09:15:02.1234567Z", datetime(2026, 11, 24, 9, 15, 2, 123456, tzinfo=UTC)),
        ("2026-11-24T10:15:02+01:00", datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)),
        ("2026-11-24 09:15:02", datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)),
        (1_795_511_702, datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)),
        ("1795511702000", datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)),
        (1_795_511_702.5, datetime(2026, 11, 24, 9, 15, 2, 500_000, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_in_utc(value: object, at: datetime) -> None:
    assert fields.parse_moment(value) == at


@pytest.mark.parametrize(
    "value",
    [
        *("24/11/2026 09:14:58", "soon", "", "1900-01-01T00:00:00", "0001-01-01T00:00:00+14:00"),
        *("9999-12-31T23:59:59-14:00", "x" * 1000, True, -1, 0, 1e300, float("nan"), 10**400, [], {}, None),
    ],
)
def test_what_is_no_moment_is_no_value(value: object) -> None:
    assert fields.parse_moment(value) is None


@pytest.mark.parametrize(
    ("word", "priority"),
    [
        ("Critical", "critical"),
        ("1 - Critical", "critical"),
        ("P1", "critical"),
        ("VIP Critical", "critical"),
        ("sev2", "high"),
        ("HIGH", "high"),
        ("Warning", "medium"),
        ("P3 (Medium)", "medium"),
        ("informational", "low"),
        ("1", None),
        ("Priority 1", None),
        ("Low to High", None),
        ("", None),
        ("Sofort", None),
    ],
)
def test_usual_priority_names_are_understood_and_others_are_not_guessed(word: str, priority: str | None) -> None:
    assert priority_of(word) == priority


def test_names_come_from_lists_and_from_text() -> None:
    assert fields.clean_names("alice, bob;  bob\n", 100) == ("alice", "bob")
    assert fields.clean_names(["alice", None, 7, "alice"], 100) == ("alice", "7")
    assert fields.clean_names(["x"] * 3 + [str(i) for i in range(1000)], 100) is not None
    assert len(fields.clean_names([str(i) for i in range(1000)], 100) or ()) == fields.MAX_NAMES
    assert fields.clean_names([], 100) is None


def test_attachments_are_links_with_names() -> None:
    assert fields.clean_attachments(
        [{"url": "https://x.example/a/b.png"}, {"link": "http://y", "name": "Y"}, "no", 7], 2000
    ) == (
        Attachment("https://x.example/a/b.png", "b.png"),
        Attachment("http://y", "Y"),
    )


@pytest.mark.parametrize(
    ("value", "message"), [("Yes", True), (1, True), (0, False), ("maybe", None), ([], None), (True, True)]
)
def test_flags(value: object, message: bool | None) -> None:
    assert fields.clean_flag(value) is message


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "L"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)


@given(st.sampled_from(sorted(FIELDS)), anything)
def test_every_value_is_cleaned_into_a_storable_result(name: str, value: object) -> None:
    field = FIELDS[name]
    found_value = CLEANERS[field.kind](value, field.length)
    texts = found_value if isinstance(found_value, tuple) else (found_value,)
    for text in texts:
        if isinstance(text, str):
            assert text
            assert "\x00" not in text
            text.encode()
            assert len(text) <= field.length
            if field.kind not in (FieldKind.TEXT,):
                assert "\n" not in text
