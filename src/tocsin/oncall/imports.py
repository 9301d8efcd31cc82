"""Shifts that are read from an iCal calendar elsewhere: which there are, and what was last read.

`imports_loop` reads them. What was read before stays in force while a calendar cannot be read.
"""

from __future__ import annotations

from datetime import datetime

from tocsin.oncall.models import CalendarImport, Schedule


def follow(schedule: Schedule, now: datetime) -> None:
    """Keeps a row for each of the schedule's shifts that take their turns from a calendar, in the caller's transaction.

    A new address is read at once, and what was read of the old one is forgotten.
    """
    wanted = {shift["name"]: shift["calendar"]["url"] for shift in schedule.definition["shifts"] if "calendar" in shift}
    held = {row.shift: row for row in schedule.imports.all()}
    schedule.imports.exclude(shift__in=wanted).delete()
    for name, url in wanted.items():
        row = held.get(name)
        if row is not None and row.url == url:
            continue
        CalendarImport.objects.update_or_create(
            schedule=schedule,
            shift=name,
            defaults={"url": url, "due_at": now, "read_at": None, "error": "", "unknown": [], "spans": []},
        )
