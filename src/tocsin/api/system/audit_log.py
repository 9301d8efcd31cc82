"""The audit log: configuration changes with their old and new values, and sign-ins. Read only."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Query

from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.api.framework.audit_entries import AuditEntrySchema, show_entries
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.moments import Moment
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.resources.lookup import find

routes = AuthorizedRouter("audit-log")


class AuditFilters(PaginationQuery):
    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    object_name: str | None = None
    via: str | None = None
    at_after: Moment | None = None
    at_before: Moment | None = None


@routes.get("", Permission.ADMINISTER, answers=PaginatedList[AuditEntrySchema], summary="The audit log, newest first")
def list_entries(request: HttpRequest, query: Query[AuditFilters]) -> dict[str, Any]:
    rows = AuditEntry.objects.all()
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
    return page(rows, query, show_entries, newest_first=True)


@routes.get("/{int:id}", Permission.ADMINISTER, answers=AuditEntrySchema, summary="One entry")
def get_entry(request: HttpRequest, id: int) -> dict[str, Any]:
    return show_entries([find(AuditEntry.objects.all(), str(id), label="audit entry")])[0]
