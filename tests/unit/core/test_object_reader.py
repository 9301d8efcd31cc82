"""A definition is read with every problem reported at its location."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tocsin.access.roles import Role
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.validation.object_reader import ObjectReader


def problems(spec: ObjectReader) -> dict[str, str]:
    with pytest.raises(Rejected) as raised:
        spec.finish()
    return raised.value.fields


def test_unknown_key_is_rejected_with_suggestion() -> None:
    spec = ObjectReader({"nmae": "x", "name": "y"})
    spec.name()
    assert problems(spec) == {"nmae": 'nmae: unknown key; did you mean "name"?'}


def test_all_problems_are_reported_at_once_with_locations() -> None:
    spec = ObjectReader(
        {"name": 7, "wait": "soon", "active": "no", "role": "boss", "lists": [{"label": "x", "colour": 1}, 3]}
    )
    spec.name()
    spec.duration("wait", timedelta())
    spec.boolean("active", True)
    spec.one_of("role", Role, Role.RESPONDER)
    for part in spec.nested_list("lists"):
        part.text("label")
        part.reject_unknown_keys()
    with pytest.raises(RejectedAll) as raised:
        spec.finish()
    assert set(raised.value.fields) == {"name", "wait", "active", "role", "lists[0].colour", "lists[1]"}
    assert "Put it in quotes" in raised.value.fields["name"]
    assert "observer, responder, manager and admin" in raised.value.fields["role"]


@pytest.mark.parametrize("value", [None, [], "text", 7])
def test_non_object_is_rejected_without_another_exception(value: object) -> None:
    spec = ObjectReader(value)
    with pytest.raises(Rejected, match="must be an object"):
        spec.finish()


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_text_that_a_database_cannot_hold_is_refused(text: str) -> None:
    spec = ObjectReader({"name": text})
    spec.text("name")
    assert "cannot be stored" in problems(spec)["name"]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "Europe", "", "Europe/Zurich\n", "/etc/localtime"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    spec = ObjectReader({"time_zone": zone})
    spec.time_zone()
    if zone.strip() == "Europe/Zurich":
        spec.finish()
    else:
        assert "is not a time zone" in problems(spec)["time_zone"]


def test_null_counts_as_absent() -> None:
    spec = ObjectReader({"name": None, "wait": None})
    assert spec.text("name", "default") == "default"
    assert spec.duration("wait", timedelta(minutes=1)) == timedelta(minutes=1)
    spec.finish()


def test_a_needed_key_that_is_missing_is_named() -> None:
    spec = ObjectReader({})
    spec.name()
    assert problems(spec) == {"name": "name: is required."}
