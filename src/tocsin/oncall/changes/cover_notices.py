"""Notifies users who cover for an absence when it is created, changed or deleted.

`people.changes.out_of_office` validates and stores absences; callers check permissions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tocsin.access import boundary
from tocsin.access.audit import AuditActor
from tocsin.core.reasons import Param, Person, Reason, ReasonType, joined
from tocsin.oncall.changes import notices
from tocsin.people.changes import out_of_office
from tocsin.people.models import OutOfOffice, User

_TITLE = ReasonType("cover.notice_title", "{cover} covers for {user} from {since} until {until}")
_IN_GROUPS = ReasonType("cover.notice_in_groups", "{cover} covers for {user} from {since} until {until}, in {groups}.")
_IN_OTHER_GROUPS = ReasonType(
    "cover.notice_in_other_groups", "{cover} covers for {user} from {since} until {until}, in every other group."
)
_IN_EVERY_GROUP = ReasonType(
    "cover.notice_in_every_group", "{cover} covers for {user} from {since} until {until}, in every group."
)
_ENDED_TITLE = ReasonType("cover.ended_title", "{cover} no longer covers for {user} from {since} until {until}")
_ENDED = ReasonType("cover.ended", "{cover} no longer covers for {user} from {since} until {until}.")
_REASON = ReasonType("cover.notice_reason", "You cover for this user, or were expected to.")


@dataclass(frozen=True, slots=True)
class _Cover:
    """When and where a user covers: `kind` is the sentence, `groups` the parameter of one that names them."""

    starts_at: datetime
    ends_at: datetime
    kind: ReasonType
    groups: tuple[str, ...] = ()


def save_absence(
    user: User, spec: Mapping[str, object], *, existing: OutOfOffice | None = None, actor: AuditActor, now: datetime
) -> OutOfOffice:
    """Saves an absence by `people.changes.out_of_office.save_absence`, and notifies users whose cover changes."""
    with boundary.command():
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
    with boundary.command():
        before = _covering(absence) if absence.ends_at > now else {}
        out_of_office.delete_absence(absence, actor=actor, now=now)
        for cover, cover_period in before.items():
            _notify_cover_ended(cover, absence.user, cover_period, actor, now)


def _covering(absence: OutOfOffice) -> dict[User, _Cover]:
    groups_by_user: dict[User, list[str]] = {}
    for one in absence.covers.all():
        groups_by_user.setdefault(one.user, []).append(one.group.name)
    starts_at, ends_at = absence.starts_at, absence.ends_at
    periods = {
        user: _Cover(starts_at, ends_at, _IN_GROUPS, tuple(sorted(groups))) for user, groups in groups_by_user.items()
    }
    if absence.cover is not None:
        has_other_covers = groups_by_user.keys() - {absence.cover}
        periods[absence.cover] = _Cover(starts_at, ends_at, _IN_OTHER_GROUPS if has_other_covers else _IN_EVERY_GROUP)
    return periods


def _notify_cover(cover: User, absent_user: User, period: _Cover, actor: AuditActor, now: datetime) -> None:
    params = _params(cover, absent_user, period)
    text = period.kind(**params, groups=period.groups) if period.groups else period.kind(**params)
    _write(cover, _TITLE(**params), text, actor, now)


def _notify_cover_ended(cover: User, absent_user: User, period: _Cover, actor: AuditActor, now: datetime) -> None:
    params = _params(cover, absent_user, period)
    _write(cover, _ENDED_TITLE(**params), _ENDED(**params), actor, now)


def _params(cover: User, absent_user: User, period: _Cover) -> dict[str, Param]:
    cover_person, user = (Person(one.display_name, one.pk) for one in (cover, absent_user))
    return {"cover": cover_person, "user": user, "since": period.starts_at, "until": period.ends_at}


def _write(cover: User, title: Reason, text: Reason, actor: AuditActor, now: datetime) -> None:
    if cover.pk == actor.user_id:
        return
    text = joined(text, notices.changed_by(actor), separator="\n\n")
    notices.write([cover], title=title, text=text, reason=_REASON(), now=now)
