"""Browsers in which users are signed in: users see and end their own sessions, administrators all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.identity import browser_sessions
from tocsin.identity.models import BrowserSession
from tocsin.resources import registry
from tocsin.resources.lookup import find

routes = AuthorizedRouter("signed-in-devices")


class SignedInDeviceSchema(BaseModel):
    """A browser in which a user is signed in."""

    id: str
    user: str
    provider: str | None = Field(description="Identity provider of the sign-in; null for a password or passkey.")
    address: str | None = Field(description="IP address of the sign-in.")
    user_agent: str
    created_at: datetime = Field(description="The sign-in.")
    seen_at: datetime = Field(description="The last request, to within some minutes.")


class SignedInDeviceFilters(PaginationQuery):
    user: str | None = None


@routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PaginatedList[SignedInDeviceSchema],
    summary="Your signed-in devices; an administrator sees all",
)
def list_signed_in_devices(request: HttpRequest, query: Query[SignedInDeviceFilters]) -> dict[str, Any]:
    rows = _visible(caller(request))
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _show)


@routes.get("/{id}", Permission.VIEW_SELF, answers=SignedInDeviceSchema, summary="One signed-in device")
def get_signed_in_device(request: HttpRequest, id: str) -> dict[str, Any]:
    return _show([_find(caller(request), id)])[0]


@routes.delete("/{id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Sign out there")
def delete_signed_in_device(request: HttpRequest, id: str) -> None:
    principal = caller(request)
    row = _find(principal, id)
    browser_sessions.end(BrowserSession.objects.filter(pk=row.pk))
    browser_sessions.record_end(row.user, 1, actor=audit_actor_of(principal), now=principal.now)


def _visible(principal: Principal) -> QuerySet[BrowserSession]:
    owner = None if principal.is_admin else principal.user
    return browser_sessions.active_sessions(owner, principal.now).select_related("user")


def _find(principal: Principal, key: str) -> BrowserSession:
    return find(_visible(principal), key, label="device", name_column="session_key")


def _show(rows: Sequence[BrowserSession]) -> list[dict[str, Any]]:
    return [
        {
            "id": row.pk,
            "user": row.user.username,
            "provider": row.provider.name if row.provider else None,
            "address": row.address,
            "user_agent": row.user_agent,
            "created_at": row.created_at,
            "seen_at": row.seen_at,
        }
        for row in rows
    ]
