"""Checks upcoming on-call schedules: coverage gaps, deactivated or absent users, shifts without effect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.oncall.calculation.coverage_checks import CoverageFindingKind
from tocsin.operate.coverage import coverage
from tocsin.operate.finding import FindingLevel, HealthFinding

_GROUPS = "SELECT DISTINCT group_id FROM oncall_schedule"

REMEDIES = {
    CoverageFindingKind.GAP: "Add a shift for that time. Until then a step that asks for this role calls nobody, and "
    "the next comes.",
    CoverageFindingKind.ABSENT: "Name who covers under their out of office, or override the shift. Until then they are "
    "still paged.",
    CoverageFindingKind.DEACTIVATED_USER: "Take them out of the shift or override, or put somebody in their place.",
    CoverageFindingKind.HIDDEN: "Give it a higher layer, or delete it.",
    CoverageFindingKind.DOUBLE_ROLE: "Override one of the two roles, or change the order of the users.",
    CoverageFindingKind.NO_SHIFT: "Add a shift for that time, unless it is meant so.",
}
#: The last imported calendar stays in force, so nothing breaks at once and nobody notices.
CALENDAR_REMEDY = (
    "Look at the address in the shift, and whether this machine may connect to it. What was read last stays in force."
)


def check(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Checks the next 60 days and yields one finding per kind, group, user and role."""
    groups = [row["group_id"] for row in database.rows(connection, _GROUPS)]
    for plan, findings in coverage.coverage_of_groups(connection, groups, now).values():
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
                coverage.sentence(plan, finding, now),
                REMEDIES[finding.kind],
                about=plan.name,
                level=FindingLevel.NOTE if finding.kind.is_note else FindingLevel.PROBLEM,
            )
    for calendar in coverage.unread_calendars(connection):
        yield HealthFinding("oncall.calendar", calendar.text, CALENDAR_REMEDY, about=calendar.group)
