"""Heartbeats from ping to alert: every ping format, silence, failure, overrun and node downtime."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, make_integration
from tests.support.integrations import InboundResponse, InboundServer, inbound_server, path_of, rows
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.inbound import heartbeats
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.admin import secrets
from tocsin.inbound.admin.commands import integration_spec, save_integration
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import Heartbeat, Integration
from tocsin.inbound.processing import drain
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


@pytest.fixture
def backup() -> Integration:
    desk = EscalationHarness(NOW)
    made = make_integration("Backup", "heartbeat", policy=desk.policy, settings={"interval": "1h", "longest_run": "2h"})
    made.recipient_groups.add(desk.group)
    settings_store.bump()
    return made


def ping(
    node: InboundServer, where: Integration, word: str = "", method: str = "POST", body: bytes = b""
) -> InboundResponse:
    return node.post(f"{path_of(where)}{word}", body, method=method)


def row() -> Heartbeat:
    return Heartbeat.objects.get()


def later(node: InboundServer, **span: Any) -> datetime:
    """Turns the loop at a moment so much later."""
    at = clock.now() + timedelta(**span)
    node.registry.refresh()
    heartbeats.report_missed(node.registry, at)
    return at


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("HEAD", b""), ("POST", b""), ("PUT", b'{"a": 1}')])
def test_any_request_is_a_beat(node: InboundServer, backup: Integration, method: str, body: bytes) -> None:
    reply = ping(node, backup, method=method, body=body)
    assert reply.status == 200
    assert row().health == "up"
    assert row().due_at == row().last_at + timedelta(minutes=65)  # type: ignore[operator]
    assert Alert.objects.count() == 0
    assert rows()[0].source_status == "beat"


@pytest.mark.parametrize(
    "body", [b"\xff\xfe\x00", b"not json", b"[1, 2]", b"[" * 100_000, b'{"a": ' * 900, b"x" * 1_000_000, b"\x00"]
)
def test_whatever_a_sender_posts_its_beat_counts(node: InboundServer, backup: Integration, body: bytes) -> None:
    assert ping(node, backup, body=body).status == 200
    assert row().health == "up"
    assert len(bytes(rows()[0].raw)) < 65_000


def test_silence_opens_one_alert_and_the_next_beat_closes_it(node: InboundServer, backup: Integration) -> None:
    ping(node, backup)
    later(node, minutes=64)
    assert Alert.objects.count() == 0
    later(node, minutes=66)
    later(node, minutes=300)
    alert = Alert.objects.get()
    assert (alert.subject, alert.status) == ("Backup is silent", "open")
    assert "every hour, with 5 minutes of grace" in alert.long_text
    assert row().health == "late"
    ping(node, backup)
    alert.refresh_from_db()
    assert (alert.status, row().health) == ("closed", "up")


def test_job_failure_opens_alert_immediately_with_job_output(node: InboundServer, backup: Integration) -> None:
    ping(node, backup, "/start")
    assert row().health == "running"
    ping(node, backup, "/fail", body=b"tar: disk full")
    alert = Alert.objects.get()
    assert (alert.subject, alert.long_text) == ("Backup says that it failed", "tar: disk full")
    ping(node, backup, "/start")
    alert.refresh_from_db()
    assert (alert.status, alert.count) == ("open", 2)
    ping(node, backup, "/finish")
    alert.refresh_from_db()
    assert alert.status == "closed"


def test_a_run_that_does_not_end_opens_an_alert(node: InboundServer, backup: Integration) -> None:
    ping(node, backup, "/start")
    later(node, minutes=119)
    assert Alert.objects.count() == 0
    later(node, minutes=121)
    assert Alert.objects.get().subject == "Backup does not end"


def test_a_node_that_was_away_raises_no_false_alarm(node: InboundServer, backup: Integration) -> None:
    ping(node, backup)
    now = clock.now() + timedelta(hours=5)
    assert heartbeats.extend_after_outage(now) == 1
    assert row().due_at == now + timedelta(minutes=1)
    heartbeats.report_missed(node.registry, now)
    assert Alert.objects.count() == 0
    heartbeats.report_missed(node.registry, now + timedelta(minutes=1))
    assert Alert.objects.count() == 1


def test_suspended_machine_or_forward_clock_raises_no_false_alarm(node: InboundServer, backup: Integration) -> None:
    ping(node, backup)
    start, seconds = clock.now(), 0.0
    attempt = heartbeats.heartbeat_monitor_task(node.registry, lambda: start + timedelta(seconds=seconds)).run_once
    attempt()
    due_at = row().due_at
    assert due_at is not None
    # Nobody listened for five hours. Its sender has as long again as it had left.
    seconds = 5 * 3600
    attempt()
    assert not Alert.objects.exists()
    assert abs(row().due_at - due_at - timedelta(hours=5)) < timedelta(seconds=1)  # type: ignore[operator]
    while seconds < 5 * 3600 + 64 * 60:
        seconds += 20
        attempt()
    assert not Alert.objects.exists()
    while seconds < 5 * 3600 + 66 * 60:
        seconds += 20
        attempt()
    assert Alert.objects.get().subject == "Backup is silent"


@pytest.mark.parametrize("problem", [psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction])
def test_a_database_that_was_away_raises_no_false_alarm(
    node: InboundServer, backup: Integration, monkeypatch: pytest.MonkeyPatch, problem: type[psycopg.Error]
) -> None:
    def away(registry: IntegrationRegistry, now: datetime) -> bool:
        raise problem("the connection is lost")

    attempt = heartbeats.heartbeat_monitor_task(node.registry).run_once
    ping(node, backup)
    attempt()
    with monkeypatch.context() as patched:
        patched.setattr(heartbeats, "report_missed", away)
        with pytest.raises(problem):
            attempt()
    Heartbeat.objects.update(due_at=clock.now() - timedelta(minutes=1))
    attempt()
    assert not Alert.objects.exists()
    assert row().due_at > clock.now()  # type: ignore[operator]


def test_missed_heartbeat_without_alert_is_reported_again_while_it_lasts(
    node: InboundServer, backup: Integration
) -> None:
    ping(node, backup)
    end = clock.now() + timedelta(hours=3)
    spec = {"name": "Patch night", "starts": "2000-01-01 00:00", "ends": "2000-12-01 00:00"}
    window = maintenance_windows.save_window(spec, actor=COMMAND_LINE, now=NOW)
    window.times = {**window.times, "starts": "2026-01-01 00:00", "ends": end.strftime("%Y-%m-%d %H:%M")}
    window.save()
    settings_store.bump()
    later(node, minutes=66)
    later(node, hours=2, minutes=30)
    assert not Alert.objects.exists()
    later(node, hours=3, minutes=20)
    assert Alert.objects.get().subject == "Backup is silent"
    later(node, hours=9)
    assert (row().health, row().due_at, Alert.objects.get().count) == ("late", None, 1)


def test_heartbeat_missed_while_disabled_is_reported_when_enabled(node: InboundServer, backup: Integration) -> None:
    ping(node, backup)
    Integration.objects.update(mode="disabled")
    settings_store.bump()
    later(node, minutes=66)
    later(node, hours=8)
    Integration.objects.update(mode="page")
    settings_store.bump()
    later(node, hours=9)
    assert Alert.objects.get().subject == "Backup is silent"


def test_dry_run_missed_heartbeat_pages_once_paging_is_enabled(node: InboundServer, backup: Integration) -> None:
    def becomes(mode: str) -> None:
        integration = Integration.objects.get()
        spec = {**integration_spec(integration), "mode": mode}
        save_integration(spec, existing=integration, actor=COMMAND_LINE, now=clock.now())

    becomes("dry_run")
    ping(node, backup)
    later(node, minutes=66)
    alert = Alert.objects.get()
    later(node, hours=2)
    assert (alert.dry_run, alert.count, alert.runs.latest("pk").mode) == (True, 1, "dry_run")
    becomes("page")
    later(node, hours=3)
    alert.refresh_from_db()
    assert (alert.dry_run, alert.count, alert.runs.latest("pk").mode) == (False, 2, "page")
    later(node, hours=4)
    assert Alert.objects.get().count == 2


def test_failure_with_long_output_is_one_failure(node: InboundServer, backup: Integration) -> None:
    ping(node, backup, body=json.dumps({"heartbeat": "fail", "output": "x" * 20_000}).encode())
    assert row().health == "failed"
    assert Alert.objects.get().subject == "Backup says that it failed"


def test_job_that_restarts_without_ending_is_reported(node: InboundServer, backup: Integration) -> None:
    ping(node, backup, "/start")
    first = row().due_at
    ping(node, backup, "/start")
    assert row().due_at == first


def test_one_sender_s_silence_is_not_another_s(node: InboundServer, backup: Integration) -> None:
    other = make_integration("Other", "heartbeat", source="Backup")
    Integration.objects.filter(pk=backup.pk).update(source="Backup")
    settings_store.bump()
    ping(node, backup)
    ping(node, other)
    later(node, minutes=66)
    assert Alert.objects.filter(status="open").count() == 2
    ping(node, other)
    assert [alert.integration for alert in Alert.objects.filter(status="open")] == [backup]


def test_unreportable_missed_heartbeat_is_retried_and_blocks_no_other(
    node: InboundServer, backup: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_integration("Other", "heartbeat", settings={"interval": "1h"})
    settings_store.bump()
    ping(node, backup)
    ping(node, other)
    whole = drain.process_now

    def failing(incoming: Sequence[IncomingMessage], now: datetime) -> list[MessageResult]:
        if incoming[0].integration_id == backup.pk:
            raise KeyError("whatever it is")
        return whole(incoming, now)

    with monkeypatch.context() as patched:
        patched.setattr(drain, "process_now", failing)
        later(node, minutes=66)
    assert [alert.integration for alert in Alert.objects.all()] == [other]
    later(node, minutes=66, seconds=11)
    assert {alert.integration for alert in Alert.objects.all()} == {other, backup}


def test_a_change_of_the_interval_counts_from_the_last_beat(node: InboundServer, backup: Integration) -> None:
    ping(node, backup)
    spec = {**integration_spec(backup), "settings": {"interval": "1d"}, "anyway": True}
    save_integration(spec, existing=backup, actor=COMMAND_LINE, now=clock.now())
    assert row().due_at == row().last_at + timedelta(days=1, minutes=5)  # type: ignore[operator]


def test_other_ends_of_the_address_and_other_methods_are_refused(node: InboundServer, backup: Integration) -> None:
    assert ping(node, backup, "/explode").status == 404
    assert ping(node, backup, method="DELETE").status == 405
    assert node.post("/in/" + "0" * 32, method="GET").status == 405
    assert not Heartbeat.objects.exists()


def test_opsgenies_heartbeat_pings_find_theirs_by_name(node: InboundServer, backup: Integration) -> None:
    scripts = make_integration("Scripts", "opsgenie")
    closed = make_integration("Others", "opsgenie", settings={"pings": False})
    key = {"authorization": f"GenieKey {secrets.token_of(scripts)}"}
    for method in ("GET", "POST", "PUT", "PATCH"):
        reply = node.post("/v2/heartbeats/backup/ping", b"", method=method, **key)
        assert (reply.status, reply.body["result"]) == (202, "PONG - Heartbeat received")
    assert row().health == "up"
    before = row().last_at
    assert node.post("/v2/heartbeats/nobody/ping", b"", **key).status == 202
    node.post("/v2/heartbeats/backup/ping", b"", authorization=f"GenieKey {secrets.token_of(closed)}")
    assert (row().last_at, len(rows())) == (before, 4)
    assert node.post("/v2/heartbeats/backup/ping", b"", authorization="GenieKey x").status == 401


def test_opsgenies_clients_read_a_heartbeat(node: InboundServer, backup: Integration) -> None:
    key = {"authorization": f"GenieKey {secrets.token_of(make_integration('Scripts', 'opsgenie'))}"}
    reply = node.post("/v2/heartbeats/backup", b"", method="GET", **key)
    expected = {"name": "Backup", "interval": 60, "intervalUnit": "minutes", "enabled": True, "expired": False}
    assert (reply.status, {name: reply.body["data"][name] for name in expected}) == (200, expected)
    ping(node, backup)
    later(node, hours=2)
    assert node.post("/v2/heartbeats/backup", b"", method="GET", **key).body["data"]["expired"] is True
    assert node.post("/v2/heartbeats/nobody", b"", method="GET", **key).status == 404
