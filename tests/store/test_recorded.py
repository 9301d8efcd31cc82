"""Alerts that were only recorded, or dry runs, on real PostgreSQL: the next message that would open one has it page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.store import workflows
from tests.store.escalating import EscalationHarness, wired
from tests.store.ingest import NOW, Ingest, halo, make_integration
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.audit import AuditActor as By
from tocsin.alerts import service
from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import Acknowledge, Assign, Hold, Merge, Unassign
from tocsin.alerts.service import merge_into
from tocsin.alerts.states import CommandChannel, Priority
from tocsin.core.config import config_version
from tocsin.core.db import database
from tocsin.escalation.models import Run
from tocsin.inbound.inspect.replay import replay
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.processing.drain import drain
from tocsin.inbound.storage.messages import MessageResult
from tocsin.simulate import chain

ALICE = By(None, "Alice", "web", "127.0.0.1")


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with wired():
        yield


@dataclass
class Door:
    """A HaloITSM integration that pages Alice by the desk's policy, and the minute that it is."""

    definition: dict[str, Any] = field(default_factory=dict)
    mode: str = "page"
    desk: EscalationHarness = field(default_factory=lambda: EscalationHarness(NOW))
    ingest: Ingest = field(default_factory=Ingest)
    integration: Integration = field(init=False)

    def __post_init__(self) -> None:
        self.integration = make_integration(policy=self.desk.policy, mode=self.mode, definition=self.definition)
        self.integration.recipient_groups.add(self.desk.group)
        config_version.changed()

    def becomes(self, mode: str) -> None:
        Integration.objects.filter(pk=self.integration.pk).update(mode=mode)
        self.integration.refresh_from_db()
        config_version.changed()

    def redefine(self, **definition: Any) -> None:
        number = self.integration.current_version.number + 1 if self.integration.current_version else 1
        self.integration.current_version = IntegrationVersion.objects.create(
            integration=self.integration, number=number, definition=definition, created_at=NOW
        )
        self.integration.save()
        config_version.changed()

    def send(self, minute: float, *tickets: int, status: str = "New", **fields: Any) -> list[MessageResult]:
        payloads = [halo(ticket, status, **fields) for ticket in tickets or (20817,)]
        return self.ingest.send(self.integration, *payloads, now=self.desk.at(minute))

    def recorded(self) -> int:
        """The number of an alert that a replay only recorded."""
        (first,) = self.send(0)
        self.send(1, status="Closed")
        message = InboundMessage.objects.get(alert_id=first.alert_id or 0, reason__contains="contains New")
        made = replay(message.pk, False, ALICE, self.desk.at(2))
        assert made.status == "Mapped Opened"
        return made.alert_id or 0

    def pages(self, alert: int, minute: float) -> list[str]:
        """Whom it has paged by that minute."""
        self.desk.turn(minute)
        return [name for name, *_ in self.desk.pages(alert)]


def test_a_message_that_opens_what_a_replay_only_recorded_has_it_page() -> None:
    door = Door()
    number = door.recorded()
    assert door.pages(number, 3) == []
    (stored,) = door.send(4)
    assert (stored.status.value, stored.alert_id) == ("Mapped Appended", number)
    assert "pages from now on" in stored.reason
    assert door.pages(number, 4) == ["alice", "alice"]
    assert door.desk.run(number).mode == "page"
    said = [line for line in door.desk.timeline(number) if "so far nobody was paged about it" in line]
    assert len(said) == 1
    assert said[0].endswith(
        "; policy Standard, no routes: the integration's own policy and recipients. Escalation starts at step 1."
    )
    # From now on it is an alert like any other.
    (again,) = door.send(5)
    assert "counted, nobody is paged" in again.reason
    assert Run.objects.filter(alert=number).count() == 2


def test_opening_message_makes_dry_run_page_once_integration_pages() -> None:
    door = Door(mode="dry_run")
    (opened,) = door.send(0)
    number = opened.alert_id or 0
    door.send(1)
    assert door.pages(number, 1) == []
    assert door.desk.alert(number).dry_run
    door.becomes("page")
    door.send(2, status="In Progress")
    assert door.pages(number, 2) == []
    door.send(3)
    assert door.pages(number, 3) == ["alice", "alice"]
    # It is a dry run no more: its ticket hears of what people do, and workflows act on it.
    assert not door.desk.alert(number).dry_run


def test_opening_workflows_run_as_dry_run_begins_to_page() -> None:
    with workflows.wired():
        desk = workflows.WorkflowHarness(NOW)
        door = Door(mode="dry_run", desk=desk)
        desk.workflow("Tell Carol")
        desk.workflow("Nobody answers", trigger={"on": "unacknowledged", "for": "5m"})
        (opened,) = door.send(0)
        number = opened.alert_id or 0
        desk.go(6)
        assert {status for _, status, _ in desk.said(number)} == {"skipped"}
        door.becomes("page")
        # Two in one batch: it begins to page once.
        door.send(10, 20817, 20817)
        desk.go(10)
        assert desk.told(number) == ["carol"]
        assert ("Tell Carol", "done", "It has no conditions.") in desk.said(number)
        desk.go(15)
        assert desk.told(number) == ["carol", "carol"]
        door.send(16)
        desk.go(30)
        assert desk.told(number) == ["carol", "carol"]


def test_workflows_run_once_for_what_was_recorded_and_pages_later() -> None:
    with workflows.wired():
        desk = workflows.WorkflowHarness(NOW)
        door = Door({"routes": [{"name": "Quiet", "action": "record"}]}, desk=desk)
        desk.workflow("Tell Carol")
        (opened,) = door.send(0)
        number = opened.alert_id or 0
        desk.go(0)
        assert desk.told(number) == ["carol"]
        door.redefine()
        door.send(2)
        desk.go(2)
        assert door.pages(number, 2) == ["alice", "alice"]
        assert desk.told(number) == ["carol"]


def test_what_a_route_only_recorded_pages_once_a_route_pages() -> None:
    door = Door({"routes": [{"name": "Quiet", "action": "record"}]})
    (opened,) = door.send(0)
    number = opened.alert_id or 0
    (again,) = door.send(1)
    assert "counted, nobody is paged" in again.reason
    door.redefine()
    door.send(2)
    assert door.pages(number, 2) == ["alice", "alice"]


def test_a_replay_that_only_records_starts_nothing_and_one_that_pages_does() -> None:
    door = Door()
    number = door.recorded()
    message = InboundMessage.objects.earliest("pk")
    replay(message.pk, False, ALICE, door.desk.at(3))
    assert door.pages(number, 3) == []
    replay(message.pk, True, ALICE, door.desk.at(4))
    assert door.pages(number, 4) == ["alice", "alice"]


def test_a_filter_that_lets_nothing_open_starts_nothing_either() -> None:
    door = Door()
    number = door.recorded()
    door.redefine(filters={"field": "client", "operator": "equals", "value": "Other"})
    (stored,) = door.send(3)
    assert "filter:" in stored.reason
    assert (door.pages(number, 3), door.desk.run(number).mode) == ([], "record")
    door.redefine()
    door.send(4)
    assert door.pages(number, 4) == ["alice", "alice"]


@pytest.mark.parametrize("action", ["suppress", "hold"])
def test_maintenance_holds_for_what_was_only_recorded(action: str) -> None:
    door = Door()
    number = door.recorded()
    spec = {"name": "Patches", "action": action, "starts": "2026-11-24 09:00", "ends": "2026-11-24 10:15"}
    maintenance_windows.save_window(spec, actor=COMMAND_LINE, now=NOW)
    (stored,) = door.send(3)
    assert "Patches" in stored.reason
    assert door.pages(number, 59) == []
    if action == "suppress":
        assert door.pages(number, 61) == []
        door.send(61)
    assert door.pages(number, 61) == ["alice", "alice"]


def test_what_waits_for_the_support_hours_waits_for_them_here_too() -> None:
    door = Door()
    number = door.recorded()
    door.redefine(delay={"wait": "30m"})
    (stored,) = door.send(3)
    assert "after 30 minutes" in stored.reason or "30m" in stored.reason
    assert door.pages(number, 31) == []
    assert door.pages(number, 32) == ["alice", "alice"]


def test_whoever_acted_on_it_is_not_paged_and_it_pages_once_nobody_has_it() -> None:
    door = Door()
    number = door.recorded()
    door.desk.act(number, Assign(actor=door.desk.actor("bob"), user_id=door.desk.users["bob"].pk, name="Bob"), 3)
    door.send(4)
    assert door.pages(number, 4) == []
    assert "Bob has it" in door.desk.timeline(number)[-1]
    door.send(5)
    assert sum("so far nobody was paged" in line for line in door.desk.timeline(number)) == 1
    door.desk.act(number, Unassign(actor=door.desk.actor("bob")), 6)
    assert door.pages(number, 6) == ["alice", "alice"]


def test_an_acknowledgement_stands_and_expires_like_any_other() -> None:
    door = Door()
    number = door.recorded()
    door.desk.act(number, Acknowledge(actor=door.desk.actor("bob")), 3)
    door.send(4)
    assert door.pages(number, 30) == []
    door.desk.turn(34)
    assert door.pages(number, 39) == ["alice", "alice"]


def test_a_hold_is_kept() -> None:
    door = Door()
    number = door.recorded()
    door.desk.act(number, Hold(actor=door.desk.actor("bob"), until=door.desk.at(20)), 3)
    door.send(4)
    assert door.pages(number, 19) == []
    assert door.pages(number, 20) == ["alice", "alice"]


def test_one_batch_with_a_record_and_an_opening_pages() -> None:
    """Opened and started in one transaction, in the order in which they came."""
    door = Door(mode="dry_run")
    (opened,) = door.send(0)
    number = opened.alert_id or 0
    door.becomes("page")
    stored = door.send(1, 20817, 20817, 20817)
    assert ["pages from now on" in one.reason for one in stored] == [True, False, False]
    assert door.pages(number, 1) == ["alice", "alice"]
    assert Run.objects.filter(alert=number).count() == 2


def test_a_message_behind_somebody_who_holds_the_alert_has_it_page_when_it_is_decided() -> None:
    door = Door()
    number = door.recorded()
    with database.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (number,))
        payload = halo()
        (stored,) = door.ingest.send(door.integration, payload, now=door.desk.at(3), wait=False)
    assert stored.status.value == "Pending"
    drain(door.ingest.registry, door.ingest.numbers, door.desk.at(4))
    assert door.pages(number, 4) == ["alice", "alice"]


def test_a_message_that_joins_a_group_which_was_only_recorded_has_it_page() -> None:
    definition = {"grouping": {"by": "<ticket^client_name>", "within": "1h"}}
    door = Door(definition, mode="dry_run")
    (opened,) = door.send(0, 1)
    number = opened.alert_id or 0
    door.becomes("page")
    (joined,) = door.send(1, 2)
    assert joined.alert_id == number
    assert door.pages(number, 1) == ["alice", "alice"]


@pytest.mark.parametrize("message", [halo(1), b"<html>"], ids=["of a ticket", "that nobody can read"])
def test_a_message_of_an_alert_merged_into_one_that_was_only_recorded_has_that_one_page(message: Any) -> None:
    door = Door(mode="dry_run")
    one, two = door.ingest.send(door.integration, message, halo(2), now=door.desk.at(0))
    child, parent = one.alert_id or 0, two.alert_id or 0
    door.desk.act(child, merge(door, parent), 1)
    door.becomes("page")
    first, second = door.ingest.send(door.integration, message, message, now=door.desk.at(2))
    assert (first.alert_id, second.alert_id) == (parent, parent)
    assert (door.desk.alert(parent).count, door.desk.alert(child).count) == (3, 1)
    assert door.pages(parent, 2) == ["alice", "alice"]
    assert door.pages(child, 2) == []
    assert Run.objects.filter(alert=parent).count() == 2


def merge(door: Door, parent: int) -> Merge:
    return merge_into(parent, Acknowledge(actor=door.desk.actor("bob")))


def test_a_dry_run_says_that_it_would_page() -> None:
    door = Door()
    door.recorded()
    (outcome,) = chain.simulate(door.integration.pk, json.dumps(halo()).encode(), "", door.desk.at(3)).outcomes
    assert "pages from now on" in outcome.reason
    assert outcome.mode is PagingMode.PAGE
    assert [page.name for page in outcome.pages][:1] == ["Alice"]
    assert "nobody would be paged" not in " ".join(outcome.notes)


def test_what_nobody_can_read_pages_once_the_integration_pages() -> None:
    door = Door(mode="dry_run")
    (failed,) = door.ingest.send(door.integration, b"<html>", now=door.desk.at(0))
    number = failed.alert_id or 0
    assert door.pages(number, 0) == []
    door.becomes("page")
    (again,) = door.ingest.send(door.integration, b"<html>", now=door.desk.at(1))
    assert again.alert_id == number
    assert door.pages(number, 1) == ["alice", "alice"]


def test_the_priority_of_a_merged_alert_that_rises_raises_its_parents_and_pages_by_that() -> None:
    door = Door()
    one, two = door.send(0, 1, 2, priority={"name": "Low"})
    child, parent = one.alert_id or 0, two.alert_id or 0
    door.desk.act(child, merge(door, parent), 1)
    assert door.pages(parent, 4) == ["alice", "alice"]
    door.send(4, 1, status="In Progress", priority={"name": "Critical"})
    assert (door.desk.alert(child).priority, door.desk.alert(parent).priority) == ("critical", "critical")
    assert door.pages(parent, 4) == ["alice"] * 4
    said = door.desk.timeline(parent)
    assert any(f"Alert {child}, which is merged into this one, is critical now" in line for line in said)
    assert any("priority rose from low to critical: escalation starts again at step 1" in line for line in said)
    # What it says again is no news.
    door.send(5, 1, status="In Progress", priority={"name": "Critical"})
    assert Run.objects.filter(alert=parent).count() == 2


def test_a_source_that_repeats_its_priority_takes_back_no_rise_that_came_from_elsewhere() -> None:
    door = Door()
    one, two, three = door.send(0, 1, 2, 3, priority={"name": "Low"})
    child, parent, other = (stored.alert_id or 0 for stored in (one, two, three))
    door.desk.act(child, merge(door, parent), 1)
    door.send(2, 1, status="In Progress", priority={"name": "Critical"})
    with database.transaction() as connection:
        service.set_priority_within(
            connection, other, Priority.HIGH, door.desk.actor("erin"), CommandChannel.WORKFLOW, door.desk.at(2)
        )
    door.send(3, 2, 3, status="In Progress", priority={"name": "Low"}, summary="Still there")
    assert [door.desk.alert(number).priority for number in (parent, other)] == ["critical", "high"]
    # Another priority than it said before is news.
    door.send(4, 2, 3, status="In Progress", priority={"name": "Medium"})
    assert [door.desk.alert(number).priority for number in (parent, other)] == ["medium", "medium"]


def test_a_merged_alert_and_its_parent_rise_in_one_batch_in_their_order() -> None:
    door = Door()
    one, two = door.send(0, 1, 2, priority={"name": "Low"})
    child, parent = one.alert_id or 0, two.alert_id or 0
    door.desk.act(child, merge(door, parent), 1)
    urgent, less = {"name": "Critical"}, {"name": "High"}
    payloads = [halo(1, "In Progress", priority=urgent), halo(2, "In Progress", priority=less)]
    door.ingest.send(door.integration, *payloads, now=door.desk.at(2))
    # Its own source says high, and said it last; whom it pages goes by the higher.
    assert door.desk.alert(parent).priority == "high"
    assert door.desk.run(parent).priority == "critical"
    assert door.pages(parent, 2) == ["alice", "alice"]


@pytest.mark.parametrize("grouped", [False, True])
def test_a_key_of_a_merged_alert_is_free_as_soon_as_its_parent_is_over(grouped: bool) -> None:
    """Also where the parent is closed by its own source, in the same batch, or as the alert of a group."""
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1m"}} if grouped else {})
    (one,) = door.send(0, 1)
    (two,) = door.send(5, 2)
    child, parent = one.alert_id or 0, two.alert_id or 0
    assert child != parent
    door.desk.act(child, merge(door, parent), 6)
    payloads = [halo(2, "Closed"), halo(1)]
    _closed, opened = door.ingest.send(door.integration, *payloads, now=door.desk.at(10))
    assert opened.status.value == "Mapped Opened"
    assert opened.alert_id not in (child, parent)
    assert door.pages(opened.alert_id or 0, 10) == ["alice", "alice"]


def test_a_key_merged_into_a_group_is_free_when_the_group_is_over() -> None:
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    (one,) = door.send(0, 1)
    (two,) = door.send(5, 2)
    door.send(5, 3)
    door.desk.act(one.alert_id or 0, merge(door, two.alert_id or 0), 6)
    door.send(7, 2, status="Closed")
    door.send(8, 3, status="Closed")
    assert door.desk.alert(two.alert_id or 0).status == "closed"
    (opened,) = door.send(9, 1)
    assert opened.status.value == "Mapped Opened"


def merged_group(door: Door) -> tuple[int, int]:
    """A group's alert of tickets 1 and 2, merged into that of ticket 3."""
    door.send(0, 1, priority={"name": "Low"})
    (second,) = door.send(0, 2, priority={"name": "Low"})
    (third,) = door.send(5, 3, priority={"name": "Low"})
    child, parent = second.alert_id or 0, third.alert_id or 0
    assert child != parent
    door.desk.act(child, merge(door, parent), 6)
    return child, parent


def test_a_member_of_a_merged_group_that_gets_worse_raises_the_parent_and_pages_by_that() -> None:
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    child, parent = merged_group(door)
    before = len(door.pages(parent, 9))
    door.send(9, 2, status="In Progress", priority={"name": "Critical"})
    assert (door.desk.alert(child).priority, door.desk.alert(parent).priority) == ("critical", "critical")
    assert len(door.pages(parent, 9)) > before
    # What it says again is no news.
    door.send(10, 2, status="In Progress", priority={"name": "Critical"})
    assert Run.objects.filter(alert=parent).count() == 2


def test_a_message_of_a_merged_groups_member_counts_on_the_parent() -> None:
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    _child, parent = merged_group(door)
    (stored,) = door.send(9, 2)
    assert stored.alert_id == parent
    assert door.desk.alert(parent).count == 2


def test_a_ticket_that_joins_a_merged_group_counts_on_the_parent_and_raises_it() -> None:
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1h"}})
    (first,) = door.send(0, 1, priority={"name": "Low"})
    (other,) = door.send(1, 2, priority={"name": "Low"}, client_name="Globex")
    child, parent = first.alert_id or 0, other.alert_id or 0
    door.desk.act(child, merge(door, parent), 2)
    before = len(door.pages(parent, 3))
    (joined,) = door.send(3, 4, priority={"name": "Critical"})
    assert joined.alert_id == parent
    assert door.desk.alert(parent).priority == "critical"
    assert len(door.pages(parent, 3)) > before


def test_a_ticket_that_joins_a_merged_group_raises_the_parent_though_the_group_was_as_urgent_before() -> None:
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1h"}})
    (first,) = door.send(0, 1, priority={"name": "Critical"})
    (other,) = door.send(1, 2, priority={"name": "Low"}, client_name="Globex")
    door.desk.act(first.alert_id or 0, merge(door, other.alert_id or 0), 2)
    door.send(3, 4, priority={"name": "Critical"})
    assert door.desk.alert(other.alert_id or 0).priority == "critical"


def test_a_member_of_a_group_merged_into_one_that_was_only_recorded_has_that_one_page() -> None:
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1m"}}, mode="dry_run")
    _child, parent = merged_group(door)
    door.becomes("page")
    (stored,) = door.send(9, 2)
    assert stored.alert_id == parent
    assert door.pages(parent, 9) == ["alice", "alice"]


def test_a_member_of_a_merged_group_is_free_when_the_parent_is_over() -> None:
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    child, parent = merged_group(door)
    payloads = [halo(3, "Closed"), halo(2)]
    _closed, opened = door.ingest.send(door.integration, *payloads, now=door.desk.at(10))
    assert opened.status.value == "Mapped Opened"
    assert opened.alert_id not in (child, parent)


def test_a_ticket_joins_no_merged_group_whose_parent_is_over() -> None:
    """Also where that is so only since the message before it."""
    door = Door({"grouping": {"by": "<ticket^client_name>", "within": "1h"}})
    (first,) = door.send(0, 1)
    (other,) = door.send(1, 2, client_name="Globex")
    child, parent = first.alert_id or 0, other.alert_id or 0
    door.desk.act(child, merge(door, parent), 2)
    payloads = [halo(2, "Closed", client_name="Globex"), halo(4)]
    _closed, opened = door.ingest.send(door.integration, *payloads, now=door.desk.at(3))
    assert opened.status.value == "Mapped Opened"
    assert opened.alert_id not in (child, parent)
