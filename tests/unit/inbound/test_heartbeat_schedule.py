"""When a heartbeat is expected, and the effects of pings and silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.inbound.enums import HeartbeatHealth
from tocsin.inbound.heartbeats import (
    HeartbeatMonitor,
    HeartbeatSchedule,
    PingKind,
    SilenceState,
    after_ping,
    after_rollback,
    after_silence,
    expected_after,
    parse_schedule,
    reschedule,
)

NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
HOURLY = parse_schedule({"interval": "1h", "grace": "5m"})
RUN = parse_schedule({"interval": "1d", "grace": "10m", "longest_run": "2h"})


@pytest.mark.parametrize(
    ("definition", "code"),
    [
        ({"interval": "1m"}, "every minute"),
        ({"interval": "1h"}, "every hour"),
        ({"interval": "1d"}, "every day"),
        ({"interval": "90m"}, "every {interval}"),
        ({"cron": "0 3 * * *", "time_zone": "Europe/Zurich"}, "at {cron} ({zone})"),
    ],
)
def test_schedule_is_described(definition: dict[str, str], code: str) -> None:
    assert parse_schedule({"grace": "5m", **definition}).description.code == code


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_a_beat_is_expected_after_the_interval_and_its_grace() -> None:
    monitor = after_ping(HeartbeatMonitor(), HOURLY, PingKind.BEAT, NOW)
    assert monitor == HeartbeatMonitor(HeartbeatHealth.UP, NOW, None, after(65))
    assert after_silence(monitor, HOURLY, after(64.9)) is None
    found = after_silence(monitor, HOURLY, after(65))
    assert found is not None
    silence, late = found
    assert (silence, late.health, late.due_at) == (SilenceState.MISSED, HeartbeatHealth.LATE, None)
    assert after_silence(late, HOURLY, after(9999)) is None
    assert after_ping(late, HOURLY, PingKind.BEAT, after(100)).due_at == after(165)


def test_a_sender_that_never_pinged_is_never_late() -> None:
    assert after_silence(HeartbeatMonitor(), HOURLY, after(9999)) is None
    assert reschedule(HeartbeatMonitor(), RUN, NOW) == HeartbeatMonitor()


def test_what_begins_must_end_in_time() -> None:
    running = after_ping(HeartbeatMonitor(), RUN, PingKind.START, NOW)
    assert (running.health, running.due_at) == (HeartbeatHealth.RUNNING, after(120))
    found = after_silence(running, RUN, after(120))
    assert found is not None
    assert found[0] is SilenceState.OVERRUN
    assert after_ping(running, RUN, PingKind.FINISH, after(30)).due_at == after(30 + 24 * 60 + 10)
    failed = after_ping(running, RUN, PingKind.FAIL, after(30))
    assert (failed.health, failed.started_at) == (HeartbeatHealth.FAILED, None)


def test_without_a_longest_run_a_start_moves_nothing() -> None:
    up = after_ping(HeartbeatMonitor(), HOURLY, PingKind.BEAT, NOW)
    assert after_ping(up, HOURLY, PingKind.START, after(10)).due_at == up.due_at
    assert after_ping(HeartbeatMonitor(), HOURLY, PingKind.START, NOW).due_at == after(65)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        # The clock is put forward at 2:00 on the 29th in Zurich: 2:30 does not exist, and the job runs at 3:30.
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        (datetime(2026, 3, 29, 12, tzinfo=UTC), datetime(2026, 3, 30, 0, 30, tzinfo=UTC)),
        (datetime(2026, 1, 10, 12, tzinfo=UTC), datetime(2026, 1, 11, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_cron_line_follows_the_zones_own_clock(at: datetime, expected: datetime) -> None:
    plan = parse_schedule({"cron": "30 2 * * *", "time_zone": "Europe/Zurich", "grace": "1m"})
    moment = expected_after(plan, at)
    assert abs(moment - expected) <= timedelta(minutes=30)
    assert moment > at


def test_ping_from_slightly_advanced_clock_is_the_expected_one() -> None:
    plan = parse_schedule({"cron": "30 2 * * *", "time_zone": "UTC", "grace": "20m"})
    early = datetime(2026, 3, 10, 2, 29, 57, tzinfo=UTC)
    assert after_ping(HeartbeatMonitor(), plan, PingKind.BEAT, early).due_at == datetime(2026, 3, 11, 2, 50, tzinfo=UTC)
    much = datetime(2026, 3, 10, 2, 25, tzinfo=UTC)
    assert after_ping(HeartbeatMonitor(), plan, PingKind.BEAT, much).due_at == datetime(2026, 3, 10, 2, 50, tzinfo=UTC)


def test_a_new_plan_raises_no_alarm_for_the_past() -> None:
    up = after_ping(HeartbeatMonitor(), RUN, PingKind.BEAT, NOW)
    sooner = reschedule(up, HOURLY, after(600))
    assert sooner.due_at == after(605)
    later = reschedule(after_ping(HeartbeatMonitor(), HOURLY, PingKind.BEAT, NOW), RUN, after(1))
    assert later.due_at == after(24 * 60 + 10)


@examples(60)
@given(
    st.lists(st.tuples(st.sampled_from(list(PingKind)), st.integers(1, 10_000)), max_size=12),
    st.sampled_from([HOURLY, RUN, parse_schedule({"cron": "*/7 * * * *", "grace": "30s"})]),
)
def test_after_any_ping_something_is_awaited_in_the_future(pings: list[tuple[PingKind, int]], plan: object) -> None:
    monitor, now = HeartbeatMonitor(), NOW
    for ping, seconds in pings:
        now += timedelta(seconds=seconds)
        found = after_silence(monitor, plan, now)  # type: ignore[arg-type]
        if found is not None:
            monitor = found[1]
            assert monitor.due_at is None
        monitor = after_ping(monitor, plan, ping, now)  # type: ignore[arg-type]
        assert monitor.due_at is not None
        assert monitor.last_at == now


@given(
    st.sampled_from([HOURLY, RUN, parse_schedule({"cron": "0 2 * * *", "grace": "10m", "time_zone": "Europe/Zurich"})]),
    st.lists(st.tuples(st.sampled_from(PingKind), st.integers(0, 7200)), min_size=1, max_size=6),
    st.integers(6, 10**6),
)
def test_clock_rollback_moves_heartbeats_to_no_later_time(
    plan: HeartbeatSchedule, pings: list[tuple[PingKind, int]], seconds: int
) -> None:
    monitor, now = HeartbeatMonitor(), NOW
    for ping, wait in pings:
        now += timedelta(seconds=wait)
        monitor = after_ping(monitor, plan, ping, now)
    by = timedelta(seconds=seconds)
    right = after_rollback(monitor, plan, by, now - by)
    assert monitor.last_at is not None
    assert monitor.due_at is not None
    assert right.last_at == now - by
    assert right.due_at is not None
    assert right.due_at <= monitor.due_at
    # What was overdue before the rollback is overdue after it.
    assert right.due_at > now - by or monitor.due_at <= now
    assert after_rollback(right, plan, by, now - by) == right


def test_heartbeat_from_advanced_clock_is_expected_after_its_interval() -> None:
    ahead = after_ping(HeartbeatMonitor(), HOURLY, PingKind.BEAT, after(120))
    assert after_rollback(ahead, HOURLY, timedelta(minutes=120), NOW) == after_ping(
        HeartbeatMonitor(), HOURLY, PingKind.BEAT, NOW
    )
