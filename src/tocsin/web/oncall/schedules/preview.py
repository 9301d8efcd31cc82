"""Previews an unsaved schedule: the next handoffs with names, and coverage warnings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from tocsin.web.told import told
from tocsin.web.ui.forms import each

#: Horizon of the preview, and maximum number of handoffs shown per role.
LOOK_AHEAD = timedelta(days=92)
MAX_HANDOFFS = 6


@dataclass(frozen=True, slots=True)
class SchedulePreview:
    """The preview. `problems` explain why there is none."""

    problems: Sequence[str] = ()
    #: Per role: the consecutive assignments.
    turns: Sequence[tuple[MemberRole, Sequence[OnCall]]] = ()
    troubles: Sequence[str] = ()


def of_spec(spec: Mapping[str, Any], existing: Schedule | None, now: datetime) -> SchedulePreview:
    """Return the preview of the spec that the form currently describes."""
    try:
        plan = schedule_preview.plan_with(spec, existing=existing, now=now)
    except Rejected as rejected:
        return SchedulePreview(problems=[_say(problem, spec) for problem in each(rejected)])
    return of_plan(plan, spec["name"], now)


def of_plan(plan: GroupPlan, schedule: str, now: datetime) -> SchedulePreview:
    """Return the preview of a group plan that contains the schedule."""
    drawn = final_schedule.timeline(plan, now, now + LOOK_AHEAD)
    own = [one for one in drawn.segments if one.schedule == schedule]
    turns = [(role, [one for one in own if one.role is role][:MAX_HANDOFFS]) for role in MemberRole]
    with database.transaction() as connection:
        reachable = coverage.reachable(connection)
    found = coverage_checks.findings(plan, reachable, now, now + LOOK_AHEAD, drawn)
    return SchedulePreview(
        turns=[(role, several) for role, several in turns if several],
        troubles=coverage_warnings.sentences(coverage_checks.first_of_each(coverage_checks.problems(found)), now),
    )


def _say(problem: Rejected, spec: Mapping[str, Any]) -> str:
    """Return the problem in words, with the shift's name in place of the path."""
    place = problem.field or ""
    found = re.match(r"shifts\[(\d+)\]\.?(?:rotate|fixed|calendar)?\.?(\w*)", place)
    if found is None or int(found[1]) >= len(spec["shifts"]):
        return told(problem.detail)
    text = told(problem.detail.removeprefix(f"{place}: "))
    return f"{spec['shifts'][int(found[1])]['name']}, {found[2].replace('_', ' ')}: {text}"
