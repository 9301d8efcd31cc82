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
from tocsin.core import object_hooks
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.people.models import Group, OutOfOffice, OutOfOfficeCover, User

#: Maximum current and future absences of a user.
MAX_ABSENCES = 200


@dataclass(frozen=True, slots=True)
class AbsenceSpec:
    """An absence with users and groups by name. `path_prefix` is the prefix of its keys in error messages."""

    starts_at: datetime
    ends_at: datetime
    cover: str | None
    covers: Mapping[str, str]
    note: str
    path_prefix: str


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
    spec: dict[str, Any] = {"from": _format_time(absence.starts_at), "to": _format_time(absence.ends_at)}
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
        reader = ObjectReader(spec)
        parsed = _read(reader, user.time_zone)
        reader.raise_errors()
        if parsed.ends_at <= now:
            raise Rejected("invalid", "to: is over already.", "to")
        others = [other for other in current(user, now) if existing is None or other.pk != existing.pk]
        _reject_overlaps(user, [(other.starts_at, other.ends_at, "") for other in others], parsed)
        before = absence_spec(existing) if existing else None
        absence = existing or OutOfOffice(user=user)
        _reject_inactive_covers(parsed)
        _write(absence, parsed)
        _record(absence, before, absence_spec(rows().get(pk=absence.pk)), actor, now)
    return absence


def delete_absence(absence: OutOfOffice, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an absence. The user is on call again as scheduled."""
    with transaction.atomic():
        config_version.lock()
        _record(absence, absence_spec(absence), None, actor, now)
        absence.delete()


def replace_all(user: User, specs: object, *, actor: AuditActor, now: datetime) -> bool:
    """Replaces the user's current and future absences with a list of specs; past ones stay.

    Returns False if nothing changed. Raises Rejected, naming the field from `out_of_office` on.
    """
    with transaction.atomic():
        config_version.lock()
        reader = ObjectReader({"out_of_office": specs})
        parsed_specs = [_read(item, user.time_zone) for item in reader.nested_list("out_of_office")]
        reader.raise_errors()
        upcoming = [parsed for parsed in parsed_specs if parsed.ends_at > now]
        if len(upcoming) > MAX_ABSENCES:
            raise Rejected("invalid", f"out_of_office: a user has at most {MAX_ABSENCES}.", "out_of_office")
        for index, parsed in enumerate(upcoming):
            earlier = [(item.starts_at, item.ends_at, item.path_prefix) for item in upcoming[:index]]
            _reject_overlaps(user, earlier, parsed)
        existing = current(user, now)
        before = [nested_spec(item) for item in existing]
        for absence in existing:
            absence.delete()
        for parsed in upcoming:
            _write(OutOfOffice(user=user), parsed)
        after = [nested_spec(item) for item in current(user, now)]
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


def absences_using_user(user_id: int, now: datetime) -> list[Reason]:
    """Returns the current and future absences that this user covers, which prevent the user's deletion."""
    upcoming = OutOfOffice.objects.filter(ends_at__gt=now).select_related("user")
    covering = upcoming.filter(cover=user_id) | upcoming.filter(covers__user=user_id)
    return [object_hooks.ABSENCE(name=absence.user.username) for absence in covering.distinct()]


def _read(spec: ObjectReader, zone: str) -> AbsenceSpec:
    starts_at, ends_at = _moment(spec, "from", zone), _moment(spec, "to", zone)
    if spec.has("from") and spec.has("to") and ends_at <= starts_at:
        spec.add_error("to", "is not after from.")
    covers: dict[str, str] = {}
    raw_covers = spec.raw("covers", {})
    if not isinstance(raw_covers, Mapping):
        spec.add_error("covers", "must be groups with a user each, such as {Service Desk: bob}.")
    else:
        folded = [str(group).casefold() for group in raw_covers]
        for group, user in raw_covers.items():
            if folded.count(str(group).casefold()) > 1:
                spec.add_error("covers", f'"{group}" is there twice.')
            elif isinstance(user, str) and user.strip():
                covers[str(group)] = user.strip()
            else:
                spec.add_error("covers", f'"{group}" needs a user\'s name.')
    parsed = AbsenceSpec(
        starts_at,
        ends_at,
        spec.text("cover") or None,
        covers,
        spec.text("note"),
        spec.path("from").removesuffix("from"),
    )
    spec.reject_unknown_keys()
    return parsed


def _moment(spec: ObjectReader, key: str, zone: str) -> datetime:
    """Reads a required time, with an offset or Z, or local in `zone`. Returns it in UTC."""
    text = spec.text(key, required=True, max_length=40)
    if text:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        # A date alone does not say whether it is the last day away or the first day back.
        if moment is not None and len(text) >= len("2026-12-24T17:00") and 1970 < moment.year < 2200:
            return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
        spec.add_error(key, f'"{text}" is not a moment; write it like 2026-12-24T17:00 or 2026-12-24T16:00:00Z.')
    return datetime(1970, 1, 1, tzinfo=UTC)


def _reject_overlaps(user: User, others: Iterable[tuple[datetime, datetime, str]], parsed: AbsenceSpec) -> None:
    for starts_at, ends_at, _prefix in others:
        if starts_at < parsed.ends_at and parsed.starts_at < ends_at:
            zone = ZoneInfo(user.time_zone)
            since, until = starts_at.astimezone(zone), ends_at.astimezone(zone)
            raise Rejected(
                "overlap",
                f"{parsed.path_prefix}from: {user.display_name} is away already from {since:%a %d %b %Y %H:%M} to "
                f"{until:%a %d %b %Y %H:%M} ({zone.key}); two absences may not overlap.",
                f"{parsed.path_prefix}from",
            )


def _write(absence: OutOfOffice, parsed: AbsenceSpec) -> None:
    cover = _user(parsed.cover, f"{parsed.path_prefix}cover", absence.user) if parsed.cover else None
    covers = [
        (_group(group, f"{parsed.path_prefix}covers"), _user(user, f"{parsed.path_prefix}covers", absence.user))
        for group, user in parsed.covers.items()
    ]
    absence.starts_at, absence.ends_at = parsed.starts_at, parsed.ends_at
    absence.cover, absence.note = cover, parsed.note
    absence.save()
    absence.covers.all().delete()
    OutOfOfficeCover.objects.bulk_create(
        OutOfOfficeCover(absence=absence, group=group, user=user) for group, user in covers
    )


def _user(name: str, path: str, absent_user: User) -> User:
    user = User.objects.filter(username__iexact=name).first()
    if user is None:
        raise Rejected("not_found", f'{path}: there is no user "{name}".', path)
    if user.pk == absent_user.pk:
        raise Rejected("invalid", f"{path}: {user.display_name} cannot cover for themselves.", path)
    return user


def _reject_inactive_covers(parsed: AbsenceSpec) -> None:
    """Rejects deactivated users as covers. A file may still name a user who was deactivated since; such a gap is
    reported with the coverage gaps."""
    for name, key in ((parsed.cover, "cover"), *((user, "covers") for user in parsed.covers.values())):
        inactive_user = User.objects.filter(username__iexact=name, is_active=False).first() if name else None
        if inactive_user is not None:
            path = f"{parsed.path_prefix}{key}"
            raise Rejected("invalid", f"{path}: {inactive_user.display_name} is switched off.", path)


def _group(name: str, path: str) -> Group:
    group = Group.objects.filter(name__iexact=name).first()
    if group is None:
        raise Rejected("not_found", f'{path}: there is no group "{name}".', path)
    return group


def _format_time(at: datetime) -> str:
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
