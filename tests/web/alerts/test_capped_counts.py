"""Counts on pages are capped, whatever the tables contain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from django.test import Client

from tests.support.ingest import make_integration
from tests.web.conftest import Company
from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import CommandChannel
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.people.models import User
from tocsin.web.alerts import queries
from tocsin.web.http.request import alert_actor
from tocsin.web.ui import object_list

_numbers = count(1)


def message(integration: Integration, status: str, at: datetime) -> None:
    """A message that arrived at that moment."""
    number = UUID(int=first_uuid7(at).int + next(_numbers))
    InboundMessage.objects.create(pk=number, integration=integration, received_at=at, status=status)


def test_messages_are_counted_by_outcome_and_integration_with_cap(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, halo, other, silent = clock.now(), company.halo, make_integration("Other"), make_integration("Silent")
    for minutes, integration, status in (
        (1, halo, "Mapped Opened"), (2, halo, "Mapped Appended"), (3, halo, "Mapped Appended"),
        (4, other, "Mapped Ignored"), (60 * 25, other, "Mapped Opened"), (60 * 25, silent, "Mapped Opened"),
    ):  # fmt: skip
        message(integration, status, now - timedelta(minutes=minutes))
    assert object_list.outcomes(now) == [("Mapped Opened", 1), ("Mapped Appended", 2), ("Mapped Ignored", 1)]
    assert object_list.outcomes(now, other.pk) == [("Mapped Ignored", 1)]
    numbers = [company.halo.pk, other.pk, silent.pk]
    assert object_list.messages_today(now, numbers) == {
        halo.pk: (3, now - timedelta(minutes=1)),
        other.pk: (1, now - timedelta(minutes=4)),
    }
    never = make_integration("Never")
    # Its neighbours by number have messages, before it and after.
    late = make_integration("Late")
    message(late, "Mapped Opened", now)
    assert object_list.integrations_with_messages([silent.pk, never.pk, late.pk]) == {silent.pk, late.pk}
    assert object_list.integrations_with_messages([]) == set()
    monkeypatch.setattr(object_list, "MAX_COUNTED_MESSAGES", 2)
    assert object_list.outcomes(now, halo.pk) == [("Mapped Opened", 1), ("Mapped Appended", 1)]
    # A flood of others does not hide what could not be read.
    message(halo, "Mapping Failed", now - timedelta(hours=3))
    assert dict(object_list.outcomes(now, halo.pk))["Mapping Failed"] == 1
    number, newest = object_list.messages_today(now, [halo.pk])[halo.pk]
    assert (object_list.counted(number, object_list.MAX_COUNTED_MESSAGES), newest) == (
        "2+",
        now - timedelta(minutes=1),
    )


def test_a_number_has_the_separators_of_its_reader() -> None:
    assert [object_list.counted(number, 10_000) for number in (0, 999, 10_000, 10_001)] == [
        "0", "999", "10,000", "10,000+"
    ]  # fmt: skip


def test_tabs_and_badge_show_capped_open_alert_counts(
    company: Company,
    open_alert: Callable[..., int],
    browser_of: Callable[[User], Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    *_rest, answered = (open_alert(f"Disk {number}") for number in range(5))
    service.apply_command(
        FoundAlert.by_tocsin(answered),
        Acknowledge(actor=alert_actor(company.responder), via=CommandChannel.WEB),
        now=clock.now(),
    )
    counts = queries.active_counts()
    assert {tab.key: tab.count for tab in queries.tabs("open", counts)} == {
        "open": 4, "acknowledged": 1, "assigned": 0, "on_hold": 0, "closed": None,
    }  # fmt: skip
    assert counts.needing_answer == queries.open_count() == 4
    # With more open alerts than the limit, counting ends before the one that is acknowledged.
    monkeypatch.setattr(object_list, "MAX_COUNTED_ALERTS", 1)
    assert queries.active_counts().by_tab["acknowledged"] == 1
    monkeypatch.setattr(object_list, "MAX_COUNTED_ALERTS", 2)
    assert "<b>2+</b>" in browser_of(company.admin).get("/alerts/").content.decode()
    assert Alert.objects.count() == 5


def test_alerts_needing_an_answer_are_counted_behind_many_others(
    open_alert: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    dry = [open_alert(f"Practice {number}") for number in range(4)]
    Alert.objects.filter(pk__in=dry).update(dry_run=True)
    open_alert("VPN down")
    # Counting ends before the alert.
    monkeypatch.setattr(object_list, "MAX_COUNTED_ALERTS", 1)
    assert queries.active_counts().needing_answer == 1


def test_home_shows_most_urgent_alerts_without_dry_runs_and_tests(
    company: Company, open_alert: Callable[..., int], browser_of: Callable[[User], Client]
) -> None:
    urgent, newest = open_alert("VPN down"), open_alert("Printer")
    dry = [open_alert(f"Practice {number}") for number in range(3)]
    Alert.objects.filter(pk=urgent).update(priority="critical")
    Alert.objects.filter(pk=newest).update(priority="low")
    Alert.objects.filter(pk__in=dry).update(dry_run=True, priority="critical")
    Alert.objects.filter(pk=open_alert("Tried out")).update(is_test=True, priority="critical")
    assert [alert.pk for alert, _storm in queries.most_urgent(queries.newest_needing_answer(), 8)] == [urgent, newest]
    assert queries.active_counts().needing_answer == queries.open_count() == 2
    page = browser_of(company.admin).get("/").content.decode()
    assert page.index("VPN down") < page.index("Printer")
    assert "Practice" not in page
    assert "Tried out" not in page
