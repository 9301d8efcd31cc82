"""The request type that views rely on, and the rendering of a view or one of its partials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _

from tocsin.access import roles
from tocsin.access.audit import AuditActor as ConfigurationActor
from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.alerts.commands import Actor
from tocsin.alerts.service import VisibleAlert, find_alert
from tocsin.alerts.states import ActorKind
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import Term
from tocsin.people.models import Group, User
from tocsin.people.permissions import Viewer
from tocsin.resources import visibility
from tocsin.resources.registry import USERS
from tocsin.resources.resource import NO_SUCH_NUMBER, Resource

#: Request header that names the partial to render instead of the whole view.
PARTIAL_HEADER = "X-Part"
#: Request header that htmx sets on every request it makes.
HTMX_HEADER = "HX-Request"


class SignedInRequest(HttpRequest):
    """A request of a signed-in user. `now` is read once, by the middleware."""

    user: User
    now: datetime
    #: The user's permissions, loaded on first use.
    viewer: Viewer
    #: Request id that the user quotes when a view fails.
    id: str


def render_view(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any],
    *,
    partials: tuple[str, ...] = (),
    status: int = 200,
) -> HttpResponse:
    """Render `template`, or only the partial of it that the `X-Part` header names, if that is one of `partials`."""
    partial = request.headers.get(PARTIAL_HEADER, "")
    name = f"{template}#{partial}" if partial in partials else template
    response = render(request, name, dict(context), status=status)
    patch_vary_headers(response, [PARTIAL_HEADER])
    response.setdefault("Cache-Control", "private, no-cache")
    return response


def address_of(request: HttpRequest) -> str | None:
    """Return the client's IP address as determined by the proxy process, or None."""
    return request.META.get("REMOTE_ADDR") or None


def next_url(request: HttpRequest, default: str) -> str:
    """Return the local URL that the form names in `next`, else `default`."""
    return local_url(request.POST.get("next", ""), default)


def local_url(target: str, default: str) -> str:
    """Return `target` if it is a path of this installation, else `default`: no link leads elsewhere after a sign-in."""
    is_local = url_has_allowed_host_and_scheme(target, allowed_hosts=None)
    return target if target.startswith("/") and is_local else default


@contextmanager
def reporting(request: HttpRequest, subject: str = "") -> Iterator[None]:
    """Show why the block fails, after the name of what it is about. What follows the block runs all the same."""
    try:
        yield
    except (Rejected, Temporary, Permanent, OutcomeUnknown) as error:
        reason = error.full_reason.localized()
        messages.error(request, f"{subject}: {reason}" if subject else reason)


def moment_of(request: HttpRequest) -> datetime:
    """Return the time of the request, which the middleware read once."""
    now: datetime = request.now  # type: ignore[attr-defined]
    return now


# ---------- authorization
# Authorization of views: by role for a whole view, by an object's group within it.


type View = Callable[..., HttpResponseBase]

_PERMISSION_MESSAGES = {
    Permission.RESPOND: _("Only responders, managers and administrators can respond to alerts."),
    Permission.MANAGE_TEAMS: _("Only managers of the owner group and administrators can do this."),
    Permission.MANAGE_ROUTING: _("Only managers of the owner group and administrators can do this."),
    Permission.TEST_INTEGRATIONS: _("Only managers of the owner group and administrators can do this."),
    Permission.READ_AUDIT_LOG: _("Only managers and administrators can do this."),
    Permission.ADMINISTER: _("Only administrators can do this."),
}


def requires(action: Permission) -> Callable[[View], View]:
    """Decorate a view to raise PermissionDenied if the user may not take `action` on any object."""

    def decorator(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            require_somewhere(cast(SignedInRequest, request), action)
            return view(request, *args, **kwargs)

        return wrapper

    return decorator


def require_somewhere(request: SignedInRequest, action: Permission) -> None:
    """Raise PermissionDenied if the user may not take `action` on any object."""
    if not may_somewhere(request, action):
        raise PermissionDenied(_PERMISSION_MESSAGES.get(action, ""))


def require(request: SignedInRequest, action: Permission, group: Group | int | None) -> None:
    """Raise PermissionDenied unless the user may take `action` on an object that `group` owns."""
    if not may(request, action, group):
        raise PermissionDenied(_PERMISSION_MESSAGES.get(action, ""))


def may(request: SignedInRequest, action: Permission, group: Group | int | None = None) -> bool:
    """Return whether the user may take `action` on an object that `group` owns."""
    user = request.user
    # The role alone decides most requests, without a query.
    if user.is_active and not user.clients and roles.may(Role(user.role), action):
        return True
    return request.viewer.may(action, group)


def may_somewhere(request: SignedInRequest, action: Permission) -> bool:
    """Return whether the user may take `action` on at least some objects."""
    user = request.user
    # The role alone decides most requests, without a query.
    if not user.clients and permission_scope(Role(user.role), action) is PermissionScope.ALL:
        return True
    return request.viewer.may_somewhere(action)


def may_respond(viewer: Viewer, alert: VisibleAlert) -> bool:
    """Return whether the user may act on an alert that they see."""
    return viewer.may_respond(visibility.groups_of_alert(alert.row))


def require_response(viewer: Viewer, alert: VisibleAlert) -> VisibleAlert:
    """Return the alert on which the user wants to act. Raises PermissionDenied."""
    if not may_respond(viewer, alert):
        raise PermissionDenied(_PERMISSION_MESSAGES[Permission.RESPOND])
    return alert


def offer_own_groups(request: SignedInRequest, field: forms.Field) -> None:
    """Limit a form's group field to the groups for which the user may act.

    Users other than administrators must choose a group, because objects without a group belong to the administrators.
    """
    assert isinstance(field, forms.ModelChoiceField)
    if request.user.role != Role.ADMIN:
        field.queryset = Group.objects.filter(pk__in=request.viewer.groups_with(Permission.MANAGE_TEAMS))
        field.required = True
        field.empty_label = None


def alert_actor(user: User) -> Actor:
    """Return the user as the actor of an alert command."""
    return Actor(ActorKind.USER, user.display_name, user.pk)


def actor(request: SignedInRequest) -> ConfigurationActor:
    """Return the user as the actor of a configuration change, for the audit log."""
    return ConfigurationActor.from_user(request.user, "web", address_of(request), limits=None)


# ---------- objects
# Finds the object that a URL names. One that is not there is answered with 404, in the same words for every kind.


def find_row[M: Model](rows: QuerySet[M], number: int, label: str) -> M:
    """Return the row with that id; `label` is one of `resources.resource.LABELS`. Raises Http404."""
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
