"""Previews an unsaved schedule: the next handoffs with names, and coverage warnings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall.calculation import coverage_checks, final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.changes import schedule_preview
from tocsin.oncall.models import Schedule
from tocsin.operate.coverage import coverage
from tocsin.people.member_roles import MemberRole
from tocsin.web.oncall.schedules import coverage_warnings
from tocsin.web.ui.forms import field_error_text, problems_of

#: Horizon of the preview, and maximum number of handoffs shown per role.
HORIZON = timedelta(days=92)
MAX_HANDOFFS = 6


@dataclass(frozen=True, slots=True)
class SchedulePreview:
    """The preview. `problems` explain why there is none, or which shifts it leaves out."""

    problems: Sequence[str] = ()
    #: Per role: the consecutive assignments.
    assignments: Sequence[tuple[MemberRole, Sequence[OnCall]]] = ()
    warnings: Sequence[str] = ()


def preview_of_spec(
    spec: Mapping[str, Any], existing: Schedule | None, now: datetime, problems: Sequence[str] = ()
) -> SchedulePreview:
    """Return the preview of the spec that the form currently describes, without the shifts that are invalid.

    `problems` are those that are known already.
    """
    try:
        plan = schedule_preview.plan_with(spec, existing=existing, now=now)
    except Rejected as rejected:
        problems = [*problems, *(_describe_problem(problem, spec) for problem in problems_of(rejected))]
        wrong = {_shift_index(problem, spec) for problem in problems_of(rejected)}
        rest = [shift for index, shift in enumerate(spec["shifts"]) if index not in wrong]
        if None in wrong or not rest:
            return SchedulePreview(problems)
        return preview_of_spec({**spec, "shifts": rest}, existing, now, problems)
    return replace(preview_of_plan(plan, spec["name"], now), problems=problems)


def preview_of_plan(plan: GroupPlan, schedule: str, now: datetime) -> SchedulePreview:
    """Return the preview of a group plan that contains the schedule."""
    timeline = final_schedule.timeline(plan, now, now + HORIZON)
    segments = [segment for segment in timeline.segments if segment.schedule == schedule]
    assignments = [
        (role, [segment for segment in segments if segment.role is role][:MAX_HANDOFFS]) for role in MemberRole
    ]
    with database.transaction() as connection:
        reachable = coverage.reachable_user_ids(connection)
    findings = coverage_checks.findings(plan, reachable, now, now + HORIZON, timeline)
    return SchedulePreview(
        assignments=[(role, role_segments) for role, role_segments in assignments if role_segments],
        warnings=coverage_warnings.sentences(coverage_checks.first_of_each(coverage_checks.problems(findings)), now),
    )


def _describe_problem(problem: Rejected, spec: Mapping[str, Any]) -> str:
    """Return the problem in words, with the shift's name in place of the path."""
    index = _shift_index(problem, spec)
    if index is None:
        return problem.reason.localized()
    return f"{spec['shifts'][index]['name']}: {field_error_text(problem)}"


def _shift_index(problem: Rejected, spec: Mapping[str, Any]) -> int | None:
    """Return the index of the shift that the problem is about, or None."""
    match = re.match(r"shifts\[(\d+)\]", problem.field or "")
    return int(match[1]) if match and int(match[1]) < len(spec["shifts"]) else None
