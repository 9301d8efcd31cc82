"""What can be asked of the running system in a few statements. Reads only."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import django
from django.db.models import Min
from django.utils.translation import gettext as _

from tocsin import __version__
from tocsin.core import clock, config, database, durations
from tocsin.escalation.models import Run
from tocsin.inbound.models import InboundMessage
from tocsin.inbound.outcomes import MessageStatus
from tocsin.notify.models import Delivery
from tocsin.notify.states import DeliveryStatus
from tocsin.operate import durability
from tocsin.operate.models import Node

#: Whatever is due longer than this, and not done, is late.
LATE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what it found, and what to do if it is not right."""

    name: str
    is_right: bool
    found: str
    remedy: str = ""


def checks(now: datetime) -> list[Check]:
    """Everything that is checked here, what is wrong first."""
    found = [*_database(), _clock(), *_loops(now), _stuck(), _pending(now)]
    return sorted(found, key=lambda check: check.is_right)


def facts(now: datetime) -> list[tuple[str, Any]]:
    """Versions and addresses."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), pg_size_pretty(pg_database_size(current_database()))"
        ).fetchone()
    assert row is not None
    return [
        ("Tocsin", __version__),
        (_("Public address"), config.current().public_url),
        ("PostgreSQL", row[0]),
        (_("Database size"), row[1]),
        ("Python", platform.python_version()),
        ("Django", django.get_version()),
    ]


def nodes() -> list[Node]:
    """The processes that were seen lately."""
    return list(Node.objects.order_by("-seen_at")[:20])


def _database() -> Iterator[Check]:
    with database.transaction() as connection:
        problem = durability.problem(connection)
    yield Check(
        _("What was answered is on disk"),
        problem is None,
        problem or _("fsync and synchronous commit are on."),
        _("Change the database's configuration.") if problem else "",
    )


def _clock() -> Check:
    found = _("The database's clock is %(ms)d ms ahead of this machine's.") % {
        "ms": clock.skew() / timedelta(milliseconds=1)
    }
    remedy = "" if clock.is_sound() else _("Have both machines set their clocks by NTP.")
    return Check(_("The clocks agree"), clock.is_sound(), found, remedy)


def _loops(now: datetime) -> Iterator[Check]:
    due = Run.objects.filter(due_at__isnull=False).aggregate(oldest=Min("due_at"))["oldest"]
    yield _lateness(_("Escalation keeps up"), due, now)
    queued = Delivery.objects.filter(status=DeliveryStatus.QUEUED).aggregate(oldest=Min("due_at"))["oldest"]
    yield _lateness(_("Messages leave in time"), queued, now)


def _lateness(name: str, oldest: datetime | None, now: datetime) -> Check:
    if oldest is None or now - oldest < LATE:
        return Check(name, True, _("Nothing is late."))
    text = _("The oldest has been due for %(span)s.") % {"span": durations.say(now - oldest)}
    return Check(name, False, text, _("Look whether a worker runs, and into its log."))


def _stuck() -> Check:
    number = Run.objects.filter(failures__gte=5, due_at__isnull=False).count()
    if not number:
        return Check(_("Nothing is stuck"), True, _("Every row was worked off."))
    text = _("%(count)d escalations failed five times in a row.") % {"count": number}
    return Check(_("Nothing is stuck"), False, text, _("Look into the log for their alerts."))


def _pending(now: datetime) -> Check:
    rows = InboundMessage.objects.filter(status=MessageStatus.PENDING, received_at__lt=now - LATE)
    number = rows.count()
    if not number:
        return Check(_("Every message is decided"), True, _("None has waited for a minute."))
    text = _("%(count)d messages have waited for more than a minute.") % {"count": number}
    return Check(_("Every message is decided"), False, text, _("Look whether a worker runs, and into its log."))
