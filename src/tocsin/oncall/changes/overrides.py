"""Creates, changes and deletes overrides: validates, writes the audit log, and makes all nodes reload.

Taking and handing over a shift create overrides too: one user replaces another for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Prefetch

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.validation.object_reader import raise_all
from tocsin.oncall.changes import notices, specs
from tocsin.oncall.changes.specs import OverrideSpec, write_moment
from tocsin.oncall.models import Override, Schedule, SwapRequest
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import User

#: Maximum current and future overrides of a schedule.
MAX_OVERRIDES = 1000


def current(schedule: Schedule, now: datetime) -> list[Override]:
    """Returns the schedule's current and future overrides, by start."""
    # Prefetched overrides are used as they are: one query for all schedules instead of one for each.
    is_prefetched = "overrides" in getattr(schedule, "_prefetched_objects_cache", {})
    held = schedule.overrides.all() if is_prefetched else schedule.overrides.select_related("user", "instead_of")
    return [override for override in held if override.ends_at > now]


def prefetched() -> Prefetch[str]:
    """Returns the prefetch of overrides with their users, for callers that load many schedules."""
    return Prefetch("overrides", Override.objects.select_related("user", "instead_of"))


def override_spec(override: Override) -> dict[str, Any]:
    """Returns the override in the form of the API."""
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
    with transaction.atomic():
        config_version.lock()
        rest = dict(spec)
        name = rest.pop("schedule", None)
        schedule = _schedule(name)
        read = specs.read_override(rest, schedule.time_zone, shift_names(schedule))
        if read.ends_at <= now:
            raise Rejected("invalid", "to: is over already.", "to")
        override = existing or Override(created_at=now, created_by_id=actor.user_id)
        before = override_spec(existing) if existing else None
        people_before = _people(existing) if existing else []
        _write(override, schedule, read, _users([read]))
        after = override_spec(override)
        _record(override, before, after, actor, now)
        if before is None or {**before, "name": ""} != {**after, "name": ""}:
            _tell(override, actor, now, besides=people_before)
    return override


def delete_override(override: Override, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an override and notifies both users. The schedule decides again who is on call."""
    with transaction.atomic():
        config_version.lock()
        _record(override, override_spec(override), None, actor, now)
        if override.ends_at > now:
            _tell_over(override, actor, now)
        override.delete()


def replace_all(
    schedule: Schedule, wanted: Sequence[OverrideSpec], *, is_new: bool = False, actor: AuditActor, now: datetime
) -> None:
    """Replaces the schedule's current and future overrides, inside the caller's transaction; past ones stay.

    Of two that overlap, the later in the list is created later, and wins. Overrides of a new schedule cause no notices,
    because its shifts do not either.
    """
    if len(wanted) > MAX_OVERRIDES:
        raise Rejected("invalid", f"overrides: a schedule has at most {MAX_OVERRIDES}.", "overrides")
    held = _coming(schedule, now)
    users = _users(wanted)
    placed: list[Override] = []
    for read in wanted:
        if read.ends_at <= now:
            continue
        fresh = Override(created_at=now, created_by_id=actor.user_id)
        _fill(fresh, schedule, read, users)
        same = next((one for one in held if nested_spec(one) == nested_spec(fresh)), None)
        if same is None:
            fresh.save()
            _record(fresh, None, override_spec(fresh), actor, now)
            if not is_new:
                _tell(fresh, actor, now)
        else:
            held.remove(same)
            fresh = same
            if any(one.pk > same.pk and _overlap(one, same) for one in placed):
                _make_again(same, actor, now)
        placed.append(fresh)
    for gone in held:
        delete_override(gone, actor=actor, now=now)


def _overlap(one: Override, other: Override) -> bool:
    return one.starts_at < other.ends_at and other.starts_at < one.ends_at


def _make_again(override: Override, actor: AuditActor, now: datetime) -> None:
    """Recreates it, so that it counts as the last one created."""
    _record(override, override_spec(override), None, actor, now)
    Override.objects.filter(pk=override.pk).delete()
    override.pk = None
    override.save(force_insert=True)
    _record(override, None, override_spec(override), actor, now)


def drop_orphans(schedule: Schedule, *, actor: AuditActor, now: datetime) -> None:
    """Deletes current and future overrides of shifts that were removed, inside the caller's transaction."""
    names = set(shift_names(schedule))
    for override in _coming(schedule, now):
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

    Raises Rejected if the period is over, or `user` is the same user or deactivated.
    """
    if ends_at <= max(now, starts_at):
        raise Rejected("invalid", "to: is over already, or not after from.", "to")
    if user.pk == instead_of.pk:
        raise Rejected("invalid", f"user: {user.display_name} has it already.", "user")
    if not user.is_active:
        raise Rejected("invalid", f"user: {user.display_name} is switched off.", "user")
    with transaction.atomic():
        config_version.lock()
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
        _tell(override, actor, now)
    return override


def shift_names(schedule: Schedule) -> list[str]:
    """Returns the names of the schedule's shifts."""
    return [shift["name"] for shift in schedule.definition["shifts"]]


def overrides_using_user(user_id: int, now: datetime) -> list[str]:
    """Returns descriptions of the current and future overrides that put this user on call."""
    coming = Override.objects.filter(user=user_id, ends_at__gt=now).select_related("schedule")
    return [f"an override of schedule {override.schedule.name}" for override in coming]


def _coming(schedule: Schedule, now: datetime) -> list[Override]:
    """Reads the overrides from the database, because the given schedule may hold outdated prefetched ones."""
    return list(Override.objects.filter(schedule=schedule, ends_at__gt=now).select_related("user", "instead_of"))


def _write(override: Override, schedule: Schedule, read: OverrideSpec, users: Mapping[str, User]) -> None:
    _fill(override, schedule, read, users)
    override.save()


def _fill(override: Override, schedule: Schedule, read: OverrideSpec, users: Mapping[str, User]) -> None:
    override.schedule, override.name = schedule, read.name
    override.user = users[read.user.lower()]
    override.instead_of = users[read.instead_of.lower()] if read.instead_of else None
    override.shift, override.role = read.shift, read.role or ""
    override.starts_at, override.ends_at = read.starts_at, read.ends_at


def _users(several: Iterable[OverrideSpec]) -> dict[str, User]:
    """Returns the users named in the specs, by lower-case username. Raises Rejected, naming the field."""
    named = [
        (name, f"{read.place}{key}")
        for read in several
        for key, name in (("user", read.user), ("instead_of", read.instead_of))
        if name
    ]
    wanted = {name.lower() for name, _ in named}
    known = {user.username.lower(): user for user in User.objects.all() if user.username.lower() in wanted}
    raise_all(
        Rejected("not_found", f'{place}: there is no user "{name}".', place)
        for name, place in named
        if name.lower() not in known
    )
    return known


def _schedule(name: object) -> Schedule:
    if not isinstance(name, str) or not name.strip():
        raise Rejected("missing", "schedule: is needed.", "schedule")
    found = Schedule.objects.filter(name__iexact=name.strip()).select_related("group").first()
    if found is None:
        raise Rejected("not_found", f'schedule: there is no schedule "{name}".', "schedule")
    return found


def _people(override: Override) -> list[User]:
    """Returns the replacing and the replaced user."""
    return [user for user in (override.user, override.instead_of) if user is not None]


def _tell(override: Override, actor: AuditActor, now: datetime, besides: Iterable[User] = ()) -> None:
    """Notifies the replacing and the replaced user, except for the actor."""
    schedule = override.schedule
    people = {user.pk: user for user in (*_people(override), *besides)}
    span = notices.span(override.starts_at, override.ends_at, schedule.time_zone)
    what = f"{override.role} of" if override.role else "on call in"
    notices.write(
        [user for user in people.values() if user.pk != actor.user_id],
        title=f"{override.user.display_name} is on call in {schedule.name}, {span}",
        text=(
            f"{override.user.display_name} is {what} {schedule.name} from {span}"
            f"{f', instead of {override.instead_of.display_name}' if override.instead_of else ''}."
            f"\n\n{actor.name} arranged it."
        ),
        reason="It is your shift, or was.",
        now=now,
    )


def _tell_over(override: Override, actor: AuditActor, now: datetime) -> None:
    """Notifies the users of a deleted override, except for the actor."""
    schedule = override.schedule
    span = notices.span(override.starts_at, override.ends_at, schedule.time_zone)
    again = f"{override.instead_of.display_name} has it again" if override.instead_of else "The schedule holds again"
    notices.write(
        [user for user in _people(override) if user.pk != actor.user_id],
        title=f"{override.user.display_name} is no longer on call in {schedule.name}, {span}",
        text=(
            f"{override.user.display_name} was to be on call in {schedule.name} from {span}, and is not any more. "
            f"{again}.\n\n{actor.name} arranged it."
        ),
        reason="It was your shift, or is again.",
        now=now,
    )


def _record(
    override: Override, before: dict[str, Any] | None, after: dict[str, Any] | None, actor: AuditActor, now: datetime
) -> None:
    if audit.record_change(
        actor,
        now=now,
        object_type="override",
        object_id=override.pk,
        object_name=str(override),
        before=before,
        after=after,
    ):
        config_version.bump()
