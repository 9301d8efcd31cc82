"""Converts AlertOps' shifts, with one schedule per group. Pure.

Where shifts overlap, the shorter one prevails in AlertOps, so it gets the higher layer.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tocsin.core.reasons import Reason
from tocsin.importers import reasons
from tocsin.importers.alertops import reasons as product_reasons
from tocsin.importers.alertops.people import convert_roles
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, int_of, object_of, objects_of, text_of
from tocsin.importers.rotation_converter import UnsupportedRotation, combine, why_unsupported, window
from tocsin.importers.zones import zone as known_zone
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import Weekday, WeeklyWindow
from tocsin.oncall.changes.shift_specs import MAX_LAYERS

_DAYS = tuple(day.short for day in Weekday)
_ALL = frozenset(range(len(Weekday)))


def schedules(
    builder: ConfigBuilder, documents: list[JsonObject], groups: dict[str, str], usernames: dict[str, str]
) -> None:
    """Adds one schedule for each group that has shifts."""
    for group in documents:
        shifts = [item for item in objects_of(group.get("schedules")) if item.get("enabled") is not False]
        name = groups.get(text_of(group, "group_name", "name").casefold())
        if name and shifts:
            _schedule(builder, name, group, shifts, usernames)


def _schedule(
    builder: ConfigBuilder, group: str, document: JsonObject, shifts: list[JsonObject], usernames: dict[str, str]
) -> None:
    zone = next((zone_name for item in shifts if (zone_name := known_zone(text_of(item, "time_zone")))), "UTC")
    layers = _layers(shifts)
    entries: list[dict[str, Any]] = []
    used_names: set[str] = set()
    for shift, layer in zip(shifts, layers, strict=True):
        subject = product_reasons.GROUP_SHIFT(group=group, shift=text_of(shift, "schedule_name", "name"))
        shift_zone = builder.resolve_zone(shift.get("time_zone"), subject, zone)
        try:
            converted = _shifts(builder, shift, document, usernames, subject)
        except (UnsupportedRotation, ValueError) as problem:
            reason = why_unsupported(problem)
            builder.report_omitted(subject, reasons.NOT_IN_SCHEDULE(), reason, reasons.ADD_SHIFT())
            continue
        for item in converted:
            name, suffix = item["name"], 1
            while name.casefold() in used_names:
                suffix += 1
                name = f"{item['name'][:90]} ({suffix})"
            used_names.add(name.casefold())
            entry: dict[str, Any] = {"name": name} | ({"layer": layer} if layer != 1 else {})
            entry |= {"time_zone": shift_zone} if shift_zone != zone else {}
            entries.append(entry | {key: value for key, value in item.items() if key != "name"})
        if shift.get("is_holiday_notify") is False:
            builder.report_changed(
                subject,
                product_reasons.ON_HOLIDAYS_TOO(),
                product_reasons.HOLIDAYS_THERE(),
                product_reasons.ADD_HOLIDAY_CALENDAR(),
            )
    if entries:
        name = builder.claim_name("schedules", group)
        builder.add("schedules", {"name": name, "group": group, "time_zone": zone, "shifts": entries})


def _layers(shifts: list[JsonObject]) -> list[int]:
    """A layer per shift: the longer a shift's total duration, the lower; endless ones are ordered by their hours per
    week."""

    def duration_key(shift: JsonObject) -> tuple[int, int]:
        start, end = _date(shift, "start_date"), _date(shift, "end_date")
        days = (end - start).days if start and end else 10**6
        try:
            minutes = sum(item.length * len(item.days) for item in _windows(shift)) or weekly_windows.MINUTES_A_WEEK
        except (UnsupportedRotation, ValueError):
            minutes = weekly_windows.MINUTES_A_WEEK
        return days, minutes

    order = sorted({duration_key(shift) for shift in shifts}, reverse=True)
    return [min(order.index(duration_key(shift)) + 1, MAX_LAYERS) for shift in shifts]


def _shifts(
    builder: ConfigBuilder, shift: JsonObject, group: JsonObject, usernames: dict[str, str], subject: Reason
) -> list[dict[str, Any]]:
    end = _date(shift, "end_date")
    if end is not None and end < builder.now.date() - timedelta(days=1):
        return []
    name = " ".join(text_of(shift, "schedule_name", "name").replace("\0", "").split())[:80] or "Shift"
    start = _date(shift, "start_date") or builder.now.date()
    bounds = {"start": start.isoformat()} | ({"end": end.isoformat()} if end is not None else {})
    windows = weekly_windows.write(_windows(shift))
    if text_of(shift, "schedule_type").lower().startswith("rotat"):
        rotations = _rotations(builder, shift, usernames, windows, subject)
        rotation_names = (
            [name] if len(rotations) == 1 else [f"{name}, {number}" for number in range(1, len(rotations) + 1)]
        )
        return [
            {"name": item, "rotate": rotate, **bounds} for item, rotate in zip(rotation_names, rotations, strict=True)
        ]
    interval = int_of(object_of(shift.get("repeat_schedule")), "every_x_weeks", 1)
    pattern: dict[str, Any] = {"windows": windows} | ({"every": f"{interval}w"} if 1 < interval <= 52 else {})
    if shift.get("include_all_users_in_group"):
        users = [
            usernames[key] for item in objects_of(group.get("members")) if (key := _key(item, "member")) in usernames
        ]
        return [
            {"name": name, "fixed": {**pattern, "users": _unique_usernames(users, subject), "roles": ["own"]}, **bounds}
        ]
    by_role: dict[str, list[str]] = {}
    for item in objects_of(shift.get("users")):
        if (key := _key(item, "user")) in usernames:
            for role in convert_roles(builder, item.get("role") or "primary", subject):
                by_role.setdefault(role, []).append(usernames[key])
    if not by_role:
        raise UnsupportedRotation(product_reasons.NOBODY_IMPORTED())
    return [
        {
            "name": name if len(by_role) == 1 else f"{name}, {role}",
            "fixed": {**pattern, "users": _unique_usernames(users, subject), "roles": [role]},
            **bounds,
        }
        for role, users in by_role.items()
    ]


def _rotations(
    builder: ConfigBuilder,
    shift: JsonObject,
    usernames: dict[str, str],
    windows: list[dict[str, object]],
    subject: Reason,
) -> list[dict[str, Any]]:
    """Converts a rotation through places, each with a fixed role.

    In Tocsin a rotation's places must have different roles, so if roles repeat, each place becomes a rotation of its
    own that starts with the user who is first in it.
    """
    assignments = [assignment for assignment in objects_of(shift.get("users")) if _key(assignment, "user") in usernames]
    users = [usernames[_key(assignment, "user")] for assignment in assignments]
    roles = [
        (convert_roles(builder, assignment.get("role") or "primary", subject) or ["primary"])[0]
        for assignment in assignments
    ]
    if len(set(users)) < len(users):
        raise UnsupportedRotation(product_reasons.USER_TWICE())
    frequency = text_of(shift, "rotate_frequency").lower()
    rule = object_of(shift.get(f"rotate_{frequency}"))
    units = {"daily": ("every_x_days", "d"), "weekly": ("every_x_weeks", "w"), "monthly": ("every_x_months", " months")}
    if frequency not in units or not users:
        raise UnsupportedRotation(product_reasons.NOBODY_OR_UNREADABLE())
    key, unit = units[frequency]
    at = object_of(rule.get("rotate_at_time"))
    rotate: dict[str, Any] = {
        "every": f"{int_of(rule, key, 1) or 1}{unit}",
        "at": f"{int_of(at, 'hour'):02}:{int_of(at, 'minute'):02}",
    }
    if frequency == "weekly" and (day := text_of(rule, "rotate_at_day_of_week")):
        rotate["on"] = str(weekly_windows.parse_weekday(day[:3] if len(day) > 3 else day))
    step = int_of(rule, "rotate_x_users", 1) or 1
    rotate |= {"move": step} if step != 1 else {}
    rotate |= {"windows": windows} if windows != _always() else {}
    if len(set(roles)) == len(roles):
        return [rotate | {"users": users, "roles": roles}]
    return [rotate | {"users": [*users[index:], *users[:index]], "roles": [role]} for index, role in enumerate(roles)]


def _windows(shift: JsonObject) -> tuple[WeeklyWindow, ...]:
    """The weekly windows of a shift. An end at minute 59 means the full hour after it."""
    start, end = (_minute(object_of(shift.get(key))) for key in ("start_date", "end_date"))
    if end % 60 == 59:
        end += 1
    if shift.get("continuous") and text_of(shift, "start_weekday") and text_of(shift, "end_weekday"):
        first_day = weekly_windows.parse_weekday(text_of(shift, "start_weekday")[:3]).number
        last_day = weekly_windows.parse_weekday(text_of(shift, "end_weekday")[:3]).number
        minutes = ((last_day - first_day) * weekly_windows.MINUTES_A_DAY + end - start) % weekly_windows.MINUTES_A_WEEK
        return (window(first_day, start, minutes or weekly_windows.MINUTES_A_WEEK),)
    weekdays = object_of(shift.get("schedule_weekdays"))
    enabled_days = {str(name).lower()[:3] for name, is_on in weekdays.items() if is_on is True}
    days = frozenset(index for index, name in enumerate(_DAYS) if name in enabled_days) or _ALL
    minutes = (end - start) % weekly_windows.MINUTES_A_DAY or weekly_windows.MINUTES_A_DAY
    if minutes == weekly_windows.MINUTES_A_DAY and start == 0:
        return (WeeklyWindow(days, 0, weekly_windows.MINUTES_A_DAY),)
    return combine([window(day, start, minutes) for day in sorted(days)])


def _always() -> list[dict[str, object]]:
    return weekly_windows.write((WeeklyWindow(_ALL, 0, weekly_windows.MINUTES_A_DAY),))


def _minute(time_of_day: JsonObject) -> int:
    minutes = int_of(time_of_day, "hour") * 60 + int_of(time_of_day, "minute")
    if minutes > weekly_windows.MINUTES_A_DAY:
        raise UnsupportedRotation(product_reasons.HOURS_UNREADABLE())
    return minutes


def _date(shift: JsonObject, key: str) -> date | None:
    text = text_of(object_of(shift.get(key)), "date")
    try:
        return date.fromisoformat(text[:10]) if text else None
    except ValueError:
        return None


def _key(document: JsonObject, name: str) -> str:
    return text_of(document, name, "user_name").casefold()


def _unique_usernames(users: list[str], subject: Reason) -> list[str]:
    if not users:
        raise UnsupportedRotation(product_reasons.NOBODY_IMPORTED())
    return list(dict.fromkeys(users))
