"""Secret URLs, header values and private calendars are encrypted and never shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.doubles.http import HttpDouble, Response, http_double
from tests.store.configure.test_configure import apply
from tests.support.outbound_harness import OutboundHarness, desk
from tests.support.outbox_harness import allow_loopback
from tests.support.people import ACTOR, make_group, make_user
from tocsin.access.models import AuditEntry
from tocsin.configure import plan
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import HttpClient
from tocsin.oncall.calendars import calendar_import_worker
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.models import CalendarImport, Schedule
from tocsin.outbound import commands
from tocsin.outbound.models import Exchange, OutboundIntegration

SECRETS = ("T0KEN-in-path", "T0KEN-in-query", "T0KEN-in-header", "T0KEN-of-calendar")
URL = "https://chat.example.org/services/T0KEN-in-path?key=T0KEN-in-query"
SHOWN = "https://chat.example.org/…"
HOOK = {"name": "Chat", "kind": "http", "url": URL, "headers": {"X-Key": "T0KEN-in-header", "Accept": "text/plain"}}
ICAL = "https://calendar.example.org/T0KEN-of-calendar/basic.ics"
ICAL_SHOWN = "https://calendar.example.org/…"


def in_clear(url: str) -> set[str]:
    """The secrets that stand readable anywhere in the database."""
    results = set()
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
        for (table,) in tables:
            for (row,) in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))):
                results |= {secret for secret in SECRETS if secret in row}
    return results


def save(spec: dict[str, Any], now: datetime, existing: OutboundIntegration | None = None) -> OutboundIntegration:
    return commands.save_outbound(spec, existing=existing, actor=ACTOR, now=now)


def calendar(url: str = ICAL, name: str = "Elsewhere") -> dict[str, Any]:
    shift = {"name": name, "calendar": {"url": url, "roles": ["primary"]}}
    return {"name": "Desk", "group": "Desk", "shifts": [shift]}


@pytest.fixture
def schedule(database: str, now: datetime) -> Schedule:
    make_user("alice", now)
    make_group("Desk", now, ["alice"])
    return oncall.save_schedule(calendar(), actor=ACTOR, now=now)


@pytest.fixture
def other() -> Iterator[HttpDouble]:
    with http_double() as double:
        yield double


@pytest.fixture
def at(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutboundHarness]:
    allow_loopback(monkeypatch)
    with desk(now) as made:
        yield made


def test_an_http_call_leaves_no_secret_readable(database: str, now: datetime) -> None:
    row = save(HOOK, now)
    commands.save_outbound({**HOOK, "headers": {"X-Key": "T0KEN-in-header"}}, existing=row, actor=ACTOR, now=now)
    assert in_clear(database) == set()
    shown = commands.outbound_spec(row)
    assert (shown["url"], shown["headers"]) == (SHOWN, {"X-Key": "•••"})
    assert commands.secrets_set(row) == frozenset()
    whole = commands.outbound_spec(row, with_secrets=True)
    assert (whole["url"], whole["headers"]) == (URL, {"X-Key": "T0KEN-in-header"})


def test_what_is_shown_comes_back_as_unchanged(database: str, now: datetime) -> None:
    row = save(HOOK, now)
    entries = AuditEntry.objects.count()
    save(commands.outbound_spec(row), now, row)
    assert AuditEntry.objects.count() == entries
    save({**commands.outbound_spec(row), "headers": {"X-Key": "•••", "X-More": "one"}}, now, row)
    whole = commands.outbound_spec(row, with_secrets=True)
    assert (whole["url"], whole["headers"]) == (URL, {"X-Key": "T0KEN-in-header", "X-More": "one"})


def test_a_changed_path_is_on_record_without_the_path(database: str, now: datetime) -> None:
    row = save(HOOK, now)
    save({**commands.outbound_spec(row), "url": f"{URL}2"}, now, row)
    assert AuditEntry.objects.latest("pk").after == {"secrets_changed": ["url"]}


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"url": SHOWN}, "url"),
        ({"url": "https://chat.example.org/a", "headers": {"X-Key": "•••"}}, "headers"),
    ],
)
def test_a_hidden_value_without_a_stored_one_is_refused(
    database: str, now: datetime, spec: dict[str, Any], place: str
) -> None:
    with pytest.raises(Rejected, match="hidden here") as refused:
        save({"name": "New", "kind": "http", **spec}, now)
    assert refused.value.field == place


def test_hidden_headers_do_not_follow_to_another_origin(database: str, now: datetime) -> None:
    row = save(HOOK, now)
    with pytest.raises(Rejected, match="headers: enter the secret again"):
        save({**commands.outbound_spec(row), "url": "https://evil.example/"}, now, row)


def test_a_call_uses_the_whole_address_and_logs_its_host(at: OutboundHarness, other: HttpDouble, database: str) -> None:
    other.answering = lambda request: Response(400, body=f"{request.path} {request.headers['x-key']}".encode())
    pager = at.integration(
        url=f"{other.url}/services/T0KEN-in-path?key=T0KEN-in-query", headers={"X-Key": "T0KEN-in-header"}
    )
    at.queue(pager, "a")
    at.go()
    (request,) = other.requests
    assert (request.path, request.headers["x-key"]) == (
        "/services/T0KEN-in-path?key=T0KEN-in-query",
        "T0KEN-in-header",
    )
    assert Exchange.objects.get().url == f"{other.url}/…"
    assert in_clear(database) == set()


def test_a_calendars_address_is_readable_nowhere(database: str, schedule: Schedule) -> None:
    assert in_clear(database) == set()
    assert oncall.schedule_spec(schedule)["shifts"][0]["calendar"]["url"] == ICAL_SHOWN
    assert oncall.schedule_spec(schedule, with_secrets=True)["shifts"][0]["calendar"]["url"] == ICAL


def test_a_calendar_that_is_shown_stays_what_it_was(database: str, schedule: Schedule, now: datetime) -> None:
    CalendarImport.objects.update(read_at=now, spans=[[1, "a", "b"]])
    entries = AuditEntry.objects.count()
    oncall.save_schedule(oncall.spec_without_overrides(schedule), existing=schedule, actor=ACTOR, now=now)
    assert AuditEntry.objects.count() == entries
    oncall.save_schedule(calendar(ICAL_SHOWN, name="Renamed"), existing=schedule, actor=ACTOR, now=now)
    row = CalendarImport.objects.get()
    assert (row.shift, row.read_at, row.spans) == ("Renamed", now, [[1, "a", "b"]])
    assert oncall.schedule_spec(schedule, with_secrets=True)["shifts"][0]["calendar"]["url"] == ICAL
    oncall.save_schedule(calendar(f"{ICAL}2", name="Renamed"), existing=schedule, actor=ACTOR, now=now)
    assert AuditEntry.objects.latest("pk").after == {"secrets_changed": ["calendar"]}
    assert CalendarImport.objects.get().read_at is None


def test_a_hidden_calendar_address_alone_is_refused(schedule: Schedule, now: datetime) -> None:
    with pytest.raises(Rejected, match="is masked"):
        oncall.check_schedule(calendar("https://another.example.org/…"), existing=schedule)


def test_a_calendar_is_read_at_its_whole_address(
    schedule: Schedule, other: HttpDouble, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    other.answering = lambda request: Response(404)
    oncall.save_schedule(calendar(f"{other.url}/T0KEN-of-calendar"), existing=schedule, actor=ACTOR, now=now)
    client = HttpClient()
    calendar_import_worker.run_once(client, now)
    client.close()
    assert [request.path for request in other.requests] == ["/T0KEN-of-calendar"]
    assert str(CalendarImport.objects.get().error) == "The calendar server returned 404."


def test_an_export_hides_them_and_applies_as_unchanged(database: str, schedule: Schedule, now: datetime) -> None:
    save(HOOK, now)
    text = plan.write(plan.export_configuration(with_secrets=False))
    assert not [secret for secret in SECRETS if secret in text]
    assert apply(now, text).is_empty, "what is shown stands for what is stored"
    with_secrets = plan.write(plan.export_configuration(with_secrets=True))
    assert [secret for secret in SECRETS if secret not in with_secrets] == []


def test_a_calendars_address_comes_from_the_environment(
    schedule: Schedule, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICAL", f"{ICAL}2")
    apply(
        now,
        "schedules: [{name: Desk, group: Desk, shifts: [{name: Elsewhere, calendar: {url: {env: ICAL}}}]}]",
    )
    schedule.refresh_from_db()
    assert oncall.schedule_spec(schedule, with_secrets=True)["shifts"][0]["calendar"]["url"] == f"{ICAL}2"
