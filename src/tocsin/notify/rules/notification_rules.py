"""Decides which contact methods are used for a page and when: by the user's notification rules or the policy's, and by
quiet hours. Pure.

Escalation and the page planner both use `plan_pages`, so that they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Reason, as_reason, joined
from tocsin.core.validation.field_errors import is_zone
from tocsin.notify.rules import delivery_reasons
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow
from tocsin.people import notification_rules

#: The maximum number of consecutive quiet hours to follow. A user who is never reachable is paged at once.
_MAX_QUIET_WINDOWS = 60


@dataclass(frozen=True, slots=True)
class NotificationMethod:
    """A contact method with its waits and repeats. A group contact has neither."""

    label: str
    channel: str
    address: str
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class ContactMethodRule:
    """A rule: a contact method, by label or by channel, its delay after the step, and its repeats."""

    label: str = ""
    channel: str = ""
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()

    def matches(self, method: NotificationMethod) -> bool:
        """Returns whether the rule applies to that method."""
        if self.label:
            return method.label.casefold() == self.label.casefold()
        return method.channel == self.channel


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """Quiet hours, in which pages below a priority wait. `methods` are lower-case labels; if empty, all methods."""

    window: WeeklyWindow
    methods: frozenset[str] = frozenset()
    let_through: Priority = Priority.HIGH

    def defers(self, method: NotificationMethod, priority: Priority) -> bool:
        """Returns whether it applies to such a page at all."""
        includes_method = not self.methods or method.label.casefold() in self.methods
        return includes_method and self.let_through.is_above(priority)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A user who may be paged, with contact methods in order and their settings."""

    id: int
    name: str
    methods: tuple[NotificationMethod, ...] = ()
    is_active: bool = True
    time_zone: str = "UTC"
    #: Rules by priority. A priority without rules uses the methods as they are.
    rules: Mapping[Priority, tuple[ContactMethodRule, ...]] = field(default_factory=dict)
    quiet: tuple[QuietWindow, ...] = ()
    #: The maximum number of messages per hour at one address; 0 means no limit.
    most_per_hour: int = 0

    @property
    def usable(self) -> tuple[NotificationMethod, ...]:
        return tuple(method for method in self.methods if method.is_enabled)


@dataclass(frozen=True, slots=True)
class DeliveryOverride:
    """How a policy step overrides its users' notification rules: the contact methods, and how often the whole sequence
    is repeated.
    """

    methods: tuple[ContactMethodRule, ...] = ()
    retries: int = 0
    retry_every: timedelta = timedelta()


USER_RULES = DeliveryOverride()


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """One planned page: the contact method, the time, and the explanation."""

    method: NotificationMethod
    at: datetime
    explanation: Reason
    #: Since when quiet hours delay it; None if they do not.
    deferred_from: datetime | None = None
    #: Whether it is one of several by the same method.
    is_repeated: bool = False


def apply_rules(recipient: Recipient, stored: object) -> Recipient:
    """Returns the user with the notification rules that `people.notification_rules` stores."""
    rules = notification_rules.load(stored)
    return replace(
        recipient,
        rules={
            Priority(priority): tuple(
                ContactMethodRule(rule.method, "", rule.wait, rule.repeat.times, rule.repeat.interval)
                for rule in entries
            )
            for priority, entries in rules.by_priority.items()
        },
        quiet=_quiet(rules),
        most_per_hour=rules.max_per_hour,
    )


def quiet_hours(stored: object) -> tuple[QuietWindow, ...]:
    """Returns the quiet hours of stored notification rules; none if there are no rules."""
    return _quiet(notification_rules.load(stored)) if stored else ()


def _quiet(rules: notification_rules.NotificationRules) -> tuple[QuietWindow, ...]:
    return tuple(
        QuietWindow(
            weekly_windows.load([_window(quiet)])[0],
            frozenset(label.casefold() for label in quiet.methods),
            Priority(quiet.exempt_priority),
        )
        for quiet in rules.quiet_hours
    )


def _window(quiet: notification_rules.QuietHours) -> dict[str, Any]:
    return {"days": list(quiet.days), "from": quiet.start, "to": quiet.end}


def plan_pages(
    recipient: Recipient, override: DeliveryOverride, priority: Priority, at: datetime
) -> tuple[PlannedPage, ...]:
    """Returns every page to a user whose step fires at `at`, in the order of the contact methods."""
    methods, note = select_methods(recipient, override, priority)
    pages: list[PlannedPage] = []
    for method in methods:
        pages += _plan_method(recipient, method, override, priority, at, note)
    return tuple(pages)


def last_page_at(recipient: Recipient, override: DeliveryOverride, priority: Priority, at: datetime) -> datetime:
    """Returns when the last page is sent. After it, all contact methods have been tried."""
    return max((page.at for page in plan_pages(recipient, override, priority, at)), default=at)


def count_pages(recipient: Recipient, override: DeliveryOverride, priority: Priority) -> int:
    """Returns how many pages `plan_pages` plans at most."""
    methods, _ = select_methods(recipient, override, priority)
    return sum(method.repeat_times + 1 for method in methods) * (override.retries + 1)


def select_methods(
    recipient: Recipient, override: DeliveryOverride, priority: Priority
) -> tuple[tuple[NotificationMethod, ...], Reason]:
    """Returns the contact methods with their effective waits and repeats, and a note if the policy's methods could not
    be used.
    """
    usable = recipient.usable
    if override.methods:
        if chosen := _apply_method_rules(usable, override.methods):
            return chosen, NO_REASON
        note = delivery_reasons.POLICY_METHODS_UNUSABLE() if usable else NO_REASON
        return _methods_by_user_rules(recipient, usable, priority), note
    return _methods_by_user_rules(recipient, usable, priority), NO_REASON


def _methods_by_user_rules(
    recipient: Recipient, usable: tuple[NotificationMethod, ...], priority: Priority
) -> tuple[NotificationMethod, ...]:
    return _apply_method_rules(usable, recipient.rules.get(priority, ())) or usable


def _apply_method_rules(
    usable: Sequence[NotificationMethod], rules: Iterable[ContactMethodRule]
) -> tuple[NotificationMethod, ...]:
    return tuple(
        replace(method, wait=rule.wait, repeat_times=rule.repeat_times, repeat_every=rule.repeat_every)
        for rule in rules
        for method in usable
        if rule.matches(method)
    )


def _plan_method(
    recipient: Recipient,
    method: NotificationMethod,
    override: DeliveryOverride,
    priority: Priority,
    at: datetime,
    note: Reason,
) -> list[PlannedPage]:
    explanations_by_time: dict[datetime, list[Reason]] = {}
    deferred_from: dict[datetime, datetime] = {}
    for retry in range(override.retries + 1):
        for repetition in range(method.repeat_times + 1):
            requested_at = at + retry * override.retry_every + method.wait + repetition * method.repeat_every
            due = quiet_until(recipient, method, priority, requested_at)
            parts = _explain(method, repetition, retry, override.retries)
            if due != requested_at:
                parts.append(delivery_reasons.QUIET_HOURS())
                deferred_from[due] = min(requested_at, deferred_from.get(due, requested_at))
            explanations_by_time.setdefault(due, []).append(joined(*parts, separator=", "))
    is_repeated = len(explanations_by_time) > 1
    return [
        PlannedPage(method, due, _join_explanations(explanations, note), deferred_from.get(due), is_repeated)
        for due, explanations in sorted(explanations_by_time.items())
    ]


def _explain(method: NotificationMethod, repetition: int, retry: int, retries: int) -> list[Reason]:
    parts = [as_reason(method.label)]
    if method.wait:
        parts.append(delivery_reasons.AFTER_STEP(delay=method.wait))
    if repetition:
        parts.append(delivery_reasons.REPETITION(number=repetition, total=method.repeat_times))
    if retry:
        parts.append(delivery_reasons.RETRY(number=retry + 1, total=retries + 1))
    return parts


def _join_explanations(explanations: list[Reason], note: Reason) -> Reason:
    merged = delivery_reasons.MERGED(count=len(explanations)) if len(explanations) > 1 else NO_REASON
    return joined(explanations[0], merged, note, separator=", ")


def is_quiet(recipient: Recipient, method: NotificationMethod, priority: Priority, at: datetime) -> bool:
    """Returns whether quiet hours would delay such a page that is due at `at`. A page is never brought forward into
    quiet hours.
    """
    return quiet_until(recipient, method, priority, at) != at


def quiet_until(recipient: Recipient, method: NotificationMethod, priority: Priority, at: datetime) -> datetime:
    """Returns when such a page that is due at `at` may be sent: then, or at the end of the user's quiet hours."""
    windows = [quiet.window for quiet in recipient.quiet if quiet.defers(method, priority)]
    # In a time zone that this machine does not know, quiet hours cannot be computed: page too early rather than never.
    if not windows or not is_zone(recipient.time_zone):
        return at
    zone = ZoneInfo(recipient.time_zone)
    moment = at
    for _ in range(_MAX_QUIET_WINDOWS):
        spans = [span for window in windows if (span := weekly_windows.current((window,), zone, moment)) is not None]
        if not spans:
            return moment
        moment = max(end for _start, end in spans)
    return at
