"""Keeps one row for each shift that is imported from an external iCal calendar.

`oncall.calendars.calendar_import_worker` imports them. The last import stays in force while a calendar cannot be read.
"""

from __future__ import annotations

from datetime import datetime

from tocsin.oncall.changes import calendar_urls
from tocsin.oncall.models import CalendarImport, Schedule
from tocsin.people import encrypted_addresses


def sync_imports(schedule: Schedule, now: datetime) -> None:
    """Creates, updates and deletes the import rows of a schedule, in the caller's transaction.

    A new URL is imported at once, and the data of the old one is deleted. A known URL is imported at once too, because
    the time zone may have changed. Its data stays in force until then, also under a new name of the shift.
    """
    urls_by_shift = calendar_urls.in_definition(schedule.definition)
    rows_by_shift = {row.shift: row for row in schedule.imports.all()}
    renamed = {
        encrypted_addresses.decrypt_if_encrypted(row.url): row
        for name, row in rows_by_shift.items()
        if name not in urls_by_shift
    }
    unchanged = {
        name: row
        for name, url in urls_by_shift.items()
        if (row := rows_by_shift[name] if name in rows_by_shift else renamed.pop(url, None)) is not None
        and encrypted_addresses.decrypt_if_encrypted(row.url) == url
    }
    schedule.imports.exclude(pk__in=[row.pk for row in unchanged.values()]).exclude(shift__in=urls_by_shift).delete()
    for name, row in unchanged.items():
        row.shift, row.due_at = name, now
        row.save(update_fields=["shift", "due_at"])
    for name in urls_by_shift.keys() - unchanged.keys():
        CalendarImport.objects.update_or_create(
            schedule=schedule,
            shift=name,
            defaults={
                "url": calendar_urls.seal(urls_by_shift[name]),
                "due_at": now,
                "read_at": None,
                "error_code": "",
                "error_data": {},
                "unknown": [],
                "spans": [],
            },
        )
