"""Absences (out of office): when a user is away, and who covers. Validates changes and writes the audit log.

A spec has the form of YAML and the API. The caller checks permissions first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

from django.db.models import QuerySet
from pydantic import Field

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.reasons import Person, Reason, Text, sentence
from tocsin.core.validation.inputs import (
    ABSENCE_REFERENCE,
    DUPLICATE,
    NO_SUCH_GROUP,
    NO_SUCH_USER,
    NOT_AFTER_FROM,
    rejected_at,
)
from tocsin.core.validation.spec import InvalidValue, Moment, Parsed, Spec, SpecErrors, is_unstorable, write_moment
from tocsin.people.models import Group, OutOfOffice, OutOfOfficeCover, User, find_group

#: Maximum current and future absences of a user.
MAX_ABSENCES = 200

# Each completes a sentence that begins with the path of the value.
_TOO_MANY = Text("a user can have at most {count} absence.", "a user can have at most {count} absences.")


def _covers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidValue(sentence("must map groups to users, such as {example}.", example="{Service Desk: bob}"))
    covers: dict[str, str] = {}
    for group, user in value.items():
        if str(group).casefold() in map(str.casefold, covers):
            raise InvalidValue(DUPLICATE(value=str(group)))
        if not isinstance(user, str) or not user.strip() or is_unstorable(user):
            raise InvalidValue(sentence('"{group}" requires a username.', group=str(group)))
        covers[str(group)] = user.strip()
    return covers


_COVERS = Parsed(_covers, {"type": "object", "additionalProperties": {"type": "string"}}, dict)


class AbsenceSpec(Spec):
    """An absence, with users and groups by name. Its context has the user's time zone as `zone`."""

    starts_at: Moment = Field(alias="from", description="Start of the absence, local in the user's time zone.")
    ends_at: Moment = Field(alias="to", description="End of the absence.")
    covers: Annotated[Mapping[str, str], _COVERS] = Field(
        default={}, description="Username of the cover by group, for these groups."
    )
    cover: str = Field(default="", max_length=200, description="Username of the cover in all other groups.")
    note: str = Field(default="", max_length=200, description="Note, shown to other users.")

    def check(self, errors: SpecErrors) -> None:
        if not errors.has("from", "to") and self.ends_at <= self.starts_at:
            errors.add("to", NOT_AFTER_FROM())


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
    spec: dict[str, Any] = {"from": write_moment(absence.starts_at), "to": write_moment(absence.ends_at)}
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
    with boundary.config_command():
        parsed = AbsenceSpec.read(spec, zone=user.time_zone)
        if parsed.ends_at <= now:
            raise rejected_at("to", sentence("must be in the future."))
        others = [other for other in current(user, now) if existing is None or other.pk != existing.pk]
        _reject_overlaps(user, others, parsed)
        before = absence_spec(existing) if existing else None
        absence = existing or OutOfOffice(user=user)
        _reject_inactive_covers(parsed)
        _write(absence, parsed)
        _record(absence, before, absence_spec(rows().get(pk=absence.pk)), actor, now)
    return absence


def delete_absence(absence: OutOfOffice, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an absence. The user is on call again as scheduled."""
    with boundary.config_command():
        _record(absence, absence_spec(absence), None, actor, now)
        absence.delete()


def replace_all(user: User, specs: object, *, actor: AuditActor, now: datetime) -> bool:
    """Replaces the user's current and future absences with a list of specs; past ones stay.

    Returns False if nothing changed. Raises Rejected, naming the field from `out_of_office` on.
    """
    with boundary.config_command():
        parsed_specs = AbsenceSpec.read_list(specs, "out_of_office", zone=user.time_zone)
        places = {f"out_of_office[{index}].": parsed for index, parsed in enumerate(parsed_specs)}
        upcoming = {place: parsed for place, parsed in places.items() if parsed.ends_at > now}
        if len(upcoming) > MAX_ABSENCES:
            raise rejected_at("out_of_office", _TOO_MANY(count=MAX_ABSENCES))
        for index, (place, parsed) in enumerate(upcoming.items()):
            _reject_overlaps(user, list(upcoming.values())[:index], parsed, place)
        existing = current(user, now)
        before = [nested_spec(item) for item in existing]
        for absence in existing:
            absence.delete()
        for place, parsed in upcoming.items():
            _write(OutOfOffice(user=user), parsed, place)
        after = [nested_spec(item) for item in current(user, now)]
        # All rows are rewritten, then compared, so that an unchanged list adds no audit entry.
        if before == after:
            return False
        states = {"before": {"out_of_office": before}, "after": {"out_of_office": after}}
        audit.record_change(actor, now=now, **states, **audit.about("out_of_office", user))
        settings_store.bump()
    return True


def absences_using_user(user_id: int, now: datetime) -> list[Reason]:
    """Returns the current and future absences that this user covers, which prevent the user's deletion."""
    upcoming = OutOfOffice.objects.filter(ends_at__gt=now).select_related("user")
    covering = upcoming.filter(cover=user_id) | upcoming.filter(covers__user=user_id)
    return [ABSENCE_REFERENCE(username=absence.user.username) for absence in covering.distinct()]


def _reject_overlaps(
    user: User, others: Iterable[OutOfOffice | AbsenceSpec], parsed: AbsenceSpec, place: str = ""
) -> None:
    for other in others:
        if other.starts_at < parsed.ends_at and parsed.starts_at < other.ends_at:
            problem = sentence(
                "{user} is already out of office from {start} to {end}. Absences must not overlap.",
                user=Person(user.display_name, user.pk),
                start=other.starts_at,
                end=other.ends_at,
            )
            raise rejected_at(f"{place}from", problem, "overlap")


def _write(absence: OutOfOffice, parsed: AbsenceSpec, place: str = "") -> None:
    """Writes an absence; `place` is the prefix of its keys in error messages."""
    cover = _user(parsed.cover, f"{place}cover", absence.user) if parsed.cover else None
    covers = [
        (_group(group, f"{place}covers"), _user(user, f"{place}covers", absence.user))
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
    with boundary.as_viewer():
        user = User.objects.filter(username__iexact=name).first()
    if user is None:
        raise rejected_at(path, NO_SUCH_USER(name=name), "not_found")
    if user.pk == absent_user.pk:
        raise rejected_at(
            path, sentence("{user} cannot cover for themselves.", user=Person(user.display_name, user.pk))
        )
    return user


def _reject_inactive_covers(parsed: AbsenceSpec) -> None:
    """Rejects deactivated users as covers. A file may still name a user who was deactivated since; such a gap is
    reported with the coverage gaps."""
    for name, key in ((parsed.cover, "cover"), *((user, "covers") for user in parsed.covers.values())):
        inactive_user = User.objects.filter(username__iexact=name, is_active=False).first() if name else None
        if inactive_user is not None:
            cover = Person(inactive_user.display_name, inactive_user.pk)
            raise rejected_at(key, sentence("the account of {user} is deactivated.", user=cover))


def _group(name: str, path: str) -> Group:
    group = find_group(name)
    if group is None:
        raise rejected_at(path, NO_SUCH_GROUP(name=name), "not_found")
    return group


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
        settings_store.bump()
