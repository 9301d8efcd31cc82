"""Keeps one row for each shift that is imported from an external iCal calendar.

`oncall.calendars.calendar_import_worker` imports them. The last import stays in force while a calendar cannot be read.
"""

from __future__ import annotations

from datetime import datetime

from tocsin.oncall.changes import calendar_urls
from tocsin.oncall.models import CalendarImport, Schedule
from tocsin.people import encrypted_addresses


def follow(schedule: Schedule, now: datetime) -> None:
    """Creates, updates and deletes the import rows of a schedule, in the caller's transaction.

    A new URL is imported at once, and the data of the old one is deleted. A known URL is imported at once too, because
    the time zone may have changed. Its data stays in force until then, also under a new name of the shift.
    """
    wanted = calendar_urls.in_definition(schedule.definition)
    held = {row.shift: row for row in schedule.imports.all()}
    renamed = {encrypted_addresses.in_clear(row.url): row for name, row in held.items() if name not in wanted}
    kept = {
        name: row
        for name, url in wanted.items()
        if (row := held[name] if name in held else renamed.pop(url, None)) is not None
        and encrypted_addresses.in_clear(row.url) == url
    }
    schedule.imports.exclude(pk__in=[row.pk for row in kept.values()]).exclude(shift__in=wanted).delete()
    for name, row in kept.items():
        row.shift, row.due_at = name, now
        row.save(update_fields=["shift", "due_at"])
    for name in wanted.keys() - kept.keys():
        CalendarImport.objects.update_or_create(
            schedule=schedule,
            shift=name,
            defaults={
                "url": calendar_urls.seal(wanted[name]),
                "due_at": now,
                "read_at": None,
                "error": "",
                "unknown": [],
                "spans": [],
            },
        )
