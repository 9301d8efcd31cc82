"""Overrides: a user is on call for a period, on one shift, in one role or in a whole schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Self

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field, model_validator

from tocsin.access.roles import MemberRole, Permission
from tocsin.api import schedules
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Moment,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    ScheduleMoment,
    audit_actor_of,
    caller,
    forbidden,
    narrowed,
    page,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, sentence
from tocsin.oncall.changes import overrides as commands
from tocsin.oncall.changes import swaps
from tocsin.oncall.changes.swaps import NOT_IN_GROUP, ShiftRange
from tocsin.oncall.models import Override, Schedule, SwapRequest, SwapState
from tocsin.people.models import User
from tocsin.resources import registry
from tocsin.resources.resource import find, find_named


class OverrideFilters(PaginationQuery):
    schedule: str | None = None
    user: str | None = None
    at: Moment | None = None
    past: bool = Field(default=False, description="Also those that are over.")


class OverrideFields(BaseModel):
    """What is shown of an override besides its settings."""

    created_by: str | None
    created_at: datetime
    swap_id: int | None = Field(description="The swap that created it.")


def _narrow(rows: QuerySet[Override], query: OverrideFilters, principal: Principal) -> QuerySet[Override]:
    rows = narrowed(rows, query, "schedule", "user")
    if query.at is not None:
        rows = rows.filter(starts_at__lte=query.at, ends_at__gt=query.at)
    elif not query.past:
        rows = rows.filter(ends_at__gt=principal.now)
    return rows


def _show(overrides: Sequence[Override], _principal: Principal) -> Iterator[dict[str, Any]]:
    for override, spec in zip(overrides, registry.OVERRIDES.specs(overrides), strict=True):
        yield {
            **spec,
            "created_by": override.created_by.username if override.created_by else None,
            "created_at": override.created_at,
            "swap_id": override.swap_id,
        }


OVERRIDES = ApiResource(
    registry.OVERRIDES,
    list_summary="Overrides that are not over; with `past=true` all",
    query=OverrideFilters,
    narrow=_narrow,
    show=_show,
    read_only=OverrideFields,
)
routes = register(OVERRIDES).routes


# ---------- swaps
# Taking over a shift or a coverage gap, handing over a shift, requesting a swap. For all members of the group.


swaps_routes = AuthorizedRouter("swaps")


class ShiftRangeBody(Schema):
    """The period, in one role or in all roles that the user has then."""

    model_config = {"extra": "forbid", "populate_by_name": True}

    since: ScheduleMoment = Field(alias="from")
    until: ScheduleMoment = Field(alias="to")
    role: MemberRole | None = None

    @property
    def shift_range(self) -> ShiftRange:
        return ShiftRange(self.since, self.until, self.role)


class TakeShiftBody(ShiftRangeBody):
    instead_of: str | None = Field(default=None, description="Whose shift it is. None: no one's, in `role`.")


class HandOverShiftBody(ShiftRangeBody):
    user: str = Field(description="Who is to have it.")
    instead_of: str | None = Field(default=None, description="A manager may hand over someone else's.")


class SwapRequestBody(ShiftRangeBody):
    schedule: str
    user: str = Field(description="Who is asked.")
    return_from: ScheduleMoment | None = None
    return_to: ScheduleMoment | None = None
    return_role: MemberRole | None = None
    message: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _require_both(self) -> Self:
        if (self.return_from is None) != (self.return_to is None):
            raise ValueError("give both return_from and return_to, or neither")
        return self


class SwapFilters(PaginationQuery):
    state: SwapState | None = None
    schedule: str | None = None
    mine: bool = Field(default=False, description="Only those that the caller asked for or was asked.")


class SwapSchema(BaseModel):
    """A request to take someone's shift, perhaps for another shift in return."""

    id: int
    schedule: str
    asked_by: str
    user: str = Field(description="Who is asked.")
    starts_at: datetime = Field(alias="from")
    ends_at: datetime = Field(alias="to")
    role: MemberRole | None
    return_from: datetime | None
    return_to: datetime | None
    return_role: MemberRole | None
    message: str
    state: SwapState
    created_at: datetime
    answered_at: datetime | None


_SPAN = {"from": "2026-12-24T17:00:00Z", "to": "2026-12-25T08:00:00Z", "role": "primary"}


@schedules.routes.post(
    "/{id}/take",
    Permission.MANAGE_SELF,
    status=201,
    answers=OVERRIDES.schema.whole,
    summary="Take someone's shift, or one that no one has",
    example={**_SPAN, "instead_of": "bob"},
)
def take(request: HttpRequest, id: str, body: TakeShiftBody) -> dict[str, Any]:
    principal, schedule = caller(request), schedules.SCHEDULES.find(id)
    _require_belonging(principal, schedule)
    user, actor, now = principal.user, audit_actor_of(principal), principal.now
    if body.instead_of is None:
        override = swaps.fill_gap(schedule, body.shift_range, user=user, actor=actor, now=now)
    else:
        current = _user(body.instead_of, "instead_of")
        override = swaps.transfer_shift(
            schedule, body.shift_range, current_user=current, new_user=user, actor=actor, now=now
        )
    return OVERRIDES.show_one(override, principal)


@schedules.routes.post(
    "/{id}/hand-over",
    Permission.MANAGE_SELF,
    status=201,
    answers=OVERRIDES.schema.whole,
    summary="Hand a shift over",
    example={**_SPAN, "user": "bob"},
)
def hand_over(request: HttpRequest, id: str, body: HandOverShiftBody) -> dict[str, Any]:
    principal, schedule = caller(request), schedules.SCHEDULES.find(id)
    from_user = principal.user if body.instead_of is None else _user(body.instead_of, "instead_of")
    if from_user != principal.user and not principal.viewer.may(Permission.MANAGE_TEAMS, schedule.group_id):
        raise forbidden(principal, Permission.MANAGE_TEAMS, is_own_groups_only=True)
    override = swaps.transfer_shift(
        schedule,
        body.shift_range,
        current_user=from_user,
        new_user=_user(body.user, "user"),
        actor=audit_actor_of(principal),
        now=principal.now,
    )
    return OVERRIDES.show_one(override, principal)


@routes.post(
    "/{int:id}/take-back",
    Permission.MANAGE_SELF,
    status=204,
    answers=None,
    summary="Take back what you took, handed over or filled yourself",
)
def take_back(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    override = OVERRIDES.find(str(id))
    if not (
        swaps.may_undo(override, principal.user)
        or principal.viewer.may(Permission.MANAGE_TEAMS, override.schedule.group_id)
    ):
        raise forbidden(principal, Permission.MANAGE_TEAMS, is_own_groups_only=True)
    commands.delete_override(override, actor=audit_actor_of(principal), now=principal.now)


@swaps_routes.get(
    "", Permission.VIEW_ALERTS, answers=PaginatedList[SwapSchema], by_alias=True, summary="Swaps, the newest first"
)
def list_swaps(request: HttpRequest, query: Query[SwapFilters]) -> dict[str, Any]:
    rows = narrowed(swaps.rows(), query, "state", "schedule")
    if query.mine:
        user = caller(request).user
        rows = rows.filter(requested_user=user) | rows.filter(requester=user)
    return page(rows, query, lambda selected: [_show_swaps(swap) for swap in selected], newest_first=True)


@swaps_routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=SwapSchema, by_alias=True, summary="One swap")
def get_swap(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show_swaps(_find(id))


@swaps_routes.post(
    "",
    Permission.MANAGE_SELF,
    status=201,
    answers=SwapSchema,
    by_alias=True,
    summary="Ask someone to take a shift of yours, perhaps for one of theirs in return",
    example={**_SPAN, "schedule": "Service Desk 24x7", "user": "bob", "message": "My daughter's concert"},
)
def ask(request: HttpRequest, body: SwapRequestBody) -> dict[str, Any]:
    principal = caller(request)
    schedule = find_named(Schedule.objects.select_related("group"), body.schedule, label="schedule", field="schedule")
    in_return = (
        ShiftRange(body.return_from, body.return_to, body.return_role) if body.return_from and body.return_to else None
    )
    swap = swaps.request_swap(
        schedule,
        body.shift_range,
        requester=principal.user,
        requested_user=_user(body.user, "user"),
        in_return=in_return,
        message=body.message,
        actor=audit_actor_of(principal),
        now=principal.now,
    )
    return _show_swaps(swap)


@swaps_routes.post(
    "/{int:id}/accept",
    Permission.MANAGE_SELF,
    answers=SwapSchema,
    by_alias=True,
    summary="Take what you were asked to take",
)
def accept(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal, swap = caller(request), _find(id)
    _require_me(principal, swap.requested_user, sentence("Only the requested user may accept."))
    return _show_swaps(swaps.accept(swap, actor=audit_actor_of(principal), now=principal.now))


@swaps_routes.post("/{int:id}/decline", Permission.MANAGE_SELF, answers=SwapSchema, by_alias=True, summary="Say no")
def decline(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal, swap = caller(request), _find(id)
    _require_me(principal, swap.requested_user, sentence("Only the requested user may decline."))
    return _show_swaps(swaps.decline(swap, actor=audit_actor_of(principal), now=principal.now))


@swaps_routes.post(
    "/{int:id}/withdraw", Permission.MANAGE_SELF, answers=SwapSchema, by_alias=True, summary="Take the question back"
)
def withdraw(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal, swap = caller(request), _find(id)
    _require_me(principal, swap.requester, sentence("Only the requester may withdraw the request."))
    return _show_swaps(swaps.withdraw(swap, actor=audit_actor_of(principal), now=principal.now))


def _require_belonging(principal: Principal, schedule: Schedule) -> None:
    if not swaps.is_involved(schedule, principal.user) and not principal.viewer.may(
        Permission.MANAGE_TEAMS, schedule.group_id
    ):
        raise Rejected("forbidden", NOT_IN_GROUP(user=principal.user.username, group=schedule.group.name))


def _require_me(principal: Principal, user: User, reason: Reason) -> None:
    if user != principal.user:
        raise Rejected("forbidden", reason)


def _user(name: str, field: str) -> User:
    return registry.USERS.resolve(name, field)


def _find(swap_id: int) -> SwapRequest:
    return find(swaps.rows(), str(swap_id), label="swap")


def _show_swaps(swap: SwapRequest) -> dict[str, Any]:
    return {"id": swap.pk, **swaps.swap_spec(swap)}
