"""What fits some words, anywhere in Tocsin: alerts, integrations, people, groups, schedules, policies. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.access.roles import Action
from tocsin.core.db import query_union
from tocsin.escalation.models import Policy
from tocsin.inbound.models import Integration
from tocsin.oncall.models import Schedule
from tocsin.people.models import Group, User
from tocsin.people.permissions import Viewer
from tocsin.web.alerts import queries
from tocsin.workflows.models import Workflow

#: So many of each kind; the lists themselves show all.
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that fits; `url` is empty where the reader has no page of it."""

    title: str
    about: str
    url: str


@dataclass(frozen=True, slots=True)
class Kind:
    """The hits of one kind of thing."""

    title: Any
    icon: str
    hits: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that fits."""

    #: Live alerts first, then the newest of the closed ones.
    alerts: Sequence[queries.Row]
    all_alerts: str
    kinds: Sequence[Kind]

    @property
    def is_empty(self) -> bool:
        return not self.alerts and not self.kinds


def found(text: str, viewer: Viewer, now: datetime) -> Found:
    """What fits `text`. Who may not see addresses does not find by them either."""
    live, over = queries.search(text)
    shown = query_union.first(live, SHOWN)
    if len(shown) < SHOWN:
        shown += query_union.first(over, SHOWN - len(shown))
    kinds = [kind for kind in _kinds(text, viewer) if kind.hits]
    return Found(queries.rows_of(shown, now), f"{reverse('alerts')}?{urlencode({'q': text})}", kinds)


def _kinds(text: str, viewer: Viewer) -> Iterator[Kind]:
    integrations = Integration.objects.filter(Q(name__icontains=text) | Q(kind__iexact=text)).order_by("name")
    yield Kind(
        _("Inbound integrations"),
        "webhook",
        [Hit(one.name, one.kind, reverse("integration", args=[one.pk])) for one in integrations[:SHOWN]],
    )
    yield Kind(_("People"), "user", list(_people(text, viewer)))
    groups = Group.objects.filter(name__icontains=text).order_by("name")
    yield Kind(
        _("Groups"), "users-group", [Hit(one.name, "", reverse("group", args=[one.pk])) for one in groups[:SHOWN]]
    )
    schedules = Schedule.objects.filter(name__icontains=text).select_related("group").order_by("name")
    yield Kind(
        _("Schedules"),
        "calendar-event",
        [Hit(one.name, one.group.name, reverse("schedule", args=[one.pk])) for one in schedules[:SHOWN]],
    )
    policies = Policy.objects.filter(name__icontains=text).order_by("name")
    yield Kind(
        _("Escalation policies"),
        "stairs-up",
        [Hit(one.name, "", reverse("policy", args=[one.pk])) for one in policies[:SHOWN]],
    )
    flows = Workflow.objects.filter(name__icontains=text).order_by("name")
    yield Kind(
        _("Workflows"), "git-branch", [Hit(one.name, "", reverse("workflow", args=[one.pk])) for one in flows[:SHOWN]]
    )


def _people(text: str, viewer: Viewer) -> Iterator[Hit]:
    administers = viewer.may(Action.ADMINISTER)
    wanted = Q(name__icontains=text) | Q(username__icontains=text)
    if administers:
        wanted |= Q(email__icontains=text)
    rows = User.objects.filter(wanted, is_active=True).prefetch_related("memberships__group").order_by("name")
    for user in rows[:SHOWN]:
        memberships = list(user.memberships.all())
        groups = ", ".join(membership.group.name for membership in memberships)
        if administers:
            yield Hit(user.display_name, groups, reverse("user", args=[user.pk]))
        else:
            # A person's own page is the administrators': others see them in their group.
            url = reverse("group", args=[memberships[0].group_id]) if memberships else ""
            yield Hit(user.display_name, groups, url)
