"""Schedules: the shifts of a group."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.resources import ApiResource, register
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.reason_json import show_reason
from tocsin.oncall.changes import commands
from tocsin.resources import registry

#: A change that does not mention overrides keeps them.
SCHEDULES = ApiResource(registry.SCHEDULES, patched_spec=commands.spec_without_overrides, null_values={"overrides": []})
routes = SCHEDULES.routes


class CalendarImportSchema(BaseModel):
    """What was last read of a shift's calendar."""

    shift: str
    read_at: datetime | None
    due_at: datetime
    error: str
    error_code: ReasonCode
    error_data: ReasonData
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
    schedule = SCHEDULES.find(id)
    return {
        "items": [
            {
                "shift": row.shift,
                "read_at": row.read_at,
                "due_at": row.due_at,
                **show_reason(row.error, "error"),
                "unknown": row.unknown,
                "turns": len(row.spans),
            }
            for row in schedule.imports.all()
        ]
    }


register(SCHEDULES)
