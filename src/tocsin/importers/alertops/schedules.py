"""Converts AlertOps' shifts, with one schedule per group. Pure.

Where shifts overlap, the shorter one prevails in AlertOps, so it gets the higher layer.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tocsin.importers.alertops.people import roles_of
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, object_of, objects_of, text_of, whole_of
from tocsin.importers.rotation_converter import UnsupportedRotation, combine, window
from tocsin.importers.zones import zone as known_zone
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import Weekday, WeeklyWindow
from tocsin.oncall.changes.specs import MAX_LAYERS

_DAYS = tuple(day.short for day in Weekday)
_ALL = frozenset(range(len(Weekday)))


def schedules(
    draft: ConfigBuilder, documents: list[JsonObject], groups: dict[str, str], usernames: dict[str, str]
) -> None:
    """Adds one schedule for each group that has shifts."""
    for group in documents:
        shifts = [one for one in objects_of(group.get("schedules")) if one.get("enabled") is not False]
        name = groups.get(text_of(group, "group_name", "name").casefold())
        if name and shifts:
            _schedule(draft, name, group, shifts, usernames)


def _schedule(
    draft: ConfigBuilder, group: str, document: JsonObject, shifts: list[JsonObject], names: dict[str, str]
) -> None:
    zone = next((told for one in shifts if (told := known_zone(text_of(one, "time_zone")))), "UTC")
    layers = _layers(shifts)
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for shift, layer in zip(shifts, layers, strict=True):
        subject = f"group {group}: shift {text_of(shift, 'schedule_name', 'name')}"
        own = draft.zone(shift.get("time_zone"), subject, zone)
        try:
            made = _shifts(draft, shift, document, names, subject)
        except (UnsupportedRotation, ValueError) as problem:
            why = f"{str(problem)[:200].rstrip('.')}."
            draft.leave_out(subject, "is not in the schedule", why, "Add a shift that says the same.")
            continue
        for one in made:
            name, number = one["name"], 1
            while name.casefold() in taken:
                number += 1
                name = f"{one['name'][:90]} ({number})"
            taken.add(name.casefold())
            entry: dict[str, Any] = {"name": name} | ({"layer": layer} if layer != 1 else {})
            entry |= {"time_zone": own} if own != zone else {}
            found.append(entry | {key: held for key, held in one.items() if key != "name"})
        if shift.get("is_holiday_notify") is False:
            draft.change(
                subject, "is on on holidays too", "It minds holidays there.", "Add a holiday calendar, and `skip`."
            )
    if found:
        name = draft.name("schedules", group)
        draft.add("schedules", {"name": name, "group": group, "time_zone": zone, "shifts": found})


def _layers(shifts: list[JsonObject]) -> list[int]:
    """A layer per shift: the longer a shift's total duration, the lower; endless ones are ordered by their hours per
    week."""

    def length(shift: JsonObject) -> tuple[int, int]:
        begin, end = _date(shift, "start_date"), _date(shift, "end_date")
        days = (end - begin).days if begin and end else 10**6
        try:
            minutes = sum(one.length * len(one.days) for one in _windows(shift)) or weekly_windows.MINUTES_A_WEEK
        except (UnsupportedRotation, ValueError):
            minutes = weekly_windows.MINUTES_A_WEEK
        return days, minutes

    order = sorted({length(shift) for shift in shifts}, reverse=True)
    return [min(order.index(length(shift)) + 1, MAX_LAYERS) for shift in shifts]


def _shifts(
    draft: ConfigBuilder, shift: JsonObject, group: JsonObject, names: dict[str, str], subject: str
) -> list[dict[str, Any]]:
    end = _date(shift, "end_date")
    if end is not None and end < draft.now.date() - timedelta(days=1):
        return []
    name = " ".join(text_of(shift, "schedule_name", "name").replace("\0", "").split())[:80] or "Shift"
    start = _date(shift, "start_date") or draft.now.date()
    bounds = {"start": start.isoformat()} | ({"end": end.isoformat()} if end is not None else {})
    opened = weekly_windows.write(_windows(shift))
    if text_of(shift, "schedule_type").lower().startswith("rotat"):
        rotations = _rotations(draft, shift, names, opened, subject)
        several = [name] if len(rotations) == 1 else [f"{name}, {number}" for number in range(1, len(rotations) + 1)]
        return [{"name": one, "rotate": rotate, **bounds} for one, rotate in zip(several, rotations, strict=True)]
    every = whole_of(object_of(shift.get("repeat_schedule")), "every_x_weeks", 1)
    pattern: dict[str, Any] = {"windows": opened} | ({"every": f"{every}w"} if 1 < every <= 52 else {})
    if shift.get("include_all_users_in_group"):
        users = [names[key] for one in objects_of(group.get("members")) if (key := _key(one, "member")) in names]
        return [{"name": name, "fixed": {**pattern, "users": _once(users, subject), "roles": ["own"]}, **bounds}]
    by_role: dict[str, list[str]] = {}
    for one in objects_of(shift.get("users")):
        if (key := _key(one, "user")) in names:
            for role in roles_of(draft, one.get("role") or "primary", subject):
                by_role.setdefault(role, []).append(names[key])
    if not by_role:
        raise UnsupportedRotation("Nobody who is here has it")
    return [
        {
            "name": name if len(by_role) == 1 else f"{name}, {role}",
            "fixed": {**pattern, "users": _once(users, subject), "roles": [role]},
            **bounds,
        }
        for role, users in by_role.items()
    ]


def _rotations(
    draft: ConfigBuilder, shift: JsonObject, names: dict[str, str], opened: list[dict[str, object]], subject: str
) -> list[dict[str, Any]]:
    """Converts a rotation through places, each with a fixed role.

    In Tocsin a rotation's places must have different roles, so if roles repeat, each place becomes a rotation of its
    own that starts with the user who is first in it.
    """
    several = [one for one in objects_of(shift.get("users")) if _key(one, "user") in names]
    users = [names[_key(one, "user")] for one in several]
    roles = [(roles_of(draft, one.get("role") or "primary", subject) or ["primary"])[0] for one in several]
    if len(set(users)) < len(users):
        raise UnsupportedRotation("Somebody is in its order twice")
    frequency = text_of(shift, "rotate_frequency").lower()
    rule = object_of(shift.get(f"rotate_{frequency}"))
    units = {"daily": ("every_x_days", "d"), "weekly": ("every_x_weeks", "w"), "monthly": ("every_x_months", " months")}
    if frequency not in units or not users:
        raise UnsupportedRotation("Nobody who is here has it, or its frequency cannot be read")
    key, unit = units[frequency]
    at = object_of(rule.get("rotate_at_time"))
    rotate: dict[str, Any] = {
        "every": f"{whole_of(rule, key, 1) or 1}{unit}",
        "at": f"{whole_of(at, 'hour'):02}:{whole_of(at, 'minute'):02}",
    }
    if frequency == "weekly" and (day := text_of(rule, "rotate_at_day_of_week")):
        rotate["on"] = str(weekly_windows.day(day[:3] if len(day) > 3 else day))
    move = whole_of(rule, "rotate_x_users", 1) or 1
    rotate |= {"move": move} if move != 1 else {}
    rotate |= {"windows": opened} if opened != _always() else {}
    if len(set(roles)) == len(roles):
        return [rotate | {"users": users, "roles": roles}]
    return [rotate | {"users": [*users[place:], *users[:place]], "roles": [role]} for place, role in enumerate(roles)]


def _windows(shift: JsonObject) -> tuple[WeeklyWindow, ...]:
    """The weekly windows of a shift. An end at minute 59 means the full hour after it."""
    start, end = (_minute(object_of(shift.get(key))) for key in ("start_date", "end_date"))
    if end % 60 == 59:
        end += 1
    if shift.get("continuous") and text_of(shift, "start_weekday") and text_of(shift, "end_weekday"):
        first = weekly_windows.day(text_of(shift, "start_weekday")[:3]).number
        last = weekly_windows.day(text_of(shift, "end_weekday")[:3]).number
        length = ((last - first) * weekly_windows.MINUTES_A_DAY + end - start) % weekly_windows.MINUTES_A_WEEK
        return (window(first, start, length or weekly_windows.MINUTES_A_WEEK),)
    held = object_of(shift.get("schedule_weekdays"))
    chosen = {str(name).lower()[:3] for name, is_on in held.items() if is_on is True}
    days = frozenset(number for number, name in enumerate(_DAYS) if name in chosen) or _ALL
    length = (end - start) % weekly_windows.MINUTES_A_DAY or weekly_windows.MINUTES_A_DAY
    if length == weekly_windows.MINUTES_A_DAY and start == 0:
        return (WeeklyWindow(days, 0, weekly_windows.MINUTES_A_DAY),)
    return combine([window(day, start, length) for day in sorted(days)])


def _always() -> list[dict[str, object]]:
    return weekly_windows.write((WeeklyWindow(_ALL, 0, weekly_windows.MINUTES_A_DAY),))


def _minute(held: JsonObject) -> int:
    found = whole_of(held, "hour") * 60 + whole_of(held, "minute")
    if found > weekly_windows.MINUTES_A_DAY:
        raise UnsupportedRotation("Its hours cannot be read")
    return found


def _date(shift: JsonObject, key: str) -> date | None:
    text = text_of(object_of(shift.get(key)), "date")
    try:
        return date.fromisoformat(text[:10]) if text else None
    except ValueError:
        return None


def _key(one: JsonObject, name: str) -> str:
    return text_of(one, name, "user_name").casefold()


def _once(users: list[str], subject: str) -> list[str]:
    if not users:
        raise UnsupportedRotation(f"Nobody who is here has {subject.rsplit(': ', 1)[-1]}")
    return list(dict.fromkeys(users))
