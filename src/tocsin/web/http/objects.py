"""Finds the object that a URL names. One that is not there is answered with 404, in the same words for every kind."""

from __future__ import annotations

from django.db.models import Model, QuerySet
from django.http import Http404

from tocsin.access.roles import Permission
from tocsin.alerts.service import VisibleAlert, find_alert
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term
from tocsin.people.models import User
from tocsin.resources.lookup import NO_SUCH_NUMBER
from tocsin.resources.registry import USERS
from tocsin.resources.resource import Resource
from tocsin.web.http.authorization import require
from tocsin.web.http.request import SignedInRequest


def find_row[M: Model](rows: QuerySet[M], number: int, label: str) -> M:
    """Return the row with that id; `label` is one of `resources.lookup.LABELS`. Raises Http404."""
    row = rows.filter(pk=number).first()
    if row is None:
        raise Http404(NO_SUCH_NUMBER(label=Term(label), name=str(number)).localized())
    return row


def find_visible_alert(number: int) -> VisibleAlert:
    """Return the alert with that number. Raises Http404."""
    try:
        return find_alert(number)
    except Rejected as rejected:
        raise Http404(rejected.reason.localized()) from None


def find_object[M: Model](resource: Resource[M], number: int) -> M:
    """Return the object with that id. Raises Http404."""
    return resource.with_references([find_row(resource.rows(), number, resource.label)])[0]


def find_editable[M: Model](request: SignedInRequest, resource: Resource[M], number: int) -> M:
    """Return the object with that id, if the user may change it. Raises Http404, or PermissionDenied."""
    row = find_object(resource, number)
    require(request, resource.change_permission, resource.owner_group_id(row))
    return row


def requested_user(request: SignedInRequest) -> User:
    """Return the signed-in user, or the user whom an administrator named in the URL's `user`."""
    requested_id = request.GET.get("user", "")
    if not requested_id or requested_id == str(request.user.pk):
        return request.user
    require(request, Permission.ADMINISTER, None)
    user_id = int(requested_id) if requested_id.isascii() and requested_id.isdigit() and len(requested_id) < 10 else 0
    return find_object(USERS, user_id)
