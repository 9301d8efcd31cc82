"""Taking somebody's shift, handing one's own over, and asking for a swap: who may is asked by the caller, before.

What was taken, handed over or swapped is an override, and can be taken back as one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule, schedules
from tocsin.oncall.calculation.final_schedule import Timeline
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.changes import notices, overrides, specs
from tocsin.oncall.models import Override, Schedule, SwapRequest
from tocsin.oncall.states import SwapState
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Membership, User

#: A stretch that changes hands lasts so long at most.
MAX_SWAP_RANGE = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class ShiftRange:
    """What is taken, handed over or swapped: a window, in one role or in whatever roles the person has then."""

    starts_at: datetime
    ends_at: datetime
    role: MemberRole | None = None


def rows() -> QuerySet[SwapRequest]:
    """All swaps, with everybody in them."""
    return SwapRequest.objects.select_related("schedule__group", "asked_by", "asked")


def belongs(schedule: Schedule, user: User) -> bool:
    """Whether the user has to do with the schedule: a member of its group, or named in a shift."""
    return Membership.objects.filter(group=schedule.group_id, user=user).exists() or user.pk in _named(schedule)


def give(schedule: Schedule, stretch: ShiftRange, *, of: User, to: User, actor: AuditActor, now: datetime) -> Override:
    """Puts `to` in the place of `of` for the stretch: a shift taken or handed over.

    Raises Rejected when `of` is not on call in the schedule then, it is over, or `to` is switched off.
    """
    ahead = _ahead(stretch, now)
    refuse_unless_on_call(schedule, of, ahead)
    return overrides.stand_in(schedule, to, of, ahead.starts_at, ahead.ends_at, role=ahead.role, actor=actor, now=now)


def fill(schedule: Schedule, stretch: ShiftRange, *, user: User, actor: AuditActor, now: datetime) -> Override:
    """Puts `user` where nobody has a role: an uncovered stretch that somebody of the group takes.

    Raises Rejected without a role, when somebody has it at any moment of the stretch, or it is over.
    """
    if stretch.role is None:
        raise Rejected("missing", "role: say which one nobody has.", "role")
    ahead = _ahead(stretch, now)
    for segment in _drawn(schedule, ahead).segments:
        if segment.role is ahead.role:
            said = f"{segment.name} is {segment.role} of {schedule.group.name} then: take it from them, or choose less."
            raise Rejected("invalid", f"from: {said}", "from")
    spec = {
        "schedule": schedule.name,
        "user": user.username,
        "role": str(ahead.role),
        "from": specs.write_moment(ahead.starts_at),
        "to": specs.write_moment(ahead.ends_at),
    }
    return overrides.save_override(spec, actor=actor, now=now)


def may_take_back(override: Override, user: User) -> bool:
    """Whether it is the user's own doing: a shift that they took, handed over or filled. A swap took two, and what
    somebody arranged for others, as a manager, is the managers'."""
    is_about_them = user.pk in (override.user_id, override.instead_of_id)
    return override.created_by_id == user.pk and override.swap_id is None and is_about_them


def ask(
    schedule: Schedule,
    stretch: ShiftRange,
    *,
    asked_by: User,
    asked: User,
    in_return: ShiftRange | None,
    message: str,
    actor: AuditActor,
    now: datetime,
) -> SwapRequest:
    """Asks `asked` to take the stretch of `asked_by`, perhaps for one of theirs in return; they are mailed.

    Raises Rejected when either is not on call then, or it is over.
    """
    if asked.pk == asked_by.pk:
        raise Rejected("invalid", "user: nobody swaps with themselves.", "user")
    if not asked.is_active:
        raise Rejected("invalid", f"user: {asked.display_name} is switched off.", "user")
    if not belongs(schedule, asked):
        raise Rejected("invalid", f"user: {asked.display_name} is not in {schedule.group.name}.", "user")
    refuse_unless_on_call(schedule, asked_by, _ahead(stretch, now))
    if in_return is not None:
        refuse_unless_on_call(schedule, asked, _ahead(in_return, now, "return_to"))
    with transaction.atomic():
        config_version.lock()
        swap = SwapRequest.objects.create(
            schedule=schedule,
            asked_by=asked_by,
            asked=asked,
            role=stretch.role or "",
            starts_at=stretch.starts_at,
            ends_at=stretch.ends_at,
            return_role=(in_return.role or "") if in_return else "",
            return_starts_at=in_return.starts_at if in_return else None,
            return_ends_at=in_return.ends_at if in_return else None,
            message=message[:500],
            created_at=now,
        )
        _record(swap, None, actor, now)
        notices.write(
            [asked],
            title=f"{asked_by.display_name} asks you to take a shift of {schedule.name}",
            text=_said(swap),
            reason=f"{asked_by.display_name} asked you.",
            now=now,
        )
    return swap


def accept(swap: SwapRequest, *, actor: AuditActor, now: datetime) -> SwapRequest:
    """Takes what was asked: both stretches change hands at once, and the asker is mailed.

    Raises Rejected when it was answered already, is over, or somebody has lost their stretch meanwhile.
    """
    for stretch, user in _stretches(swap):
        refuse_unless_on_call(swap.schedule, user, _ahead(stretch, now))
    with transaction.atomic():
        config_version.lock()
        locked = _locked(swap)
        both = (locked.asked_by, locked.asked)
        for whole, has in _stretches(locked):
            stretch, takes = _ahead(whole, now), next(user for user in both if user != has)
            overrides.stand_in(
                locked.schedule, takes, has, stretch.starts_at, stretch.ends_at,
                role=stretch.role, swap=locked, actor=actor, now=now,
            )  # fmt: skip
        return _end(locked, SwapState.ACCEPTED, f"{locked.asked.display_name} took it.", locked.asked_by, actor, now)


def decline(swap: SwapRequest, *, actor: AuditActor, now: datetime) -> SwapRequest:
    """Says no: the asker is mailed. Raises Rejected when it was answered already."""
    with transaction.atomic():
        config_version.lock()
        locked = _locked(swap)
        text = f"{locked.asked.display_name} cannot take it. The shift stays yours."
        return _end(locked, SwapState.DECLINED, text, locked.asked_by, actor, now)


def withdraw(swap: SwapRequest, *, actor: AuditActor, now: datetime) -> SwapRequest:
    """Takes the question back: the asked person is mailed. Raises Rejected when it was answered already."""
    with transaction.atomic():
        config_version.lock()
        locked = _locked(swap)
        text = f"{locked.asked_by.display_name} took the question back. Nothing to do."
        return _end(locked, SwapState.WITHDRAWN, text, locked.asked, actor, now)


def swap_spec(swap: SwapRequest) -> dict[str, Any]:
    """The swap as the API writes one."""
    return {
        "schedule": swap.schedule.name,
        "asked_by": swap.asked_by.username,
        "user": swap.asked.username,
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


def refuse_unless_on_call(schedule: Schedule, user: User, stretch: ShiftRange) -> None:
    """Raises Rejected when the user has nothing of the schedule in that stretch. Over the pool, in no transaction."""
    drawn = _drawn(schedule, stretch)
    if not any(
        segment.user_id == user.pk and segment.schedule == schedule.name and stretch.role in (None, segment.role)
        for segment in drawn.segments
    ):
        span = notices.span(stretch.starts_at, stretch.ends_at, schedule.time_zone)
        role = f" as {stretch.role}" if stretch.role else ""
        raise Rejected("invalid", f"{user.display_name} is not on call{role} in {schedule.name} from {span}.", "from")


def _drawn(schedule: Schedule, stretch: ShiftRange) -> Timeline:
    """The group's timeline of the stretch. Raises Rejected when it ends before it begins, or lasts too long."""
    if stretch.ends_at <= stretch.starts_at:
        raise Rejected("invalid", "to: is not after from.", "to")
    if stretch.ends_at - stretch.starts_at > MAX_SWAP_RANGE:
        raise Rejected("invalid", f"to: is more than {MAX_SWAP_RANGE.days} days after from.", "to")
    with database.transaction() as connection:
        plan = loader.plan(connection, schedule.group_id, stretch.starts_at)
    return final_schedule.timeline(plan or GroupPlan(schedule.group_id, ""), stretch.starts_at, stretch.ends_at)


def _named(schedule: Schedule) -> set[int]:
    return {user for shift in schedule.definition["shifts"] for user in schedules.users_of(shift)}


def _stretches(swap: SwapRequest) -> list[tuple[ShiftRange, User]]:
    """What changes hands, each with who has it now."""
    role, back = (MemberRole(text) if text else None for text in (swap.role, swap.return_role))
    found = [(ShiftRange(swap.starts_at, swap.ends_at, role), swap.asked_by)]
    if swap.return_starts_at is not None and swap.return_ends_at is not None:
        found.append((ShiftRange(swap.return_starts_at, swap.return_ends_at, back), swap.asked))
    return found


def _ahead(stretch: ShiftRange, now: datetime, field: str = "to") -> ShiftRange:
    """What is still to come of it: what is over stays as it was. Raises Rejected when all of it is over."""
    if stretch.ends_at <= now:
        raise Rejected("invalid", f"{field}: is over already.", field)
    return replace(stretch, starts_at=max(stretch.starts_at, now.replace(microsecond=0)))


def _locked(swap: SwapRequest) -> SwapRequest:
    """The swap as it is now, held until the end of the transaction. Raises Rejected when it was answered."""
    found = rows().select_for_update(of=("self",)).get(pk=swap.pk)
    if found.state != SwapState.ASKED:
        raise Rejected("already_answered", f"This swap is {found.state} already.")
    return found


def _end(swap: SwapRequest, state: SwapState, text: str, told: User, actor: AuditActor, now: datetime) -> SwapRequest:
    before = swap_spec(swap)
    swap.state, swap.answered_at = str(state), now
    swap.save(update_fields=["state", "answered_at"])
    _record(swap, before, actor, now)
    notices.write(
        [told],
        title=f"Swap of {swap.schedule.name} {state}",
        text=f"{text}\n\n{_said(swap)}",
        reason="It is about a swap of yours.",
        now=now,
    )
    return swap


def _said(swap: SwapRequest) -> str:
    zone = swap.schedule.time_zone
    asked = f"{swap.asked_by.display_name} asks {swap.asked.display_name} to take {swap.schedule.name}"
    lines = [f"{asked} from {notices.span(swap.starts_at, swap.ends_at, zone)}."]
    if swap.return_starts_at and swap.return_ends_at:
        lines.append(f"In return: from {notices.span(swap.return_starts_at, swap.return_ends_at, zone)}.")
    if swap.message:
        lines.append(swap.message)
    return "\n\n".join(lines)


def _record(swap: SwapRequest, before: dict[str, Any] | None, actor: AuditActor, now: datetime) -> None:
    shown = {key: str(value) if isinstance(value, datetime) else value for key, value in swap_spec(swap).items()}
    earlier = before and {key: str(v) if isinstance(v, datetime) else v for key, v in before.items()}
    audit.record_change(
        actor,
        now=now,
        object_type="swap",
        object_id=swap.pk,
        object_name=f"{swap.asked_by.username} with {swap.asked.username}",
        before=earlier,
        after=shown,
    )
