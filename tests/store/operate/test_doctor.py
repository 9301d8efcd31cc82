"""`tocsin doctor` on a real database: each problem is reported with a remedy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.doubles.certificates import make_certificate
from tests.doubles.http import Request, Response, http_double
from tests.doubles.postgres_relay import relay_to
from tests.support.ingest import make_integration
from tests.support.people import ACTOR, make_group, make_user
from tests.support.postgres import in_use
from tests.support.replication import set_standbys
from tocsin.cli.main import run
from tocsin.core.config import crypto, settings_store
from tocsin.core.config import environment as config
from tocsin.core.config.settings_store import LastBackup
from tocsin.core.db import database
from tocsin.core.db import database as db
from tocsin.core.reasons import NO_REASON, TEXT, Term
from tocsin.core.runtime import clock
from tocsin.core.validation.spec import write_moment
from tocsin.escalation.commands import save_policy
from tocsin.inbound.models import Integration
from tocsin.notify.models import Provider
from tocsin.oncall.changes import overrides
from tocsin.oncall.changes.commands import save_schedule
from tocsin.oncall.models import CalendarImport, Schedule
from tocsin.operate import doctor, readiness
from tocsin.operate.checks import machine
from tocsin.operate.checks.database import check_timeouts
from tocsin.operate.doctor import examine
from tocsin.operate.finding import HealthFinding
from tocsin.operate.models import Node
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.operate.self_check import SelfCheckRunner
from tocsin.people.changes import out_of_office
from tocsin.people.models import ContactMethod, User


@pytest.fixture(autouse=True)
def environment(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TOCSIN_DATABASE_URL", database)
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path))
    config.read_again()
    yield
    config.read_again()


def setenv(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config.read_again()


#: The areas of the checks that yield ids which begin so; those of the server, machine and address always run.
AREAS: dict[str, tuple[str, ...]] = {
    "address": (),
    "backup": ("backups",),
    "clock": (),
    "configuration": (),
    "database": ("connections",),
    "integration": ("integrations", "recipients"),
    "oncall": ("on call",),
    "paging": ("running", "alerts"),
    "people": ("people",),
    "provider": ("providers", "deliveries"),
    "running": ("running",),
    "secrets": ("secrets", "keys"),
}


def find_problems(now: datetime, name: str = "") -> list[HealthFinding]:
    """The findings whose id begins so, by the checks that look for them; without a name, all findings."""
    areas = AREAS.get(name.partition(".")[0])
    with pytest.MonkeyPatch.context() as patched:
        if areas is not None:
            patched.setattr(doctor, "CHECKS", [check for check in doctor.CHECKS if check.area.text in areas])
        return [finding for finding in examine(now) if finding.id.startswith(name)]


def ids(now: datetime, name: str = "") -> list[str]:
    return [finding.id for finding in find_problems(now, name)]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_healthy_installation_reports_only_the_test_servers_problem(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user("alice", now)
    make_user("erin", now, role="admin")
    group = make_group("Service Desk", now, ["alice"])
    policy = save_policy({"name": "Standard", "steps": [{"notify": {"roles": ["primary"]}}]}, actor=ACTOR, now=now)
    make_integration(policy=policy).recipient_groups.add(group)
    NodeHeartbeat(uuid4(), "all", list).run_once()
    with http_double() as smtp:
        # Not an SMTP server: it is refused, so that the check is known to have asked.
        setenv(monkeypatch, TOCSIN_SMTP_URL=f"smtp://127.0.0.1:{smtp.port}")
        SelfCheckRunner(now=lambda: now, heartbeat_url=lambda: None).run_once()
        problems = [finding.id for finding in examine(now) if finding.is_problem]
    # The tests run PostgreSQL without durability.
    # Alice has only the channel of that server.
    assert {one for one in problems if not one.startswith("database.")} == {"provider.refuses", "oncall.not_loud"}
    assert "database.fsync" in problems
    # The examination's own session writes nothing, which says nothing about the database.
    assert "database.read_only" not in problems


def test_what_is_not_durable_is_a_problem_with_its_remedy(now: datetime) -> None:
    (finding,) = find_problems(now, "database.fsync")
    assert (str(finding.remedy), finding.is_problem) == ("Set fsync to on.", True)


def test_outdated_schema_is_reported_without_querying_it(now: datetime) -> None:
    with database.transaction() as connection:
        connection.execute("DELETE FROM django_migrations WHERE app = 'operate'")
    found = ids(now)
    assert "database.tables" in found
    assert not [one for one in found if one.startswith(("people.", "running."))]


def test_newer_schema_is_reported_and_other_checks_still_run(now: datetime) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('alerts', '9999_later', now())")
    (finding,) = find_problems(now, "database.newer")
    assert "alerts.9999_later" in str(finding.detail)
    assert "running.nothing" in ids(now)


def test_clock_skew_is_reported(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MAX_SKEW", timedelta(seconds=-1))
    assert ids(now, "clock.") == ["clock.off"]


def test_too_few_connections_for_all_nodes_are_reported(now: datetime) -> None:
    assert ids(now, "database.connections") == []
    for _ in range(11):
        NodeHeartbeat(uuid4(), "all", list).run_once()
    (finding,) = find_problems(now, "database.connections")
    assert "11 Tocsin nodes may need up to 330 connections." in str(finding.detail)
    assert "allows 197" in str(finding.detail)


def test_hints_arrive_on_a_direct_connection(now: datetime) -> None:
    assert ids(now, "database.pooler") == []


def test_doctor_does_not_wait_for_missing_standby(primary: str, tmp_path: Path) -> None:
    """Any write would wait without end, and so would the process for a thread of its own."""
    settings = {"TOCSIN_DATABASE_URL": primary, "TOCSIN_DATA_DIR": str(tmp_path)}
    command = [Path(sys.executable).with_name("tocsin"), "doctor", "--json"]
    with psycopg.connect(primary, autocommit=True) as operator:
        set_standbys(operator, "missing")
        try:
            done = subprocess.run(
                command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            set_standbys(operator, "")
    found = {problem["id"] for problem in json.loads(done.stdout)["problems"]}
    assert "database.standby_missing" in found
    assert not {"check.failed", "database.pooler", "provider.refuses"} & found, done.stdout


def test_readable_key_file_is_reported(tmp_path: Path) -> None:
    key = tmp_path / "secret.key"
    assert list(machine.key_file(key)) == []
    key.write_text("x" * 43)
    key.chmod(0o640)
    (finding,) = machine.key_file(key)
    assert (finding.id, "mode 0640" in str(finding.detail)) == ("secrets.key_file", True)
    key.chmod(0o600)
    assert list(machine.key_file(key)) == []


def test_low_disk_space_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "MIN_FREE_BYTES", 0)
    monkeypatch.setattr(readiness, "AMPLE_FREE_BYTES", 0)
    assert list(readiness.check_disk(tmp_path)) == []
    monkeypatch.setattr(readiness, "MIN_FREE_BYTES", 1 << 60)
    (finding,) = readiness.check_disk(tmp_path)
    assert (finding.id, finding.about) == ("disk.space", str(tmp_path))


def test_test_clock_and_debug_mode_are_reported(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, TOCSIN_TEST_CLOCK="1", TOCSIN_DEBUG="1")
    assert ids(now, "configuration.") == ["configuration.test_clock", "configuration.debug"]


def test_secrets_that_no_key_opens_are_named(now: datetime) -> None:
    make_integration("Good")
    make_integration("Bad")
    Integration.objects.filter(name="Bad").update(token="gAAAA-of-another-key")
    Provider.objects.create(name="Mail", kind="smtp", channels=["email"], secrets="nonsense")
    assert [finding.about for finding in find_problems(now, "secrets.unreadable")] == ["Bad", "Mail"]
    assert [finding.about for finding in find_problems(now, "provider.unusable")] == ["Mail"]


def test_a_provider_that_refuses_is_named_without_its_secret(now: datetime) -> None:
    Provider.objects.create(
        name="Mail",
        kind="smtp",
        channels=["email"],
        settings={"host": "127.0.0.1", "port": 1},
        secrets=crypto.encrypt(json.dumps({"password": "hunter2hunter2"})),
    )
    (finding,) = find_problems(now, "provider.refuses")
    assert finding.about == "Mail"
    assert "hunter2" not in str(finding.detail)


def test_channel_in_use_without_provider_is_reported(now: datetime) -> None:
    method = {"label": "SMS", "channel": "sms", "address": "+41790000001"}
    make_user("alice", now, contact_methods=[method])
    make_user("bob", now, contact_methods=[{"label": "Push", "channel": "ntfy", "address": "a-topic-of-bobs"}])
    missing = {finding.about: finding for finding in find_problems(now, "provider.missing")}
    assert set(missing) == {"email", "ntfy", "sms"}
    assert "pages for 1 person" in str(missing["sms"].detail)
    assert str(missing["ntfy"].remedy) == str(missing["sms"].remedy) == "Add one under Providers."
    # One that carries to other countries is no help to her.
    Provider.objects.create(
        name="Liechtenstein", kind="http_gateway", channels=["sms"],
        settings={"prefixes": "+423", "api_base": "http://127.0.0.1:1"},
    )  # fmt: skip
    (uncarried,) = find_problems(now, "provider.not_carried")
    assert str(uncarried.detail) == "No SMS provider delivers to the address of alice: pages by this channel fail."
    assert {finding.about for finding in find_problems(now, "provider.missing")} == {"email", "ntfy"}


def test_unreachable_overrides_covers_and_calendar_users_are_named(now: datetime) -> None:
    for name in ("alice", "bob", "carol", "dave", "erin", "frank"):
        make_user(name, now)
    make_group("Service Desk", now, ["alice"])
    shifts = [
        {"name": "Weekly", "rotate": {"every": "1w", "at": "09:00", "users": ["alice"]}, "start": "2026-01-05"},
        {"name": "Elsewhere", "calendar": {"url": "https://c.example.org/a.ics", "roles": ["primary"]}, "layer": 2},
    ]
    spec = {"name": "Desk", "group": "Service Desk", "time_zone": "UTC", "shifts": shifts}
    save_schedule(spec, actor=ACTOR, now=now)
    begin, end = (write_moment(now + timedelta(days=days)) for days in (1, 2))
    overrides.save_override({"schedule": "Desk", "user": "bob", "from": begin, "to": end}, actor=ACTOR, now=now)
    users = {user.username: user for user in User.objects.all()}
    away = {"from": begin, "to": end, "covers": {"Service Desk": "carol"}}
    out_of_office.save_absence(users["alice"], away, actor=ACTOR, now=now)
    out_of_office.save_absence(users["carol"], {"from": begin, "to": end, "cover": "alice"}, actor=ACTOR, now=now)
    out_of_office.save_absence(users["frank"], {"from": begin, "to": end, "cover": "erin"}, actor=ACTOR, now=now)
    CalendarImport.objects.update(spans=[[users["dave"].pk, begin, end]])
    ContactMethod.objects.exclude(user__username="alice").delete()
    named = [finding.about for finding in find_problems(now, "people.unreachable")]
    assert named == ["bob", "carol", "dave"], "whom Erin covers for is called by nobody"
    assert find_problems(now + timedelta(days=3), "people.unreachable") == []


def test_on_call_users_without_contact_method_are_named(now: datetime) -> None:
    for name in ("alice", "bob", "carol", "dave"):
        make_user(name, now)
    make_group("Service Desk", now, ["alice", "bob"])
    save_policy({"name": "Direct", "steps": [{"notify": {"users": ["carol"]}}]}, actor=ACTOR, now=now)
    ContactMethod.objects.filter(user__username="alice").update(is_enabled=False)
    ContactMethod.objects.filter(user__username="bob").update(address="nonsense")
    ContactMethod.objects.filter(user__username__in=("carol", "dave")).delete()
    assert [finding.about for finding in find_problems(now, "people.unreachable")] == ["alice", "bob", "carol"]
    ContactMethod.objects.filter(user__username="bob").update(channel="push", address="bob-phone")
    assert [finding.about for finding in find_problems(now, "people.unreachable")] == ["alice", "carol"]
    assert "bob gets only push notifications at priority critical and high" in str(
        find_problems(now, "people.push_only")[0].detail
    )
    User.objects.update(is_active=False)
    assert ids(now, "people.unreachable") == []


def test_integration_that_pages_no_user_is_named_with_its_route(now: datetime) -> None:
    make_user("alice", now)
    policy = save_policy({"name": "Standard", "steps": [{"notify": {"users": ["alice"]}}]}, actor=ACTOR, now=now)
    empty = make_group("Empty", now)
    roles = save_policy({"name": "Roles", "steps": [{"notify": {"roles": ["primary"]}}]}, actor=ACTOR, now=now)
    routes = [{"escalation_policy": roles.pk, "recipients": {"groups": [empty.pk]}}]
    make_integration("Routed", policy=policy, definition={"routes": routes})
    make_integration("Bare")
    make_integration("Dry run", mode="dry_run")
    named = {(finding.about, finding.level.value) for finding in find_problems(now, "integration.reaches_nobody")}
    assert named == {("Routed", "problem")}
    assert [finding.about for finding in find_problems(now, "integration.no_policy")] == ["Bare"]
    assert "routes[0]" in next(str(f.detail) for f in find_problems(now, "integration.") if f.about == "Routed")
    Integration.objects.update(settings={"anyway": True})
    assert {finding.level.value for finding in find_problems(now, "integration.reaches_nobody")} == {"note"}


def test_coverage_gaps_are_reported_with_their_times(now: datetime) -> None:
    make_user("alice", now)
    make_group("Service Desk", now)
    windows = [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "08:00", "to": "18:00"}]
    shift = {"name": "Days", "fixed": {"users": ["alice"], "roles": ["primary"], "windows": windows}}
    spec = {"name": "Days", "group": "Service Desk", "time_zone": "Europe/Zurich", "shifts": [shift]}
    save_schedule(spec, actor=ACTOR, now=now)
    (finding,) = find_problems(now, "oncall.gap")
    assert str(finding.detail) == (
        "No primary on call in Service Desk. From 2026-11-24 17:00 UTC for 14 hours, 60 times in total."
    )
    elsewhere = {"name": "Elsewhere", "layer": 2, "calendar": {"url": "https://calendar.example.org/a.ics"}}
    save_schedule({**spec, "shifts": [shift, elsewhere]}, existing=Schedule.objects.get(), actor=ACTOR, now=now)
    assert ids(now, "oncall.calendar") == [], "it was not read yet"
    CalendarImport.objects.update(error=TEXT(text="The calendar server returned 404."))
    (finding,) = find_problems(now, "oncall.calendar")
    assert str(finding.detail) == "The calendar of shift Elsewhere of Days: The calendar server returned 404."
    CalendarImport.objects.update(error=NO_REASON, unknown=["Zoe", "Yan"])
    (finding,) = find_problems(now, "oncall.calendar")
    assert str(finding.detail) == (
        "The calendar of shift Elsewhere of Days: No user matches Zoe and Yan: no one is on call for these events."
    )


def test_missing_administrator_is_reported(now: datetime) -> None:
    assert ids(now, "people.no_administrator") == ["people.no_administrator"]
    make_user("erin", now, role="admin")
    assert ids(now, "people.no_administrator") == []


def test_missing_nodes_and_missing_external_monitoring_are_reported(now: datetime) -> None:
    assert ids(now, "running.") == ["running.nothing"]
    NodeHeartbeat(uuid4(), "web", list, "pager1").run_once()
    assert ids(now, "running.") == []
    assert ids(now, "paging.") == ["paging.unwatched"]
    NodeHeartbeat(uuid4(), "worker", list, "pager2").run_once()
    Node.objects.filter(name="pager2").update(seen_at=clock.now() - timedelta(minutes=5))
    assert [finding.about for finding in find_problems(now, "running.gone")] == ["pager2"]


def test_self_check_problems_are_reported_by_doctor(now: datetime) -> None:
    from tocsin.alerts.models import Alert

    alert = Alert.objects.create(subject="VPN", opened_at=now, last_message_at=now)
    NodeHeartbeat(uuid4(), "all", list).run_once()
    SelfCheckRunner(now=lambda: now, heartbeat_url=lambda: None).run_once()
    (finding,) = find_problems(now, "paging.")
    assert (finding.id, f"#{alert.pk}" in str(finding.detail)) == ("paging.alerts_forgotten", True)


def test_without_a_public_address_that_is_a_note(now: datetime) -> None:
    (finding,) = find_problems(now, "address.")
    assert (finding.id, finding.is_problem) == ("address.none", False)


def test_missing_backup_becomes_a_problem_after_a_week(now: datetime) -> None:
    def backups(at: datetime) -> list[tuple[str, bool]]:
        return [(finding.id, finding.is_problem) for finding in find_problems(at, "backup.")]

    with database.transaction() as connection:
        connection.execute("UPDATE django_migrations SET applied = %s", (now,))
    assert backups(now + timedelta(days=7)) == [("backup.none", False)]
    assert backups(now + timedelta(days=7, seconds=1)) == [("backup.none", True)]
    with database.transaction() as connection:
        settings_store.record_backup(connection, LastBackup(now + timedelta(days=8), "host:/backup/tocsin", 123_456))
    assert backups(now + timedelta(days=15)) == []
    assert backups(now + timedelta(days=16)) == [("backup.old", True)]
    (finding,) = find_problems(now + timedelta(days=16), "backup.")
    assert "host:/backup/tocsin" in str(finding.detail)


def healthz(request: Request) -> Response:
    return Response(200, b"ok") if request.path == "/healthz" else Response(404)


def test_a_public_address_that_leads_here_is_well(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_double(healthz) as proxy:
        setenv(monkeypatch, TOCSIN_BASE_URL=proxy.url)
        assert ids(now, "address.") == ["address.local"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (Response(404), "address.not_here"),
        (Response(200, b"welcome"), "address.not_here"),
        (Response(301, headers={"Location": "https://elsewhere.example.org/"}), "address.elsewhere"),
        (Response(hangs_up=True), "address.unreachable"),
    ],
)
def test_foreign_public_address_is_reported(
    given: Response, wrong: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_double(lambda request: given) as proxy:
        setenv(monkeypatch, TOCSIN_BASE_URL=proxy.url)
        assert ids(now, "address.") == [wrong, "address.local"]


def test_unreachable_or_unencrypted_public_address_is_reported(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, TOCSIN_BASE_URL="http://tocsin.invalid")
    assert ids(now, "address.") == ["address.not_encrypted", "address.unreachable"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, ["address.none"]),
        ("http://localhost:8686", ["address.local"]),
        ("https://127.0.0.1", ["address.local"]),
        ("https://[::1]:8443", ["address.local"]),
        ("https://10.20.0.5", ["address.private"]),
        ("https://tocsin", ["address.private"]),
        ("https://tocsin.corp.local", ["address.private"]),
        ("http://192.168.1.20:8686", ["address.not_encrypted", "address.private"]),
        ("http://tocsin.example.org", ["address.not_encrypted"]),
        ("https://tocsin.example.org", []),
        ("https://203.0.114.7", []),
    ],
)
def test_url_that_others_cannot_use_is_reported(url: str | None, expected: list[str]) -> None:
    assert [finding.id for finding in machine.check_reach(url)] == expected


def test_untrusted_or_expiring_certificate_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)
    today = datetime.now(UTC)
    with http_double(healthz, certificate.server) as proxy:
        setenv(monkeypatch, TOCSIN_BASE_URL=proxy.url, TOCSIN_TRUSTED_PROXIES="127.0.0.1")
        assert [finding.id for finding in machine.check_address(today, certificate.client())] == ["address.local"]
        # It lives for three days, two of which are left.
        _local, ends = machine.check_address(today + timedelta(days=1.5), certificate.client())
        assert (ends.id, str(ends.detail)) == (
            "address.certificate_ends",
            "The certificate of 127.0.0.1 expires in 0 days.",
        )
        _local, untrusted = machine.check_address(today)
        assert untrusted.id == "address.certificate"
        assert "self-signed" in str(untrusted.detail)


def test_missing_tls_is_reported(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_double(healthz) as proxy:
        setenv(monkeypatch, TOCSIN_BASE_URL=proxy.url.replace("http:", "https:"))
        assert ids(now, "address.") == ["address.unreachable", "address.local"]


def test_failing_check_is_reported_and_others_continue(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.transaction() as connection:
        connection.execute("DROP TABLE notify_lastsent, operate_audit")
    findings = find_problems(now)
    assert [finding.about for finding in findings if finding.id == "check.failed"] == ["running"]
    assert "people.no_administrator" in [finding.id for finding in findings]


def test_command_prints_each_problem_with_remedy_and_exits_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = answer(capsys, "doctor")
    assert status == 1
    assert "problem  running.nothing: No Tocsin node is running" in out
    assert "         → Start `tocsin serve`" in out
    assert re.search(r"^\d+ problems\.$", out, re.MULTILINE)


def test_the_json_has_problems_and_notes_apart(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "doctor", "--json")
    body = json.loads(out)
    assert (status, body["ok"]) == (1, False)
    assert {"id", "detail", "remedy", "about", "level"} == set(body["problems"][0])
    assert "address.none" in [one["id"] for one in body["notes"]]
    assert all(one["remedy"] for one in body["problems"])


def test_unreachable_database_is_one_finding_without_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_DATABASE_URL", "postgresql://tocsin:hunter2x@127.0.0.1:1/tocsin")
    status, out, _ = answer(capsys, "doctor")
    assert status == 1
    assert "problem  database.unusable: The database is unavailable: connection" in out
    assert "hunter2x" not in out
    assert "note     address.none" in out


def test_an_unknown_variable_is_a_finding(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_DATABSE_URL", "x")
    status, out, _ = answer(capsys, "doctor", "--json")
    assert (status, [one["id"] for one in json.loads(out)["problems"]]) == (1, ["configuration.variable"])


def test_slow_network_timeouts_are_reported(database: str) -> None:
    with relay_to(database) as relay:
        with in_use(relay.url(database)), db.pool().connection() as connection:
            assert list(check_timeouts(connection)) == []
        slow = make_conninfo(relay.url(database), tcp_user_timeout=0, keepalives_idle=7200)
        with in_use(slow), db.pool().connection() as connection:
            (finding,) = check_timeouts(connection)
    assert finding.id == "database.timeouts"
    assert "sets tcp_user_timeout and keepalives_idle, which" in str(finding.detail)


def test_arbitrary_multi_host_connections_are_reported(database: str) -> None:
    with relay_to(database) as relay:
        several = make_conninfo(relay.url(database), host="127.0.0.1,127.0.0.1", port=f"{relay.port},{relay.port}")
        with in_use(several), db.pool().connection() as connection:
            assert list(check_timeouts(connection)) == []
        with in_use(f"{several} target_session_attrs=any"), db.pool().connection() as connection:
            (finding,) = check_timeouts(connection)
    assert finding.id == "database.any_server"


def test_missing_session_timeouts_are_reported(database: str) -> None:
    with db.connect(name="test") as connection:
        connection.execute("SET statement_timeout = 0")
        (finding,) = check_timeouts(connection)
    assert finding.id == "database.time_limits"


def test_check_past_its_deadline_is_reported_and_others_continue(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = Event()

    def hang(connection: db.Connection, now: datetime) -> list[HealthFinding]:
        asleep.wait()
        return []

    with monkeypatch.context() as patched:
        patched.setattr(doctor, "DEADLINE", timedelta(seconds=2))
        patched.setattr(doctor, "CHECKS", (doctor.HealthCheck(Term("people"), hang), *doctor.CHECKS[:1]))
        findings = examine(now)
    asleep.set()
    assert [finding.about for finding in findings if finding.id == "check.failed"] == ["people"]
    assert "running.nothing" in [finding.id for finding in findings]


def test_findings_are_known_before_the_next_check_ends(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = Event()

    def hang(connection: db.Connection, now: datetime) -> list[HealthFinding]:
        asleep.wait()
        return []

    checks = [doctor.HealthCheck(Term(area), hang) for area in ("people", "on call", "keys")]
    monkeypatch.setattr(doctor, "CHECKS", (*doctor.CHECKS[:1], *checks))
    found = doctor.find(now)
    assert any(finding.id == "running.nothing" for finding in found)
    monkeypatch.setattr(doctor, "DEADLINE", timedelta(seconds=0.1))
    late = next(finding for finding in found if finding.id == "check.failed")
    monkeypatch.setattr(doctor, "TOTAL_DEADLINE", timedelta())
    (skipped,) = [finding for finding in found if finding.id == "check.skipped"]
    asleep.set()
    assert late.about == "people"
    assert skipped.detail["areas"] == (Term("on call"), Term("keys"))


def test_used_up_connections_are_named_as_such(
    database: str, now: datetime, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database, autocommit=True) as operator:
        operator.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        # The last parameter counts.
        crowded = f"{database}&user=crowded"
        setenv(monkeypatch, TOCSIN_DATABASE_URL=crowded)
        try:
            status, out, _ = answer(capsys, "doctor")
            with in_use(crowded):
                failed = find_problems(now, "check.failed")
        finally:
            operator.execute("DROP ROLE crowded")
    assert status == 1
    assert {finding.detail["error"].code for finding in failed} == {
        "all connections that PostgreSQL allows are in use."
    }
    assert "problem  database.connections_used: All connections that PostgreSQL allows are in use" in out
    assert "database.unusable" not in out
    assert "note     address.none" in out


def test_checks_cannot_write(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(connection: db.Connection, now: datetime) -> list[HealthFinding]:
        make_user("mallory", now)
        return []

    def write_too(connection: db.Connection, now: datetime) -> list[HealthFinding]:
        connection.execute("DELETE FROM people_user")
        return []

    checks = (doctor.HealthCheck(Term("people"), write), doctor.HealthCheck(Term("on call"), write_too))
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert [finding.about for finding in find_problems(now, "check.failed")] == ["people", "on call"]
    assert not User.objects.filter(username="mallory").exists()
