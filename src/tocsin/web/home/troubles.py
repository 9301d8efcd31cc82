"""What is wrong now, each with what to do about it, for Home. Reads only; `tocsin doctor` looks deeper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db.models import F, OuterRef, Subquery
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tocsin.alerts.states import AlertStatus
from tocsin.core import configuration, database, durations
from tocsin.core.database import Connection
from tocsin.core.ids import first_uuid7
from tocsin.escalation.models import AT_ITS_END, Run
from tocsin.inbound import registry, statuses
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.outcomes import IntegrationMode, MessageStatus
from tocsin.oncall import health
from tocsin.oncall.health import Finding, Kind
from tocsin.operate import coverage, standing
from tocsin.people.models import ContactMethod, Membership
from tocsin.web.counting import DAY
from tocsin.web.home import mailbox_troubles, provider_troubles
from tocsin.web.oncall.troubles import say
from tocsin.web.outbound import troubles as outbound_troubles
from tocsin.web.told import told
from tocsin.workflows import standings as workflows

#: So many integrations are looked at one by one.
MOST_LOOKED_AT = 20

#: So far ahead gaps are told, and so many of one group.
FORTNIGHT = timedelta(days=14)
MOST_OF_A_GROUP = 3

#: Whoever wrote on each of so many days before the last one is missed after a day of silence.
USUAL_DAYS = 3

#: For so many seconds it is remembered what takes longer to find out.
REMEMBERED = 300


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong: a sentence, where to mend it, and whether somebody must come now."""

    text: str
    url: str
    is_urgent: bool = False


def found(now: datetime) -> list[Trouble]:
    """Everything that is wrong, the most urgent first."""
    every = [
        *_standing(),
        *_unanswered(),
        *_unusable(),
        *_without_policy(),
        *(Trouble(*each) for each in provider_troubles.found(now)),
        *(Trouble(*each) for each in mailbox_troubles.found()),
        *(Trouble(*each) for each in outbound_troubles.found()),
        *_workflows(),
        *_unreadable(now),
        *_unreachable(),
        *_old_tokens(),
        *_on_call(now),
        *_silent(now),
        *_opens_nothing(now),
    ]
    return sorted(every, key=lambda trouble: not trouble.is_urgent)


def _workflows() -> Iterator[Trouble]:
    """Workflows that do nothing, or hang. No paging waits for them."""
    with database.pool().connection() as connection:
        wrong = list(workflows.wrong(connection))
    for one in wrong:
        url = reverse("workflow", args=[one.workflow_id])
        if one.kind == "stuck":
            url = f"{reverse('workflow_log', args=[one.workflow_id])}?show=stuck"
        yield Trouble(told(one.text), url)


def _standing() -> Iterator[Trouble]:
    """What Tocsin found when it last checked itself."""
    known = standing.read()
    if known.silence:
        yield Trouble(told(known.silence), reverse("system"), is_urgent=True)
    for problem in known.problems:
        yield Trouble(f"{told(problem.title)}: {told(problem.detail)}", reverse("system"), is_urgent=True)


def _unanswered() -> Iterator[Trouble]:
    runs = Run.objects.filter(AT_ITS_END, alert__status=AlertStatus.OPEN)
    for number, subject in runs.values_list("alert_id", "alert__subject").order_by("-alert_id")[:5]:
        text = _("Nobody answered alert %(number)s: %(subject)s") % {"number": number, "subject": subject}
        yield Trouble(text, reverse("alert", args=[number]), is_urgent=True)


def _unusable() -> Iterator[Trouble]:
    doors = registry.shared()
    doors.refresh()
    for door in doors.doors().values():
        if door.problem is not None:
            text = _("%(name)s decides nothing, its messages are only kept: %(why)s") % {
                "name": door.name,
                "why": told(door.problem.detail),
            }
            yield Trouble(text, reverse("integration", args=[door.id]), is_urgent=True)


def _without_policy() -> Iterator[Trouble]:
    rows = Integration.objects.filter(mode=IntegrationMode.PAGE, policy=None, recipient_users=None)
    for integration in rows.distinct()[:5]:
        text = _("%(name)s pages nobody: it has neither a policy nor recipients") % {"name": integration.name}
        yield Trouble(text, reverse("integration", args=[integration.pk]), is_urgent=True)


def _unreadable(now: datetime) -> Iterator[Trouble]:
    rows = InboundMessage.objects.filter(status=MessageStatus.FAILED, pk__gte=first_uuid7(now - timedelta(days=7)))
    number = rows.count()
    if number:
        text = ngettext(
            "%(count)d message of the last 7 days could not be read",
            "%(count)d messages of the last 7 days could not be read",
            number,
        ) % {"count": number}
        yield Trouble(text, f"{reverse('inbound_log')}?outcome=failed")


def _unreachable() -> Iterator[Trouble]:
    reachable = ContactMethod.objects.filter(is_enabled=True, awaits_code=False).values("user")
    rows = Membership.objects.filter(user__is_active=True, roles__len__gt=0).exclude(user__in=reachable)
    for group, user, name, group_id in rows.values_list("group__name", "user__username", "user__name", "group_id")[:5]:
        text = _("%(name)s is on call in %(group)s and cannot be reached") % {"name": name or user, "group": group}
        yield Trouble(text, reverse("group", args=[group_id]), is_urgent=True)


def _old_tokens() -> Iterator[Trouble]:
    for number, name, posts in Integration.objects.filter(old_token_posts__gt=0).values_list(
        "pk", "name", F("old_token_posts")
    ):
        text = ngettext(
            "%(count)d message came to an old URL of %(name)s",
            "%(count)d messages came to an old URL of %(name)s",
            posts,
        ) % {"count": posts, "name": name}
        yield Trouble(text, reverse("integration_security", args=[number]))


def _on_call(now: datetime) -> Iterator[Trouble]:
    """What is wrong with who is on call in the next two weeks, and calendars elsewhere that cannot be read."""
    with database.transaction() as connection:
        key = f"on-call:{configuration.version(connection)}"
        found = cache.get(key)
        if found is None:
            found = list(_coverage(connection, now))
            cache.set(key, found, REMEMBERED)
        unread = coverage.unread(connection)
    for group, finding in found:
        # What a page would not reach today is for now; a shift that never counts is for whenever there is time.
        is_urgent = finding.kind is not Kind.HIDDEN and (finding.since or now) < now + DAY
        yield Trouble(say(finding, now), reverse("group_schedule", args=[group]), is_urgent)
    for one in unread[:MOST_OF_A_GROUP]:
        yield Trouble(told(one.text), reverse("schedule", args=[one.schedule_id]))


def _coverage(connection: Connection, now: datetime) -> Iterator[tuple[int, Finding]]:
    groups = [row["group_id"] for row in database.rows(connection, "SELECT DISTINCT group_id FROM oncall_schedule")]
    for number, (_plan, findings) in coverage.of_groups(connection, groups, now, FORTNIGHT).items():
        for finding in health.firsts(health.problems(findings))[:MOST_OF_A_GROUP]:
            yield number, finding


def _silent(now: datetime) -> Iterator[Trouble]:
    """Integrations that used to get messages day by day, and got none for a day."""
    last = InboundMessage.objects.filter(integration=OuterRef("pk")).order_by("-pk").values("received_at")[:1]
    known = Integration.objects.exclude(mode=IntegrationMode.DISABLED).annotate(newest=Subquery(last)).order_by("name")
    for integration in known[:MOST_LOOKED_AT]:
        newest = integration.newest
        if newest is None or newest > now - DAY:
            continue
        rows = InboundMessage.objects.filter(integration=integration)
        before = [newest - DAY * number for number in range(1, USUAL_DAYS + 1)]
        if all(rows.filter(pk__gte=first_uuid7(day), pk__lt=first_uuid7(day + DAY)).exists() for day in before):
            text = _("%(name)s got messages day by day, and none for %(span)s") % {
                "name": integration.name,
                "span": durations.say(timedelta(hours=(now - newest) // timedelta(hours=1))),
            }
            yield Trouble(text, reverse("integration", args=[integration.pk]))


def _opens_nothing(now: datetime) -> Iterator[Trouble]:
    """Integrations whose tickets begin with a status that opens nothing."""
    for integration in Integration.objects.filter(mode=IntegrationMode.PAGE).order_by("name")[:MOST_LOOKED_AT]:
        # The last days' messages are read for it: that is done now and then, not at each look at Home.
        key = f"statuses:{integration.pk}:{integration.current_id}"
        warning = cache.get(key)
        if warning is None:
            warning = statuses.statuses_seen(integration, now).warning
            cache.set(key, warning, REMEMBERED)
        if warning:
            yield Trouble(f"{integration.name}: {told(warning)}", reverse("integration", args=[integration.pk]))
