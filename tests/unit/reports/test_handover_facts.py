"""The facts of a handover note: sections, their limits, and their stored form."""

from __future__ import annotations

import json

from tests.support.schedule_strategies import ALICE, BOB, CAROL, local, plan, rotate, schedule
from tocsin.alerts.states import AlertStatus
from tocsin.core.reasons import Person
from tocsin.oncall.calculation.schedules import CompiledOverride
from tocsin.reports import handover
from tocsin.reports.fairness import Interruptions
from tocsin.reports.handover import MAX_LINES, ComingWindow, FactSection, HandoverAlert

MONDAY = local("2026-11-30T09:00")


def alert(number: int, **more: object) -> HandoverAlert:
    whole = {"subject": "VPN down", "priority": "high", "owner": None, "hold_until": None, **more}
    return HandoverAlert(number, **whole)  # type: ignore[arg-type]


def texts(sections: tuple[FactSection, ...]) -> list[tuple[str, list[str]]]:
    return [(str(section.title), [str(line.reason) for line in section.lines]) for section in sections]


def test_quiet_shift_says_that_nothing_happened() -> None:
    assert texts(handover.build([], {}, [], [], [])) == [("No open alerts", []), ("No alerts in the shift", [])]


def test_each_section_counts_and_lists_its_facts() -> None:
    active = [
        alert(1, owner=Person("Bob", BOB)),
        alert(2, hold_until=MONDAY, owner=Person("Bob", BOB)),
        alert(3, hold_until=MONDAY),
    ]
    statuses = {AlertStatus.CLOSED: 2, AlertStatus.MERGED: 1, AlertStatus.CANCELLED: 3}
    pages, window = [Interruptions("bob", "Bob", 2, 1, 1, {})], ComingWindow("Core switch", MONDAY, MONDAY)
    sections = handover.build(active, statuses, pages, [], [window])
    assert texts(sections)[:4] == [
        ("1 open alert", ["Alert 1: VPN down (high, assigned to Bob)"]),
        (
            "2 snoozed alerts",
            [
                "Alert 2: VPN down (high, assigned to Bob, snoozed until 2026-11-30 08:00 UTC)",
                "Alert 3: VPN down (high, snoozed until 2026-11-30 08:00 UTC)",
            ],
        ),
        ("6 alerts in the shift", ["2 closed", "3 false alarms", "1 merged into another alert"]),
        ("Pages in the shift", ["Bob: 2 alerts, 1 at night"]),
    ]
    assert handover.from_json(json.loads(json.dumps(handover.to_json(sections)))) == sections


def test_long_lists_are_cut_and_counted() -> None:
    (section, _shift) = handover.build([alert(number) for number in range(MAX_LINES + 7)], {}, [], [], [])
    assert len(section.lines) == MAX_LINES + 1
    assert str(section.lines[-1].reason) == "7 more"


def test_coming_overrides_are_those_of_the_next_week() -> None:
    periods = [("11-20", "11-25"), ("11-29", "12-01"), ("12-05", "12-06"), ("12-08", "12-09")]
    overrides = [
        CompiledOverride(
            number,
            "",
            CAROL,
            local(f"2026-{since}T12:00"),
            local(f"2026-{until}T12:00"),
            instead_of=ALICE if number == 2 else None,
        )
        for number, (since, until) in enumerate(periods)
    ]
    group_plan = plan(schedule(rotate("Weekly", [ALICE, BOB]), overrides=overrides))
    assert [str(one) for one in handover.coming_overrides(group_plan, "Desk 24x7", MONDAY)] == [
        "Carol, 2026-11-29 11:00 UTC to 2026-12-01 11:00 UTC",
        "Carol instead of Alice, 2026-12-05 11:00 UTC to 2026-12-06 11:00 UTC",
    ]
    assert list(handover.coming_overrides(group_plan, "Another", MONDAY)) == []
