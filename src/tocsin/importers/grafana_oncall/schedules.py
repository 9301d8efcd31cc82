"""Converts OnCall's schedules: shifts by id, each with a level; overrides, and imported calendars. Pure."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from tocsin.importers.grafana_oncall import shifts
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, number_of
from tocsin.importers.json_access import JsonObject
from tocsin.importers.rotation_converter import UnsupportedRotation
from tocsin.oncall.changes.specs import MAX_LAYERS

_MAX_LEVEL = MAX_LAYERS - 2


def schedules(world: GrafanaIdMap, documents: list[JsonObject], all_shifts: list[JsonObject]) -> None:
    """Adds every schedule with at least one user."""
    by_number = {number_of(shift): shift for shift in all_shifts}
    for document in documents:
        numbers = document.get("shifts")
        several = [one for one in (numbers if isinstance(numbers, list) else []) if isinstance(one, str)]
        own = [by_number[one] for one in several if one in by_number]
        _schedule(world, document, own)


def _schedule(world: GrafanaIdMap, document: JsonObject, several: list[JsonObject]) -> None:
    draft, wanted = world.draft, str(document.get("name") or "")
    zone = draft.zone(document.get("time_zone"), f"schedule {wanted}")
    found: list[dict[str, Any]] = []
    users: list[str] = []
    names: set[str] = set()
    for shift in several:
        subject = f"schedule {wanted}: shift {shift.get('name') or number_of(shift)}"
        people = _people(world, shift, subject)
        own_zone = draft.zone(shift.get("time_zone"), subject, zone)
        layer = _layer(shift)
        try:
            event = shifts.read(shift, _named(shift, names), layer, people)
            made = shifts.shifts(event, draft.now.astimezone(ZoneInfo(own_zone)).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError, TypeError) as problem:
            why = f"{str(problem)[:200].rstrip('.')}."
            draft.leave_out(subject, "is not in the schedule", why, "Add a shift that says the same.")
            continue
        found += [_in_zone(one, own_zone, zone) for one in made]
        users += [user for turn in people for user in turn if user not in users]
    found += _calendars(document, names)
    if not found:
        draft.leave_out(
            f"schedule {wanted}",
            "is not here",
            "No shift of it has users in it, or they are over.",
            "Make one, and name it in the policies that need it.",
        )
        return
    name = draft.name("schedules", wanted)
    group = world.group(document) or draft.group_for(wanted, name, users)
    draft.add("schedules", {"name": name, "group": group, "time_zone": zone, "shifts": found})
    world.schedules[number_of(document)] = name


def _people(world: GrafanaIdMap, shift: JsonObject, subject: str) -> tuple[tuple[str, ...], ...]:
    """The users who take turns, several per turn, starting with the first."""
    rolling = shift.get("rolling_users")
    if not isinstance(rolling, list) or not rolling:
        rolling = [shift.get("users")]
    begin = shift.get("start_rotation_from_user_index")
    begin = begin % len(rolling) if isinstance(begin, int) else 0
    turns = []
    for several in rolling[begin:] + rolling[:begin]:
        known = world.known(several)
        if isinstance(several, list) and len(known) < len(set(map(str, several))):
            world.draft.leave_out(
                subject, "has fewer people in a turn", "Somebody in it is no user here.", "Add whoever it is to be."
            )
        turns.append(tuple(known))
    return tuple(turns)


def _layer(shift: JsonObject) -> int:
    """Levels start at 0; an override takes precedence over all of them."""
    if shift.get("type") == "override":
        return MAX_LAYERS
    level = shift.get("level")
    return min(level, _MAX_LEVEL) + 1 if isinstance(level, int) and level >= 0 else 1


def _in_zone(shift: dict[str, Any], own: str, schedule: str) -> dict[str, Any]:
    return shift if own == schedule else {**shift, "time_zone": own}


def _calendars(document: JsonObject, names: set[str]) -> list[dict[str, Any]]:
    """Calendars that OnCall imports: Tocsin imports them too, and matches users by name or e-mail address."""
    found = []
    for key, wanted, layer in (("ical_url_primary", "Calendar", 1), ("ical_url_overrides", "Overrides", MAX_LAYERS)):
        url = document.get(key)
        if isinstance(url, str) and url.startswith(("http://", "https://", "webcal://")) and len(url) <= 2000:
            shift: dict[str, Any] = {"name": _unique(wanted, names)}
            shift |= {"layer": layer} if layer != 1 else {}
            found.append({**shift, "calendar": {"url": url, "roles": ["primary"]}})
    return found


def _named(shift: JsonObject, names: set[str]) -> str:
    return _unique(" ".join(str(shift.get("name") or "Shift").replace("\0", "").split())[:80] or "Shift", names)


def _unique(wanted: str, names: set[str]) -> str:
    name, number = wanted, 1
    while name.casefold() in names:
        number += 1
        name = f"{wanted} ({number})"
    names.add(name.casefold())
    return name
