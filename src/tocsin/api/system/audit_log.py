"""The audit log: configuration changes with their old and new values, and sign-ins. Read only.

Managers read the entries about objects of their groups, without IP addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.audit_log import export as audit_export
from tocsin.access.audit_log import forwarding
from tocsin.access.audit_log.export import ExportFormat
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.api.framework.audit_entries import AuditEntrySchema, show_entries
from tocsin.api.framework.auth import Principal, caller, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.moments import Moment
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.reason_json import show_reason
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


class ForwardingResponse(BaseModel):
    """How far the audit log was forwarded to the setting `audit_forwarding`."""

    target: str = Field(description="The setting; empty: the log is not forwarded.")
    cursor: int = Field(description="The sequence of the last entry that was sent.")
    waiting: int = Field(description="The number of entries that wait.")
    sent_at: datetime | None
    failed_since: datetime | None
    reason: str = Field(description="Why the last attempt failed; empty if it did not.")
    reason_code: ReasonCode
    reason_data: ReasonData
    signing_secret: str = Field(description="Signs the requests of a webhook, as of Standard Webhooks.")


@routes.get(
    "/forwarding", Permission.ADMINISTER, answers=ForwardingResponse, summary="The forwarding to syslog or a webhook"
)
def get_forwarding(request: HttpRequest) -> dict[str, Any]:
    with database.transaction() as connection:
        state = forwarding.load_state(connection)
        target = settings_store.load(connection)[settings_store.AUDIT_FORWARDING.name]
    return {
        "target": target,
        "cursor": state.cursor,
        "waiting": state.waiting,
        "sent_at": state.sent_at,
        "failed_since": state.failed_since,
        **show_reason(state.problem),
        "signing_secret": state.signing_secret,
    }


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
