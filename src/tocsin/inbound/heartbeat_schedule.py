"""Heartbeat schedules: when a sender is expected, and how pings change that. Pure.

A sender that has never pinged raises no alert, so that a monitor that is not set up yet pages nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason, Text
from tocsin.core.validation import field_errors
from tocsin.inbound.enums import HeartbeatHealth

#: The integration kind whose senders are monitored.
KIND: Final = "heartbeat"


_UTC: Final = ZoneInfo("UTC")

_EVERY: Final = Text("every {interval}")
_AT: Final = Text("at {cron} ({zone})")

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
        """The schedule in words."""
        if self.cron:
            return _AT(cron=self.cron, zone=self.zone.key)
        every_unit = _EVERY_UNIT.get(self.interval)
        return every_unit() if every_unit is not None else _EVERY(interval=self.interval)


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
        interval=field_errors.parse(settings.get("interval", "1h")),
        grace=field_errors.parse(settings.get("grace", "5m")),
        cron=str(settings.get("cron") or ""),
        zone=ZoneInfo(str(settings.get("time_zone") or "UTC")),
        max_run_time=field_errors.parse(max_run_time) if max_run_time else None,
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
    """Returns the state after a ping."""
    match ping:
        case PingKind.BEAT | PingKind.FINISH:
            return HeartbeatMonitor(HeartbeatHealth.UP, now, None, expected_after(schedule, now) + schedule.grace)
        case PingKind.FAIL:
            return HeartbeatMonitor(HeartbeatHealth.FAILED, now, None, expected_after(schedule, now) + schedule.grace)
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
    if silence is SilenceState.OVERRUN:
        return replace(monitor, due_at=now + REPEAT_INTERVAL)
    return replace(monitor, health=HeartbeatHealth.LATE, due_at=now + REPEAT_INTERVAL)


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


def correct_after_rollback(
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
                f"{field_errors.describe(schedule.grace)} of grace{last}. None came."
            )
        case SilenceState.OVERRUN:
            started_text = f" {_format_time(monitor.started_at)}" if monitor.started_at else ""
            limit = field_errors.describe(schedule.max_run_time) if schedule.max_run_time else ""
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
