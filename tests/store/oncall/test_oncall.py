"""Schedules and support hours as saved, and the resulting on-call users."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.people import ACTOR, make_group, make_user
from tocsin.access.models import AuditEntry
from tocsin.core import hooks
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.changes import commands
from tocsin.oncall.models import Schedule
from tocsin.people.models import Group, User
from tocsin.resources import registry

pytestmark = pytest.mark.usefixtures("database")

SCHEDULE: dict[str, object] = {
    "name": "Desk 24x7",
    "group": "Desk",
    "time_zone": "Europe/Zurich",
    "shifts": [
        {
            "name": "Weekly",
            "rotate": {
                "every": "1w",
                "at": "09:00",
                "on": "monday",
                "users": ["alice", "bob"],
                "roles": ["primary", "secondary"],
            },
            "start": "2026-01-05",
        },
        {
            "name": "Office",
            "fixed": {
                "windows": [{"days": ["mon", "tue"], "from": "08:00", "to": "18:00"}],
                "roles": ["lead"],
                "users": ["carol"],
            },
        },
    ],
}


@pytest.fixture
def desk_group(database: str, now: datetime) -> Group:
    for name in ("alice", "bob", "carol"):
        make_user(name, now, name=name.title())
    return make_group("Desk", now, members=("alice", "bob"))


@pytest.mark.usefixtures("desk_group")
def test_schedule_with_unknown_user_is_rejected_with_location(now: datetime) -> None:
    shift = {"name": "W", "start": "2026-01-05", "rotate": {"at": "09:00", "users": ["alice", "mallory"]}}
    with pytest.raises(Rejected) as raised:
        commands.save_schedule({**SCHEDULE, "shifts": [shift]}, actor=ACTOR, now=now)
    assert raised.value.field == "shifts[0].rotate.users[1]"
    with pytest.raises(Rejected) as raised:
        commands.save_schedule({**SCHEDULE, "group": "Nobody"}, actor=ACTOR, now=now)
    assert raised.value.field == "group"
    assert not Schedule.objects.exists()


@pytest.mark.usefixtures("desk_group")
def test_schedule_round_trips_and_follows_a_renamed_user(now: datetime) -> None:
    schedule = commands.save_schedule(SCHEDULE, actor=ACTOR, now=now)
    assert commands.schedule_spec(schedule) == SCHEDULE
    User.objects.filter(username="carol").update(username="caroline")
    assert commands.schedule_spec(schedule)["shifts"][1]["fixed"]["users"] == ["caroline"]


def test_on_call_users_are_resolved_for_several_groups_at_once(desk_group: Group, now: datetime) -> None:
    commands.save_schedule(SCHEDULE, actor=ACTOR, now=now)
    other = make_group("Other", now, members=("carol", "alice"))
    at = datetime(2026, 1, 13, 12, tzinfo=UTC)
    with database.transaction() as connection:
        results = loader.on_call(connection, [desk_group.pk, other.pk, desk_group.pk, 10**9], at)
        assert loader.on_call(connection, [], at) == {}
    assert {group: [(str(p.role), p.name) for p in people] for group, people in results.items()} == {
        desk_group.pk: [("primary", "Bob"), ("secondary", "Alice"), ("lead", "Carol")],
        other.pk: [("primary", "Carol"), ("secondary", "Alice")],
    }


def test_shift_of_disabled_user_falls_back_to_group_order(desk_group: Group, now: datetime) -> None:
    commands.save_schedule(SCHEDULE, actor=ACTOR, now=now)
    User.objects.filter(username="bob").update(is_active=False)
    with database.transaction() as connection:
        results = loader.on_call(connection, [desk_group.pk], datetime(2026, 1, 14, 12, tzinfo=UTC))
    assert [(str(p.role), p.name) for p in results[desk_group.pk]] == [("primary", "Alice"), ("secondary", "Alice")]
    assert str(results[desk_group.pk][0].reason) == "primary of Desk; no active shift"


def test_support_hours_are_saved_loaded_and_deleted_with_audit_entries(desk_group: Group, now: datetime) -> None:
    spec = {
        "name": "Office hours",
        "time_zone": "Europe/Zurich",
        "windows": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}],
        "group": "Desk",
    }
    hours = commands.save_support_hours(spec, actor=ACTOR, now=now)
    assert commands.SUPPORT_HOURS.spec(hours) == spec
    with database.transaction() as connection:
        loaded = loader.support_hours(connection)[hours.pk]
    assert loaded.is_open(datetime(2026, 1, 5, 8, tzinfo=UTC))
    assert not loaded.is_open(datetime(2026, 1, 5, 18, tzinfo=UTC))
    assert hooks.references_to("group", desk_group.pk) == [hooks.SUPPORT_HOURS(name="Office hours")]
    registry.SUPPORT_HOURS.delete(hours, actor=ACTOR, now=now)
    actions = AuditEntry.objects.filter(object_type="support_hours").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["create", "delete"]


def test_a_user_with_shifts_is_known_to_be_needed(desk_group: Group, now: datetime) -> None:
    commands.save_schedule(SCHEDULE, actor=ACTOR, now=now)
    carol = User.objects.get(username="carol")
    assert hooks.references_to("user", carol.pk) == [hooks.SCHEDULE(name="Desk 24x7")]
    assert hooks.references_to("group", desk_group.pk) == [hooks.SCHEDULE(name="Desk 24x7")]
