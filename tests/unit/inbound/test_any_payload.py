"""The general API reads JSON that nobody mapped: what it opens, what closes it, and what its alert says."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from tocsin.catalogue.kinds import load_kinds
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.mapping.evidence import identity_of, is_about_same
from tocsin.inbound.parsing.decode import elements_of

NORMALIZER = compile_normalizer(load_kinds()["api"], IntegrationDefinition())


def read(payload: Any, content_type: str = "application/json") -> NormalizedEvent:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    (element,) = elements_of(NORMALIZER.kind, body, content_type).elements
    event = NORMALIZER.normalize(element)
    assert isinstance(event, NormalizedEvent)
    return event


#: A failure and its recovery, in the form of each tool's webhook documentation.
PAIRS: dict[str, tuple[Any, Any]] = {
    "PagerDuty v3": (
        {
            "event": {
                "id": "01A",
                "event_type": "incident.triggered",
                "data": {"id": "PG", "title": "A bump", "status": "triggered"},
            }
        },
        {
            "event": {
                "id": "01B",
                "event_type": "incident.resolved",
                "data": {"id": "PG", "title": "A bump", "status": "resolved"},
            }
        },
    ),
    "Statuspage": (
        {
            "page": {"id": "p"},
            "incident": {
                "id": "i1",
                "name": "API errors",
                "status": "investigating",
                "shortlink": "https://stspg.io/i1",
            },
        },
        {
            "page": {"id": "p"},
            "incident": {"id": "i1", "name": "API errors", "status": "resolved", "shortlink": "https://stspg.io/i1"},
        },
    ),
    "updown": (
        {"event": "check.down", "check": {"token": "ngg8", "url": "https://updown.io"}, "downtime": {"error": "500"}},
        {"event": "check.up", "check": {"token": "ngg8", "url": "https://updown.io"}, "downtime": {"error": "500"}},
    ),
    "Checkly": (
        {
            "title": "API check has failed",
            "type": "ALERT_FAILURE",
            "checkId": "c-1",
            "link": "https://app.checklyhq.com/1",
        },
        {
            "title": "API check has recovered",
            "type": "ALERT_RECOVERY",
            "checkId": "c-1",
            "link": "https://app.checklyhq.com/2",
        },
    ),
    "TeamCity": (
        {
            "eventType": "BUILD_FINISHED",
            "payload": {"id": 1, "status": "FAILURE", "buildType": {"id": "Api_Build", "name": "Build"}},
        },
        None,
    ),
    "no id": (
        {"state": "down", "service": "nginx", "host": "web1", "text": "nginx is down"},
        {"state": "up", "service": "nginx", "host": "web1", "text": "nginx is up"},
    ),
    "title only": (
        {"title": "[FIRING] High CPU on web1", "status": "firing"},
        {"title": "[RESOLVED] High CPU on web1", "status": "resolved"},
    ),
    "flag": ({"name": "backup", "success": False}, {"name": "backup", "success": True}),
    "test run": (
        {"job": {"name": "nightly", "status": "failed", "url": "https://ci.example/1"}},
        {"job": {"name": "nightly", "status": "passed", "url": "https://ci.example/2"}},
    ),
    "condition of Kubernetes": (
        {"conditions": [{"type": "Ready", "status": "False"}], "name": "db"},
        {"conditions": [{"type": "Ready", "status": "True"}], "name": "db"},
    ),
    "edges of a sensor": (
        {"entity_id": "binary_sensor.leak", "from": "off", "to": "on", "message": "Water!"},
        {"entity_id": "binary_sensor.leak", "from": "on", "to": "off", "message": "Dry again"},
    ),
    "completed run that failed": (
        {
            "action": "job_complete",
            "id": "j1",
            "event_title": "Dump",
            "code": 1,
            "text": "Job failed: Dump",
            "host": "w1",
        },
        {
            "action": "job_complete",
            "id": "j2",
            "event_title": "Dump",
            "code": 0,
            "text": "Job completed: Dump",
            "host": "w1",
        },
    ),
    "backup of a database": (
        {"event": "backup.failed", "database": "shop", "resource": {"id": "b1", "state": "failed"}},
        {"event": "backup.succeeded", "database": "shop", "resource": {"id": "b2", "state": "success"}},
    ),
    "what was down": ({"title": "Shop is down"}, {"title": "Shop is back up", "text": "Was down for 14 min"}),
}


#: Statuses that a run ended, beside a failure.
FAILURES: list[dict[str, Any]] = [
    {"name": "lint", "status": "completed", "conclusion": "failure"},
    {"status": "SUCCESS", "project": {"name": "Shop"}, "qualityGate": {"name": "Sonar way", "status": "ERROR"}},
    {"status": "ok", "alert": {"id": "7", "state": "firing", "title": "Disk full"}},
]


@pytest.mark.parametrize("payload", FAILURES)
def test_completed_message_that_names_a_failure_opens(payload: dict[str, Any]) -> None:
    assert read(payload).action is EventAction.OPEN


@pytest.mark.parametrize(
    "payload",
    [
        {"id": "7", "status": "resolved", "previous": {"status": "failed"}},
        {"id": "7", "status": "resolved", "user": {"status": "active"}},
        {"id": "7", "status": "resolved", "severity": "critical"},
    ],
)
def test_recovery_beside_what_is_no_failure_closes(payload: dict[str, Any]) -> None:
    assert read(payload).action is EventAction.CLOSE


def test_own_rule_about_a_completion_decides() -> None:
    rules = {"close": {"field": "source_status", "operator": "equals", "value": "completed"}}
    normalizer = compile_normalizer(load_kinds()["api"], IntegrationDefinition(rules=rules))
    body = json.dumps({"id": "7", "status": "completed", "result": "failed"}).encode()
    (element,) = elements_of(normalizer.kind, body, "application/json").elements
    event = normalizer.normalize(element)
    assert isinstance(event, NormalizedEvent)
    assert event.mapped.text("source_status") == "completed"


def test_runs_of_other_branches_are_other_problems() -> None:
    def run(branch: str, status: str, number: int) -> NormalizedEvent:
        return read({"build": {"id": number, "name": "test", "status": status, "branch": branch}})

    assert run("main", "failed", 1).source_id == run("main", "passed", 2).source_id
    assert run("main", "failed", 1).source_id != run("other", "passed", 2).source_id


@pytest.mark.parametrize(("failure", "recovery"), PAIRS.values(), ids=PAIRS.keys())
def test_recovery_closes_what_its_failure_opened(failure: Any, recovery: Any) -> None:
    opened = read(failure)
    assert opened.action is EventAction.OPEN
    assert opened.mapped.text("subject")
    assert opened.mapped.text("long_text")
    if recovery is not None:
        closed = read(recovery)
        assert (closed.action, closed.source_id) == (EventAction.CLOSE, opened.source_id)
        assert opened.source_id is not None


def test_json_in_a_form_is_read_like_a_body() -> None:
    payload = {"id": "7", "status": "firing", "title": "Disk"}
    form = urlencode({"payload": json.dumps(payload), "token": "x"}).encode()
    assert read(form, "application/x-www-form-urlencoded").mapped == read(payload).mapped


def test_form_with_a_broken_payload_field_stays_a_form() -> None:
    event = read(urlencode({"payload": "{broken", "title": "x"}).encode(), "application/x-www-form-urlencoded")
    assert event.mapped.text("subject") == "x"


def test_unknown_status_opens_and_says_so() -> None:
    event = read({"id": "7", "status": "wobbly", "title": "x"})
    assert (event.action, event.rule_match.reason.code) == (
        EventAction.OPEN,
        'unknown status "{status}", so it opens. Set what it does, or map the status',
    )


def test_alert_shows_the_whole_message() -> None:
    event = read({"check": {"label": "Checkout is slow", "values": [{"p95": 4.2}]}, "seen": 3})
    assert event.mapped.text("subject") == "Checkout is slow"
    assert event.mapped.text("long_text") == "check.label: Checkout is slow\ncheck.values.1.p95: 4.2\nseen: 3"


def test_message_without_id_and_status_is_its_own_problem() -> None:
    assert read({"title": "Disk full"}).source_id is None


@pytest.mark.parametrize(
    ("payload", "action"),
    [
        ({"job": "backup", "exit_code": 1}, EventAction.OPEN),
        ({"job": "backup", "exit_code": 0}, EventAction.CLOSE),
        ({"event": "finished", "buildid": 3, "buildername": "tests", "results": 2}, EventAction.OPEN),
        ({"event_type": "container.down", "name": "web", "status": "stopped"}, EventAction.OPEN),
        ({"name": "disk", "type": "update"}, EventAction.OPEN),
        ({"id": "7", "status": 0, "state": "passed"}, EventAction.CLOSE),
        ({"id": "7", "action": "update", "data": {"status": "failed"}}, EventAction.OPEN),
        ({"app": {"metadata": {"name": "shop"}, "status": {"health": {"status": "Healthy"}}}}, EventAction.CLOSE),
        ({"name": "disk", "message": "full", "resolved_at": "2026-11-24T02:10:00Z"}, EventAction.CLOSE),
    ],
)
def test_status_is_found_where_a_tool_says_it(payload: dict[str, Any], action: EventAction) -> None:
    assert read(payload).action is action


def test_status_of_a_thing_beside_a_title_closes_nothing() -> None:
    payload = {"title": "Disk of web1 is full", "server": {"name": "web1", "status": "online"}}
    assert read(payload).action is EventAction.OPEN


@pytest.mark.parametrize(
    ("payload", "subject"),
    [
        ({"monitor_name": "Shop", "status": "down", "message": "Shop (web1) is down"}, "Shop (web1) is down"),
        ({"job_name": "PAYROLL", "status": "failed", "message": "Ended not OK"}, "PAYROLL: Ended not OK (failed)"),
        ({"alert_name": "Load average", "device_name": "db1", "status": "open"}, "db1: Load average"),
        ({"text": "#### [FIRING] Disk full\n| db1 | 97 |"}, "[FIRING] Disk full"),
        (
            {"state": "failed", "commit": "8f1c", "branch": "main", "message": "Add x", "project": "shop"},
            "shop: failed",
        ),
        ({"reason": "disk", "alertType": "Recording failed", "status": "open"}, "Recording failed"),
    ],
)
def test_subject_says_what_happened_and_where(payload: dict[str, Any], subject: str) -> None:
    assert read(payload).mapped.text("subject") == subject


@pytest.mark.parametrize(
    ("failure", "recovery"),
    [
        (
            {"id": "e1", "detail-type": "Alarm", "detail": {"alarmName": "Latency", "state": {"value": "ALARM"}}},
            {"id": "e2", "detail-type": "Alarm", "detail": {"alarmName": "Latency", "state": {"value": "OK"}}},
        ),
        ({"id": "1", "title": "[Triggered] CPU is high"}, {"id": "2", "title": "[Recovered] CPU is high"}),
        (
            {"id": "1", "check": {"name": "disk", "state": "failing"}, "host": "db1"},
            {"id": "2", "check": {"name": "disk", "state": "passing"}, "host": "db1"},
        ),
        (
            {"id": 5, "name": "Patch", "status": "failed", "started": "02:05", "finished": "02:10"},
            {"id": 6, "name": "Patch", "status": "successful", "started": "03:05", "finished": "03:10"},
        ),
        (
            {"metric": "CPU", "server_name": "web1", "status": "fired", "text": "CPU is 95 %"},
            {"metric": "CPU", "server_name": "web1", "status": "resolved", "text": "CPU is now 45 % (was 95 %)"},
        ),
    ],
)
def test_id_of_one_message_is_no_id_of_an_alert(failure: dict[str, Any], recovery: dict[str, Any]) -> None:
    opened, over = read(failure), read(recovery)
    assert (opened.action, over.action) == (EventAction.OPEN, EventAction.CLOSE)
    assert opened.source_id is not None
    assert opened.source_id == over.source_id


def test_title_with_a_status_names_no_run() -> None:
    def failure(job: str) -> str | None:
        return read({"event": "job.failed", "id": job, "title": "Job failed"}).source_id

    assert (failure("dump"), failure("mails")) == ("dump", "mails")


def test_alert_about_a_resource_keeps_its_own_id() -> None:
    alert = {"id": "12", "type": "alert", "status": "firing", "title": "CPU", "resource": {"id": "r1", "name": "web1"}}
    assert read(alert).source_id == "12"


def test_branch_of_a_company_is_no_run() -> None:
    assert read({"id": "disk-7", "branch": "Berlin", "status": "firing", "title": "Disk full"}).source_id == "disk-7"
    assert read({"id": "disk-7", "title": "[FIRING] Disk full", "firing": True}).source_id == "disk-7"


@pytest.mark.parametrize("name", ["alarmSeverity", "criticality", "problem_priority"])
def test_severity_is_known_by_the_end_of_its_name(name: str) -> None:
    assert read({"id": "7", "status": "open", name: "LEVEL_CRITICAL"}).mapped.text("priority") == "critical"


@pytest.mark.parametrize(
    "payload",
    [
        {"message": "Server web1 is no longer responding"},
        {"message": "web1 antwortet nicht", "host": "web1"},
        {"title": "Session ended unexpectedly"},
        {"title": "Backup completed with 3 errors"},
        {"title": "Disk of web1 is full", "network": "online"},
        {"message": "nginx 1.28", "available": True},
        {"title": "Disk full", "clear": "https://x.example/clear"},
        {"name": "Pump 2", "state": "off", "message": "Alarm: no pressure at the sensor"},
        {"type": "connection", "message": "Could not connect to db1"},
        {"id": 7, "status": "completed", "text": "Job failed on web1"},
        {"name": "Kasse", "text": "Praxissoftware startet nicht mehr - dringend"},
        {"name": "Till", "text": "The till no longer starts"},
        {"text": "Only 7.3 GB available on the root disk. Better clean that up."},
        {"name": "Docs", "url": "https://docs.example.com", "trigger": "down"},
        {"message": "VPN connected from unknown address"},
        {"message": "TCP RESET storm on fw1"},
        {"message": "CPU is higher than normal on web1"},
        {"message": "Temperature above normal in room 3"},
        {"message": "Only 1 of 3 nodes online"},
        {"message": "Failed to recover db1"},
        {"message": "Disk full, shop online since yesterday"},
        {"message": "New version available"},
        {"title": "App of shop is down", "message": "The application stopped responding"},
    ],
)
def test_failure_that_names_something_good_closes_nothing(payload: dict[str, Any]) -> None:
    assert read(payload).action is EventAction.OPEN


@pytest.mark.parametrize(
    "payload",
    [
        {"check": "logins", "text": "Login error rate is now `not-triggered`"},
        {"check": "logins", "text": "web1 is no longer down"},
        {"anlage": "Kühlhaus", "meldung": "Temperatur zu hoch", "status": "geht"},
    ],
)
def test_problem_that_is_no_more_is_over(payload: dict[str, Any]) -> None:
    assert read(payload).action is EventAction.CLOSE


def test_same_event_of_other_things_is_another_problem() -> None:
    def backup(vm: str, event: str) -> NormalizedEvent:
        return read({"eventName": event, "vm": vm, "detail": "Snapshot of the disks"})

    assert backup("db-1", "backup_failed").source_id == backup("db-1", "backup_succeeded").source_id
    assert backup("db-1", "backup_failed").source_id != backup("db-2", "backup_succeeded").source_id
    assert read({"type": "backup_failed", "detail": "No space"}).source_id != "backup"


def test_number_is_a_priority_only_without_a_word() -> None:
    assert read({"title": "Disk", "priority": 1}).mapped.text("priority") == "critical"
    assert read({"title": "Disk", "priority": 4, "rule": {"level": "high"}}).mapped.text("priority") == "high"


def test_subject_of_the_sender_is_complete() -> None:
    assert read({"subject": "Disk is full", "host": "db1"}).mapped.text("subject") == "Disk is full"
    assert read({"title": "Disk is full", "host": "db1"}).mapped.text("subject") == "db1: Disk is full"


def test_likely_id_can_be_stored() -> None:
    event = read({"monitor": "Checkout", "application": "\x00Shop \ud800", "host": "web1", "status": "failed"})
    assert event.source_id is not None
    assert not {"\x00", "\ud800"} & set(event.source_id)


#: A failure and its recovery in forms that say it with no known word: flags, other languages, times and addresses.
OTHER_FORMS: dict[str, tuple[Any, Any]] = {
    "status beside the former one": (
        {"alarm_id": "7", "severity": "critical", "previous": "ok", "current": "alarm"},
        {"alarm_id": "7", "severity": "critical", "previous": "alarm", "current": "ok"},
    ),
    "id of an event beside that of its incident": (
        {"event_id": "e1", "incident": {"incident_id": "i7", "title": "Lag", "incident_status": "Critical"}},
        {"event_id": "e2", "incident": {"incident_id": "i7", "title": "Lag", "incident_status": "Ok"}},
    ),
    "id that is the code of an event": (
        {"alertId": "gw_vpn_site_offline", "alertType": "VPN Site Disconnected", "deviceName": "gw-1"},
        {"alertId": "gw_vpn_site_online", "alertType": "VPN Site Connected", "deviceName": "gw-1"},
    ),
    "words of a success under any name": (
        {"application": "facturation", "etape": "échoué", "message": "Version 3.8.1 hors ligne"},
        {"application": "facturation", "etape": "terminé", "message": "Version 3.8.1 en ligne"},
    ),
    "flag of a thing whose name has a word of a failure": (
        {"name": "Error page", "online": False},
        {"name": "Error page", "online": True},
    ),
    "flag as number": ({"name": "Import", "is_ok": 0}, {"name": "Import", "is_ok": 1}),
    "flag as text": ({"task": "Import", "success": "false"}, {"task": "Import", "success": "true"}),
    "German flag": ({"geraet": "Pumpe 3", "stoerung": True}, {"geraet": "Pumpe 3", "stoerung": False}),
    "flag of a reading": (
        {"device_id": "fridge-7", "uplink": {"reading": {"alarm": True}}},
        {"device_id": "fridge-7", "uplink": {"reading": {"alarm": False}}},
    ),
    "time of its end beside what it is called": (
        {"type": "CommunicationLost", "label": "Connection lost", "clearedTime": "0001-01-01T00:00:00Z", "ups": "U2"},
        {"type": "CommunicationLost", "label": "Connection lost", "clearedTime": "2026-11-28T03:44:00Z", "ups": "U2"},
    ),
    "id of an event about a device": (
        {"event": {"id": 51, "deviceId": 31, "type": "deviceOffline"}, "device": {"id": 31, "name": "Truck 14"}},
        {"event": {"id": 59, "deviceId": 31, "type": "deviceOnline"}, "device": {"id": 31, "name": "Truck 14"}},
    ),
    "id with a time and a status": (
        {"event_id": "a:c:1326910500000:CRITICAL", "state": "CRITICAL", "alarm": {"id": "a7"}},
        {"event_id": "a:c:1326911700000:OK", "state": "OK", "alarm": {"id": "a7"}},
    ),
    "rule that is on and off": (
        {"database": "sessions", "alert": "Memory", "state": "on", "threshold": 80},
        {"database": "sessions", "alert": "Memory", "state": "off", "threshold": 80},
    ),
    "limit": ({"queue": "invoices", "over_limit": True}, {"queue": "invoices", "over_limit": False}),
    "name of an object of Kubernetes": (
        {"metadata": {"name": "tls"}, "conditions": [{"type": "Ready", "status": "False", "message": "Order failed"}]},
        {"metadata": {"name": "tls"}, "conditions": [{"type": "Ready", "status": "True", "message": "Up to date"}]},
    ),
    "run whose name has its time": (
        {"kind": "Backup", "metadata": {"name": "daily-20261128031400"}, "status": {"phase": "Failed"}},
        {"kind": "Backup", "metadata": {"name": "daily-20261129031400"}, "status": {"phase": "Completed"}},
    ),
    "time of its end": ({"name": "API", "resolved_at": None}, {"name": "API", "resolved_at": 1764380900}),
    "address only": (
        {"event": "check.down", "check": {"url": "https://shop.example/", "down": True}},
        {"event": "check.up", "check": {"url": "https://shop.example/", "down": False}},
    ),
    "state of a service": (
        {"computer": "print1", "service": "Spooler", "status": "Stopped"},
        {"computer": "print1", "service": "Spooler", "status": "Running"},
    ),
    "event of a thing with an id of its own": (
        {"id": "e1", "event": "deviceOffline", "device": {"id": "d1", "name": "AP"}},
        {"id": "e2", "event": "deviceOnline", "device": {"id": "d1", "name": "AP"}},
    ),
    "how much it is": (
        {"anlage": "Klima 1", "meldung": "Raumtemperatur zu hoch", "status": "Störung"},
        {"anlage": "Klima 1", "meldung": "Raumtemperatur wieder normal", "status": "behoben"},
    ),
}


#: A failure and its recovery of which nothing says more than a sentence.
SENTENCES: list[tuple[str, str]] = [
    ("CRITICAL db1 disk 95% used", "OK db1 disk 61% used"),
    ("Host web1 went down", "Host web1 came back up"),
    ("Link down on port 12 of sw-1", "Link up on port 12 of sw-1"),
    ("Job nightly-etl FAILED after 12m", "Job nightly-etl SUCCEEDED after 14m"),
    ("High CPU usage on web1 (97%)", "CPU usage on web1 back to normal (31%)"),
    ("Disk space low on C: of FS01", "Disk space OK on C: of FS01"),
    ("Certificate of shop.example expires in 5 days", "Certificate of shop.example renewed"),
    ("VPN to Berlin: disconnected", "VPN to Berlin: connected"),
    ("Tunnel berlin: DOWN since 03:14", "Tunnel berlin: UP since 03:24"),
    ("Smoke detected in kitchen", "Smoke no longer detected in kitchen"),
    ("web1 timed out", "web1 recovered"),
    ("UPS ups1 on battery", "UPS ups1 on line power"),
    ("Health check failed for target i-1", "Health check passed for target i-1"),
    ("Threshold exceeded: load on web1 (12 > 8)", "Threshold no longer exceeded: load on web1 (3 < 8)"),
    (":red_circle: VPN *hq* of HQ is down", ":large_green_circle: VPN *hq* of HQ is up again after 12 min"),
    ("❌ `pg_dump` on db1 exited with status 1", "✅ `pg_dump` on db1 exited with status 0"),
    ("Störung: Heizung Haus 3", "Störung behoben: Heizung Haus 3"),
    ("Monitor is DOWN: shop", "Monitor is UP: shop"),
]


@pytest.mark.parametrize(("failure", "recovery"), SENTENCES)
def test_sentence_of_recovery_closes_that_of_its_failure(failure: str, recovery: str) -> None:
    opened, closed = (read(text.encode(), "text/plain") for text in (failure, recovery))
    assert (opened.action, closed.action) == (EventAction.OPEN, EventAction.CLOSE)
    assert opened.source_id == closed.source_id is not None


def test_same_sentence_about_other_things_is_another_problem() -> None:
    ids = [read(f"Monitor is DOWN: {name}".encode(), "text/plain").source_id for name in ("shop", "api")]
    assert len({*ids}) == 2


def test_problems_of_one_whole_are_not_one() -> None:
    cpu, memory = ({"project": "Shop", "title": title, "status": "on", "metric": "x"} for title in ("CPU", "Memory"))
    assert read(cpu | {"metric": "cpu"}).source_id != read(memory | {"metric": "memory"}).source_id
    pods = ({"title": "pods error", "name": name, "status": "error"} for name in ("redis-0", "redis-1"))
    assert len({read(pod).source_id for pod in pods}) == 2


#: Problems with something beside them that is well: the delivery, a part, a device, a kind.
BESIDE_WHAT_IS_WELL: list[dict[str, Any]] = [
    {"message": "CPU usage is high on web1", "host": "web1", "additional_active_critical_alerts": 0},
    {"type": "metric", "subscription": {"name": "High CPU"}, "container": {"state": "running", "health": "healthy"}},
    {"event": {"type": "BILLING_ISSUE", "period_type": "NORMAL", "user_id": "u1"}},
    {"type": "error", "message": "Dangerous path", "is_regression": False, "is_critical": False},
    {"items": [{"item": {"eventCode": "CHARGEBACK", "reason": "Card absent", "success": "true"}}, {}]},
    {"event": "request.create", "payload": {"subject": "Outlook does not start", "status": "assigned"}},
    {"success": True, "data": {"alert": "Disk nearly full", "host": "db1"}},
    {"ok": True, "event": "disk_full", "host": "db1"},
    {"host": {"name": "web1", "status": "up"}, "service": {"name": "http", "output": "Connection refused"}},
    {"priority": "NORMAL", "message": "Battery replacement needed", "ups": "ups1"},
    {"disk": "sda", "smart_status": "PASSED", "message": "Reallocated sector count rising"},
    {"webhook_status": "success", "alert": {"title": "CPU 98%", "host": "web1"}},
    {"order_type": "normal", "payment_state": "paid", "problem": "Shipment lost"},
    {"status_code": 200, "success": True, "message": "Keyword 'Buy' not found on page"},
    {"etat_capteur": "normal", "alerte": "Fuite d'eau", "local": "chaufferie"},
    {"battery_status": "good", "connection": "online", "alarm": "intrusion", "zone": "hall"},
    {"scan_status": "completed", "threat": "Eicar", "host": "pc7"},
]


@pytest.mark.parametrize("payload", BESIDE_WHAT_IS_WELL)
def test_problem_beside_something_that_is_well_opens(payload: dict[str, Any]) -> None:
    assert read(payload).action is EventAction.OPEN


def test_object_in_a_text_is_read() -> None:
    entity = json.dumps({"id": 7, "summary": "Server SQL02 does not respond"})
    assert read({"Action": "added", "Type": "ticket", "Entity": entity}).mapped.text("subject") == (
        "Server SQL02 does not respond"
    )


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_recovery_in_another_form_closes_its_failure(name: str) -> None:
    failure, recovery = map(read, OTHER_FORMS[name])
    assert (failure.action, recovery.action) == (EventAction.OPEN, EventAction.CLOSE)
    assert failure.source_id == recovery.source_id is not None


@pytest.mark.parametrize(
    "payload",
    [
        {"success": True, "message": "This is a test webhook notification from Acme."},
        {"event": "webhook.test", "data": {"status": "resolved"}},
        {"test": True, "monitor": "Shop", "status": "up"},
        {"typ": "test", "status": "ok", "meldung": "Testnachricht"},
    ],
)
def test_test_message_closes_nothing(payload: dict[str, Any]) -> None:
    assert read(payload).action is EventAction.OPEN


@pytest.mark.parametrize(
    "payload", [{"type": "ping", "name": "gw", "status": "up"}, {"suite": "integration test", "status": "passed"}]
)
def test_result_of_a_test_closes(payload: dict[str, Any]) -> None:
    assert read(payload).action is EventAction.CLOSE


@pytest.mark.parametrize(
    ("payload", "subject"),
    [
        ({"subject": "You have a new alert!", "alertName": "Collector disconnected"}, "Collector disconnected"),
        ({"alert_type": "offline", "monitor": {"id": 12, "url": "https://a.example/"}}, "a.example: offline"),
        ({"zap": "Invoices to Sheets", "error": "Invalid token"}, "Invoices to Sheets: Invalid token"),
        ({"unit": "borg.service", "host": "srv1", "active_state": "failed"}, "borg.service: srv1: failed"),
        ({"text": "NAS @ nas1\n\nNew alerts:\n* Pool tank is DEGRADED"}, "NAS @ nas1: Pool tank is DEGRADED"),
        ({"title": "CPU high on db1", "owner": "Anna B", "tool": "Acme Monitor"}, "CPU high on db1"),
    ],
)
def test_title_names_what_is_affected(payload: dict[str, Any], subject: str) -> None:
    assert read(payload).mapped.text("subject") == subject


def test_text_is_read_as_a_message_with_its_fields() -> None:
    body = b"host: srv7\nservice: nginx\nstate: CRITICAL\noutput: connection refused\n"
    event = read(body, "text/plain")
    recovery = read(body.replace(b"CRITICAL", b"OK"), "text/plain")
    assert (event.action, recovery.action) == (EventAction.OPEN, EventAction.CLOSE)
    assert event.source_id == recovery.source_id is not None
    assert "srv7" in (event.mapped.text("subject") or "")


def test_count_of_failures_is_no_flag() -> None:
    assert read({"message": "Disk full", "error": 0}).action is EventAction.OPEN


@pytest.mark.parametrize(
    ("payload", "priority"),
    [
        ({"id": "1", "title": "Disk full", "status": "open"}, None),
        ({"id": "1", "title": "Disk full", "status": "critical"}, "critical"),
        ({"id": "1", "title": "Disk full", "status": "open", "details": {"severity": "critical"}}, "critical"),
        ({"id": "1", "title": "Disk full", "status": "open", "details": [{"severity": "critical"}]}, "critical"),
    ],
)
def test_priority_comes_from_status_or_objects(payload: dict[str, Any], priority: str | None) -> None:
    assert read(payload).mapped.text("priority") == priority


@pytest.mark.parametrize("value", ["host is down", {"host": "db1"}, [{"host": "db1"}], ["down"]])
def test_object_of_many_values_is_read_in_time(value: object) -> None:
    payload = {f"key{number}": value for number in range(20_000)}
    began = time.thread_time()
    read(payload)
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    ("body", "action"),
    [
        ({"title": "Security event log was cleared on FS4", "severity": "critical"}, EventAction.OPEN),
        (
            {"rule": {"level": 10, "description": "SSH failures followed by success"}, "agent": {"name": "FS4"}},
            EventAction.OPEN,
        ),
        ({"title": "Login of root succeeded from a new country", "severity": "high"}, EventAction.OPEN),
        ({"title": "Memory alert cleared on FS4", "severity": "critical"}, EventAction.CLOSE),
        ({"title": "Memory recovered on FS4", "severity": "critical"}, EventAction.CLOSE),
        ({"title": "Nightly copy of FS4 succeeded", "severity": "high"}, EventAction.CLOSE),
        ({"title": "Snapshot of FS4 succeeded at noon", "severity": "info"}, EventAction.CLOSE),
    ],
)
def test_deed_that_a_severe_title_tells_of_ends_nothing(body: Any, action: EventAction) -> None:
    assert read(body).action is action


@pytest.mark.parametrize(
    "payload",
    [
        {"event": "campaign.sent", "campaign": "December"},
        {"evento": "venta_registrada", "tienda": "Bilbao"},
        {"ereignis": "Lieferschein versandt", "nummer": "LS-7"},
        {"form": "Contact", "name": "Jo Bell", "message": "Please send me a brochure"},
        {"sensor": "office-3", "temperature": 21.4, "humidity": 44},
        {"type": "heartbeat", "source": "collector-3", "uptime": 882211},
        {"report": "Weekly availability", "availability": "99.98 %"},
        {"pipeline": "crm_export", "run_id": "r-772", "status": "STARTED"},
        {"event": "job_started", "job": "tape-weekly", "message": "Job tape-weekly started as scheduled"},
        {"typ": "Testalarm", "quelle": "Alarmserver 2", "text": "Testalarm - bitte ignorieren"},
    ],
)
def test_what_no_problem_caused_opens_low(payload: dict[str, Any]) -> None:
    event = read(payload)
    assert (event.action, event.mapped.text("priority")) == (EventAction.OPEN, "low")


@pytest.mark.parametrize(
    "payload",
    [
        {"event": "payment.created", "message": "Payment provider rejects all cards: timeout"},
        {"form": "Contact", "name": "Jo Bell", "message": "Your shop is down"},
        {"sensor": "freezer-3", "temperature": -4.1, "limit": -18},
        {"sensor": "freezer-3", "temperature": -4.1, "too_warm": True},
        {"type": "heartbeat", "source": "collector-3", "text": "no heartbeat for 5 minutes"},
        {"report": "Weekly backup", "text": "Sicherung fehlgeschlagen"},
        {"pipeline": "crm_export", "status": "STARTED", "error": "lock not released"},
        {"event": "job_started", "text": "Job tape-weekly started late, drive stuck"},
    ],
)
def test_problem_in_an_everyday_message_is_not_low(payload: dict[str, Any]) -> None:
    assert read(payload).mapped.text("priority") != "low"


@pytest.mark.parametrize(
    "thing",
    [
        {"plant": "Halde Nord", "inverter": "WR-{n}"},
        {"Standort": "Keller {n}", "Sensor": "Temperatur"},
        {"zone": "Zone {n}", "type": "FIRE"},
        {"device": "press", "line": "Line {n}", "check": "Oil"},
    ],
)
def test_end_of_another_of_several_has_another_id(thing: dict[str, str]) -> None:
    first, same, other = (
        read({**{name: text.replace("{n}", number) for name, text in thing.items()}, "status": status}).source_id
        for number, status in (("11", "alarm"), ("11", "ok"), ("12", "ok"))
    )
    assert first == same != other


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("HANA auf sap-2 wurde unerwartet beendet", EventAction.OPEN),
        ("Process mailer ended unexpectedly", EventAction.OPEN),
        ("Le service courrier s'est arrêté inopinément", EventAction.OPEN),
        ("Nightly rsync of home finished without errors, 0 files failed", EventAction.CLOSE),
        ("Sicherung von fs1 ohne Fehler abgeschlossen", EventAction.CLOSE),
        ("Nightly rsync of home finished with 3 errors", EventAction.OPEN),
    ],
)
def test_how_something_ended_decides(text: str, action: EventAction) -> None:
    assert read({"text": text}).action is action


@pytest.mark.parametrize(
    ("failure", "recovery", "is_same"),
    [
        ("Fallo de arranque en la bomba 2", "Bomba 2 restablecida", True),
        ("Bomba 2 detenida por baja presión", "Avería resuelta, Bomba 2 en marcha de nuevo", True),
        ("Bomba 2 trip", "Bomba 2 return to normal", True),
        ("Disk of Bomba 2 full", "Filter OK", False),
        ("Bomba 2 trip", "Bomba 2 filter replaced, back to normal", False),
    ],
)
def test_recovery_in_other_words_is_about_its_thing(failure: str, recovery: str, is_same: bool) -> None:
    opened, over = ({"equipo": "Bomba 2", "estado": s, "descripcion": t} for s, t in (("x", failure), ("y", recovery)))
    assert is_about_same(identity_of(opened), identity_of(over)) is is_same
