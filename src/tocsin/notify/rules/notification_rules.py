"""By which ways a person is paged, and when each page leaves: by their notification rules or the policy's, and quiet
hours. Pure.

Whoever decides whom to page asks the same as whoever plans the pages: `leaves`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.states import Priority
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import is_zone
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow
from tocsin.people import notification_rules

#: Quiet hours that follow on one another are looked through this often; who is never reachable is paged at once.
_MAX_QUIET_WINDOWS = 60

#: Says of a page why it leaves later.
_IN_QUIET_HOURS = "in quiet hours, so it waits for their end"


@dataclass(frozen=True, slots=True)
class NotificationMethod:
    """A contact method, or a group's contact, which neither waits nor repeats."""

    label: str
    channel: str
    address: str
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class ContactMethodRule:
    """One way: which method, by label or by channel, how long after the step, and how often again."""

    label: str = ""
    channel: str = ""
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()

    def fits(self, method: NotificationMethod) -> bool:
        """Whether it means that method."""
        if self.label:
            return method.label.casefold() == self.label.casefold()
        return method.channel == self.channel


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """Hours in which pages below a priority wait; `methods` are labels in lower case, none: all."""

    window: WeeklyWindow
    methods: frozenset[str] = frozenset()
    let_through: Priority = Priority.HIGH

    def holds(self, method: NotificationMethod, priority: Priority) -> bool:
        """Whether it concerns such a page at all."""
        concerned = not self.methods or method.label.casefold() in self.methods
        return concerned and self.let_through.is_above(priority)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who may be paged, with their methods in their order, and what they want beside."""

    id: int
    name: str
    methods: tuple[NotificationMethod, ...] = ()
    is_active: bool = True
    time_zone: str = "UTC"
    #: Ways by priority; where there are none, the methods as they are.
    rules: Mapping[Priority, tuple[ContactMethodRule, ...]] = field(default_factory=dict)
    quiet: tuple[QuietWindow, ...] = ()
    #: Messages an hour at one address; 0: as many as there are.
    most_per_hour: int = 0

    @property
    def usable(self) -> tuple[NotificationMethod, ...]:
        return tuple(method for method in self.methods if method.is_enabled)


@dataclass(frozen=True, slots=True)
class DeliveryOverride:
    """How a step has its people called: by which ways, if not by their own rules, and how often all of it again."""

    methods: tuple[ContactMethodRule, ...] = ()
    retries: int = 0
    retry_every: timedelta = timedelta()


USER_RULES = DeliveryOverride()


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """One page as it would leave: by what, when, and how it comes to that time."""

    method: NotificationMethod
    at: datetime
    how: str
    #: From when quiet hours hold it back; None where they do not.
    held_from: datetime | None = None


def with_rules(person: Recipient, stored: object) -> Recipient:
    """The person with their notification rules as `people.notification_rules` stores them."""
    rules = notification_rules.load(stored)
    return replace(
        person,
        rules={
            Priority(priority): tuple(
                ContactMethodRule(rule.method, "", rule.wait, rule.repeat_times, rule.repeat_every) for rule in entries
            )
            for priority, entries in rules.by_priority.items()
        },
        quiet=_quiet(rules),
        most_per_hour=rules.most_per_hour,
    )


def quiet_hours(stored: object) -> tuple[QuietWindow, ...]:
    """The quiet hours of notification rules as `people.notification_rules` stores them; none without rules."""
    return _quiet(notification_rules.load(stored)) if stored else ()


def _quiet(rules: notification_rules.NotificationRules) -> tuple[QuietWindow, ...]:
    return tuple(
        QuietWindow(
            weekly_windows.load([_window(quiet)])[0],
            frozenset(label.casefold() for label in quiet.methods),
            Priority(quiet.let_through),
        )
        for quiet in rules.quiet_hours
    )


def _window(quiet: notification_rules.QuietHours) -> dict[str, Any]:
    return {"days": list(quiet.days), "from": quiet.start, "to": quiet.end}


def leaves(person: Recipient, calling: DeliveryOverride, priority: Priority, at: datetime) -> tuple[PlannedPage, ...]:
    """Every page to a person whose step fires at `at`, in the order of their ways."""
    methods, note = ways(person, calling, priority)
    found: list[PlannedPage] = []
    for method in methods:
        found += _of_method(person, method, calling, priority, at, note)
    return tuple(found)


def last(person: Recipient, calling: DeliveryOverride, priority: Priority, at: datetime) -> datetime:
    """When the last page leaves: after it, all ways have been tried."""
    return max((leave.at for leave in leaves(person, calling, priority, at)), default=at)


def ways(
    person: Recipient, calling: DeliveryOverride, priority: Priority
) -> tuple[tuple[NotificationMethod, ...], str]:
    """The methods with the waits and repeats that hold, and a note where they are not those that were asked for."""
    usable = person.usable
    if calling.methods:
        if found := _chosen(usable, calling.methods):
            return found, ""
        note = "none of the ways that the policy names; by their own instead"
        return _own(person, usable, priority), note if usable else ""
    return _own(person, usable, priority), ""


def _own(
    person: Recipient, usable: tuple[NotificationMethod, ...], priority: Priority
) -> tuple[NotificationMethod, ...]:
    return _chosen(usable, person.rules.get(priority, ())) or usable


def _chosen(usable: Sequence[NotificationMethod], rules: Iterable[ContactMethodRule]) -> tuple[NotificationMethod, ...]:
    return tuple(
        replace(method, wait=rule.wait, repeat_times=rule.repeat_times, repeat_every=rule.repeat_every)
        for rule in rules
        for method in usable
        if rule.fits(method)
    )


def _of_method(
    person: Recipient,
    method: NotificationMethod,
    calling: DeliveryOverride,
    priority: Priority,
    at: datetime,
    note: str,
) -> list[PlannedPage]:
    found: dict[datetime, list[str]] = {}
    held: dict[datetime, datetime] = {}
    for retry in range(calling.retries + 1):
        for repetition in range(method.repeat_times + 1):
            wanted = at + retry * calling.retry_every + method.wait + repetition * method.repeat_every
            due = quiet_until(person, method, priority, wanted)
            how = _how(method, repetition, retry, calling.retries)
            if due != wanted:
                how += [_IN_QUIET_HOURS]
                held[due] = min(wanted, held.get(due, wanted))
            found.setdefault(due, []).append(", ".join(how))
    return [PlannedPage(method, due, _said(hows, note), held.get(due)) for due, hows in sorted(found.items())]


def _how(method: NotificationMethod, repetition: int, retry: int, retries: int) -> list[str]:
    parts = [method.label]
    if method.wait:
        parts.append(f"{durations.say(method.wait)} after the step")
    if repetition:
        parts.append(f"repeat {repetition} of {method.repeat_times}")
    if retry:
        parts.append(f"try {retry + 1} of {retries + 1}")
    return parts


def _said(hows: list[str], note: str) -> str:
    parts = [hows[0]]
    if len(hows) > 1:
        parts.append(f"one message for {len(hows)} that would leave at once")
    return ", ".join([*parts, note] if note else parts)


def is_quiet(person: Recipient, method: NotificationMethod, priority: Priority, at: datetime) -> bool:
    """Whether such a page would wait that is due at `at`: nothing brings one forward to then."""
    return quiet_until(person, method, priority, at) != at


def quiet_until(person: Recipient, method: NotificationMethod, priority: Priority, at: datetime) -> datetime:
    """When such a page may leave that is due at `at`: then, or at the end of the person's quiet hours."""
    held = [quiet.window for quiet in person.quiet if quiet.holds(method, priority)]
    # When hours are in a zone that this machine does not know, nobody can say: rather too early than never.
    if not held or not is_zone(person.time_zone):
        return at
    zone = ZoneInfo(person.time_zone)
    moment = at
    for _ in range(_MAX_QUIET_WINDOWS):
        spans = [span for window in held if (span := weekly_windows.current((window,), zone, moment)) is not None]
        if not spans:
            return moment
        moment = max(end for _start, end in spans)
    return at
