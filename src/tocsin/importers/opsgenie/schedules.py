"""Converts Opsgenie's schedules: parallel rotations with restrictions, and overrides of all or some rotations. Pure.

See https://support.atlassian.com/opsgenie/docs/manage-on-call-schedules-and-rotations/. Rotations count from their
start, handoffs also occur outside restricted times, and an overriding user is on call for the whole override.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason
from tocsin.core.validation.spec_types import write_moment
from tocsin.importers import reasons, rotation_converter
from tocsin.importers.json_access import JsonObject, objects_of, parse_time
from tocsin.importers.opsgenie import reasons as product_reasons
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, keys, open_windows, resolve
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation, why_unsupported

_UNITS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}


def schedules(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every schedule with at least one user; one without a team gets its own group."""
    for document in documents:
        _schedule(id_map, document)


def _schedule(id_map: OpsgenieIdMap, document: JsonObject) -> None:
    builder, source_name = id_map.builder, str(document.get("name") or "")
    references = list(keys(document, "name"))
    id_map.schedules |= dict.fromkeys(references, None)
    if document.get("enabled") is False:
        id_map.disabled_schedules.update(references)
        builder.report_omitted(
            reasons.SCHEDULE(schedule=source_name), reasons.NOT_IMPORTED(), product_reasons.DISABLED_THERE()
        )
        return
    zone_name = builder.resolve_zone(document.get("timezone"), reasons.SCHEDULE(schedule=source_name))
    rotations = _Rotations(id_map, source_name, ZoneInfo(zone_name))
    for rotation in objects_of(document.get("rotations")):
        rotations.add(rotation)
    if not rotations.shifts:
        builder.report_omitted(
            reasons.SCHEDULE(schedule=source_name),
            reasons.NOT_IMPORTED(),
            product_reasons.NO_ROTATION_WITH_USERS(),
            reasons.CREATE_SCHEDULE(),
        )
        return
    name = builder.claim_name("schedules", source_name)
    group = resolve(id_map.groups, document.get("ownerTeam")) or builder.add_schedule_group(
        source_name, name, rotations.users
    )
    overrides = [entry for item in objects_of(document.get("overrides")) for entry in rotations.override(item)]
    builder.add(
        "schedules",
        {"name": name, "group": group, "time_zone": zone_name, "shifts": rotations.shifts, "overrides": overrides},
    )
    id_map.schedules |= dict.fromkeys(references, name)
    id_map.group_by_schedule[name] = group


class _Rotations:
    """The rotations of one schedule during its conversion."""

    def __init__(self, id_map: OpsgenieIdMap, schedule: str, zone: ZoneInfo) -> None:
        self.id_map, self.builder, self.schedule, self.zone = id_map, id_map.builder, schedule, zone
        self.shifts: list[dict[str, Any]] = []
        self.users: list[str] = []
        self._names: set[str] = set()
        #: The names of a rotation's shifts, by its id and name.
        self._shift_names_by_key: dict[str, list[str]] = {}
        #: Rotations with times when nobody is on call.
        self._with_gaps: set[str] = set()
        self._count = 0

    def add(self, rotation: JsonObject) -> None:
        """Adds a rotation's shifts."""
        subject = product_reasons.SCHEDULE_ROTATION(
            schedule=self.schedule, rotation=str(rotation.get("name") or self._count + 1)
        )
        self._count += 1
        try:
            converted = self._convert_rotation(rotation, subject)
            shifts = rotation_converter.shifts(converted, self.builder.now.astimezone(self.zone).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError) as problem:
            self.builder.report_omitted(
                subject,
                reasons.NOT_IN_SCHEDULE(),
                why_unsupported(problem),
                reasons.ADD_SHIFT(),
            )
            return
        if shifts and converted.interval % timedelta(days=1):
            self.builder.report_changed(
                subject,
                product_reasons.LOCAL_HANDOFFS(),
                product_reasons.NOT_WHOLE_DAYS(),
            )
        self.shifts += shifts
        self.users += [user for user in converted.slots if user and user not in self.users]
        for key in keys(rotation, "name"):
            self._shift_names_by_key[key] = [shift["name"] for shift in shifts]
            if converted.windows or None in converted.slots:
                self._with_gaps.add(key)

    def override(self, document: JsonObject) -> list[dict[str, Any]]:
        """A current or future override: one for the whole schedule, or one per shift of its rotations."""
        since, until = parse_time(document.get("startDate")), parse_time(document.get("endDate"))
        if since is None or until is None or until <= self.builder.now or until <= since:
            return []
        user = self.id_map.find_user(document.get("user"))
        alias = str(document.get("alias") or "")
        subject = reasons.SCHEDULE_OVERRIDE(schedule=self.schedule)
        if alias:
            subject = product_reasons.NAMED_OVERRIDE(schedule=self.schedule, override=alias)
        if user is None:
            self.builder.report_omitted(
                subject,
                reasons.OVERRIDE_NOT_IMPORTED(start=write_moment(since), end=write_moment(until)),
                product_reasons.OVERRIDE_FOR_NOBODY(),
                reasons.ENTER_OVERRIDE(),
            )
            return []
        if user not in self.users:
            self.users.append(user)
        entry = {"user": user, "from": write_moment(since), "to": write_moment(until)}
        rotation_references = objects_of(document.get("rotations"))
        if not rotation_references or len(rotation_references) >= self._count:
            return [entry]
        if any(key in self._with_gaps for item in rotation_references for key in keys(item, "name")):
            self.builder.report_changed(
                subject,
                product_reasons.OVERRIDE_WITHIN_ROTATION(start=write_moment(since), end=write_moment(until)),
                product_reasons.OVERRIDE_OF_RESTRICTED(),
                product_reasons.OVERRIDE_SCHEDULE(user=user),
            )
        shifts = [name for item in rotation_references for name in resolve(self._shift_names_by_key, item) or []]
        return [{**entry, "shift": name} for name in dict.fromkeys(shifts)]

    def _convert_rotation(self, rotation: JsonObject, subject: Reason) -> ConvertedRotation:
        unit = _UNITS.get(str(rotation.get("type")).lower())
        start = parse_time(rotation.get("startDate"))
        length = rotation.get("length") or 1
        if unit is None or start is None or not isinstance(length, int) or not 0 < length < 10_000:
            raise UnsupportedRotation(product_reasons.ROTATION_UNREADABLE())
        end = parse_time(rotation.get("endDate"))
        return ConvertedRotation(
            name=self._unique_shift_name(str(rotation.get("name") or f"Rotation {self._count}")),
            slots=tuple(self._slot(participant, subject) for participant in objects_of(rotation.get("participants"))),
            first_handoff=self._local(start),
            interval=unit * length,
            windows=open_windows(rotation.get("timeRestriction")),
            end=self._local(end) if end is not None else None,
        )

    def _slot(self, participant: JsonObject, subject: Reason) -> str | None:
        kind = str(participant.get("type") or "user").lower()
        if kind == "none":
            return None
        user = self.id_map.find_user(participant) if kind == "user" else None
        if user is None:
            label = participant.get("username") or participant.get("name") or participant.get("id")
            reason = reasons.NOT_A_USER() if kind == "user" else product_reasons.SHIFT_HAS_USERS()
            self.builder.report_omitted(
                subject, product_reasons.EMPTY_TURN_OF_KIND(kind=kind, name=str(label)), reason, reasons.EDIT_SHIFT()
            )
        return user

    def _local(self, at: datetime) -> datetime:
        return at.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0)

    def _unique_shift_name(self, requested: str) -> str:
        name = " ".join(requested.replace("\0", "").split())[:80] or f"Rotation {self._count}"
        unique, suffix = name, 1
        while unique.casefold() in self._names:
            suffix += 1
            unique = f"{name} ({suffix})"
        self._names.add(unique.casefold())
        return unique
