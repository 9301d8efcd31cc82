"""Who is on call in a group that has no schedule."""

from __future__ import annotations

from datetime import datetime

from tocsin.oncall.rota import Member, by_role, on_call
from tocsin.people.members import MemberRole

PRIMARY, SECONDARY, MANAGER = MemberRole


def test_the_holders_of_each_role_are_on_call_in_the_groups_order(now: datetime) -> None:
    members = [
        Member(3, "Carol", frozenset({MANAGER, PRIMARY}), position=2),
        Member(1, "Alice", frozenset({PRIMARY}), position=0),
        Member(2, "Bob", frozenset({SECONDARY}), position=1),
    ]
    people = on_call("Service Desk", members, now)
    assert [(person.role, person.name) for person in people] == [
        ("primary", "Alice"),
        ("primary", "Carol"),
        ("secondary", "Bob"),
        ("manager", "Carol"),
    ]
    assert people[0].reason == "primary of Service Desk; the group has no schedule"
    assert (people[0].since, people[0].until) == (None, None)


def test_somebody_switched_off_is_not_on_call(now: datetime) -> None:
    assert on_call("Desk", [Member(1, "Alice", frozenset({PRIMARY}), is_active=False)], now) == ()


def test_a_role_that_nobody_has_is_absent(now: datetime) -> None:
    people = on_call("Desk", [Member(1, "Alice", frozenset({PRIMARY}))], now)
    assert set(by_role(people)) == {PRIMARY}
