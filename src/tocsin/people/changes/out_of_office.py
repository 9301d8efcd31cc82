"""Absences (out of office): when a user is away, and who covers. Validates changes and writes the audit log.

A spec has the form of YAML and the API. The caller checks permissions first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import QuerySet

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.people.models import Group, OutOfOffice, OutOfOfficeCover, User

#: Maximum current and future absences of a user.
MAX_ABSENCES = 200


@dataclass(frozen=True, slots=True)
class AbsenceSpec:
    """An absence with users and groups by name. `place` is the prefix of its keys in error messages."""

    starts_at: datetime
    ends_at: datetime
    cover: str | None
    covers: Mapping[str, str]
    note: str
    place: str


def current(user: User, now: datetime) -> list[OutOfOffice]:
    """Returns the user's current and future absences, by start."""
    return list(rows().filter(user=user, ends_at__gt=now))


def rows() -> QuerySet[OutOfOffice]:
    """Returns all absences, with everything that a spec needs."""
    return OutOfOffice.objects.select_related("user", "cover").prefetch_related("covers__user", "covers__group")


def absence_spec(absence: OutOfOffice) -> dict[str, Any]:
    """Returns the absence in the form of the API."""
    return {"user": absence.user.username, **nested_spec(absence)}


def nested_spec(absence: OutOfOffice) -> dict[str, Any]:
    """Returns the absence in the form that YAML nests under its user."""
    spec: dict[str, Any] = {"from": _written(absence.starts_at), "to": _written(absence.ends_at)}
    if absence.cover:
        spec["cover"] = absence.cover.username
    covers = {cover.group.name: cover.user.username for cover in absence.covers.all()}
    if covers:
        spec["covers"] = dict(sorted(covers.items()))
    if absence.note:
        spec["note"] = absence.note
    return spec


def save_absence(
    user: User, spec: Mapping[str, object], *, existing: OutOfOffice | None = None, actor: AuditActor, now: datetime
) -> OutOfOffice:
    """Adds an absence of the user, or changes `existing` to match the spec.

    Raises Rejected, naming the field, for example if it is over or overlaps another of the user's absences ("overlap").
    """
    with transaction.atomic():
        config_version.lock()
        outer = ObjectReader(spec)
        read = _read(outer, user.time_zone)
        outer.check()
        if read.ends_at <= now:
            raise Rejected("invalid", "to: is over already.", "to")
        others = [one for one in current(user, now) if existing is None or one.pk != existing.pk]
        _refuse_overlaps(user, [(one.starts_at, one.ends_at, "") for one in others], read)
        before = absence_spec(existing) if existing else None
        absence = existing or OutOfOffice(user=user)
        _refuse_switched_off(read)
        _write(absence, read)
        _record(absence, before, absence_spec(rows().get(pk=absence.pk)), actor, now)
    return absence


def delete_absence(absence: OutOfOffice, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an absence. The user is on call again as scheduled."""
    with transaction.atomic():
        config_version.lock()
        _record(absence, absence_spec(absence), None, actor, now)
        absence.delete()


def replace_all(user: User, wanted: object, *, actor: AuditActor, now: datetime) -> bool:
    """Replaces the user's current and future absences with a list of specs; past ones stay.

    Returns False if nothing changed. Raises Rejected, naming the field from `out_of_office` on.
    """
    with transaction.atomic():
        config_version.lock()
        outer = ObjectReader({"out_of_office": wanted})
        found = [_read(one, user.time_zone) for one in outer.specs("out_of_office")]
        outer.check()
        coming = [read for read in found if read.ends_at > now]
        if len(coming) > MAX_ABSENCES:
            raise Rejected("invalid", f"out_of_office: a user has at most {MAX_ABSENCES}.", "out_of_office")
        for number, read in enumerate(coming):
            earlier = [(one.starts_at, one.ends_at, one.place) for one in coming[:number]]
            _refuse_overlaps(user, earlier, read)
        held = current(user, now)
        before = [nested_spec(one) for one in held]
        for gone in held:
            gone.delete()
        for read in coming:
            _write(OutOfOffice(user=user), read)
        after = [nested_spec(one) for one in current(user, now)]
        # All rows are rewritten, then compared, so that an unchanged list adds no audit entry.
        if before == after:
            return False
        audit.record_change(
            actor,
            now=now,
            object_type="out_of_office",
            object_id=user.pk,
            object_name=user.username,
            before={"out_of_office": before},
            after={"out_of_office": after},
        )
        config_version.bump()
    return True


def absences_using_user(user_id: int, now: datetime) -> list[str]:
    """Returns the current and future absences that this user covers, which prevent the user's deletion."""
    coming = OutOfOffice.objects.filter(ends_at__gt=now).select_related("user")
    covering = coming.filter(cover=user_id) | coming.filter(covers__user=user_id)
    return [f"the absence of {absence.user.username}" for absence in covering.distinct()]


def _read(spec: ObjectReader, zone: str) -> AbsenceSpec:
    starts_at, ends_at = _moment(spec, "from", zone), _moment(spec, "to", zone)
    if spec.has("from") and spec.has("to") and ends_at <= starts_at:
        spec.refuse("to", "is not after from.")
    covers: dict[str, str] = {}
    given = spec.raw("covers", {})
    if not isinstance(given, Mapping):
        spec.refuse("covers", "must be groups with a user each, such as {Service Desk: bob}.")
    else:
        folded = [str(group).casefold() for group in given]
        for group, user in given.items():
            if folded.count(str(group).casefold()) > 1:
                spec.refuse("covers", f'"{group}" is there twice.')
            elif isinstance(user, str) and user.strip():
                covers[str(group)] = user.strip()
            else:
                spec.refuse("covers", f'"{group}" needs a user\'s name.')
    read = AbsenceSpec(
        starts_at,
        ends_at,
        spec.text("cover") or None,
        covers,
        spec.text("note"),
        spec.place("from").removesuffix("from"),
    )
    spec.done()
    return read


def _moment(spec: ObjectReader, key: str, zone: str) -> datetime:
    """Reads a required time, with an offset or Z, or local in `zone`. Returns it in UTC."""
    text = spec.text(key, required=True, longest=40)
    if text:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            found = None
        # A date alone does not say whether it is the last day away or the first day back.
        if found is not None and len(text) >= len("2026-12-24T17:00") and 1970 < found.year < 2200:
            return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
        spec.refuse(key, f'"{text}" is not a moment; write it like 2026-12-24T17:00 or 2026-12-24T16:00:00Z.')
    return datetime(1970, 1, 1, tzinfo=UTC)


def _refuse_overlaps(user: User, others: Iterable[tuple[datetime, datetime, str]], read: AbsenceSpec) -> None:
    for starts_at, ends_at, _place in others:
        if starts_at < read.ends_at and read.starts_at < ends_at:
            zone = ZoneInfo(user.time_zone)
            since, until = starts_at.astimezone(zone), ends_at.astimezone(zone)
            raise Rejected(
                "overlap",
                f"{read.place}from: {user.display_name} is away already from {since:%a %d %b %Y %H:%M} to "
                f"{until:%a %d %b %Y %H:%M} ({zone.key}); two absences may not overlap.",
                f"{read.place}from",
            )


def _write(absence: OutOfOffice, read: AbsenceSpec) -> None:
    cover = _user(read.cover, f"{read.place}cover", absence.user) if read.cover else None
    covers = [
        (_group(group, f"{read.place}covers"), _user(user, f"{read.place}covers", absence.user))
        for group, user in read.covers.items()
    ]
    absence.starts_at, absence.ends_at = read.starts_at, read.ends_at
    absence.cover, absence.note = cover, read.note
    absence.save()
    absence.covers.all().delete()
    OutOfOfficeCover.objects.bulk_create(
        OutOfOfficeCover(absence=absence, group=group, user=user) for group, user in covers
    )


def _user(name: str, place: str, away: User) -> User:
    found = User.objects.filter(username__iexact=name).first()
    if found is None:
        raise Rejected("not_found", f'{place}: there is no user "{name}".', place)
    if found.pk == away.pk:
        raise Rejected("invalid", f"{place}: {found.display_name} cannot cover for themselves.", place)
    return found


def _refuse_switched_off(read: AbsenceSpec) -> None:
    """Rejects deactivated users as covers. A file may still name a user who was deactivated since; such a gap is
    reported with the coverage gaps."""
    for name, key in ((read.cover, "cover"), *((user, "covers") for user in read.covers.values())):
        found = User.objects.filter(username__iexact=name, is_active=False).first() if name else None
        if found is not None:
            place = f"{read.place}{key}"
            raise Rejected("invalid", f"{place}: {found.display_name} is switched off.", place)


def _group(name: str, place: str) -> Group:
    found = Group.objects.filter(name__iexact=name).first()
    if found is None:
        raise Rejected("not_found", f'{place}: there is no group "{name}".', place)
    return found


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _record(
    absence: OutOfOffice, before: dict[str, Any] | None, after: dict[str, Any] | None, actor: AuditActor, now: datetime
) -> None:
    if audit.record_change(
        actor,
        now=now,
        object_type="out_of_office",
        object_id=absence.pk,
        object_name=absence.user.username,
        before=before,
        after=after,
    ):
        config_version.bump()
