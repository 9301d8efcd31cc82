"""Checks upcoming on-call schedules: coverage gaps, deactivated or absent users, shifts without effect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from tocsin.core.db.database import Connection
from tocsin.core.reasons import ReasonType
from tocsin.oncall import loader
from tocsin.oncall.calculation.coverage_checks import CoverageFindingKind
from tocsin.operate.coverage import coverage
from tocsin.operate.finding import FindingLevel, HealthFinding

_SOON = timedelta(days=1)

_GAP_REMEDY = ReasonType(
    "health.coverage_gap_remedy",
    "Add a shift for that time. Until then, steps that page this role skip to the next step.",
)
_ABSENT_REMEDY = ReasonType(
    "health.coverage_absent_remedy",
    "Add a cover to their out of office, or create an override. Until then they are still paged.",
)
_DEACTIVATED_REMEDY = ReasonType(
    "health.coverage_deactivated_remedy", "Remove them from the shift or override, or replace them."
)
_HIDDEN_REMEDY = ReasonType("health.coverage_hidden_remedy", "Move it to a higher layer, or delete it.")
_DOUBLE_ROLE_REMEDY = ReasonType(
    "health.coverage_double_role_remedy", "Override one of the two roles, or change the order of the users."
)
_NO_SHIFT_REMEDY = ReasonType("health.coverage_no_shift_remedy", "Add a shift for that time, unless this is intended.")
_CALENDAR_REMEDY = ReasonType(
    "health.calendar_unread_remedy",
    "Check the calendar URL of the shift, and whether this server can connect to it. The last imported "
    "calendar stays active.",
)

REMEDIES = {
    CoverageFindingKind.GAP: _GAP_REMEDY(),
    CoverageFindingKind.ABSENT: _ABSENT_REMEDY(),
    CoverageFindingKind.DEACTIVATED_USER: _DEACTIVATED_REMEDY(),
    CoverageFindingKind.HIDDEN: _HIDDEN_REMEDY(),
    CoverageFindingKind.DOUBLE_ROLE: _DOUBLE_ROLE_REMEDY(),
    CoverageFindingKind.NO_SHIFT: _NO_SHIFT_REMEDY(),
}


def check(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Checks the next 60 days and yields one finding per kind, group, user and role."""
    groups = loader.groups_with_schedule(connection)
    for group_id, (plan, findings) in coverage.coverage_of_groups(connection, groups, now).items():
        reported: set[tuple[object, ...]] = set()
        for finding in findings:
            shift = (
                finding.shift
                if finding.kind in (CoverageFindingKind.HIDDEN, CoverageFindingKind.DEACTIVATED_USER)
                else ""
            )
            key = (finding.kind, finding.role, finding.user_id, shift)
            # Users without usable contact methods are reported per user, not per group.
            if key in reported or finding.kind not in REMEDIES:
                continue
            reported.add(key)
            yield HealthFinding(
                f"oncall.{finding.kind}",
                coverage.describe_finding(finding, now),
                REMEDIES[finding.kind],
                about=plan.name,
                level=FindingLevel.NOTE if finding.kind.is_note else FindingLevel.PROBLEM,
                object_id=group_id,
                # A gap that affects a page today is urgent; a shift that is never effective is not.
                is_urgent=finding.kind is not CoverageFindingKind.HIDDEN and (finding.since or now) < now + _SOON,
                begins_at=finding.since,
            )
    for calendar in coverage.unread_calendars(connection):
        yield HealthFinding(
            "oncall.calendar",
            calendar.reason,
            _CALENDAR_REMEDY(),
            about=calendar.group,
            object_id=calendar.schedule_id,
        )
