"""Converts Opsgenie's schedules: parallel rotations with restrictions, and overrides of all or some rotations. Pure.

See https://support.atlassian.com/opsgenie/docs/manage-on-call-schedules-and-rotations/. Rotations count from their
start, handoffs also occur outside restricted times, and an overriding user is on call for the whole override.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.importers import rotation_converter
from tocsin.importers.json_access import JsonObject, moment, objects_of
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, found, keys, open_windows
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation
from tocsin.oncall.changes.specs import write_moment

_UNITS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}


def schedules(world: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every schedule with at least one user; one without a team gets its own group."""
    for document in documents:
        _schedule(world, document)


def _schedule(world: OpsgenieIdMap, document: JsonObject) -> None:
    draft, wanted = world.draft, str(document.get("name") or "")
    references = list(keys(document, "name"))
    world.schedules |= dict.fromkeys(references, None)
    if document.get("enabled") is False:
        world.off.update(references)
        draft.leave_out(f"schedule {wanted}", "is not here", "It is switched off in Opsgenie.")
        return
    zone_name = draft.zone(document.get("timezone"), f"schedule {wanted}")
    rotations = _Rotations(world, wanted, ZoneInfo(zone_name))
    for rotation in objects_of(document.get("rotations")):
        rotations.add(rotation)
    if not rotations.shifts:
        draft.leave_out(
            f"schedule {wanted}",
            "is not here",
            "No rotation of it has users in it, or they are over.",
            "Make one, and name it in the policies that need it.",
        )
        return
    name = draft.name("schedules", wanted)
    group = found(world.groups, document.get("ownerTeam")) or draft.group_for(wanted, name, rotations.users)
    overrides = [entry for one in objects_of(document.get("overrides")) for entry in rotations.override(one)]
    draft.add(
        "schedules",
        {"name": name, "group": group, "time_zone": zone_name, "shifts": rotations.shifts, "overrides": overrides},
    )
    world.schedules |= dict.fromkeys(references, name)
    world.group_of[name] = group


class _Rotations:
    """The rotations of one schedule during its conversion."""

    def __init__(self, world: OpsgenieIdMap, schedule: str, zone: ZoneInfo) -> None:
        self.world, self.draft, self.schedule, self.zone = world, world.draft, schedule, zone
        self.shifts: list[dict[str, Any]] = []
        self.users: list[str] = []
        self._names: set[str] = set()
        #: The names of a rotation's shifts, by its id and name.
        self._of: dict[str, list[str]] = {}
        #: Rotations with times when nobody is on call.
        self._with_gaps: set[str] = set()
        self._count = 0

    def add(self, rotation: JsonObject) -> None:
        """Adds a rotation's shifts."""
        subject = f"schedule {self.schedule}: rotation {rotation.get('name') or self._count + 1}"
        self._count += 1
        try:
            read = self._turns(rotation, subject)
            found = rotation_converter.shifts(read, self.draft.now.astimezone(self.zone).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError) as problem:
            self.draft.leave_out(
                subject,
                "is not in the schedule",
                f"{str(problem)[:200].rstrip('.')}.",
                "Add a shift that says the same.",
            )
            return
        if found and read.every % timedelta(days=1):
            self.draft.change(
                subject,
                "keeps its hand-offs to the clock on the wall",
                "Its turns are no whole days, and may move by an hour when clocks change.",
            )
        self.shifts += found
        self.users += [user for user in read.slots if user and user not in self.users]
        for key in keys(rotation, "name"):
            self._of[key] = [shift["name"] for shift in found]
            if read.windows or None in read.slots:
                self._with_gaps.add(key)

    def override(self, document: JsonObject) -> list[dict[str, Any]]:
        """A current or future override: one for the whole schedule, or one per shift of its rotations."""
        since, until = moment(document.get("startDate")), moment(document.get("endDate"))
        if since is None or until is None or until <= self.draft.now or until <= since:
            return []
        user = self.world.user(document.get("user"))
        subject = f"schedule {self.schedule}: override {document.get('alias') or ''}".rstrip()
        if user is None:
            self.draft.leave_out(
                subject,
                f"from {write_moment(since)} to {write_moment(until)} is not here",
                "It is for nobody, or for somebody who is no user here.",
                "Enter who is on call then.",
            )
            return []
        if user not in self.users:
            self.users.append(user)
        entry = {"user": user, "from": write_moment(since), "to": write_moment(until)}
        named = objects_of(document.get("rotations"))
        if not named or len(named) >= self._count:
            return [entry]
        if any(key in self._with_gaps for one in named for key in keys(one, "name")):
            self.draft.change(
                subject,
                f"from {write_moment(since)} to {write_moment(until)} holds while its rotation is on",
                "It is for a rotation with restrictions; there it holds all the time, here it replaces who has it.",
                f"Enter an override of the whole schedule if {user} is meant to be on call in between too.",
            )
        shifts = [name for one in named for name in found(self._of, one) or []]
        return [{**entry, "shift": name} for name in dict.fromkeys(shifts)]

    def _turns(self, rotation: JsonObject, subject: str) -> ConvertedRotation:
        unit = _UNITS.get(str(rotation.get("type")).lower())
        first = moment(rotation.get("startDate"))
        length = rotation.get("length") or 1
        if unit is None or first is None or not isinstance(length, int) or not 0 < length < 10_000:
            raise UnsupportedRotation("Its type, length or start cannot be read")
        end = moment(rotation.get("endDate"))
        return ConvertedRotation(
            name=self._named(str(rotation.get("name") or f"Rotation {self._count}")),
            slots=tuple(self._slot(one, subject) for one in objects_of(rotation.get("participants"))),
            first=self._local(first),
            every=unit * length,
            windows=open_windows(rotation.get("timeRestriction")),
            end=self._local(end) if end is not None else None,
        )

    def _slot(self, participant: JsonObject, subject: str) -> str | None:
        kind = str(participant.get("type") or "user").lower()
        if kind == "none":
            return None
        user = self.world.user(participant) if kind == "user" else None
        if user is None:
            who = participant.get("username") or participant.get("name") or participant.get("id")
            why = "It is no user here." if kind == "user" else "A shift here has users, no team and no escalation."
            self.draft.leave_out(
                subject, f"has nobody in the turn of {kind} {who}", why, "Say who it is to be: edit the shift."
            )
        return user

    def _local(self, at: datetime) -> datetime:
        return at.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0)

    def _named(self, wanted: str) -> str:
        name = " ".join(wanted.replace("\0", "").split())[:80] or f"Rotation {self._count}"
        unique, number = name, 1
        while unique.casefold() in self._names:
            number += 1
            unique = f"{name} ({number})"
        self._names.add(unique.casefold())
        return unique
