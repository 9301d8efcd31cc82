"""Schedules: the shifts of a group."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Body, Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import Number, PaginatedList, PaginationQuery, UtcDatetime, caller, page
from tocsin.api.framework.resources import ApiResource, register
from tocsin.api.on_call import RangeQuery, TimelineResponse, requested_range, show_timeline
from tocsin.api.users import GROUPS, groups_routes
from tocsin.core.reasons import show_reason
from tocsin.oncall.changes import commands
from tocsin.oncall.models import HandoverNote, Schedule
from tocsin.reports import handover
from tocsin.reports.handover import FactSection, SeenNote
from tocsin.resources import registry
from tocsin.resources.registry import HOLIDAY_CALENDARS, SUPPORT_HOURS
from tocsin.resources.resource import find

#: A change that does not mention overrides keeps them.
SCHEDULES = ApiResource(registry.SCHEDULES, patched_spec=commands.spec_without_overrides, null_values={"overrides": []})
routes = SCHEDULES.routes


class CalendarImportSchema(BaseModel):
    """What was last read of a shift's calendar."""

    shift: str
    read_at: datetime | None
    due_at: datetime
    error: ReasonSchema | None
    unknown: list[str] = Field(description="Names in the calendar that are no users.")
    turns: int = Field(description="Number of events.")


class CalendarImportsResponse(BaseModel):
    items: list[CalendarImportSchema]


@routes.get(
    "/{id}/imports",
    Permission.VIEW_ALERTS,
    answers=CalendarImportsResponse,
    summary="What was last read of the calendars that its shifts come from",
)
def schedule_imports(request: HttpRequest, id: str) -> dict[str, Any]:
    rows = SCHEDULES.find(id).imports.all()
    return {"items": [show(CalendarImportSchema, row, turns=len(row.spans)) for row in rows]}


register(SCHEDULES)


# ---------- handovers
# Handover notes of a schedule: the facts, and the text that an outgoing user writes above them.


class HandoverFactSchema(BaseModel):
    """One fact, and the alert that it is about, if any."""

    reason: ReasonSchema
    alert_id: int | None


class HandoverSectionSchema(BaseModel):
    """A heading with the facts below it."""

    title: ReasonSchema
    facts: list[HandoverFactSchema]


class HandoverSummarySchema(BaseModel):
    """A handover and its note. It is planned a day ahead, and mailed once: `sent_at`."""

    id: int
    at: datetime
    since: datetime = Field(description="When the shift that ends then began.")
    outgoing: list[str]
    incoming: list[str]
    text: str = Field(description="What an outgoing user wrote above the facts.")
    edited_by: str | None
    edited_at: datetime | None
    sent_at: datetime | None


class HandoverNoteSchema(HandoverSummarySchema):
    """The note with its facts: as mailed, or before that as they are now."""

    sections: list[HandoverSectionSchema]


class HandoverTextBody(Schema):
    model_config = {"extra": "forbid"}

    text: str
    edited_at: UtcDatetime | None = Field(
        default=None,
        description="The note's `edited_at` as you read it, null if no one had edited it: the change is refused if it "
        "was edited since. Without it, any edit is overwritten.",
    )


@routes.get(
    "/{id}/handovers",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[HandoverSummarySchema],
    summary="Its handover notes, newest first; the next one from a day before",
)
def list_handovers(request: HttpRequest, id: str, query: Query[PaginationQuery]) -> dict[str, Any]:
    return page(_rows(SCHEDULES.find(id)), query, _show, newest_first=True)


@routes.get(
    "/{id}/handovers/{int:note_id}", Permission.VIEW_ALERTS, answers=HandoverNoteSchema, summary="One handover note"
)
def get_handover(request: HttpRequest, id: str, note_id: Number) -> dict[str, Any]:
    return _show_note(_find(id, note_id), caller(request).now)


@routes.put(
    "/{id}/handovers/{int:note_id}",
    Permission.MANAGE_SELF,
    answers=HandoverNoteSchema,
    summary="Write the text above the facts: as the outgoing user, or as a manager of the group",
)
def put_handover(request: HttpRequest, id: str, note_id: Number, body: HandoverTextBody) -> dict[str, Any]:
    principal, note = caller(request), _find(id, note_id)
    seen = SeenNote(body.edited_at) if "edited_at" in body.model_fields_set else None
    handover.save_text(note, body.text, principal.viewer, principal.now, seen)
    return _show_note(_find(id, note_id), principal.now)


@routes.post(
    "/{id}/handovers/{int:note_id}/send",
    Permission.MANAGE_SELF,
    answers=HandoverNoteSchema,
    summary="Mail it now, instead of when the shift changes",
)
def send_handover(request: HttpRequest, id: str, note_id: Number) -> dict[str, Any]:
    principal = caller(request)
    handover.send_now(_find(id, note_id), principal.viewer, principal.now)
    return _show_note(_find(id, note_id), principal.now)


def _rows(schedule: Schedule) -> QuerySet[HandoverNote]:
    return HandoverNote.objects.filter(schedule=schedule).select_related("schedule__group", "edited_by")


def _find(id: str, note_id: int) -> HandoverNote:
    return find(_rows(SCHEDULES.find(id)), str(note_id), label="handover note")


def _show_note(note: HandoverNote, now: datetime) -> dict[str, Any]:
    (shown,) = _show([note])
    return {**shown, "sections": [_section(section) for section in handover.current_facts(note, now)]}


def _show(rows: Sequence[HandoverNote]) -> list[dict[str, Any]]:
    people = handover.people_of(rows)
    return [
        show(
            HandoverSummarySchema,
            note,
            outgoing=[people[user_id].username for user_id in note.outgoing if user_id in people],
            incoming=[people[user_id].username for user_id in note.incoming if user_id in people],
            edited_by=note.edited_by.username if note.edited_by else None,
        )
        for note in rows
    ]


def _section(section: FactSection) -> dict[str, Any]:
    facts = [show(HandoverFactSchema, line) for line in section.lines]
    return {"title": show_reason(section.title), "facts": facts}


# ---------- holiday calendars
# Holiday calendars: the holidays of a country or region, and custom days.


holiday_calendars_routes = register(
    ApiResource(HOLIDAY_CALENDARS, filters={"country": (str, "country__iexact")})
).routes


# ---------- support hours
# Support hours: named sets of weekly windows.


support_hours_routes = register(ApiResource(SUPPORT_HOURS)).routes


# ---------- schedule preview
# Previews an unsaved schedule: the group's timeline, computed by the code that decides who is paged.


class SchedulePreviewQuery(RangeQuery):
    """The range of the preview, and the schedule to replace."""

    existing: str | None = Field(default=None, description="The schedule that it would change, by number or name.")


@groups_routes.post(
    "/{id}/timeline",
    Permission.MANAGE_TEAMS,
    answers=TimelineResponse,
    body=SCHEDULES.schema.changes,
    summary="The same with a schedule as the body has it, before it is saved; saves nothing",
    example=SCHEDULES.resource.example,
)
def try_schedule(
    request: HttpRequest, id: str, body: Body[dict[str, Any]], query: Query[SchedulePreviewQuery]
) -> dict[str, Any]:
    principal = caller(request)
    group = GROUPS.find_authorized(id, principal, Permission.MANAGE_TEAMS)
    begin, end = requested_range(query, principal.now)
    existing = None
    if query.existing is not None:
        existing = SCHEDULES.find_authorized(query.existing, principal, Permission.MANAGE_TEAMS)
    spec = {**SCHEDULES.spec_of(body), "group": group.name}
    plan = commands.plan_with(spec, existing=existing, now=min(begin, principal.now))
    return show_timeline(plan, begin, end)
