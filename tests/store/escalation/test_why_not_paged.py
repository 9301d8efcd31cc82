"""Reasons why a user was not paged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.support.escalation_harness import STEPS, EscalationHarness, escalation_enabled
from tests.support.people import ACTOR
from tocsin.alerts.commands import Acknowledge, PagingMode
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import CommandChannel
from tocsin.core.db import database as db
from tocsin.escalation import explain
from tocsin.notify.models import Delivery
from tocsin.notify.states import DeliveryStatus
from tocsin.people.changes import groups
from tocsin.people.changes import users as people
from tocsin.people.models import User


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[EscalationHarness]:
    with escalation_enabled():
        yield EscalationHarness(now)


def why(alert: int) -> dict[str, tuple[str, ...]]:
    with db.transaction() as connection:
        return {
            one.username: tuple(map(str, one.reasons))
            for one in explain.explain_for_alert(connection, FoundAlert.by_tocsin(alert))
        }


def test_unpaged_users_have_a_reason_before_during_and_after_answers(desk: EscalationHarness) -> None:
    alert = desk.open()
    desk.run_until(0)
    Delivery.objects.update(status=DeliveryStatus.SENT)
    assert why(alert).keys() == {"bob", "carol"}, "who is called needs no reason"
    assert why(alert)["bob"] == (
        "Step 2 of 3 pages Bob unless someone responds first.",
        "Step 3 of 3 pages Bob unless someone responds first.",
        "Alice was primary of Service Desk: by the group's order.",
    )
    assert why(alert)["carol"] == (
        "Alice was primary of Service Desk: by the group's order.",
        "Bob was secondary of Service Desk: by the group's order.",
    )
    desk.act(alert, Acknowledge(actor=desk.actor("alice"), via=CommandChannel.WEB), 1)
    assert why(alert)["bob"][0] == "Step 2 of 3 would have paged Bob, but was not reached: Alice acknowledged the alert"


def test_reason_includes_step_decisions_and_page_results(desk: EscalationHarness) -> None:
    people.save_user(
        {"username": "bob", "name": "Bob", "email": "bob@example.org", "role": "responder", "contact_methods": []},
        existing=desk.users["bob"], actor=ACTOR, now=desk.start,
    )  # fmt: skip
    waits = [{"label": "SMS-Official", "channel": "sms", "address": "+41790000009", "wait": "4m"}]
    carol = {"username": "carol", "name": "Carol", "email": "carol@example.org", "role": "manager"}
    people.save_user({**carol, "contact_methods": waits}, existing=desk.users["carol"], actor=ACTOR, now=desk.start)
    steps = [
        {"notify": {"roles": ["secondary"], "users": ["carol"]}},
        {**STEPS[0], "after": "5m", "when": {"priority": ["low"]}},
    ]
    desk.save(steps=steps)
    alert = desk.open()
    desk.run_until(0)
    desk.run_until(5)
    body = why(alert)
    assert body["bob"][0] == "Bob has no enabled contact method."
    assert "is skipped: only for low alerts" in body["alice"][0]
    assert body["carol"][0].endswith("(SMS-Official, 4 minutes after the step)"), "her page still waits"
    desk.act(alert, Acknowledge(actor=desk.actor("erin"), via=CommandChannel.WEB), 2)
    assert why(alert)["carol"][0].startswith("Erin acknowledged")


def test_later_users_of_sequential_step_have_a_reason(desk: EscalationHarness) -> None:
    desk.save(steps=[{"notify": {"roles": ["primary", "secondary"]}, "sequential": "5m"}])
    alert = desk.open()
    desk.run_until(0)
    Delivery.objects.update(status=DeliveryStatus.SENT)
    assert why(alert)["bob"][0] == "Step 1 of 1 pages Bob unless someone responds first."
    desk.act(alert, Acknowledge(actor=desk.actor("alice"), via=CommandChannel.WEB), 1)
    assert why(alert)["bob"][0] == "Step 1 of 1 would have paged Bob, but was not reached: Alice acknowledged the alert"
    assert all("Bob" not in sentence for sentence in why(alert)["bob"][1:])


def test_dry_run_alert_and_missing_policy_have_a_reason(desk: EscalationHarness) -> None:
    dry = desk.open(mode=PagingMode.DRY_RUN)
    desk.run_until(0)
    assert why(dry)["alice"][0] == "The integration is in dry-run mode: no one is paged."
    assert why(desk.open(version_id=None, recipient_groups=())) == {}


def test_user_is_not_given_the_reason_of_a_similar_name(desk: EscalationHarness) -> None:
    for username, name, methods in (("alice", "Ann", None), ("bob", "Anna", [])):
        spec = {"username": username, "name": name, "email": f"{username}@example.org", "role": "responder"}
        extra = {} if methods is None else {"contact_methods": methods}
        people.save_user({**spec, **extra}, existing=desk.users[username], actor=ACTOR, now=desk.start)
    desk.save(steps=[{"notify": {"roles": ["secondary"]}}, {**STEPS[0], "after": "5m"}])
    alert = desk.open()
    desk.run_until(0)
    assert why(alert)["bob"][0] == "Anna has no enabled contact method."
    assert all("contact method" not in sentence for sentence in why(alert)["alice"])


def test_members_without_part_in_the_policy_have_a_reason(desk: EscalationHarness) -> None:
    members = [{"user": name, "roles": ["primary"]} for name in ("alice", "bob")]
    groups.save_group({"name": "Two", "members": members}, actor=ACTOR, now=desk.start)
    desk.save(steps=[{"notify": {"groups": ["Two"], "roles": ["primary", "secondary"]}}])
    alert = desk.open()
    desk.run_until(0)
    assert why(alert)["bob"] == (
        "Alice is ahead of Bob as primary of Two.",
        "Two had no secondary on call.",
    )
    desk.save(steps=[{"notify": {"users": ["alice"]}}])
    alert = desk.open()
    desk.run_until(0)
    User.objects.filter(username="carol").update(is_active=False)
    assert why(alert)["bob"] == ("No step of the policy pages Bob.",)
    assert why(alert)["carol"] == ("Carol is deactivated and is not paged.",)
