"""What an integration has received: its health, and how its messages ended. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max
from django.utils.translation import gettext as _

from tocsin.catalogue.kinds import Kind, load_kinds
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.outcomes import IntegrationMode, MessageStatus
from tocsin.web.home.overview import DAY, first_uuid


@dataclass(frozen=True, slots=True)
class Health:
    """How an integration fares, in a few words, and in which tone."""

    text: str
    tone: str


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


def defaults_of(kind: Kind) -> dict[str, Any]:
    """The kind's own definition, part by part."""
    return {"mapping": kind.mapping, "rules": kind.rules, "filters": kind.filters, "routes": kind.routes}
