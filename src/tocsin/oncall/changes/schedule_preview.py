"""Previews a schedule before it is saved: validates its spec as saving does, and adds it to its group's plan.

Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.oncall import loader
from tocsin.oncall.calculation import schedules
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.changes import commands
from tocsin.oncall.models import Schedule
from tocsin.people.reasons import NO_SUCH_GROUP


def plan_with(spec: Mapping[str, object], *, existing: Schedule | None, now: datetime) -> GroupPlan:
    """Returns the group's plan from `now` on, with the schedule as in the spec and its overrides unchanged.

    Raises Rejected, naming the field, as saving it would.
    """
    draft = commands.check_schedule(spec, existing=existing)
    with database.transaction() as connection:
        group_plan = loader.plan(connection, draft.group.pk, now)
        if group_plan is None:
            problem = AT_PATH(path="group", problem=NO_SUCH_GROUP(name=draft.group.name))
            raise Rejected("not_found", problem, "group")
        number = existing.pk if existing else None
        # A schedule that moves to another group keeps its overrides, which are not in that group's plan.
        previous = next((one for one in group_plan.schedules if one.id == number), None)
        calendars = loader.holiday_calendars(connection, draft.holiday_calendars)
        compiled = schedules.load(
            draft.name,
            draft.time_zone,
            draft.definition,
            number=number or 0,
            calendars=[calendars[one] for one in draft.holiday_calendars if one in calendars],
            imported={row.shift: loader.imported_spans(row.spans) for row in existing.imports.all()}
            if existing
            else {},
            overrides=previous.overrides if previous else (),
        )
        return loader.with_schedule(connection, group_plan, compiled, number, now)
