"""Phone calls of hotlines, their recordings and figures, and the routes of the numbers that Tocsin answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework import auth
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Number,
    PaginatedList,
    PaginationQuery,
    caller,
    narrowed,
    page,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.calls.history import recordings, send_recording, summarize_calls
from tocsin.calls.models import PhoneCall
from tocsin.calls.states import CallOutcome, LegStatus
from tocsin.resources.registry import CALL_ROUTES
from tocsin.resources.resource import find

call_routes_routes = register(ApiResource(CALL_ROUTES)).routes

routes = AuthorizedRouter("phone-calls")


class PhoneCallFilters(PaginationQuery):
    outcome: CallOutcome | None = Field(default=None, description="How it ended.")
    client: str | None = Field(default=None, max_length=200, description="Name of the client.")


class RingSchema(BaseModel):
    """One ring of one person."""

    user: str | None = Field(description="Username; null: the user was deleted.")
    capacity: str = Field(description="Why this person, such as `primary`.")
    number: str = Field(description="Number that was rung; masked for those who may not see it.")
    round: int
    status: LegStatus
    reason: ReasonSchema | None
    rung_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None


class PhoneCallSchema(BaseModel):
    """A call of a hotline."""

    id: int
    route: str = Field(description="Name of its call route at the time.")
    called: str = Field(description="Number that was called.")
    caller: str = Field(description="Number of the caller; empty if it is withheld.")
    caller_name: str
    client: str
    outcome: CallOutcome | None = Field(description="How it ended; null: in progress.")
    cause: str = Field(description="Why no one took it, as a code; empty if someone did.")
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    answered_by: str | None = Field(description="Username of the person who took it.")
    alert_id: int | None
    is_test: bool
    recording_seconds: int = Field(description="Length of its recording; 0: none was made.")
    transcription: str
    rings: list[RingSchema]


class CallCountSchema(BaseModel):
    name: str
    calls: int


class HourCountSchema(BaseModel):
    hour: int = Field(description="Hour of the day, in UTC.")
    calls: int


class PhoneCallFiguresSchema(BaseModel):
    """How the calls of a period went."""

    calls: int
    answered: int
    missed: int
    voicemails: int
    seconds_to_person: int | None = Field(description="Median until a person took the call; null: no one did.")
    by_person: list[CallCountSchema] = Field(description="Who took how many.")
    by_client: list[CallCountSchema]
    by_hour: list[HourCountSchema]


class FiguresQuery(BaseModel):
    days: int = Field(default=30, ge=1, le=366, description="The last days.")


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[PhoneCallSchema], summary="Phone calls, newest first")
def list_calls(request: HttpRequest, query: Query[PhoneCallFilters]) -> dict[str, Any]:
    rows = narrowed(_rows(), query, "outcome", client="client__iexact")
    return page(rows, query, _serializer_for(request), newest_first=True)


@routes.get(
    "/figures", Permission.VIEW_ALERTS, answers=PhoneCallFiguresSchema, summary="How the calls of the last days went"
)
def figures(request: HttpRequest, query: Query[FiguresQuery]) -> dict[str, Any]:
    found = summarize_calls(caller(request).now - timedelta(days=query.days))
    return show(
        PhoneCallFiguresSchema,
        found,
        by_person=[{"name": name, "calls": calls} for name, calls in found.by_person],
        by_client=[{"name": name, "calls": calls} for name, calls in found.by_client],
        by_hour=[{"hour": hour, "calls": calls} for hour, calls in found.by_hour],
    )


@routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=PhoneCallSchema, summary="One phone call")
def get_call(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _serializer_for(request)([find(_rows(), str(id), label="phone call")])[0]


@routes.get("/{int:id}/recording", Permission.VIEW_ALERTS, answers=None, summary="Its recording, as audio")
def get_recording(request: HttpRequest, id: Number) -> HttpResponse:
    return send_recording(find(recordings(id), str(id), label="phone call"), request.headers.get("Range", ""))


def _rows() -> Any:
    return PhoneCall.objects.defer("recording", "state").select_related("answered_by").prefetch_related("legs__user")


def _serializer_for(request: HttpRequest) -> Callable[[Sequence[PhoneCall]], list[dict[str, Any]]]:
    viewer = caller(request).viewer

    def show_row(row: PhoneCall) -> dict[str, Any]:
        rings = [
            show(
                RingSchema,
                leg,
                user=leg.user.username if leg.user else None,
                number=auth.address(viewer, "voice", leg.number, leg.user_id, None),
            )
            for leg in row.legs.all()
        ]
        answered_by = row.answered_by.username if row.answered_by else None
        return show(
            PhoneCallSchema,
            row,
            route=row.route_name,
            outcome=row.outcome or None,
            answered_by=answered_by,
            rings=rings,
        )

    return lambda rows: [show_row(row) for row in rows]
