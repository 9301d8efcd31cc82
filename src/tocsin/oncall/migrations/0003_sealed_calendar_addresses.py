"""The addresses of calendars elsewhere are encrypted; the audit log shows their hosts only."""

from urllib.parse import urlsplit

from django.db import migrations

from tocsin.core import sealing


def seal(url):
    return url if url.startswith("sealed:") else f"sealed:{urlsplit(url).scheme.lower()}:{sealing.seal(url)}"


def shown(url):
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/…"
    return url if url.endswith("/…") else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


def with_urls(state, change):
    """The spec or definition of a schedule with `change` made to the address of each calendar."""
    if not isinstance(state, dict) or not isinstance(state.get("shifts"), list):
        return state
    return {**state, "shifts": [_shift(shift, change) for shift in state["shifts"]]}


def _shift(shift, change):
    calendar = shift.get("calendar") if isinstance(shift, dict) else None
    if not isinstance(calendar, dict) or not isinstance(calendar.get("url"), str):
        return shift
    return {**shift, "calendar": {**calendar, "url": change(calendar["url"])}}


def encrypt(apps, schema_editor):
    for schedule in apps.get_model("oncall", "Schedule").objects.all():
        definition = with_urls(schedule.definition, seal)
        if definition != schedule.definition:
            schedule.definition = definition
            schedule.save(update_fields=["definition"])
    for row in apps.get_model("oncall", "CalendarImport").objects.all():
        row.url = seal(row.url)
        row.save(update_fields=["url"])
    for entry in apps.get_model("access", "AuditEntry").objects.filter(object_type="schedule").iterator():
        before, after = with_urls(entry.before, shown), with_urls(entry.after, shown)
        if (before, after) != (entry.before, entry.after):
            entry.before, entry.after = before, after
            entry.save(update_fields=["before", "after"])


class Migration(migrations.Migration):
    dependencies = [("oncall", "0002_overrides_holidays_and_calendars"), ("access", "0001_initial")]

    operations = [migrations.RunPython(encrypt, migrations.RunPython.noop)]
