"""Notification rules: the contact methods of a user, and the time of each page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.alerts.states import Priority
from tocsin.core.reasons import each_of
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import (
    USER_RULES,
    ContactMethodRule,
    DeliveryOverride,
    NotificationMethod,
    Recipient,
    apply_rules,
    last_page_at,
    plan_pages,
)

MINUTE = timedelta(minutes=1)
#: A Tuesday, 22:30 in Zurich.
NIGHT = datetime(2026, 11, 24, 21, 30, tzinfo=UTC)
MORNING = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)

MAIL = NotificationMethod("Mail", "email", "alice@example.org")
TEXT = NotificationMethod("Text", "sms", "+41790000001", wait=2 * MINUTE)
CALL = NotificationMethod("Call", "voice", "+41790000001", wait=5 * MINUTE, repeat_times=1, repeat_every=3 * MINUTE)
ALICE = Recipient(1, "Alice", (MAIL, TEXT, CALL), time_zone="Europe/Zurich")


def shown(
    person: Recipient, calling: DeliveryOverride = USER_RULES, priority: Priority = Priority.HIGH
) -> list[tuple[str, float]]:
    return [(leave.method.label, (leave.at - NIGHT) / MINUTE) for leave in plan_pages(person, calling, priority, NIGHT)]


def test_without_rules_the_methods_hold_as_they_are() -> None:
    assert shown(ALICE) == [("Mail", 0), ("Text", 2), ("Call", 5), ("Call", 8)]


def test_priority_rules_replace_order_delays_and_repeats_of_their_priority() -> None:
    rules = {"by_priority": {"critical": [{"method": "call"}, {"method": "Mail", "wait": "1m"}]}}
    person = apply_rules(ALICE, rules)
    assert shown(person, priority=Priority.CRITICAL) == [("Call", 0), ("Mail", 1)]
    assert shown(person) == shown(ALICE)


def test_rules_with_only_disabled_methods_fall_back() -> None:
    person = apply_rules(ALICE, {"by_priority": {"high": [{"method": "Mail"}]}})
    person = replace(person, methods=(replace(MAIL, is_enabled=False), TEXT))
    assert shown(person) == [("Text", 2)]


def test_policy_override_replaces_user_rules_by_label_or_channel() -> None:
    calling = DeliveryOverride((ContactMethodRule(channel="email"), ContactMethodRule(label="text", wait=3 * MINUTE)))
    assert shown(ALICE, calling) == [("Mail", 0), ("Text", 3)]
    (only,) = plan_pages(
        replace(ALICE, methods=(CALL,)), DeliveryOverride((ContactMethodRule(channel="email"),)), Priority.HIGH, NIGHT
    )[:1]
    assert each_of(only.explanation)[-1] == page_planner.POLICY_METHODS_UNUSABLE()


def test_tries_are_all_of_it_again() -> None:
    planned_pages = plan_pages(
        replace(ALICE, methods=(MAIL,)), DeliveryOverride((), 2, 5 * MINUTE), Priority.HIGH, NIGHT
    )
    assert [((leave.at - NIGHT) / MINUTE, str(leave.explanation)) for leave in planned_pages] == [
        (0, "Mail"),
        (5, "Mail, attempt 2 of 3"),
        (10, "Mail, attempt 3 of 3"),
    ]


def test_quiet_hours_bundle_non_urgent_pages_until_their_end() -> None:
    person = apply_rules(ALICE, {"quiet_hours": [{"from": "22:00", "to": "07:00", "let_through": "high"}]})
    assert shown(person) == shown(ALICE)
    low = plan_pages(person, USER_RULES, Priority.LOW, NIGHT)
    assert [(leave.method.label, leave.at) for leave in low] == [
        ("Mail", MORNING),
        ("Text", MORNING),
        ("Call", MORNING),
    ]
    assert page_planner.QUIET_HOURS() in each_of(low[0].explanation)
    assert page_planner.MERGED(count=2) in each_of(low[2].explanation)
    assert last_page_at(person, USER_RULES, Priority.LOW, NIGHT) == MORNING


def test_quiet_hours_apply_per_contact_method_and_may_chain() -> None:
    quiet = [
        {"from": "22:00", "to": "07:00", "methods": ["CALL"]},
        {"days": ["wed"], "from": "07:00", "to": "09:00", "methods": ["Call"]},
    ]
    person = apply_rules(ALICE, {"quiet_hours": quiet})
    results = {leave.method.label: leave.at for leave in plan_pages(person, USER_RULES, Priority.LOW, NIGHT)}
    assert results == {"Mail": NIGHT, "Text": NIGHT + 2 * MINUTE, "Call": MORNING + timedelta(hours=2)}


def test_endless_quiet_hours_silence_no_user() -> None:
    person = apply_rules(ALICE, {"quiet_hours": [{"from": "00:00", "to": "24:00"}]})
    assert shown(person, priority=Priority.LOW)[0] == ("Mail", 0)


@examples(60)
@given(
    st.sampled_from(list(Priority)),
    st.integers(0, 20),
    st.integers(0, 23),
    st.integers(1, 23),
    st.integers(0, 7 * 24 * 60),
)
def test_page_never_leaves_early_and_critical_one_never_waits(
    priority: Priority, wait: int, begins: int, long: int, minute: int
) -> None:
    window = {"from": f"{begins:02}:00", "to": f"{(begins + long) % 24:02}:00", "let_through": "critical"}
    at = NIGHT + minute * MINUTE
    person = apply_rules(replace(ALICE, methods=(replace(MAIL, wait=wait * MINUTE),)), {"quiet_hours": [window]})
    (leave,) = plan_pages(person, USER_RULES, priority, at)
    due = at + wait * MINUTE
    assert due <= leave.at <= due + timedelta(hours=25)
    if priority is Priority.CRITICAL:
        assert leave.at == due
