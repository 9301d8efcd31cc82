"""Authorization of views: by role for a whole view, by an object's group within it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _

from tocsin.access import roles
from tocsin.access.audit import AuditActor as ConfigurationActor
from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.alerts.commands import Actor
from tocsin.alerts.service import VisibleAlert
from tocsin.alerts.states import ActorKind
from tocsin.people.models import Group, User
from tocsin.people.permissions import Viewer
from tocsin.resources import visibility
from tocsin.web.http.request import SignedInRequest, address_of

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
            if not may_somewhere(cast(SignedInRequest, request), action):
                raise PermissionDenied(_PERMISSION_MESSAGES.get(action, ""))
            return view(request, *args, **kwargs)

        return wrapper

    return decorator


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
