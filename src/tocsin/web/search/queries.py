"""Full search across alerts, integrations, users, groups, schedules and policies. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.access.roles import Permission
from tocsin.core.db import query_union
from tocsin.escalation.models import Policy
from tocsin.inbound.models import Integration
from tocsin.oncall.models import Schedule
from tocsin.people.models import Group, User
from tocsin.people.permissions import Viewer
from tocsin.web.alerts import queries
from tocsin.workflows.models import Workflow

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
    alerts: Sequence[queries.AlertListRow]
    alerts_url: str
    kinds: Sequence[HitGroup]

    @property
    def is_empty(self) -> bool:
        return not self.alerts and not self.kinds


def search_everything(text: str, viewer: Viewer, now: datetime) -> SearchResults:
    """Return everything that matches `text`. A user who may not see addresses cannot find users by them either."""
    active, inactive = queries.search(text)
    alerts = query_union.first(active, MAX_HITS)
    if len(alerts) < MAX_HITS:
        alerts += query_union.first(inactive, MAX_HITS - len(alerts))
    kinds = [kind for kind in _kinds(text, viewer) if kind.hits]
    return SearchResults(queries.rows_of(alerts, now), f"{reverse('alerts')}?{urlencode({'q': text})}", kinds)


def _kinds(text: str, viewer: Viewer) -> Iterator[HitGroup]:
    integrations = Integration.objects.filter(Q(name__icontains=text) | Q(kind__iexact=text)).order_by("name")
    yield HitGroup(
        _("Inbound integrations"),
        "webhook",
        [SearchHit(row.name, row.kind, reverse("integration", args=[row.pk])) for row in integrations[:MAX_HITS]],
    )
    yield HitGroup(_("People"), "user", list(_people(text, viewer)))
    groups = Group.objects.filter(name__icontains=text).order_by("name")
    yield HitGroup(
        _("Groups"),
        "users-group",
        [SearchHit(row.name, "", reverse("group", args=[row.pk])) for row in groups[:MAX_HITS]],
    )
    schedules = Schedule.objects.filter(name__icontains=text).select_related("group").order_by("name")
    yield HitGroup(
        _("Schedules"),
        "calendar-event",
        [SearchHit(row.name, row.group.name, reverse("schedule", args=[row.pk])) for row in schedules[:MAX_HITS]],
    )
    policies = Policy.objects.filter(name__icontains=text).order_by("name")
    yield HitGroup(
        _("Escalation policies"),
        "stairs-up",
        [SearchHit(row.name, "", reverse("policy", args=[row.pk])) for row in policies[:MAX_HITS]],
    )
    flows = Workflow.objects.filter(name__icontains=text).order_by("name")
    yield HitGroup(
        _("Workflows"),
        "git-branch",
        [SearchHit(row.name, "", reverse("workflow", args=[row.pk])) for row in flows[:MAX_HITS]],
    )


def _people(text: str, viewer: Viewer) -> Iterator[SearchHit]:
    administers = viewer.may(Permission.ADMINISTER)
    condition = Q(name__icontains=text) | Q(username__icontains=text)
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
