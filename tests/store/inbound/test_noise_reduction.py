"""Delays, groups, flapping, parents and limits on real PostgreSQL."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from psycopg import errors

from tests.store.inbound.test_ingest_faults import SpoiledRegistry
from tests.support.ingest import NOW, Ingest, make_integration, message
from tests.support.locks import wait_for_waiters
from tests.support.people import ACTOR
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts import service
from tocsin.alerts.commands import Actor as By
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import advisory_lock_key
from tocsin.core.runtime import clock
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.admin import delayed_alerts
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.inspect import explain_message
from tocsin.inbound.models import DelayedAlert, GroupMember, InboundMessage, Integration
from tocsin.inbound.processing import batch, drain
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.storage.messages import MessageResult
from tocsin.people.models import Group
from tocsin.simulate import backtest, chain

pytestmark = pytest.mark.usefixtures("database")

MINUTE = timedelta(minutes=1)


@dataclass
class NoiseHarness:
    """One integration of a general kind, and the loop that opens what is due."""

    definition: dict[str, Any]
    ingest: Ingest = field(default_factory=Ingest)
    now: datetime = NOW
    name: str = "Monitoring"

    def __post_init__(self) -> None:
        mapping = {"source_id": "id", "source_status": "status", "subject": "subject", "client": "client",
                   "priority": "priority", "tags": {"environment": "env"}}  # fmt: skip
        rules = {
            "open": {"field": "source_status", "operator": "equals", "value": "New"},
            "close": {"field": "source_status", "operator": "equals", "value": "Closed"},
            "update": True,
        }
        self.integration = make_integration(
            self.name, "api", definition={"mapping": mapping, "rules": rules, **self.definition}
        )

    def send(self, *ids: object, status: str = "New", **more: Any) -> list[MessageResult]:
        """One message for each id, in one batch."""
        payloads = [
            {"id": str(one), "status": status, "subject": f"Host {one}", "client": "Acme", **more} for one in ids
        ]
        return self.ingest.send(self.integration, *payloads, now=self.now)

    def wait(self, span: timedelta) -> None:
        """Time passes, and the loop takes its turns."""
        self.now += span
        while drain.open_due(IntegrationRegistry(), AlertIdAllocator(), self.now):
            pass


def statuses(stored: list[MessageResult]) -> list[str]:
    return [one.status.value.removeprefix("Mapped ") for one in stored]


def log() -> list[str]:
    return [f"{row.source_id} {row.status.removeprefix('Mapped ')}" for row in InboundMessage.objects.order_by("pk")]


# --- Delays --------------------------------------------------------------------------------------------------------


def test_an_alert_waits_and_opens_when_its_time_is_over() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    (stored,) = desk.send(1)
    assert (stored.status.value, stored.alert_id) == ("Mapped Delayed", None)
    assert "opens after 5 minutes, unless it closes first" in str(stored.reason)
    waits = DelayedAlert.objects.get()
    assert (waits.due_at, waits.subject, waits.integration_id) == (NOW + 5 * MINUTE, "Host 1", desk.integration.pk)
    desk.wait(4 * MINUTE)
    assert not Alert.objects.exists()
    desk.wait(MINUTE)
    alert = Alert.objects.get()
    assert (alert.subject, alert.opened_at, alert.count) == ("Host 1", NOW + 5 * MINUTE, 1)
    assert "it was delayed for 5 minutes" in str(alert.events.get(kind="opened").reason)
    assert log() == ["1 Opened"]
    assert InboundMessage.objects.get().alert_id == alert.pk
    assert not DelayedAlert.objects.exists()


def test_alert_that_opened_is_no_longer_delayed() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    row = DelayedAlert.objects.get()
    assert delayed_alerts.find(bytes(row.key_hash).hex()) == row
    desk.wait(5 * MINUTE)
    with pytest.raises(Rejected) as late:
        delayed_alerts.drop(row, actor=ACTOR, now=desk.now)
    with pytest.raises(Rejected) as gone:
        delayed_alerts.find(bytes(row.key_hash).hex())
    assert [one.value.reason.code for one in (late, gone)] == [
        "Too late: the alert has already opened or closed.",
        "This alert is no longer delayed: it opened, closed, or was dropped.",
    ]


def test_close_during_delay_wins_and_log_stays_complete() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    desk.now += 2 * MINUTE
    (closed,) = desk.send(1, status="Closed")
    assert statuses([closed]) == ["Ignored"]
    assert "before its alert opened" in str(closed.reason)
    desk.wait(5 * MINUTE)
    assert not Alert.objects.exists()
    first = InboundMessage.objects.order_by("pk")[0]
    assert (first.status, first.key_hash) == ("Mapped Ignored", None)
    assert "closed after 2 minutes, before its alert opened" in str(first.reason)


def test_open_and_close_of_one_batch_leave_nothing_that_waits() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    stored = desk.send(1, status="Closed") + desk.send(2)
    batched = desk.ingest.send(
        desk.integration, {"id": "3", "status": "New"}, {"id": "3", "status": "Closed"}, {"id": "3", "status": "New"}
    )
    assert statuses([*stored, *batched]) == ["Ignored", "Delayed", "Ignored", "Ignored", "Delayed"]
    assert sorted(DelayedAlert.objects.values_list("source_id", flat=True)) == ["2", "3"]


def test_messages_during_delay_are_decided_in_order_on_opening() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    assert statuses(desk.send(1, status="In progress", subject="Host 1 is on fire")) == ["Delayed"]
    assert statuses(desk.send(1)) == ["Delayed"]
    desk.wait(5 * MINUTE)
    assert log() == ["1 Opened", "1 Updated", "1 Appended"]
    assert Alert.objects.get().count == 3


def test_one_that_becomes_more_urgent_waits_no_more() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1, priority="low")
    desk.send(1, status="In progress", priority="critical")
    desk.wait(timedelta(seconds=1))
    assert Alert.objects.get().priority == "critical"


@pytest.mark.parametrize(
    "delay", [{"wait": "5m"}, {"alerts": 3}, {"alerts": 3, "within": "10m", "per": "integration"}], ids=str
)
@pytest.mark.parametrize("before", ["low", None], ids=["low", "the policy's own"])
def test_neither_does_one_that_is_sent_again_as_more_urgent(delay: dict[str, Any], before: str | None) -> None:
    desk = NoiseHarness({"delay": delay})
    desk.send(1, priority=before)
    assert statuses(desk.send(1, priority="critical")) == ["Delayed"]
    # What comes before its turn does not begin the wait anew.
    desk.send(1)
    desk.wait(timedelta(seconds=1))
    assert Alert.objects.get().priority == "critical"
    assert log() == ["1 Opened", "1 Appended", "1 Appended"]


def test_a_route_has_a_delay_of_its_own_or_none() -> None:
    urgent = {"field": "priority", "operator": "equals", "value": "critical"}
    desk = NoiseHarness({"delay": {"wait": "1h"}, "routes": [{"when": urgent, "delay": "none"}]})
    assert statuses(desk.send(1, priority="critical") + desk.send(2, priority="low")) == ["Opened", "Delayed"]
    # The same alert becomes critical: it opens at once, and what waited counts on it.
    assert statuses(desk.send(2, priority="critical")) == ["Opened"]
    assert log() == ["1 Opened", "2 Appended", "2 Opened"]
    assert not DelayedAlert.objects.exists()


def test_no_message_of_a_live_alert_ever_waits() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    desk.wait(5 * MINUTE)
    assert statuses(desk.send(1) + desk.send(1, status="x") + desk.send(1, status="Closed")) == [
        "Appended", "Updated", "Closed",
    ]  # fmt: skip


def test_every_third_message_opens_an_alert() -> None:
    desk = NoiseHarness({"delay": {"alerts": 3}})
    assert statuses(desk.send(1) + desk.send(1) + desk.send(1, 1)) == ["Delayed", "Delayed", "Opened", "Appended"]
    assert log() == ["1 Appended", "1 Appended", "1 Opened", "1 Appended"]
    assert Alert.objects.get().count == 4


def test_threshold_counts_three_in_a_sliding_ten_minute_window() -> None:
    desk = NoiseHarness({"delay": {"alerts": 3, "within": "10m"}})
    desk.send(1)
    desk.wait(6 * MINUTE)
    desk.send(1)
    desk.wait(6 * MINUTE)
    # The first is too old by now, and says so; the second still counts.
    assert log() == ["1 Ignored", "1 Delayed"]
    assert "too few arrived within 10 minutes" in str(InboundMessage.objects.order_by("pk")[0].reason)
    assert statuses(desk.send(1) + desk.send(1)) == ["Delayed", "Opened"]
    assert Alert.objects.count() == 1


def test_integration_wide_threshold_counts_all_and_opens_one_alert() -> None:
    desk = NoiseHarness({"delay": {"alerts": 3, "per": "integration"}})
    assert statuses(desk.send(1) + desk.send(1) + desk.send(2)) == ["Delayed"] * 3
    assert statuses(desk.send(3)) == ["Opened"]
    desk.wait(timedelta(seconds=1))
    alert = Alert.objects.get()
    assert sorted(GroupMember.objects.values_list("source_id", "role")) == [
        ("1", "member"),
        ("2", "member"),
        ("3", "first"),
    ]
    assert set(InboundMessage.objects.values_list("alert_id", flat=True)) == {alert.pk}
    assert statuses(desk.send(4)) == ["Delayed"]


def test_throttle_opens_at_most_one_every_half_hour() -> None:
    desk = NoiseHarness({"delay": {"every": "30m", "per": "integration"}})
    assert statuses(desk.send(1) + desk.send(2) + desk.send(3)) == ["Opened", "Delayed", "Delayed"]
    desk.wait(30 * MINUTE)
    first, second = Alert.objects.order_by("pk")
    assert (first.subject, second.subject) == ("Host 1", "Host 2")
    assert GroupMember.objects.filter(alert=second).count() == 2


def test_key_that_recurs_too_soon_waits_for_window_end() -> None:
    desk = NoiseHarness({"delay": {"every": "30m"}})
    assert statuses(desk.send(1) + desk.send(1, status="Closed") + desk.send(1) + desk.send(2)) == [
        "Opened", "Closed", "Delayed", "Opened",
    ]  # fmt: skip
    desk.wait(30 * MINUTE)
    assert Alert.objects.filter(subject="Host 1").count() == 2


def test_an_alert_waits_for_support_hours() -> None:
    from tocsin.oncall.models import SupportHours

    hours = SupportHours.objects.create(
        name="Office", time_zone="Europe/Zurich", windows=[{"days": ["wed"], "from": "08:00", "to": "17:00"}]
    )
    desk = NoiseHarness({"delay": {"until": hours.pk}})
    (stored,) = desk.send(1)
    assert "when the support hours Office begin" in str(stored.reason)
    assert DelayedAlert.objects.get().due_at == datetime.fromisoformat("2026-11-25T07:00:00+00:00")
    desk.wait(datetime.fromisoformat("2026-11-25T07:00:00+00:00") - desk.now)
    assert statuses(desk.send(2)) == ["Opened"]
    assert Alert.objects.count() == 2


# --- Groups, parents, flapping, limits -----------------------------------------------------------------------------


def test_grouped_keys_form_one_alert_that_closes_with_last() -> None:
    desk = NoiseHarness({"grouping": {"by": "<client>", "within": "30m"}})
    assert statuses(desk.send(1, 2) + desk.send(3) + desk.send(9, client="Other")) == [
        "Opened", "Appended", "Appended", "Opened",
    ]  # fmt: skip
    alert = Alert.objects.get(subject="Host 1")
    assert [event.kind for event in alert.events.order_by("pk")] == ["opened", "joined", "joined"]
    assert statuses(desk.send(1, status="Closed") + desk.send(3, status="Closed")) == ["Updated", "Updated"]
    alert.refresh_from_db()
    assert alert.status == "open"
    assert "continues for 1 other." in str(alert.events.latest("pk").reason)
    # One of them comes again, and another of the same batch ends: the alert is the same for all.
    assert statuses(desk.send(1) + desk.send(2, 1, status="Closed")) == ["Appended", "Updated", "Closed"]
    alert.refresh_from_db()
    assert alert.status == "closed"
    assert statuses(desk.send(2)) == ["Opened"]


def test_group_accepts_no_member_after_window_or_close() -> None:
    desk = NoiseHarness({"grouping": {"by": "<client>", "within": "30m"}})
    first = desk.send(1)[0].alert_id
    assert first is not None
    desk.now += 31 * MINUTE
    second = desk.send(2)[0]
    assert statuses([second]) == ["Opened"]
    assert second.alert_id is not None
    by = By(ActorKind.USER, "Alice")
    service.apply_command(FoundAlert.by_tocsin(second.alert_id), Close(actor=by, via=CommandChannel.WEB), now=desk.now)
    assert statuses(desk.send(3) + desk.send(2) + desk.send(1)) == ["Opened", "Appended", "Appended"]
    assert Alert.objects.get(pk=first).status == "open"


def test_delayed_alert_joins_a_group_when_it_repeats() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}, "grouping": {"by": "<client>", "within": "30m"}})
    desk.send(1)
    desk.now += 2 * MINUTE
    desk.send(2)
    desk.wait(3 * MINUTE)
    assert statuses(desk.send(2)) == ["Appended"]
    assert [row.reason.code for row in InboundMessage.objects.order_by("pk")] == [
        "message.opened", "message.waited_then_joined", "message.joined_alert",
    ]  # fmt: skip


def test_a_message_opens_after_its_delay_under_another_key() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    version = desk.integration.current_version
    assert version is not None
    version.definition["mapping"] = {**version.definition["mapping"], "source_id": "subject"}
    version.save()
    settings_store.bump()
    desk.wait(5 * MINUTE)
    waited = Alert.objects.get().events.get(kind="opened").reason
    assert "delay.over" in json.dumps(waited.data)


def test_a_member_that_is_more_urgent_raises_the_alert() -> None:
    desk = NoiseHarness({"grouping": {"by": "<client>", "within": "30m"}})
    desk.send(1, priority="low")
    desk.send(2, priority="critical")
    assert Alert.objects.get().priority == "critical"


def test_children_join_their_parents_alert_and_never_close_it() -> None:
    desk = NoiseHarness({"parent": "<part_of>"})
    assert statuses(desk.send(1, 2) + desk.send(3, part_of="1") + desk.send(4, part_of="77")) == [
        "Opened", "Opened", "Appended", "Opened",
    ]  # fmt: skip
    assert statuses(desk.send(3, status="Closed")) == ["Updated"]
    desk.send(5, part_of="1")
    assert statuses(desk.send(1, status="Closed") + desk.send(5)) == ["Closed", "Opened"]


def test_repeating_child_opens_once_its_parent_is_closed() -> None:
    desk = NoiseHarness({"parent": "<field:client>"})
    mapping = {**desk.integration.current_version.definition["mapping"], "delivery_id": "delivery"}  # type: ignore[union-attr]
    desk.integration.current_version.definition["mapping"] = mapping  # type: ignore[union-attr]
    desk.integration.current_version.save()  # type: ignore[union-attr]
    settings_store.bump()
    desk.send("Acme", client="")
    assert statuses(desk.send(1, delivery="1") + desk.send(1, delivery="1")) == ["Appended", "Appended"]
    desk.send("Acme", client="", status="Closed")
    assert statuses(desk.send(1, delivery="1") + desk.send(1, delivery="1")) == ["Opened", "Ignored"]


def test_flapping_alert_opens_only_after_stable_time() -> None:
    desk = NoiseHarness({"flapping": {"alerts": 2, "within": "30m", "stable": "10m"}})
    assert statuses(desk.send(1) + desk.send(1, status="Closed") + desk.send(1) + desk.send(1, status="Closed")) == [
        "Opened", "Closed", "Opened", "Closed",
    ]  # fmt: skip
    assert "flapping: opened 2 times within 30 minutes" in str(
        AlertEvent.objects.filter(kind="opened").latest("pk").reason
    )
    assert statuses(desk.send(1) + desk.send(1, status="Closed") + desk.send(1) + desk.send(1)) == [
        "Delayed", "Ignored", "Delayed", "Delayed",
    ]  # fmt: skip
    desk.wait(10 * MINUTE)
    assert Alert.objects.filter(status="open").count() == 1
    desk.send(1, status="Closed")
    desk.now += 31 * MINUTE
    assert statuses(desk.send(1)) == ["Opened"]


def test_flood_becomes_one_labelled_alert() -> None:
    desk = NoiseHarness({"flood": {"burst": 2, "every": "1m"}})
    assert statuses(desk.send(1, 2, 3, 4) + desk.send(5)) == ["Opened", "Opened", "Opened", "Appended", "Appended"]
    flood = Alert.objects.order_by("pk").last()
    assert flood is not None
    assert flood.subject == "Flood of alerts: Host 3"
    assert (flood.count, flood.source_id) == (3, "")
    desk.now += MINUTE
    assert statuses(desk.send(6) + desk.send(7)) == ["Opened", "Appended"]
    assert statuses(desk.send(3, 4, 5, 7, status="Closed")) == ["Updated", "Updated", "Updated", "Closed"]
    assert Alert.objects.filter(status="open").count() == 3


def test_flood_releases_the_alerts_delayed_with_it() -> None:
    desk = NoiseHarness({"delay": {"alerts": 2, "per": "integration"}, "flood": {"burst": 1, "every": "1h"}})
    assert statuses(desk.send(1) + desk.send(2)) == ["Delayed", "Opened"]
    desk.wait(timedelta(seconds=1))
    assert statuses(desk.send(3) + desk.send(4)) == ["Delayed", "Opened"]
    desk.wait(10 * MINUTE)
    assert statuses(desk.send(5) + desk.send(6)) == ["Delayed", "Appended"]
    desk.wait(timedelta(seconds=1))
    assert not DelayedAlert.objects.exists()
    flood = Alert.objects.get(subject__startswith="Flood")
    assert GroupMember.objects.filter(alert=flood).count() == 4


def gate_trace_of(number: int) -> list[tuple[str, bool, str]]:
    """What the trace of the so-manieth message says of the gate."""
    row = list(InboundMessage.objects.select_related("integration__current_version", "version").order_by("pk"))[number]
    trace = explain_message(row).trace
    assert trace is not None
    return [(one.name, one.is_true, str(one.reason)) for one in trace.gate]


@pytest.mark.parametrize(
    ("definition", "ids", "message"),
    [
        (
            {"delay": {"wait": "5m"}},
            [1],
            [("delay", False, "its alert opens after 5 minutes, unless it closes first")],
        ),
        (
            {"grouping": {"by": "<client>", "within": "30m"}},
            [1, 2],
            [("group", False, "it joins alert N: the same group")],
        ),
        (
            {"flood": {"burst": 1, "every": "1m"}},
            [1, 2],
            [("flood", True, "more than 1 alert at once: grouped into this alert")],
        ),
        (
            {"flood": {"burst": 1, "every": "1m"}},
            [1],
            [("gate", True, "not held back by maintenance, parent, group, delay or rate limit")],
        ),
    ],
    ids=["delay", "group", "flood", "nothing"],
)
def test_suppression_decision_appears_in_message_trace(
    definition: dict[str, Any], ids: list[int], message: list[tuple[str, bool, str]]
) -> None:
    stored = NoiseHarness(definition).send(*ids)
    number = stored[0].alert_id
    assert gate_trace_of(len(ids) - 1) == [(name, opens, why.replace("N", str(number))) for name, opens, why in message]


@pytest.mark.parametrize(
    "definition",
    [
        {"delay": {"every": "30m"}},
        {"delay": {"every": "30m", "per": "integration"}},
        {"delay": {"alerts": 2, "per": "integration"}},
        {"flood": {"burst": 1, "every": "1m"}},
        {"grouping": {"by": "<client>", "within": "30m"}},
    ],
    ids=str,
)
def test_message_of_active_alert_can_be_tried_regardless_of_counters(definition: dict[str, Any]) -> None:
    desk = NoiseHarness(definition)
    desk.send(1)
    desk.send(2)
    desk.wait(timedelta())
    (outcome,) = chain.simulate(
        desk.integration, b'{"id": "1", "status": "New"}', "application/json", desk.now
    ).outcomes
    assert outcome.status.value == "Mapped Appended"


def test_trace_of_delayed_message_names_delay_and_maintenance_window() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    desk.wait(5 * MINUTE)
    assert gate_trace_of(0) == [
        ("delay", True, "it was delayed for 5 minutes, and opens after 5 minutes, unless it closes first")
    ]
    window(desk.integration)
    desk.send(2)
    assert gate_trace_of(1) == [("maintenance", False, "Patch night, until 2026-11-24 10:00 UTC")]
    body = b'{"id": "3", "status": "New"}'
    (outcome,) = chain.simulate(desk.integration, body, "application/json", desk.now).outcomes
    assert outcome.trace is not None
    assert [one.name for one in outcome.trace.gate] == ["maintenance"]
    flaps = NoiseHarness({"flapping": {"alerts": 2, "within": "30m", "stable": "10m"}}, name="Flaps")
    flaps.send(1)
    flaps.send(1, status="Closed")
    flaps.send(1)
    ((name, opens, why),) = gate_trace_of(-1)
    assert (name, opens) == ("flapping", True)
    assert why.startswith("flapping: opened 2 times within 30 minutes")


# --- Maintenance ---------------------------------------------------------------------------------------------------


def window(integration: Integration | None = None, **more: Any) -> Any:
    spec = {"name": "Patch night", "starts": "2026-11-24 09:00", "ends": "2026-11-24 10:00", **more}
    if integration is not None:
        spec["integrations"] = [integration.name]
    return maintenance_windows.save_window(spec, actor=COMMAND_LINE, now=NOW)


def test_maintenance_opens_nothing_but_updates_active_alerts() -> None:
    desk = NoiseHarness({})
    desk.send(1)
    window(desk.integration)
    stored = desk.send(1) + desk.send(2) + desk.send(2, status="x") + desk.send(1, status="Closed")
    assert statuses(stored) == ["Appended", "Ignored", "Ignored", "Closed"]
    assert str(stored[1].reason) == "maintenance: Patch night, until 2026-11-24 10:00 UTC"
    desk.now += 45 * MINUTE
    assert statuses(desk.send(2)) == ["Opened"]


def test_group_window_concerns_only_the_groups_alerts_within_boundaries() -> None:
    settings_store.set(settings_store.VISIBILITY, "groups")
    desk = NoiseHarness({})
    group = Group.objects.create(name="Network")
    window(group=group.name)
    assert statuses(desk.send(1)) == ["Opened"]
    Integration.objects.filter(pk=desk.integration.pk).update(group=group)
    settings_store.bump()
    assert statuses(desk.send(2)) == ["Ignored"]
    settings_store.set(settings_store.VISIBILITY, "everyone")
    Integration.objects.filter(pk=desk.integration.pk).update(group=None)
    settings_store.bump()
    assert statuses(desk.send(3)) == ["Ignored"]


def test_suppressed_alert_opens_when_its_source_repeats() -> None:
    integration, ingest = make_integration("Alertmanager", "alertmanager"), Ingest()
    firing = {"status": "firing", "fingerprint": "c0ffee", "startsAt": "2026-11-24T09:10:00Z"}
    data = {"alert": {**firing, "labels": {"alertname": "Disk"}}, "delivery": "c0ffee|2026-11-24T09:10:00Z|firing"}
    window(integration)
    assert statuses(ingest.send(integration, data, data)) == ["Ignored", "Ignored"]
    opened, again = ingest.send(integration, data, data, now=NOW + 46 * MINUTE)
    assert statuses([opened, again]) == ["Opened", "Ignored"]
    assert "same delivery" in str(again.reason)


def test_deferring_window_opens_unclosed_alerts_at_its_end() -> None:
    desk = NoiseHarness({})
    held_window = window(action="hold", tags={"environment": "TEST"})
    assert statuses(desk.send(1, 2, env="test") + desk.send(3, env="live")) == ["Delayed", "Delayed", "Opened"]
    desk.send(2, status="Closed")
    (in_force,) = maintenance_windows.active_windows(desk.now)
    assert (in_force.window, in_force.delayed_count) == (held_window, 1)
    desk.wait(44 * MINUTE)
    assert Alert.objects.count() == 1
    desk.wait(MINUTE)
    assert sorted(Alert.objects.values_list("subject", flat=True)) == ["Host 1", "Host 3"]


def test_urgent_update_keeps_the_maintenance_hold_until_its_end() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    window(action="hold")
    desk.send(1, priority="low")
    end = DelayedAlert.objects.get().due_at
    assert statuses(desk.send(1, status="In progress", priority="critical")) == ["Delayed"]
    held = DelayedAlert.objects.get()
    assert (held.due_at, held.released, held.priority, held.message_count) == (end, False, "critical", 2)
    desk.wait(timedelta(seconds=1))
    assert DelayedAlert.objects.get().message_count == 2
    desk.wait(45 * MINUTE)
    assert Alert.objects.get().priority == "critical"
    assert log() == ["1 Opened", "1 Updated"]


def test_urgent_update_before_a_window_does_not_lift_its_hold() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1, priority="low")
    desk.send(1, status="In progress", priority="critical")
    window(action="hold")
    desk.wait(timedelta(seconds=1))
    held = DelayedAlert.objects.get()
    assert (held.delay_reason, held.due_at) == ("maintenance", datetime(2026, 11, 24, 10, tzinfo=UTC))
    assert log() == ["1 Delayed", "1 Delayed"]


def test_shortened_or_deleted_window_releases_its_delayed_alerts() -> None:
    desk = NoiseHarness({})
    held_window = window(action="hold")
    desk.send(1)
    maintenance_windows.save_window(
        {**maintenance_windows.window_spec(held_window), "ends": "2026-11-24 11:00"},
        existing=held_window,
        actor=COMMAND_LINE,
        now=desk.now,
    )
    desk.wait(60 * MINUTE)
    assert not Alert.objects.exists()
    maintenance_windows.delete_window(held_window, actor=COMMAND_LINE, now=desk.now)
    desk.wait(timedelta(seconds=1))
    assert Alert.objects.get().subject == "Host 1"


def test_unreadable_window_delays_nothing_and_blocks_no_integration() -> None:
    desk = NoiseHarness({})
    row = window()
    row.times = {**row.times, "time_zone": "Mars/Olympus"}
    row.save()
    settings_store.bump()
    assert statuses(desk.send(1)) == ["Opened"]
    assert maintenance_windows.active_windows(desk.now) == []


def test_excess_delayed_messages_keep_the_first_and_newest() -> None:
    desk = NoiseHarness({})
    window(action="hold")
    for _ in range(21):
        desk.send(*[1] * 10, priority="low")
    desk.send(1, priority="critical", subject="Host 1 is on fire")
    desk.wait(60 * MINUTE)
    assert (Alert.objects.get().priority, Alert.objects.get().subject) == ("critical", "Host 1 is on fire")
    opened = InboundMessage.objects.order_by("pk")[0]
    assert opened.status == "Mapped Opened"
    ignored = [row.reason for row in InboundMessage.objects.filter(status="Mapped Ignored")]
    assert {reason.code for reason in ignored} == {"message.one_of_many_delayed"}
    assert len({str(reason) for reason in ignored}) == 1
    assert not InboundMessage.objects.filter(status="Mapped Delayed").exists()


def test_far_future_window_is_rejected_and_stored_one_harmless() -> None:
    spec = {"name": "Never", "repeat": "daily", "from": "22:00", "to": "02:00", "first_day": "9999-12-31"}
    with pytest.raises(Rejected, match="first_day"):
        maintenance_windows.save_window(spec, actor=COMMAND_LINE, now=NOW)
    desk = NoiseHarness({})
    row = maintenance_windows.save_window({**spec, "first_day": "2100-01-01"}, actor=COMMAND_LINE, now=NOW)
    row.times = {**row.times, "first_day": "9999-12-31"}
    row.save()
    settings_store.bump()
    assert statuses(desk.send(1)) == ["Opened"]
    assert maintenance_windows.next_times(row, NOW, 5) == []


# --- Crashes and several nodes -------------------------------------------------------------------------------------


def test_concurrent_workers_open_due_alerts_once_despite_crash() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1, 2)
    desk.now += 5 * MINUTE
    key = bytes(DelayedAlert.objects.get(source_id="1").key_hash)
    with database.connect(name="a worker that dies") as other:
        # It holds the first key's lock in a transaction, as in the middle of opening it.
        other.execute("BEGIN")
        other.execute("SELECT pg_advisory_xact_lock(%s)", (advisory_lock_key(key),))
        drain.open_due(IntegrationRegistry(), AlertIdAllocator(), desk.now)
        assert list(Alert.objects.values_list("subject", flat=True)) == ["Host 2"]
        assert DelayedAlert.objects.get().source_id == "1"
    desk.wait(timedelta(seconds=1))
    assert sorted(Alert.objects.values_list("subject", flat=True)) == ["Host 1", "Host 2"]
    desk.wait(timedelta(seconds=1))
    assert log() == ["1 Opened", "2 Opened"]


def test_undecided_close_precedes_the_due_opening() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    key = bytes(DelayedAlert.objects.get().key_hash)
    with database.connect(name="another node") as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_advisory_xact_lock(%s)", (advisory_lock_key(key),))
        payload = {"id": "1", "status": "Closed"}
        assert statuses(desk.ingest.send(desk.integration, payload, now=desk.now, wait=False)) == ["Pending"]
    desk.wait(5 * MINUTE)
    assert not Alert.objects.exists()
    from tocsin.inbound.processing.drain import drain

    drain(IntegrationRegistry(), AlertIdAllocator(), desk.now)
    desk.wait(timedelta(seconds=1))
    assert not Alert.objects.exists()
    assert log() == ["1 Ignored", "1 Ignored"]


def _decide_patiently(desk: NoiseHarness, payload: dict[str, Any]) -> None:
    with database.connect(name="a patient batch") as connection:
        incoming = [message(desk.integration, payload, desk.now)]
        batch.process(connection, desk.ingest.registry, AlertIdAllocator(), incoming, desk.now)


def _delete(window: Any, now: datetime) -> None:
    try:
        maintenance_windows.delete_window(window, actor=COMMAND_LINE, now=now)
    finally:
        connections.close_all()


def test_release_during_another_messages_decision_still_applies() -> None:
    desk = NoiseHarness({})
    held_window = window(action="hold")
    desk.send(1)
    stored = DelayedAlert.objects.get()
    with ThreadPoolExecutor(2) as pool, database.connect(name="in between") as holder:
        # The batch has read how its key stands, and waits before it writes.
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM inbound_dedupkey WHERE key_hash = %s FOR UPDATE", (bytes(stored.key_hash),))
        deciding = pool.submit(_decide_patiently, desk, {"id": "1", "status": "New", "subject": "Host 1"})
        wait_for_waiters()
        ending = pool.submit(_delete, held_window, desk.now)
        wait_for_waiters(2, unless=ending.done)
        holder.execute("COMMIT")
        deciding.result(10)
        ending.result(10)
    desk.wait(timedelta(seconds=1))
    assert Alert.objects.get().subject == "Host 1"


def test_due_alert_that_raises_is_postponed_and_blocks_no_other() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1, poison=True)
    desk.send(2)
    desk.now += 5 * MINUTE
    drain.open_due(SpoiledRegistry(), AlertIdAllocator(), desk.now)
    assert Alert.objects.get().subject == "Host 2"
    assert DelayedAlert.objects.get().due_at == desk.now + timedelta(seconds=30)
    desk.wait(timedelta(seconds=30))
    assert Alert.objects.count() == 2


def test_group_with_locked_alert_defers_its_members() -> None:
    from tocsin.inbound.processing.drain import drain

    desk = NoiseHarness({"grouping": {"by": "<client>", "within": "30m"}})
    number = desk.send(1, 2)[0].alert_id
    payloads = [{"id": "3", "status": "New", "client": "Acme"}, {"id": "2", "status": "Closed", "client": "Acme"}]
    with database.connect(name="somebody who acts") as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (number,))
        stored = desk.ingest.send(desk.integration, *payloads, now=desk.now, wait=False)
        assert statuses(stored) == ["Pending", "Pending"]
    drain(IntegrationRegistry(), AlertIdAllocator(), desk.now)
    assert log()[-2:] == ["3 Appended", "2 Updated"]
    assert Alert.objects.get().status == "open"


def test_two_nodes_grouping_concurrently_create_one_alert() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connections

    desk = NoiseHarness({"grouping": {"by": "<client>", "within": "30m"}, "flood": {"burst": 3, "every": "1h"}})

    def node(number: int) -> None:
        try:
            for one in range(8):
                payload = {"id": f"{number}-{one}", "status": "New", "client": "Acme" if one % 2 else f"Other {one}"}
                for _ in range(20):
                    try:
                        Ingest().send(desk.integration, payload, now=desk.now)
                        break
                    except errors.LockNotAvailable:
                        continue
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as nodes:
        list(nodes.map(node, (1, 2)))
    # Three alerts opened by themselves, and one stands for all beyond them; every key counts on exactly one.
    assert Alert.objects.count() == 4
    assert GroupMember.objects.filter(left_at=None).count() == 16
    assert InboundMessage.objects.filter(status="Mapped Opened").count() == 4
    assert InboundMessage.objects.filter(status="Mapped Appended").count() == 12


def test_what_is_over_is_pruned_with_the_messages() -> None:
    from tocsin.inbound.models import RateWindow
    from tocsin.inbound.storage.retention import RetentionTask

    desk = NoiseHarness({"grouping": {"by": "<client>", "within": "30m"}, "delay": {"alerts": 2}})
    desk.send(1, 1)
    desk.send(2, client="Other")
    desk.send(1, status="Closed")
    # Messages are numbered by the machine's own clock.
    RetentionTask().run_once(max(desk.now, datetime.now(UTC)) + timedelta(days=122))
    assert not GroupMember.objects.exists()
    assert not RateWindow.objects.exists()
    # What still waits is never pruned.
    assert log() == ["2 Delayed"]


def test_counters_outlive_short_message_retention() -> None:
    from tocsin.inbound.storage.retention import RetentionTask

    settings_store.set(settings_store.MESSAGE_RETENTION_DAYS, 1)
    desk = NoiseHarness({"delay": {"every": "7d"}})
    assert statuses(desk.send(1) + desk.send(1, status="Closed")) == ["Opened", "Closed"]
    desk.now += timedelta(days=2)
    RetentionTask().run_once(desk.now)
    assert statuses(desk.send(1)) == ["Delayed"]


def test_disabled_integration_opens_nothing_and_leaves_no_rows() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}})
    desk.send(1)
    Integration.objects.update(mode="disabled")
    from tocsin.core.config import settings_store as config_version

    config_version.bump()
    desk.wait(5 * MINUTE)
    assert log() == ["1 Ignored"]
    assert not DelayedAlert.objects.exists()
    assert clock.now().tzinfo is not None


# --- Trying it out -------------------------------------------------------------------------------------------------


def test_simulation_shows_delay_and_following_steps() -> None:
    desk = NoiseHarness({"delay": {"wait": "5m"}, "grouping": {"by": "<client>", "within": "30m"}})
    body = b'{"id": "1", "status": "New", "client": "Acme", "subject": "Host 1"}'
    (outcome,) = chain.simulate(desk.integration, body, "application/json", desk.now).outcomes
    assert outcome.status.value == "Mapped Delayed"
    assert outcome.alert is not None
    assert outcome.alert.opened_at == desk.now + 5 * MINUTE
    assert outcome.notes[0] == chain.DELAYED(duration=timedelta(minutes=5))
    assert not DelayedAlert.objects.exists()
    desk.send(1)
    desk.wait(5 * MINUTE)
    other = body.replace(b'"1"', b'"2"')
    (joins,) = chain.simulate(desk.integration, other, "application/json", desk.now).outcomes
    assert (joins.status.value, joins.alert_id) == ("Mapped Appended", Alert.objects.get().pk)
    window(starts="2026-11-24 10:00", ends="2026-11-24 12:00")
    (simulated_outcome,) = chain.simulate(desk.integration, other, "application/json", NOW + 60 * MINUTE).outcomes
    assert str(simulated_outcome.reason) == "maintenance: Patch night, until 2026-11-24 12:00 UTC"


def test_a_backtest_plays_the_waiting_through() -> None:
    desk = NoiseHarness({})
    for number, minutes in ((1, 0), (2, 1), (3, 2)):
        desk.now = NOW + minutes * MINUTE
        desk.send(number)
    desk.now = NOW + 4 * MINUTE
    desk.send(2, status="Closed")
    found_backtest = backtest.backtest(desk.integration, {"delay": {"wait": "5m"}})
    assert (found_backtest.before.opened, found_backtest.after.opened) == (3, 2)
    assert found_backtest.after.statuses == {"Mapped Delayed": 3, "Mapped Ignored": 1}
    assert found_backtest.differing_count == 4
    grouped = backtest.backtest(desk.integration, {"grouping": {"by": "<client>", "within": "1h"}})
    assert (grouped.after.opened, grouped.after.pages) == (1, 1)


def test_window_preview_lists_matches_of_the_last_day() -> None:
    desk = NoiseHarness({})
    desk.send(1, 2, 3, env="test")
    desk.send(4, env="live")
    desk.send(1, status="Closed")
    spec = {"starts": "2027-01-01 00:00", "ends": "2027-01-02 00:00", "tags": {"environment": "test"}}
    row = maintenance_windows.unsaved_window(spec)
    found_maintenance_preview = backtest.suppressed_alerts(maintenance_windows.compile_window(row), desk.now + MINUTE)
    assert (found_maintenance_preview.opened, found_maintenance_preview.count) == (4, 3)
    assert {one.subject for one in found_maintenance_preview.alerts} == {"Host 1", "Host 2", "Host 3"}
