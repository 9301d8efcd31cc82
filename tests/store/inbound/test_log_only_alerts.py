"""Log-only and dry-run alerts on real PostgreSQL: the next opening message makes them page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import workflow_harness
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, Ingest, halo, make_integration
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.audit import AuditActor as By
from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge, Assign, Hold, Merge, PagingMode, Unassign
from tocsin.alerts.service import FoundAlert, merge_into
from tocsin.alerts.states import CommandChannel, Priority
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.escalation.models import EscalationRun
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.inspect import replay
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.processing.drain import drain
from tocsin.inbound.storage.messages import MessageResult
from tocsin.simulate import chain

ALICE = By(None, "Alice", "web", "127.0.0.1")


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@dataclass
class IntegrationHarness:
    """A HaloITSM integration that pages Alice by the desk's policy, and the minute that it is."""

    definition: dict[str, Any] = field(default_factory=dict)
    mode: str = "page"
    desk: EscalationHarness = field(default_factory=lambda: EscalationHarness(NOW))
    ingest: Ingest = field(default_factory=Ingest)
    integration: Integration = field(init=False)

    def __post_init__(self) -> None:
        self.integration = make_integration(policy=self.desk.policy, mode=self.mode, definition=self.definition)
        self.integration.recipient_groups.add(self.desk.group)
        settings_store.bump()

    def becomes(self, mode: str) -> None:
        Integration.objects.filter(pk=self.integration.pk).update(mode=mode)
        self.integration.refresh_from_db()
        settings_store.bump()

    def redefine(self, **definition: Any) -> None:
        number = self.integration.current_version.number + 1 if self.integration.current_version else 1
        self.integration.current_version = IntegrationVersion.objects.create(
            integration=self.integration, number=number, definition=definition, created_at=NOW
        )
        self.integration.save()
        settings_store.bump()

    def send(self, minute: float, *tickets: int, status: str = "New", **fields: Any) -> list[MessageResult]:
        payloads = [halo(ticket, status, **fields) for ticket in tickets or (20817,)]
        return self.ingest.send(self.integration, *payloads, now=self.desk.at(minute))

    def recorded(self) -> int:
        """The number of an alert that a replay only recorded."""
        (first,) = self.send(0)
        self.send(1, status="Closed")
        message = InboundMessage.objects.get(alert_id=first.alert_id or 0, reason__code="message.opened")
        made = replay(message.pk, False, ALICE, self.desk.at(2))
        assert made.status == "Mapped Opened"
        return made.alert_id or 0

    def pages(self, alert: int, minute: float) -> list[str]:
        """Whom it has paged by that minute."""
        self.desk.run_until(minute)
        return [name for name, *_ in self.desk.pages(alert)]


def test_message_for_log_only_replayed_alert_starts_paging() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    assert harness.pages(number, 3) == []
    (stored,) = harness.send(4)
    assert (stored.status.value, stored.alert_id) == ("Mapped Appended", number)
    assert "pages from now on" in str(stored.reason)
    assert harness.pages(number, 4) == ["alice", "alice"]
    assert harness.desk.run(number).mode == "page"
    lines = [line for line in harness.desk.timeline(number) if "no one has been paged yet" in line]
    assert len(lines) == 1
    assert lines[0].endswith(
        "; policy Standard, no routes: the integration's own policy and recipients. Escalation starts at step 1."
    )
    # From now on it is an alert like any other.
    (again,) = harness.send(5)
    assert "counted, no page" in str(again.reason)
    assert EscalationRun.objects.filter(alert=number).count() == 2


def test_message_for_dry_run_alert_pages_once_integration_pages() -> None:
    harness = IntegrationHarness(mode="dry_run")
    (opened,) = harness.send(0)
    number = opened.alert_id or 0
    harness.send(1)
    assert harness.pages(number, 1) == []
    assert harness.desk.alert(number).dry_run
    harness.becomes("page")
    harness.send(2, status="In Progress")
    assert harness.pages(number, 2) == []
    harness.send(3)
    assert harness.pages(number, 3) == ["alice", "alice"]
    # It is watched no more: its ticket hears of what people do, and workflows act on it.
    assert not harness.desk.alert(number).dry_run


def test_opening_workflows_run_when_dry_run_alert_starts_paging() -> None:
    with workflow_harness.workflows_enabled():
        desk = workflow_harness.WorkflowHarness(NOW)
        harness = IntegrationHarness(mode="dry_run", desk=desk)
        desk.workflow("Tell Carol")
        desk.workflow("Nobody answers", trigger={"on": "unacknowledged", "for": "5m"})
        (opened,) = harness.send(0)
        number = opened.alert_id or 0
        desk.go(6)
        assert {status for _, status, _ in desk.outcomes(number)} == {"skipped"}
        harness.becomes("page")
        # Two in one batch: it begins to page once.
        harness.send(10, 20817, 20817)
        desk.go(10)
        assert desk.noticed_users(number) == ["carol"]
        assert ("Tell Carol", "done", "No conditions.") in desk.outcomes(number)
        desk.go(15)
        assert desk.noticed_users(number) == ["carol", "carol"]
        harness.send(16)
        desk.go(30)
        assert desk.noticed_users(number) == ["carol", "carol"]


def test_workflows_run_once_for_what_was_recorded_and_pages_later() -> None:
    with workflow_harness.workflows_enabled():
        desk = workflow_harness.WorkflowHarness(NOW)
        harness = IntegrationHarness({"routes": [{"name": "Quiet", "action": "record"}]}, desk=desk)
        desk.workflow("Tell Carol")
        (opened,) = harness.send(0)
        number = opened.alert_id or 0
        desk.go(0)
        assert desk.noticed_users(number) == ["carol"]
        harness.redefine()
        harness.send(2)
        desk.go(2)
        assert harness.pages(number, 2) == ["alice", "alice"]
        assert desk.noticed_users(number) == ["carol"]


def test_what_a_route_only_recorded_pages_once_a_route_pages() -> None:
    harness = IntegrationHarness({"routes": [{"name": "Quiet", "action": "record"}]})
    (opened,) = harness.send(0)
    number = opened.alert_id or 0
    (again,) = harness.send(1)
    assert "counted, no page" in str(again.reason)
    harness.redefine()
    harness.send(2)
    assert harness.pages(number, 2) == ["alice", "alice"]


def test_log_only_replay_starts_nothing_and_paging_replay_does() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    message = InboundMessage.objects.earliest("pk")
    replay(message.pk, False, ALICE, harness.desk.at(3))
    assert harness.pages(number, 3) == []
    replay(message.pk, True, ALICE, harness.desk.at(4))
    assert harness.pages(number, 4) == ["alice", "alice"]


def test_a_filter_that_lets_nothing_open_starts_nothing_either() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    harness.redefine(filters={"field": "client", "operator": "equals", "value": "Other"})
    (stored,) = harness.send(3)
    assert "filter:" in str(stored.reason)
    assert (harness.pages(number, 3), harness.desk.run(number).mode) == ([], "record")
    harness.redefine()
    harness.send(4)
    assert harness.pages(number, 4) == ["alice", "alice"]


@pytest.mark.parametrize("action", ["suppress", "hold"])
def test_maintenance_holds_for_what_was_only_recorded(action: str) -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    spec = {"name": "Patches", "action": action, "starts": "2026-11-24 09:00", "ends": "2026-11-24 10:15"}
    maintenance_windows.save_window(spec, actor=COMMAND_LINE, now=NOW)
    (stored,) = harness.send(3)
    assert "Patches" in str(stored.reason)
    assert harness.pages(number, 59) == []
    if action == "suppress":
        assert harness.pages(number, 61) == []
        harness.send(61)
    assert harness.pages(number, 61) == ["alice", "alice"]


def test_support_hours_delay_applies_to_log_only_alert() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    harness.redefine(delay={"wait": "30m"})
    (stored,) = harness.send(3)
    assert "after 30 minutes" in str(stored.reason) or "30m" in str(stored.reason)
    assert harness.pages(number, 31) == []
    assert harness.pages(number, 32) == ["alice", "alice"]


def test_log_only_alert_pages_only_without_owner() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    harness.desk.act(
        number, Assign(actor=harness.desk.actor("bob"), user_id=harness.desk.users["bob"].pk, name="Bob"), 3
    )
    harness.send(4)
    assert harness.pages(number, 4) == []
    assert "assigned to Bob" in harness.desk.timeline(number)[-1]
    harness.send(5)
    assert sum("no one has been paged yet" in line for line in harness.desk.timeline(number)) == 1
    harness.desk.act(number, Unassign(actor=harness.desk.actor("bob")), 6)
    assert harness.pages(number, 6) == ["alice", "alice"]


def test_an_acknowledgement_stands_and_expires_like_any_other() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    harness.desk.act(number, Acknowledge(actor=harness.desk.actor("bob")), 3)
    harness.send(4)
    assert harness.pages(number, 30) == []
    harness.desk.run_until(34)
    assert harness.pages(number, 39) == ["alice", "alice"]


def test_a_hold_is_kept() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    harness.desk.act(number, Hold(actor=harness.desk.actor("bob"), until=harness.desk.at(20)), 3)
    harness.send(4)
    assert harness.pages(number, 19) == []
    assert harness.pages(number, 20) == ["alice", "alice"]


def test_one_batch_with_a_record_and_an_opening_pages() -> None:
    """Opened and started in one transaction, in the order in which they came."""
    harness = IntegrationHarness(mode="dry_run")
    (opened,) = harness.send(0)
    number = opened.alert_id or 0
    harness.becomes("page")
    stored = harness.send(1, 20817, 20817, 20817)
    assert ["pages from now on" in str(one.reason) for one in stored] == [True, False, False]
    assert harness.pages(number, 1) == ["alice", "alice"]
    assert EscalationRun.objects.filter(alert=number).count() == 2


def test_deferred_message_starts_paging_when_decided() -> None:
    harness = IntegrationHarness()
    number = harness.recorded()
    with database.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (number,))
        payload = halo()
        (stored,) = harness.ingest.send(harness.integration, payload, now=harness.desk.at(3), wait=False)
    assert stored.status.value == "Pending"
    drain(harness.ingest.registry, harness.ingest.numbers, harness.desk.at(4))
    assert harness.pages(number, 4) == ["alice", "alice"]


def test_message_joining_log_only_group_starts_paging() -> None:
    definition = {"grouping": {"by": "<ticket^client_name>", "within": "1h"}}
    harness = IntegrationHarness(definition, mode="dry_run")
    (opened,) = harness.send(0, 1)
    number = opened.alert_id or 0
    harness.becomes("page")
    (joined,) = harness.send(1, 2)
    assert joined.alert_id == number
    assert harness.pages(number, 1) == ["alice", "alice"]


@pytest.mark.parametrize("message", [halo(1), b"<html>"], ids=["of a ticket", "that nobody can read"])
def test_message_of_merged_alert_starts_its_log_only_parent(message: Any) -> None:
    harness = IntegrationHarness(mode="dry_run")
    one, two = harness.ingest.send(harness.integration, message, halo(2), now=harness.desk.at(0))
    child, parent = one.alert_id or 0, two.alert_id or 0
    harness.desk.act(child, merge(harness, parent), 1)
    harness.becomes("page")
    first, second = harness.ingest.send(harness.integration, message, message, now=harness.desk.at(2))
    assert (first.alert_id, second.alert_id) == (parent, parent)
    assert (harness.desk.alert(parent).count, harness.desk.alert(child).count) == (3, 1)
    assert harness.pages(parent, 2) == ["alice", "alice"]
    assert harness.pages(child, 2) == []
    assert EscalationRun.objects.filter(alert=parent).count() == 2


def merge(harness: IntegrationHarness, parent: int) -> Merge:
    return merge_into(FoundAlert.by_tocsin(parent), Acknowledge(actor=harness.desk.actor("bob")))


def test_a_dry_run_says_that_it_would_page() -> None:
    harness = IntegrationHarness()
    harness.recorded()
    (outcome,) = chain.simulate(harness.integration, json.dumps(halo()).encode(), "", harness.desk.at(3)).outcomes
    assert "pages from now on" in str(outcome.reason)
    assert outcome.mode is PagingMode.PAGE
    assert [page.name for page in outcome.pages][:1] == ["Alice"]
    assert "no one would be paged" not in " ".join(map(str, outcome.notes))


def test_unreadable_message_pages_once_integration_pages() -> None:
    harness = IntegrationHarness(mode="dry_run")
    (failed,) = harness.ingest.send(harness.integration, b"<html>", now=harness.desk.at(0))
    number = failed.alert_id or 0
    assert harness.pages(number, 0) == []
    harness.becomes("page")
    (again,) = harness.ingest.send(harness.integration, b"<html>", now=harness.desk.at(1))
    assert again.alert_id == number
    assert harness.pages(number, 1) == ["alice", "alice"]


def test_raised_priority_of_merged_alert_raises_and_pages_parent() -> None:
    harness = IntegrationHarness()
    one, two = harness.send(0, 1, 2, priority={"name": "Low"})
    child, parent = one.alert_id or 0, two.alert_id or 0
    harness.desk.act(child, merge(harness, parent), 1)
    assert harness.pages(parent, 4) == ["alice", "alice"]
    harness.send(4, 1, status="In Progress", priority={"name": "Critical"})
    assert (harness.desk.alert(child).priority, harness.desk.alert(parent).priority) == ("critical", "critical")
    assert harness.pages(parent, 4) == ["alice"] * 4
    lines = harness.desk.timeline(parent)
    assert any(f"Alert {child}, which is merged into this one, is now critical" in line for line in lines)
    assert any("priority rose from low to critical" in line for line in lines)
    # What it says again is no news.
    harness.send(5, 1, status="In Progress", priority={"name": "Critical"})
    assert EscalationRun.objects.filter(alert=parent).count() == 2


def test_repeated_source_priority_never_reverts_an_external_raise() -> None:
    harness = IntegrationHarness()
    one, two, three = harness.send(0, 1, 2, 3, priority={"name": "Low"})
    child, parent, other = (stored.alert_id or 0 for stored in (one, two, three))
    harness.desk.act(child, merge(harness, parent), 1)
    harness.send(2, 1, status="In Progress", priority={"name": "Critical"})
    with database.transaction() as connection:
        service.set_priority_within(
            connection,
            FoundAlert.by_tocsin(other),
            Priority.HIGH,
            harness.desk.actor("erin"),
            CommandChannel.WORKFLOW,
            harness.desk.at(2),
        )
    harness.send(3, 2, 3, status="In Progress", priority={"name": "Low"}, summary="Still there")
    assert [harness.desk.alert(number).priority for number in (parent, other)] == ["critical", "high"]
    # Another priority than it said before is news.
    harness.send(4, 2, 3, status="In Progress", priority={"name": "Medium"})
    assert [harness.desk.alert(number).priority for number in (parent, other)] == ["medium", "medium"]


def test_merged_alert_and_parent_rise_in_order_within_batch() -> None:
    harness = IntegrationHarness()
    one, two = harness.send(0, 1, 2, priority={"name": "Low"})
    child, parent = one.alert_id or 0, two.alert_id or 0
    harness.desk.act(child, merge(harness, parent), 1)
    urgent, less = {"name": "Critical"}, {"name": "High"}
    payloads = [halo(1, "In Progress", priority=urgent), halo(2, "In Progress", priority=less)]
    harness.ingest.send(harness.integration, *payloads, now=harness.desk.at(2))
    # Its own source says high, and said it last; whom it pages goes by the higher.
    assert harness.desk.alert(parent).priority == "high"
    assert harness.desk.run(parent).priority == "critical"
    assert harness.pages(parent, 2) == ["alice", "alice"]


@pytest.mark.parametrize("grouped", [False, True])
def test_key_of_merged_alert_is_free_after_parent_ends(grouped: bool) -> None:
    """Also where the parent is closed by its own source, in the same batch, or as the alert of a group."""
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1m"}} if grouped else {})
    (one,) = harness.send(0, 1)
    (two,) = harness.send(5, 2)
    child, parent = one.alert_id or 0, two.alert_id or 0
    assert child != parent
    harness.desk.act(child, merge(harness, parent), 6)
    payloads = [halo(2, "Closed"), halo(1)]
    _closed, opened = harness.ingest.send(harness.integration, *payloads, now=harness.desk.at(10))
    assert opened.status.value == "Mapped Opened"
    assert opened.alert_id not in (child, parent)
    assert harness.pages(opened.alert_id or 0, 10) == ["alice", "alice"]


def test_key_merged_into_group_is_free_after_group_ends() -> None:
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    (one,) = harness.send(0, 1)
    (two,) = harness.send(5, 2)
    harness.send(5, 3)
    harness.desk.act(one.alert_id or 0, merge(harness, two.alert_id or 0), 6)
    harness.send(7, 2, status="Closed")
    harness.send(8, 3, status="Closed")
    assert harness.desk.alert(two.alert_id or 0).status == "closed"
    (opened,) = harness.send(9, 1)
    assert opened.status.value == "Mapped Opened"


def merged_group(harness: IntegrationHarness) -> tuple[int, int]:
    """A group's alert of tickets 1 and 2, merged into that of ticket 3."""
    harness.send(0, 1, priority={"name": "Low"})
    (second,) = harness.send(0, 2, priority={"name": "Low"})
    (third,) = harness.send(5, 3, priority={"name": "Low"})
    child, parent = second.alert_id or 0, third.alert_id or 0
    assert child != parent
    harness.desk.act(child, merge(harness, parent), 6)
    return child, parent


def test_worsening_member_of_merged_group_raises_and_pages_parent() -> None:
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    child, parent = merged_group(harness)
    before = len(harness.pages(parent, 9))
    harness.send(9, 2, status="In Progress", priority={"name": "Critical"})
    assert (harness.desk.alert(child).priority, harness.desk.alert(parent).priority) == ("critical", "critical")
    assert len(harness.pages(parent, 9)) > before
    # What it says again is no news.
    harness.send(10, 2, status="In Progress", priority={"name": "Critical"})
    assert EscalationRun.objects.filter(alert=parent).count() == 2


def test_message_of_merged_groups_member_counts_on_parent() -> None:
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    _child, parent = merged_group(harness)
    (stored,) = harness.send(9, 2)
    assert stored.alert_id == parent
    assert harness.desk.alert(parent).count == 2


def test_ticket_joining_merged_group_counts_on_and_raises_parent() -> None:
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1h"}})
    (first,) = harness.send(0, 1, priority={"name": "Low"})
    (other,) = harness.send(1, 2, priority={"name": "Low"}, client_name="Globex")
    child, parent = first.alert_id or 0, other.alert_id or 0
    harness.desk.act(child, merge(harness, parent), 2)
    before = len(harness.pages(parent, 3))
    (joined,) = harness.send(3, 4, priority={"name": "Critical"})
    assert joined.alert_id == parent
    assert harness.desk.alert(parent).priority == "critical"
    assert len(harness.pages(parent, 3)) > before


def test_ticket_joining_equally_urgent_merged_group_raises_parent() -> None:
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1h"}})
    (first,) = harness.send(0, 1, priority={"name": "Critical"})
    (other,) = harness.send(1, 2, priority={"name": "Low"}, client_name="Globex")
    harness.desk.act(first.alert_id or 0, merge(harness, other.alert_id or 0), 2)
    harness.send(3, 4, priority={"name": "Critical"})
    assert harness.desk.alert(other.alert_id or 0).priority == "critical"


def test_member_of_merged_group_starts_log_only_parent() -> None:
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1m"}}, mode="dry_run")
    _child, parent = merged_group(harness)
    harness.becomes("page")
    (stored,) = harness.send(9, 2)
    assert stored.alert_id == parent
    assert harness.pages(parent, 9) == ["alice", "alice"]


def test_member_of_merged_group_is_free_after_parent_ends() -> None:
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1m"}})
    child, parent = merged_group(harness)
    payloads = [halo(3, "Closed"), halo(2)]
    _closed, opened = harness.ingest.send(harness.integration, *payloads, now=harness.desk.at(10))
    assert opened.status.value == "Mapped Opened"
    assert opened.alert_id not in (child, parent)


def test_ticket_joins_no_merged_group_after_parent_ended() -> None:
    """Also where that is so only since the message before it."""
    harness = IntegrationHarness({"grouping": {"by": "<ticket^client_name>", "within": "1h"}})
    (first,) = harness.send(0, 1)
    (other,) = harness.send(1, 2, client_name="Globex")
    child, parent = first.alert_id or 0, other.alert_id or 0
    harness.desk.act(child, merge(harness, parent), 2)
    payloads = [halo(2, "Closed", client_name="Globex"), halo(4)]
    _closed, opened = harness.ingest.send(harness.integration, *payloads, now=harness.desk.at(3))
    assert opened.status.value == "Mapped Opened"
    assert opened.alert_id not in (child, parent)
