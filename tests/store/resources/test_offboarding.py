"""A user is replaced everywhere by another one: in one transaction, or nowhere."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.people import ACTOR, make_group, make_user
from tocsin.access.models import AuditEntry
from tocsin.core import hooks
from tocsin.core.errors import Rejected
from tocsin.escalation.commands import save_policy
from tocsin.oncall.changes.commands import save_schedule
from tocsin.oncall.changes.overrides import save_absence, save_override
from tocsin.oncall.models import Override
from tocsin.people.changes import out_of_office
from tocsin.people.models import User
from tocsin.resources import offboarding
from tocsin.resources.registry import GROUPS, INTEGRATIONS, POLICIES, SCHEDULES, WORKFLOWS
from tocsin.resources.resource import Resource

pytestmark = pytest.mark.usefixtures("database")

WEEKLY = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob", "carol"]}


@pytest.fixture(autouse=True)
def configured(database: str, now: datetime) -> None:
    """Alice is in a group, a shift, a policy, an integration, a workflow, two overrides and an absence of Carol."""
    for name in ("alice", "bob", "carol", "dave"):
        make_user(name, now)
    by: dict[str, Any] = {"actor": ACTOR, "now": now}
    make_group("Desk", now, members=("alice", "bob", "carol"))
    save_schedule(
        {"name": "Desk 24x7", "group": "Desk", "time_zone": "UTC",
         "shifts": [{"name": "Weekly", "rotate": WEEKLY, "start": "2026-01-05"}]}, **by,
    )  # fmt: skip
    save_policy({"name": "Standard", "steps": [{"notify": {"users": ["alice", "bob"]}}]}, **by)
    INTEGRATIONS.save({"name": "Api", "kind": "api", "recipients": {"users": ["alice"]}, "anyway": True}, **by)
    WORKFLOWS.save(
        {"name": "Tell", "trigger": "opened",
         "actions": [{"do": "notify", "users": ["alice"], "subject": "alice", "text": "alice"}]}, **by,
    )  # fmt: skip
    span = {"from": (now + timedelta(hours=1)).isoformat(), "to": (now + timedelta(hours=2)).isoformat()}
    save_override({"schedule": "Desk 24x7", "user": "alice", "instead_of": "bob", **span}, **by)
    save_absence(user("carol"), {**span, "covers": {"Desk": "alice"}}, **by)


def user(name: str) -> User:
    return User.objects.get(username=name)


def spec(resource: Resource[Any], name: str) -> dict[str, Any]:
    row = resource.find_named(name)
    assert row is not None
    return resource.spec(row)


def state() -> list[Any]:
    return [resource.specs(list(resource.list_all())) for resource in (GROUPS, SCHEDULES, POLICIES, INTEGRATIONS)]


def replace(old: str, new: str, now: datetime) -> list[str]:
    found = offboarding.replace_everywhere(user(old), user(new), actor=ACTOR, now=now)
    return [str(place) for place in found]


def test_every_place_names_the_other_user(now: datetime) -> None:
    places = replace("alice", "dave", now)
    assert places == [
        "group Desk", "schedule Desk 24x7", "escalation policy Standard", "integration Api", "workflow Tell",
        "an override of schedule Desk 24x7", "the absence of carol",
    ]  # fmt: skip
    assert [member["user"] for member in spec(GROUPS, "Desk")["members"]] == ["dave", "bob", "carol"]
    assert spec(SCHEDULES, "Desk 24x7")["shifts"][0]["rotate"]["users"] == ["dave", "bob", "carol"]
    assert spec(POLICIES, "Standard")["steps"][0]["notify"]["users"] == ["dave", "bob"]
    (action,) = spec(WORKFLOWS, "Tell")["actions"]
    assert (action["users"], action["subject"]) == (["dave"], "alice")
    assert Override.objects.get().user == user("dave")
    assert out_of_office.absence_spec(out_of_office.rows().get())["covers"] == {"Desk": "dave"}
    assert hooks.references_to("user", user("alice").pk) == []
    assert offboarding.find_places(user("alice"), now) == []


def test_what_both_have_becomes_one_entry(now: datetime) -> None:
    group = GROUPS.find("Desk")
    members = [{"user": "alice", "roles": ["primary"]}, {"user": "bob", "roles": ["secondary"]}]
    GROUPS.save({**spec(GROUPS, "Desk"), "members": members}, existing=group, actor=ACTOR, now=now)
    replace("alice", "bob", now)
    assert spec(GROUPS, "Desk")["members"] == [{"user": "bob", "roles": ["primary", "secondary"]}]
    assert spec(SCHEDULES, "Desk 24x7")["shifts"][0]["rotate"]["users"] == ["bob", "carol"]
    assert spec(POLICIES, "Standard")["steps"][0]["notify"]["users"] == ["bob"]
    assert not Override.objects.exists()


def test_refused_place_changes_nothing_and_is_named(now: datetime) -> None:
    before = state()
    with pytest.raises(Rejected, match=r"the absence of carol: .*cannot cover for themselves"):
        replace("alice", "carol", now)
    assert state() == before
    assert not AuditEntry.objects.filter(action="replace").exists()


@pytest.mark.parametrize("columns", [{"is_active": False}, {"clients": ["Acme"], "role": "observer"}])
def test_who_cannot_be_paged_takes_nothing_over(columns: dict[str, Any], now: datetime) -> None:
    User.objects.filter(username="dave").update(**columns)
    before = state()
    with pytest.raises(Rejected):
        replace("alice", "dave", now)
    assert state() == before


def test_each_change_and_the_whole_are_audited(now: datetime) -> None:
    places = replace("alice", "dave", now)
    entry = AuditEntry.objects.get(action="replace")
    assert (entry.object_type, entry.object_name) == ("user", "alice")
    assert entry.after == {"by": "dave", "places": places}
    assert AuditEntry.objects.filter(action="update", object_name="Desk 24x7").exists()
