"""Problems with providers, and contact methods that opted out of messages, for Home. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tocsin.core.db import database
from tocsin.core.ids import first_uuid7
from tocsin.notify.inbound import opt_outs
from tocsin.notify.models import Delivery, ProviderHealth
from tocsin.notify.providers import status
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.web.ui.capped_counts import DAY

#: Maximum number of providers named in one warning.
_MAX_NAMED_PROVIDERS = 5


def find_warnings(now: datetime) -> Iterator[tuple[str, str, bool]]:
    """Yield (sentence, URL that resolves it, urgent) for each."""
    failed = _failed(now)
    has_failed = failed.exists()
    undelivered = failed.filter(~_sent_otherwise())
    if has_failed and (number := undelivered.values("notification").distinct().count()):
        text = ngettext(
            "%(count)d message of the last 24 hours could not be sent at all",
            "%(count)d messages of the last 24 hours could not be sent at all",
            number,
        ) % {"count": number}
        names = (
            undelivered.exclude(provider_name="")
            .values_list("provider_name", flat=True)
            .distinct()
            .order_by("provider_name")
        )
        provider_names = ", ".join(names[:_MAX_NAMED_PROVIDERS])
        yield f"{text}: {provider_names}" if provider_names else text, reverse("providers"), True
    open_circuits = list(ProviderHealth.objects.filter(is_open=True, name__in=status.in_use()).order_by("name"))
    for row in open_circuits:
        text = _("%(name)s fails, and others take its turn: %(error)s") % {
            "name": row.name,
            "error": row.error.localized(),
        }
        yield text, reverse("providers"), True
    open_circuit_names = [row.name for row in open_circuits]
    sent_by_others = failed.filter(_sent_otherwise()).exclude(provider_name__in=["", *open_circuit_names])
    for name, number in _by_provider(sent_by_others) if has_failed else ():
        text = ngettext(
            "%(name)s could not send %(count)d message in the last 24 hours; another provider did",
            "%(name)s could not send %(count)d messages in the last 24 hours; another provider did",
            number,
        )
        yield text % {"name": name, "count": number}, reverse("providers"), False
    with database.transaction() as connection:
        people = opt_outs.opted_out(connection)
    for user_id, name, label, _at in people[:_MAX_NAMED_PROVIDERS]:
        text = _("%(name)s wrote STOP, and gets no texts at %(label)s") % {"name": name, "label": label}
        yield text, reverse("user", args=[user_id]), False


def _failed(now: datetime) -> QuerySet[Delivery]:
    """Return deliveries that failed within a day. Tests are excluded: their sender saw the failure."""
    rows = Delivery.objects.filter(pk__gte=first_uuid7(now - DAY), status=DeliveryStatus.FAILED)
    return rows.exclude(purpose=Purpose.TEST)


def _sent_otherwise() -> Exists:
    """Return the condition that another delivery of the notification was sent or still may be."""
    not_ended = ~Q(status__in=(DeliveryStatus.FAILED, DeliveryStatus.CANCELLED))
    return Exists(Delivery.objects.filter(not_ended, notification=OuterRef("notification")))


def _by_provider(rows: QuerySet[Delivery]) -> QuerySet[Delivery, tuple[str, int]]:
    return rows.values_list("provider_name").annotate(number=Count("pk")).order_by("-number")[:_MAX_NAMED_PROVIDERS]
