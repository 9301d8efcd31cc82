"""Summaries for Home, each in one or two SQL statements. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from django.db.models import Count, Min, QuerySet
from django.utils import timezone

from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ActorKind, AlertStatus, EventKind
from tocsin.core.config import settings_store
from tocsin.core.ids import first_uuid7
from tocsin.notify.models import Delivery
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.people.models import User
from tocsin.web.alerts.queries import all_alerts

#: Events that count as an answer to a page.
_RESPONSE_KINDS = [
    EventKind.ACKNOWLEDGED, EventKind.ASSIGNED, EventKind.PUT_ON_HOLD, EventKind.CLOSED, EventKind.CANCELLED,
    EventKind.MERGED,
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class NightSummary:
    """Summary of one night: the hours of the setting `night_hours`, in the user's time zone."""

    pages: int
    #: The alerts that the pages were about.
    alerts: int
    #: Names of the users who were paged.
    people: Sequence[str]
    #: The longest time from opening to first answer; None if no alert was answered.
    slowest_response: timedelta | None
    #: Alerts that paged somebody and were neither answered by a user nor ended by the source.
    unanswered: int
    #: Whether the night is not over yet.
    is_ongoing: bool
    #: Pages sent to the user.
    own_pages: int


def alerts_of(user: User, limit: int) -> QuerySet[Alert]:
    """Return the newest active alerts that the user is assigned to or acknowledged."""
    # Two short statements: a single query with OR would scan all open alerts.
    assigned = Alert.objects.filter(status__in=[AlertStatus.ASSIGNED, AlertStatus.ON_HOLD], owner=user)
    acknowledged = Alert.objects.filter(status=AlertStatus.OPEN, acknowledgements__user=user)
    newest = (rows.order_by("-pk").values_list("pk", flat=True)[:limit] for rows in (assigned, acknowledged))
    numbers = list(chain.from_iterable(newest))
    return all_alerts().filter(pk__in=numbers).order_by("-pk")[:limit]


def last_night(viewer: User, now: datetime) -> NightSummary:
    """Return the user's last night; until it ends the current one."""
    start, end = settings_store.night_hours().last_night(timezone.localtime(now))
    sent = Delivery.objects.filter(
        pk__gte=first_uuid7(start), pk__lt=first_uuid7(end), purpose=Purpose.PAGE,
        status__in=[DeliveryStatus.SENT, DeliveryStatus.DELIVERED],
    )  # fmt: skip
    counts = dict(sent.values_list("user").annotate(number=Count("pk")).order_by())
    if not counts:
        return NightSummary(0, 0, people=[], slowest_response=None, unanswered=0, is_ongoing=now < end, own_pages=0)
    people = [user.display_name for user in User.objects.filter(pk__in=[key for key in counts if key]).order_by("name")]
    alerts = set(sent.exclude(alert=None).values_list("alert", flat=True))
    events = AlertEvent.objects.filter(alert__in=alerts, kind__in=_RESPONSE_KINDS)
    user_events = events.filter(actor_kind=ActorKind.USER)
    first_responses = user_events.values_list("alert", "alert__opened_at").annotate(first=Min("at")).order_by()
    return NightSummary(
        pages=sum(counts.values()),
        alerts=len(alerts),
        people=people,
        slowest_response=max((first - opened for _alert, opened, first in first_responses), default=None),
        unanswered=len(alerts) - events.values("alert").distinct().count(),
        is_ongoing=now < end,
        own_pages=counts.get(viewer.pk, 0),
    )
