"""Heartbeats: when a sender is expected, how pings change that, and the detection of missed ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, assert_never
from zoneinfo import ZoneInfo

import msgspec

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.reasons import NO_REASON, Reason, Text, sentence
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation import inputs
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.enums import HeartbeatHealth, IntegrationMode, MessageStatus
from tocsin.inbound.models import Heartbeat, Integration
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.processing import drain
from tocsin.inbound.storage.messages import IncomingMessage

# ---------- schedule
# A sender that has never pinged raises no alert, so that a monitor that is not set up yet pages nobody.

#: The integration kind whose senders are monitored.
KIND: Final = "heartbeat"

_UTC: Final = ZoneInfo("UTC")

#: Intervals of one unit.
_EVERY_UNIT: Final = {
    timedelta(minutes=1): Text("every minute"),
    timedelta(hours=1): Text("every hour"),
    timedelta(days=1): Text("every day"),
}

#: How far a sender's clock may be ahead.
CLOCK_TOLERANCE: Final = timedelta(seconds=10)

#: How soon a silence that opened nothing is reported again, if it lasts.
REPEAT_INTERVAL: Final = timedelta(minutes=10)


class PingKind(StrEnum):
    """The kinds of ping, by the last segment of the URL."""

    BEAT = "beat"
    START = "start"
    FINISH = "finish"
    FAIL = "fail"


class SilenceState(StrEnum):
    """How an expected ping was missed."""

    MISSED = "missed"
    OVERRUN = "overrun"


@dataclass(frozen=True, slots=True)
class HeartbeatSchedule:
    """When a sender is expected: every `interval`, or at `cron` in its zone; in both cases plus `grace`."""

    interval: timedelta
    grace: timedelta
    cron: str = ""
    zone: ZoneInfo = _UTC
    #: Maximum time from start to finish; None: unlimited.
    max_run_time: timedelta | None = None

    @property
    def description(self) -> Reason:
        if self.cron:
            return sentence("at {cron} ({zone})", cron=self.cron, zone=self.zone.key)
        every_unit = _EVERY_UNIT.get(self.interval)
        return every_unit() if every_unit is not None else sentence("every {interval}", interval=self.interval)


@dataclass(frozen=True, slots=True)
class HeartbeatMonitor:
    """The state of a sender. `due_at`: when an alert opens unless it pings; None while nothing is expected."""

    health: HeartbeatHealth = HeartbeatHealth.NEW
    last_at: datetime | None = None
    started_at: datetime | None = None
    due_at: datetime | None = None


def parse_schedule(settings: Mapping[str, object]) -> HeartbeatSchedule:
    """Returns the schedule in an integration's settings. Raises Rejected or KeyError for unvalidated settings."""
    max_run_time = settings.get("longest_run")
    return HeartbeatSchedule(
        interval=inputs.parse_duration(settings.get("interval", "1h")),
        grace=inputs.parse_duration(settings.get("grace", "5m")),
        cron=str(settings.get("cron") or ""),
        zone=ZoneInfo(str(settings.get("time_zone") or "UTC")),
        max_run_time=inputs.parse_duration(max_run_time) if max_run_time else None,
    )


def expected_after(schedule: HeartbeatSchedule, at: datetime) -> datetime:
    """Returns when the ping after one at `at` is expected, without grace. A ping slightly before a cron time counts as
    the one for that time."""
    if not schedule.cron:
        return at + schedule.interval
    from cronsim import CronSim

    return next(CronSim(schedule.cron, (at + CLOCK_TOLERANCE).astimezone(schedule.zone))).astimezone(UTC)


def after_ping(
    monitor: HeartbeatMonitor, schedule: HeartbeatSchedule, ping: PingKind, now: datetime
) -> HeartbeatMonitor:
    match ping:
        case PingKind.BEAT | PingKind.FINISH | PingKind.FAIL:
            health = HeartbeatHealth.FAILED if ping is PingKind.FAIL else HeartbeatHealth.UP
            return HeartbeatMonitor(health, now, None, expected_after(schedule, now) + schedule.grace)
        case PingKind.START:
            due = now + schedule.max_run_time if schedule.max_run_time is not None else monitor.due_at
            if due is None:
                due = expected_after(schedule, now) + schedule.grace
            if monitor.health is HeartbeatHealth.RUNNING and monitor.due_at is not None:
                # The previous run never finished: repeated starts must not extend its deadline.
                return HeartbeatMonitor(HeartbeatHealth.RUNNING, now, monitor.started_at, min(due, monitor.due_at))
            return HeartbeatMonitor(HeartbeatHealth.RUNNING, now, now, due)
        case _:
            assert_never(ping)


def after_silence(
    monitor: HeartbeatMonitor, schedule: HeartbeatSchedule, now: datetime
) -> tuple[SilenceState, HeartbeatMonitor] | None:
    """Returns how a due sender missed its ping, and the state afterwards: one alert until it pings again; else None."""
    if monitor.due_at is None or monitor.due_at > now:
        return None
    is_overrun = monitor.health is HeartbeatHealth.RUNNING and schedule.max_run_time is not None
    after = replace(monitor, health=HeartbeatHealth.LATE, due_at=None)
    return (SilenceState.OVERRUN if is_overrun else SilenceState.MISSED), after


def unreported(monitor: HeartbeatMonitor, silence: SilenceState, now: datetime) -> HeartbeatMonitor:
    """Returns the state after a silence that opened nothing, for example due to maintenance: it is checked again."""
    health = monitor.health if silence is SilenceState.OVERRUN else HeartbeatHealth.LATE
    return replace(monitor, health=health, due_at=now + REPEAT_INTERVAL)


def reschedule(monitor: HeartbeatMonitor, schedule: HeartbeatSchedule, now: datetime) -> HeartbeatMonitor:
    """Returns the state as if the last ping had come under the new schedule, but never due in the past."""
    if monitor.due_at is None or monitor.last_at is None:
        return monitor
    if (
        monitor.health is HeartbeatHealth.RUNNING
        and monitor.started_at is not None
        and schedule.max_run_time is not None
    ):
        return replace(monitor, due_at=max(monitor.started_at + schedule.max_run_time, now + schedule.grace))
    due = expected_after(schedule, monitor.last_at) + schedule.grace
    return replace(monitor, due_at=max(due, now + schedule.grace))


def after_rollback(
    monitor: HeartbeatMonitor, schedule: HeartbeatSchedule, by: timedelta, now: datetime
) -> HeartbeatMonitor:
    """Returns the state after a clock rollback by `by`: times in the future are moved back, and what is expected is
    recomputed from them. Times recorded with a correct clock stay."""
    last_at, started_at = (
        at - by if at is not None and at > now else at for at in (monitor.last_at, monitor.started_at)
    )
    corrected = replace(monitor, last_at=last_at, started_at=started_at)
    if corrected == monitor or monitor.due_at is None:
        return corrected
    due_at = reschedule(corrected, schedule, now).due_at
    return replace(corrected, due_at=min(monitor.due_at, due_at or monitor.due_at))


def message(
    integration_id: int,
    name: str,
    ping: PingKind | SilenceState,
    schedule: HeartbeatSchedule,
    monitor: HeartbeatMonitor,
    report: object,
) -> dict[str, object]:
    """Returns the message payload of a ping or a missed one. `report`: what the sender posted, or None."""
    payload: dict[str, object] = {"heartbeat": ping.value, "monitor": integration_id}
    match ping:
        case PingKind.FAIL:
            payload["subject"] = f"{name} says that it failed"
        case SilenceState.MISSED:
            last = f"; the last came {_format_time(monitor.last_at)}" if monitor.last_at else ""
            payload["subject"] = f"{name} is silent"
            payload["text"] = (
                f"A heartbeat is expected {schedule.description}, with "
                f"{inputs.describe(schedule.grace)} of grace{last}. None came."
            )
        case SilenceState.OVERRUN:
            started_text = f" {_format_time(monitor.started_at)}" if monitor.started_at else ""
            limit = inputs.describe(schedule.max_run_time) if schedule.max_run_time else ""
            payload["subject"] = f"{name} does not end"
            payload["text"] = f"It began{started_text} and has not said that it finished within {limit}."
        case PingKind.BEAT | PingKind.START | PingKind.FINISH:
            pass
        case _:
            assert_never(ping)
    if report is not None:
        payload["said"] = report
    return payload


def _format_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


# ---------- monitor
# Each ping is written before its message is decided, and a periodic task detects missed ones.
# Pings and the task lock the row first and the message's key after it, so that an alert never overtakes a heartbeat.

log = logging.getLogger(__name__)

#: The maximum number of missed heartbeats handled per run.
_MAX_MISSED_PER_RUN = 100

#: Heartbeats overdue by more than this when a node starts were due while no node could receive pings: they get a grace
#: period again.
_OUTAGE_THRESHOLD = timedelta(seconds=30)

#: Delay before a missed heartbeat that failed to be processed is retried, so that it does not block others.
_RETRY_AFTER = timedelta(seconds=10)

#: How soon a due heartbeat of a disabled integration is checked again.
_DISABLED_RECHECK_DELAY = timedelta(minutes=1)

_COLUMNS = ("health", "last_at", "started_at", "due_at")
_LOCK_ROW = f"SELECT {', '.join(_COLUMNS)} FROM inbound_heartbeat WHERE integration_id = %s FOR UPDATE"
_DUE = """
SELECT integration_id FROM inbound_heartbeat WHERE due_at <= %s ORDER BY due_at, integration_id LIMIT %s
"""


def record(integration: CompiledIntegration, ping: PingKind, report: object, now: datetime) -> dict[str, object]:
    heartbeat_schedule = parse_schedule(integration.settings)
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO inbound_heartbeat (integration_id, health) VALUES (%s, 'new') ON CONFLICT DO NOTHING",
            (integration.id,),
        )
        previous = _monitor(connection, integration.id)
        assert previous is not None
        _write(connection, integration.id, after_ping(previous, heartbeat_schedule, ping, now))
    return message(integration.id, integration.name, ping, heartbeat_schedule, previous, report)


def heartbeat_monitor_task(
    registry: IntegrationRegistry, read_clock: Callable[[], datetime] = clock.now
) -> PeriodicTask:
    """Returns the periodic task that detects missed heartbeats. `read_clock` reads the clock."""
    should_extend = True
    last_run_at: datetime | None = None

    def run_once() -> bool:
        nonlocal should_extend, last_run_at
        now = read_clock()
        # Runs are seconds apart. A longer gap means that the machine was suspended or the clock set forward: no pings
        # could be received meanwhile. The jumps of a test clock count as elapsed time.
        gap = now - clock.test_offset() - last_run_at if last_run_at is not None else timedelta()
        if should_extend or gap > _OUTAGE_THRESHOLD:
            extend_after_outage(now, gap if gap > _OUTAGE_THRESHOLD else timedelta())
            should_extend = False
        try:
            return report_missed(registry, now)
        except Exception as error:
            # Without the database, pings were refused meanwhile.
            should_extend = database.is_unavailable(error)
            raise
        finally:
            # Read at the end: a slow run is not a suspension.
            last_run_at = read_clock() - clock.test_offset()

    is_due = "EXISTS (SELECT FROM inbound_heartbeat WHERE due_at <= %(now)s)"
    return PeriodicTask("inbound heartbeats", run_once, timedelta(seconds=1), due=is_due)


def extend_after_outage(now: datetime, gap: timedelta = timedelta()) -> int:
    """Grants more time to heartbeats that fell due while no node received pings, since these may be lost: a minute from
    now, or as long as this node was `gap`. Returns how many."""
    # After a suspension all due ones fell due meanwhile; after a start only those overdue for long.
    until = now if gap else now - _OUTAGE_THRESHOLD
    with database.transaction() as connection:
        return connection.execute(
            "UPDATE inbound_heartbeat SET due_at = greatest(due_at + %s, %s) WHERE due_at < %s",
            (gap, now + timedelta(minutes=1), until),
        ).rowcount


def report_missed(registry: IntegrationRegistry, now: datetime) -> bool:
    """Opens an alert for each due heartbeat. Returns True if there may be more."""
    with database.transaction() as connection:
        due = [row["integration_id"] for row in database.rows(connection, _DUE, (now, _MAX_MISSED_PER_RUN))]
    if due:
        registry.refresh()
    for integration_id in due:
        try:
            integration = registry.get_all().get(integration_id)
            if integration is None:
                # The integration is not available now; checked again when it pings.
                _postpone(integration_id, None)
            elif integration.mode is IntegrationMode.DISABLED:
                # Nothing is reported while it is disabled; checked again until it is enabled.
                _postpone(integration_id, now + _DISABLED_RECHECK_DELAY)
            else:
                _report_one_missed(integration, now)
        except Exception as error:  # boundary of one heartbeat: the others are still handled
            if database.is_unavailable(error):
                raise
            log.exception("The silence of integration %s cannot be told; it is tried again.", integration_id)
            _postpone(integration_id, now + _RETRY_AFTER)
    return len(due) == _MAX_MISSED_PER_RUN


def _report_one_missed(integration: CompiledIntegration, now: datetime) -> None:
    try:
        heartbeat_schedule = parse_schedule(integration.settings)
    except (Rejected, ValueError, KeyError):
        log.exception("The heartbeat of %s has no plan that can be used.", integration.name)
        _postpone(integration.id, None)
        return
    with database.transaction() as connection:
        monitor = _monitor(connection, integration.id)
        missed = after_silence(monitor, heartbeat_schedule, now) if monitor is not None else None
        if monitor is None or missed is None:
            return
        silence, after = missed
        payload = message(integration.id, integration.name, silence, heartbeat_schedule, monitor, None)
        # The same delivery id, should this transaction fail after the message was stored.
        payload["delivery"] = f"{silence} {monitor.due_at.isoformat() if monitor.due_at else ''}"
        raw = msgspec.json.encode(payload)
        incoming = IncomingMessage(uuid7(), integration.id, now, raw, Element(payload, raw), "application/json")
        (result,) = drain.process_now([incoming], now)
        if result.status is MessageStatus.IGNORED and result.alert_id is None:
            # It opened nothing, for example due to maintenance. The silence may outlast that.
            after = unreported(monitor, silence, now)
        _write(connection, integration.id, after)


def _postpone(integration_id: int, until: datetime | None) -> None:
    """Has the heartbeat checked again at `until`; None: after its next ping."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE inbound_heartbeat SET due_at = %s WHERE integration_id = %s", (until, integration_id)
        )


def update_due_time(integration_id: int, settings: Mapping[str, object], now: datetime) -> None:
    """Recomputes the due time after an integration's settings changed. Runs in the caller's Django transaction."""
    rows = Heartbeat.objects.filter(integration_id=integration_id)
    for row in rows.select_for_update().values(*_COLUMNS):
        rows.update(due_at=reschedule(_monitor_of(row), parse_schedule(settings), now).due_at)


def repeat_notice(integration_id: int, now: datetime) -> None:
    """Makes a missed heartbeat that was only in dry run due again: nothing else arrives while its sender is silent.
    Runs in the caller's Django transaction."""
    Heartbeat.objects.filter(integration_id=integration_id, health=HeartbeatHealth.LATE, due_at=None).update(due_at=now)


_AHEAD = """
SELECT h.integration_id, h.health, h.last_at, h.started_at, h.due_at, i.settings
FROM inbound_heartbeat h JOIN inbound_integration i ON i.id = h.integration_id
WHERE h.last_at > %(now)s OR h.started_at > %(now)s ORDER BY h.integration_id FOR UPDATE OF h
"""


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> int:
    """Repairs the heartbeats whose times lie in the future after a clock rollback. Returns how many."""
    defaults = load_kinds()[KIND].default_settings
    rows = database.rows(connection, _AHEAD, {"now": now})
    for row in rows:
        try:
            heartbeat_schedule = parse_schedule({**defaults, **row["settings"]})
        except (Rejected, ValueError, KeyError):
            # Without a schedule nothing is expected of it; the other heartbeats must still be repaired.
            log.exception("The heartbeat of integration %s has no plan that can be used.", row["integration_id"])
            continue
        _write(connection, row["integration_id"], after_rollback(_monitor_of(row), heartbeat_schedule, by, now))
    return len(rows)


@dataclass(frozen=True, slots=True)
class HeartbeatStatus(HeartbeatMonitor):
    """A monitored sender as shown to users; `expected` describes when it should ping."""

    expected: Reason = NO_REASON


def heartbeat_statuses(integrations: Collection[Integration]) -> dict[int, HeartbeatStatus]:
    """Returns the heartbeats' status by integration; NEW if it never pinged. Uses Django's connection."""
    rows = Heartbeat.objects.filter(integration__in=[integration.pk for integration in integrations])
    monitors = {row["pk"]: _monitor_of(row) for row in rows.values("pk", *_COLUMNS)}
    defaults = load_kinds()[KIND].default_settings
    return {
        integration.pk: HeartbeatStatus(
            **asdict(monitors.get(integration.pk, HeartbeatMonitor())),
            expected=parse_schedule({**defaults, **integration.settings}).description,
        )
        for integration in integrations
    }


def _monitor(connection: Connection, integration_id: int) -> HeartbeatMonitor | None:
    """Returns the heartbeat's row, locked until the end of the transaction."""
    row = database.row(connection, database.literal(_LOCK_ROW), (integration_id,))
    return _monitor_of(row) if row is not None else None


def _monitor_of(row: Mapping[str, Any]) -> HeartbeatMonitor:
    return HeartbeatMonitor(HeartbeatHealth(row["health"]), row["last_at"], row["started_at"], row["due_at"])


def _write(connection: Connection, integration_id: int, monitor: HeartbeatMonitor) -> None:
    connection.execute(
        "UPDATE inbound_heartbeat SET health = %s, last_at = %s, started_at = %s, due_at = %s "
        "WHERE integration_id = %s",
        (monitor.health.value, monitor.last_at, monitor.started_at, monitor.due_at, integration_id),
    )
