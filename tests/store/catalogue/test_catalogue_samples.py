"""Every catalogue sample posted to a real endpoint yields its outcome; the agent of a ticket becomes the owner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, Ingest, halo, make_integration
from tests.support.integrations import InboundServer, inbound_server, path_of, rows
from tests.support.people import make_user
from tests.support.variants import first
from tocsin.alerts.commands import Acknowledge, Assign
from tocsin.alerts.models import Alert
from tocsin.catalogue.kinds import Expectation, IntegrationKind, Sample, load_kinds
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun
from tocsin.inbound import ingest_service
from tocsin.inbound.deciding.alert_creation import COLUMNS
from tocsin.inbound.inspect import explain_message
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.notify.models import Notification

#: The kinds that are used most, or answer in their own way; the mapping of every sample is tested without a database.
FIRST = (
    "haloitsm", "api", "alertmanager", "grafana", "zabbix", "prtg", "uptimekuma", "cloudwatch", "sentry", "pagerduty",
    "opsgenie", "netdata",
)  # fmt: skip

#: A kind that is the same as another has that one's samples, which are tried once.
KINDS = sorted((kind for kind in load_kinds().values() if not kind.same_as), key=lambda kind: kind.name not in FIRST)

CHALLENGE_RESPONSE = "sha256=dVUgYtcehoBdhCfN4ZhgPwjFZC9w1BM/6Xltq9d8DzU="


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


def pass_for(integration: Integration) -> str:
    user = make_user(f"sampler{integration.pk}", NOW)
    return ingest_service.issue_test_token(integration.pk, user.pk, clock.now())[0]


@pytest.mark.parametrize("kind", first(len(FIRST), KINDS), ids=lambda kind: kind.name)
def test_every_sample_ends_as_it_says(kind: IntegrationKind, node: InboundServer) -> None:
    """All samples of a kind by one node, each at an integration of its own that shares no alert with the others."""
    data = {sample.name: integration_for(kind, sample) for sample in kind.samples}
    for sample in kind.samples:
        try:
            ends_as_it_says(kind, sample, node, data[sample.name])
        except AssertionError as error:
            error.add_note(f"in the sample {sample.name} of {kind.name}")
            raise


def integration_for(kind: IntegrationKind, sample: Sample) -> Integration:
    name = f"{kind.title}, {sample.name}"
    return make_integration(name, kind.name, source=name, settings=dict(sample.settings))


def ends_as_it_says(kind: IntegrationKind, sample: Sample, node: InboundServer, integration: Integration) -> None:
    by_name = {one.name: one for one in kind.samples}
    # What proves a sender cannot be in a sample: it comes with a pass, as the pages send it.
    where = integration if kind.kind_hooks.refusal is None else f"{path_of(integration)}/test/{pass_for(integration)}"
    for name in sample.before:
        node.post(where, by_name[name].body, content_type=by_name[name].content_type)
    before = len(rows())
    reply = node.post(where, sample.body, content_type=sample.content_type)
    stored = rows()[before:]
    assert len(stored) == len(sample.expect)
    assert reply.status == (400 if "error" in reply.body else 200)
    if reply.status == 200 and kind.kind_hooks.reply is None:
        answers = reply.body.get("messages") or [reply.body]
        assert [one["status"] for one in answers] == [one.status for one in sample.expect]
    for row, expected in zip(stored, sample.expect, strict=True):
        assert row.status == expected.status, row.reason
        assert expected.reason in str(row.reason)
        if expected.fields:
            assert fields_of(row, expected) == dict(expected.fields)
        if row.status == "Mapped Opened" and len(stored) == 1:
            assert_shown(row, expected.fields)


def fields_of(row: InboundMessage, expected: Expectation) -> dict[str, object]:
    """The named fields of a stored message as an expectation writes them: "" for nobody."""
    results = explain_message(
        InboundMessage.objects.select_related("integration__current_version", "version").get(pk=row.pk)
    ).mapped
    assert results is not None
    values = {name: results.get(name, "(no value)") for name in expected.fields}
    return {
        name: "" if value is None else value.replace("Z", "+00:00") if name == "source_time" else value
        for name, value in values.items()
    }


def assert_shown(row: InboundMessage, fields: Mapping[str, object]) -> None:
    """That the alert which the message opened has the fields, in a column or among the custom ones."""
    alert = Alert.objects.get(pk=row.alert_id)
    assert alert.source_id == row.source_id
    for name, value in fields.items():
        if name in COLUMNS:
            assert getattr(alert, COLUMNS[name]) == value
        elif name not in ("source_id", "delivery_id", "source_time", "event", "source_name", "details"):
            assert alert.custom.get(name) == (str(value).lower() if isinstance(value, bool) else value)


# --- by GET


def test_netdata_challenge_is_answered_by_get(node: InboundServer) -> None:
    """The HMAC-SHA256 of the token with the guide's challenge secret, in base64."""
    reply = node.post(f"{path_of(make_integration('Netdata', 'netdata'))}?crc_token=abc", method="GET")
    assert (reply.status, reply.body) == (200, {"response_token": CHALLENGE_RESPONSE})
    assert rows() == []


def test_uptime_kuma_message_by_get_opens(node: InboundServer) -> None:
    sample = next(one for one in load_kinds()["uptimekuma"].samples if one.name == "get")
    node.post(f"{path_of(make_integration('Kuma', 'uptimekuma'))}?{sample.body.decode()}", method="GET")
    (row,) = rows()
    assert (row.status, row.source_id) == ("Mapped Opened", "29")


# --- who has the ticket


@pytest.fixture
def desk() -> EscalationHarness:
    made = EscalationHarness(NOW)
    made.users["alice"].email = "alice.archer@example.org"
    made.users["alice"].save()
    settings_store.bump()
    return made


@pytest.fixture
def integration(desk: EscalationHarness) -> Integration:
    integration = make_integration(policy=desk.policy)
    integration.recipient_groups.add(desk.group)
    settings_store.bump()
    return integration


class Ticket:
    """One ticket of Halo, told about by messages that come as minutes pass."""

    def __init__(self, desk: EscalationHarness, integration: Integration) -> None:
        self.desk, self.door, self.ingest = desk, integration, Ingest()

    def says(self, minute: float, status: str = "In Progress", **fields: Any) -> InboundMessage:
        (stored,) = self.ingest.send(self.door, halo(status=status, **fields), now=self.desk.at(minute))
        assert stored.status.value != "Mapping Failed"
        return InboundMessage.objects.latest("pk")

    @property
    def alert(self) -> Alert:
        return Alert.objects.latest("pk")

    def owner(self) -> tuple[str, int | None, str]:
        alert = self.alert
        return alert.status, alert.owner_id, alert.owner.display_name if alert.owner else alert.owner_name

    def paged(self) -> list[tuple[str, float]]:
        """Whom the first page of each step went to, and at which minute."""
        return [(who, minute) for who, channel, minute, _ in self.desk.pages(self.alert.pk) if channel == "email"]


@pytest.fixture
def ticket(desk: EscalationHarness, integration: Integration) -> Ticket:
    return Ticket(desk, integration)


NOBODY = {"id": 1, "name": "Unassigned"}


@pytest.mark.parametrize(
    "agent",
    [
        {"id": 7, "name": "Somebody Else", "email": "Alice.Archer@Example.org"},
        {"id": 7, "name": "alice"},
        {"id": 7, "name": "Alice"},
    ],
    ids=["by email", "by user name", "by name"],
)
def test_ticket_assigned_to_known_user_becomes_theirs_and_stops_paging(
    desk: EscalationHarness, ticket: Ticket, agent: dict[str, Any]
) -> None:
    ticket.says(0, "New", agent=NOBODY)
    desk.through(0, 1)
    ticket.says(2, agent=agent)
    assert ticket.owner() == ("assigned", desk.users["alice"].pk, "Alice")
    desk.through(5, 10, 20, 60)
    assert ticket.paged() == [("alice", 0)]
    assert "HaloITSM assigned the alert to Alice" in desk.timeline(ticket.alert.pk)


def test_ticket_assigned_to_unknown_agent_shows_the_agents_name(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", agent=NOBODY)
    desk.through(0, 1)
    ticket.says(2, agent={"id": 44, "name": "Noor Haddad", "email": "noor@other.example"})
    assert ticket.owner() == ("assigned", None, "Noor Haddad")
    desk.through(5, 10, 20)
    assert ticket.paged() == [("alice", 0)]


def test_unassigned_ticket_reopens_alert_and_restarts_escalation(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", agent=NOBODY)
    desk.through(0, 1)
    ticket.says(2, agent={"id": 44, "name": "Noor Haddad"})
    desk.through(7)
    ticket.says(30, agent=NOBODY)
    assert ticket.owner() == ("open", None, "")
    desk.through(30, 35)
    assert ticket.paged() == [("alice", 0), ("alice", 30), ("bob", 35)]
    assert any("unassigned Noor Haddad" in line for line in desk.timeline(ticket.alert.pk))


def test_message_without_agent_keeps_the_owner(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", agent=NOBODY)
    ticket.says(2, agent={"id": 44, "name": "Noor Haddad"})
    ticket.says(3, summary="VPN down for everybody")
    ticket.says(4, agent={"id": 44})
    assert ticket.owner() == ("assigned", None, "Noor Haddad")


def test_agent_known_by_number_gets_a_name_once_available(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", agent=NOBODY)
    ticket.says(2, agent={"id": 44})
    assert ticket.owner() == ("assigned", None, "Agent 44")
    ticket.says(3, agent={"id": 44, "name": "Alice"})
    assert ticket.owner() == ("assigned", desk.users["alice"].pk, "Alice")
    ticket.says(4, agent={"id": 44})
    assert ticket.owner() == ("assigned", desk.users["alice"].pk, "Alice")
    ticket.says(5, agent=NOBODY)
    assert ticket.owner() == ("open", None, "")


def test_owner_set_in_tocsin_survives_unassignment_of_another_agent(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", agent={"id": 44, "name": "Noor Haddad"})
    desk.act(ticket.alert.pk, Assign(actor=desk.actor("bob"), name="Bob", user_id=desk.users["bob"].pk), 1)
    ticket.says(2, agent=NOBODY)
    assert ticket.owner() == ("assigned", desk.users["bob"].pk, "Bob")


def test_agent_in_opening_message_is_shown_and_escalation_still_pages(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", agent={"id": 44, "name": "Noor Haddad"})
    assert ticket.owner() == ("open", None, "")
    assert ticket.alert.source_agent == "Noor Haddad"
    desk.through(0, 5)
    assert ticket.paged() == [("alice", 0), ("bob", 5)]


def test_setting_makes_agent_in_opening_message_stop_escalation(
    desk: EscalationHarness, integration: Integration, ticket: Ticket
) -> None:
    Integration.objects.filter(pk=integration.pk).update(settings={"owned_ticket_stops": True})
    settings_store.bump()
    ticket.says(0, "New", agent={"id": 44, "name": "Noor Haddad"})
    assert ticket.owner() == ("assigned", None, "Noor Haddad")
    desk.through(0, 5, 20)
    assert ticket.paged() == []
    ticket.says(30, agent=NOBODY)
    desk.through(30)
    assert ticket.paged() == [("alice", 30)]


def test_a_status_by_itself_never_acknowledges_nor_stops_anything(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New")
    desk.through(0)
    ticket.says(1, "In Progress")
    ticket.says(2, "With Engineer")
    desk.through(5)
    assert ticket.paged() == [("alice", 0), ("bob", 5)]
    assert ticket.alert.status == "open"


# --- how urgent it is


def test_a_priority_that_rises_starts_escalation_again_once(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", priority={"name": "P3 - Medium"})
    desk.through(0, 1)
    ticket.says(10, priority={"name": "P1 - Critical"})
    ticket.says(11, priority={"name": "P1 - Critical"})
    ticket.says(12, priority={"name": "P3 - Medium"})
    ticket.says(13, priority={"name": "P1 - Critical"})
    desk.through(13)
    assert ticket.alert.priority == "critical"
    starts = [line for line in desk.timeline(ticket.alert.pk) if "restarts at step 1" in line]
    assert starts == ["The priority rose from medium to critical. Escalation restarts at step 1."]
    assert EscalationRun.objects.filter(alert=ticket.alert.pk).count() == 2


def test_raised_priority_follows_the_newly_matching_route(
    desk: EscalationHarness, integration: Integration, ticket: Ticket
) -> None:
    definition = {
        "routes": [
            {
                "name": "Critical",
                "when": {"field": "priority", "operator": "equals", "value": "critical"},
                "recipients": {"users": [desk.users["carol"].pk]},
            }
        ]
    }
    integration.current_version.definition = definition  # type: ignore[union-attr]
    integration.current_version.save()  # type: ignore[union-attr]
    settings_store.bump()
    ticket.says(0, "New", priority={"name": "Low"})
    assert EscalationRun.objects.get(alert=ticket.alert.pk).recipient_users == []
    ticket.says(10, priority={"name": "Critical"})
    assert EscalationRun.objects.latest("pk").recipient_users == [desk.users["carol"].pk]


@pytest.fixture
def routed(desk: EscalationHarness, integration: Integration) -> None:
    """Tickets of the team Network go to Carol."""
    when = {"field": "team", "operator": "equals", "value": "Network"}
    integration.current_version.definition = {
        "routes": [{"when": when, "recipients": {"users": [desk.users["carol"].pk]}}]
    }  # type: ignore[union-attr]
    integration.current_version.save()  # type: ignore[union-attr]
    settings_store.bump()


@pytest.mark.usefixtures("routed")
def test_ticket_moved_to_another_team_pages_that_teams_targets(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", team="1st Line Support")
    desk.through(0)
    ticket.says(2, team="Network")
    ticket.says(3, team="Network")
    desk.through(3)
    assert ticket.paged()[0] == ("alice", 0)
    assert ("carol", 3) in ticket.paged()
    assert EscalationRun.objects.filter(alert=ticket.alert.pk).count() == 2
    starts = [line for line in desk.timeline(ticket.alert.pk) if "restarts at step 1" in line]
    assert starts == [
        "Moved from 1st Line Support to Network, and the routes select other recipients. Escalation restarts at step 1."
    ]


@pytest.mark.usefixtures("routed")
def test_responder_is_notified_of_a_move_to_another_team(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", team="1st Line Support")
    desk.through(0)
    desk.act(ticket.alert.pk, Acknowledge(actor=desk.actor("alice")), 1)
    ticket.says(2, team="Network")
    desk.through(2)
    notice = Notification.objects.get(alert=ticket.alert.pk, purpose="notice")
    assert (notice.data["title"]["code"], notice.data["heading"]["code"]) == (
        "The alert moved to another team: {alert}", "The alert moved to another team",
    )  # fmt: skip


def test_owner_is_notified_of_raised_priority_without_new_pages(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", priority={"name": "Low"})
    desk.through(0)
    desk.act(ticket.alert.pk, Acknowledge(actor=desk.actor("alice")), 1)
    ticket.says(10, priority={"name": "Critical"})
    desk.through(10, 15)
    assert ticket.paged() == [("alice", 0)]
    assert any("The priority rose from low to critical" in line for line in desk.timeline(ticket.alert.pk))


# --- its end


def test_a_ticket_that_is_deleted_cancels_its_alert(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New")
    desk.through(0)
    (stored,) = ticket.ingest.send(ticket.door, {"event": "ticket deleted", "object_id": 20817}, now=desk.at(3))
    assert stored.status.value == "Mapped Closed"
    assert ticket.alert.status == "cancelled"
    assert any("deleted in HaloITSM" in line for line in desk.timeline(ticket.alert.pk))
    desk.through(5, 20)
    assert ticket.paged() == [("alice", 0)]
    (again,) = ticket.ingest.send(ticket.door, {"event": "ticket deleted", "object_id": 20817}, now=desk.at(4))
    assert (again.status.value, "nothing was open" in str(again.reason)) == ("Mapped Ignored", True)


def test_closed_ticket_stops_paging_and_reopened_one_is_new_alert(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New")
    desk.through(0)
    first = ticket.alert.pk
    ticket.says(2, "Closed")
    desk.through(5, 20)
    assert ticket.alert.status == "closed"
    assert ticket.paged() == [("alice", 0)]
    ticket.says(30, "New")
    assert ticket.alert.previous_alert_id == first
    desk.through(30)
    assert ticket.paged() == [("alice", 30)]


def test_closing_message_never_replaces_the_subject(desk: EscalationHarness, ticket: Ticket) -> None:
    ticket.says(0, "New", summary="VPN down")
    ticket.says(2, "Closed", summary="[OK] VPN down")
    assert (ticket.alert.status, ticket.alert.subject) == ("closed", "VPN down")
