"""Checks upcoming on-call schedules: coverage gaps, deactivated or absent users, shifts without effect, and users on
call who cannot be woken.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Person, ReasonType
from tocsin.notify.rules.responder_readiness import ReadinessProblem
from tocsin.oncall import loader
from tocsin.oncall.calculation.coverage_checks import CoverageFindingKind
from tocsin.operate.coverage import coverage, responders
from tocsin.operate.finding import FindingLevel, HealthFinding
from tocsin.people.member_roles import MemberRole

_SOON = timedelta(days=1)
_ALL_GROUPS = "SELECT id AS group_id FROM people_group ORDER BY name"

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
_NOT_LOUD = ReasonType(
    "health.on_call_not_loud",
    "{user} is on call in {group} without calls, SMS or push: email and chat may not wake them.",
)
_NOT_LOUD_REMEDY = ReasonType(
    "health.on_call_not_loud_remedy", "Add a phone number or push, and use it in the notification rules."
)

REMEDIES = {
    CoverageFindingKind.GAP: _GAP_REMEDY(),
    CoverageFindingKind.ABSENT: _ABSENT_REMEDY(),
    CoverageFindingKind.DEACTIVATED_USER: _DEACTIVATED_REMEDY(),
    CoverageFindingKind.HIDDEN: _HIDDEN_REMEDY(),
    CoverageFindingKind.DOUBLE_ROLE: _DOUBLE_ROLE_REMEDY(),
    CoverageFindingKind.NO_SHIFT: _NO_SHIFT_REMEDY(),
}

#: A shift without effect, and a user who is paged twice: the first page is sent all the same.
_NEVER_URGENT = (CoverageFindingKind.HIDDEN, CoverageFindingKind.DOUBLE_ROLE)


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
                # A gap that affects a page today is urgent.
                is_urgent=finding.kind not in _NEVER_URGENT and (finding.since or now) < now + _SOON,
                begins_at=finding.since,
            )
    yield from _not_loud(connection, now)
    for calendar in coverage.unread_calendars(connection):
        yield HealthFinding(
            "oncall.calendar",
            calendar.reason,
            _CALENDAR_REMEDY(),
            about=calendar.group,
            object_id=calendar.schedule_id,
        )


def _not_loud(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Yields users on call now or soon whom no page wakes, once each."""
    groups = [row["group_id"] for row in database.rows(connection, _ALL_GROUPS)]
    until = now + responders.READINESS_HORIZON
    reported: set[int] = set()
    for group_id, (plan, shifts) in responders.readiness_of_groups(connection, groups, now, now, until).items():
        for one in shifts:
            user = Person(one.shift.name, one.shift.user_id)
            # Managers are paged at the end of an escalation, if at all.
            is_paged_first = one.shift.role is not MemberRole.MANAGER
            if is_paged_first and ReadinessProblem.NOT_LOUD in one.problems and one.shift.user_id not in reported:
                reported.add(one.shift.user_id)
                yield HealthFinding(
                    "oncall.not_loud",
                    _NOT_LOUD(user=user, group=plan.name),
                    _NOT_LOUD_REMEDY(),
                    about=user.name,
                    object_id=group_id,
                    begins_at=one.shift.since,
                )
