"""The alert list: its tabs with counts, its filters, and its rows with what happens next. Reads only."""

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

#: Key in the address, label.
TABS: tuple[tuple[str, Any], ...] = (
    ("open", _("Open")),
    ("acknowledged", _("Acknowledged")),
    ("assigned", _("Assigned")),
    ("on_hold", _("On hold")),
    ("closed", _("Closed")),
)

#: What no list shows.
_LONG = ("long_text", "short_text", "custom")

#: Of so many of the newest alerts the most urgent are found.
_MAX_ALERTS_SCANNED = 500

#: What the side bar's badge says at most, and one more: "99+".
_MAX_BADGE_COUNT = 100

#: One column for each tab that is counted. The partial index on live alerts answers each.
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

#: As `needing_somebody`.
_NEEDING = """
    SELECT count(*) AS number FROM (
        SELECT FROM alerts_alert AS alert WHERE status = 'open' AND NOT dry_run AND NOT is_test
        AND NOT EXISTS (SELECT FROM alerts_acknowledgement WHERE alert_id = alert.id) LIMIT %(most)s
    ) AS found
"""

_ACKNOWLEDGED = Exists(Acknowledgement.objects.filter(alert=OuterRef("pk")))


@dataclass(frozen=True, slots=True)
class AlertTab:
    """One tab; `count` is None for closed alerts, of which there is no end."""

    key: str
    label: Any
    count: int | None
    is_current: bool

    @property
    def shown(self) -> str:
        """The count for people; empty without one."""
        return capped_counts.counted(self.count, capped_counts.MAX_COUNTED_ALERTS) if self.count is not None else ""


@dataclass(frozen=True, slots=True)
class AlertListRow:
    """One alert as the list draws it."""

    alert: Alert
    #: Who acknowledged, oldest first.
    acknowledged_by: Sequence[User]
    next_at: datetime | None
    next_text: str

    @property
    def is_acknowledged(self) -> bool:
        return bool(self.acknowledged_by) and self.alert.status == AlertStatus.OPEN

    @property
    def tone(self) -> str:
        """Red only for what needs somebody now."""
        if self.alert.status != AlertStatus.OPEN or self.alert.dry_run or self.alert.is_test:
            return ""
        return "wait" if self.acknowledged_by else "now"

    @property
    def owner(self) -> User | None:
        """Who has it: the owner, else the first who acknowledged."""
        return self.alert.owner or (self.acknowledged_by[0] if self.acknowledged_by else None)


def tabs(current: str) -> list[AlertTab]:
    """Every tab with its count, in one statement; each counted as far as a page says it."""
    with database.pool().connection() as connection:
        counts = database.row(connection, _COUNTS, {"most": capped_counts.MAX_COUNTED_ALERTS + 1}) or {}
    return [AlertTab(key, label, counts.get(key), key == current) for key, label in TABS]


def open_count() -> int:
    """How many alerts need somebody, as far as a badge says it."""
    # Every page asks it, and Django takes longer to make the statement than the database to answer it.
    with database.pool().connection() as connection:
        found = database.row(connection, _NEEDING, {"most": _MAX_BADGE_COUNT})
    return int(found["number"]) if found else 0


def needing_somebody() -> QuerySet[Alert]:
    """The open alerts that nobody has answered, without dry runs, which page nobody, and tests, which
    concern nobody but whoever sent them."""
    return of_tab("open").filter(dry_run=False, is_test=False)


def most_urgent(most: int) -> list[Alert]:
    """Of the newest alerts that need somebody, the most urgent, the newest first."""
    newest = sorted(
        needing_somebody().order_by("-pk").values_list("pk", "priority")[:_MAX_ALERTS_SCANNED], key=_urgency
    )
    found = all_alerts().in_bulk([number for number, _priority in newest[:most]])
    return [found[number] for number, _priority in newest[:most] if number in found]


def _urgency(row: tuple[int, str]) -> tuple[int, int]:
    number, priority = row
    return Priority(priority).rank, -number


def all_alerts() -> QuerySet[Alert]:
    """Every alert, with what a row shows."""
    return Alert.objects.select_related("owner", "integration").defer(*_LONG)


def of_tab(key: str) -> QuerySet[Alert]:
    """The alerts of one tab."""
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
    """The alerts of a tab with the list's filters and its search, as the parts of a `keyset` page."""
    rows = of_tab(tab)
    if chosen.get("integration"):
        rows = rows.filter(integration=chosen["integration"])
    if chosen.get("group"):
        group = chosen["group"]
        theirs = Integration.objects.filter(Q(group=group) | Q(recipient_groups=group))
        # As numbers: a query inside the query is worked out for every alert that there ever was.
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
    """The live alerts that fit the words, and those that are over."""
    live = all_alerts().filter(status__in=sorted(ACTIVE))
    return [search_index.live(live, _search(text))], filtered("closed", {}, text)


def rows_of(alerts: Iterable[Alert], now: datetime) -> list[AlertListRow]:
    """The alerts as rows: a fixed number of further statements, however many there are."""
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
    """As `_tag`. Of a name and its value the value leads to the few alerts of which it may be true."""
    _name, separator, value = text.partition("=")
    if separator:
        return Q(texts__tags__contains=SearchableText(value.strip())) & _tag(text)
    return Q(texts__tags__contains=SearchableText(text))


def _search(text: str) -> Q:
    wanted = Q(subject__icontains=text) | Q(source_id__iexact=text.removeprefix("#")) | Q(client__icontains=text)
    number = _number(text)
    return wanted if number is None else wanted | Q(pk=number)


def _kept(text: str) -> Q:
    """As `_search`, without the alert's own number."""
    part = SearchableText(text)
    named = Q(texts__source_id=SearchableText(text.removeprefix("#")))
    return Q(texts__subject__contains=part) | named | Q(texts__client__contains=part)


def _number(text: str) -> int | None:
    number = text.removeprefix("#")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None
