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
    about: str
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
    all_alerts: str
    kinds: Sequence[HitGroup]

    @property
    def is_empty(self) -> bool:
        return not self.alerts and not self.kinds


def search_everything(text: str, viewer: Viewer, now: datetime) -> SearchResults:
    """Return everything that matches `text`. A user who may not see addresses cannot find users by them either."""
    live, over = queries.search(text)
    shown = query_union.first(live, MAX_HITS)
    if len(shown) < MAX_HITS:
        shown += query_union.first(over, MAX_HITS - len(shown))
    kinds = [kind for kind in _kinds(text, viewer) if kind.hits]
    return SearchResults(queries.rows_of(shown, now), f"{reverse('alerts')}?{urlencode({'q': text})}", kinds)


def _kinds(text: str, viewer: Viewer) -> Iterator[HitGroup]:
    integrations = Integration.objects.filter(Q(name__icontains=text) | Q(kind__iexact=text)).order_by("name")
    yield HitGroup(
        _("Inbound integrations"),
        "webhook",
        [SearchHit(one.name, one.kind, reverse("integration", args=[one.pk])) for one in integrations[:MAX_HITS]],
    )
    yield HitGroup(_("People"), "user", list(_people(text, viewer)))
    groups = Group.objects.filter(name__icontains=text).order_by("name")
    yield HitGroup(
        _("Groups"),
        "users-group",
        [SearchHit(one.name, "", reverse("group", args=[one.pk])) for one in groups[:MAX_HITS]],
    )
    schedules = Schedule.objects.filter(name__icontains=text).select_related("group").order_by("name")
    yield HitGroup(
        _("Schedules"),
        "calendar-event",
        [SearchHit(one.name, one.group.name, reverse("schedule", args=[one.pk])) for one in schedules[:MAX_HITS]],
    )
    policies = Policy.objects.filter(name__icontains=text).order_by("name")
    yield HitGroup(
        _("Escalation policies"),
        "stairs-up",
        [SearchHit(one.name, "", reverse("policy", args=[one.pk])) for one in policies[:MAX_HITS]],
    )
    flows = Workflow.objects.filter(name__icontains=text).order_by("name")
    yield HitGroup(
        _("Workflows"),
        "git-branch",
        [SearchHit(one.name, "", reverse("workflow", args=[one.pk])) for one in flows[:MAX_HITS]],
    )


def _people(text: str, viewer: Viewer) -> Iterator[SearchHit]:
    administers = viewer.may(Permission.ADMINISTER)
    wanted = Q(name__icontains=text) | Q(username__icontains=text)
    if administers:
        wanted |= Q(email__icontains=text)
    rows = User.objects.filter(wanted, is_active=True).prefetch_related("memberships__group").order_by("name")
    for user in rows[:MAX_HITS]:
        memberships = list(user.memberships.all())
        groups = ", ".join(membership.group.name for membership in memberships)
        if administers:
            yield SearchHit(user.display_name, groups, reverse("user", args=[user.pk]))
        else:
            # Only administrators have access to a user's detail view; other users get the group.
            url = reverse("group", args=[memberships[0].group_id]) if memberships else ""
            yield SearchHit(user.display_name, groups, url)
