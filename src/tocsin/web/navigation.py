"""The application shell: side bar, command palette, search, number of open alerts, paging pause, clock jump warning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from tocsin.access.models import ApiToken
from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.core.db import queries as db_queries
from tocsin.core.runtime import clock
from tocsin.identity.models import IdentityProvider
from tocsin.notify.models import Pause
from tocsin.people.models import User
from tocsin.people.permissions import Viewer
from tocsin.people.sign_in_rules import requires_single_sign_on
from tocsin.resources.registry import RESOURCES, USERS
from tocsin.resources.resource import Resource
from tocsin.web.alerts import queries
from tocsin.web.http.request import SignedInRequest, may_somewhere, render_view


@dataclass(frozen=True, slots=True)
class NavigationEntry:
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
            NavigationEntry(_("Calls"), "phone", "calls", key="k"),
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
    NavigationEntry(_("On-call calendar"), "calendar", "calendar"),
    NavigationEntry(_("On-call fairness"), "chart-bar", "fairness"),
    NavigationEntry(_("Your pages"), "bell-ringing", "my_pages", Permission.MANAGE_SELF),
    NavigationEntry(_("Notification rules"), "adjustments", "notification_rules", Permission.MANAGE_SELF),
    NavigationEntry(_("Call routes"), "phone-call", "call_routes"),
    NavigationEntry(_("Support hours"), "clock", "support_hours"),
    NavigationEntry(_("Holiday calendars"), "calendar", "holiday_calendars"),
    NavigationEntry(_("Client tables"), "building", "client_tables"),
    NavigationEntry(_("Service accounts"), "id-badge", "service_accounts", Permission.ADMINISTER),
    NavigationEntry(_("Settings"), "settings", "settings", Permission.ADMINISTER),
)


PALETTE: Sections = (
    (_("Actions"), ACTIONS),
    (_("Go to"), (*(entry for _heading, entries in NAVIGATION for entry in entries), *OTHER_VIEWS)),
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
            "is_empty_install": SimpleLazyObject(lambda: not User.objects.exists()),
        }
    common = {"clock_jump": clock.test_offset(), "is_side_collapsed": request.COOKIES.get("tocsin_side") == "collapsed"}
    if request.user.clients:
        navigation = SimpleLazyObject(lambda: list(_permitted(request, CLIENT_NAVIGATION)))
        return {**common, "is_client": True, "navigation": navigation}
    return {
        **common,
        "navigation": SimpleLazyObject(lambda: list(_permitted(request, NAVIGATION))),
        "palette": SimpleLazyObject(lambda: list(_permitted(request, PALETTE))),
        "open_count": SimpleLazyObject(queries.open_count),
        "pause": SimpleLazyObject(lambda: _pause(request)),
        "own_tokens": SimpleLazyObject(ApiToken.objects.filter(user=request.user.pk, revoked_at=None).count),
        "may_act": SimpleLazyObject(lambda: may_somewhere(cast(SignedInRequest, request), Permission.RESPOND)),
        "is_admin": request.user.role == Role.ADMIN,
    }


def _permitted(request: HttpRequest, sections: Sections) -> Iterator[tuple[Any, list[NavigationItem]]]:
    viewer, path = cast(SignedInRequest, request).viewer, request.path
    for heading, entries in sections:
        items = []
        for entry in entries:
            scope = permission_scope(viewer.role, entry.permission)
            if scope is PermissionScope.NONE and not viewer.may_somewhere(entry.permission):
                continue
            url = reverse(entry.view)
            is_current = path == url if url == "/" else path.startswith(url)
            items.append(NavigationItem(entry.label, entry.icon, url, is_current, entry.view, entry.key))
        if items:
            yield heading, items


def _pause(request: HttpRequest) -> Pause | None:
    now = request.now  # type: ignore[attr-defined]
    return Pause.objects.filter(ended_at=None, until__gt=now).select_related("user").order_by("-id").first()


# ---------- queries
# Full search across alerts and everything configured. Reads only.

_ICONS = {
    "users": "user",
    "groups": "users-group",
    "service_accounts": "id-badge",
    "identity_providers": "key",
    "holiday_calendars": "calendar-off",
    "schedules": "calendar-event",
    "support_hours": "clock",
    "escalation_policies": "stairs-up",
    "client_tables": "building",
    "outbound_integrations": "arrows-exchange",
    "integrations": "webhook",
    "maintenance_windows": "tool",
    "workflows": "git-branch",
    "providers": "send",
    "call_routes": "phone",
}

#: Maximum number of hits per object type; the lists show all of them.
MAX_HITS = 8


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One hit. `url` is empty if the user has no access to a detail view."""

    title: str
    subtitle: str
    url: str


def search_everything(text: str, viewer: Viewer, now: datetime) -> dict[str, Any]:
    """Return everything that matches `text`: active alerts first, then the newest closed ones; and the other objects.

    A user who may not see addresses cannot find users by them either.
    """
    active, inactive = queries.search(text)
    alerts = db_queries.first(active, MAX_HITS)
    if len(alerts) < MAX_HITS:
        alerts += db_queries.first(inactive, MAX_HITS - len(alerts))
    kinds: list[dict[str, Any]] = []
    for resource in RESOURCES:
        hits = list(_hits(resource, text, viewer)) if viewer.may_somewhere(resource.see_permission) else []
        if hits:
            kinds.append({"title": gettext(resource.plural), "icon": _ICONS[resource.key], "hits": hits})
    linked = [{**kind, "hits": [hit for hit in kind["hits"] if hit.url]} for kind in kinds]
    return {
        "alerts": queries.rows_of(alerts, now),
        "alerts_url": f"{reverse('alerts')}?{urlencode({'q': text})}",
        "kinds": kinds,
        # What the user can open.
        "linked": [kind for kind in linked if kind["hits"]],
        "is_empty": not alerts and not kinds,
    }


def _hits(resource: Resource[Any], text: str, viewer: Viewer) -> Iterator[SearchHit]:
    if resource is USERS:
        yield from _people(text, viewer)
        return
    views = resource.views
    for row in (
        resource.rows().prefetch_related(None).filter(resource.search(text)).order_by(resource.name_column)[:MAX_HITS]
    ):
        # The kind of an integration or provider, else the owning group.
        subtitle = getattr(row, "kind", "") or str(getattr(row, "group", None) or "")
        # Where the only view is the one that edits it, whoever may not change it can open nothing.
        may_open = views.detail != views.edit or viewer.may(resource.change_permission, resource.owner_group_id(row))
        yield SearchHit(str(row), subtitle, reverse(views.detail, args=[row.pk]) if may_open else "")


def _people(text: str, viewer: Viewer) -> Iterator[SearchHit]:
    administers = viewer.may(Permission.ADMINISTER)
    condition = USERS.search(text)
    if administers:
        condition |= Q(email__icontains=text)
    rows = User.objects.filter(condition, is_active=True).prefetch_related("memberships__group").order_by("name")
    for user in rows[:MAX_HITS]:
        memberships = list(user.memberships.all())
        groups = ", ".join(membership.group.name for membership in memberships)
        if administers:
            yield SearchHit(user.display_name, groups, reverse("user", args=[user.pk]))
        else:
            # Only administrators have access to a user's detail view; other users get the group.
            url = reverse("group", args=[memberships[0].group_id]) if memberships else ""
            yield SearchHit(user.display_name, groups, url)


@require_safe
def search(request: SignedInRequest) -> HttpResponse:
    """Render the hits for the query in the URL, or the empty search."""
    text = request.GET.get("q", "").replace("\x00", "").strip()[:200]
    results = search_everything(text, request.viewer, request.now) if text else None
    return render_view(
        request, "search/search.html", {"text": text, "results": results}, partials=("results", "palette")
    )
