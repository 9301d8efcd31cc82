"""When a monitored sender is expected, and what each of its pings does to that. Pure.

A sender that has never pinged is waited for without an alarm: nobody is woken by a monitor that is not set up yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never
from zoneinfo import ZoneInfo

from tocsin.core.validation import durations
from tocsin.inbound.enums import HeartbeatHealth

#: The kind of integration whose senders are expected.
KIND: Final = "heartbeat"


_UTC: Final = ZoneInfo("UTC")

#: A sender's clock may be so much ahead.
CLOCK_TOLERANCE: Final = timedelta(seconds=10)

#: A silence that opened nothing is told again this much later, if it lasts.
ASK_AGAIN: Final = timedelta(minutes=10)


class PingKind(StrEnum):
    """What a sender says, by the end of the address it asks."""

    BEAT = "beat"
    START = "start"
    FINISH = "finish"
    FAIL = "fail"


class SilenceState(StrEnum):
    """What Tocsin says of a sender that did not."""

    MISSED = "missed"
    OVERRUN = "overrun"


@dataclass(frozen=True, slots=True)
class HeartbeatSchedule:
    """When a sender is expected: each `interval`, or by `cron` in its zone; `grace` is added to either."""

    interval: timedelta
    grace: timedelta
    cron: str = ""
    zone: ZoneInfo = _UTC
    #: How long it may take from start to finish; None: as long as it likes.
    longest_run: timedelta | None = None

    @property
    def said(self) -> str:
        """In words."""
        if self.cron:
            return f"at {self.cron} ({self.zone.key})"
        span = durations.say(self.interval)
        # "every hour", but "every 1 hour 30 minutes".
        return f"every {span.removeprefix('1 ') if span.count(' ') == 1 else span}"


@dataclass(frozen=True, slots=True)
class HeartbeatMonitor:
    """A sender as it stands. `due_at`: when an alert opens unless it pings; None while nothing is awaited."""

    health: HeartbeatHealth = HeartbeatHealth.NEW
    last_at: datetime | None = None
    started_at: datetime | None = None
    due_at: datetime | None = None


def plan_of(settings: Mapping[str, object]) -> HeartbeatSchedule:
    """The plan that an integration's settings state. Raises Rejected or KeyError for settings that were not checked."""
    longest = settings.get("longest_run")
    return HeartbeatSchedule(
        interval=durations.parse(settings.get("interval", "1h")),
        grace=durations.parse(settings.get("grace", "5m")),
        cron=str(settings.get("cron") or ""),
        zone=ZoneInfo(str(settings.get("time_zone") or "UTC")),
        longest_run=durations.parse(longest) if longest else None,
    )


def expected_after(plan: HeartbeatSchedule, at: datetime) -> datetime:
    """When the ping after one of that moment is expected, without grace. One just before the moment of a cron line is
    that moment's."""
    if not plan.cron:
        return at + plan.interval
    from cronsim import CronSim

    return next(CronSim(plan.cron, (at + CLOCK_TOLERANCE).astimezone(plan.zone))).astimezone(UTC)


def pinged(monitor: HeartbeatMonitor, plan: HeartbeatSchedule, ping: PingKind, now: datetime) -> HeartbeatMonitor:
    """The monitor after a ping."""
    match ping:
        case PingKind.BEAT | PingKind.FINISH:
            return HeartbeatMonitor(HeartbeatHealth.UP, now, None, expected_after(plan, now) + plan.grace)
        case PingKind.FAIL:
            return HeartbeatMonitor(HeartbeatHealth.FAILED, now, None, expected_after(plan, now) + plan.grace)
        case PingKind.START:
            due = now + plan.longest_run if plan.longest_run is not None else monitor.due_at
            if due is None:
                due = expected_after(plan, now) + plan.grace
            if monitor.health is HeartbeatHealth.RUNNING and monitor.due_at is not None:
                # The run before it never ended: beginning again and again is no way to be never late.
                return HeartbeatMonitor(HeartbeatHealth.RUNNING, now, monitor.started_at, min(due, monitor.due_at))
            return HeartbeatMonitor(HeartbeatHealth.RUNNING, now, now, due)
        case _:
            assert_never(ping)


def silent(
    monitor: HeartbeatMonitor, plan: HeartbeatSchedule, now: datetime
) -> tuple[SilenceState, HeartbeatMonitor] | None:
    """What is said of a sender that is due, and the monitor after that: one alert, until it pings again."""
    if monitor.due_at is None or monitor.due_at > now:
        return None
    is_overrun = monitor.health is HeartbeatHealth.RUNNING and plan.longest_run is not None
    after = replace(monitor, health=HeartbeatHealth.LATE, due_at=None)
    return (SilenceState.OVERRUN if is_overrun else SilenceState.MISSED), after


def untold(monitor: HeartbeatMonitor, silence: SilenceState, now: datetime) -> HeartbeatMonitor:
    """The monitor after a silence that opened nothing, because of maintenance say: it is asked about again."""
    if silence is SilenceState.OVERRUN:
        return replace(monitor, due_at=now + ASK_AGAIN)
    return replace(monitor, health=HeartbeatHealth.LATE, due_at=now + ASK_AGAIN)


def replanned(monitor: HeartbeatMonitor, plan: HeartbeatSchedule, now: datetime) -> HeartbeatMonitor:
    """The monitor when its plan has changed: as if it had pinged last under the new one, and no alarm for the past."""
    if monitor.due_at is None or monitor.last_at is None:
        return monitor
    if monitor.health is HeartbeatHealth.RUNNING and monitor.started_at is not None and plan.longest_run is not None:
        return replace(monitor, due_at=max(monitor.started_at + plan.longest_run, now + plan.grace))
    due = expected_after(plan, monitor.last_at) + plan.grace
    return replace(monitor, due_at=max(due, now + plan.grace))


def set_back(monitor: HeartbeatMonitor, plan: HeartbeatSchedule, by: timedelta, now: datetime) -> HeartbeatMonitor:
    """The monitor after the clock was set back by that much: what it heard in the future was heard so much earlier, and
    what is expected is reckoned from then. One that was heard by a clock that was right stays as it is."""
    last_at, started_at = (
        at - by if at is not None and at > now else at for at in (monitor.last_at, monitor.started_at)
    )
    moved = replace(monitor, last_at=last_at, started_at=started_at)
    if moved == monitor or monitor.due_at is None:
        return moved
    due_at = replanned(moved, plan, now).due_at
    return replace(moved, due_at=min(monitor.due_at, due_at or monitor.due_at))


def message(
    integration_id: int,
    name: str,
    ping: PingKind | SilenceState,
    plan: HeartbeatSchedule,
    monitor: HeartbeatMonitor,
    said: object,
) -> dict[str, object]:
    """The message that a ping, or the lack of one, is kept as. `said`: what the sender posted, or None."""
    payload: dict[str, object] = {"heartbeat": ping.value, "monitor": integration_id}
    match ping:
        case PingKind.FAIL:
            payload["subject"] = f"{name} says that it failed"
        case SilenceState.MISSED:
            last = f"; the last came {_clock(monitor.last_at)}" if monitor.last_at else ""
            payload["subject"] = f"{name} is silent"
            payload["text"] = (
                f"A heartbeat is expected {plan.said}, with {durations.say(plan.grace)} of grace{last}. None came."
            )
        case SilenceState.OVERRUN:
            begun = f" {_clock(monitor.started_at)}" if monitor.started_at else ""
            limit = durations.say(plan.longest_run) if plan.longest_run else ""
            payload["subject"] = f"{name} does not end"
            payload["text"] = f"It began{begun} and has not said that it finished within {limit}."
        case PingKind.BEAT | PingKind.START | PingKind.FINISH:
            pass
        case _:
            assert_never(ping)
    if said is not None:
        payload["said"] = said
    return payload


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
