"""The facts of a handover note: open and snoozed alerts, what happened in the shift, and what is coming. Pure.

Facts are sections of reasons. They are rendered for each reader, and stored as JSON once they are mailed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts.states import ACTIVE, AlertStatus
from tocsin.core.reasons import (
    MORE,
    AlertRef,
    Person,
    Reason,
    ReasonType,
    Term,
    joined,
    reason_as_json,
    reason_from_json,
)
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.reports.interruptions import Interruptions

#: How far ahead overrides and maintenance windows are listed.
FACTS_HORIZON = timedelta(days=7)
#: Lines of a section; the rest is only counted.
MAX_LINES = 50

_OPEN = ReasonType("handover.open_alerts", "{count} open alert", "{count} open alerts")
_NO_OPEN = ReasonType("handover.no_open_alerts", "No open alerts")
_SNOOZED = ReasonType("handover.snoozed_alerts", "{count} snoozed alert", "{count} snoozed alerts")
_ALERT = ReasonType("handover.alert", "Alert {alert}: {subject} ({priority}, {state})")
_UNASSIGNED = ReasonType("handover.unassigned", "unassigned")
_ASSIGNED = ReasonType("handover.assigned", "assigned to {user}")
_SNOOZED_UNTIL = ReasonType("handover.snoozed_until", "snoozed until {until}")
_SNOOZED_BY = ReasonType("handover.snoozed_with_assignee", "assigned to {user}, snoozed until {until}")
_OF_SHIFT = ReasonType("handover.alerts_of_shift", "{count} alert in the shift", "{count} alerts in the shift")
_NONE_IN_SHIFT = ReasonType("handover.no_alerts_in_shift", "No alerts in the shift")
_CLOSED = ReasonType("handover.closed", "{count} closed", "{count} closed")
_FALSE_ALARMS = ReasonType("handover.false_alarms", "{count} false alarm", "{count} false alarms")
_MERGED = ReasonType("handover.merged", "{count} merged into another alert", "{count} merged into other alerts")
_STILL_ACTIVE = ReasonType("handover.still_active", "{count} still active", "{count} still active")
_PAGES = ReasonType("handover.pages", "Pages in the shift")
_PAGES_OF_USER = ReasonType(
    "handover.pages_of_user", "{user}: {count} alert, {night} at night", "{user}: {count} alerts, {night} at night"
)
_OVERRIDES = ReasonType("handover.overrides", "Overrides in the next {days} days")
_OVERRIDE = ReasonType("handover.override", "{user}, {since} to {until}")
_OVERRIDE_FOR = ReasonType("handover.override_of_user", "{user} instead of {replaced}, {since} to {until}")
_MAINTENANCE = ReasonType("handover.maintenance", "Maintenance in the next {days} days")
_WINDOW = ReasonType("handover.maintenance_window", "{window}, {since} to {until}")
_LINE = ReasonType("handover.line", "- {fact}")


@dataclass(frozen=True, slots=True)
class FactLine:
    """One fact, and the alert that it is about, if any."""

    reason: Reason
    alert_id: int | None = None


@dataclass(frozen=True, slots=True)
class FactSection:
    """A heading, and the facts below it. The heading alone says enough where there are none."""

    title: Reason
    lines: tuple[FactLine, ...] = ()


@dataclass(frozen=True, slots=True)
class HandoverAlert:
    """An active alert. `hold_until` is when its snooze ends."""

    alert_id: int
    subject: str
    priority: str
    owner: Person | None
    hold_until: datetime | None


@dataclass(frozen=True, slots=True)
class ComingWindow:
    """The next occurrence of a maintenance window."""

    name: str
    since: datetime
    until: datetime


def build(
    active: Sequence[HandoverAlert],
    statuses: Mapping[AlertStatus, int],
    pages: Iterable[Interruptions],
    coming: Iterable[Reason],
    windows: Iterable[ComingWindow],
) -> tuple[FactSection, ...]:
    """Returns the sections of a note. Those about what may be missing are left out when it is.

    `statuses` are the numbers of alerts that opened in the shift, by their status now; `coming` are the overrides, as
    `coming_overrides` describes them.
    """
    snoozed = [alert for alert in active if alert.hold_until is not None]
    unsnoozed = [alert for alert in active if alert.hold_until is None]
    opened = sum(statuses.values())
    sections = [
        FactSection(_OPEN(count=len(unsnoozed)) if unsnoozed else _NO_OPEN(), _alert_lines(unsnoozed)),
        FactSection(_OF_SHIFT(count=opened) if opened else _NONE_IN_SHIFT(), tuple(_outcomes(statuses))),
    ]
    if snoozed:
        sections.insert(1, FactSection(_SNOOZED(count=len(snoozed)), _alert_lines(snoozed)))
    optional = (
        (_PAGES(), [_PAGES_OF_USER(user=Person(one.name), count=one.alerts, night=one.at_night) for one in pages]),
        (_OVERRIDES(days=FACTS_HORIZON.days), list(coming)),
        (
            _MAINTENANCE(days=FACTS_HORIZON.days),
            [_WINDOW(window=one.name, since=one.since, until=one.until) for one in windows],
        ),
    )
    sections += [FactSection(title, _limited([FactLine(one) for one in lines])) for title, lines in optional if lines]
    return tuple(sections)


def coming_overrides(plan: GroupPlan, schedule: str, at: datetime) -> Iterator[Reason]:
    """Yields the overrides of a schedule that are active at `at`, or begin within `FACTS_HORIZON`, by start."""
    overrides = next((one.overrides for one in plan.schedules if one.name == schedule), ())
    for override in sorted(overrides, key=lambda one: (one.starts_at, one.id)):
        if override.ends_at <= at or override.starts_at >= at + FACTS_HORIZON:
            continue
        user = plan.person(override.user_id)
        if override.instead_of is None:
            yield _OVERRIDE(user=user, since=override.starts_at, until=override.ends_at)
        else:
            replaced = plan.person(override.instead_of)
            yield _OVERRIDE_FOR(user=user, replaced=replaced, since=override.starts_at, until=override.ends_at)


def as_text(sections: Iterable[FactSection]) -> Reason:
    """Returns the sections as one reason, for a mail."""
    blocks = [
        joined(section.title, *(_LINE(fact=line.reason) for line in section.lines), separator="\n")
        for section in sections
    ]
    return joined(*blocks, separator="\n\n")


def to_json(sections: Iterable[FactSection]) -> list[dict[str, Any]]:
    """Returns the sections in their stored form."""
    return [
        {
            "title": reason_as_json(section.title),
            "lines": [{**reason_as_json(line.reason), "alert": line.alert_id} for line in section.lines],
        }
        for section in sections
    ]


def from_json(stored: Iterable[Mapping[str, Any]]) -> tuple[FactSection, ...]:
    """Reads the stored form."""
    return tuple(
        FactSection(
            reason_from_json(section["title"]),
            tuple(
                FactLine(reason_from_json({"code": line["code"], "data": line["data"]}), line["alert"])
                for line in section["lines"]
            ),
        )
        for section in stored
    )


def _alert_lines(alerts: Iterable[HandoverAlert]) -> tuple[FactLine, ...]:
    return _limited(
        [
            FactLine(
                _ALERT(
                    alert=AlertRef(alert.alert_id),
                    subject=alert.subject,
                    priority=Term(alert.priority),
                    state=_state(alert),
                ),
                alert.alert_id,
            )
            for alert in alerts
        ]
    )


def _state(alert: HandoverAlert) -> Reason:
    if alert.hold_until is not None:
        if alert.owner is not None:
            return _SNOOZED_BY(user=alert.owner, until=alert.hold_until)
        return _SNOOZED_UNTIL(until=alert.hold_until)
    return _UNASSIGNED() if alert.owner is None else _ASSIGNED(user=alert.owner)


def _outcomes(statuses: Mapping[AlertStatus, int]) -> Iterator[FactLine]:
    counts = (
        (_CLOSED, statuses.get(AlertStatus.CLOSED, 0)),
        (_FALSE_ALARMS, statuses.get(AlertStatus.CANCELLED, 0)),
        (_MERGED, statuses.get(AlertStatus.MERGED, 0)),
        (_STILL_ACTIVE, sum(statuses.get(status, 0) for status in ACTIVE)),
    )
    for reason_type, count in counts:
        if count:
            yield FactLine(reason_type(count=count))


def _limited(lines: Sequence[FactLine]) -> tuple[FactLine, ...]:
    if len(lines) <= MAX_LINES:
        return tuple(lines)
    return (*lines[:MAX_LINES], FactLine(MORE(count=len(lines) - MAX_LINES)))
