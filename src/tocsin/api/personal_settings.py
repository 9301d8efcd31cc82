"""What belongs to one user, who changes it as administrators do: contact methods, absences, push devices, notification
rules and reminders. Other users' addresses may be masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Protocol
from uuid import UUID

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.errors import show
from tocsin.api.framework import auth
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Moment,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
    forbidden,
    narrowed,
    page,
)
from tocsin.api.framework.resources import SpecSchema, written_as
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, sentence
from tocsin.core.validation.inputs import rejected_at
from tocsin.notify import notices
from tocsin.notify.inbound import verification
from tocsin.notify.integrations import web_push
from tocsin.notify.models import PushDevice
from tocsin.notify.notices import METHOD_NOT_FOUND
from tocsin.notify.providers import commands
from tocsin.oncall.changes import overrides
from tocsin.people.changes import out_of_office, users
from tocsin.people.changes.users import Channel, ContactSpec
from tocsin.people.models import ContactMethod, OutOfOffice, User
from tocsin.people.notification_rules import NotificationRules
from tocsin.resources import registry
from tocsin.resources.resource import NOT_A_USERNAME, ResourceSpec, find

# ---------- objects of one user


class _Save[M](Protocol):
    def __call__(
        self, user: User, spec: ResourceSpec, /, *, existing: M | None, actor: AuditActor, now: datetime
    ) -> M: ...


class _Delete[M](Protocol):
    def __call__(self, row: M, /, *, actor: AuditActor, now: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class OwnedResource[M: Model]:
    """A kind of object that belongs to one user."""

    routes: AuthorizedRouter
    schema: SpecSchema
    label: str
    example: dict[str, Any]
    new_summary: str
    delete_summary: str
    rows: Callable[[], QuerySet[M]]
    #: What it is for ETags, and what a PATCH changes.
    state: Callable[[M], dict[str, Any]]
    spec: Callable[[M], dict[str, Any]]
    show: Callable[[M, Principal], dict[str, Any]]
    save: _Save[M]
    delete: _Delete[M]
    #: The type and id of the object whose change the audit log records.
    audited: Callable[[M], tuple[str, object]]
    #: Keys of a body that change nothing.
    ignored: frozenset[str]
    other_user: Reason

    def find(self, number: int) -> M:
        return find(self.rows(), str(number), label=self.label)

    def find_for_change(self, request: HttpRequest, number: int) -> M:
        """Return an object for a change: checks the caller's permission and If-Match."""
        row = self.find(number)
        require_owner_or_admin(caller(request), _owner(row))
        auth.check(request, self.state(row), *self.audited(row))
        return row

    def show_tagged(self, row: M, principal: Principal, response: HttpResponse) -> dict[str, Any]:
        auth.tag(response, self.state(row))
        return self.show(row, principal)

    def save_for(self, user: User, body: ResourceSpec, existing: M | None, principal: Principal) -> M:
        if existing is not None and body.get("user") is not None and _user_from_body(body["user"]) != user:
            raise Rejected("invalid", self.other_user, "user")
        require_owner_or_admin(principal, user)
        spec = {name: value for name, value in body.items() if name not in self.ignored}
        actor, now = audit_actor_of(principal), principal.now
        return self.rows().get(pk=self.save(user, spec, existing=existing, actor=actor, now=now).pk)


def require_owner_or_admin(principal: Principal, user: User) -> None:
    if user != principal.user and not principal.is_admin:
        raise forbidden(principal, Permission.ADMINISTER)


def _owner(row: Any) -> User:
    owner: User = row.user
    return owner


def _user_from_body(name: object) -> User:
    if not isinstance(name, str):
        raise rejected_at("user", NOT_A_USERNAME())
    return registry.USERS.resolve(name, "user")


def register[M: Model](api: OwnedResource[M]) -> None:
    """Add the endpoints of single objects; each kind lists its own."""
    routes, whole = api.routes, api.schema.whole

    @routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=whole, summary=f"One {api.label}", tagged=True)
    def get(request: HttpRequest, response: HttpResponse, id: Number) -> dict[str, Any]:
        return api.show_tagged(api.find(id), caller(request), response)

    @routes.post(
        "",
        Permission.MANAGE_SELF,
        status=201,
        answers=whole,
        body=whole,
        summary=api.new_summary,
        example=api.example,
    )
    def create(request: HttpRequest, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        user = principal.user if body.get("user") is None else _user_from_body(body["user"])
        return api.show(api.save_for(user, body, None, principal), principal)

    @routes.put(
        "/{int:id}",
        Permission.MANAGE_SELF,
        answers=whole,
        body=whole,
        summary="Make it what the body says",
        example=api.example,
        tagged=True,
    )
    def replace(request: HttpRequest, response: HttpResponse, id: Number, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        with settings_store.exclusive():
            row = api.find_for_change(request, id)
            return api.show_tagged(api.save_for(_owner(row), body, row, principal), principal, response)

    @routes.patch(
        "/{int:id}",
        Permission.MANAGE_SELF,
        answers=whole,
        body=api.schema.changes,
        summary="Change the keys of the body; the others stay, null takes one away",
        tagged=True,
    )
    def change(request: HttpRequest, response: HttpResponse, id: Number, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        with settings_store.exclusive():
            row = api.find_for_change(request, id)
            saved = api.save_for(_owner(row), {**api.spec(row), **body}, row, principal)
            return api.show_tagged(saved, principal, response)

    @routes.delete(
        "/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary=api.delete_summary, tagged=True
    )
    def delete(request: HttpRequest, id: Number) -> None:
        principal = caller(request)
        with settings_store.exclusive():
            api.delete(api.find_for_change(request, id), actor=audit_actor_of(principal), now=principal.now)


# ---------- contact methods


contact_methods_routes = AuthorizedRouter("contact-methods")

CONTACT_METHOD = {"label": "Phone-Official-Mobile", "channel": "voice", "address": "+41790000001", "wait": "3m"}


class ContactMethodFilters(PaginationQuery):
    user: str | None = None
    channel: Channel | None = None
    label: str | None = None
    enabled: bool | None = Field(default=None, description="Whether it is in use.")


class VerificationCodeBody(BaseModel):
    """The six-digit code."""

    code: str


class RingBody(BaseModel):
    """Whether a test rang while the phone was silenced."""

    rings_silenced: bool


class ContactTestQueuedResponse(BaseModel):
    """A test message that was queued."""

    notification_id: UUID


class ContactMethodFields(BaseModel):
    """What is shown of a contact method besides its settings."""

    verified_at: datetime | None
    awaits_code: bool = Field(description="Whether it is not used before it is confirmed.")
    rings_silenced: bool | None = Field(
        description="Whether a test rang while the phone was silenced, as its user answered."
    )


class ContactMethodOwner(BaseModel):
    """Whose it is."""

    user: str = Field(description="Username. In a body only for administrators, and for a new one.")


_CONTACT_METHOD = SpecSchema(
    ContactSpec, read_only=ContactMethodFields, also=ContactMethodOwner, name="ContactMethodSpec"
)


@contact_methods_routes.get("", Permission.VIEW_ALERTS, answers=_CONTACT_METHOD.listed, summary="Contact methods")
def list_contact_methods(request: HttpRequest, query: Query[ContactMethodFilters]) -> dict[str, Any]:
    principal = caller(request)
    rows = narrowed(_rows(), query, "user", "channel", label="label__iexact", enabled="is_enabled")
    return page(rows, query, lambda page_rows: [_show_method(method, principal) for method in page_rows])


def _rows() -> QuerySet[ContactMethod]:
    return ContactMethod.objects.select_related("user")


def _show_method(method: ContactMethod, principal: Principal) -> dict[str, Any]:
    spec = users.contact_method_spec(method)
    spec["address"] = principal.viewer.address(method.user_id, method.channel, method.address)
    return {"id": method.pk, "user": method.user.username, **spec, **show(ContactMethodFields, method)}


def _save_method(
    user: User, spec: ResourceSpec, *, existing: ContactMethod | None, actor: AuditActor, now: datetime
) -> ContactMethod:
    channel, address = spec.get("channel"), spec.get("address")
    if existing is None and isinstance(channel, str) and isinstance(address, str):
        commands.check_address(channel, address.strip())
    return users.save_contact_method(user, spec, existing=existing, actor=actor, now=now)


CONTACT_METHODS = OwnedResource(
    routes=contact_methods_routes,
    schema=_CONTACT_METHOD,
    label="contact method",
    example=CONTACT_METHOD,
    new_summary="Add one of yours, or as an administrator of `user`",
    delete_summary="Delete it",
    rows=_rows,
    state=users.contact_method_spec,
    spec=users.contact_method_spec,
    show=_show_method,
    save=_save_method,
    delete=users.delete_contact_method,
    # The audit log records contact methods as changes of their user.
    audited=lambda method: ("user", method.user_id),
    ignored=frozenset({"id", "user", *ContactMethodFields.model_fields}),
    other_user=sentence("A contact method stays with its user; add one to the other user instead."),
)
register(CONTACT_METHODS)


@contact_methods_routes.post(
    "/{int:id}/test",
    Permission.MANAGE_SELF,
    status=202,
    answers=ContactTestQueuedResponse,
    summary="Send a test by it, and see in `deliveries?notification_id=` what becomes of it",
)
def test_contact_method(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal, method = caller(request), CONTACT_METHODS.find(id)
    require_owner_or_admin(principal, method.user)
    with database.transaction() as connection:
        sent = notices.queue_test(connection, method, principal.now)
        database.notify(connection, "outbox")
    return {"notification_id": sent}


@contact_methods_routes.post(
    "/{int:id}/send-code",
    Permission.MANAGE_SELF,
    status=202,
    answers=ContactTestQueuedResponse,
    summary="Send a code to one of yours, to confirm it",
)
def send_code(request: HttpRequest, id: Number) -> dict[str, Any]:
    """A new address is used once its owner has verified it. What administrators enter for themselves, or a file
    has, is used at once."""
    principal, method = caller(request), CONTACT_METHODS.find(id)
    _require_self(principal, method.user)
    return {"notification_id": verification.send_code(method, now=principal.now)}


@contact_methods_routes.post(
    "/{int:id}/confirm",
    Permission.MANAGE_SELF,
    answers=_CONTACT_METHOD.whole,
    summary="Confirm one of yours by the code that was sent to it",
    example={"code": "123456"},
)
def confirm_contact_method(request: HttpRequest, id: Number, body: VerificationCodeBody) -> dict[str, Any]:
    principal, method = caller(request), CONTACT_METHODS.find(id)
    _require_self(principal, method.user)
    verification.confirm(method, body.code, actor=audit_actor_of(principal), now=principal.now)
    return _show_method(CONTACT_METHODS.find(id), principal)


@contact_methods_routes.post(
    "/{int:id}/ring",
    Permission.MANAGE_SELF,
    answers=_CONTACT_METHOD.whole,
    summary="Say whether a test rang on one of yours while the phone was silenced",
    example={"rings_silenced": True},
)
def record_ring(request: HttpRequest, id: Number, body: RingBody) -> dict[str, Any]:
    principal, method = caller(request), CONTACT_METHODS.find(id)
    _require_self(principal, method.user)
    users.record_ring(method, rings_silenced=body.rings_silenced, actor=audit_actor_of(principal), now=principal.now)
    return _show_method(CONTACT_METHODS.find(id), principal)


def _require_self(principal: Principal, user: User) -> None:
    if user != principal.user:
        raise Rejected("not_found", METHOD_NOT_FOUND())


# ---------- out of office
# Absences and covers.


out_of_office_routes = AuthorizedRouter("out-of-office")

ABSENCE = {
    "from": "2026-12-24T12:00",
    "to": "2027-01-04T08:00",
    "cover": "bob",
    "covers": {"Network": "carol"},
    "note": "Holidays",
}


class AbsenceFilters(PaginationQuery):
    user: str | None = None
    at: Moment | None = None
    past: bool = False


class AbsenceOwner(BaseModel):
    """Whose it is."""

    user: str = Field(description="Username. In a body only for administrators, and for a new one.")


_ABSENCE = SpecSchema(out_of_office.AbsenceSpec, also=AbsenceOwner)


@out_of_office_routes.get(
    "", Permission.VIEW_ALERTS, answers=_ABSENCE.listed, summary="Absences that are not over; with `past=true` all"
)
def list_absences(request: HttpRequest, query: Query[AbsenceFilters]) -> dict[str, Any]:
    rows, principal = narrowed(out_of_office.rows(), query, "user"), caller(request)
    if query.at is not None:
        rows = rows.filter(starts_at__lte=query.at, ends_at__gt=query.at)
    elif not query.past:
        rows = rows.filter(ends_at__gt=principal.now)
    return page(rows, query, lambda page_rows: [_show_absence(absence, principal) for absence in page_rows])


def _show_absence(absence: OutOfOffice, _principal: Principal) -> dict[str, Any]:
    return {"id": absence.pk, **out_of_office.absence_spec(absence)}


register(
    OwnedResource(
        routes=out_of_office_routes,
        schema=_ABSENCE,
        label="absence",
        example=ABSENCE,
        new_summary="Be away, or as an administrator `user`",
        delete_summary="Delete an absence",
        rows=out_of_office.rows,
        state=out_of_office.absence_spec,
        spec=out_of_office.nested_spec,
        show=_show_absence,
        save=overrides.save_absence,
        delete=overrides.delete_absence,
        audited=lambda absence: ("out_of_office", absence.pk),
        ignored=frozenset({"id", "user", "group"}),
        other_user=sentence("An absence stays with its user; add one to the other user instead."),
    )
)


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
    return page(narrowed(_visible(caller(request)), query, "user"), query, _show_push_devices)


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
    example=NOTIFICATION_RULES_EXAMPLE,
)
def put_notification_rules(request: HttpRequest, body: NotificationRulesBody) -> dict[str, Any]:
    principal = caller(request)
    users.save_notification_rules(
        principal.user, body.notification_rules, actor=audit_actor_of(principal), now=principal.now
    )
    return {"notification_rules": User.objects.get(pk=principal.user.pk).notification_rules}


# ---------- shift reminders
# Shift reminders: each user's own, up to three.


shift_reminders_routes = AuthorizedRouter("reminders")

SHIFT_REMINDERS_EXAMPLE = {"reminders": [{"before": "1d"}, {"before": "1h", "by": "SMS-Official"}]}


_REMINDER = SpecSchema(users.ReminderSpec, has_id=False)
_Reminder = Annotated[dict[str, Any], _REMINDER.whole.annotation]


class ShiftRemindersResponse(BaseModel):
    """The caller's own reminders."""

    reminders: list[_Reminder]


class ShiftRemindersBody(Schema):
    model_config = {"extra": "forbid"}

    reminders: list[_Reminder] = Field(description="Up to three: before (1h), and by, a contact method's label.")


@shift_reminders_routes.get(
    "", Permission.VIEW_SELF, answers=ShiftRemindersResponse, summary="Your own reminders before a shift"
)
def get_reminders(request: HttpRequest) -> dict[str, Any]:
    return {"reminders": caller(request).user.reminders}


@shift_reminders_routes.put(
    "",
    Permission.MANAGE_SELF,
    answers=ShiftRemindersResponse,
    summary="Make your own reminders these",
    example=SHIFT_REMINDERS_EXAMPLE,
)
def put_reminders(request: HttpRequest, body: ShiftRemindersBody) -> dict[str, Any]:
    principal = caller(request)
    users.replace_all(principal.user, body.reminders, actor=audit_actor_of(principal), now=principal.now)
    return {"reminders": User.objects.get(pk=principal.user.pk).reminders}
