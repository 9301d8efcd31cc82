"""Schedules: the shifts of a group."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from tocsin.access.roles import Permission
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.reason_json import show_reason
from tocsin.oncall.changes import commands
from tocsin.resources import registry

#: A change that does not mention overrides keeps them.
SCHEDULES = ApiResource(registry.SCHEDULES, patched_spec=commands.spec_without_overrides, null_values={"overrides": []})
routes = SCHEDULES.routes


@routes.get(
    "/{id}/imports", Permission.VIEW_ALERTS, summary="What was last read of the calendars that its shifts come from"
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
