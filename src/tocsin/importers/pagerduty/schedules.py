"""Converts PagerDuty's schedules: layers, the higher taking precedence over the lower, and overrides over all. Pure.

See https://support.pagerduty.com/main/docs/schedule-basics. The API lists the highest layer first. A layer's turns
count from `rotation_virtual_start`; it is active from `start` to `end` and within its restrictions.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason
from tocsin.core.validation.spec_types import write_moment
from tocsin.importers import reasons, rotation_converter
from tocsin.importers.json_access import JsonObject, objects_of, parse_time
from tocsin.importers.pagerduty import reasons as product_reasons
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap, id_of, owner_group, reference_label, resolve
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation, why_unsupported
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow


def schedules(id_map: PagerdutyIdMap, documents: list[JsonObject]) -> None:
    """Adds every schedule with at least one user."""
    for document in documents:
        _schedule(id_map, document)


def _schedule(id_map: PagerdutyIdMap, document: JsonObject) -> None:
    builder, source_name = id_map.builder, str(document.get("name") or "")
    zone_name = builder.resolve_zone(document.get("time_zone"), reasons.SCHEDULE(schedule=source_name))
    zone = ZoneInfo(zone_name)
    layers = objects_of(document.get("schedule_layers"))
    shifts: list[dict[str, Any]] = []
    users: list[str] = []
    for layer_number, layer in enumerate(reversed(layers), 1):
        subject = product_reasons.SCHEDULE_LAYER(
            schedule=source_name, layer=str(layer.get("name") or f"layer {layer_number}")
        )
        try:
            rotation = _convert_layer(id_map, layer, layer_number, zone, subject)
            shifts += rotation_converter.shifts(rotation, builder.now.astimezone(zone).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError) as problem:
            reason = why_unsupported(problem)
            builder.report_omitted(subject, reasons.NOT_IN_SCHEDULE(), reason, reasons.ADD_SHIFT())
            continue
        users += [user for user in rotation.slots if user and user not in users]
    if not shifts:
        builder.report_omitted(
            reasons.SCHEDULE(schedule=source_name),
            reasons.NOT_IMPORTED(),
            product_reasons.NO_LAYER_WITH_USERS(),
            reasons.CREATE_SCHEDULE(),
        )
        return
    name = builder.claim_name("schedules", source_name)
    group = owner_group(id_map, document) or builder.add_schedule_group(source_name, name, users)
    overrides = [
        entry
        for override in objects_of(document.get("overrides"))
        for entry in _override(id_map, override, source_name)
    ]
    builder.add(
        "schedules", {"name": name, "group": group, "time_zone": zone_name, "shifts": shifts, "overrides": overrides}
    )
    id_map.schedules[id_of(document)] = name


def _convert_layer(
    id_map: PagerdutyIdMap, layer: JsonObject, layer_number: int, zone: ZoneInfo, subject: Reason
) -> ConvertedRotation:
    rotation_start, length = parse_time(layer.get("rotation_virtual_start")), layer.get("rotation_turn_length_seconds")
    start, end = parse_time(layer.get("start")), parse_time(layer.get("end"))
    if rotation_start is None or not isinstance(length, int) or not 0 < length < 10**9:
        raise UnsupportedRotation(product_reasons.TURNS_UNREADABLE())
    if length % 60:
        raise UnsupportedRotation(product_reasons.NOT_WHOLE_MINUTES())
    slots = []
    for entry in objects_of(layer.get("users")):
        reference = entry.get("user", entry)
        user = resolve(id_map.users, reference)
        if user is None:
            id_map.builder.report_omitted(
                subject,
                product_reasons.EMPTY_TURN(name=reference_label(reference)),
                reasons.NOT_A_USER(),
                reasons.EDIT_SHIFT(),
            )
        slots.append(user)
    return ConvertedRotation(
        name=f"{' '.join(str(layer.get('name') or 'Layer').split())[:60]} ({layer_number})".replace("\0", ""),
        slots=tuple(slots),
        first_handoff=_local(rotation_start, zone),
        interval=timedelta(seconds=length),
        windows=_windows(layer),
        begin=_local(start, zone) if start is not None else None,
        end=_local(end, zone) if end is not None else None,
        layer=layer_number,
    )


def _windows(layer: JsonObject) -> tuple[WeeklyWindow, ...]:
    windows: list[WeeklyWindow] = []
    for restriction in objects_of(layer.get("restrictions")):
        hour, minute = (int(part) for part in str(restriction.get("start_time_of_day")).split(":")[:2])
        start, length = hour * 60 + minute, restriction.get("duration_seconds")
        if not isinstance(length, int) or length <= 0 or not 0 <= start < weekly_windows.MINUTES_A_DAY:
            raise UnsupportedRotation(product_reasons.LAYER_RESTRICTION_UNREADABLE())
        if restriction.get("type") == "daily_restriction":
            daily_windows = rotation_converter.daily(start, length // 60)
            if not daily_windows:
                return ()
            windows += daily_windows
        else:
            day = restriction.get("start_day_of_week")
            if not isinstance(day, int) or not 1 <= day <= 7:
                raise UnsupportedRotation(product_reasons.LAYER_RESTRICTION_UNREADABLE())
            windows.append(rotation_converter.window(day - 1, start, max(1, length // 60)))
    return rotation_converter.combine(windows)


def _override(id_map: PagerdutyIdMap, document: JsonObject, schedule_name: str) -> list[dict[str, Any]]:
    since, until = parse_time(document.get("start")), parse_time(document.get("end"))
    if since is None or until is None or until <= id_map.builder.now or until <= since:
        return []
    user = resolve(id_map.users, document.get("user"))
    if user is None:
        id_map.builder.report_omitted(
            reasons.SCHEDULE_OVERRIDE(schedule=schedule_name),
            reasons.OVERRIDE_NOT_IMPORTED(start=write_moment(since), end=write_moment(until)),
            product_reasons.UNKNOWN_USER(user=reference_label(document.get("user"))),
            reasons.ENTER_OVERRIDE(),
        )
        return []
    return [{"user": user, "from": write_moment(since), "to": write_moment(until)}]


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)
