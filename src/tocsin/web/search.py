"""The search in the side bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import Model, Q
from django.http import HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import queries
from tocsin.people.models import User
from tocsin.people.permissions import Viewer
from tocsin.resources.registry import RESOURCES, USERS
from tocsin.resources.resource import Resource
from tocsin.web.alerts import queries as alerts_queries
from tocsin.web.http.request import SignedInRequest, render_view

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
}

#: Maximum number of hits per object type; the lists show all of them.
MAX_HITS = 8


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One hit. `url` is empty if the user has no access to a detail view."""

    title: str
    subtitle: str
    url: str


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The hits of one object type."""

    title: Any
    icon: str
    hits: Sequence[SearchHit]


@dataclass(frozen=True, slots=True)
class SearchResults:
    """All hits."""

    #: Active alerts first, then the newest closed ones.
    alerts: Sequence[alerts_queries.AlertListRow]
    alerts_url: str
    kinds: Sequence[HitGroup]

    @property
    def is_empty(self) -> bool:
        return not self.alerts and not self.kinds

    @property
    def linked(self) -> list[HitGroup]:
        """The hits that the user can open."""
        linked = (replace(kind, hits=[hit for hit in kind.hits if hit.url]) for kind in self.kinds)
        return [kind for kind in linked if kind.hits]


def search_everything(text: str, viewer: Viewer, now: datetime) -> SearchResults:
    """Return everything that matches `text`. A user who may not see addresses cannot find users by them either."""
    active, inactive = alerts_queries.search(text)
    alerts = queries.first(active, MAX_HITS)
    if len(alerts) < MAX_HITS:
        alerts += queries.first(inactive, MAX_HITS - len(alerts))
    kinds = [kind for kind in _kinds(text, viewer) if kind.hits]
    return SearchResults(alerts_queries.rows_of(alerts, now), f"{reverse('alerts')}?{urlencode({'q': text})}", kinds)


def _kinds(text: str, viewer: Viewer) -> Iterator[HitGroup]:
    for resource in RESOURCES:
        if not viewer.may_somewhere(resource.see_permission):
            continue
        if resource is USERS:
            hits = list(_people(text, viewer))
        else:
            rows = resource.rows().prefetch_related(None).filter(resource.search(text)).order_by("name")[:MAX_HITS]
            hits = [SearchHit(str(row), _subtitle(row), _url(resource, row, viewer)) for row in rows]
        yield HitGroup(_(resource.plural), _ICONS[resource.key], hits)


def _subtitle(row: Any) -> str:
    """Return the kind of an integration or provider, else the owning group."""
    return getattr(row, "kind", "") or str(getattr(row, "group", None) or "")


def _url(resource: Resource[Any], row: Model, viewer: Viewer) -> str:
    if resource.views.detail == resource.views.edit:
        # Its only view is the one that edits it.
        group_id = resource.owner_group_id(row)
        if not viewer.may(resource.change_permission, group_id):
            return ""
    return reverse(resource.views.detail, args=[row.pk])


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
