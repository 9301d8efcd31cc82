"""States that a health check reports: each with the reasons of its finding and of its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from tests.doubles.http import Response, http_double
from tests.doubles.pgbouncer import pgbouncer
from tests.support.ingest import NOW, Ingest, halo, make_integration
from tests.support.outbox_harness import allow_loopback, configured
from tests.support.people import ACTOR, make_user
from tests.support.postgres import in_use
from tocsin.core.db import database as db
from tocsin.core.ids import first_uuid7
from tocsin.core.net import imap
from tocsin.core.net.imap import MailboxReader
from tocsin.core.reasons import as_reason, each_of
from tocsin.core.runtime import clock
from tocsin.inbound.admin import commands
from tocsin.inbound.enums import IntegrationMode
from tocsin.notify.models import Delivery, Notification
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.operate.checks import database as database_checks
from tocsin.operate.checks import integrations, machine
from tocsin.operate.finding import HealthFinding
from tocsin.operate.models import Node
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.operate.self_check import SelfCheckRunner

pytestmark = pytest.mark.usefixtures("database")


def codes(findings: Iterable[HealthFinding]) -> set[str]:
    """The codes of details and remedies, without their area."""
    reasons = [reason for finding in findings for reason in (finding.detail, finding.remedy)]
    return {reason.code for reason in reasons if reason}


def run(check: Callable[[db.Connection], Iterable[HealthFinding]]) -> set[str]:
    with db.transaction() as connection:
        return codes(check(connection))


def test_disabled_integration_is_noted() -> None:
    make_integration(mode=IntegrationMode.DISABLED)
    assert "{integration} is disabled: its messages open no alerts." in codes(integrations.check_reach(NOW))


def test_integration_forgotten_in_dry_run_is_named_with_its_alerts(now: datetime) -> None:
    spec = {"name": "HaloITSM", "kind": "haloitsm", "mode": "page", "anyway": True}
    integration = commands.save_integration(spec, actor=ACTOR, now=now - timedelta(days=9))
    ingest = Ingest()
    ingest.send(integration, halo(1), now=now - timedelta(days=8))
    spec["mode"] = "dry_run"
    commands.save_integration(spec, existing=integration, actor=ACTOR, now=now - timedelta(hours=25))
    commands.save_integration({**spec, "source": "Halo"}, existing=integration, actor=ACTOR, now=now)

    def found(at: datetime) -> list[HealthFinding]:
        with db.transaction() as connection:
            return list(integrations.check_dry_runs(connection, at))

    assert found(now - timedelta(hours=2)) == []
    (unused,) = found(now)
    assert (unused.is_problem, unused.detail.code) == (
        False,
        "{integration} has been in dry run since {since} and pages no one. No alert has opened yet.",
    )
    (first, second) = ingest.send(integration, halo(2), halo(3), now=now)
    (finding,) = found(now)
    assert (finding.is_problem, finding.object_id) == (True, integration.pk)
    assert finding.detail["count"] == 2
    assert f"the last one 2026-11-24 09:15 UTC: #{second.alert_id} VPN down 3" in str(finding.detail)
    assert first.alert_id is not None


def test_integration_whose_recipient_cannot_be_paged_is_reported(now: datetime) -> None:
    alice = make_user("alice", now)
    make_integration(mode=IntegrationMode.PAGE).recipient_users.add(alice)
    alice.contact_methods.all().delete()
    assert "{integration}: {problem}" in codes(integrations.check_reach(NOW))


def test_integration_that_cannot_be_compiled_is_reported() -> None:
    make_integration(definition={"mapping": {"subject": {"path": 7}}})
    assert {
        "{integration} can't process messages: {error} They are kept as Mapping Failed.",
        "Fix and save it under Inbound integrations, then replay those messages from the Inbound Log.",
    } <= run(lambda connection: integrations.check(connection, NOW))


def test_use_of_an_old_webhook_url_is_reported() -> None:
    make_integration(previous_token_requests=3)
    assert {
        "{count} message was sent to an old webhook URL of {integration}.",
        "Update the sender with the new URL from the Security tab.",
    } <= run(lambda connection: integrations.check(connection, NOW))


def test_messages_that_could_not_be_parsed_are_counted() -> None:
    Ingest().send(make_integration(), b"{}")
    assert {
        "{count} message in the last 7 days could not be parsed.",
        "Fix the mapping named in the Inbound Log, then replay the message.",
    } <= run(lambda connection: integrations.check(connection, clock.now()))


def test_new_tickets_that_open_nothing_are_reported() -> None:
    integration = make_integration(settings={"new_tickets_open": False}, mode=IntegrationMode.PAGE)
    # Ids of messages have the time of the machine, so the messages arrive now as well.
    at = clock.now()
    Ingest().send(integration, {**halo(1, "Waiting"), "event": "new ticket logged"}, now=at)
    assert {"{integration}: {problem}", "Set what each status does in the integration's settings."} <= codes(
        integrations.check_messages(at)
    )


def test_nodes_of_different_versions_are_noted() -> None:
    for name in ("pager1", "pager2"):
        NodeHeartbeat(uuid4(), "all", list, name).run_once()
    Node.objects.filter(name="pager2").update(version="0.0.1")
    assert {"Nodes run different versions: {versions}.", "Upgrade the older nodes."} <= run(machine.check_running)


def test_node_without_the_newest_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    NodeHeartbeat(uuid4(), "all", list, "pager1").run_once()
    configured(monkeypatch, secret_keys=("n" * 40, "o" * 40))
    assert {
        "Node {node} does not have the newest secret key.",
        "Restart it with that key first in TOCSIN_SECRET_KEY.",
    } <= run(machine.check_keys)


def test_failed_external_heartbeat_is_reported(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    allow_loopback(monkeypatch)
    NodeHeartbeat(uuid4(), "all", list).run_once()
    with http_double(lambda request: Response(500)) as receiver:
        configured(monkeypatch, heartbeat_url=receiver.url)
        SelfCheckRunner(now=lambda: now, heartbeat_url=lambda: receiver.url).run_once()
    assert {
        "The external heartbeat failed: {error}.",
        "Check its URL (Settings, or TOCSIN_HEARTBEAT_URL), and whether this server can connect to it.",
    } <= run(machine.check_running)


def test_mailbox_that_could_not_be_polled_is_named() -> None:
    integration = make_integration(kind="email")
    with db.transaction() as connection:
        imap.record_failure(connection, MailboxReader.INBOUND, integration.pk, as_reason("Sign-in rejected"), NOW)
    assert {
        "Can't read the mailbox of {integration}: {error}",
        "Check its address and password on the Security tab, and whether this server can connect to it.",
    } <= run(integrations.check_last_poll)


def test_message_that_no_provider_could_send_is_reported(now: datetime) -> None:
    user = make_user("alice", now)
    fields = {"channel": "sms", "address": "+15550100", "purpose": Purpose.NOTICE, "user": user}
    notification = Notification.objects.create(id=first_uuid7(now), created_at=now, **fields)
    Delivery.objects.create(
        id=first_uuid7(now),
        notification=notification,
        status=DeliveryStatus.FAILED,
        queued_at=now,
        due_at=now,
        **fields,
    )
    (finding,) = integrations.check_deliveries(now + timedelta(minutes=1))
    assert codes([finding]) == {
        "{count} message in the last 24 hours could not be sent by any provider: {providers}",
        "The error is on the alert's timeline. Add another provider.",
    }
    assert [part.code for part in finding.detail["providers"]] == ["no provider"]


def test_connections_of_other_clients_are_counted(database: str) -> None:
    for _ in range(11):
        NodeHeartbeat(uuid4(), "all", list).run_once()
    with psycopg.connect(database, dbname="postgres"), db.transaction() as connection:
        (finding,) = database_checks.check_connections(connection)
    assert "Other clients use {count} connection." in [part.code for part in each_of(finding.detail)]


def test_pooler_that_swallows_notifications_is_reported(database: str) -> None:
    with pgbouncer(database) as url, in_use(url):
        assert codes(database_checks._check_notifications()) == {
            "LISTEN does not work: changes reach other processes a second late, and session locks may be lost.",
            "Point TOCSIN_DATABASE_URL at PostgreSQL itself, not at a pooler in transaction mode.",
        }
