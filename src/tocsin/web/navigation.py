"""Context processor for the application shell: side bar, number of open alerts, paging pause, clock jump warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from tocsin.access.models import ApiToken
from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.core.runtime import clock
from tocsin.notify.models import Pause
from tocsin.web.alerts import queries


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """One entry of the side bar."""

    label: Any
    icon: str
    view: str
    permission: Permission = Permission.VIEW_ALERTS
    #: Keyboard shortcut: "g" followed by this key opens the entry.
    key: str = ""


@dataclass(frozen=True, slots=True)
class NavigationItem:
    """A side bar entry, resolved for the current request."""

    label: Any
    icon: str
    url: str
    is_current: bool
    view: str
    key: str


#: (heading, entries). Entries that the user's role does not permit are hidden.
NAVIGATION: tuple[tuple[Any, tuple[NavigationEntry, ...]], ...] = (
    (
        "",
        (
            NavigationEntry(_("Home"), "home", "home", key="h"),
            NavigationEntry(_("Alerts"), "bell", "alerts", key="a"),
            NavigationEntry(_("On call"), "calendar-event", "on_call", key="c"),
            NavigationEntry(_("Inbound Log"), "list-details", "inbound_log", key="l"),
        ),
    ),
    (
        _("People & on-call"),
        (
            NavigationEntry(_("Groups"), "users-group", "groups", key="o"),
            NavigationEntry(_("Escalation policies"), "stairs-up", "policies", key="p"),
            NavigationEntry(_("Users"), "users", "users", Permission.ADMINISTER, key="u"),
        ),
    ),
    (
        _("Automation"),
        (
            NavigationEntry(_("Inbound integrations"), "webhook", "integrations", key="i"),
            NavigationEntry(_("Outbound integrations"), "arrows-exchange", "outbound_integrations"),
            NavigationEntry(_("Workflows"), "git-branch", "workflows", key="f"),
            NavigationEntry(_("Maintenance"), "tool", "maintenance", key="m"),
        ),
    ),
    (
        _("Administration"),
        (
            NavigationEntry(_("Providers"), "send", "providers", Permission.ADMINISTER, key="v"),
            NavigationEntry(_("Sandbox"), "flask", "sandbox", key="b"),
            NavigationEntry(_("Wall board"), "device-tv", "wall", key="w"),
            NavigationEntry(_("Reports"), "chart-bar", "reports", key="r"),
            NavigationEntry(_("Audit log"), "history", "audit_log", Permission.READ_AUDIT_LOG, key="t"),
            NavigationEntry(_("System"), "activity", "system", Permission.ADMINISTER, key="s"),
        ),
    ),
)


def shell(request: HttpRequest) -> dict[str, Any]:
    """Return the template variables of the shell. The costly ones are lazy and evaluated only if the template uses
    them."""
    if not request.user.is_authenticated:
        return {"clock_jump": clock.test_offset()}
    return {
        "navigation": SimpleLazyObject(lambda: list(_navigation(request))),
        "open_count": SimpleLazyObject(queries.open_count),
        "pause": SimpleLazyObject(lambda: _pause(request)),
        "own_tokens": SimpleLazyObject(lambda: _own_tokens(request)),
        "clock_jump": clock.test_offset(),
        "may_act": permission_scope(Role(request.user.role), Permission.RESPOND) is not PermissionScope.NONE,
        "is_admin": request.user.role == Role.ADMIN,
    }


def _navigation(request: HttpRequest) -> Iterator[tuple[Any, list[NavigationItem]]]:
    role = Role(request.user.role)  # type: ignore[union-attr]
    for heading, entries in NAVIGATION:
        items = [
            _navigation_item(entry, request)
            for entry in entries
            if permission_scope(role, entry.permission) is not PermissionScope.NONE
        ]
        if items:
            yield heading, items


def _navigation_item(entry: NavigationEntry, request: HttpRequest) -> NavigationItem:
    url = reverse(entry.view)
    path = request.path
    return NavigationItem(
        entry.label, entry.icon, url, path == url if url == "/" else path.startswith(url), entry.view, entry.key
    )


def _own_tokens(request: HttpRequest) -> int:
    return ApiToken.objects.filter(user=request.user.pk, revoked_at=None).count()


def _pause(request: HttpRequest) -> Pause | None:
    now = request.now  # type: ignore[attr-defined]
    return Pause.objects.filter(ended_at=None, until__gt=now).select_related("user").order_by("-id").first()
