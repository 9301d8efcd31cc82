"""Who may open which view: by role for the whole view, by an object's group inside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from tocsin.access.audit import AuditActor as ConfigurationActor
from tocsin.access.roles import Permission, PermissionScope, Role, reach
from tocsin.alerts.commands import Actor
from tocsin.alerts.states import ActorKind
from tocsin.people import permissions
from tocsin.people.models import Group, User
from tocsin.web.http.request import SignedInRequest, address_of

type View = Callable[..., HttpResponse]

_NEEDS = {
    Permission.ACT: _("It takes a responder, a manager or an administrator to act on alerts."),
    Permission.TEAMS: _("It takes a manager of the owning group, or an administrator."),
    Permission.ROUTING: _("It takes a manager of the owning group, or an administrator."),
    Permission.TRY_OUT: _("It takes a manager of the owning group, or an administrator."),
    Permission.ADMINISTER: _("It takes an administrator."),
}


def needs(action: Permission) -> Callable[[View], View]:
    """Refuses whoever's role can take `action` on nothing at all."""

    def guard(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            role = Role(request.user.role)  # type: ignore[union-attr]
            if reach(role, action) is PermissionScope.NONE:
                raise PermissionDenied(_NEEDS.get(action, ""))
            return view(request, *args, **kwargs)

        return guarded

    return guard


def require(request: SignedInRequest, action: Permission, group: Group | int | None) -> None:
    """Refuses whoever may not take `action` on an object that `group` owns."""
    if not permissions.may(request.user, action, group):
        raise PermissionDenied(_NEEDS.get(action, ""))


def may(request: SignedInRequest, action: Permission, group: Group | int | None = None) -> bool:
    """Whether the signed-in person may take `action` on an object that `group` owns."""
    return permissions.may(request.user, action, group)


def may_somewhere(request: SignedInRequest, action: Permission) -> bool:
    """Whether there may be any object on which the signed-in person may take `action`."""
    return permissions.viewer(request.user).may_somewhere(action)


def offer_own_groups(request: SignedInRequest, field: forms.Field) -> None:
    """Has a form's field of the owning group offer only groups for which the signed-in person may act.

    Whoever is no administrator must choose one: an object that no group owns is the administrators'.
    """
    assert isinstance(field, forms.ModelChoiceField)
    if request.user.role != Role.ADMIN:
        field.queryset = Group.objects.filter(pk__in=permissions.own_groups(request.user))
        field.required = True
        field.empty_label = None


def alert_actor(user: User) -> Actor:
    """The signed-in person as the actor of a command on an alert."""
    return Actor(ActorKind.USER, user.display_name, user.pk)


def actor(request: SignedInRequest) -> ConfigurationActor:
    """The signed-in person as the actor of a change of configuration."""
    return ConfigurationActor.of(request.user, "web", address_of(request))
