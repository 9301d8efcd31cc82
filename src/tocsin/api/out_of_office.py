"""Out of office: users' absences and covers. Users edit their own; administrators edit all."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework import auth
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Moment,
    Number,
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
    forbidden,
    page,
)
from tocsin.api.framework.resources import SpecSchema
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.oncall.changes import overrides
from tocsin.people.changes import out_of_office, users
from tocsin.people.models import OutOfOffice, User
from tocsin.resources import registry
from tocsin.resources.resource import NOT_A_USERNAME, ResourceSpec, find

_OTHER_USER = Text("An absence stays with its user; add one to the other user instead.")

routes = AuthorizedRouter("out-of-office")

EXAMPLE = {
    "from": "2026-12-24T12:00",
    "to": "2027-01-04T08:00",
    "cover": "bob",
    "covers": {"Network": "carol"},
    "note": "Holidays",
}
_EXTRA = {"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}}
_READ_ONLY_KEYS = ("id", "user", "group")


class AbsenceFilters(PaginationQuery):
    user: str | None = None
    at: Moment | None = None
    past: bool = False


class AbsenceOwner(BaseModel):
    """Whose it is."""

    user: str = Field(description="Username. In a body only for administrators, and for a new one.")


_SCHEMA = SpecSchema(out_of_office.AbsenceSpec, also=AbsenceOwner)


@routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=_SCHEMA.listed,
    summary="Absences that are not over; with `past=true` all",
)
def list_absences(request: HttpRequest, query: Query[AbsenceFilters]) -> dict[str, Any]:
    rows = out_of_office.rows()
    if query.user is not None:
        rows = rows.filter(user=_user(query.user))
    if query.at is not None:
        rows = rows.filter(starts_at__lte=query.at, ends_at__gt=query.at)
    elif not query.past:
        rows = rows.filter(ends_at__gt=caller(request).now)
    return page(rows, query, lambda page_rows: [_show(absence) for absence in page_rows])


@routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=_SCHEMA.whole, summary="One absence", tagged=True)
def get_absence(request: HttpRequest, response: HttpResponse, id: Number) -> dict[str, Any]:
    return _tagged(_find(id), response)


@routes.post(
    "",
    Permission.MANAGE_SELF,
    status=201,
    answers=_SCHEMA.whole,
    body=_SCHEMA.whole,
    summary="Be away, or as an administrator `user`",
    extra=_EXTRA,
)
def create_absence(request: HttpRequest, body: Body[dict[str, Any]]) -> dict[str, Any]:
    principal = caller(request)
    user = principal.user if body.get("user") is None else _user_from_body(body["user"])
    return _show(_save(user, body, None, principal))


@routes.put(
    "/{int:id}",
    Permission.MANAGE_SELF,
    answers=_SCHEMA.whole,
    body=_SCHEMA.whole,
    summary="Make it what the body says",
    extra=_EXTRA,
    tagged=True,
)
def replace_absence(
    request: HttpRequest, response: HttpResponse, id: Number, body: Body[dict[str, Any]]
) -> dict[str, Any]:
    with settings_store.exclusive():
        return _tagged(_save_existing(_find_for_change(request, id), body, caller(request)), response)


@routes.patch(
    "/{int:id}",
    Permission.MANAGE_SELF,
    answers=_SCHEMA.whole,
    body=_SCHEMA.changes,
    summary="Change the keys of the body; the others stay, null takes one away",
    tagged=True,
)
def change_absence(
    request: HttpRequest, response: HttpResponse, id: Number, body: Body[dict[str, Any]]
) -> dict[str, Any]:
    with settings_store.exclusive():
        absence = _find_for_change(request, id)
        body = {**out_of_office.nested_spec(absence), **body}
        return _tagged(_save_existing(absence, body, caller(request)), response)


@routes.delete("/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Delete an absence", tagged=True)
def delete_absence(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    with settings_store.exclusive():
        overrides.delete_absence(_find_for_change(request, id), actor=audit_actor_of(principal), now=principal.now)


def _find_for_change(request: HttpRequest, absence_id: int) -> OutOfOffice:
    """Return an absence for a change: checks the caller's permission and If-Match."""
    absence = _find(absence_id)
    _require_owner_or_admin(caller(request), absence.user)
    auth.check(request, out_of_office.absence_spec(absence), "out_of_office", absence.pk)
    return absence


def _tagged(absence: OutOfOffice, response: HttpResponse) -> dict[str, Any]:
    auth.tag(response, out_of_office.absence_spec(absence))
    return _show(absence)


def _save_existing(absence: OutOfOffice, body: ResourceSpec, principal: Principal) -> OutOfOffice:
    if body.get("user") is not None and _user_from_body(body["user"]) != absence.user:
        raise Rejected("invalid", _OTHER_USER(), "user")
    return _save(absence.user, body, absence, principal)


def _save(user: User, body: ResourceSpec, existing: OutOfOffice | None, principal: Principal) -> OutOfOffice:
    _require_owner_or_admin(principal, user)
    spec = {name: value for name, value in body.items() if name not in _READ_ONLY_KEYS}
    saved = overrides.save_absence(user, spec, existing=existing, actor=audit_actor_of(principal), now=principal.now)
    return out_of_office.rows().get(pk=saved.pk)


def _require_owner_or_admin(principal: Principal, user: User) -> None:
    if user != principal.user and not principal.is_admin:
        raise forbidden(principal, Permission.ADMINISTER)


def _find(absence_id: int) -> OutOfOffice:
    return find(out_of_office.rows(), str(absence_id), label="absence")


def _user(name: str) -> User:
    return registry.USERS.resolve(name, "user")


def _user_from_body(name: object) -> User:
    if not isinstance(name, str):
        raise Rejected("invalid", AT_PATH(path="user", problem=NOT_A_USERNAME()), "user")
    return _user(name)


def _show(absence: OutOfOffice) -> dict[str, Any]:
    return {"id": absence.pk, **out_of_office.absence_spec(absence)}


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
    extra={"requestBody": {"content": {"application/json": {"example": SHIFT_REMINDERS_EXAMPLE}}}},
)
def put_reminders(request: HttpRequest, body: ShiftRemindersBody) -> dict[str, Any]:
    principal = caller(request)
    users.replace_all(principal.user, body.reminders, actor=audit_actor_of(principal), now=principal.now)
    return {"reminders": User.objects.get(pk=principal.user.pk).reminders}
