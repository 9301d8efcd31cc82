"""Overrides: a user is on call for a period, on one shift, in one role or in a whole schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from pydantic import BaseModel, Field

from tocsin.api.framework.auth import Principal
from tocsin.api.framework.moments import Moment
from tocsin.api.framework.pagination import PaginationQuery
from tocsin.api.framework.resources import ApiResource, register
from tocsin.oncall.models import Override
from tocsin.resources import registry


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
    if query.schedule is not None:
        rows = rows.filter(schedule=registry.SCHEDULES.resolve(query.schedule, "schedule"))
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
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
