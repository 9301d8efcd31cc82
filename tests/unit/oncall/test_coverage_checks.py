"""Problems of future on-call coverage: gaps, unavailable users, ineffective shifts."""

from __future__ import annotations

from datetime import timedelta

from tests.support.schedule_strategies import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    LEAD,
    PRIMARY,
    SECONDARY,
    fixed,
    local,
    plan,
    rotate,
    schedule,
)
from tocsin.core.reasons import Term
from tocsin.oncall import reasons
from tocsin.oncall.calculation import coverage_checks, final_schedule
from tocsin.oncall.calculation.coverage_checks import CoverageFinding, CoverageFindingKind
from tocsin.oncall.calculation.final_schedule import Absence, GroupPlan, SnapshotMember
from tocsin.oncall.calculation.schedules import CompiledOverride

MONDAY = local("2026-03-02T00:00")
WEEK = timedelta(days=7)
ALL_WEEK = ("mon 00:00", "mon 00:00")
EVERYBODY = {ALICE, BOB, CAROL, DAVE}


def find_gaps(group: GroupPlan, reachable: set[int] = EVERYBODY) -> list[CoverageFinding]:
    return list(coverage_checks.findings(group, reachable, MONDAY, MONDAY + WEEK))


def test_what_covers_all_the_time_has_no_findings() -> None:
    assert find_gaps(plan(schedule(rotate("Weekly", [ALICE, BOB])))) == []
    assert find_gaps(plan()) == [], "a group without a schedule has its order"


def test_each_coverage_gap_is_reported_with_its_role() -> None:
    group = plan(schedule(fixed("Days", [ALICE], (["mon", "tue"], "08:00", "18:00"), roles=["secondary"])))
    gaps = find_gaps(group)
    assert [(gap.kind, gap.role, gap.occurrence_count) for gap in gaps] == [(CoverageFindingKind.GAP, SECONDARY, 3)] * 3
    assert gaps[0].reason == reasons.GAP(role=Term("secondary"), group="Desk")
    assert (gaps[1].since, gaps[1].until) == (local("2026-03-02T18:00"), local("2026-03-03T08:00"))
    assert gaps[2].until == MONDAY + WEEK


def test_group_order_fallback_is_a_note_not_a_gap() -> None:
    member = SnapshotMember(BOB, "Bob", frozenset({PRIMARY}))
    group = plan(schedule(fixed("Days", [ALICE], (["mon"], "08:00", "18:00"))), members=(member,))
    (finding,) = find_gaps(group)
    assert (finding.kind, finding.kind.is_note) == (CoverageFindingKind.NO_SHIFT, True)
    assert "The group's order applies: Bob." in str(finding.reason)
    assert coverage_checks.problems([finding]) == ()


def test_absent_unreachable_or_disabled_users_are_named() -> None:
    away = Absence(ALICE, local("2026-03-03T08:00"), local("2026-03-04T08:00"))
    shifts = (fixed("All", [ALICE, DAVE], ALL_WEEK), fixed("Top", [BOB], (["mon"], "08:00", "18:00"), layer=2))
    group = plan(schedule(*shifts), absences=(away,), gone=DAVE)
    body = {finding.kind: finding for finding in find_gaps(group, {ALICE})}
    assert body.keys() == {
        CoverageFindingKind.ABSENT,
        CoverageFindingKind.UNREACHABLE,
        CoverageFindingKind.DEACTIVATED_USER,
    }
    assert (body[CoverageFindingKind.ABSENT].user_id, body[CoverageFindingKind.ABSENT].since) == (ALICE, away.starts_at)
    assert body[CoverageFindingKind.UNREACHABLE].user_id == BOB
    assert "Dave" in str(body[CoverageFindingKind.DEACTIVATED_USER].reason)


def test_override_of_disabled_user_is_reported_while_effective() -> None:
    late, soon = local("2026-03-03T08:00"), local("2026-03-03T20:00")
    overrides = [
        CompiledOverride(1, "Fair", DAVE, late, soon, instead_of=ALICE),
        CompiledOverride(2, "Over", DAVE, MONDAY - WEEK, MONDAY),
        CompiledOverride(3, "Far", DAVE, MONDAY + WEEK, MONDAY + 2 * WEEK),
        CompiledOverride(4, "Here", BOB, late, soon, role=SECONDARY),
    ]
    (finding,) = find_gaps(plan(schedule(rotate("Weekly", [ALICE]), overrides=overrides), gone=DAVE))
    assert (finding.kind, finding.since, finding.until, finding.user_id) == (
        CoverageFindingKind.DEACTIVATED_USER,
        late,
        soon,
        DAVE,
    )
    assert finding.reason.code == reasons.NAMED_OVERRIDE_OF_DEACTIVATED.code
    assert (finding.reason["name"], str(finding.reason["schedule"])) == ("Fair", "Desk 24x7")


def test_ineffective_shift_and_user_with_two_roles_are_reported() -> None:
    low = fixed("Low", [CAROL], (["mon"], "08:00", "18:00"))
    both = fixed("Both", [ALICE], ALL_WEEK, layer=2, roles=["primary", "secondary"])
    body = {finding.kind: finding for finding in find_gaps(plan(schedule(low, both)))}
    assert body.keys() == {CoverageFindingKind.HIDDEN, CoverageFindingKind.DOUBLE_ROLE}
    assert (
        str(body[CoverageFindingKind.HIDDEN].reason)
        == "Shift Low of Desk 24x7 never has an effect: shift Both of Desk 24x7 takes precedence."
    )
    assert str(body[CoverageFindingKind.DOUBLE_ROLE].reason) == "Alice is both primary and secondary of Desk."


def test_only_the_first_member_by_order_has_a_second_role() -> None:
    both = frozenset({PRIMARY, SECONDARY})
    members = (SnapshotMember(ALICE, "Alice", both), SnapshotMember(BOB, "Bob", both))
    group = plan(schedule(rotate("Weekly", [ALICE, BOB])), members=members)
    timeline = final_schedule.timeline(group, MONDAY, MONDAY + 4 * WEEK)
    doubles = coverage_checks.double_roles(timeline)
    assert {double.user_id for double in doubles} == {ALICE}, "whoever is primary, the next step pages Alice"
    assert len(doubles) == 2


def test_manager_by_order_may_have_another_role() -> None:
    members = (SnapshotMember(ALICE, "Alice", frozenset({LEAD})),)
    group = plan(schedule(rotate("Weekly", [ALICE])), members=members)
    assert coverage_checks.double_roles(final_schedule.timeline(group, MONDAY, MONDAY + WEEK)) == ()
