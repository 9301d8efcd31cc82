"""Phone calls: the routes of numbers that Tocsin answers, and the calls that came."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Moment,
    Number,
    PaginatedList,
    PaginationQuery,
    audit_actor_of,
    caller,
    narrowed,
    page,
    require,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.calls import service
from tocsin.calls.history import summarize_calls
from tocsin.calls.models import CallLeg, PhoneCall
from tocsin.calls.routes import call_for_test
from tocsin.calls.states import CallOutcome, CallPhase, Cause, LegStatus
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text
from tocsin.resources.registry import CALL_ROUTES
from tocsin.resources.resource import find

CALL_ROUTE_RESOURCE = ApiResource(CALL_ROUTES)
call_routes_routes = CALL_ROUTE_RESOURCE.routes


class TestCallResponse(BaseModel):
    """A test call that the provider makes."""

    number: str = Field(description="Your number, which rings.")


@call_routes_routes.post(
    "/{id}/test-call",
    Permission.MANAGE_ROUTING,
    status=202,
    answers=TestCallResponse,
    summary="Calls you, as a caller of the route: whom it reaches is rung",
)
def test_call(request: HttpRequest, id: str) -> dict[str, Any]:
    """Your first contact method for calls rings. The alert of the call is marked as a test."""
    principal = caller(request)
    route = CALL_ROUTE_RESOURCE.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    return {"number": call_for_test(route, principal.user.pk)}


register(CALL_ROUTE_RESOURCE)

routes = AuthorizedRouter("calls")

_NO_RECORDING = Text("The call has no recording.")


class CallLegSchema(BaseModel):
    """One ring of one person."""

    user: str = Field(description="The person's name at the time.")
    capacity: str = Field(description="Such as `secondary, Service Desk`.")
    number: str = Field(description="Empty once the person's account is deleted.")
    round: int
    status: LegStatus
    reason: ReasonSchema | None
    rung_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None


class CallSchema(BaseModel):
    """A call to a hotline."""

    id: int
    route: str = Field(description="The route's name at the time.")
    number: str = Field(description="The number that was called.")
    caller: str = Field(description="Empty: withheld.")
    caller_name: str
    client: str
    phase: CallPhase
    outcome: CallOutcome | None = Field(description="None: it is not decided yet.")
    cause: Cause | None = Field(description="Why no one took it, or why it went to voicemail.")
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    answered_by: str | None
    alert_id: int | None
    test: bool
    recording_seconds: int
    has_recording: bool = Field(description="Whether `/recording` serves it.")
    recording_reason: ReasonSchema | None = Field(description="Why the recording could not be fetched.")
    transcription: str
    legs: list[CallLegSchema]


class CallCountSchema(BaseModel):
    name: str
    calls: int


class HourCountSchema(BaseModel):
    hour: int = Field(description="Hour of the day, in UTC.")
    calls: int


class CallFiguresSchema(BaseModel):
    """How the calls of a period went; tests count for none."""

    calls: int
    answered: int
    missed: int
    voicemails: int
    seconds_to_person: int | None = Field(description="Median until a person took the call; null: no one did.")
    by_person: list[CallCountSchema] = Field(description="Who took how many.")
    by_client: list[CallCountSchema]
    by_hour: list[HourCountSchema]


class CallFiguresQuery(BaseModel):
    days: int = Field(default=30, ge=1, le=366, description="The last days.")


class CallFilters(PaginationQuery):
    phase: list[CallPhase] = []
    outcome: list[CallOutcome] = []
    caller: str | None = None
    client: str | None = None
    alert_id: Number | None = None
    started_after: Moment | None = None
    started_before: Moment | None = None


def _show(calls: Sequence[PhoneCall]) -> list[dict[str, Any]]:
    return [
        show(
            CallSchema,
            call,
            route=call.route_name,
            number=call.called,
            outcome=call.outcome or None,
            cause=call.cause or None,
            answered_by=call.answered_by.display_name if call.answered_by else None,
            test=call.is_test,
            has_recording=getattr(call, "has_recording", False),
            legs=[_show_leg(leg) for leg in call.legs.all()],
        )
        for call in calls
    ]


def _show_leg(leg: CallLeg) -> dict[str, Any]:
    return show(CallLegSchema, leg, user=leg.user_name)


def _rows() -> Any:
    return service.for_lists(PhoneCall.objects.select_related("answered_by").prefetch_related("legs"))


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[CallSchema], summary="Calls to hotlines, newest first")
def list_calls(request: HttpRequest, query: Query[CallFilters]) -> dict[str, Any]:
    rows = narrowed(
        _rows(), query, "caller", "alert_id", phase="phase__in", outcome="outcome__in", client="client__iexact",
        started_after="started_at__gte", started_before="started_at__lt",
    )  # fmt: skip
    return page(rows, query, _show, newest_first=True)


@routes.get(
    "/figures", Permission.VIEW_ALERTS, answers=CallFiguresSchema, summary="How the calls of the last days went"
)
def get_figures(request: HttpRequest, query: Query[CallFiguresQuery]) -> dict[str, Any]:
    found = summarize_calls(caller(request).now - timedelta(days=query.days))
    return show(
        CallFiguresSchema,
        found,
        by_person=[{"name": name, "calls": calls} for name, calls in found.by_person],
        by_client=[{"name": name, "calls": calls} for name, calls in found.by_client],
        by_hour=[{"hour": hour, "calls": calls} for hour, calls in found.by_hour],
    )


@routes.get("/{id}", Permission.VIEW_ALERTS, answers=CallSchema, summary="One call, with every ring of a person")
def get_call(request: HttpRequest, id: str) -> dict[str, Any]:
    return _show([find(_rows(), id, label="call", name_column="external_id")])[0]


_AUDIO = {media: {"schema": {"type": "string", "format": "binary"}} for media in sorted(service.PLAYABLE)}


@routes.get(
    "/{id}/recording",
    Permission.VIEW_ALERTS,
    answers=None,
    summary="What was said on a call",
    extra={"responses": {200: {"description": "The recording.", "content": _AUDIO}}},
)
def get_recording(request: HttpRequest, id: str) -> HttpResponse:
    call = find(PhoneCall.objects.all(), id, label="call", name_column="external_id")
    if call.recording is None:
        raise Rejected("not_found", _NO_RECORDING())
    return HttpResponse(bytes(call.recording), content_type=service.playable_type(call))


@routes.delete(
    "/{id}/recording", Permission.MANAGE_ROUTING, status=204, answers=None, summary="Delete what was said on a call"
)
def delete_recording(request: HttpRequest, id: str) -> None:
    principal, call = caller(request), find(PhoneCall.objects.all(), id, label="call", name_column="external_id")
    require(principal, Permission.MANAGE_ROUTING, call.group_id)
    service.delete_recording(call, actor=audit_actor_of(principal), now=principal.now)
