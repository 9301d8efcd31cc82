"""What Home tells at a glance, each in one or two statements. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet
from django.utils import timezone

from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import LIVE, AlertStatus, EventKind
from tocsin.core import database
from tocsin.inbound.models import InboundMessage
from tocsin.inbound.outcomes import MessageStatus
from tocsin.notify.models import Delivery
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.oncall import lookup
from tocsin.oncall.rota import OnCall
from tocsin.people.members import MemberRole
from tocsin.people.models import Group, User

DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is on call in one group: now, and whom the next steps call."""

    group: Group
    now: Sequence[OnCall]
    next: Sequence[OnCall]


@dataclass(frozen=True, slots=True)
class Night:
    """What the last night was like."""

    pages: int
    people: int
    #: From the opening to the first answer, the quickest and the slowest of the night.
    answered_in: timedelta | None
    since: datetime
    until: datetime


def alerts_of(user: User) -> QuerySet[Alert]:
    """Live alerts that the user has, or acknowledged."""
    rows = Alert.objects.select_related("owner", "integration").filter(status__in=sorted(LIVE))
    mine = Q(owner=user) | Q(status=AlertStatus.OPEN, acknowledgements__user=user)
    return rows.filter(mine).distinct().order_by("-pk")


def duties(now: datetime) -> list[Duty]:
    """Every group that has members: by its schedules, and by who holds a role where no shift has it."""
    groups = list(Group.objects.filter(memberships__isnull=False).distinct())
    with database.transaction() as connection:
        found = lookup.on_call(connection, [group.pk for group in groups], now)
    return [_duty(group, found.get(group.pk, ())) for group in groups]


def on_call_in(group: Group, now: datetime) -> tuple[OnCall, ...]:
    """Everybody on call in one group, in the order in which they would be called."""
    with database.transaction() as connection:
        return lookup.on_call(connection, [group.pk], now).get(group.pk, ())


def _duty(group: Group, people: Sequence[OnCall]) -> Duty:
    first = [person for person in people if person.role is MemberRole.PRIMARY][:1]
    rest = [person for person in people if person not in first and person.role is not MemberRole.MANAGER]
    return Duty(group, first, rest[:3])


def outcomes(now: datetime) -> list[tuple[str, int]]:
    """How many messages of the last 24 hours ended how, in the order of the outcomes."""
    rows = InboundMessage.objects.filter(pk__gte=first_uuid(now - DAY))
    counts = dict(rows.values_list("status").annotate(number=Count("pk")).order_by())
    return [(str(status), counts[status]) for status in MessageStatus if counts.get(status)]


def last_night(now: datetime) -> Night | None:
    """Pages between 22:00 and 07:00 of the reader's last night; None when there were none."""
    local = timezone.localtime(now)
    end = timezone.make_aware(datetime.combine(local.date(), time(7)))
    start = timezone.make_aware(datetime.combine(local.date() - timedelta(days=1), time(22)))
    sent = Delivery.objects.filter(
        pk__gte=first_uuid(start), pk__lt=first_uuid(end), purpose=Purpose.PAGE,
        status__in=[DeliveryStatus.SENT, DeliveryStatus.DELIVERED],
    )  # fmt: skip
    counts = sent.aggregate(pages=Count("pk"), people=Count("user", distinct=True))
    if not counts["pages"]:
        return None
    answers = AlertEvent.objects.filter(
        alert__in=sent.values("alert"), kind__in=[EventKind.ACKNOWLEDGED, EventKind.ASSIGNED, EventKind.CLOSED]
    )
    spans = [
        first - opened
        for opened, first in answers.values_list("alert__opened_at").annotate(first=Min("at")).order_by()
        if first
    ]
    return Night(counts["pages"], counts["people"], max(spans, default=None), start, end)


def first_uuid(at: datetime) -> UUID:
    """The smallest UUIDv7 of that moment: what came later has a greater one."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 0b10 << 62)
