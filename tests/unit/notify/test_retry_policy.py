"""Decisions after a failed attempt."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.notify.rules.pre_send_check import BACKOFF, MAX_TRIES, GiveUp, ProviderAttempts, Retry, next_attempt_after


def _seconds(*numbers: float) -> list[timedelta]:
    return [timedelta(seconds=number) for number in numbers]


def _story(providers: list[str], outcomes: dict[str, FailureKind], jitter: float = 0.0) -> list[tuple[str, timedelta]]:
    """Every try of a message that is not lasting, whose providers always fail like that: (provider, wait before it)."""
    tried: dict[str, ProviderAttempts] = {}
    current, story = providers[0], [(providers[0], timedelta())]
    while True:
        failure = outcomes[current]
        before = tried.get(current, ProviderAttempts(0)).tries
        tried[current] = ProviderAttempts(before + 1, failure is FailureKind.PERMANENT)
        following = next_attempt_after(failure, current, tried, providers, jitter=jitter)
        if isinstance(following, GiveUp):
            return story
        current = following.provider
        story.append((current, following.delay))


def test_one_provider_is_tried_five_times_within_ten_minutes() -> None:
    waits = [wait for _, wait in _story(["A"], {"A": FailureKind.TEMPORARY})]
    assert waits == _seconds(0, 5, 30, 120, 300)
    longest = [wait for _, wait in _story(["A"], {"A": FailureKind.TEMPORARY}, jitter=1.0)]
    assert sum(longest, timedelta()) < timedelta(minutes=10)


def test_failover_is_immediate_and_rounds_are_spaced() -> None:
    story = _story(["A", "B"], {"A": FailureKind.TEMPORARY, "B": FailureKind.OUTCOME_UNKNOWN})
    assert story[:5] == [
        ("A", timedelta()),
        ("B", timedelta()),
        ("A", BACKOFF.delays[0]),
        ("B", timedelta()),
        ("A", BACKOFF.delays[1]),
    ]
    assert len(story) == 2 * MAX_TRIES


def test_refused_message_that_does_not_last_is_not_tried_again() -> None:
    assert _story(["A"], {"A": FailureKind.PERMANENT}) == [("A", timedelta())]
    story = _story(["A", "B"], {"A": FailureKind.TEMPORARY, "B": FailureKind.PERMANENT})
    assert [name for name, _ in story] == ["A", "B", "A", "A", "A", "A"]


def test_provider_retry_after_is_honoured_up_to_ten_minutes() -> None:
    tried = {"A": ProviderAttempts(1)}
    patient = next_attempt_after(FailureKind.TEMPORARY, "A", tried, ["A"], jitter=0, retry_after=timedelta(seconds=90))
    assert patient == Retry("A", timedelta(seconds=90))
    ever = next_attempt_after(FailureKind.TEMPORARY, "A", tried, ["A"], jitter=0, retry_after=timedelta(days=1))
    assert ever == Retry("A", timedelta(minutes=10))


def test_delivery_of_stopped_node_retries_same_provider_five_times() -> None:
    assert next_attempt_after(FailureKind.WORKER_LOST, "A", {"A": ProviderAttempts(1)}, ["A", "B"], jitter=0) == Retry(
        "A", timedelta()
    )
    assert (
        next_attempt_after(FailureKind.WORKER_LOST, "A", {"A": ProviderAttempts(5)}, ["A", "B"], jitter=0) == GiveUp()
    )


def test_when_the_provider_is_gone_another_takes_over() -> None:
    assert next_attempt_after(FailureKind.TEMPORARY, "Gone", {"Gone": ProviderAttempts(1)}, ["New"], jitter=0) == Retry(
        "New", timedelta()
    )
    assert next_attempt_after(FailureKind.TEMPORARY, "Gone", {"Gone": ProviderAttempts(1)}, [], jitter=0) == GiveUp()


def _later(current: str, providers: list[str], jitter: float = 0.0, *, own_failures: int = 0) -> object:
    """What follows when a lasting message's quick retries are used up."""
    tried = {name: ProviderAttempts(MAX_TRIES) for name in providers}
    failure = FailureKind.INTERNAL_ERROR if own_failures else FailureKind.TEMPORARY
    return next_attempt_after(
        failure,
        current,
        tried,
        providers,
        jitter=jitter,
        keep_retrying=True,
        is_exhausted=True,
        own_failures=own_failures,
    )


def test_persistent_message_is_retried_every_five_minutes_across_providers() -> None:
    tried = {"A": ProviderAttempts(MAX_TRIES), "B": ProviderAttempts(MAX_TRIES)}
    first = next_attempt_after(FailureKind.TEMPORARY, "B", tried, ["A", "B"], jitter=0, keep_retrying=True)
    assert first == Retry("A", BACKOFF.delays[-1], is_exhausted=True)
    assert _later("A", ["A", "B"]) == Retry("B", BACKOFF.delays[-1], is_exhausted=True)
    assert _later("B", ["A", "B"], 1.0) == Retry("A", BACKOFF.delays[-1] * (1 + BACKOFF.jitter), is_exhausted=True)


def test_repeats_with_unknown_outcome_wait_longer_each_time() -> None:
    tries, waits = 0, []
    while tries < 10:
        tries += 1
        attempts = {"A": ProviderAttempts(tries)}
        retry = next_attempt_after(
            FailureKind.OUTCOME_UNKNOWN,
            "A",
            attempts,
            ["A"],
            jitter=0,
            keep_retrying=True,
            is_exhausted=tries > MAX_TRIES,
        )
        assert isinstance(retry, Retry)
        waits.append(retry.delay)
    assert waits == _seconds(5, 30, 120, 300, 600, 1200, 1800, 1800, 1800, 1800)


def test_unknown_outcome_goes_by_another_provider_next() -> None:
    tried = {"A": ProviderAttempts(MAX_TRIES), "B": ProviderAttempts(MAX_TRIES)}
    for current, following in (("A", "B"), ("B", "A")):
        retry = next_attempt_after(
            FailureKind.OUTCOME_UNKNOWN, current, tried, ["A", "B"], jitter=0, keep_retrying=True, is_exhausted=True
        )
        assert isinstance(retry, Retry)
        assert retry.provider == following


def test_a_lasting_message_ends_when_no_provider_knows_its_address() -> None:
    tried = {"A": ProviderAttempts(1, True, is_final=True), "B": ProviderAttempts(9, True, is_final=True)}
    final = next_attempt_after(
        FailureKind.NO_SUCH_ADDRESS, "B", tried, ["A", "B"], jitter=0, keep_retrying=True, is_exhausted=True
    )
    assert final == GiveUp()


def test_refused_lasting_message_is_retried_across_providers() -> None:
    waits, providers = [], []
    attempts, current = {"A": ProviderAttempts(1, True), "B": ProviderAttempts(1, True)}, "B"
    for _ in range(4):
        retry = next_attempt_after(FailureKind.PERMANENT, current, attempts, ["A", "B"], jitter=0, keep_retrying=True)
        assert isinstance(retry, Retry)
        assert retry.is_exhausted
        waits.append(retry.delay), providers.append(current := retry.provider)
        attempts[current] = ProviderAttempts(attempts[current].tries + 1, True)
    assert (waits, providers) == (_seconds(30, 120, 300, 300), ["A", "B", "A", "B"])


def test_refused_lasting_message_first_uses_up_another_provider() -> None:
    attempts = {"A": ProviderAttempts(1), "B": ProviderAttempts(1, True)}
    retry = next_attempt_after(FailureKind.PERMANENT, "B", attempts, ["A", "B"], jitter=0, keep_retrying=True)
    assert retry == Retry("A", BACKOFF.delays[0])


def test_a_lasting_message_ends_after_five_failures_of_tocsin_itself() -> None:
    assert isinstance(_later("A", ["A"], own_failures=MAX_TRIES - 1), Retry)
    assert _later("A", ["A"], own_failures=MAX_TRIES) == GiveUp()
    lost = next_attempt_after(
        FailureKind.WORKER_LOST,
        "A",
        {"A": ProviderAttempts(40)},
        ["A"],
        jitter=0,
        keep_retrying=True,
        is_exhausted=True,
        own_failures=1,
    )
    assert lost == Retry("A", timedelta(), is_exhausted=True)


def test_a_lasting_message_goes_by_a_new_provider_at_once() -> None:
    tried = {"A": ProviderAttempts(30)}
    retry = next_attempt_after(
        FailureKind.TEMPORARY, "A", tried, ["A", "New"], jitter=0, keep_retrying=True, is_exhausted=True
    )
    assert retry == Retry("New", timedelta(), is_exhausted=True)


_names = st.lists(st.sampled_from("ABCD"), min_size=1, max_size=4, unique=True)
_failures = st.sampled_from(
    [FailureKind.TEMPORARY, FailureKind.OUTCOME_UNKNOWN, FailureKind.PERMANENT, FailureKind.INTERNAL_ERROR]
)


@given(_names, st.data(), st.floats(0, 1))
def test_retries_end_after_asking_each_provider_at_most_five_times(
    names: list[str], data: st.DataObject, jitter: float
) -> None:
    outcomes = {name: data.draw(_failures) for name in names}
    story = _story(names, outcomes, jitter)
    queries = [name for name, _ in story]
    assert set(queries) == set(names)
    assert all(queries.count(name) == (1 if outcomes[name] is FailureKind.PERMANENT else MAX_TRIES) for name in names)
    assert all(wait <= BACKOFF.delays[-1] * (1 + BACKOFF.jitter) for _, wait in story)
