"""Queries of the alert list: tabs with counts, filters, and rows with their next action. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as gettext_lazy

from tocsin.alerts import store
from tocsin.alerts.models import Acknowledgement, Alert
from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus, Priority
from tocsin.alerts.store import ComparedAlert, Entry, Storm, StormBy
from tocsin.core.db import database
from tocsin.core.db.queries import QueryUnion, SearchableText
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.escalation import explain
from tocsin.escalation.explain import NextAction
from tocsin.escalation.models import EscalationRun
from tocsin.escalation.policy import AcknowledgeEffect
from tocsin.escalation.run.run_state import RunStatus
from tocsin.inbound.models import Integration
from tocsin.people.models import User
from tocsin.resources import visibility
from tocsin.web.http.request import number_of
from tocsin.web.ui import object_list
from tocsin.workflows.definition import SlaMoment
from tocsin.workflows.run import run_store

# ---------- next action


@dataclass(frozen=True, slots=True)
class UpcomingAction:
    """The next action: its time (None without a timer), text and additional detail."""

    at: datetime | None
    text: str
    detail: str = ""
    #: `now` while nobody has answered, `wait` while a timer runs, else empty.
    tone: str = ""


def next_action_of(alert: Alert, now: datetime) -> UpcomingAction:
    """Return what happens next if nobody responds."""
    match AlertStatus(alert.status):
        case AlertStatus.ON_HOLD:
            return UpcomingAction(alert.hold_until, _("Snooze ends"), tone="wait")
        case AlertStatus.ASSIGNED:
            owner = alert.owner.display_name if alert.owner else alert.owner_name
            if (step := steps_of([alert.pk], now).get(alert.pk)) is not None:
                awaited = _("Unless %(name)s accepts the alert: acknowledges it, or assigns it to themselves.")
                text = f"{capitalised(step.summary).removesuffix('.')}."
                return UpcomingAction(step.at, text, awaited % {"name": owner}, "wait")
            return UpcomingAction(None, _("Paging stopped. Assigned to %(name)s.") % {"name": owner})
        case AlertStatus.OPEN:
            return _next_action_of_open(alert, now)
        case AlertStatus.MERGED:
            return UpcomingAction(
                None, _("Merged. Respond to alert %(number)s instead.") % {"number": alert.merged_into_id}
            )
        case AlertStatus.CLOSED | AlertStatus.CANCELLED:
            return UpcomingAction(None, _("Nothing. The alert is closed."))


def has_pending_reminder(alert: Alert, user_id: int) -> bool:
    """Return whether the user has an unanswered "Still on it?" acknowledgement reminder for the alert."""
    runs = EscalationRun.objects.filter(alert=alert, progress__ack_reminder_sent_at__has_key=str(user_id))
    return alert.status == AlertStatus.OPEN and runs.exclude(status=RunStatus.TERMINATED).exists()


def awaits_acceptance(alert: Alert) -> bool:
    """Return whether the assignee was paged about the assignment and has not accepted yet."""
    runs = EscalationRun.objects.filter(alert=alert, progress__has_key="accept_by")
    return runs.exclude(status=RunStatus.TERMINATED).exists()


def steps_of(alert_ids: list[int], now: datetime) -> dict[int, NextAction]:
    """Return {alert: next action} for many alerts. Alerts without a pending action are absent."""
    if not alert_ids:
        return {}
    with database.transaction() as connection:
        return explain.next_steps(connection, alert_ids, now)


def capitalised(summary: Reason) -> str:
    """Render a summary and capitalize its first letter."""
    sentence = summary.localized()
    return sentence[:1].upper() + sentence[1:]


def _next_action_of_open(alert: Alert, now: datetime) -> UpcomingAction:
    run = (
        EscalationRun.objects.filter(alert=alert)
        .exclude(status=RunStatus.TERMINATED)
        .select_related("version__policy")
        .first()
    )
    if run is None:
        return UpcomingAction(None, _("No escalation is scheduled: no policy applies to this alert."))
    policy = run.version.policy.name if run.version and run.version.policy else ""
    step = steps_of([alert.pk], now).get(alert.pk)
    if step is None:
        tone = "now" if run.status == RunStatus.EXHAUSTED else ""
        return UpcomingAction(None, run.reason.localized() or _("No escalation is scheduled."), policy, tone)
    # Once paging has stopped, what would stop it no longer matters.
    is_stopped = run.status in (RunStatus.STOPPED, RunStatus.PAUSED)
    detail = run.reason.localized() if is_stopped else _describe_stop(run)
    tone = "now" if run.status == RunStatus.ACTIVE else "wait"
    text = f"{capitalised(step.summary).removesuffix('.')}."
    return UpcomingAction(None if step.is_recheck else step.at, text, f"{policy}. {detail}" if policy else detail, tone)


def _describe_stop(run: EscalationRun) -> str:
    """Describe what stops the escalation, according to the policy's acknowledgement settings."""
    acknowledge_settings = run.version.definition.get("acknowledge", {}) if run.version else {}
    required_acks = acknowledge_settings.get("people", 1)
    match acknowledge_settings.get("effect", AcknowledgeEffect.STOP):
        case AcknowledgeEffect.CONTINUE:
            return _("Stops when someone assigns or closes the alert.")
        case AcknowledgeEffect.PAUSE:
            return _("Pauses when someone acknowledges the alert; stops when it is assigned or closed.")
        case _ if required_acks > 1:
            template = _("Stops after %(count)d acknowledgements, or when the alert is assigned or closed.")
            return template % {"count": required_acks}
        case _:
            return _("Stops when someone acknowledges, assigns or closes the alert.")


# ---------- sla


@dataclass(frozen=True, slots=True)
class SlaTarget:
    label: str
    at: datetime
    is_breached: bool


type SlaMoments = Mapping[SlaMoment, datetime]


def load_moments(alerts: Sequence[Alert]) -> dict[int, SlaMoments]:
    """Return until when the alerts must be answered and fixed, by id. Alerts without an SLA are absent."""
    if not alerts:
        return {}
    with database.transaction() as connection:
        return {**run_store.load_sla_moments(connection, [alert.pk for alert in alerts])}


def next_targets(alerts: Sequence[Alert], acknowledged_ids: Collection[int], now: datetime) -> dict[int, SlaTarget]:
    """Return the next target of active alerts, by id. Alerts without one are absent."""
    moments = load_moments(alerts)
    targets = {
        alert.pk: next_target(alert, moments[alert.pk], alert.pk in acknowledged_ids, now)
        for alert in alerts
        if alert.pk in moments
    }
    return {number: target for number, target in targets.items() if target is not None}


def next_target(alert: Alert, moments: SlaMoments, is_acknowledged: bool, now: datetime) -> SlaTarget | None:
    """Return the next target of an active alert: the response until somebody acknowledged or was assigned, then the
    resolution."""
    is_answered = is_acknowledged or alert.status == AlertStatus.ASSIGNED
    if not is_answered and (respond_by := moments.get(SlaMoment.RESPOND_BY)) is not None:
        is_breached = respond_by <= now
        return SlaTarget(_("response was due") if is_breached else _("respond within"), respond_by, is_breached)
    if (fix_by := moments.get(SlaMoment.FIX_BY)) is not None:
        is_breached = fix_by <= now
        return SlaTarget(_("resolution was due") if is_breached else _("resolve within"), fix_by, is_breached)
    return None


#: (key in the URL, label)
TABS: tuple[tuple[str, Any], ...] = (
    ("open", gettext_lazy("Open")),
    ("acknowledged", gettext_lazy("Acknowledged")),
    ("assigned", gettext_lazy("Assigned")),
    ("on_hold", gettext_lazy("Snoozed")),
    ("closed", gettext_lazy("Closed")),
)

#: Columns that no list shows and that are therefore not loaded.
_LONG_COLUMNS = ("long_text", "short_text", "custom")

#: Rows of a list by priority, which has no further pages.
_MAX_BY_PRIORITY = 200

#: Cap of the side bar badge, which shows "99+" from here on.
_MAX_BADGE_COUNT = 100

#: One row per counted tab with alerts: how many, and how many of them need an answer (as `alerts_needing_answer`). The
#: partial index on active alerts serves it: with an equality the planner would look for the few assigned among the many
#: open by reading the table. The table of alerts is named once, because planning the policies that
#: PostgreSQL applies to it takes longer than counting.
_COUNTS = """
    SELECT CASE WHEN is_acknowledged THEN 'acknowledged' ELSE status END, count(*),
           count(*) FILTER (WHERE status = 'open' AND NOT is_acknowledged AND NOT pages_nobody)
    FROM (VALUES ('open'), ('assigned'), ('on_hold')) AS t (status) CROSS JOIN LATERAL (
        SELECT a.status = 'open' AND EXISTS (
            SELECT FROM alerts_acknowledgement WHERE alert_id = a.id
        ) AS is_acknowledged, a.dry_run OR a.is_test AS pages_nobody
        FROM alerts_alert AS a
        WHERE a.status >= t.status AND a.status <= t.status AND a.status IN ('open', 'assigned', 'on_hold'){visible}
        ORDER BY a.status, a.id LIMIT %(limit)s
    ) AS matches GROUP BY 1
"""
_COUNTED_TABS = ("open", "acknowledged", "assigned", "on_hold")

#: An assigned alert has a timer while its assignee has not accepted it.
_WITH_TIMER = frozenset({AlertStatus.OPEN, AlertStatus.ASSIGNED})

#: The same condition as `alerts_needing_answer`.
_NEEDING_ANSWER_COUNT = """
    SELECT count(*) FROM (
        SELECT FROM alerts_alert AS a WHERE status = 'open' AND NOT dry_run AND NOT is_test{visible}
        AND NOT EXISTS (SELECT FROM alerts_acknowledgement WHERE alert_id = a.id) LIMIT %(limit)s
    ) AS matches
"""

_ACKNOWLEDGED = Exists(Acknowledgement.objects.filter(alert=OuterRef("pk")))


@dataclass(frozen=True, slots=True)
class ActiveCounts:
    """Capped numbers of active alerts."""

    by_tab: Mapping[str, int]
    #: As `alerts_needing_answer`.
    needing_answer: int


@dataclass(frozen=True, slots=True)
class AlertTab:
    """One tab. `count` is None for closed alerts, whose number is unbounded."""

    key: str
    label: Any
    count: int | None
    is_current: bool

    @property
    def display_count(self) -> str:
        """The count for display, or "" without a count."""
        return object_list.counted(self.count, object_list.MAX_COUNTED_ALERTS) if self.count is not None else ""


@dataclass(frozen=True, slots=True)
class AlertListRow:
    alert: Alert
    #: Users who acknowledged, oldest first.
    acknowledged_by: Sequence[User]
    next_at: datetime | None
    next_text: str
    sla: SlaTarget | None = None
    #: The storm of which `alert` is the lead, and which the row stands for.
    storm: Storm | None = None

    @property
    def title(self) -> str:
        """The alert's subject, or what the storm is called."""
        return self.storm.name if self.storm else self.alert.subject

    @property
    def url(self) -> str:
        """The URL of the alert, or of the list of the storm's alerts."""
        if self.storm is None:
            return reverse("alert", args=[self.alert.pk])
        tab = "acknowledged" if self.is_acknowledged else self.alert.status
        return f"{reverse('alerts')}?{urlencode({'tab': tab, 'storm': self.storm_key})}"

    @property
    def storm_key(self) -> str:
        """How the URL of a list names the storm, as `storm_named` reads it."""
        return f"{self.storm.by}-{self.storm.alerts[0].pk}" if self.storm else ""

    @property
    def is_acknowledged(self) -> bool:
        return bool(self.acknowledged_by) and self.alert.status == AlertStatus.OPEN

    @property
    def tone(self) -> str:
        """The colour of the bar: the priority, red if critical. An alert that pages nobody, or is over, has none."""
        if self.alert.status not in ACTIVE or self.alert.dry_run or self.alert.is_test:
            return ""
        return {Priority.CRITICAL: "now", Priority.HIGH: "wait"}.get(Priority(self.alert.priority), "")

    @property
    def owner(self) -> User | None:
        """The assigned user, else the first who acknowledged."""
        return self.alert.owner or (self.acknowledged_by[0] if self.acknowledged_by else None)


def _storm_named(key: str, rows: QueryUnion[Alert]) -> Storm | None:
    """Return the alerts of a list that belong to the storm with that key; None if the viewer sees no such storm."""
    by, _separator, text = key.partition("-")
    number = number_of(text)
    if number is None or by not in set(StormBy):
        return None
    newest = store.load_comparable(Alert.objects.filter(pk=number), 1)
    return store.storm_of(rows, StormBy(by), newest[0]) if newest else None


def active_counts() -> ActiveCounts:
    """Return how many active alerts there are, capped."""
    limit = object_list.MAX_COUNTED_ALERTS + 1
    # Twice: enough open alerts for both of their tabs.
    rows = _count(_COUNTS, 2 * limit)
    by_tab = dict.fromkeys(_COUNTED_TABS, 0) | {tab: number for tab, number, _needing in rows}
    needing_answer = sum(needing for _tab, _number, needing in rows)
    if by_tab["open"] + by_tab["acknowledged"] == 2 * limit:
        rarer = min("open", "acknowledged", key=by_tab.__getitem__)
        by_tab[rarer] = object_list.capped_count(alerts_in_tab(rarer), limit)
        if needing_answer < limit:
            needing_answer = object_list.capped_count(alerts_needing_answer(), limit)
    return ActiveCounts(by_tab, needing_answer)


def tabs(current: str, counts: ActiveCounts) -> list[AlertTab]:
    """Return every tab with its capped count."""
    return [AlertTab(key, label, counts.by_tab.get(key), key == current) for key, label in TABS]


def open_count() -> int:
    """Return the number of alerts that need an answer, capped for the badge."""
    # Raw SQL, because most views run this query and Django takes longer to build it than PostgreSQL to execute it.
    ((number,),) = _count(_NEEDING_ANSWER_COUNT, _MAX_BADGE_COUNT)
    return int(number)


def _count(query: str, limit: int) -> list[Any]:
    # Django's connection has named the viewer already.
    with connection.cursor() as cursor:
        cursor.execute(
            query.format(visible=visibility.alerts_sql()), {"limit": limit, **visibility.alerts_parameters()}
        )
        return list(cursor.fetchall())


def alerts_needing_answer() -> QuerySet[Alert]:
    """Return the open, unacknowledged alerts, without dry-run alerts (which page nobody) and test alerts (which concern
    only their sender)."""
    return alerts_in_tab("open").filter(dry_run=False, is_test=False)


def newest_needing_answer() -> list[ComparedAlert]:
    """Return the newest alerts that need an answer: enough for the badge to count them."""
    return store.load_comparable(alerts_needing_answer(), store.MAX_STORM_ALERTS)


def most_urgent(newest: Sequence[ComparedAlert], limit: int) -> list[Entry]:
    """Return the most urgent entries of the `newest_needing_answer`; equal priorities newest first."""
    return sorted(store.entries_of(newest), key=lambda entry: (Priority(entry[0].priority).rank, -entry[0].pk))[:limit]


def by_priority(parts: Sequence[QuerySet[Alert]]) -> list[Entry]:
    """Return the most urgent of the newest entries of a list, equal priorities oldest first."""
    entries = store.entries_of(store.load_comparable(parts, store.MAX_STORM_ALERTS))
    return sorted(entries, key=lambda entry: (Priority(entry[0].priority).rank, entry[0].pk))[:_MAX_BY_PRIORITY]


def all_alerts() -> QuerySet[Alert]:
    """Return every alert with the relations that a row shows."""
    return Alert.objects.select_related("owner", "integration").defer(*_LONG_COLUMNS)


def alerts_in_tab(key: str) -> QuerySet[Alert]:
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


def listed(tab: str, filters: dict[str, Any], text: str) -> tuple[list[QuerySet[Alert]], Storm | None]:
    """Return a tab's alerts with all filters, as `filtered`, and the storm to which they are narrowed, if any."""
    parts = filtered(tab, filters, text)
    if "storm" not in filters:
        return parts, None
    storm = _storm_named(filters["storm"], parts)
    return [alerts_in_tab(tab).filter(pk__in=storm.ids if storm else [])], storm


def filtered(tab: str, filters: dict[str, Any], text: str) -> list[QuerySet[Alert]]:
    """Return a tab's alerts with filters and search applied, as the parts of a `core.db.queries.QueryUnion`."""
    rows = alerts_in_tab(tab)
    if filters.get("integration"):
        rows = rows.filter(integration=filters["integration"])
    if filters.get("group"):
        group = filters["group"]
        group_integrations = Integration.objects.filter(Q(group=group) | Q(recipient_groups=group))
        # As literal ids: PostgreSQL would evaluate a subquery for every alert in the table.
        rows = rows.filter(integration__in=list(group_integrations.order_by().values_list("pk", flat=True).distinct()))
    if filters.get("priority"):
        rows = rows.filter(priority=filters["priority"])
    condition, indexed_condition = Q(), Q()
    if filters.get("client"):
        condition &= Q(client__icontains=filters["client"])
        indexed_condition &= Q(texts__client__contains=SearchableText(filters["client"]))
    if filters.get("tag"):
        condition &= _tag_condition(filters["tag"])
        indexed_condition &= _indexed_tag_condition(filters["tag"])
    if text:
        condition &= _search_condition(text)
        indexed_condition &= _indexed_search_condition(text)
    if tab != "closed":
        return [store.filter_active(rows, condition) if condition else rows]
    parts = store.filter_inactive(rows, condition, indexed_condition)
    number = number_of(text.removeprefix("#")) if text else None
    return parts if number is None else [*parts, rows.filter(condition, pk=number)]


def search(text: str) -> tuple[list[QuerySet[Alert]], list[QuerySet[Alert]]]:
    """Return the matching active alerts and the matching closed alerts."""
    active = all_alerts().filter(status__in=sorted(ACTIVE))
    return [store.filter_active(active, _search_condition(text))], filtered("closed", {}, text)


def rows_of(alerts: Iterable[Alert], now: datetime) -> list[AlertListRow]:
    """Return alerts that the viewer sees as rows, with a constant number of additional queries."""
    alerts = list(alerts)
    alert_ids = [alert.pk for alert in alerts]
    people: dict[int, list[User]] = {}
    acknowledgements = visibility.about_visible_alerts(Acknowledgement, alert_ids).select_related("user")
    for entry in acknowledgements.order_by("at", "pk"):
        people.setdefault(entry.alert_id, []).append(entry.user)
    upcoming = steps_of([alert.pk for alert in alerts if alert.status in _WITH_TIMER], now)
    targets = next_targets([alert for alert in alerts if alert.status in ACTIVE], people.keys(), now)
    waiting = [alert.pk for alert in alerts if alert.status == AlertStatus.OPEN and alert.pk not in upcoming]
    runs = visibility.about_visible_alerts(EscalationRun, waiting).exclude(status=RunStatus.TERMINATED)
    reasons = {run.alert_id: run.reason for run in runs.only("alert_id", "reason")}
    rows = []
    for alert in alerts:
        step = upcoming.get(alert.pk)
        if alert.status == AlertStatus.ON_HOLD:
            at, text = alert.hold_until, ""
        elif step is None:
            at, text = None, reasons.get(alert.pk, NO_REASON).localized()
        else:
            at, text = None if step.is_recheck else step.at, capitalised(step.summary)
        rows.append(AlertListRow(alert, people.get(alert.pk, []), at, text, targets.get(alert.pk)))
    return rows


def rows_of_entries(entries: Sequence[Entry], now: datetime) -> list[AlertListRow]:
    """Return the entries as rows, one a storm."""
    storms = {lead.pk: storm for lead, storm in entries}
    alerts = all_alerts().in_bulk(list(storms))
    rows = rows_of([alerts[number] for number in storms if number in alerts], now)
    return [replace(row, storm=storms[row.alert.pk]) for row in rows]


def _tag_condition(text: str) -> Q:
    name, separator, value = text.partition("=")
    if separator:
        return (
            Q(**{f"tags__{name.strip()}__icontains": value.strip()})
            if name.strip().isidentifier()
            else Q(tags__contains={name.strip(): value.strip()})
        )
    return Q(tags__icontains=text)


def _indexed_tag_condition(text: str) -> Q:
    """The `_tag` condition on the search index. For "name=value" the value narrows the candidates by index."""
    _name, separator, value = text.partition("=")
    if separator:
        return Q(texts__tags__contains=SearchableText(value.strip())) & _tag_condition(text)
    return Q(texts__tags__contains=SearchableText(text))


def _search_condition(text: str) -> Q:
    condition = Q(subject__icontains=text) | Q(source_id__iexact=text.removeprefix("#")) | Q(client__icontains=text)
    number = number_of(text.removeprefix("#"))
    return condition if number is None else condition | Q(pk=number)


def _indexed_search_condition(text: str) -> Q:
    """The `_search` condition on the search index, without the alert's own number."""
    searchable = SearchableText(text)
    matches_source_id = Q(texts__source_id=SearchableText(text.removeprefix("#")))
    return Q(texts__subject__contains=searchable) | matches_source_id | Q(texts__client__contains=searchable)
