"""Notifies users who cover for an absence when it is created, changed or deleted.

`people.changes.out_of_office` validates and stores absences; callers check permissions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from tocsin.access.audit import AuditActor
from tocsin.oncall.changes import notices
from tocsin.people.changes import out_of_office
from tocsin.people.models import OutOfOffice, User


@dataclass(frozen=True, slots=True)
class _Cover:
    """When and where a user covers; `where` is the end of a sentence."""

    starts_at: datetime
    ends_at: datetime
    scope: str


def save_absence(
    user: User, spec: Mapping[str, object], *, existing: OutOfOffice | None = None, actor: AuditActor, now: datetime
) -> OutOfOffice:
    """Saves an absence by `people.changes.out_of_office.save_absence`, and notifies users whose cover changes."""
    with transaction.atomic():
        before = _covering(existing) if existing else {}
        saved = out_of_office.save_absence(user, spec, existing=existing, actor=actor, now=now)
        after = _covering(out_of_office.rows().get(pk=saved.pk))
        for cover, cover_period in after.items():
            if before.get(cover) != cover_period:
                _notify_cover(cover, user, cover_period, actor, now)
        for cover in before.keys() - after.keys():
            _notify_cover_ended(cover, user, before[cover], actor, now)
    return saved


def delete_absence(absence: OutOfOffice, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an absence by `people.changes.out_of_office.delete_absence`, and notifies the covering users."""
    with transaction.atomic():
        before = _covering(absence) if absence.ends_at > now else {}
        out_of_office.delete_absence(absence, actor=actor, now=now)
        for cover, cover_period in before.items():
            _notify_cover_ended(cover, absence.user, cover_period, actor, now)


def _covering(absence: OutOfOffice) -> dict[User, _Cover]:
    groups_by_user: dict[User, list[str]] = {}
    for one in absence.covers.all():
        groups_by_user.setdefault(one.user, []).append(one.group.name)
    scopes = {user: f"in {', '.join(sorted(groups))}" for user, groups in groups_by_user.items()}
    if absence.cover is not None:
        has_other_covers = groups_by_user.keys() - {absence.cover}
        scopes[absence.cover] = "in every other group" if has_other_covers else "in every group"
    return {user: _Cover(absence.starts_at, absence.ends_at, scope) for user, scope in scopes.items()}


def _notify_cover(cover: User, absent_user: User, cover_period: _Cover, actor: AuditActor, now: datetime) -> None:
    span = notices.span(cover_period.starts_at, cover_period.ends_at, cover.time_zone)
    title = f"{cover.display_name} covers for {absent_user.display_name}, {span}"
    text = f"{cover.display_name} covers for {absent_user.display_name} from {span}, {cover_period.scope}."
    _write(cover, title, text, actor, now)


def _notify_cover_ended(cover: User, absent_user: User, cover_period: _Cover, actor: AuditActor, now: datetime) -> None:
    span = notices.span(cover_period.starts_at, cover_period.ends_at, cover.time_zone)
    title = f"{cover.display_name} no longer covers for {absent_user.display_name}, {span}"
    text = f"{cover.display_name} was to cover for {absent_user.display_name} from {span}, and is not any more."
    _write(cover, title, text, actor, now)


def _write(cover: User, title: str, text: str, actor: AuditActor, now: datetime) -> None:
    if cover.pk == actor.user_id:
        return
    full_text = f"{text}\n\n{actor.name} arranged it."
    notices.write([cover], title=title, text=full_text, reason="You cover for somebody, or were to.", now=now)
