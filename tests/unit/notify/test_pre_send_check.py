"""Whether a due delivery is sent, deferred, cancelled or bundled."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.reasons import NO_REASON, AlertRef, Person, Reason
from tocsin.notify.providers.pool import address_problem
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import BUNDLED_LATER, HOURLY_LIMIT_REACHED, ON_HOLD
from tocsin.notify.rules.pre_send_check import (
    WINDOW,
    AlertFacts,
    CancelDelivery,
    Defer,
    DueDelivery,
    FailDelivery,
    PreSendDecision,
    SendNow,
    arrange,
    pre_send_check,
)
from tocsin.notify.states import Purpose

NOW = datetime.fromisoformat("2026-11-24T09:15:00+00:00")
SECOND = timedelta(seconds=1)
ALICE = Person("Alice", 1)
ALERT = AlertFacts(42, Priority.HIGH, "VPN down", status=AlertStatus.OPEN)


def due(**changes: Any) -> DueDelivery:
    whole = DueDelivery(
        UUID(int=1), UUID(int=2), "email", "alice@example.org", Purpose.PAGE, NOW, NOW,
        alert=ALERT, user_id=1, user_name="Alice",
    )  # fmt: skip
    return replace(whole, **changes)


def judged(delivery: DueDelivery, now: datetime) -> PreSendDecision:
    return pre_send_check(delivery, now, address_problem)


def test_a_page_of_a_live_alert_is_sent() -> None:
    assert judged(due(), NOW) == SendNow()


@pytest.mark.parametrize(
    ("alert", "reason"),
    [
        ({"status": AlertStatus.CLOSED}, page_planner.ALERT_CLOSED()),
        ({"status": AlertStatus.CANCELLED}, page_planner.ALERT_CANCELLED()),
        ({"status": AlertStatus.MERGED, "merged_into": 41}, page_planner.ALERT_MERGED(alert=AlertRef(41))),
        ({"status": AlertStatus.MERGED}, page_planner.ALERT_ENDED()),
        ({"status": AlertStatus.ASSIGNED, "owner_id": 1}, page_planner.ASSIGNED(user=ALICE)),
    ],
)
def test_unneeded_page_is_cancelled_with_the_reason(alert: dict[str, Any], reason: Reason) -> None:
    assert judged(due(alert=replace(ALERT, **alert)), NOW) == CancelDelivery(reason)


def test_pages_stamped_by_advanced_clock_are_excluded_from_hourly_count() -> None:
    hour = due(most_per_hour=2, recent_sent_times=(NOW - 40 * SECOND, NOW - SECOND))
    assert judged(hour, NOW) == Defer(HOURLY_LIMIT_REACHED(), NOW - 40 * SECOND + timedelta(hours=1))
    ahead = timedelta(hours=2)
    assert judged(replace(hour, recent_sent_times=(NOW - SECOND, NOW + ahead)), NOW) == SendNow()


def test_page_by_removed_contact_method_fails_with_a_reason() -> None:
    assert judged(due(label="SMS", current_address=""), NOW) == FailDelivery(
        page_planner.METHOD_REMOVED(user=ALICE, method="SMS")
    )
    contact = due(label="Chat", current_address="", user_id=None, user_name="")
    assert judged(contact, NOW) == FailDelivery(page_planner.CONTACT_REMOVED(method="Chat"))
    cleared = due(label="SMS", current_address="", purpose=Purpose.ALL_CLEAR, has_been_paged=True)
    assert judged(cleared, NOW) == FailDelivery(page_planner.METHOD_REMOVED(user=ALICE, method="SMS"))
    assert judged(due(current_address="", purpose=Purpose.NOTICE), NOW) == SendNow()


def test_a_page_of_an_alert_that_another_has_is_sent() -> None:
    # Somebody asked to wake the next person; what the taking stopped is cancelled already.
    assert judged(due(alert=replace(ALERT, status=AlertStatus.ASSIGNED, owner_id=2)), NOW) == SendNow()


def test_only_active_alert_pages_are_checked_against_the_alert() -> None:
    over = replace(ALERT, status=AlertStatus.CLOSED)
    assert judged(due(alert=over, purpose=Purpose.NOTICE), NOW) == SendNow()
    assert judged(due(alert=over, purpose=Purpose.ALL_CLEAR, has_been_paged=True), NOW) == SendNow()
    assert isinstance(judged(due(alert=over, purpose=Purpose.ACK_REMINDER), NOW), CancelDelivery)
    assert judged(due(has_acknowledged=True, purpose=Purpose.ACK_REMINDER), NOW) == SendNow()


def test_page_waits_for_hold_end_unless_manually_escalated() -> None:
    alert_facts = replace(ALERT, status=AlertStatus.ON_HOLD, hold_until=NOW + timedelta(hours=1))
    assert judged(due(alert=alert_facts), NOW) == Defer(ON_HOLD(), NOW + timedelta(hours=1))
    assert judged(due(alert=alert_facts, data={"wake": True}), NOW) == SendNow()


def test_an_all_clear_follows_its_page() -> None:
    clear = due(purpose=Purpose.ALL_CLEAR)
    assert isinstance(judged(replace(clear, is_being_paged=True), NOW), Defer)
    assert isinstance(judged(clear, NOW), CancelDelivery)
    again = replace(clear, has_been_paged=True, is_being_paged=True)
    assert isinstance(judged(again, NOW), Defer), "the page that comes last must not be the one that counts"


def test_unusable_address_fails_the_page() -> None:
    assert isinstance(judged(due(address="nowhere"), NOW), FailDelivery)
    assert isinstance(judged(due(channel="pigeon"), NOW), FailDelivery)


# Bundling


def many(number: int, **changes: Any) -> list[DueDelivery]:
    return [due(id=UUID(int=index + 1), alert=replace(ALERT, id=index + 1), **changes) for index in range(number)]


def test_the_first_leaves_alone_and_the_others_wait() -> None:
    made = arrange(many(3), NOW)
    assert [len(bundle.members) for bundle in made.bundles] == [1]
    assert made.bundles[0].is_first
    assert {until for _, until in made.waiting} == {NOW + WINDOW}


def test_bundle_waits_until_ten_seconds_after_last_page() -> None:
    made = arrange(many(2, last_sent_at=NOW - 4 * SECOND), NOW)
    assert made.bundles == ()
    assert {until for _, until in made.waiting} == {NOW + 6 * SECOND}


def test_wrong_clock_delays_nothing_over_ten_seconds() -> None:
    made = arrange(many(1, last_sent_at=NOW + 3600 * SECOND), NOW)
    assert [until for _, until in made.waiting] == [NOW + WINDOW]


def test_what_has_waited_leaves_with_everything_else_that_is_due() -> None:
    group = [*many(1, wait_reason=BUNDLED_LATER()), *[replace(d, id=UUID(int=99)) for d in many(1)]]
    made = arrange(group, NOW)
    assert [len(bundle.members) for bundle in made.bundles] == [2]
    assert made.waiting == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a@example.org", "b@example.org"]),
            st.sampled_from([Purpose.PAGE, Purpose.ALL_CLEAR, Purpose.NOTICE]),
            st.sampled_from([NO_REASON, BUNDLED_LATER()]),
            st.one_of(st.none(), st.integers(0, 20)),
        ),
        max_size=12,
    )
)
def test_nothing_is_lost_and_nothing_waits_longer_than_ten_seconds(
    rows: list[tuple[str, Purpose, Reason, Any]],
) -> None:
    group = [
        due(
            id=UUID(int=number), address=address, purpose=purpose, wait_reason=waited,
            last_sent_at=None if age is None else NOW - age * SECOND,
        )
        for number, (address, purpose, waited, age) in enumerate(rows)
    ]  # fmt: skip
    made = arrange(group, NOW)
    seen = [d.id for bundle in made.bundles for d in bundle.members] + [d.id for d, _ in made.waiting]
    assert sorted(seen) == sorted(d.id for d in group)
    assert all(NOW < until <= NOW + WINDOW for _, until in made.waiting)
    assert all(not d.wait_reason for d, _ in made.waiting)
    for bundle in made.bundles:
        assert len({(d.address, d.purpose) for d in bundle.members}) == 1
