"""Reports over the API: the figures of the page, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest

from tests.web.api.conftest import Api
from tests.web.api.test_errors import refused
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.ids import uuid7
from tocsin.core.runtime import clock
from tocsin.operate.models import Node


def test_response_times_are_grouped_by_the_requested_field(observer: Api, open_alert: Callable[..., int]) -> None:
    number = open_alert("VPN down", columns={"client": "Acme"})
    open_alert("Disk full")
    opened = Alert.objects.get(pk=number).opened_at
    AlertEvent.objects.create(alert_id=number, at=opened + timedelta(seconds=90), kind="acknowledged")
    body = observer.get("reports/response-times?by=client").body
    acknowledged = {"count": 1, "p50_seconds": 90.0, "p90_seconds": 90.0}
    never = {"count": 0, "p50_seconds": None, "p90_seconds": None}
    assert body["all"] == {"key": "", "alerts": 2, "acknowledged": acknowledged, "assigned": never, "closed": never}
    assert body["before"]["alerts"] == 0
    assert [(row["key"], row["alerts"], row["acknowledged"]) for row in body["rows"]] == [
        ("", 1, never),
        ("Acme", 1, acknowledged),
    ]
    assert len(body["trend"]) == 31
    assert observer.get("reports/response-times?client=acme&per=month").body["all"]["alerts"] == 1


def test_sla_is_counted_and_breaches_are_listed(observer: Api, open_alert: Callable[..., int]) -> None:
    number = open_alert("VPN down")
    opened = Alert.objects.get(pk=number).opened_at
    due = opened + timedelta(minutes=5)
    Alert.objects.filter(pk=number).update(custom={"respond_by": due.isoformat(), "fix_by": "2199-01-01"})
    AlertEvent.objects.create(alert_id=number, at=opened + timedelta(minutes=6), kind="acknowledged")
    body = observer.get("reports/sla?by=priority").body
    assert (body["all"]["response"], body["all"]["resolution"]) == (
        {"kept": 0, "breached": 1, "pending": 0}, {"kept": 0, "breached": 0, "pending": 1}
    )  # fmt: skip
    (breach,) = observer.get("reports/sla-breaches").body["items"]
    assert (breach["alert"], breach["target"], breach["due_at"]) == (
        number,
        "respond_by",
        due.isoformat().replace("+00:00", "Z"),
    )


def test_noisy_sources_name_a_grouping(observer: Api, open_alert: Callable[..., int]) -> None:
    for disk in (1, 2):
        open_alert(f"Disk {disk} is full", columns={"client": "Acme"})
    body = observer.get("reports/noise").body
    assert body["alerts"] == 2
    assert body["sources"] == [
        {"integration": None, "key": "Disk # is full", "alerts": 2, "auto_closed": 0, "acknowledged": 0,
         "grouping": "<field:client>"}
    ]  # fmt: skip
    assert observer.get("reports/noise?client=ACME&by=client").body["sources"][0]["key"] == "Acme"


def test_a_report_is_about_what_lies_between_two_moments(observer: Api, open_alert: Callable[..., int]) -> None:
    open_alert("VPN down")
    begin, end = clock.now() - timedelta(hours=2), clock.now() - timedelta(hours=1)
    body = observer.get(f"reports/response-times?from={quote(begin.isoformat())}&to={quote(end.isoformat())}").body
    assert body["all"]["alerts"] == 0
    assert observer.get(f"reports/interruptions?to={quote(end.isoformat())}").body["people"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("response-times?by=colour", "by"),
        ("response-times?per=hour", "per"),
        ("response-times?from=yesterday", "from"),
        ("response-times?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("interruptions?from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("sla?group=Nobody", "group"),
        ("sla-breaches?limit=0", "limit"),
        ("noise?integration=Nothing", "integration"),
        ("noise?priority=urgent", "priority"),
        ("fairness?month=2026-13", "month"),
        ("fairness?months=13", "months"),
        ("fairness?role=boss", "role"),
    ],
)
def test_what_cannot_be_reported_is_refused_with_its_place(observer: Api, query: str, field: str) -> None:
    refused(observer.get(f"reports/{query}"), 400, "invalid", field)


def test_nodes_are_listed_with_their_last_report(admin: Api, manager: Api) -> None:
    now = clock.now()
    for name, ago in (("pager-1", timedelta(seconds=5)), ("pager-2", timedelta(minutes=5))):
        Node.objects.create(
            id=uuid7(), name=name, role="all", version="1", started_at=now, seen_at=now - ago, stuck_senders={"Mail": 2}
        )
    items = admin.get("system/nodes").body["items"]
    assert [(item["name"], item["alive"]) for item in items] == [("pager-1", True), ("pager-2", False)]
    assert items[0]["stuck_senders"] == {"Mail": 2}
    refused(manager.get("system/nodes"), 403, "forbidden")


def test_backup_made_by_other_means_is_reported(admin: Api, manager: Api) -> None:
    assert admin.get("system/last-backup").body["at"] is None
    at = (clock.now() - timedelta(hours=2)).isoformat()
    body = admin.send("PUT", "system/last-backup", {"location": "s3://backups", "at": at, "size_bytes": 5}).body
    assert (body["location"], body["size_bytes"], body["overdue"]) == ("s3://backups", 5, False)
    assert admin.get("system/last-backup").body == body
    refused(manager.get("system/last-backup"), 403, "forbidden")
    wrong = {"location": "s3://backups", "at": "2026-11-24T10:00:00"}
    refused(admin.send("PUT", "system/last-backup", wrong), 400, "invalid", "at")


def test_a_clients_month_has_the_figures_of_the_page(observer: Api, open_alert: Callable[..., int]) -> None:
    number = open_alert("VPN down", columns={"client": "Acme"})
    open_alert("Disk full", columns={"client": "Globex"})
    opened = Alert.objects.get(pk=number).opened_at
    body = observer.get(f"reports/client-month?client=acme&month={opened:%Y-%m}").body
    assert (body["response_times"]["alerts"], body["still_active"], body["before"]["alerts"]) == (1, 1, 0)
    assert [(one["alert"], one["subject"], one["closed_at"]) for one in body["worst"]] == [(number, "VPN down", None)]
    assert "2026-12" in refused(observer.get("reports/client-month?client=acme&month=soon"), 400, "invalid", "month")
