"""Replaces a user by another one wherever the configuration names them: in groups, shifts, policies, integrations and
workflows, and in overrides and covers that are not over.

An object names a user if its spec does, and is changed by its own command: what that rejects is refused, each change is
in the audit log, and all of them are one transaction. Alerts are not configuration: they are reassigned one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core import hooks
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Reason, Text, sentence
from tocsin.core.validation.inputs import ABSENCE_REFERENCE, AT_PATH, rejected_at
from tocsin.oncall.changes import overrides
from tocsin.people.changes import out_of_office
from tocsin.people.models import OutOfOffice, User
from tocsin.resources.registry import GROUPS, INTEGRATIONS, OVERRIDES, POLICIES, SCHEDULES, WORKFLOWS
from tocsin.resources.resource import Resource

#: Groups first: whoever is in a shift should be in its group.
_RESOURCES: tuple[Resource[Any], ...] = (GROUPS, SCHEDULES, POLICIES, INTEGRATIONS, WORKFLOWS)

#: The keys below which these specs name users, alone, in a list, or by group.
_KEYS = frozenset({"user", "users", "instead_of", "cover", "covers"})

_GROUP = Text("group {name}")


@dataclass(frozen=True, slots=True)
class Place:
    """An object that names the user. `replace` changes it to name the user of that name instead."""

    reason: Reason
    replace: Callable[[str, AuditActor, datetime], object]


def find_places(user: User, now: datetime) -> list[Place]:
    """Returns every object that names the user."""
    with boundary.unbounded():
        return [*_configured(user.username), *_overrides(user, now), *_covers(user, now)]


def replace_everywhere(user: User, other: User, *, actor: AuditActor, now: datetime) -> list[Reason]:
    """Replaces the user by another one in all places, and returns these. An entry that the other one has already stays
    one entry.

    Raises Rejected, naming the place, and changes nothing if the other one cannot take one over.
    """
    person = Person(other.display_name, other.pk)
    if other.pk == user.pk:
        raise rejected_at("by", sentence("choose another user."))
    if not other.is_active:
        raise rejected_at("by", sentence("the account of {user} is deactivated.", user=person))
    if other.clients:
        raise rejected_at("by", sentence("{user} sees only the alerts of some clients.", user=person))
    with boundary.config_command():
        places = find_places(user, now)
        for place in places:
            try:
                place.replace(other.username, actor, now)
            except Rejected as error:
                problem = AT_PATH(path=place.reason, problem=error.reason)
                raise Rejected("not_possible", problem, "by") from error
        if places:
            after = {"by": other.username, "places": [str(place.reason) for place in places]}
            audit.record(actor, "replace", now=now, after=after, **audit.about("user", user))
    return [place.reason for place in places]


def _configured(old: str) -> Iterator[Place]:
    for resource in _RESOURCES:
        rows = list(resource.list_all())
        for row, spec in zip(rows, resource.specs(rows), strict=True):
            if _with_user(spec, old, "") != spec:
                reason = (resource.reference or _GROUP)(name=resource.name(row))
                yield Place(reason, partial(_replace_in, resource, row, old))


def _replace_in(resource: Resource[Any], row: Any, old: str, new: str, actor: AuditActor, now: datetime) -> None:
    if problem := resource.unreadable(row):
        raise Rejected("not_possible", problem)
    # Read again: an object before it may have changed this one.
    row = resource.rows().get(pk=row.pk)
    resource.save(_with_user(resource.spec(row), old, new), existing=row, actor=actor, now=now)


def _overrides(user: User, now: datetime) -> Iterator[Place]:
    for row in OVERRIDES.rows().filter(ends_at__gt=now).order_by("starts_at", "id"):
        if user.pk in (row.user_id, row.instead_of_id):
            yield Place(hooks.OVERRIDE(name=row.schedule.name), partial(_replace_in_override, row, user.username))


def _replace_in_override(row: Any, old: str, new: str, actor: AuditActor, now: datetime) -> None:
    spec = _with_user(overrides.override_spec(row), old, new)
    if spec["user"] == spec.get("instead_of"):  # nobody is replaced any more
        OVERRIDES.delete(row, actor=actor, now=now)
    else:
        OVERRIDES.save(spec, existing=row, actor=actor, now=now)


def _covers(user: User, now: datetime) -> Iterator[Place]:
    for row in out_of_office.rows().filter(ends_at__gt=now).exclude(user=user).order_by("starts_at", "id"):
        if user.pk in (row.cover_id, *(cover.user_id for cover in row.covers.all())):
            reason = ABSENCE_REFERENCE(username=row.user.username)
            yield Place(reason, partial(_replace_in_absence, row, user.username))


def _replace_in_absence(row: OutOfOffice, old: str, new: str, actor: AuditActor, now: datetime) -> None:
    spec = _with_user(out_of_office.nested_spec(row), old, new)
    overrides.save_absence(row.user, spec, existing=row, actor=actor, now=now)


def _with_user(value: Any, old: str, new: str, key: str = "") -> Any:
    """Returns a spec, or a part of it below `key`, with another user; with "" without the user."""
    match value:
        case Mapping():
            return {name: _with_user(part, old, new, key if key == "covers" else name) for name, part in value.items()}
        case list() | tuple():
            return _without_duplicates([_with_user(part, old, new, key) for part in value], value, new)
        case str() if key in _KEYS and value == old:
            return new
    return value


def _without_duplicates(entries: list[Any], before: Sequence[Any], new: str) -> list[Any]:
    """Leaves out what the replacement made a second entry of the user; of members, the roles are joined."""
    if new in before:
        return [entry for entry, former in zip(entries, before, strict=True) if entry == former]
    kept: list[Any] = []
    for entry in entries:
        first = next((one for one in kept if _is_member(one, new) and _is_member(entry, new)), None)
        if first is None:
            kept.append(entry)
        else:
            first["roles"] = list(dict.fromkeys([*first["roles"], *entry["roles"]]))
    return kept


def _is_member(entry: Any, name: str) -> bool:
    return isinstance(entry, Mapping) and entry.get("user") == name and "roles" in entry
