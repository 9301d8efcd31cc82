"""Typed specs are read strictly, and every problem is reported at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import Field

from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import require_storable
from tocsin.core.validation.spec import (
    Duration,
    Line,
    ListOf,
    Moment,
    Name,
    Names,
    OneOf,
    Spec,
    SpecErrors,
    TimeZone,
    at_most,
    list_of_choices,
)
from tocsin.wiring import install

install()


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Wheel(Spec):
    """A wheel."""

    label: Annotated[Line, Field(max_length=10)] = Field(min_length=1, description="Label.")
    spokes: int = Field(default=20, ge=3, le=40, description="Number of spokes.")
    wait: Annotated[Duration, at_most(timedelta(days=1))] = Field(default=timedelta(), description="Delay.")

    def check(self, errors: SpecErrors) -> None:
        if self.spokes == 13:
            errors.add("spokes", "must not be 13.", "unlucky")


class Bike(Spec):
    """A bike."""

    name: Name
    size: Annotated[Size, OneOf()] = Field(default=Size.SMALL, description="Size.")
    is_new: bool = Field(default=True, alias="new", description="Whether it is new.")
    zone: TimeZone | None = Field(default=None, description="Where it is.")
    bought_at: Moment | None = Field(default=None, alias="from", description="Since when.")
    wheels: ListOf[Wheel] = Field(default=(), description="Wheels.")
    spare: Wheel | None = Field(default=None, description="Spare wheel.")
    names: Names = Field(default=(), description="Names.")
    sizes: Annotated[tuple[Size, ...], list_of_choices(Size)] = Field(default=(), description="Sizes.")

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("wheels", (wheel.label for wheel in self.wheels), "label")
        if not self.wheels:
            errors.add("wheels", "at least one is required.", "missing")


WHOLE: dict[str, Any] = {
    "name": "Anna", "size": "large", "new": False, "zone": "Europe/Zurich", "from": "2026-12-24T17:00",
    "wheels": [{"label": "front", "spokes": 28, "wait": "1h30m"}, {"label": "back"}], "spare": {"label": "old"},
    "names": ["a", "b"], "sizes": ["large"],
}  # fmt: skip


def codes(value: object, path: str = "", **context: Any) -> dict[str | None, str]:
    """By place, the code that the reason has."""
    with pytest.raises(Rejected) as raised:
        Bike.read(value, path, **context)
    errors = raised.value.problems if isinstance(raised.value, RejectedAll) else [raised.value]
    return {error.field: _inner_code(error) for error in errors}


def _inner_code(error: Rejected) -> str:
    reason: Any = error.reason
    return str((reason["problem"] if reason.code == "{path}: {problem}" else reason).code)


def test_valid_object_is_read_and_written_back() -> None:
    bike = Bike.read(WHOLE, zone="Europe/Zurich")
    assert bike.size is Size.LARGE
    assert bike.bought_at == datetime(2026, 12, 24, 16, tzinfo=UTC)
    assert bike.wheels[0].wait == timedelta(minutes=90)
    assert {**bike.written(), "from": WHOLE["from"]} == WHOLE


def test_all_errors_are_reported_at_once_with_places() -> None:
    value = {
        "name": "a/b", "size": "huge", "new": "no", "zone": "Mars", "from": "2026-12-24", "colour": 1, "nmae": 2,
        "wheels": [{"label": " "}, {"spokes": 2}, {"label": "x", "lable": "y"}, {"label": "X"}, 5],
        "names": ["a", "a", 1], "spare": {"label": "a\nb", "wait": "2d"}, "sizes": ["small", "huge"],
    }  # fmt: skip
    assert codes(value) == {
        "name": "A name must not contain a slash (/), because names are used in URLs.", "size": '"{value}" is not '
        'one of {choices}.', "new": "must be true or false.", "zone": '"{value}" is not a time zone. Use a name '
        'like Europe/Zurich or UTC.',
        "from": '"{value}" is not a date and time; write it like 2026-12-24T17:00 or 2026-12-24T16:00:00Z.',
        "colour": "unknown key; known keys: {known}.",
        "nmae": 'unknown key; did you mean "{suggestion}"?',
        "wheels[0].label": "is required.", "wheels[1].label": "is required.",
        "wheels[1].spokes": "must be a whole number from {minimum} to {maximum}.",
        "wheels[2].lable": 'unknown key; did you mean "{suggestion}"?',
        "wheels[3].label": '"{value}" is listed twice.', "wheels[4]": "must be an object with named values.",
        "spare.label": "must not contain a line break or control character.", "spare.wait": "must be at most "
        "{maximum}.",
        "names[1]": '"{value}" is listed twice.',
        "names[2]": "must be text of 1 to {maximum} characters.",
        "sizes[1]": '"{value}" is not one of {choices}.',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "place", "code"),
    [
        ({"name": None}, "name", "is required."),
        ({"name": 7}, "name", "must be text. Put it in quotes."),
        ({"name": "a\0b"}, "name", "contains a character that cannot be stored."),
        ({"name": "a\ud800b"}, "name", "contains a character that cannot be stored."),
        ({"names": ["a\0b"]}, "names[0]", "contains a character that cannot be stored."),
        ({"new": 1}, "new", "must be true or false."),
        ({"wheels": {}}, "wheels", "must be a list."),
        ({"wheels": [{"label": "x"}] * 1001}, "wheels", "must have at most {maximum} entries, but has {length}."),
        (
            {"wheels": [{"label": "x" * 11}]},
            "wheels[0].label",
            "must have at most {maximum} characters, but has {length}.",
        ),
        (
            {"wheels": [{"label": "x", "spokes": "5"}]},
            "wheels[0].spokes",
            "must be a whole number from {minimum} to {maximum}.",
        ),
        (
            {"wheels": [{"label": "x", "spokes": True}]},
            "wheels[0].spokes",
            "must be a whole number from {minimum} to {maximum}.",
        ),
        (
            {"wheels": [{"label": "x", "wait": 5}]},
            "wheels[0].wait",
            '"{text}" is not a duration. Use a format like 90s, 5m, 1h30m or 1w.',
        ),
        ({"spare": []}, "spare", "must be an object with named values."),
        ({"from": "2500-01-01T00:00"}, "from", '"{value}" is too far away.'),
    ],
)
def test_bad_value_is_rejected_with_its_place(changes: dict[str, object], place: str, code: str) -> None:
    assert codes({**WHOLE, **changes}) == {place: code}


@pytest.mark.parametrize("value", [None, [], "text", 7])
def test_non_object_is_rejected(value: object) -> None:
    assert codes(value) == {None: "must be an object with named values."}
    assert codes(value, "bike") == {"bike": "must be an object with named values."}


def test_places_begin_with_the_path_of_the_object() -> None:
    assert codes({**WHOLE, "size": "x"}, "bikes[2]") == {"bikes[2].size": '"{value}" is not one of {choices}.'}
    with pytest.raises(Rejected) as raised:
        Wheel.read_list([{"label": "a"}, {}], "wheels")
    assert raised.value.field == "wheels[1].label"


def test_null_counts_as_absent() -> None:
    wheel = Wheel.read({"label": "x", "spokes": None})
    assert wheel.spokes == 20


def test_check_runs_although_other_fields_have_errors() -> None:
    with pytest.raises(Rejected) as raised:
        Wheel.read({"label": 7, "spokes": 13})
    assert set(raised.value.fields) == {"label", "spokes"}


def test_further_check_adds_to_the_errors() -> None:
    with pytest.raises(RejectedAll) as raised:
        Bike.read({**WHOLE, "size": "x"}, check=lambda bike, errors: errors.add("name", "is taken.", "name_taken"))
    assert [error.code for error in raised.value.problems] == ["invalid", "name_taken"]


def test_consequence_of_another_error_is_not_reported() -> None:
    assert codes({**WHOLE, "wheels": 5}) == {"wheels": "must be a list."}


def _specs(kind: type[Spec] = Spec) -> Iterator[type[Spec]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__.startswith("tocsin."):
            yield subclass
        yield from _specs(subclass)


@pytest.mark.parametrize("kind", sorted(_specs(), key=lambda kind: kind.__qualname__), ids=lambda kind: kind.__name__)
def test_every_field_has_a_description_and_limits(kind: type[Spec]) -> None:
    for name, schema in kind.json_schema()["properties"].items():
        assert schema.get("description", "").endswith("."), name
        if schema.get("type") == "string":
            assert schema.keys() & {"maxLength", "enum", "pattern"}, name
        default = schema.get("default")
        assert not isinstance(default, str) or not re.match(r"P[\dT]", default), "an ISO 8601 duration"


@pytest.mark.parametrize("text", ["0", "90s", "1h30m", "1w 2d", "5", "m5", "1m1h", "", "1 h"])
def test_pattern_of_durations_matches_what_is_read(text: str) -> None:
    pattern = Wheel.json_schema()["properties"]["wait"]["pattern"]
    try:
        inputs.parse_duration(text)
    except Rejected:
        assert not text or not re.search(pattern, text)
    else:
        assert re.search(pattern, text)


@pytest.mark.parametrize(
    ("value", "path", "code"),
    [
        ({"factor": float("inf")}, "settings.factor", "must be a finite number."),
        (
            {"days": [date(2026, 11, 24)]},
            "settings.days[0]",
            "must be text, a number, true, false, a list or an object with named values.",
        ),
    ],
)
def test_value_that_json_cannot_store_is_rejected(value: object, path: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        require_storable(value, "settings")
    assert caught.value.field == path
    assert code in str(caught.value.reason.data)
