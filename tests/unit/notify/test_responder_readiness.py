"""Whether a user on call can be woken during a shift."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.support.schedule_strategies import ALICE, BOB, PRIMARY, SECONDARY, local
from tocsin.access.roles import MemberRole
from tocsin.core.reasons import NO_REASON, Term
from tocsin.notify.rules.page_planner import NotificationMethod, Recipient, apply_rules
from tocsin.notify.rules.responder_readiness import (
    MethodState,
    OnCallPerson,
    ReadinessProblem,
    ShiftReadiness,
    now_and_next,
    readiness,
)
from tocsin.oncall.calculation.final_schedule import OnCall, Timeline

NOW = local("2026-03-02T12:00")
HOUR = timedelta(hours=1)
EMAIL = NotificationMethod("Mail", "email", "alice@example.org")
SMS = NotificationMethod("Mobile", "sms", "+41790000001")
GOOD = MethodState(is_verified=True, arrived_at=NOW - timedelta(days=3))


def shift(
    role: MemberRole = PRIMARY, user: int = ALICE, since: datetime | None = NOW, hours: int = 20, schedule: str = "Desk"
) -> OnCall:
    until = None if since is None else since + hours * HOUR
    return OnCall(role, user, "Alice", NO_REASON, since, until, schedule=schedule)


def timeline(*shifts: OnCall) -> Timeline:
    return Timeline(NOW - 24 * HOUR, NOW + 240 * HOUR, shifts, (), ())


def responder(*methods: NotificationMethod, rules: object = None, state: MethodState = GOOD) -> OnCallPerson:
    recipient = apply_rules(Recipient(ALICE, "Alice", methods, time_zone="Europe/Zurich"), rules or {})
    return OnCallPerson(recipient, {method.label: state for method in methods})


def assess(person: OnCallPerson, on_call: OnCall | None = None) -> ShiftReadiness:
    (result,) = readiness(timeline(on_call or shift()), {ALICE: person}, NOW)
    return result


def test_verified_and_tested_phone_is_ready() -> None:
    result = assess(responder(EMAIL, SMS))
    assert (result.is_ready, result.loud_channels, result.is_verified) == (True, ("sms",), True)
    assert result.arrived_at == GOOD.arrived_at


@pytest.mark.parametrize(
    ("person", "problems"),
    [
        (responder(), [ReadinessProblem.UNREACHABLE]),
        (responder(replace(SMS, is_enabled=False)), [ReadinessProblem.UNREACHABLE]),
        (responder(EMAIL), [ReadinessProblem.NOT_LOUD]),
        (responder(EMAIL, replace(SMS, is_enabled=False)), [ReadinessProblem.NOT_LOUD]),
        (
            responder(EMAIL, SMS, rules={"by_priority": {"critical": [{"method": "Mail"}]}}),
            [ReadinessProblem.NOT_LOUD],
        ),
        (responder(SMS, state=MethodState(arrived_at=NOW)), [ReadinessProblem.NOT_VERIFIED]),
        (responder(SMS, state=MethodState(is_verified=True)), [ReadinessProblem.NOT_TESTED]),
        (
            responder(SMS, state=replace(GOOD, arrived_at=NOW - timedelta(days=91))),
            [ReadinessProblem.NOT_TESTED],
        ),
    ],
)
def test_problem_of_a_contact_method_is_named(person: OnCallPerson, problems: list[ReadinessProblem]) -> None:
    assert list(assess(person).problems) == problems


def test_methods_without_an_available_provider_wake_nobody() -> None:
    call = replace(SMS, label="Call", channel="voice")
    states = {"Mobile": replace(GOOD, is_available=False), "Call": GOOD}
    assert assess(replace(responder(SMS, call), states=states)).is_ready
    assert list(assess(replace(responder(SMS), states=states)).problems) == [ReadinessProblem.UNAVAILABLE]


def test_unknown_user_is_unreachable() -> None:
    (result,) = readiness(timeline(shift(user=BOB)), {}, NOW)
    assert list(result.problems) == [ReadinessProblem.UNREACHABLE]


def quiet(**changes: object) -> dict[str, object]:
    return {"quiet_hours": [{"from": "22:00", "to": "06:00", "let_through": "critical", **changes}]}


def test_quiet_hours_within_the_shift_delay_its_pages() -> None:
    problem = assess(responder(SMS, rules=quiet())).problems[ReadinessProblem.QUIET_HOURS]
    assert problem["since"] == local("2026-03-02T22:00")
    assert problem["until"] == local("2026-03-03T06:00")
    assert problem["priority"] == Term("high")


@pytest.mark.parametrize(
    ("methods", "rules", "hours"),
    [
        ((SMS,), quiet(), 9),
        ((SMS,), quiet(let_through="high"), 20),
        ((SMS,), quiet(days=["sat", "sun"]), 20),
        ((SMS, replace(SMS, label="Call", channel="voice")), quiet(methods=["Mobile"]), 20),
        ((SMS, EMAIL), quiet(methods=["Mail"]), 20),
    ],
)
def test_quiet_hours_that_leave_a_loud_page_are_no_problem(
    methods: tuple[NotificationMethod, ...], rules: object, hours: int
) -> None:
    assert assess(responder(*methods, rules=rules), shift(hours=hours)).is_ready


def test_shift_without_end_is_checked_for_a_week() -> None:
    person = responder(SMS, rules=quiet(days=["sun"]))
    problem = assess(person, shift(since=None)).problems[ReadinessProblem.QUIET_HOURS]
    assert problem["since"] == local("2026-03-08T22:00")


def test_quiet_hours_of_several_methods_must_meet() -> None:
    call = replace(SMS, label="Call", channel="voice")
    evening = {"from": "20:00", "to": "23:00", "let_through": "critical", "methods": ["Mobile"]}
    night = {"from": "22:00", "to": "06:00", "let_through": "critical", "methods": ["Call"]}
    problem = assess(responder(SMS, call, rules={"quiet_hours": [evening, night]})).problems
    assert problem[ReadinessProblem.QUIET_HOURS]["since"] == local("2026-03-02T22:00")
    assert problem[ReadinessProblem.QUIET_HOURS]["until"] == local("2026-03-02T23:00")


def test_two_roles_at_once_are_a_problem_of_both_shifts() -> None:
    both = [shift(), shift(SECONDARY, since=NOW + HOUR)]
    results = readiness(timeline(*both), {ALICE: responder(SMS)}, NOW)
    assert [list(one.problems) for one in results] == [[ReadinessProblem.SEVERAL_ROLES]] * 2
    assert results[0].problems[ReadinessProblem.SEVERAL_ROLES]["roles"] == (Term("secondary"),)


def test_role_by_order_counts_for_the_first_of_it_only() -> None:
    people = {ALICE: responder(SMS), BOB: replace(responder(SMS), recipient=replace(responder(SMS).recipient, id=BOB))}
    by_order = [shift(SECONDARY, schedule=""), shift(SECONDARY, user=BOB, schedule="")]
    results = readiness(timeline(shift(), shift(user=BOB), *by_order), people, NOW)
    assert [list(one.problems) for one in results] == [[ReadinessProblem.SEVERAL_ROLES], []] * 2
    assert all(one.has_other_roles for one in results)


@pytest.mark.parametrize(
    "other",
    [
        shift(SECONDARY, user=BOB),
        shift(SECONDARY, since=NOW + 20 * HOUR),
        shift(PRIMARY, since=NOW + HOUR),
        shift(MemberRole.LEAD, schedule=""),
    ],
)
def test_other_shifts_do_not_count_as_a_second_role(other: OnCall) -> None:
    people = {ALICE: responder(SMS), BOB: responder(SMS)}
    assert readiness(timeline(shift(), other), people, NOW)[0].is_ready


def test_shifts_that_are_over_are_left_out() -> None:
    assert readiness(timeline(shift(since=NOW - HOUR, hours=1)), {}, NOW) == ()


def test_now_and_next_are_the_first_of_each_role() -> None:
    shifts = [
        shift(hours=1),
        shift(since=NOW + HOUR, hours=1, user=BOB),
        shift(since=NOW + 2 * HOUR, hours=1),
        shift(SECONDARY, since=NOW + 5 * HOUR, hours=1),
    ]
    results = now_and_next(readiness(timeline(*shifts), {}, NOW), NOW)
    assert [(one.shift.role, one.shift.since) for one in results] == [
        (PRIMARY, NOW),
        (PRIMARY, NOW + HOUR),
        (SECONDARY, NOW + 5 * HOUR),
    ]


@pytest.mark.parametrize(
    ("answers", "problems", "rings"),
    [
        ((None,), [], None),
        ((True,), [], True),
        ((False,), [ReadinessProblem.SILENCED], False),
        ((False, None), [], False),
        ((False, True), [], True),
    ],
)
def test_push_that_does_not_ring_through_silence_is_named(
    answers: tuple[bool | None, ...], problems: list[ReadinessProblem], rings: bool | None
) -> None:
    methods = [NotificationMethod(f"Push {n}", "ntfy", f"topic{n}") for n in range(len(answers))]
    states = {
        method.label: replace(GOOD, rings_silenced=answer) for method, answer in zip(methods, answers, strict=True)
    }
    result = assess(replace(responder(*methods), states=states))
    assert list(result.problems) == problems
    assert result.rings_silenced is rings
