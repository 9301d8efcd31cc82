"""What a schedule would do before it is saved: its spec checked as a save does it, and put in its group's plan.

Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.calculation import schedules
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.changes import commands
from tocsin.oncall.models import Schedule


def plan_with(spec: Mapping[str, object], *, existing: Schedule | None, now: datetime) -> GroupPlan:
    """The plan of the schedule's group with the schedule as the spec says, from `now` on; overrides stay as they are.

    Raises Rejected that names the place, as saving it would.
    """
    made = commands.check_schedule(spec, existing=existing)
    with database.transaction() as connection:
        held = loader.plan(connection, made.group.pk, now)
        if held is None:
            raise Rejected("not_found", f'group: there is no group "{made.group.name}".', "group")
        number = existing.pk if existing else None
        # A schedule that moves to another group takes its overrides along; they are not in that group's plan.
        before = next((one for one in held.schedules if one.id == number), None)
        calendars = loader.holiday_calendars(connection, made.holiday_calendars)
        drawn = schedules.load(
            made.name,
            made.time_zone,
            made.definition,
            number=number or 0,
            calendars=[calendars[one] for one in made.holiday_calendars if one in calendars],
            imported={row.shift: loader.imported_spans(row.spans) for row in existing.imports.all()}
            if existing
            else {},
            overrides=before.overrides if before else (),
        )
        return loader.with_schedule(connection, held, drawn, number, now)
