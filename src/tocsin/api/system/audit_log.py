"""The audit log: configuration changes with their old and new values, and sign-ins. Read only.

Managers read the entries about objects of their groups, without IP addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Schema
from pydantic import Field

from tocsin.access import audit_export
from tocsin.access.audit_export import ExportFormat
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.api.framework.audit_entries import AuditEntrySchema, show_entries
from tocsin.api.framework.auth import Principal, caller, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.moments import Moment
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.people import permissions
from tocsin.resources.lookup import find

routes = AuthorizedRouter("audit-log")

_FILES = {kind: {"schema": {"type": "string"}} for kind in ("application/jsonl", "text/csv")}


class AuditFilters(Schema):
    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    object_name: str | None = None
    via: str | None = None
    at_after: Moment | None = None
    at_before: Moment | None = None


class AuditListQuery(AuditFilters, PaginationQuery):
    pass


class AuditExportQuery(AuditFilters):
    format: ExportFormat = Field(
        default=ExportFormat.JSON_LINES, description="`jsonl`: one entry a line, as in the list."
    )


@routes.get(
    "", Permission.READ_AUDIT_LOG, answers=PaginatedList[AuditEntrySchema], summary="The audit log, newest first"
)
def list_entries(request: HttpRequest, query: Query[AuditListQuery]) -> dict[str, Any]:
    principal = caller(request)

    def show(entries: Sequence[AuditEntry]) -> list[dict[str, Any]]:
        return show_entries(entries, with_address=principal.sees_addresses_of_actors)

    return page(_filtered(principal, query), query, show, newest_first=True)


@routes.get(
    "/export",
    Permission.READ_AUDIT_LOG,
    answers=None,
    extra={"responses": {200: {"description": "The file.", "content": _FILES}}},
    summary="The whole log as CSV or JSON lines, newest first",
)
def export_entries(request: HttpRequest, query: Query[AuditExportQuery]) -> StreamingHttpResponse:
    principal = caller(request)
    rows = _filtered(principal, query).order_by("-pk").iterator(chunk_size=500)
    lines = audit_export.export(rows, query.format, with_address=principal.sees_addresses_of_actors)
    return StreamingHttpResponse(lines, content_type=query.format.content_type)


@routes.get("/{int:id}", Permission.READ_AUDIT_LOG, answers=AuditEntrySchema, summary="One entry")
def get_entry(request: HttpRequest, id: int) -> dict[str, Any]:
    principal = caller(request)
    entry = find(AuditEntry.objects.all(), str(id), label="audit entry")
    require(principal, Permission.READ_AUDIT_LOG, entry.group_id)
    return show_entries([entry], with_address=principal.sees_addresses_of_actors)[0]


def _filtered(principal: Principal, query: AuditFilters) -> QuerySet[AuditEntry]:
    rows = permissions.visible_audit_entries(principal.viewer)
    for name in ("action", "object_type", "object_id", "via"):
        if (text := getattr(query, name)) is not None:
            rows = rows.filter(**{name: text})
    if query.actor is not None:
        rows = rows.filter(actor_name__iexact=query.actor)
    if query.object_name is not None:
        rows = rows.filter(object_name__iexact=query.object_name)
    if query.at_after is not None:
        rows = rows.filter(at__gte=query.at_after)
    if query.at_before is not None:
        rows = rows.filter(at__lt=query.at_before)
    return rows
