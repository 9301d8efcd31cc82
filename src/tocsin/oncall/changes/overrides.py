"""Creates, changes and deletes overrides: validates, writes the audit log, and makes all nodes reload.

Taking and handing over a shift create overrides too: one user replaces another for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Prefetch

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import MemberRole
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.reasons import NO_REASON, Param, Person, Reason, Term, Text, joined, sentence
from tocsin.core.validation.inputs import NO_SUCH_USER, raise_all, rejected_at
from tocsin.core.validation.spec import SpecErrors, write_moment
from tocsin.oncall.changes.specs import OverrideSpec, ScheduleOverrideSpec
from tocsin.oncall.models import Override, PendingNotice, Schedule, SwapRequest
from tocsin.oncall.reasons import NO_SUCH_SCHEDULE
from tocsin.people.changes import out_of_office
from tocsin.people.models import OutOfOffice, User

# ---------- notices
# Writes notices for users about their shifts, in the Django transaction of the change itself.
# `notify.notices` sends them by e-mail.


def write(
    users: Iterable[User],
    *,
    title: Reason,
    text: Reason,
    reason: Reason,
    now: datetime,
    swap: SwapRequest | None = None,
    changed_by: AuditActor | None = None,
) -> None:
    """Writes one notice for each of the users. With `swap`, it has links to accept and to decline it. With
    `changed_by`, it names who made the change, and that user gets none."""
    if changed_by is not None:
        actor = Person(changed_by.name, changed_by.user_id)
        text = joined(text, sentence("{actor} made this change.", actor=actor), separator="\n\n")
        users = [user for user in users if user.pk != changed_by.user_id]
    PendingNotice.objects.bulk_create(
        PendingNotice(user=user, swap=swap, created_at=now, title=title, text=text, reason=reason) for user in users
    )


OVER = Text("is in the past.")
USER_DEACTIVATED = Text("{user} is deactivated.")

_DELETED = Text("{user} was to be on call in {schedule} from {since} until {until}, but no longer is.")


def current(schedule: Schedule, now: datetime) -> list[Override]:
    """Returns the schedule's current and future overrides, by start."""
    # Prefetched overrides are used as they are: one query for all schedules instead of one for each.
    is_prefetched = "overrides" in getattr(schedule, "_prefetched_objects_cache", {})
    rows = schedule.overrides.all() if is_prefetched else schedule.overrides.select_related("user", "instead_of")
    return [override for override in rows if override.ends_at > now]


def prefetched() -> Prefetch[str]:
    """Returns the prefetch of overrides with their users, for callers that load many schedules."""
    return Prefetch("overrides", Override.objects.select_related("user", "instead_of"))


def override_spec(override: Override) -> dict[str, Any]:
    return {"schedule": override.schedule.name, **nested_spec(override)}


def nested_spec(override: Override) -> dict[str, Any]:
    """Returns the override in the form that YAML nests under its schedule."""
    spec: dict[str, Any] = {"name": override.name} if override.name else {}
    spec |= {
        "user": override.user.username,
        "from": write_moment(override.starts_at),
        "to": write_moment(override.ends_at),
    }
    if override.shift:
        spec["shift"] = override.shift
    if override.role:
        spec["role"] = override.role
    if override.instead_of:
        spec["instead_of"] = override.instead_of.username
    return spec


def save_override(
    spec: Mapping[str, object], *, existing: Override | None = None, actor: AuditActor, now: datetime
) -> Override:
    """Creates an override, or changes `existing` to match the spec, in which `schedule` names the schedule.

    Raises Rejected, naming the field, for example if it is already over.
    """
    with boundary.command():
        settings_store.lock()
        schedule, read = _read(spec)
        if read.ends_at <= now:
            raise rejected_at("to", OVER())
        override = existing or Override(created_at=now, created_by_id=actor.user_id)
        before = override_spec(existing) if existing else None
        users_before = _affected_users(existing) if existing else []
        _fill(override, schedule, read, _users({"": read}))
        override.save()
        after = override_spec(override)
        _record(override, before, after, actor, now)
        if before is None or {**before, "name": ""} != {**after, "name": ""}:
            _notify_users(override, actor, now, also_notify=users_before)
    return override


def delete_override(override: Override, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an override and notifies both users. The schedule decides again who is on call."""
    with boundary.command():
        settings_store.lock()
        _record(override, override_spec(override), None, actor, now)
        if override.ends_at > now:
            _notify_deleted(override, actor, now)
        override.delete()


def replace_all(
    schedule: Schedule, requested: Sequence[OverrideSpec], *, is_new: bool = False, actor: AuditActor, now: datetime
) -> None:
    """Replaces the schedule's current and future overrides, inside the caller's transaction; past ones stay.

    Of two that overlap, the later in the list is created later, and wins. Overrides of a new schedule cause no notices,
    because its shifts do not either.
    """
    existing = _current_and_future(schedule, now)
    users = _users({f"overrides[{index}].": read for index, read in enumerate(requested)})
    placed: list[Override] = []
    for read in requested:
        if read.ends_at <= now:
            continue
        override = Override(created_at=now, created_by_id=actor.user_id)
        _fill(override, schedule, read, users)
        unchanged = next((one for one in existing if nested_spec(one) == nested_spec(override)), None)
        if unchanged is None:
            override.save()
            _record(override, None, override_spec(override), actor, now)
            if not is_new:
                _notify_users(override, actor, now)
        else:
            existing.remove(unchanged)
            override = unchanged
            if any(one.pk > unchanged.pk and _overlap(one, unchanged) for one in placed):
                _recreate(unchanged, actor, now)
        placed.append(override)
    for obsolete in existing:
        delete_override(obsolete, actor=actor, now=now)


def _overlap(one: Override, other: Override) -> bool:
    return one.starts_at < other.ends_at and other.starts_at < one.ends_at


def _recreate(override: Override, actor: AuditActor, now: datetime) -> None:
    """Recreates it, so that it counts as the last one created."""
    _record(override, override_spec(override), None, actor, now)
    Override.objects.filter(pk=override.pk).delete()
    override.pk = None
    override.save(force_insert=True)
    _record(override, None, override_spec(override), actor, now)


def drop_orphans(schedule: Schedule, *, actor: AuditActor, now: datetime) -> None:
    """Deletes current and future overrides of shifts that were removed, inside the caller's transaction."""
    names = set(shift_names(schedule))
    for override in _current_and_future(schedule, now):
        if override.shift and override.shift not in names:
            delete_override(override, actor=actor, now=now)


def add_override(
    schedule: Schedule,
    user: User,
    instead_of: User,
    starts_at: datetime,
    ends_at: datetime,
    *,
    role: MemberRole | None = None,
    swap: SwapRequest | None = None,
    actor: AuditActor,
    now: datetime,
) -> Override:
    """Replaces one user by another for a while, in one role or in all: a shift taken, handed over or swapped.

    The period must not be over. Raises Rejected if `user` is the same user or deactivated.
    """
    person = _person(user)
    if user.pk == instead_of.pk:
        raise rejected_at("user", sentence("{user} is already on call.", user=person))
    if not user.is_active:
        raise rejected_at("user", USER_DEACTIVATED(user=person))
    with boundary.command():
        settings_store.lock()
        override = Override.objects.create(
            schedule=schedule,
            name=f"{user.display_name} for {instead_of.display_name}"[:100],
            user=user,
            instead_of=instead_of,
            role=role or "",
            starts_at=starts_at,
            ends_at=ends_at,
            swap=swap,
            created_by_id=actor.user_id,
            created_at=now,
        )
        _record(override, None, override_spec(override), actor, now)
        _notify_users(override, actor, now)
    return override


def shift_names(schedule: Schedule) -> list[str]:
    return [shift["name"] for shift in schedule.definition["shifts"]]


def overrides_using_user(user_id: int, now: datetime) -> list[Reason]:
    """Returns the current and future overrides that put this user on call."""
    rows = Override.objects.filter(user=user_id, ends_at__gt=now).select_related("schedule")
    return [hooks.OVERRIDE(name=override.schedule.name) for override in rows]


def _current_and_future(schedule: Schedule, now: datetime) -> list[Override]:
    """Reads the overrides from the database, because the given schedule may hold outdated prefetched ones."""
    return list(Override.objects.filter(schedule=schedule, ends_at__gt=now).select_related("user", "instead_of"))


def _fill(override: Override, schedule: Schedule, read: OverrideSpec, users: Mapping[str, User]) -> None:
    override.schedule, override.name = schedule, read.name
    override.user = users[read.user.lower()]
    override.instead_of = users[read.instead_of.lower()] if read.instead_of else None
    override.shift, override.role = read.shift, read.role
    override.starts_at, override.ends_at = read.starts_at, read.ends_at


def _users(override_specs: Mapping[str, OverrideSpec]) -> dict[str, User]:
    """Returns the users named in the specs, by lower-case username. Raises Rejected, naming the field: the prefix of
    the spec's keys, and the key."""
    named_fields = [
        (name, f"{prefix}{key}")
        for prefix, read in override_specs.items()
        for key, name in (("user", read.user), ("instead_of", read.instead_of))
        if name
    ]
    usernames = {name.lower() for name, _ in named_fields}
    with boundary.as_viewer():
        users_by_name = {
            user.username.lower(): user for user in User.objects.all() if user.username.lower() in usernames
        }
    raise_all(
        rejected_at(path, NO_SUCH_USER(name=name), "not_found")
        for name, path in named_fields
        if name.lower() not in users_by_name
    )
    return users_by_name


def _read(spec: Mapping[str, object]) -> tuple[Schedule, OverrideSpec]:
    """Parses an override and finds its schedule, in which times without an offset are local. Raises Rejected."""
    found: list[tuple[Schedule, OverrideSpec]] = []

    def check(override: ScheduleOverrideSpec, errors: SpecErrors) -> None:
        if errors.has("schedule"):
            return
        with boundary.as_viewer():
            schedule = Schedule.objects.filter(name__iexact=override.schedule).select_related("group").first()
        if schedule is None:
            errors.add("schedule", NO_SUCH_SCHEDULE(name=override.schedule), "not_found")
        else:
            found.append((schedule, override.resolved(schedule.time_zone, shift_names(schedule), errors)))

    ScheduleOverrideSpec.read(spec, check=check)
    return found[0]


def _affected_users(override: Override) -> list[User]:
    return [user for user in (override.user, override.instead_of) if user is not None]


def _notify_users(override: Override, actor: AuditActor, now: datetime, also_notify: Iterable[User] = ()) -> None:
    """Notifies the replacing and the replaced user, except for the actor."""
    users_by_id = {user.pk: user for user in (*_affected_users(override), *also_notify)}
    params = _notice_params(override)
    duty = sentence("{user} is on call in {schedule} from {since} until {until}.", **params)
    if override.role:
        role = Term(MemberRole(override.role))
        duty = sentence("{user} is {role} of {schedule} from {since} until {until}.", **params, role=role)
    replaces = NO_REASON
    if override.instead_of:
        replaced = _person(override.instead_of)
        replaces = sentence("{user} replaces {replaced}.", user=params["user"], replaced=replaced)
    write(
        users_by_id.values(),
        title=sentence("{user} is on call in {schedule} from {since} until {until}", **params),
        text=joined(duty, replaces, separator=" "),
        reason=sentence("It is your shift, or was."),
        now=now,
        changed_by=actor,
    )


def _notify_deleted(override: Override, actor: AuditActor, now: datetime) -> None:
    """Notifies the users of a deleted override, except for the actor."""
    params = _notice_params(override)
    consequence = sentence("The schedule applies again.")
    if override.instead_of:
        consequence = sentence("{user} has the shift again.", user=_person(override.instead_of))
    write(
        _affected_users(override),
        title=sentence("{user} is no longer on call in {schedule} from {since} until {until}", **params),
        text=joined(_DELETED(**params), consequence, separator=" "),
        reason=sentence("It was your shift, or is again."),
        now=now,
        changed_by=actor,
    )


def _notice_params(override: Override) -> dict[str, Param]:
    return {
        "user": _person(override.user),
        "schedule": override.schedule.name,
        "since": override.starts_at,
        "until": override.ends_at,
    }


def _person(user: User) -> Person:
    return Person(user.display_name, user.pk)


def _record(
    override: Override, before: dict[str, Any] | None, after: dict[str, Any] | None, actor: AuditActor, now: datetime
) -> None:
    if audit.record_change(
        actor,
        now=now,
        object_type="override",
        object_id=override.pk,
        object_name=str(override),
        group_id=override.schedule.group_id,
        before=before,
        after=after,
    ):
        settings_store.bump()


# ---------- cover notices
# Notifies users who cover for an absence when it is created, changed or deleted.
# `people.changes.out_of_office` validates and stores absences; callers check permissions.


_TITLE = Text("{cover} covers for {user} from {since} until {until}")
_IN_GROUPS = Text("{cover} covers for {user} from {since} until {until}, in {groups}.")
_IN_OTHER_GROUPS = Text("{cover} covers for {user} from {since} until {until}, in every other group.")
_IN_EVERY_GROUP = Text("{cover} covers for {user} from {since} until {until}, in every group.")
_ENDED_TITLE = Text("{cover} no longer covers for {user} from {since} until {until}")
_ENDED = Text("{cover} no longer covers for {user} from {since} until {until}.")
_REASON = Text("You cover for this user, or were expected to.")


def save_absence(
    user: User, spec: Mapping[str, object], *, existing: OutOfOffice | None = None, actor: AuditActor, now: datetime
) -> OutOfOffice:
    """Saves an absence by `people.changes.out_of_office.save_absence`, and notifies users whose cover changes."""
    with boundary.command():
        before = _covering(existing) if existing else {}
        saved = out_of_office.save_absence(user, spec, existing=existing, actor=actor, now=now)
        _notify_covers(before, _covering(out_of_office.rows().get(pk=saved.pk)), actor, now)
    return saved


def delete_absence(absence: OutOfOffice, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an absence by `people.changes.out_of_office.delete_absence`, and notifies the covering users."""
    with boundary.command():
        before = _covering(absence) if absence.ends_at > now else {}
        out_of_office.delete_absence(absence, actor=actor, now=now)
        _notify_covers(before, {}, actor, now)


def _covering(absence: OutOfOffice) -> dict[User, Reason]:
    """Returns when and where each user covers."""
    groups_by_user: dict[User, list[str]] = {}
    for one in absence.covers.all():
        groups_by_user.setdefault(one.user, []).append(one.group.name)
    period: dict[str, Param] = {
        "user": _person(absence.user), "since": absence.starts_at, "until": absence.ends_at,
    }  # fmt: skip
    covers = {
        cover: _IN_GROUPS(cover=_person(cover), groups=tuple(sorted(groups)), **period)
        for cover, groups in groups_by_user.items()
    }
    if absence.cover is not None:
        text = _IN_OTHER_GROUPS if groups_by_user.keys() - {absence.cover} else _IN_EVERY_GROUP
        covers[absence.cover] = text(cover=_person(absence.cover), **period)
    return covers


def _notify_covers(
    before: Mapping[User, Reason], after: Mapping[User, Reason], actor: AuditActor, now: datetime
) -> None:
    for cover in {**after, **before}:
        text = after.get(cover)
        if text == before.get(cover):
            continue
        params = {name: value for name, value in (text or before[cover]).params if name != "groups"}
        title = _TITLE(**params) if text else _ENDED_TITLE(**params)
        write([cover], title=title, text=text or _ENDED(**params), reason=_REASON(), now=now, changed_by=actor)
