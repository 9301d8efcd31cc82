"""An integration's versions: list, compare, restore; and the observed statuses with their effect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.api.framework.spec_schemas import SpecSchema
from tocsin.api.inbound.integrations import INTEGRATIONS, routes
from tocsin.inbound.admin import observed_statuses, specs, versions
from tocsin.inbound.admin.specs import DefinitionSpec
from tocsin.inbound.admin.status_rules import StatusEffect
from tocsin.inbound.models import Integration, IntegrationVersion
from tocsin.outbound.connectors.haloitsm.reference_data import statuses_by_effect

#: The schema of a version's definition.
DEFINITION = SpecSchema(DefinitionSpec, has_id=False)


class IntegrationVersionSchema(BaseModel):
    """Mapping, rules, filters and routes, effective from one moment on."""

    number: int
    created_at: datetime
    created_by: str | None
    definition: Annotated[dict[str, Any], DEFINITION.whole.annotation]
    current: bool


class VersionChangeSchema(BaseModel):
    """One part that differs between two versions. Null means the integration type's default."""

    part: str
    before: Any = Field(description="The part as the version has it; its form depends on the part.")
    after: Any = Field(description="The part as the other version has it.")


class VersionChangesResponse(BaseModel):
    changes: list[VersionChangeSchema]


class VersionChangesQuery(Schema):
    model_config = {"extra": "forbid"}

    to: Number | None = Field(default=None, description="The version to compare with; else the one in force.")


class ObservedStatusSchema(BaseModel):
    """A status that was received in the last 30 days."""

    name: str
    count: int
    count_week: int
    last_at: datetime
    does: StatusEffect | None
    opened_nothing: int = Field(description="Tickets of the last 7 days that came with it first, and opened nothing.")


class ObservedStatusesResponse(BaseModel):
    statuses: list[ObservedStatusSchema]
    warning: str
    partial: str = Field(description="Why messages of new tickets were left out; empty: none was.")
    in_halo: dict[StatusEffect, list[str]] = Field(
        description="The names of the connected Halo's statuses by what each does; empty if no Halo is connected."
    )


class StatusBody(Schema):
    model_config = {"extra": "forbid"}

    status: str = Field(max_length=100)
    does: StatusEffect


@routes.get(
    "/{id}/versions",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[IntegrationVersionSchema],
    summary="Its versions, newest first",
)
def list_versions(request: HttpRequest, id: str, query: Query[PaginationQuery]) -> dict[str, Any]:
    integration = INTEGRATIONS.find(id)
    rows = IntegrationVersion.objects.filter(integration=integration).select_related("created_by")
    return page(rows, query, lambda page_rows: _show_versions(integration, page_rows), newest_first=True)


@routes.get(
    "/{id}/versions/{int:number}/changes",
    Permission.VIEW_ALERTS,
    answers=VersionChangesResponse,
    summary="What differs between a version and another",
)
def compare_versions(request: HttpRequest, id: str, number: int, query: Query[VersionChangesQuery]) -> dict[str, Any]:
    integration, names = INTEGRATIONS.find(id), specs.load_reference_names()
    before = versions.describe_version(versions.find_version(integration, number), names)
    other_version = (
        versions.find_version(integration, query.to) if query.to is not None else integration.current_version
    )
    after = versions.describe_version(other_version, names) if other_version is not None else {}
    version_changes = versions.compare(before, after)
    return {
        "changes": [{"part": change.part, "before": change.before, "after": change.after} for change in version_changes]
    }


@routes.post(
    "/{id}/versions/{int:number}/restore",
    Permission.MANAGE_ROUTING,
    answers=INTEGRATIONS.schema.whole,
    summary="Bring a version back: its mapping, rules, filters and routes become a new version",
)
def restore_version(request: HttpRequest, id: str, number: int) -> dict[str, Any]:
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    versions.restore_version(integration, number, actor=audit_actor_of(principal), now=principal.now)
    return INTEGRATIONS.show_one(INTEGRATIONS.find(str(integration.pk)), principal)


@routes.get(
    "/{id}/statuses",
    Permission.VIEW_ALERTS,
    answers=ObservedStatusesResponse,
    summary="The statuses that came, how often, and what each does",
)
def list_statuses(request: HttpRequest, id: str) -> dict[str, Any]:
    return _statuses(INTEGRATIONS.find(id), caller(request).now)


@routes.put(
    "/{id}/statuses",
    Permission.MANAGE_ROUTING,
    answers=ObservedStatusesResponse,
    summary="Say what a status does: open, update or close. A new version of the rules",
)
def set_status(request: HttpRequest, id: str, body: StatusBody) -> dict[str, Any]:
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    saved = observed_statuses.set_status(
        integration, body.status, body.does, actor=audit_actor_of(principal), now=principal.now
    )
    return _statuses(INTEGRATIONS.find(str(saved.pk)), principal.now)


def _statuses(integration: Integration, now: datetime) -> dict[str, Any]:
    observed = observed_statuses.load_observed_statuses(integration, now)
    names = ("name", "count", "count_week", "last_at", "does", "opened_nothing")
    return {
        "statuses": [{name: getattr(status, name) for name in names} for status in observed.statuses],
        "warning": str(observed.warning),
        "partial": str(observed.partial),
        "in_halo": statuses_by_effect(integration),
    }


def _show_versions(integration: Integration, page_rows: Sequence[IntegrationVersion]) -> list[dict[str, Any]]:
    names = specs.load_reference_names()
    return [
        {
            "number": version.number,
            "created_at": version.created_at,
            "created_by": version.created_by.username if version.created_by else None,
            "definition": versions.describe_version(version, names),
            "current": version.pk == integration.current_version_id,
        }
        for version in page_rows
    ]
