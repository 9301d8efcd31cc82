"""Planned pages: recipients, contact methods and times."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tocsin.alerts.states import Priority
from tocsin.core.reasons import Person
from tocsin.notify.providers.pool import address_problem, quietest_channel
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import (
    USER_RULES,
    NotificationMethod,
    PagedRecipient,
    PageRequest,
    Recipient,
    all_clears,
    apply_rules,
    plan,
    plan_pages,
)

NOW = datetime.fromisoformat("2026-11-24T09:15:00+00:00")
MINUTE = timedelta(minutes=1)

EMAIL = NotificationMethod("Email", "email", "alice@example.org")
PHONE = NotificationMethod("Phone", "voice", "+41790000001", wait=3 * MINUTE, repeat_times=2, repeat_every=2 * MINUTE)
ALICE = Recipient(1, "Alice", (EMAIL, PHONE))
START = PageRequest(42, NOW, "Alice is primary of Service Desk.", user_id=1)

_spans = st.integers(0, 600).map(lambda seconds: timedelta(seconds=seconds))
_methods = st.builds(
    NotificationMethod, label=st.sampled_from(["A", "B"]), channel=st.just("email"), address=st.just("a@example.org"),
    wait=_spans, repeat_times=st.integers(0, 4), repeat_every=_spans, is_enabled=st.booleans(),
)  # fmt: skip


def test_each_method_and_repetition_is_planned_at_its_time() -> None:
    pages = plan([START], {1: ALICE}, {}, address_problem).pages
    assert [(page.label, (page.due_at - NOW) // MINUTE) for page in pages] == [
        ("Email", 0),
        ("Phone", 3),
        ("Phone", 5),
        ("Phone", 7),
    ]
    assert str(pages[0].reason) == "Alice is primary of Service Desk. (Email)"
    assert str(pages[2].reason) == (
        "Alice is primary of Service Desk. (Phone, 3 minutes after the step, repeat 1 of 2)"
    )


def test_a_person_without_methods_is_unreachable_and_named() -> None:
    made = plan([START], {1: replace(ALICE, methods=())}, {}, address_problem)
    assert made.pages == ()
    reason = page_planner.UNREACHABLE(user=Person("Alice", 1), cause=page_planner.NO_METHOD())
    assert [(entry.name, entry.reason) for entry in made.unreachable] == [("Alice", reason)]


def test_disabled_user_is_unreachable() -> None:
    made = plan([START], {1: replace(ALICE, is_active=False)}, {}, address_problem)
    assert made.pages == ()
    assert made.unreachable[0].reason == page_planner.USER_DISABLED(user=Person("Alice", 1))


def test_a_person_or_contact_that_is_gone_is_unreachable() -> None:
    page_requests = [START, PageRequest(42, NOW, "The desk's room.", group_contact_id=9)]
    made = plan(page_requests, {}, {}, address_problem)
    assert [entry.reason for entry in made.unreachable] == [
        page_planner.USER_DELETED(),
        page_planner.CONTACT_DELETED(),
    ]


def test_unusable_method_is_planned_with_its_problem() -> None:
    bad = NotificationMethod("Old", "sms", "12")
    made = plan([START], {1: replace(ALICE, methods=(bad, EMAIL))}, {}, address_problem)
    assert [bool(page.problem) for page in made.pages] == [True, False]
    assert made.unreachable == ()


def test_method_after_unusable_one_skips_its_delay() -> None:
    bad = NotificationMethod("Old", "sms", "12", repeat_times=2, repeat_every=MINUTE)
    made = plan([START], {1: replace(ALICE, methods=(bad, PHONE))}, {}, address_problem)
    assert [(page.label, (page.due_at - NOW) // MINUTE) for page in made.pages] == [
        ("Old", 0), ("Phone", 0), ("Phone", 5), ("Phone", 7),
    ]  # fmt: skip
    assert str(made.pages[1].reason).endswith(
        "(Phone, 3 minutes after the step, immediately, because the previous contact method is failing)"
    )
    # Where another is tried at that moment, or the next waits for something else, all stays as it is.
    for methods, minutes in (((bad, EMAIL, PHONE), 3), ((bad, replace(PHONE, wait=45 * MINUTE)), 45)):
        made = plan([START], {1: replace(ALICE, methods=methods)}, {}, address_problem)
        assert next(page for page in made.pages if page.label == "Phone").due_at == NOW + minutes * MINUTE


def test_quiet_hours_apply_after_an_unusable_method() -> None:
    bad = NotificationMethod("Old", "sms", "12")
    quiet = {"quiet_hours": [{"from": "09:00", "to": "09:30", "let_through": "high", "methods": ["Phone"]}]}
    alice = apply_rules(replace(ALICE, methods=(bad, PHONE)), quiet)
    made = plan([replace(START, priority=Priority.LOW)], {1: alice}, {}, address_problem)
    assert [page.due_at - NOW for page in made.pages if page.label == "Phone"] == [15 * MINUTE]


def test_fallback_is_not_advanced_into_ending_quiet_hours() -> None:
    bad = NotificationMethod("Old", "sms", "12")
    quiet = {"quiet_hours": [{"from": "09:00", "to": "09:17", "let_through": "high", "methods": ["Phone"]}]}
    alice = apply_rules(replace(ALICE, methods=(bad, PHONE)), quiet)
    made = plan([replace(START, priority=Priority.LOW)], {1: alice}, {}, address_problem)
    assert [(page.due_at - NOW) / MINUTE for page in made.pages if page.label == "Phone"] == [3, 5, 7]


def test_user_with_only_unusable_methods_is_unreachable_with_reasons() -> None:
    bad = (NotificationMethod("Old", "sms", "12"), NotificationMethod("Odd", "pigeon", "loft"))
    made = plan([START], {1: replace(ALICE, methods=bad)}, {}, address_problem)
    assert len(made.pages) == 2
    assert 'Old cannot be used: "12" is not a phone number' in str(made.unreachable[0].reason)
    assert 'Odd cannot be used: Unknown channel "pigeon".' in str(made.unreachable[0].reason)


def test_a_group_contact_is_one_page_at_once() -> None:
    contact = NotificationMethod("Desk room", "chat", "desk")
    made = plan([PageRequest(42, NOW, "The desk's room.", group_contact_id=9)], {}, {9: contact}, address_problem)
    assert [(page.label, page.due_at) for page in made.pages] == [("Desk room", NOW)]


@given(st.lists(_methods, max_size=4))
def test_every_request_is_planned_by_rules_or_unreachable(methods: list[NotificationMethod]) -> None:
    person = replace(ALICE, methods=tuple(methods))
    made = plan([START], {1: person}, {}, lambda channel, address: None)
    assert bool(made.pages) != bool(made.unreachable)
    assert [page.due_at for page in made.pages] == [
        leave.at for leave in plan_pages(person, USER_RULES, START.priority, NOW)
    ]


def _paged(user: int, channel: str, minutes: int | None, alert: int = 42) -> PagedRecipient:
    at = None if minutes is None else NOW + minutes * MINUTE
    return PagedRecipient(alert, user, channel, f"{user}-{channel}", channel.title(), at)


def test_all_clear_goes_once_to_each_paged_unresponsive_user() -> None:
    paged = [
        _paged(1, "email", 0),
        _paged(1, "sms", 1),
        _paged(2, "voice", 5),
        _paged(2, "sms", 2),
        _paged(3, "email", 0),
    ]
    assert all_clears(paged, {42: frozenset({3})}, {}, quietest_channel) == [paged[0], paged[3]]


def test_informed_user_is_informed_again_only_after_another_page() -> None:
    data = {(42, 1): NOW + 3 * MINUTE}
    assert all_clears([_paged(1, "email", 2)], {}, data, quietest_channel) == []
    assert len(all_clears([_paged(1, "email", 2), _paged(1, "email", 4)], {}, data, quietest_channel)) == 1
    assert len(all_clears([_paged(1, "email", None)], {}, data, quietest_channel)) == 1
