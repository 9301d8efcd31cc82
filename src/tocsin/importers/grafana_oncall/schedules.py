"""Converts OnCall's schedules: shifts by id, each with a level; overrides, and imported calendars. Pure."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason
from tocsin.importers import reasons
from tocsin.importers.grafana_oncall import reasons as product_reasons
from tocsin.importers.grafana_oncall import shifts
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, id_of
from tocsin.importers.json_access import JsonObject
from tocsin.importers.rotation_converter import UnsupportedRotation, why_unsupported
from tocsin.oncall.changes.shift_specs import MAX_LAYERS

_MAX_LEVEL = MAX_LAYERS - 2


def schedules(id_map: GrafanaIdMap, documents: list[JsonObject], all_shifts: list[JsonObject]) -> None:
    """Adds every schedule with at least one user."""
    shifts_by_id = {id_of(shift): shift for shift in all_shifts}
    for document in documents:
        shift_ids = document.get("shifts")
        valid_ids = [item for item in (shift_ids if isinstance(shift_ids, list) else []) if isinstance(item, str)]
        own_shifts = [shifts_by_id[item] for item in valid_ids if item in shifts_by_id]
        _schedule(id_map, document, own_shifts)


def _schedule(id_map: GrafanaIdMap, document: JsonObject, source_shifts: list[JsonObject]) -> None:
    builder, source_name = id_map.builder, str(document.get("name") or "")
    zone = builder.resolve_zone(document.get("time_zone"), reasons.SCHEDULE(schedule=source_name))
    entries: list[dict[str, Any]] = []
    users: list[str] = []
    names: set[str] = set()
    for shift in source_shifts:
        subject = product_reasons.SCHEDULE_SHIFT(schedule=source_name, shift=str(shift.get("name") or id_of(shift)))
        rotation = _rotation_members(id_map, shift, subject)
        shift_zone = builder.resolve_zone(shift.get("time_zone"), subject, zone)
        layer = _layer(shift)
        try:
            event = shifts.read(shift, _shift_name(shift, names), layer, rotation)
            converted = shifts.shifts(event, builder.now.astimezone(ZoneInfo(shift_zone)).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError, TypeError) as problem:
            reason = why_unsupported(problem)
            builder.report_omitted(subject, reasons.NOT_IN_SCHEDULE(), reason, reasons.ADD_SHIFT())
            continue
        entries += [_in_zone(entry, shift_zone, zone) for entry in converted]
        users += [user for members in rotation for user in members if user not in users]
    entries += _calendars(document, names)
    if not entries:
        builder.report_omitted(
            reasons.SCHEDULE(schedule=source_name),
            reasons.NOT_IMPORTED(),
            product_reasons.NO_SHIFT_WITH_USERS(),
            reasons.CREATE_SCHEDULE(),
        )
        return
    name = builder.claim_name("schedules", source_name)
    group = id_map.group(document) or builder.add_schedule_group(source_name, name, users)
    builder.add("schedules", {"name": name, "group": group, "time_zone": zone, "shifts": entries})
    id_map.schedules[id_of(document)] = name


def _rotation_members(id_map: GrafanaIdMap, shift: JsonObject, subject: Reason) -> tuple[tuple[str, ...], ...]:
    """The users who take turns, several per turn, starting with the first."""
    rolling_users = shift.get("rolling_users")
    if not isinstance(rolling_users, list) or not rolling_users:
        rolling_users = [shift.get("users")]
    start_index = shift.get("start_rotation_from_user_index")
    start_index = start_index % len(rolling_users) if isinstance(start_index, int) else 0
    rotation = []
    for source_ids in rolling_users[start_index:] + rolling_users[:start_index]:
        usernames = id_map.known_usernames(source_ids)
        if isinstance(source_ids, list) and len(usernames) < len(set(map(str, source_ids))):
            id_map.builder.report_omitted(
                subject,
                product_reasons.FEWER_IN_TURN(),
                product_reasons.SOMEBODY_UNKNOWN(),
                product_reasons.ADD_MISSING_USER(),
            )
        rotation.append(tuple(usernames))
    return tuple(rotation)


def _layer(shift: JsonObject) -> int:
    """Levels start at 0; an override takes precedence over all of them."""
    if shift.get("type") == "override":
        return MAX_LAYERS
    level = shift.get("level")
    return min(level, _MAX_LEVEL) + 1 if isinstance(level, int) and level >= 0 else 1


def _in_zone(shift: dict[str, Any], shift_zone: str, schedule_zone: str) -> dict[str, Any]:
    return shift if shift_zone == schedule_zone else {**shift, "time_zone": shift_zone}


def _calendars(document: JsonObject, names: set[str]) -> list[dict[str, Any]]:
    """Calendars that OnCall imports: Tocsin imports them too, and matches users by name or e-mail address."""
    entries = []
    for key, label, layer in (("ical_url_primary", "Calendar", 1), ("ical_url_overrides", "Overrides", MAX_LAYERS)):
        url = document.get(key)
        if isinstance(url, str) and url.startswith(("http://", "https://", "webcal://")) and len(url) <= 2000:
            shift: dict[str, Any] = {"name": _unique_name(label, names)}
            shift |= {"layer": layer} if layer != 1 else {}
            entries.append({**shift, "calendar": {"url": url, "roles": ["primary"]}})
    return entries


def _shift_name(shift: JsonObject, names: set[str]) -> str:
    return _unique_name(" ".join(str(shift.get("name") or "Shift").replace("\0", "").split())[:80] or "Shift", names)


def _unique_name(base_name: str, names: set[str]) -> str:
    name, suffix = base_name, 1
    while name.casefold() in names:
        suffix += 1
        name = f"{base_name} ({suffix})"
    names.add(name.casefold())
    return name
