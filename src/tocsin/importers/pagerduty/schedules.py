"""Converts PagerDuty's schedules: layers, the higher taking precedence over the lower, and overrides over all. Pure.

See https://support.pagerduty.com/main/docs/schedule-basics. The API lists the highest layer first. A layer's turns
count from `rotation_virtual_start`; it is active from `start` to `end` and within its restrictions.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.importers import rotation_converter
from tocsin.importers.json_access import JsonObject, moment, objects_of
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap, found, number_of, owner, said
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow
from tocsin.oncall.changes.specs import write_moment


def schedules(world: PagerdutyIdMap, documents: list[JsonObject]) -> None:
    """Adds every schedule with at least one user."""
    for document in documents:
        _schedule(world, document)


def _schedule(world: PagerdutyIdMap, document: JsonObject) -> None:
    draft, wanted = world.draft, str(document.get("name") or "")
    zone_name = draft.zone(document.get("time_zone"), f"schedule {wanted}")
    zone = ZoneInfo(zone_name)
    layers = objects_of(document.get("schedule_layers"))
    shifts: list[dict[str, Any]] = []
    users: list[str] = []
    for number, layer in enumerate(reversed(layers), 1):
        subject = f"schedule {wanted}: {layer.get('name') or f'layer {number}'}"
        try:
            read = _turns(world, layer, number, zone, subject)
            shifts += rotation_converter.shifts(read, draft.now.astimezone(zone).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError) as problem:
            why = f"{str(problem)[:200].rstrip('.')}."
            draft.leave_out(subject, "is not in the schedule", why, "Add a shift that says the same.")
            continue
        users += [user for user in read.slots if user and user not in users]
    if not shifts:
        draft.leave_out(
            f"schedule {wanted}",
            "is not here",
            "No layer of it has users in it, or they are over.",
            "Make one, and name it in the policies that need it.",
        )
        return
    name = draft.name("schedules", wanted)
    group = owner(world, document) or draft.group_for(wanted, name, users)
    overrides = [entry for one in objects_of(document.get("overrides")) for entry in _override(world, one, wanted)]
    draft.add(
        "schedules", {"name": name, "group": group, "time_zone": zone_name, "shifts": shifts, "overrides": overrides}
    )
    world.schedules[number_of(document)] = name


def _turns(world: PagerdutyIdMap, layer: JsonObject, number: int, zone: ZoneInfo, subject: str) -> ConvertedRotation:
    first, length = moment(layer.get("rotation_virtual_start")), layer.get("rotation_turn_length_seconds")
    start, end = moment(layer.get("start")), moment(layer.get("end"))
    if first is None or not isinstance(length, int) or not 0 < length < 10**9:
        raise UnsupportedRotation("Its turns cannot be read")
    if length % 60:
        raise UnsupportedRotation("Its turns are no whole minutes")
    slots = []
    for entry in objects_of(layer.get("users")):
        reference = entry.get("user", entry)
        user = found(world.users, reference)
        if user is None:
            world.draft.leave_out(
                subject,
                f"has nobody in the turn of {said(reference)}",
                "It is no user here.",
                "Say who it is to be: edit the shift.",
            )
        slots.append(user)
    return ConvertedRotation(
        name=f"{' '.join(str(layer.get('name') or 'Layer').split())[:60]} ({number})".replace("\0", ""),
        slots=tuple(slots),
        first=_local(first, zone),
        every=timedelta(seconds=length),
        windows=_windows(layer),
        begin=_local(start, zone) if start is not None else None,
        end=_local(end, zone) if end is not None else None,
        layer=number,
    )


def _windows(layer: JsonObject) -> tuple[WeeklyWindow, ...]:
    found: list[WeeklyWindow] = []
    for one in objects_of(layer.get("restrictions")):
        hour, minute = (int(part) for part in str(one.get("start_time_of_day")).split(":")[:2])
        start, length = hour * 60 + minute, one.get("duration_seconds")
        if not isinstance(length, int) or length <= 0 or not 0 <= start < weekly_windows.MINUTES_A_DAY:
            raise UnsupportedRotation("A restriction of it cannot be read")
        if one.get("type") == "daily_restriction":
            each = rotation_converter.daily(start, length // 60)
            if not each:
                return ()
            found += each
        else:
            day = one.get("start_day_of_week")
            if not isinstance(day, int) or not 1 <= day <= 7:
                raise UnsupportedRotation("A restriction of it cannot be read")
            found.append(rotation_converter.window(day - 1, start, max(1, length // 60)))
    return rotation_converter.combine(found)


def _override(world: PagerdutyIdMap, document: JsonObject, wanted: str) -> list[dict[str, Any]]:
    since, until = moment(document.get("start")), moment(document.get("end"))
    if since is None or until is None or until <= world.draft.now or until <= since:
        return []
    user = found(world.users, document.get("user"))
    if user is None:
        world.draft.leave_out(
            f"schedule {wanted}: override",
            f"from {write_moment(since)} to {write_moment(until)} is not here",
            f"{said(document.get('user'))} is no user here.",
            "Enter who is on call then.",
        )
        return []
    return [{"user": user, "from": write_moment(since), "to": write_moment(until)}]


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)
