"""Context processor for the application shell: side bar, command palette, number of open alerts, paging pause, clock
jump warning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from tocsin.access.models import ApiToken
from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.core.runtime import clock
from tocsin.identity.models import IdentityProvider
from tocsin.notify.models import Pause
from tocsin.people.permissions import Viewer
from tocsin.people.sign_in_rules import requires_single_sign_on
from tocsin.web.alerts import queries
from tocsin.web.http.request import SignedInRequest, may_somewhere


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
type Sections = Sequence[tuple[Any, Sequence[NavigationEntry]]]

NAVIGATION: Sections = (
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
            NavigationEntry(_("Outbound integrations"), "arrows-exchange", "outbound_integrations", key="x"),
            NavigationEntry(_("Workflows"), "git-branch", "workflows", key="f"),
            NavigationEntry(_("Maintenance"), "tool", "maintenance", key="n"),
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

#: The side bar of a client observer.
CLIENT_NAVIGATION: Sections = (
    (
        "",
        (
            NavigationEntry(_("Alerts"), "bell", "client_alerts", key="a"),
            NavigationEntry(_("History"), "history", "client_history", key="h"),
            NavigationEntry(_("Reports"), "chart-bar", "reports", key="r"),
        ),
    ),
)

#: What the command palette starts.
ACTIONS: tuple[NavigationEntry, ...] = (
    NavigationEntry(_("New alert"), "plus", "new_alert", Permission.RESPOND),
    NavigationEntry(_("Override shift"), "switch-horizontal", "override_shift", Permission.RESPOND),
    NavigationEntry(_("Pause all paging"), "bell-off", "pause", Permission.ADMINISTER),
    NavigationEntry(_("Out of office"), "calendar-off", "new_absence", Permission.MANAGE_SELF),
    NavigationEntry(_("Add integration"), "webhook", "catalogue", Permission.MANAGE_ROUTING),
    NavigationEntry(_("New maintenance window"), "tool", "new_maintenance_window", Permission.MANAGE_ROUTING),
    NavigationEntry(_("Invite user"), "user-plus", "invite", Permission.ADMINISTER),
)

#: Views without an entry in the side bar, for the command palette.
OTHER_VIEWS: tuple[NavigationEntry, ...] = (
    NavigationEntry(_("Profile"), "user", "me", Permission.MANAGE_SELF),
    NavigationEntry(_("Your shifts"), "calendar-event", "my_shifts", Permission.MANAGE_SELF),
    NavigationEntry(_("On-call calendar"), "calendar", "month_calendar"),
    NavigationEntry(_("On-call fairness"), "chart-bar", "fairness"),
    NavigationEntry(_("Your pages"), "bell-ringing", "my_pages", Permission.MANAGE_SELF),
    NavigationEntry(_("Notification rules"), "adjustments", "notification_rules", Permission.MANAGE_SELF),
    NavigationEntry(_("Support hours"), "clock", "support_hours"),
    NavigationEntry(_("Holiday calendars"), "calendar", "holiday_calendars"),
    NavigationEntry(_("Client tables"), "building", "client_tables"),
    NavigationEntry(_("Service accounts"), "id-badge", "service_accounts", Permission.ADMINISTER),
    NavigationEntry(_("Settings"), "settings", "settings", Permission.ADMINISTER),
)


def shell(request: HttpRequest) -> dict[str, Any]:
    """Return the template variables of the shell. The costly ones are lazy and evaluated only if the template uses
    them."""
    if not request.user.is_authenticated:
        providers = SimpleLazyObject(lambda: list(IdentityProvider.objects.filter(is_enabled=True)))
        return {
            "clock_jump": clock.test_offset(),
            "identity_providers": providers,
            "is_sso_only": SimpleLazyObject(requires_single_sign_on),
        }
    common = {
        "clock_jump": clock.test_offset(),
        "is_side_collapsed": request.COOKIES.get("tocsin_side") == "collapsed",
    }
    if request.user.clients:
        navigation = SimpleLazyObject(lambda: list(_permitted(request, CLIENT_NAVIGATION)))
        return {**common, "is_client": True, "navigation": navigation}
    return {
        **common,
        "navigation": SimpleLazyObject(lambda: list(_permitted(request, NAVIGATION))),
        "palette": SimpleLazyObject(lambda: list(_permitted(request, _palette()))),
        "open_count": SimpleLazyObject(queries.open_count),
        "pause": SimpleLazyObject(lambda: _pause(request)),
        "own_tokens": SimpleLazyObject(lambda: _own_tokens(request)),
        "may_act": SimpleLazyObject(lambda: may_somewhere(cast(SignedInRequest, request), Permission.RESPOND)),
        "is_admin": request.user.role == Role.ADMIN,
    }


def _palette() -> Sections:
    views = [entry for _heading, entries in NAVIGATION for entry in entries]
    return ((_("Actions"), ACTIONS), (_("Go to"), (*views, *OTHER_VIEWS)))


def _permitted(request: HttpRequest, sections: Sections) -> Iterator[tuple[Any, list[NavigationItem]]]:
    viewer = cast(SignedInRequest, request).viewer
    for heading, entries in sections:
        items = [_navigation_item(entry, request) for entry in entries if _is_offered(entry, viewer)]
        if items:
            yield heading, items


def _is_offered(entry: NavigationEntry, viewer: Viewer) -> bool:
    scope = permission_scope(viewer.role, entry.permission)
    return scope is not PermissionScope.NONE or viewer.may_somewhere(entry.permission)


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
