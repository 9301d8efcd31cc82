"""Reasons: rendered in English and for a reader, stored and read back."""

import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone, translation
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.reasons import (
    NO_REASON,
    Ago,
    AlertRef,
    Param,
    Person,
    Reason,
    ReasonType,
    Term,
    each_of,
    joined,
    reason_as_json,
    reason_from,
    reason_from_json,
    sentence,
)

MOMENT = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
WAITS = ReasonType("testing.waits", "{user} waits for {span} until {until}")
COUNTED = ReasonType("testing.counted", "{count} page waits", plural="{count} pages wait")
NESTED = ReasonType("testing.nested", "Not paged: {why}")
ANY = ReasonType("testing.any", "{value}")


def test_english_has_moments_in_utc_whatever_is_active():
    reason = WAITS(user=Person("Ann", 3), span=timedelta(minutes=90), until=MOMENT)
    with translation.override("de"), timezone.override(ZoneInfo("Asia/Tokyo")):
        assert str(reason) == "Ann waits for 1 hour 30 minutes until 2026-11-24 10:00 UTC"


def test_localized_has_moments_in_the_readers_zone():
    reason = WAITS(user=Person("Ann"), span=timedelta(minutes=1), until=MOMENT)
    assert (
        reason.localized("en", ZoneInfo("Europe/Zurich")) == "Ann waits for 1 minute until Tue 24 Nov 2026, 11:00 CET"
    )


def test_parameters_speak_the_readers_language():
    assert ANY(value=timedelta(minutes=3)).localized("de") == "3 Minuten"
    assert ANY(value=Ago(timedelta(minutes=3))).localized("de") == "vor 3 Minuten"
    assert ANY(value=12_345).localized("de") == "12.345"
    assert ANY(value=("a", "b", "c")).localized("de") == "a, b und c"
    assert ANY(value=Term("critical")).localized("de") != "critical"


def test_plural_follows_the_count():
    assert str(COUNTED(count=1)) == "1 page waits"
    assert str(COUNTED(count=0)) == "0 pages wait"
    assert str(COUNTED(count=1_200)) == "1,200 pages wait"


def test_parameters_that_the_template_does_not_have_are_rejected():
    with pytest.raises(TypeError, match="expected"):
        NESTED(what="x")


def test_code_is_defined_once_and_well_formed():
    with pytest.raises(ValueError, match="twice"):
        ReasonType("testing.nested", "again")
    with pytest.raises(ValueError, match="not a reason code"):
        ReasonType("Nested", "no area")


def test_unknown_code_is_rendered_as_the_code():
    assert str(reason_from("gone.plugin", {"x": 1})) == "gone.plugin"


def test_code_of_an_earlier_version_is_rendered_as_its_text():
    stored = reason_from("maintenance.ordinal_nd", {"number": 2})
    assert str(stored) == "2nd"
    nested = reason_from_json(
        {"code": "reason.joined", "data": {"parts": [{"code": "field.required", "data": {}}] * 2, "separator": " "}}
    )
    assert str(nested) == "is required. is required."
    assert nested.localized("de") != str(nested)


def test_text_is_stored_by_its_template():
    reason = sentence("{count} alert", "{count} alerts", count=3)
    assert reason_from_json(json.loads(json.dumps(reason_as_json(reason)))) == reason
    assert str(reason) == "3 alerts"
    assert str(Reason("A text that is gone, of {user}.", (("user", "Ann"),))) == "A text that is gone, of Ann."


def test_no_reason_is_false_and_empty():
    assert not NO_REASON
    assert str(NO_REASON) == NO_REASON.localized("de") == ""
    assert reason_from("", {}) == NO_REASON


def test_joined_reasons_are_found_again():
    first, second, third = ANY(value="a"), ANY(value="b"), ANY(value="c")
    assert joined(first) is first
    assert joined(NO_REASON, first) is first
    assert str(joined(first, joined(second, third, separator=", "))) == "a; b, c"
    assert each_of(joined(first, joined(second, third))) == (first, second, third)


def test_placeholder_in_a_parameter_is_not_filled_in():
    assert str(NESTED(why="{why} {user}")) == "Not paged: {why} {user}"


def test_unstorable_characters_are_replaced():
    assert ANY(value="a\x00b\ud800").data == {"value": "a\ufffdb\ufffd"}


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
_params: st.SearchStrategy[Param] = st.recursive(
    st.one_of(
        _texts,
        st.integers(-(2**40), 2**40),
        st.datetimes(timezones=st.just(UTC)),
        st.dates(),
        st.timedeltas(timedelta(0), timedelta(days=400)),
        st.builds(Ago, st.timedeltas(timedelta(0), timedelta(days=400))),
        st.builds(Term, _texts),
        st.builds(Person, _texts, st.none() | st.integers(1, 9)),
        st.builds(AlertRef, st.integers(1, 9)),
    ),
    lambda inner: st.builds(lambda value: ANY(value=value), inner) | st.lists(inner, max_size=3).map(tuple),
)


@given(_params)
def test_stored_reason_reads_back_as_it_was(value):
    reason = ANY(value=value)
    again = reason_from(reason.code, reason.data)
    assert again == reason
    assert str(again) == str(reason)
    assert again.localized("de") == reason.localized("de")


def test_stored_reason_is_equal_whatever_the_order_of_its_columns():
    reason = WAITS(user=Person("Ann", 3), span=timedelta(minutes=1), until=MOMENT)
    assert reason_from(reason.code, dict(reversed(reason.data.items()))) == reason


_json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_json)
def test_any_stored_json_renders(value):
    assert isinstance(str(reason_from("testing.any", {"value": value})), str)


@pytest.mark.parametrize("value", [{"at": ""}, {"day": "2026-13-01"}, {"seconds": 1e300}, {"seconds_ago": 1e300}])
def test_stored_time_that_is_none_is_shown_as_stored(value):
    assert str(reason_from("testing.any", {"value": value})["value"]) == str(value)


def test_date_is_shown_in_the_readers_language():
    assert str(ANY(value=date(2026, 11, 24))) == "2026-11-24"
    assert ANY(value=date(2026, 11, 24)).localized("de") == "Di, 24. Nov 2026"
    assert Reason("testing.any") != ANY(value="")
