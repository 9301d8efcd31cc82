"""Fields by names that tools share, statuses by common words, and what opens because it says too little."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.mapping.evidence import identity_of, is_about_same
from tocsin.inbound.mapping.evidence_table import StatusMeaning
from tocsin.inbound.mapping.status_words import (
    is_completion,
    is_failure,
    is_new_ticket,
    meaning_of,
    status_in_title,
    without_status,
)
from tocsin.inbound.parsing.decode import elements_of


def read(kind: str, payload: Any, **definition: Any) -> NormalizedEvent | Rejected:
    normalizer = compile_normalizer(load_kinds()[kind], IntegrationDefinition(**definition))
    (element,) = elements_of(normalizer.kind, json.dumps(payload).encode(), "application/json").elements
    return normalizer.normalize(element)


def event(kind: str, payload: Any, **definition: Any) -> NormalizedEvent:
    result = read(kind, payload, **definition)
    assert isinstance(result, NormalizedEvent), result
    return result


#: Bodies of other products' guides and defaults, and what they mean.
OTHERS = [
    (
        "datadog",
        {
            "id": "77",
            "event_type": "query_alert_monitor",
            "title": "[Triggered] CPU",
            "org": {"id": "1"},
            "body": "CPU",
        },
        EventAction.OPEN,
    ),
    ("datadog", {"alert_id": 77, "alert_title": "CPU", "alert_transition": "Recovered"}, EventAction.CLOSE),
    (
        "logicmonitor",
        {"alertid": "LMD1", "alertstatus": "active", "severity": "error", "host": "db1"},
        EventAction.OPEN,
    ),
    ("logicmonitor", {"alert-id": "LMD1", "alert-status": "cleared", "host": "db1"}, EventAction.CLOSE),
    ("solarwinds", {"incident_key": "5", "event_type": "trigger", "description": "Node down"}, EventAction.OPEN),
    ("grafana", {"data": {"incident_id": "9", "state": "RESOLVED", "title": "Latency"}}, EventAction.CLOSE),
    ("newrelic", {"payload": {"dedup_key": "x", "event_action": "trigger", "summary": "Apdex"}}, EventAction.OPEN),
]


@pytest.mark.parametrize(("kind", "payload", "action"), OTHERS)
def test_common_names_are_read_when_own_paths_find_nothing(kind: str, payload: Any, action: EventAction) -> None:
    found = event(kind, payload)
    assert (found.action, found.source_id is not None) == (action, True)
    if action is EventAction.OPEN:
        assert found.mapped.text("subject")
        assert found.mapped.text("long_text")


@pytest.mark.parametrize("name", ["alert_id", "alertId", "alert-id", "Alert ID", "ALERT_ID"])
def test_spelling_of_a_name_does_not_matter(name: str) -> None:
    assert event("pingdom", {name: "7", "state": "down", "title": "x"}).source_id == "7"


@pytest.mark.parametrize("names", ["host_name service_desc service_state", "HostName ServiceDesc ServiceState"])
def test_documented_names_are_found_in_another_spelling(names: str) -> None:
    host, service, state = names.split()
    found = event("checkmk", {"notification_type": "PROBLEM", host: "web9", service: "Load", state: "CRITICAL"})
    assert (found.source_id, found.action, found.mapped.text("priority")) == ("web9!Load", EventAction.OPEN, "critical")
    assert found.mapped.text("subject") == "web9: Load is CRITICAL"
    over = event("checkmk", {"notification_type": "RECOVERY", host: "web9", service: "Load", state: "OK"})
    assert (over.source_id, over.action) == ("web9!Load", EventAction.CLOSE)


def test_spelling_of_documented_names_leaves_a_known_form_as_it_is() -> None:
    payload = {"notification_type": "PROBLEM", "host": "web9", "Host_Name": "other", "state": "DOWN"}
    assert event("checkmk", payload).source_id == "web9"


def test_own_names_win() -> None:
    found = event("logicmonitor", {"alert_id": "own", "dedup_key": "other", "level": "warn", "severity": "critical"})
    assert (found.source_id, found.mapped.text("severity")) == ("own", "warn")


def test_severity_is_mapped_by_the_priorities_of_the_integration() -> None:
    found = event("zabbix", {"incident_key": "1", "status": "PROBLEM", "severity": "Disaster", "host": "db1"})
    assert found.mapped.text("priority") == "critical"
    assert found.mapped.tags["component_name"] == "db1"


def test_message_without_status_opens_and_is_not_understood() -> None:
    found = event("checkmk", {"host": "db1", "output": "disk full"})
    assert (found.action, found.is_understood) == (EventAction.OPEN, False)
    assert (
        found.rule_match.reason.code
        == "no status in the message, so it opens; looked at {sources}. Add the status to the sender's message, or "
        "map it"
    )


@pytest.mark.parametrize("output", ["connect: Connection refused", "close: Bad file descriptor", "open: OK"])
def test_state_wins_over_the_output_of_a_plugin(output: str) -> None:
    body = {"HOSTNAME": "db7", "SERVICEDESC": "LDAP", "SERVICEOUTPUT": output}
    problem = {**body, "NOTIFICATIONTYPE": "PROBLEM", "SERVICESTATE": "CRITICAL"}
    recovery = {**body, "NOTIFICATIONTYPE": "RECOVERY", "SERVICESTATE": "OK"}
    assert [event("nagios", each).action for each in (problem, recovery)] == [EventAction.OPEN, EventAction.CLOSE]


def test_status_of_joined_words_ends_what_was_bad() -> None:
    body = {"name": "Checkout latency", "monitor_type": "Metrics"}
    actions = [event("sumologic", {**body, "trigger_type": each}).action for each in ("Warning", "ResolvedWarning")]
    assert actions == [EventAction.OPEN, EventAction.CLOSE]


def test_what_a_program_tried_is_no_status() -> None:
    assert event("api", {"host": "db7", "message": "connect: Connection refused"}).action is EventAction.OPEN
    assert [status_in_title(title) for title in ("Restored: db7", "✅ db7: all fine")] == ["restored", "ok"]


def test_unknown_status_under_a_common_name_opens() -> None:
    found = event("logicmonitor", {"alert_id": "1", "state": "wobbly"})
    assert (found.action, found.is_understood, found.rule_match.reason.code) == (
        EventAction.OPEN,
        False,
        'unknown status "{status}", so it opens. Set what it does, or map the status',
    )


def test_own_rules_of_a_user_decide_alone() -> None:
    rules = {"open": {"field": "source_status", "operator": "equals", "value": "critical"}, "close": False}
    assert event("logicmonitor", {"alert_id": "1", "status": "firing"}).action is EventAction.OPEN
    assert event("logicmonitor", {"alert_id": "1", "status": "firing"}, rules=rules).action is EventAction.UPDATE
    assert event("logicmonitor", {"alert_id": "1"}, rules=rules).action is EventAction.UPDATE


def test_removed_field_is_not_found_by_an_alias() -> None:
    assert (
        "source_url"
        not in event("api", {"title": "x", "link": "https://x.example"}, mapping={"source_url": None}).mapped.values
    )


def test_unaliased_message_is_read_by_own_paths_only() -> None:
    verb = event("opsgenie", {"action": "note", "alias": "a", "state": "firing", "title": "x"})
    assert (verb.action, verb.mapped.text("source_status")) == (EventAction.UPDATE, None)
    other = event("opsgenie", {"alias": "a", "state": "firing", "title": "x"})
    assert (other.action, other.mapped.text("subject")) == (EventAction.OPEN, "x")


def test_new_ticket_opens_whatever_its_status() -> None:
    payload = {"event": "New Ticket Logged", "ticket": {"id": 7, "status": {"name": "Awaiting Triage"}}}
    assert event("haloitsm", payload).action is EventAction.OPEN
    assert event("haloitsm", payload, settings={"new_tickets_open": False}).action is EventAction.UPDATE
    payload["event"] = "New Note"
    assert event("haloitsm", payload).action is EventAction.UPDATE


@pytest.mark.parametrize("names", [("IdTicket", "Oggetto", "Stato"), ("id_ticket", "objet", "etat")])
def test_ticket_is_found_by_an_id_in_any_order(names: tuple[str, str, str]) -> None:
    opened = event("haloitsm", dict(zip(names, ("T-5580", "Caisse 3 en panne", "Nouveau"), strict=True)))
    assert (opened.action, opened.source_id) == (EventAction.OPEN, "T-5580")


@pytest.mark.parametrize(
    ("rule", "subject"),
    [("FilesystemReadOnly", "/var is broken (FilesystemReadOnly)"), ("InstanceBroken", "/var is broken")],
)
def test_subject_names_the_rule_unless_it_says_the_same(rule: str, subject: str) -> None:
    alert = {"status": "firing", "labels": {"alertname": rule}, "annotations": {"summary": "/var is broken."}}
    found = event("alertmanager", {"alert": alert, "status": "firing"})
    assert (found.mapped.text("subject") or "").rstrip(".") == subject


def test_ticket_created_opens_in_freshdesk() -> None:
    assert (
        event("freshdesk", {"event": "ticket_created", "ticket_id": 7, "ticket_subject": "VPN"}).action
        is EventAction.OPEN
    )


@pytest.mark.parametrize(
    ("titles", "source_id"),
    [
        (("[Triggered on {host:web-03}] High CPU", "[Recovered on {host:web-03}] High CPU"), "{host:web-03}] High CPU"),
        (("[P2] [Re-No Data] Disk", "[P2] [Recovered] Disk"), "Disk"),
    ],
)
def test_pre_filled_payload_of_datadog_is_known_by_its_title(titles: tuple[str, str], source_id: str) -> None:
    begun, over = (
        event("datadog", {"title": title, "id": number, "event_type": "metric_alert_monitor", "date": "1795486230000"})
        for title, number in zip(titles, ("7501234567890123456", "7501234567890129999"), strict=True)
    )
    assert (begun.action, begun.source_id) == (EventAction.OPEN, source_id)
    assert (over.action, over.source_id) == (EventAction.CLOSE, source_id)


def test_title_of_datadog_hides_no_id_of_another_guide() -> None:
    found = event("datadog", {"title": "CPU is high", "incident_key": "7", "status": "Triggered"})
    assert (found.action, found.source_id) == (EventAction.OPEN, "7")


def test_bodies_of_opsgenies_guide_for_solarwinds() -> None:
    payload = {"ActionType": "Create", "alias": "24565-156", "AlertID": "156", "AlertMessage": "Neighbour is down"}
    begun, over = event("solarwinds", payload), event("solarwinds", {"alias": "24565-156", "ActionType": "Close"})
    assert (begun.action, begun.source_id) == (EventAction.OPEN, "24565-156")
    assert (over.action, over.source_id) == (EventAction.CLOSE, "24565-156")


OPEN_TICKETS = [
    ("freshdesk", {"freshdesk_webhook": {"ticket_id": "7", "ticket_subject": "VPN", "ticket_status": "Open"}}),
    ("freshservice", {"ticket_id": "7", "ticket_subject": "VPN", "ticket_status": 2}),
    ("servicedesk_plus", {"id": "7", "subject": "VPN", "status": "Open"}),
    ("zendesk", {"ticket": {"id": "7", "title": "VPN", "status": "Open"}}),
    ("topdesk", {"number": "7", "briefDescription": "VPN", "status": "Opened"}),
    ("jira", {"issue": {"key": "VPN-7", "fields": {"summary": "VPN", "status": {"name": "Open"}}}}),
]


@pytest.mark.parametrize(("kind", "payload"), OPEN_TICKETS)
def test_open_ticket_without_event_opens(kind: str, payload: dict[str, object]) -> None:
    found = event(kind, payload)
    assert (found.action, found.rule_match.reason.code) == (
        EventAction.OPEN,
        'status "{status}", and the message names no event, so it opens. Add the event to the sender\'s message',
    )
    assert event(kind, payload, settings={"new_tickets_open": False}).action is EventAction.UPDATE
    assert event(kind, {**payload, "event": "changed"}).action is EventAction.UPDATE
    assert event(kind, payload, rules={"open": False}).action is EventAction.UPDATE


@pytest.mark.parametrize("status", ["Pending", "Waiting on Customer", "Open - waiting for parts"])
def test_other_ticket_without_event_is_an_update(status: str) -> None:
    assert event("freshdesk", {"ticket_id": "7", "ticket_status": status}).action is EventAction.UPDATE


def test_open_ticket_is_an_update_where_rules_name_no_event() -> None:
    assert event("haloitsm", {"ticket": {"id": 7, "status": "Open"}}).action is EventAction.UPDATE


@pytest.mark.parametrize(
    ("name", "action"),
    [("ALERT", EventAction.OPEN), ("incident.reopened", EventAction.OPEN), ("RESOLVE", EventAction.CLOSE),
     ("ACCEPT", EventAction.UPDATE), ("SLA warning", EventAction.UPDATE), ("comment_closed", EventAction.UPDATE),
     ("test", EventAction.UPDATE)],
)  # fmt: skip
def test_ticket_without_status_does_what_its_event_says(name: str, action: EventAction) -> None:
    found = event("topdesk", {"eventType": name, "incidentKey": "7", "summary": "VPN is down"})
    assert (found.action, found.source_id) == (action, "7")
    assert found.mapped.text("subject") == ("VPN is down" if action is EventAction.OPEN else None)


def test_ticket_needs_an_id_of_its_own() -> None:
    refused = read("zendesk", {"type": "ticket.created", "uuid": "0d0c6f1e", "subject": "VPN"})
    assert isinstance(refused, Rejected)
    assert refused.code == "no_id"


def test_placeholder_that_was_not_filled_in_is_no_id() -> None:
    assert isinstance(read("pingdom", {"alert_id": "$ALERT_ID", "state": "down"}), Rejected)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        ("RESOLVED", StatusMeaning.CLOSE),
        ("alert.fired", StatusMeaning.OPEN),
        ("incident.acknowledged", StatusMeaning.UPDATE),
        ("ALERT_RECOVERY", StatusMeaning.CLOSE),
        ("Back to normal", StatusMeaning.CLOSE),
        ("stopped_reporting", None),
        ("BuildFailed", StatusMeaning.OPEN),
        ("major_outage", StatusMeaning.OPEN),
        ("not ok", StatusMeaning.OPEN),
        ("wobbly", None),
        ("", None),
    ],
)
def test_meaning_of_a_status(status: str, meaning: StatusMeaning | None) -> None:
    assert meaning_of(status) is meaning


@pytest.mark.parametrize(
    ("title", "status"),
    [
        ("[FIRING:1] Disk full on db1", "firing"),
        ("#### [Recovered on {host:db1}] CPU\n| host | value |", "recovered"),
        ("RECOVERY: Mail queue on mx1", "recovery"),
        ("Your service Shop is up!", "up"),
        ("Job export succeeded", "succeeded"),
        ("Device sw7 recovered from Device Down", "recovered"),
        ("Router r1 is unreachable", "unreachable"),
        ("Backup completed with errors", "failed"),
        ("Backup failed, but the network is up", None),
        ("Door 4 closed", None),
        ("web1 is not OK", "failed"),
        ("Up", None),
        ("A first line\nthat ends OK", None),
    ],
)
def test_status_that_a_title_says(title: str, status: str | None) -> None:
    assert status_in_title(title) == status


@pytest.mark.parametrize(
    ("status", "completion", "failure"),
    [("completed", True, False), ("build.finished", True, False), ("success", False, False), ("ERROR", False, True),
     ("active", False, False), ("run:errored", False, True)],
)  # fmt: skip
def test_completions_and_failures(status: str, completion: bool, failure: bool) -> None:
    assert (is_completion(status), is_failure(status)) == (completion, failure)


def test_rule_for_any_status_is_about_own_statuses() -> None:
    assert event("appdynamics", {"entity_id": "bt", "message_type": "RECOVERY"}).action is EventAction.CLOSE


def test_former_status_is_none() -> None:
    found = event("zabbix", {"incident_key": "1", "previous_state": "OK", "QualitativeOldState": "Normal"})
    assert (found.action, found.is_understood) == (EventAction.OPEN, False)


def test_number_that_a_type_does_not_know_opens() -> None:
    found = event("prtg", {"correlation_id": "1", "state": "17", "short_description": "Ping is Down"})
    assert (found.action, found.is_understood) == (EventAction.OPEN, False)


def test_title_without_status_is_equal_for_failure_and_recovery() -> None:
    assert without_status("[FIRING] CPU high on db1") == without_status("[RESOLVED] CPU high on db1") == "cpu db1"
    assert without_status("Raumtemperatur zu hoch") == without_status("Raumtemperatur wieder normal")


@pytest.mark.parametrize(
    ("event_name", "is_new"),
    [
        ("ticket_created", True),
        ("New Ticket", True),
        ("issueCreated", True),
        ("ticket created by client", True),
        ("note added", False),
        ("New Client Created", False),
        ("closed", False),
    ],
)
def test_event_of_a_new_ticket(event_name: str, is_new: bool) -> None:
    assert is_new_ticket(event_name) is is_new


def test_alert_without_status_has_that_of_its_group() -> None:
    group = {"status": "resolved", "alerts": [{"labels": {"alertname": "Load", "instance": "a:9100"}}]}
    assert event("alertmanager", group).action is EventAction.CLOSE
    firing = {**group, "alerts": [{"status": "firing", **group["alerts"][0]}]}
    assert event("alertmanager", firing).action is EventAction.OPEN


@pytest.mark.parametrize("kind", ["api", "nagios", "icinga", "checkmk"])
@pytest.mark.parametrize("notice", ["DOWNTIMESTART", "ACKNOWLEDGEMENT", "FLAPPINGSTART", "FLAPPINGSTOP"])
def test_type_of_notification_comes_before_state(kind: str, notice: str) -> None:
    host = {"HOSTNAME": "db1", "HOSTSTATE": "DOWN"}
    assert event(kind, {**host, "NOTIFICATIONTYPE": notice}).action is EventAction.UPDATE
    assert event(kind, {**host, "NOTIFICATIONTYPE": "PROBLEM"}).action is EventAction.OPEN


def test_everyday_event_is_low_unless_something_failed() -> None:
    changed = {"event": "configuration_changed", "device": "fw1", "message": "Changed by admin"}
    assert event("api", changed).mapped.text("priority") == "low"
    assert event("api", {**changed, "severity": "critical"}).mapped.text("priority") == "critical"
    assert event("api", {**changed, "message": "Firewall failed to load it"}).mapped.text("priority") is None
    assert event("api", {**changed, "status": "failed"}).mapped.text("priority") is None


DISK = {"host": "web1", "message": "Disk full on /var"}
PING = {"host": "web1", "message": "No answer to ping"}
VOLUME = {"nas": "nas-9", "event_type": "raid_degraded", "msg": "Volume 1 is degraded"}
CHECK = {"host": "web1", "check": "Backup", "message": "3 days old"}
SERVICE = {"service": "Postgres", "message": "Connection refused"}
BARE_ID = {"id": "a4", "level": "critical", "message": "Pump 3 failed in hall-2"}


@pytest.mark.parametrize(
    ("opening", "ending", "is_same"),
    [
        (DISK, {"host": "web1", "message": "Disk ok again"}, True),
        (DISK, {"host": "web1", "status": "resolved"}, True),
        (DISK, {"host": "web1", "status": "up"}, False),  # of the host, not of its disk
        (PING, {"host": "web1", "status": "up"}, True),
        (DISK, {"host": "web1", "message": "CPU load normal"}, False),
        (VOLUME, {"nas": "nas-9", "event_type": "scrub_finished", "msg": "Scrub of Volume 2 finished"}, False),
        (VOLUME, {"nas": "nas-9", "event_type": "scrub_finished", "msg": "Scrub of Volume 1 finished"}, False),
        (VOLUME, {"nas": "nas-9", "event_type": "raid_ok", "msg": "Volume 1 is healthy"}, True),
        (VOLUME, {"nas": "nas-9", "event_type": "raid_ok", "msg": "Volume 2 is healthy"}, False),
        (DISK, {"host": "web2", "message": "Disk ok again"}, False),
        (DISK, {"host": "web1", "check": "CPU", "status": "ok"}, False),
        (CHECK, {"host": "web1", "check": "Backup", "status": "ok", "message": "Done"}, True),
        (CHECK, {"host": "web2", "check": "Backup", "status": "ok"}, False),
        (CHECK, {"host": "web1", "status": "ok"}, False),  # of the host, and not of the check
        (SERVICE, {"service": "Postgres", "type": "recovery", "message": "Accepts connections"}, True),
        (SERVICE, {"service": "Postgres", "type": "recovery", "message": "Replication caught up"}, False),
        (SERVICE, {"message": "All good", "status": "ok"}, False),
        (BARE_ID, {"id": "a4", "level": "ok", "message": "Pump 3 recovered in hall-2"}, True),
        (BARE_ID, {"id": "a4", "level": "ok", "message": "Pump 4 recovered in hall-2"}, False),
        (BARE_ID, {"id": "a5", "level": "ok", "message": "Pump 3 recovered in hall-2"}, False),
        (
            {"id": 1, "device": {"name": "cam-7"}, "event": "offline"},
            {"id": 9, "device": {"name": "cam-7"}, "event": "online"},
            True,
        ),
        (
            {"alert_id": 1, "monitor": "API", "state": "alarm"},
            {"alert_id": 2, "monitor": "API", "state": "ok"},
            False,
        ),
    ],
)
def test_recovery_ends_what_is_about_the_same(opening: Any, ending: Any, is_same: bool) -> None:
    assert is_about_same(identity_of(opening), identity_of(ending)) is is_same


@pytest.mark.parametrize(
    ("failure", "recovery"),
    [
        ({"event": "disk_full", "host": "srv7"}, {"event": "disk_ok", "host": "srv7"}),
        ({"id": "disk_full", "host": "srv7"}, {"id": "disk_ok", "host": "srv7"}),
        ({"gerät": "Drucker", "zustand": "Störung"}, {"gerät": "Drucker", "zustand": "behoben"}),
        ({"event": "service_stopped", "service": "Spooler"}, {"event": "service_started", "service": "Spooler"}),
        ({"site": "Intranet", "up": False, "error": "ETIMEDOUT 5 s"}, {"site": "Intranet", "up": True}),
    ],
)
def test_id_is_what_is_monitored_and_not_its_state(failure: Any, recovery: Any) -> None:
    opened, closed = event("api", failure), event("api", recovery)
    assert (opened.action, closed.action) == (EventAction.OPEN, EventAction.CLOSE)
    assert closed.source_id == opened.source_id is not None


@pytest.mark.parametrize(
    ("kind", "failure", "recovery"),
    [
        ("api", {"camera": "Gate 9", "issue": "Video loss", "start": "2026-11-30T01:00:00Z", "end": None},
         {"camera": "Gate 9", "issue": "Video loss", "start": "2026-11-30T01:00:00Z", "end": "2026-11-30T02:00:00Z"}),
        ("api", {"hostname": "hv9", "event": "powerout", "message": "Power failure on UPS hv9."},
         {"hostname": "hv9", "event": "mainsback", "message": "Power has returned on UPS hv9."}),
        ("api", {"device": "NAS-9", "severity": "Error", "message": "RAID group 1 degraded. Disk 3 failed."},
         {"device": "NAS-9", "severity": "Information", "message": "RAID group 1 rebuilding completed."}),
        ("api", {"inverter": "WR-9", "errorCode": "501", "errorText": "Isolation fault", "status": "Fault"},
         {"inverter": "WR-9", "errorCode": "0", "errorText": "", "status": "Running"}),
        ("api", {"apparato": "router-9", "stato": "non raggiungibile"},
         {"apparato": "router-9", "stato": "raggiungibile"}),
        ("api", {"text": "mailgw9: load average 48.2 (16 cores) for 10 min"},
         {"text": "mailgw9: load average back to normal, 3.1"}),
        ("api", {"host": "esx-9", "event": "PD 252:3 state changed from Online to Failed", "sev": "critical"},
         {"host": "esx-9", "event": "PD 252:3 state changed from Rebuild to Online", "sev": "info"}),
        ("api", {"pool": "tank9", "health": "DEGRADED", "errors": "1 device faulted"},
         {"pool": "tank9", "health": "ONLINE", "errors": "No known data errors"}),
        ("api", {"project": "web9", "branch": "main", "text": "web9: pipeline failed on main"},
         {"project": "web9", "branch": "main", "text": "web9: pipeline fixed on main"}),
        ("api", {"dispositivo": "Pompa 9", "evento": "guasto termico", "attivo": True},
         {"dispositivo": "Pompa 9", "evento": "guasto termico", "attivo": False}),
        ("nagios", {"notification_type": "PROBLEM", "host_name": "lb9", "service_problem_id": "71"},
         {"notification_type": "RECOVERY", "host_name": "lb9", "service_problem_id": "0",
          "last_service_problem_id": "71"}),
        ("zabbix", {"Subject": "Problem: Platte voll", "Message": "Host: srv9\r\nOriginal-Problem-ID: 771\r\n"},
         {"Subject": "Gelöst in 31m 2s: Platte voll", "Message": "Host: srv9\r\nOriginal-Problem-ID: 771\r\n"}),
        ("haloitsm", {"data": {"id": "T-9931", "oggetto": "Linea interrotta", "stato": "Nuovo"}},
         {"data": {"id": "T-9931", "oggetto": "Linea interrotta", "stato": "Chiuso"}}),
        ("haloitsm", {"melding": {"id": "9733", "summary": "Wifi", "status_name": "Nieuw"}, "event": "Nieuwe melding"},
         {"melding": {"id": "9733", "summary": "Wifi", "status_name": "Gesloten"}, "event": "Bijgewerkt"}),
    ],
)  # fmt: skip
def test_recovery_is_read_in_any_words(kind: str, failure: Any, recovery: Any) -> None:
    opened, closed = event(kind, failure), event(kind, recovery)
    assert (opened.action, closed.action) == (EventAction.OPEN, EventAction.CLOSE)
    is_found = closed.is_ending_unknown and is_about_same(identity_of(failure), identity_of(recovery))
    assert is_found or closed.source_id == opened.source_id is not None


@pytest.mark.parametrize("body", [{"event": "access granted", "door": "Main"}, {"ereignis": "Update installiert"}])
def test_what_happens_every_day_is_low(body: Any) -> None:
    assert event("api", body).mapped.text("priority") == "low"


def test_same_sentence_about_two_machines_has_two_ids() -> None:
    first, second = (
        event("api", {"asset": asset, "alarm": "ON", "message": "Dry run detected"}) for asset in ("Pump 3", "Pump 4")
    )
    assert first.source_id != second.source_id


@pytest.mark.parametrize(
    ("payload", "subject"),
    [
        ({"machine": "Press 7", "fault": "oil pressure low"}, "Press 7: oil pressure low"),
        ({"domain": "msp.example", "event": "domain expires in 30 days"}, "msp.example: domain expires in 30 days"),
        ({"asset": "Lift 2", "problem": "door blocked", "reporter": {"name": "Kim"}}, "Lift 2: door blocked"),
        ({"info": {"object": "Mast Linz", "text": "Battery low"}, "prio": 1}, "Mast Linz: Battery low"),
        ({"alert": {"title": "CPU usage"}, "siblings": [{"host": "cache-01"}], "status": "firing"}, "CPU usage"),
        ({"host": "nas4", "device": "/dev/sda", "message": "SMART failure"}, "nas4: /dev/sda: SMART failure"),
    ],
)
def test_subject_names_the_thing_and_what_happened(payload: Any, subject: str) -> None:
    assert event("api", payload).mapped.text("subject") == subject


def test_alerts_of_one_body_are_messages_of_their_own() -> None:
    alerts = [{"name": "CPU usage", "host": "web-03"}, {"name": "Memory", "host": "cache-01", "status": "ok"}]
    body = json.dumps({"id": 7, "title": "2 alerts", "status": "firing", "alerts": alerts}).encode()
    kind = load_kinds()["api"]
    first, second = (
        compile_normalizer(kind, IntegrationDefinition()).normalize(element)
        for element in elements_of(kind, body, "application/json").elements
    )
    assert isinstance(first, NormalizedEvent)
    assert isinstance(second, NormalizedEvent)
    assert (first.action, first.mapped.text("subject")) == (EventAction.OPEN, "web-03: CPU usage")
    assert (second.action, second.source_id) == (EventAction.CLOSE, "memory cache-01")


def test_services_of_one_host_have_ids_of_their_own() -> None:
    for kind, host, service in (("nagios", "host_name", "service_description"), ("icinga", "HOSTNAME", "SERVICEDESC")):
        first, second = (
            event(kind, {host: "web9", service: name, "service_state": "CRITICAL", "notification_type": "PROBLEM"})
            for name in ("HTTP", "Load")
        )
        assert first.source_id != second.source_id


@pytest.mark.parametrize("payload", [{"alerts": [], "count": 0}, {"incidents": [], "ts": 1}])
def test_empty_list_of_problems_opens_nothing(payload: dict[str, Any]) -> None:
    assert event("api", payload).action is EventAction.CLOSE


@pytest.mark.parametrize(
    "payload",
    [
        {"message": "Pump 4 at a standstill", "error": None},
        {"alarm": "Hydraulics", "alerts": []},
        {"message": "Disk full again on db1"},
        {"meldung": "Pumpe wieder ausgefallen"},
        {"message": "New version available"},
        {"alert": "CPU rule", "alertStatus": "default"},
        {"objekt": "vpn.metallbau-frei.example", "titel": "Zertifikat abgelaufen"},
    ],
)
def test_words_of_an_end_close_no_problem(payload: dict[str, Any]) -> None:
    assert event("api", payload).action is EventAction.OPEN
