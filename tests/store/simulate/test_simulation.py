"""The simulation stores nothing and matches the actual result."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps

from tests.support.ingest import Ingest, halo
from tests.support.people import ACTOR
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core.db import database
from tocsin.core.reasons import AlertRef, Reason, Term, reason_from_json
from tocsin.escalation.commands import ManualAlert
from tocsin.escalation.tasks import EscalationTask
from tocsin.inbound.admin.commands import integration_spec, save_integration
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.maintenance_commands import save_window
from tocsin.inbound.models import Integration
from tocsin.people.models import ContactMethod
from tocsin.simulate import chain, escalation
from tocsin.simulate.chain import SimulatedOutcome, Simulation, simulate

EXAMPLE = Path(__file__).parents[3] / "examples" / "tocsin.yaml"

#: A Tuesday night and the Tuesday noon after it, in a week in which Bob is primary.
NIGHT = datetime(2026, 1, 13, 2, 0, tzinfo=UTC)
NOON = datetime(2026, 1, 13, 11, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def example(database: str, now: datetime) -> None:
    configure(EXAMPLE.read_text(), now)


def configure(text: str, now: datetime) -> None:
    plan.apply(config_files.collect([yaml_loader.parse(text, "t.yaml", Path())]), prune=False, now=now)


def run(payload: Any, at: datetime = NIGHT) -> Simulation:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return simulate(Integration.objects.get(), body, "application/json", at)


def one(payload: Any, at: datetime = NIGHT) -> SimulatedOutcome:
    (outcome,) = run(payload, at).outcomes
    return outcome


def counts() -> dict[str, int]:
    return {model.__name__: model._default_manager.count() for model in apps.get_models() if model._meta.managed}


def test_an_integration_that_is_gone_is_a_declared_error() -> None:
    with pytest.raises(UnknownIntegration):
        simulate(Integration(pk=10**9), b"{}", "application/json", NIGHT)


@pytest.mark.parametrize("body", [b"{bad", b"", b"\xff\xfe", b"[" * 100_000, b'{"ticket": {}}'])
def test_unreadable_payload_shows_reason_and_paged_users(body: bytes) -> None:
    outcome = one(body)
    assert outcome.status is MessageStatus.FAILED
    assert outcome.reason
    assert outcome.alert is not None
    assert "could not be parsed" in outcome.alert.subject
    assert outcome.pages


def test_nothing_is_stored_and_nothing_is_queued() -> None:
    before = counts()
    assert one(halo()).pages
    one(b"{bad")
    assert counts() == before


def test_new_ticket_pages_on_call_users_by_method_with_reason() -> None:
    outcome = one(halo(priority_name="High"))
    assert outcome.status is MessageStatus.OPENED
    assert outcome.alert is not None
    assert (outcome.alert.subject, str(outcome.alert.priority)) == ("VPN down 20817", "high")
    first = [(page.name, page.label, page.after) for page in outcome.pages[:5]]
    assert first == [
        ("Bob Brown", "Email-Official", timedelta()),
        ("Bob Brown", "SMS-Official", timedelta()),
        ("Bob Brown", "Phone-Official-Mobile", timedelta(minutes=3)),
        ("Alice Andersson", "Email-Official", timedelta(minutes=5)),
        ("Alice Andersson", "SMS-Official", timedelta(minutes=5)),
    ]
    assert "primary, Service Desk" in str(outcome.pages[0].reason)
    assert "3 minutes after the step" in str(outcome.pages[2].reason)


def test_handoff_during_escalation_is_simulated() -> None:
    before_hand_off = datetime(2026, 1, 12, 7, 58, tzinfo=UTC)
    outcome = one(halo(), before_hand_off)
    primary = {page.after: page.name for page in outcome.pages if "primary" in str(page.reason)}
    assert primary[timedelta()] == "Alice Andersson"
    assert primary[timedelta(minutes=15)] == "Bob Brown", "the two changed places at nine"


def test_support_hours_decide_the_route_at_that_time() -> None:
    night, noon = one(halo(client_name="Globex")), one(halo(client_name="Globex"), NOON)
    assert night.alert is not None
    assert noon.alert is not None
    assert (str(night.alert.priority), str(noon.alert.priority)) == ("critical", "high")
    assert "outside Office hours" in str(night.route)
    assert noon.route.code == "no route matches: the integration's own policy and recipients"


def test_filtered_logged_or_closed_payload_pages_no_user_with_reason() -> None:
    filtered = one(halo(tickettype={"name": "Project"}))
    assert filtered.status is MessageStatus.IGNORED
    assert "filter" in str(filtered.reason)
    closed = one(halo(status="Closed"))
    assert (closed.status, closed.pages) == (MessageStatus.IGNORED, ())
    assert "nothing was open" in str(closed.reason)
    configure(
        EXAMPLE.read_text().replace(
            "{field: priority, operator: one of, value: [low]}", "{field: client, operator: exists}"
        ),
        NIGHT,
    )
    recorded = one(halo())
    assert (recorded.status, recorded.pages) == (MessageStatus.OPENED, ())
    assert "log only" in str(recorded.why)


def test_dry_run_integration_says_whom_it_would_otherwise_page() -> None:
    Integration.objects.update(mode="dry_run")
    outcome = one(halo())
    assert outcome.pages
    assert any("dry-run mode" in str(note) for note in outcome.notes)


def test_a_switched_off_integration_ignores_everything() -> None:
    Integration.objects.update(mode="disabled")
    assert one(halo()).reason.code == "message.integration_disabled"
    assert one(b"{bad").status is MessageStatus.IGNORED


def test_active_alerts_ticket_is_counted_and_new_one_is_shown() -> None:
    (stored,) = Ingest().send(Integration.objects.get(), halo(), now=NIGHT)
    outcome = one(halo())
    assert outcome.status is MessageStatus.APPENDED
    assert outcome.alert_id == stored.alert_id
    assert outcome.pages
    assert chain.ALERT_OPEN(alert=AlertRef(stored.alert_id or 0)) in outcome.notes
    assert one(halo(status="Closed")).status is MessageStatus.CLOSED


def test_paging_that_starts_for_an_open_alert_is_shown() -> None:
    Integration.objects.update(mode="dry_run")
    (stored,) = Ingest().send(Integration.objects.get(), halo(), now=NIGHT)
    Integration.objects.update(mode="page")
    assert chain.ALERT_STARTS_PAGING(alert=AlertRef(stored.alert_id or 0)) in one(halo()).notes


def save(**changes: Any) -> None:
    """Changes the integration."""
    integration = Integration.objects.get()
    spec = {**integration_spec(integration), **changes, "anyway": True}
    save_integration(spec, existing=integration, actor=ACTOR, now=NIGHT)


@pytest.mark.parametrize(
    ("delay", "note", "has_pages"),
    [
        ({"wait": "5m"}, chain.DELAYED(duration=timedelta(minutes=5)), True),
        ({"alerts": 3}, chain.OPENS_WITH_OTHERS(), False),
    ],
)
def test_delayed_alert_is_simulated_for_when_it_opens(delay: dict[str, Any], note: Reason, has_pages: bool) -> None:
    save(delay=delay)
    outcome = one(halo())
    assert (outcome.status, outcome.notes[0], bool(outcome.pages)) == (MessageStatus.DELAYED, note, has_pages)


def test_delayed_alert_that_would_then_join_another_says_so() -> None:
    save(flood={"burst": 1, "every": "1h"})
    Ingest().send(Integration.objects.get(), halo(1), halo(2), now=NIGHT)
    save(delay={"wait": "5m"})
    outcome = one(halo(3), NIGHT + timedelta(minutes=1))
    assert outcome.status is MessageStatus.DELAYED
    assert [note.code for note in outcome.notes] == ["If nothing else arrives for {duration}: {status}, {reason}."]
    assert outcome.notes[0]["status"] == Term(MessageStatus.APPENDED)


def test_suppressing_maintenance_window_is_in_the_trace() -> None:
    window = {"name": "Core switch", "time_zone": "UTC", "starts": "2026-01-13 01:00", "ends": "2026-01-13 03:00"}
    save_window({**window, "action": "suppress"}, actor=ACTOR, now=NIGHT)
    assert "noise.window_active" in json.dumps(chain.as_json(run(halo())))


def test_manual_alert_without_recipients_pages_nobody() -> None:
    simulated = escalation.preview(ManualAlert("Disk full"), NIGHT)
    assert (simulated.pages, simulated.notes) == ((), (escalation.NO_RECIPIENTS(),))


def test_the_messages_of_an_array_follow_on_one_another() -> None:
    outcomes = run([halo(), halo(), halo(status="Closed"), halo(), halo(7)]).outcomes
    assert [str(outcome.status) for outcome in outcomes] == [
        "Mapped Opened",
        "Mapped Appended",
        "Mapped Closed",
        "Mapped Opened",
        "Mapped Opened",
    ]


def test_unreachable_user_is_named_on_the_timeline() -> None:
    ContactMethod.objects.filter(user__username="bob").update(is_enabled=False)
    outcome = one(halo())
    assert {page.name for page in outcome.pages} == {"Alice Andersson"}
    assert any("Bob Brown" in str(line.reason) for line in outcome.timeline)


def test_json_and_text_agree_and_addresses_can_be_masked() -> None:
    simulation = run(halo())
    whole = chain.as_json(simulation)
    json.dumps(whole)
    (message,) = whole["messages"]
    assert message["status"] == "Mapped Opened"
    assert message["pages"][2]["minutes"] == 3
    assert message["pages"][0]["address"] == "bob@example.org"
    masked = chain.as_json(simulation, lambda user, channel, address: "•••")
    assert {page["address"] for page in masked["messages"][0]["pages"]} == {"•••"}
    assert message["trace"]["intent"] == "open"
    text = chain.as_text(simulation, UTC)
    assert "Tue 2026-01-13 02:00 UTC" in text
    assert "client = Acme" in text
    assert "+3m  02:03:00  Bob Brown by voice, +13125550142" in text


def test_what_was_simulated_is_what_then_happens() -> None:
    """The same message through the real door and the real loop, with a clock that jumps from timer to timer."""
    outcome = one(halo())
    (stored,) = Ingest(IntegrationRegistry()).send(Integration.objects.get(), halo(), now=NIGHT)
    loop = EscalationTask()
    at: datetime | None = NIGHT
    while at is not None:
        loop.run_once(at)
        with database.transaction() as connection:
            due = connection.execute("SELECT min(due_at) FROM escalation_run").fetchone()
        assert due is not None
        at = due[0]
    with database.transaction() as connection:
        sent = connection.execute(
            "SELECT d.due_at, d.user_id, d.channel, d.address FROM notify_delivery d "
            "WHERE d.alert_id = %s AND d.purpose = 'page' AND d.status <> 'failed'",
            (stored.alert_id,),
        ).fetchall()
        notice_lists = connection.execute(
            "SELECT at, reason FROM alerts_alertevent WHERE alert_id = %s ORDER BY id",
            (stored.alert_id,),
        ).fetchall()
    assert sorted(sent) == sorted((page.at, page.user_id, page.channel, page.address) for page in outcome.pages)
    assert [(at, str(reason_from_json(reason))) for at, reason in notice_lists] == [
        (line.at, str(line.reason)) for line in outcome.timeline
    ]
