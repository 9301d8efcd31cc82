"""Back-off, rate limits, circuit breakers and pools of open connections, without a clock or a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.core.delivery import circuit_breaker
from tocsin.core.delivery.circuit_breaker import (
    PROVIDER_POLICY,
    AddressRejected,
    Backoff,
    CircuitBreaker,
    CircuitPolicy,
    FailureKind,
    Latencies,
    NeedsAttention,
    RateLimit,
    Throttled,
    count_allowed,
    doubling,
    failure_of,
    fair_concurrency,
)
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import as_reason

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def _seconds(*numbers: float) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=number) for number in numbers)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Temporary(as_reason("It is away.")), FailureKind.TEMPORARY),
        (OutcomeUnknown(as_reason("No answer came.")), FailureKind.OUTCOME_UNKNOWN),
        (Throttled(as_reason("Too much.")), FailureKind.THROTTLED),
        (Permanent(as_reason("No such topic.")), FailureKind.PERMANENT),
        (NeedsAttention(as_reason("Wrong token.")), FailureKind.BLOCKED),
        (AddressRejected(as_reason("No such number.")), FailureKind.ADDRESS_REJECTED),
        (Rejected("invalid", as_reason("No.")), FailureKind.PERMANENT),
    ],
)
def test_each_error_of_a_sender_has_its_kind(error: Temporary | Permanent | Rejected, kind: FailureKind) -> None:
    assert failure_of(error).kind is kind


def test_failure_says_what_to_do_and_when_to_retry() -> None:
    assert str(failure_of(Permanent(as_reason("No."), as_reason("Enter it."))).error) == "No. Enter it."
    assert failure_of(Throttled(as_reason("Wait."), timedelta(seconds=7))).retry_after == timedelta(seconds=7)


def test_backoff_grows_to_its_last_delay() -> None:
    backoff = Backoff(doubling(timedelta(seconds=5), timedelta(seconds=30)), jitter=0.2)
    assert [backoff.delay(count) for count in (0, 1, 2, 3, 4, 99)] == [*_seconds(5, 5, 10, 20, 30, 30)]
    assert backoff.delay(1, 1.0) == timedelta(seconds=6)


def test_backoff_honours_retry_after_up_to_its_limit() -> None:
    bounded = Backoff(_seconds(5), max_retry_after=timedelta(minutes=10))
    assert bounded.delay(1, retry_after=timedelta(seconds=1)) == timedelta(seconds=5)
    assert bounded.delay(1, retry_after=timedelta(minutes=2)) == timedelta(minutes=2)
    assert bounded.delay(1, retry_after=timedelta(days=1)) == timedelta(minutes=10)
    assert Backoff(_seconds(5)).delay(1, retry_after=timedelta(days=1)) == timedelta(days=1)


def test_circuit_opens_for_growing_periods() -> None:
    policy = CircuitPolicy(5, Backoff(doubling(timedelta(seconds=15), timedelta(minutes=5))))
    assert [policy.open_period(failures) for failures in (0, 4, 5, 6, 99)] == [None, None, *_seconds(15, 30, 300)]


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 30)), max_size=40))
def test_the_rate_never_lets_more_through_than_burst_and_average(steps: list[tuple[int, int]]) -> None:
    limit, at, total = RateLimit.per_second(2, 20), NOW, 0
    for wait, asked in steps:
        at += timedelta(milliseconds=wait)
        taken = min(asked, limit.count_available(at))
        limit = limit.charge(taken, at)
        total += taken
        assert total <= 20 + 2 * (at - NOW).total_seconds() + 1


@examples(60)
@given(st.integers(1, 6000), st.lists(st.integers(0, 90), max_size=20))
def test_rate_never_exceeds_limit_plus_ten_seconds_worth(per_minute: int, gaps: list[int]) -> None:
    limit, now, sent = RateLimit.per_minute(per_minute), NOW, list[tuple[datetime, int]]()
    for gap in gaps:
        now += timedelta(seconds=gap)
        room = limit.count_available(now)
        limit = limit.charge(room, now)
        sent.append((now, room))
        next_room = limit.next_available_at(now)
        assert now < next_room
        # A moment that is no whole number of microseconds is the one after it.
        assert limit.count_available(next_room + timedelta(milliseconds=1)) >= 1
        assert limit.count_available(next_room - timedelta(milliseconds=1)) == 0
    for begin, _ in sent:
        within = sum(number for at_, number in sent if begin <= at_ < begin + timedelta(minutes=1))
        assert within <= per_minute + max(1, per_minute // 6)


def test_rate_limit_ignores_times_before_a_clock_rollback() -> None:
    limit = RateLimit.per_second(2, 20).used_until(NOW + timedelta(hours=1))
    assert limit.count_available(NOW) == 20


def test_circuit_breaker_opens_after_three_failures_with_growing_delay() -> None:
    state = CircuitBreaker()
    for _ in range(2):
        state = circuit_breaker.on_failure(state, NOW)
    assert not state.is_open
    state = circuit_breaker.on_failure(state, NOW)
    assert (state.is_open, state.retry_at) == (True, NOW + timedelta(seconds=30))
    state = circuit_breaker.on_probe_failed(state, NOW)
    assert state.retry_at == NOW + timedelta(minutes=1)
    state = circuit_breaker.on_probe_ok(state)
    assert not state.is_open
    state = circuit_breaker.on_failure(state, NOW)
    assert (state.is_open, state.retry_at) == (True, NOW + timedelta(minutes=2))


def _opened(state: CircuitBreaker, *, is_awaited: bool) -> CircuitBreaker:
    for _ in range(PROVIDER_POLICY.max_failures):
        state = circuit_breaker.on_failure(state, NOW, is_awaited=is_awaited)
    assert state.is_open
    return state


def test_unresponsive_provider_is_probed_every_five_seconds_while_needed() -> None:
    state = _opened(CircuitBreaker(), is_awaited=True)
    for _ in range(10):
        assert state.retry_at == NOW + timedelta(seconds=5)
        state = circuit_breaker.on_probe_failed(state, NOW, is_awaited=True)


def test_a_message_that_begins_to_wait_brings_the_probe_forward() -> None:
    state = circuit_breaker.on_probe_failed(_opened(CircuitBreaker(), is_awaited=False), NOW)
    assert state.retry_at == NOW + timedelta(minutes=1)
    assert circuit_breaker.on_failure(state, NOW, is_awaited=True).retry_at == NOW + timedelta(seconds=5)


def test_provider_answering_only_probes_is_probed_less_often() -> None:
    state = _opened(CircuitBreaker(), is_awaited=True)
    for minutes in (1, 2, 5, 5):
        state = circuit_breaker.on_failure(circuit_breaker.on_probe_ok(state), NOW, is_awaited=True)
        assert state.retry_at == NOW + timedelta(minutes=minutes)
        assert circuit_breaker.on_failure(state, NOW, is_awaited=True).retry_at == state.retry_at


def test_permanently_rejected_probe_is_not_repeated_soon() -> None:
    state = circuit_breaker.on_probe_failed(
        _opened(CircuitBreaker(), is_awaited=True), NOW, is_transient=False, is_awaited=True
    )
    assert state.retry_at == NOW + timedelta(minutes=1)
    assert circuit_breaker.on_failure(state, NOW, is_awaited=True).retry_at == state.retry_at


def test_recovery_remembers_whether_the_provider_had_been_unresponsive() -> None:
    state = circuit_breaker.on_probe_ok(
        circuit_breaker.on_probe_failed(_opened(CircuitBreaker(), is_awaited=True), NOW)
    )
    assert state.is_unresponsive
    assert not circuit_breaker.on_failure(state, NOW).is_unresponsive
    assert not circuit_breaker.on_probe_ok(_opened(CircuitBreaker(), is_awaited=True)).is_unresponsive


def test_slow_providers_hold_senders_in_proportion_to_their_latency() -> None:
    assert [fair_concurrency(20, latency) for latency in (0, 2, 4, 8, 60)] == [20, 20, 10, 5, 4]
    assert fair_concurrency(1, 60) == 1


def test_latency_follows_the_latest_sends() -> None:
    latencies = Latencies()
    assert latencies.averages() == {}
    for _ in range(20):
        latencies.record("A", 10)
    assert latencies.averages()["A"] == pytest.approx(10)
    for _ in range(20):
        latencies.record("A", 1)
    assert latencies.averages()["A"] < 2


@given(st.integers(0, 200), st.integers(0, 200))
def test_one_provider_holds_at_most_four_fifths(held: int, free_slots: int) -> None:
    more = count_allowed(held, free_slots)
    assert more <= free_slots
    if more:
        assert held + more - 1 < 4 * (free_slots - more + 1)
    assert held + more >= 4 * (free_slots - more)
