"""Takes, hands over and swaps shifts. The caller checks permissions first.

The result is an override, which can be deleted as such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import MemberRole
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Param, Person, Reason, Term, Text, as_reason, joined, sentence
from tocsin.core.validation.inputs import NOT_AFTER_FROM, rejected_at
from tocsin.core.validation.spec import write_moment
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule, schedules
from tocsin.oncall.calculation.final_schedule import GroupPlan, Timeline
from tocsin.oncall.changes import overrides
from tocsin.oncall.models import Override, Schedule, SwapRequest, SwapState
from tocsin.people.models import Membership, User

_NO_GAP = Text("{user} is {role} of {group} in this period. Replace them, or select a shorter period.")
NOT_IN_GROUP = Text("{user} is not in {group}.")
_RANGE_TOO_LONG = Text("must be at most {limit} after from.")
_ALREADY_ANSWERED = {
    SwapState.ACCEPTED: Text("This swap has already been accepted."),
    SwapState.DECLINED: Text("This swap has already been declined."),
    SwapState.WITHDRAWN: Text("This swap has already been withdrawn."),
}
#: The title and the first sentence of the notice about an answer.
_ANSWERED = {
    SwapState.ACCEPTED: (Text("Swap of {schedule} accepted"), Text("{user} takes the shift.")),
    SwapState.DECLINED: (
        Text("Swap of {schedule} declined"),
        Text("{user} cannot take over the shift. It stays yours."),
    ),
    SwapState.WITHDRAWN: (
        Text("Swap of {schedule} withdrawn"),
        Text("{user} withdrew the request. There is nothing to do."),
    ),
}

MAX_SWAP_RANGE = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class ShiftRange:
    """The object of a swap, take-over or handover: a period, in one role or in every role that the user has then."""

    starts_at: datetime
    ends_at: datetime
    role: MemberRole | None = None


def rows() -> QuerySet[SwapRequest]:
    return SwapRequest.objects.select_related("schedule__group", "requester", "requested_user")


def is_involved(schedule: Schedule, user: User) -> bool:
    """Returns whether the user belongs to the schedule: as a member of its group, or in a shift."""
    return Membership.objects.filter(group=schedule.group_id, user=user).exists() or any(
        user.pk in schedules.users_of(shift) for shift in schedule.definition["shifts"]
    )


def transfer_shift(
    schedule: Schedule, shift_range: ShiftRange, *, current_user: User, new_user: User, actor: AuditActor, now: datetime
) -> Override:
    """Replaces `current_user` by `new_user` for the period: a shift is taken or handed over.

    Raises Rejected if `current_user` is not on call in the schedule then, the period is over, or `new_user` is
    deactivated.
    """
    remaining = _future_part(shift_range, now)
    refuse_unless_on_call(schedule, current_user, remaining)
    return overrides.add_override(
        schedule,
        new_user,
        current_user,
        remaining.starts_at,
        remaining.ends_at,
        role=remaining.role,
        actor=actor,
        now=now,
    )


def fill_gap(schedule: Schedule, shift_range: ShiftRange, *, user: User, actor: AuditActor, now: datetime) -> Override:
    """Assigns `user` to a coverage gap in a role of the group.

    Raises Rejected without a role, if the period is over, or if somebody has the role at any time in it.
    """
    if shift_range.role is None:
        raise rejected_at("role", sentence("is required: the role without anyone on call."), "missing")
    remaining = _future_part(shift_range, now)
    for segment in _load_timeline(schedule, remaining).segments:
        if segment.role is remaining.role:
            holder = Person(segment.name, segment.user_id)
            problem = _NO_GAP(user=holder, role=Term(segment.role), group=schedule.group.name)
            raise rejected_at("from", problem)
    spec = {
        "schedule": schedule.name,
        "user": user.username,
        "role": str(remaining.role),
        "from": write_moment(remaining.starts_at),
        "to": write_moment(remaining.ends_at),
    }
    return overrides.save_override(spec, actor=actor, now=now)


def may_undo(override: Override, user: User) -> bool:
    """Returns whether the user made this override for themselves: a shift taken, handed over or filled. A swap belongs
    to two users, and an override that a manager made for others belongs to the managers."""
    is_about_them = user.pk in (override.user_id, override.instead_of_id)
    return override.created_by_id == user.pk and override.swap_id is None and is_about_them


def request_swap(
    schedule: Schedule,
    shift_range: ShiftRange,
    *,
    requester: User,
    requested_user: User,
    in_return: ShiftRange | None,
    message: str,
    actor: AuditActor,
    now: datetime,
) -> SwapRequest:
    """Requests a swap: `requested_user` takes the period of `requester`, optionally for one of theirs in return.

    The requested user gets a notice. Raises Rejected if either user is not on call then, or the period is over.
    """
    if requested_user.pk == requester.pk:
        raise rejected_at("user", sentence("must be a different user."))
    if not requested_user.is_active:
        raise rejected_at("user", overrides.USER_DEACTIVATED(user=_person(requested_user)))
    if not is_involved(schedule, requested_user):
        raise rejected_at("user", NOT_IN_GROUP(user=_person(requested_user), group=schedule.group.name))
    refuse_unless_on_call(schedule, requester, _future_part(shift_range, now))
    if in_return is not None:
        refuse_unless_on_call(schedule, requested_user, _future_part(in_return, now, "return_to"))
    with boundary.command():
        settings_store.lock()
        swap = SwapRequest.objects.create(
            schedule=schedule,
            requester=requester,
            requested_user=requested_user,
            role=shift_range.role or "",
            starts_at=shift_range.starts_at,
            ends_at=shift_range.ends_at,
            return_role=(in_return.role or "") if in_return else "",
            return_starts_at=in_return.starts_at if in_return else None,
            return_ends_at=in_return.ends_at if in_return else None,
            message=message[:500],
            created_at=now,
        )
        _record(swap, None, actor, now)
        overrides.write(
            [requested_user],
            title=sentence(
                "{user} asks you to take a shift of {schedule}", user=_person(requester), schedule=schedule.name
            ),
            text=_describe_swap(swap),
            reason=sentence("{user} asked you.", user=_person(requester)),
            now=now,
            swap=swap,
        )
    return swap


def accept(swap: SwapRequest, *, actor: AuditActor, now: datetime) -> SwapRequest:
    """Accepts a swap: both periods change hands at once, and the requester gets a notice.

    Raises Rejected if it was already answered, is over, or one of the users no longer has their period.
    """
    for shift_range, user in _ranges(swap):
        refuse_unless_on_call(swap.schedule, user, _future_part(shift_range, now))
    with boundary.command():
        settings_store.lock()
        locked = _lock_pending(swap)
        both = (locked.requester, locked.requested_user)
        for full_range, current_user in _ranges(locked):
            shift_range, new_user = _future_part(full_range, now), next(user for user in both if user != current_user)
            overrides.add_override(
                locked.schedule, new_user, current_user, shift_range.starts_at, shift_range.ends_at,
                role=shift_range.role, swap=locked, actor=actor, now=now,
            )  # fmt: skip
        return _end(locked, SwapState.ACCEPTED, actor, now)


def decline(swap: SwapRequest, *, actor: AuditActor, now: datetime) -> SwapRequest:
    """Declines a swap. The requester gets a notice. Raises `Rejected("already_answered")`."""
    with boundary.command():
        settings_store.lock()
        return _end(_lock_pending(swap), SwapState.DECLINED, actor, now)


def withdraw(swap: SwapRequest, *, actor: AuditActor, now: datetime) -> SwapRequest:
    """Withdraws a swap request. The requested user gets a notice. Raises `Rejected("already_answered")`."""
    with boundary.command():
        settings_store.lock()
        return _end(_lock_pending(swap), SwapState.WITHDRAWN, actor, now)


def swap_spec(swap: SwapRequest) -> dict[str, Any]:
    return {
        "schedule": swap.schedule.name,
        "asked_by": swap.requester.username,
        "user": swap.requested_user.username,
        "from": swap.starts_at,
        "to": swap.ends_at,
        "role": swap.role or None,
        "return_from": swap.return_starts_at,
        "return_to": swap.return_ends_at,
        "return_role": swap.return_role or None,
        "message": swap.message,
        "state": swap.state,
        "created_at": swap.created_at,
        "answered_at": swap.answered_at,
    }


def refuse_unless_on_call(schedule: Schedule, user: User, shift_range: ShiftRange) -> None:
    """Raises Rejected if the user is not on call in that period. Uses the pool, so call it in no transaction."""
    timeline = _load_timeline(schedule, shift_range)
    if not any(
        segment.user_id == user.pk and segment.schedule == schedule.name and shift_range.role in (None, segment.role)
        for segment in timeline.segments
    ):
        params: dict[str, Param] = {
            "user": _person(user), "schedule": schedule.name, "since": shift_range.starts_at,
            "until": shift_range.ends_at,
        }  # fmt: skip
        reason = sentence("{user} is not on call in {schedule} from {since} to {until}.", **params)
        if shift_range.role:
            role = Term(shift_range.role)
            reason = sentence(
                "{user} is not on call as {role} in {schedule} from {since} to {until}.", role=role, **params
            )
        raise Rejected("invalid", reason, "from")


def _load_timeline(schedule: Schedule, shift_range: ShiftRange) -> Timeline:
    """Returns the group's timeline for the period. Raises Rejected if it is empty or too long."""
    if shift_range.ends_at <= shift_range.starts_at:
        raise rejected_at("to", NOT_AFTER_FROM())
    if shift_range.ends_at - shift_range.starts_at > MAX_SWAP_RANGE:
        raise rejected_at("to", _RANGE_TOO_LONG(limit=MAX_SWAP_RANGE))
    with database.transaction() as connection:
        plan = loader.plan(connection, schedule.group_id, shift_range.starts_at)
    return final_schedule.timeline(plan or GroupPlan(schedule.group_id, ""), shift_range.starts_at, shift_range.ends_at)


def _person(user: User) -> Person:
    return Person(user.display_name, user.pk)


def _ranges(swap: SwapRequest) -> list[tuple[ShiftRange, User]]:
    """Returns the periods of the swap, each with the user who is on call in it now."""
    role, return_role = (MemberRole(text) if text else None for text in (swap.role, swap.return_role))
    ranges = [(ShiftRange(swap.starts_at, swap.ends_at, role), swap.requester)]
    if swap.return_starts_at is not None and swap.return_ends_at is not None:
        ranges.append((ShiftRange(swap.return_starts_at, swap.return_ends_at, return_role), swap.requested_user))
    return ranges


def _future_part(shift_range: ShiftRange, now: datetime, field: str = "to") -> ShiftRange:
    """Returns the future part of the period; the past stays as it was. Raises Rejected if all of it is over."""
    if shift_range.ends_at <= now:
        raise rejected_at(field, overrides.OVER())
    return replace(shift_range, starts_at=max(shift_range.starts_at, now.replace(microsecond=0)))


def _lock_pending(swap: SwapRequest) -> SwapRequest:
    """Locks and returns the current swap. Raises `Rejected("already_answered")` if it was answered."""
    locked = rows().select_for_update(of=("self",)).get(pk=swap.pk)
    if locked.state != SwapState.PENDING:
        raise Rejected("already_answered", _ALREADY_ANSWERED[SwapState(locked.state)]())
    return locked


def _end(swap: SwapRequest, state: SwapState, actor: AuditActor, now: datetime) -> SwapRequest:
    title, text = _ANSWERED[state]
    decided_by, recipient = swap.requested_user, swap.requester
    if state is SwapState.WITHDRAWN:
        decided_by, recipient = recipient, decided_by
    before = swap_spec(swap)
    swap.state, swap.answered_at = str(state), now
    swap.save(update_fields=["state", "answered_at"])
    _record(swap, before, actor, now)
    overrides.write(
        [recipient],
        title=title(schedule=swap.schedule.name),
        text=joined(text(user=_person(decided_by)), _describe_swap(swap), separator="\n\n"),
        reason=sentence("It is about one of your swaps."),
        now=now,
    )
    return swap


def _describe_swap(swap: SwapRequest) -> Reason:
    request = sentence(
        "{user} asks {requested} to take {schedule} from {since} until {until}.",
        user=_person(swap.requester),
        requested=_person(swap.requested_user),
        schedule=swap.schedule.name,
        since=swap.starts_at,
        until=swap.ends_at,
    )
    in_return = NO_REASON
    if swap.return_starts_at and swap.return_ends_at:
        in_return = sentence(
            "In return: from {since} until {until}.", since=swap.return_starts_at, until=swap.return_ends_at
        )
    return joined(request, in_return, as_reason(swap.message), separator="\n\n")


def _record(swap: SwapRequest, before: dict[str, Any] | None, actor: AuditActor, now: datetime) -> None:
    before_texts, after = (
        spec and {key: str(value) if isinstance(value, datetime) else value for key, value in spec.items()}
        for spec in (before, swap_spec(swap))
    )
    audit.record_change(
        actor,
        now=now,
        object_type="swap",
        object_id=swap.pk,
        object_name=f"{swap.requester.username} with {swap.requested_user.username}",
        group_id=swap.schedule.group_id,
        before=before_texts,
        after=after,
    )
