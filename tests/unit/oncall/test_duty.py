"""Who is on call in a group: its schedules decide the roles they name, role holders the others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tocsin.core.errors import Rejected
from tocsin.oncall import duty, schedules, specs
from tocsin.oncall.rota import Member
from tocsin.people.members import MemberRole

ALICE, BOB, CAROL = 1, 2, 3
NAMES = {ALICE: "Alice", BOB: "Bob", CAROL: "Carol"}
MEMBERS = (
    Member(ALICE, "Alice", frozenset({MemberRole.PRIMARY}), 0),
    Member(BOB, "Bob", frozenset({MemberRole.SECONDARY}), 1),
    Member(CAROL, "Carol", frozenset({MemberRole.MANAGER}), 2),
)
WEEKLY = schedules.load(
    "Desk 24x7",
    "UTC",
    {
        "shifts": [
            {
                "name": "Weekly",
                "rotate": {
                    "every": "1w",
                    "at": "09:00",
                    "on": "monday",
                    "users": [BOB, ALICE],
                    "roles": ["primary", "secondary"],
                },
                "start": "2026-01-05",
            }
        ]
    },
)
AT = datetime(2026, 1, 6, tzinfo=UTC)


def test_without_a_schedule_the_role_holders_are_on_call() -> None:
    people = duty.on_call("Desk", MEMBERS, (), NAMES, AT)
    assert [(str(p.role), p.name) for p in people] == [("primary", "Alice"), ("secondary", "Bob"), ("manager", "Carol")]
    assert people[0].reason == "primary of Desk; the group has no schedule"


def test_a_schedule_decides_the_roles_it_names_and_role_holders_the_others() -> None:
    people = duty.on_call("Desk", MEMBERS, (WEEKLY,), NAMES, AT)
    assert [(str(p.role), p.name, p.reason) for p in people] == [
        ("primary", "Bob", "shift Weekly of Desk 24x7"),
        ("secondary", "Alice", "shift Weekly of Desk 24x7"),
        ("manager", "Carol", "manager of Desk; no shift has this role"),
    ]
    assert (people[0].since, people[0].until) == (
        datetime(2026, 1, 5, 9, tzinfo=UTC),
        datetime(2026, 1, 12, 9, tzinfo=UTC),
    )


def test_where_a_schedule_has_a_gap_nobody_is_on_call_in_its_roles() -> None:
    people = duty.on_call("Desk", MEMBERS, (WEEKLY,), NAMES, datetime(2026, 1, 1, tzinfo=UTC))
    assert [person.name for person in people] == ["Carol"]


def test_a_user_who_is_switched_off_is_not_called_by_a_schedule_either() -> None:
    people = duty.on_call("Desk", (), (WEEKLY,), {ALICE: "Alice"}, AT)
    assert [(str(p.role), p.name) for p in people] == [("secondary", "Alice")]


def test_two_schedules_that_name_the_same_person_call_them_once() -> None:
    people = duty.on_call("Desk", (), (WEEKLY, WEEKLY), NAMES, AT)
    assert [(str(p.role), p.name) for p in people] == [("primary", "Bob"), ("secondary", "Alice")]


GOOD_ROTATE = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob"], "roles": ["primary"]}


@pytest.mark.parametrize(
    ("shift", "place", "part"),
    [
        ({}, "shifts[0].rotate", "either rotate or fixed"),
        ({"rotate": GOOD_ROTATE, "fixed": {}}, "shifts[0].fixed", "either"),
        ({"rotate": GOOD_ROTATE, "start": None}, "shifts[0].start", "needed"),
        ({"rotate": GOOD_ROTATE, "start": "5 January"}, "shifts[0].start", "not a date"),
        ({"rotate": GOOD_ROTATE, "start": "2026-02-30"}, "shifts[0].start", "not a date"),
        ({"rotate": GOOD_ROTATE, "end": "2025-01-01"}, "shifts[0].end", "before start"),
        ({"rotate": {**GOOD_ROTATE, "every": "0"}}, "shifts[0].rotate.every", "at least 1h"),
        ({"rotate": {**GOOD_ROTATE, "every": "2 fortnights"}}, "shifts[0].rotate.every", "not a duration"),
        ({"rotate": {**GOOD_ROTATE, "every": "1d"}}, "shifts[0].rotate.on", "whole weeks"),
        ({"rotate": {**GOOD_ROTATE, "on": "someday"}}, "shifts[0].rotate.on", "not a day"),
        ({"rotate": {**GOOD_ROTATE, "at": "25:00"}}, "shifts[0].rotate.at", "not a time"),
        ({"rotate": {**GOOD_ROTATE, "at": None}}, "shifts[0].rotate.at", "needed"),
        ({"rotate": {**GOOD_ROTATE, "users": []}}, "shifts[0].rotate.users", "at least one"),
        ({"rotate": {**GOOD_ROTATE, "users": ["alice", "alice"]}}, "shifts[0].rotate.users[1]", "twice"),
        ({"rotate": {**GOOD_ROTATE, "roles": ["boss"]}}, "shifts[0].rotate.roles[0]", "not one of"),
        (
            {"rotate": {**GOOD_ROTATE, "roles": ["primary", "secondary", "manager"]}},
            "shifts[0].rotate.roles",
            "at least as many users",
        ),
        ({"fixed": {"users": ["alice"], "windows": []}}, "shifts[0].fixed.windows", "at least one"),
        ({"rotate": GOOD_ROTATE, "colour": "red"}, "shifts[0].colour", "unknown key"),
    ],
)
def test_a_bad_shift_is_refused_with_the_place(shift: dict[str, object], place: str, part: str) -> None:
    value = {"name": "24x7", "group": "Desk", "shifts": [{"name": "Weekly", "start": "2026-01-05", **shift}]}
    with pytest.raises(Rejected) as raised:
        specs.read_schedule(value)
    assert part in raised.value.fields[place]


@pytest.mark.parametrize("shifts", [None, [], "weekly", [7]])
def test_a_schedule_needs_shifts(shifts: object) -> None:
    with pytest.raises(Rejected):
        specs.read_schedule({"name": "24x7", "group": "Desk", "shifts": shifts})
