"""Push devices: users see their own, administrators see all. The push subscription itself is never shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.notify.integrations.web_push import devices, keys
from tocsin.notify.models import PushDevice
from tocsin.resources import registry
from tocsin.resources.lookup import find

routes = AuthorizedRouter("push-devices")


class PushDeviceSchema(BaseModel):
    """A browser that receives push notifications. A device with `gone_at` no longer receives any."""

    id: int
    user: str
    name: str
    service: str = Field(description="The push service that its browser named.")
    created_at: datetime
    last_sent_at: datetime | None
    last_error: str
    gone_at: datetime | None


class PushKeyResponse(BaseModel):
    """The key that a browser needs to subscribe."""

    public: str = Field(description="The `applicationServerKey`: base64url of an uncompressed point of P-256.")


class PushKeysBody(BaseModel):
    """The keys of a subscription, in base64url."""

    p256dh: str
    auth: str


class PushSubscriptionBody(BaseModel):
    """A browser's subscription."""

    endpoint: str
    keys: PushKeysBody


class NewPushDeviceBody(Schema):
    model_config = {"extra": "forbid"}

    name: str = Field(max_length=1000)
    subscription: PushSubscriptionBody = Field(description="What `PushSubscription.toJSON()` gives.")


class RenamePushDeviceBody(Schema):
    model_config = {"extra": "forbid"}

    name: str = Field(max_length=1000)


class PushDeviceFilters(PaginationQuery):
    user: str | None = None


@routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PaginatedList[PushDeviceSchema],
    summary="Your devices; an administrator sees all",
)
def list_push_devices(request: HttpRequest, query: Query[PushDeviceFilters]) -> dict[str, Any]:
    rows = _visible(caller(request))
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _show)


@routes.get("/key", Permission.VIEW_SELF, answers=PushKeyResponse, summary="The key that a browser subscribes with")
def get_push_key(request: HttpRequest) -> dict[str, str]:
    return {"public": keys.public(caller(request).now)}


@routes.get("/{int:id}", Permission.VIEW_SELF, answers=PushDeviceSchema, summary="One device")
def get_push_device(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show([_find(caller(request), id)])[0]


@routes.post(
    "", Permission.MANAGE_SELF, status=201, answers=PushDeviceSchema, summary="Take pushes on a device, as yourself"
)
def create_push_device(request: HttpRequest, body: NewPushDeviceBody) -> dict[str, Any]:
    principal = caller(request)
    device = devices.subscribe(
        principal.user, body.subscription.model_dump(), body.name, actor=audit_actor_of(principal), now=principal.now
    )
    return _show([device])[0]


@routes.patch("/{int:id}", Permission.MANAGE_SELF, answers=PushDeviceSchema, summary="Give it another name")
def rename_push_device(request: HttpRequest, id: Number, body: RenamePushDeviceBody) -> dict[str, Any]:
    principal = caller(request)
    device = _find(principal, id)
    devices.rename(device, body.name, actor=audit_actor_of(principal), now=principal.now)
    return _show([device])[0]


@routes.delete(
    "/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Forget it: it takes no pushes any more"
)
def delete_push_device(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    devices.remove(_find(principal, id), actor=audit_actor_of(principal), now=principal.now)


def _visible(principal: Principal) -> QuerySet[PushDevice]:
    rows = PushDevice.objects.select_related("user")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _find(principal: Principal, device_id: int) -> PushDevice:
    return find(_visible(principal), str(device_id), label="device")


def _show(rows: Sequence[PushDevice]) -> list[dict[str, Any]]:
    return [{**devices.device_spec(row), "user": row.user.username} for row in rows]
