"""What an integration has received: its health, the statuses seen and what each does, its last messages. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max
from django.utils.translation import gettext as _

from tocsin.catalogue.kinds import Kind, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.explained import reader_of
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.outcomes import IntegrationMode, MessageStatus
from tocsin.web.home.overview import DAY, first_uuid
from tocsin.web.integrations.statuses import Does, does

#: How far back statuses are counted.
STATUSES_SINCE = timedelta(days=30)
MOST_STATUSES = 40


@dataclass(frozen=True, slots=True)
class Health:
    """How an integration fares, in a few words, and in which tone."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class SeenStatus:
    """One status that has come."""

    name: str
    count: int
    last_at: datetime
    does: Does | None
    #: Whether it came as the first of a ticket and opened nothing.
    opened_nothing: bool


def kind_of(integration: Integration) -> Kind | None:
    """The integration's kind, unless this version does not know it."""
    return load_kinds().get(integration.kind)


def counts_today(now: datetime, integrations: Sequence[Integration]) -> dict[int, tuple[int, datetime]]:
    """Messages of the last 24 hours and the newest one's time, by integration, in one statement."""
    rows = InboundMessage.objects.filter(integration__in=integrations, pk__gte=first_uuid(now - DAY))
    found = rows.values_list("integration").annotate(number=Count("pk"), newest=Max("received_at")).order_by()
    return {number: (count, newest) for number, count, newest in found}


def health(integration: Integration, today: tuple[int, datetime] | None, has_any: bool) -> Health:
    """Its state in a chip."""
    if integration.mode == IntegrationMode.DISABLED:
        return Health(_("switched off"), "quiet")
    if today is None:
        return Health(_("silent today") if has_any else _("waiting for the first message"), "wait")
    text = _("receiving, %(count)s today") % {"count": today[0]}
    return (
        Health(text, "ok") if integration.mode == IntegrationMode.PAGE else Health(f"{text}, {_('watching')}", "wait")
    )


def outcomes_today(integration: Integration, now: datetime) -> list[tuple[str, int]]:
    """How many messages of the last 24 hours ended how."""
    rows = InboundMessage.objects.filter(integration=integration, pk__gte=first_uuid(now - DAY))
    counts = dict(rows.values_list("status").annotate(number=Count("pk")).order_by())
    return [(str(status), counts[status]) for status in MessageStatus if counts.get(status)]


def statuses_seen(integration: Integration, now: datetime) -> list[SeenStatus]:
    """Every status that has come lately, the most frequent first."""
    rows = InboundMessage.objects.filter(integration=integration, pk__gte=first_uuid(now - STATUSES_SINCE))
    found = (
        rows.exclude(source_status="")
        .values("source_status")
        .annotate(number=Count("pk"), newest=Max("received_at"))
        .order_by("-number")[:MOST_STATUSES]
    )
    ignored = set(
        rows.filter(status=MessageStatus.IGNORED, alert=None).values_list("source_status", flat=True).distinct()[:200]
    )
    try:
        rules = reader_of(integration, integration.current).rules
    except Rejected:
        rules = None
    return [
        SeenStatus(
            row["source_status"],
            row["number"],
            row["newest"],
            does(rules, row["source_status"]) if rules else None,
            row["source_status"] in ignored,
        )
        for row in found
    ]


def defaults_of(kind: Kind) -> dict[str, Any]:
    """The kind's own definition, part by part."""
    return {"mapping": kind.mapping, "rules": kind.rules, "filters": kind.filters, "routes": kind.routes}
