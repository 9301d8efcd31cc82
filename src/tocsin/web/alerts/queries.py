"""Queries of the alert list: tabs with counts, filters, and rows with their next action. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from tocsin.alerts import search_index
from tocsin.alerts.models import Acknowledgement, Alert
from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus, Priority
from tocsin.core.db import database
from tocsin.core.db.trigram_index import SearchableText
from tocsin.escalation.actions.forecast import NextAction
from tocsin.escalation.models import Run
from tocsin.escalation.run.run_state import RunStatus
from tocsin.inbound.models import Integration
from tocsin.people.models import User
from tocsin.web.alerts.next_action import capitalised
from tocsin.web.alerts.next_action import steps_of as next_steps
from tocsin.web.told import told
from tocsin.web.ui import capped_counts

#: (key in the URL, label)
TABS: tuple[tuple[str, Any], ...] = (
    ("open", _("Open")),
    ("acknowledged", _("Acknowledged")),
    ("assigned", _("Assigned")),
    ("on_hold", _("On hold")),
    ("closed", _("Closed")),
)

#: Columns that no list shows and that are therefore not loaded.
_LONG = ("long_text", "short_text", "custom")

#: The most urgent alerts are selected among this many of the newest.
_MAX_ALERTS_SCANNED = 500

#: Cap of the side bar badge, which shows "99+" from here on.
_MAX_BADGE_COUNT = 100

#: One column per counted tab. The partial index on active alerts serves each subquery.
_COUNTS = """
    SELECT
        (SELECT count(*) FROM (
            SELECT FROM alerts_alert AS alert WHERE status = 'open'
            AND NOT EXISTS (SELECT FROM alerts_acknowledgement WHERE alert_id = alert.id) LIMIT %(most)s
        ) AS found) AS open,
        (SELECT count(*) FROM (
            SELECT FROM alerts_alert AS alert WHERE status = 'open'
            AND EXISTS (SELECT FROM alerts_acknowledgement WHERE alert_id = alert.id) LIMIT %(most)s
        ) AS found) AS acknowledged,
        (SELECT count(*) FROM (
            SELECT FROM alerts_alert WHERE status = 'assigned' LIMIT %(most)s
        ) AS found) AS assigned,
        (SELECT count(*) FROM (
            SELECT FROM alerts_alert WHERE status = 'on_hold' LIMIT %(most)s
        ) AS found) AS on_hold
"""

#: The same condition as `needing_somebody`.
_NEEDING = """
    SELECT count(*) AS number FROM (
        SELECT FROM alerts_alert AS alert WHERE status = 'open' AND NOT dry_run AND NOT is_test
        AND NOT EXISTS (SELECT FROM alerts_acknowledgement WHERE alert_id = alert.id) LIMIT %(most)s
    ) AS found
"""

_ACKNOWLEDGED = Exists(Acknowledgement.objects.filter(alert=OuterRef("pk")))


@dataclass(frozen=True, slots=True)
class AlertTab:
    """One tab. `count` is None for closed alerts, whose number is unbounded."""

    key: str
    label: Any
    count: int | None
    is_current: bool

    @property
    def shown(self) -> str:
        """The count for display, or "" without a count."""
        return capped_counts.counted(self.count, capped_counts.MAX_COUNTED_ALERTS) if self.count is not None else ""


@dataclass(frozen=True, slots=True)
class AlertListRow:
    """One row of the alert list."""

    alert: Alert
    #: Users who acknowledged, oldest first.
    acknowledged_by: Sequence[User]
    next_at: datetime | None
    next_text: str

    @property
    def is_acknowledged(self) -> bool:
        return bool(self.acknowledged_by) and self.alert.status == AlertStatus.OPEN

    @property
    def tone(self) -> str:
        """`now` (red) only for alerts that need an answer, `wait` once acknowledged."""
        if self.alert.status != AlertStatus.OPEN or self.alert.dry_run or self.alert.is_test:
            return ""
        return "wait" if self.acknowledged_by else "now"

    @property
    def owner(self) -> User | None:
        """The assigned user, else the first who acknowledged."""
        return self.alert.owner or (self.acknowledged_by[0] if self.acknowledged_by else None)


def tabs(current: str) -> list[AlertTab]:
    """Return every tab with its capped count, in one SQL statement."""
    with database.pool().connection() as connection:
        counts = database.row(connection, _COUNTS, {"most": capped_counts.MAX_COUNTED_ALERTS + 1}) or {}
    return [AlertTab(key, label, counts.get(key), key == current) for key, label in TABS]


def open_count() -> int:
    """Return the number of alerts that need an answer, capped for the badge."""
    # Raw SQL, because every view runs this query and Django takes longer to build it than PostgreSQL to execute it.
    with database.pool().connection() as connection:
        found = database.row(connection, _NEEDING, {"most": _MAX_BADGE_COUNT})
    return int(found["number"]) if found else 0


def needing_somebody() -> QuerySet[Alert]:
    """Return the open, unacknowledged alerts, without dry-run alerts (which page nobody) and test alerts (which concern
    only their sender)."""
    return of_tab("open").filter(dry_run=False, is_test=False)


def most_urgent(most: int) -> list[Alert]:
    """Return the most urgent of the newest alerts that need an answer; equal priorities newest first."""
    newest = sorted(
        needing_somebody().order_by("-pk").values_list("pk", "priority")[:_MAX_ALERTS_SCANNED], key=_urgency
    )
    found = all_alerts().in_bulk([number for number, _priority in newest[:most]])
    return [found[number] for number, _priority in newest[:most] if number in found]


def _urgency(row: tuple[int, str]) -> tuple[int, int]:
    number, priority = row
    return Priority(priority).rank, -number


def all_alerts() -> QuerySet[Alert]:
    """Return every alert with the relations that a row shows."""
    return Alert.objects.select_related("owner", "integration").defer(*_LONG)


def of_tab(key: str) -> QuerySet[Alert]:
    """Return the alerts of one tab."""
    rows = all_alerts()
    match key:
        case "acknowledged":
            return rows.filter(status=AlertStatus.OPEN).filter(_ACKNOWLEDGED)
        case "assigned":
            return rows.filter(status=AlertStatus.ASSIGNED)
        case "on_hold":
            return rows.filter(status=AlertStatus.ON_HOLD)
        case "closed":
            return rows.filter(status__in=sorted(INACTIVE))
        case _:
            return rows.filter(status=AlertStatus.OPEN).filter(~_ACKNOWLEDGED)


def filtered(tab: str, chosen: dict[str, Any], text: str) -> list[QuerySet[Alert]]:
    """Return a tab's alerts with filters and search applied, as the parts of a `core.db.query_union.QueryUnion`."""
    rows = of_tab(tab)
    if chosen.get("integration"):
        rows = rows.filter(integration=chosen["integration"])
    if chosen.get("group"):
        group = chosen["group"]
        theirs = Integration.objects.filter(Q(group=group) | Q(recipient_groups=group))
        # As literal ids: PostgreSQL would evaluate a subquery for every alert in the table.
        rows = rows.filter(integration__in=list(theirs.order_by().values_list("pk", flat=True).distinct()))
    if chosen.get("priority"):
        rows = rows.filter(priority=chosen["priority"])
    wanted, kept = Q(), Q()
    if chosen.get("client"):
        wanted &= Q(client__icontains=chosen["client"])
        kept &= Q(texts__client__contains=SearchableText(chosen["client"]))
    if chosen.get("tag"):
        wanted &= _tag(chosen["tag"])
        kept &= _kept_tag(chosen["tag"])
    if text:
        wanted &= _search(text)
        kept &= _kept(text)
    if tab != "closed":
        return [search_index.live(rows, wanted) if wanted else rows]
    found = search_index.parts(rows, wanted, kept)
    number = _number(text) if text else None
    return found if number is None else [*found, rows.filter(wanted, pk=number)]


def search(text: str) -> tuple[list[QuerySet[Alert]], list[QuerySet[Alert]]]:
    """Return the matching active alerts and the matching closed alerts."""
    live = all_alerts().filter(status__in=sorted(ACTIVE))
    return [search_index.live(live, _search(text))], filtered("closed", {}, text)


def rows_of(alerts: Iterable[Alert], now: datetime) -> list[AlertListRow]:
    """Return the alerts as rows, with a constant number of additional queries."""
    alerts = list(alerts)
    numbers = [alert.pk for alert in alerts]
    people: dict[int, list[User]] = {}
    for entry in Acknowledgement.objects.filter(alert__in=numbers).select_related("user").order_by("at", "pk"):
        people.setdefault(entry.alert_id, []).append(entry.user)
    upcoming = next_steps([alert.pk for alert in alerts if alert.status == AlertStatus.OPEN], now)
    waiting = [alert.pk for alert in alerts if alert.status == AlertStatus.OPEN and alert.pk not in upcoming]
    reasons = dict(
        Run.objects.filter(alert__in=waiting).exclude(status=RunStatus.ENDED).values_list("alert_id", "reason")
    )
    return [
        _row(alert, people.get(alert.pk, []), upcoming.get(alert.pk), reasons.get(alert.pk, "")) for alert in alerts
    ]


def _row(alert: Alert, people: list[User], step: NextAction | None, reason: str) -> AlertListRow:
    if alert.status == AlertStatus.ON_HOLD:
        return AlertListRow(alert, people, alert.hold_until, "")
    if step is None:
        return AlertListRow(alert, people, None, told(reason))
    return AlertListRow(alert, people, None if step.waits else step.at, capitalised(step.summary))


def _tag(text: str) -> Q:
    name, separator, value = text.partition("=")
    if separator:
        return (
            Q(**{f"tags__{name.strip()}__icontains": value.strip()})
            if name.strip().isidentifier()
            else Q(tags__contains={name.strip(): value.strip()})
        )
    return Q(tags__icontains=text)


def _kept_tag(text: str) -> Q:
    """The `_tag` condition on the search index. For "name=value" the value narrows the candidates by index."""
    _name, separator, value = text.partition("=")
    if separator:
        return Q(texts__tags__contains=SearchableText(value.strip())) & _tag(text)
    return Q(texts__tags__contains=SearchableText(text))


def _search(text: str) -> Q:
    wanted = Q(subject__icontains=text) | Q(source_id__iexact=text.removeprefix("#")) | Q(client__icontains=text)
    number = _number(text)
    return wanted if number is None else wanted | Q(pk=number)


def _kept(text: str) -> Q:
    """The `_search` condition on the search index, without the alert's own number."""
    part = SearchableText(text)
    named = Q(texts__source_id=SearchableText(text.removeprefix("#")))
    return Q(texts__subject__contains=part) | named | Q(texts__client__contains=part)


def _number(text: str) -> int | None:
    number = text.removeprefix("#")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None
