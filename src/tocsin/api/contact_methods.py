"""Contact methods: users edit their own, administrators edit all. Other users' addresses may be masked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework import auth
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
    forbidden,
    page,
)
from tocsin.api.framework.resources import SpecSchema, written_as
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.notify import notices
from tocsin.notify.inbound import verification
from tocsin.notify.integrations import web_push
from tocsin.notify.models import PushDevice
from tocsin.notify.notices import METHOD_NOT_FOUND
from tocsin.people.changes import users
from tocsin.people.changes.users import Channel, ContactSpec
from tocsin.people.models import ContactMethod, User
from tocsin.people.notification_rules import NotificationRules
from tocsin.resources import registry
from tocsin.resources.resource import NOT_A_USERNAME, ResourceSpec, find

_OTHER_USER = Text("A contact method stays with its user; add one to the other user instead.")

routes = AuthorizedRouter("contact-methods")

EXAMPLE = {"label": "Phone-Official-Mobile", "channel": "voice", "address": "+41790000001", "wait": "3m"}
_EXTRA = {"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}}


class ContactMethodFilters(PaginationQuery):
    user: str | None = None
    channel: Channel | None = None
    label: str | None = None
    enabled: bool | None = Field(default=None, description="Whether it is in use.")


class VerificationCodeBody(BaseModel):
    """The six-digit code."""

    code: str


class ContactTestQueuedResponse(BaseModel):
    """A test message that was queued."""

    notification_id: UUID


class ContactMethodFields(BaseModel):
    """What is shown of a contact method besides its settings."""

    verified_at: datetime | None
    awaits_code: bool = Field(description="Whether it is not used before it is confirmed.")


class ContactMethodOwner(BaseModel):
    """Whose it is."""

    user: str = Field(description="Username. In a body only for administrators, and for a new one.")


_SCHEMA = SpecSchema(ContactSpec, read_only=ContactMethodFields, also=ContactMethodOwner, name="ContactMethodSpec")


@routes.get("", Permission.VIEW_ALERTS, answers=_SCHEMA.listed, summary="Contact methods")
def list_contact_methods(request: HttpRequest, query: Query[ContactMethodFilters]) -> dict[str, Any]:
    principal, rows = caller(request), _rows()
    if query.user is not None:
        rows = rows.filter(user=_user(query.user))
    if query.channel is not None:
        rows = rows.filter(channel=query.channel)
    if query.label is not None:
        rows = rows.filter(label__iexact=query.label)
    if query.enabled is not None:
        rows = rows.filter(is_enabled=query.enabled)
    return page(rows, query, lambda page_rows: [_show(method, principal) for method in page_rows])


@routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=_SCHEMA.whole, summary="One contact method", tagged=True)
def get_contact_method(request: HttpRequest, response: HttpResponse, id: Number) -> dict[str, Any]:
    return _tagged(_find(id), caller(request), response)


@routes.post(
    "",
    Permission.MANAGE_SELF,
    status=201,
    answers=_SCHEMA.whole,
    body=_SCHEMA.whole,
    summary="Add one of yours, or as an administrator of `user`",
    extra=_EXTRA,
)
def create_contact_method(request: HttpRequest, body: Body[dict[str, Any]]) -> dict[str, Any]:
    principal = caller(request)
    user = principal.user if body.get("user") is None else _user_from_body(body["user"])
    return _show(_save(user, body, None, principal), principal)


@routes.put(
    "/{int:id}",
    Permission.MANAGE_SELF,
    answers=_SCHEMA.whole,
    body=_SCHEMA.whole,
    summary="Make it what the body says",
    extra=_EXTRA,
    tagged=True,
)
def replace_contact_method(
    request: HttpRequest, response: HttpResponse, id: Number, body: Body[dict[str, Any]]
) -> dict[str, Any]:
    principal = caller(request)
    with settings_store.exclusive():
        return _tagged(_save_existing(_find_for_change(request, id), body, principal), principal, response)


@routes.patch(
    "/{int:id}",
    Permission.MANAGE_SELF,
    answers=_SCHEMA.whole,
    body=_SCHEMA.changes,
    summary="Change the keys of the body; the others stay, null takes one away",
    tagged=True,
)
def change_contact_method(
    request: HttpRequest, response: HttpResponse, id: Number, body: Body[dict[str, Any]]
) -> dict[str, Any]:
    principal = caller(request)
    with settings_store.exclusive():
        method = _find_for_change(request, id)
        return _tagged(
            _save_existing(method, {**users.contact_method_spec(method), **body}, principal), principal, response
        )


@routes.delete("/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Delete it", tagged=True)
def delete_contact_method(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    with settings_store.exclusive():
        users.delete_contact_method(_find_for_change(request, id), actor=audit_actor_of(principal), now=principal.now)


@routes.post(
    "/{int:id}/test",
    Permission.MANAGE_SELF,
    status=202,
    answers=ContactTestQueuedResponse,
    summary="Send a test by it, and see in `deliveries?notification_id=` what becomes of it",
)
def test_contact_method(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal, method = caller(request), _find(id)
    _require_owner_or_admin(principal, method.user)
    with database.transaction() as connection:
        sent = notices.queue_test(connection, method, principal.now)
        database.notify(connection, "outbox")
    return {"notification_id": sent}


@routes.post(
    "/{int:id}/send-code",
    Permission.MANAGE_SELF,
    status=202,
    answers=ContactTestQueuedResponse,
    summary="Send a code to one of yours, to confirm it",
)
def send_code(request: HttpRequest, id: Number) -> dict[str, Any]:
    """A new address is used once its owner has verified it. What administrators enter for themselves, or a file
    has, is used at once."""
    principal, method = caller(request), _find(id)
    _require_self(principal, method.user)
    return {"notification_id": verification.send_code(method, now=principal.now)}


@routes.post(
    "/{int:id}/confirm",
    Permission.MANAGE_SELF,
    answers=_SCHEMA.whole,
    summary="Confirm one of yours by the code that was sent to it",
    extra={"requestBody": {"content": {"application/json": {"example": {"code": "123456"}}}}},
)
def confirm_contact_method(request: HttpRequest, id: Number, body: VerificationCodeBody) -> dict[str, Any]:
    principal, method = caller(request), _find(id)
    _require_self(principal, method.user)
    verification.confirm(method, body.code, actor=audit_actor_of(principal), now=principal.now)
    return _show(_find(id), principal)


def _find_for_change(request: HttpRequest, method_id: int) -> ContactMethod:
    """Return a contact method for a change: checks the caller's permission and If-Match."""
    method = _find(method_id)
    _require_owner_or_admin(caller(request), method.user)
    # The audit log records contact methods as changes of their user.
    auth.check(request, users.contact_method_spec(method), "user", method.user_id)
    return method


def _tagged(method: ContactMethod, principal: Principal, response: HttpResponse) -> dict[str, Any]:
    auth.tag(response, users.contact_method_spec(method))
    return _show(method, principal)


def _save_existing(method: ContactMethod, body: ResourceSpec, principal: Principal) -> ContactMethod:
    if body.get("user") is not None and _user_from_body(body["user"]) != method.user:
        raise Rejected("invalid", _OTHER_USER(), "user")
    return _save(method.user, body, method, principal)


def _save(user: User, body: ResourceSpec, existing: ContactMethod | None, principal: Principal) -> ContactMethod:
    _require_owner_or_admin(principal, user)
    spec = {name: value for name, value in body.items() if name not in ("id", "user", "verified_at", "awaits_code")}
    method = users.save_contact_method(
        user, spec, existing=existing, actor=audit_actor_of(principal), now=principal.now
    )
    return _find(method.pk)


def _require_self(principal: Principal, user: User) -> None:
    if user != principal.user:
        raise Rejected("not_found", METHOD_NOT_FOUND())


def _require_owner_or_admin(principal: Principal, user: User) -> None:
    if user != principal.user and not principal.is_admin:
        raise forbidden(principal, Permission.ADMINISTER)


def _rows() -> QuerySet[ContactMethod]:
    return ContactMethod.objects.select_related("user")


def _find(method_id: int) -> ContactMethod:
    return find(_rows(), str(method_id), label="contact method")


def _user(name: str) -> User:
    return registry.USERS.resolve(name, "user")


def _user_from_body(name: object) -> User:
    if not isinstance(name, str):
        raise Rejected("invalid", AT_PATH(path="user", problem=NOT_A_USERNAME()), "user")
    return _user(name)


def _show(method: ContactMethod, principal: Principal) -> dict[str, Any]:
    spec = users.contact_method_spec(method)
    spec["address"] = principal.viewer.address(method.user_id, method.channel, method.address)
    verification_fields = {"verified_at": method.verified_at, "awaits_code": method.awaits_code}
    return {"id": method.pk, "user": method.user.username, **spec, **verification_fields}


# ---------- push devices
# Push devices: users see their own, administrators see all. The push subscription itself is never shown.


push_devices_routes = AuthorizedRouter("push-devices")


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


@push_devices_routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PaginatedList[PushDeviceSchema],
    summary="Your devices; an administrator sees all",
)
def list_push_devices(request: HttpRequest, query: Query[PushDeviceFilters]) -> dict[str, Any]:
    rows = _visible(caller(request))
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _show_push_devices)


@push_devices_routes.get(
    "/key", Permission.VIEW_SELF, answers=PushKeyResponse, summary="The key that a browser subscribes with"
)
def get_push_key(request: HttpRequest) -> dict[str, str]:
    return {"public": web_push.public(caller(request).now)}


@push_devices_routes.get("/{int:id}", Permission.VIEW_SELF, answers=PushDeviceSchema, summary="One device")
def get_push_device(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show_push_devices([_find_push_devices(caller(request), id)])[0]


@push_devices_routes.post(
    "", Permission.MANAGE_SELF, status=201, answers=PushDeviceSchema, summary="Take pushes on a device, as yourself"
)
def create_push_device(request: HttpRequest, body: NewPushDeviceBody) -> dict[str, Any]:
    principal = caller(request)
    device = web_push.subscribe(
        principal.user, body.subscription.model_dump(), body.name, actor=audit_actor_of(principal), now=principal.now
    )
    return _show_push_devices([device])[0]


@push_devices_routes.patch(
    "/{int:id}", Permission.MANAGE_SELF, answers=PushDeviceSchema, summary="Give it another name"
)
def rename_push_device(request: HttpRequest, id: Number, body: RenamePushDeviceBody) -> dict[str, Any]:
    principal = caller(request)
    device = _find_push_devices(principal, id)
    web_push.rename(device, body.name, actor=audit_actor_of(principal), now=principal.now)
    return _show_push_devices([device])[0]


@push_devices_routes.delete(
    "/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Forget it: it takes no pushes any more"
)
def delete_push_device(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    web_push.remove(_find_push_devices(principal, id), actor=audit_actor_of(principal), now=principal.now)


def _visible(principal: Principal) -> QuerySet[PushDevice]:
    rows = PushDevice.objects.select_related("user")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _find_push_devices(principal: Principal, device_id: int) -> PushDevice:
    return find(_visible(principal), str(device_id), label="device")


def _show_push_devices(rows: Sequence[PushDevice]) -> list[dict[str, Any]]:
    return [{**web_push.device_spec(row), "user": row.user.username} for row in rows]


# ---------- notification rules
# The caller's notification rules: contact methods per priority, quiet hours, hourly limit.


notification_rules_routes = AuthorizedRouter("notification-rules")

NOTIFICATION_RULES_EXAMPLE = {
    "notification_rules": {
        "by_priority": {"critical": [{"method": "SMS-Official"}, {"method": "Phone-Official-Mobile", "wait": "3m"}]},
        "quiet_hours": [{"from": "22:00", "to": "07:00", "let_through": "high"}],
        "most_per_hour": 20,
    }
}


_Rules = Annotated[dict[str, Any], written_as(NotificationRules)]


class NotificationRulesResponse(BaseModel):
    """The caller's own rules, in the form of a user's YAML spec. Empty if there are none."""

    notification_rules: _Rules


class NotificationRulesBody(Schema):
    model_config = {"extra": "forbid"}

    notification_rules: _Rules = Field(description="by_priority, quiet_hours and most_per_hour; {}: no rules.")


@notification_rules_routes.get(
    "", Permission.VIEW_SELF, answers=NotificationRulesResponse, summary="Your own notification rules"
)
def get_notification_rules(request: HttpRequest) -> dict[str, Any]:
    return {"notification_rules": caller(request).user.notification_rules}


@notification_rules_routes.put(
    "",
    Permission.MANAGE_SELF,
    answers=NotificationRulesResponse,
    summary="Make your own notification rules these",
    extra={"requestBody": {"content": {"application/json": {"example": NOTIFICATION_RULES_EXAMPLE}}}},
)
def put_notification_rules(request: HttpRequest, body: NotificationRulesBody) -> dict[str, Any]:
    principal = caller(request)
    users.save_notification_rules(
        principal.user, body.notification_rules, actor=audit_actor_of(principal), now=principal.now
    )
    return {"notification_rules": User.objects.get(pk=principal.user.pk).notification_rules}
