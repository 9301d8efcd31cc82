"""A user's notification rules: contact methods by priority, quiet hours, and a limit of messages per hour.

Reads, validates and writes them; `notify.rules.page_planner` applies them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import NOT_A_CHOICE, TOO_MANY_ENTRIES, ObjectReader
from tocsin.people.reasons import NO_SUCH_CONTACT_METHOD

#: The values of `alerts.states.Priority`. This room may not import `alerts`, which is above it.
PRIORITIES = ("critical", "high", "medium", "low")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MAX_RULE_DELAY = timedelta(days=1)
MAX_RULE_REPEATS = 100
MAX_RULES = 50
MAX_QUIET_HOURS = 20
MAX_MESSAGES_PER_HOUR = 1000

_NO_METHODS = ReasonType(
    "notification_rule.no_methods",
    "must contain a contact method. Omit the priority to use the contact methods' own settings.",
)
_NEEDS_INTERVAL = ReasonType(
    "notification_rule.needs_interval", "is required, and must be greater than zero, if there are repeats."
)
_NOT_A_DAY = ReasonType("notification_rule.not_a_day", '"{value}" is not a day. Use one of {days}.')
_NOT_A_TIME = ReasonType("notification_rule.not_a_time", '"{value}" is not a time of day. Use a format like 22:00.')

_TIME = re.compile(r"([01]?\d|2[0-3]):[0-5]\d|24:00", re.ASCII)


@dataclass(frozen=True, slots=True)
class NotificationRule:
    """One entry of a rule: a contact method by label, its delay after the step, and repeats."""

    method: str
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class QuietHours:
    """When pages are delayed: days, from and to in the user's time zone, and the priority from which pages pass.

    An end at or before the start is on the next day.
    """

    days: tuple[str, ...]
    start: str
    end: str
    #: Labels of contact methods; empty for all.
    methods: tuple[str, ...] = ()
    #: Pages of this priority and above are never delayed.
    exempt_priority: str = "high"


@dataclass(frozen=True, slots=True)
class NotificationRules:
    """All notification rules of a user. A priority without rules uses the contact methods' own delays and repeats."""

    by_priority: Mapping[str, tuple[NotificationRule, ...]] = field(default_factory=dict)
    quiet_hours: tuple[QuietHours, ...] = ()
    #: Maximum messages per hour to one address; 0 for no limit.
    max_per_hour: int = 0


def read(spec: ObjectReader) -> NotificationRules:
    """Reads the rules from a `notification_rules` object. Errors are recorded in `spec`."""
    rules_by_priority: dict[str, tuple[NotificationRule, ...]] = {}
    by_priority = spec.nested("by_priority")
    if by_priority is not None:
        for priority in PRIORITIES:
            if by_priority.has(priority):
                rules_by_priority[priority] = _rules(by_priority, priority)
        by_priority.reject_unknown_keys()
    quiet = tuple(_quiet(entry) for entry in spec.nested_list("quiet_hours"))
    if len(quiet) > MAX_QUIET_HOURS:
        spec.add_error("quiet_hours", TOO_MANY_ENTRIES(maximum=MAX_QUIET_HOURS, length=len(quiet)))
    rules = NotificationRules(rules_by_priority, quiet, spec.integer("most_per_hour", 0, maximum=MAX_MESSAGES_PER_HOUR))
    spec.reject_unknown_keys()
    return rules


def load(stored: object) -> NotificationRules:
    """Returns the rules from their stored form, or no rules if it is invalid."""
    problems: list[Rejected] = []
    spec = ObjectReader(stored or {}, problems=problems)
    rules = read(spec)
    return NotificationRules() if problems else rules


def write(rules: NotificationRules) -> dict[str, Any]:
    """Returns the stored form, which is also the form that users write; empty if there are no rules."""
    data: dict[str, Any] = {}
    if rules.by_priority:
        data["by_priority"] = {
            priority: [_rule_data(rule) for rule in rules.by_priority[priority]]
            for priority in PRIORITIES
            if priority in rules.by_priority
        }
    if rules.quiet_hours:
        data["quiet_hours"] = [_quiet_hours_data(quiet) for quiet in rules.quiet_hours]
    if rules.max_per_hour:
        data["most_per_hour"] = rules.max_per_hour
    return data


def reject_unknown_labels(spec: ObjectReader, rules: NotificationRules, labels: Iterable[str]) -> None:
    """Records an error for each label in `rules` that no contact method of the user has."""
    known = {label.casefold() for label in labels}
    priorities_spec = spec.nested("by_priority")
    for priority, entries in rules.by_priority.items():
        for index, rule in enumerate(entries):
            if priorities_spec is not None and rule.method and rule.method.casefold() not in known:
                priorities_spec.add_error(
                    f"{priority}[{index}].method", NO_SUCH_CONTACT_METHOD(label=rule.method), "not_found"
                )
    for index, quiet in enumerate(rules.quiet_hours):
        for position, label in enumerate(quiet.methods):
            if label.casefold() not in known:
                spec.add_error(
                    f"quiet_hours[{index}].methods[{position}]", NO_SUCH_CONTACT_METHOD(label=label), "not_found"
                )


def labels(rules: NotificationRules) -> set[str]:
    """Returns the labels used in the rules, case-folded."""
    names = {rule.method.casefold() for entries in rules.by_priority.values() for rule in entries}
    return names | {label.casefold() for quiet in rules.quiet_hours for label in quiet.methods}


def rename_method(rules: NotificationRules, old: str, new: str | None) -> NotificationRules:
    """Returns the rules after a method was relabelled, or deleted (`new` is None). An emptied priority is removed."""

    def label(text: str) -> str | None:
        return new if text.casefold() == old.casefold() else text

    by_priority = {
        priority: tuple(replace(rule, method=name) for rule in entries if (name := label(rule.method)) is not None)
        for priority, entries in rules.by_priority.items()
    }
    quiet = [
        (hours, tuple(name for text in hours.methods if (name := label(text)) is not None))
        for hours in rules.quiet_hours
    ]
    return NotificationRules(
        {priority: entries for priority, entries in by_priority.items() if entries},
        # Quiet hours for only this method must not become quiet hours for all methods.
        tuple(replace(hours, methods=methods) for hours, methods in quiet if methods or not hours.methods),
        rules.max_per_hour,
    )


def _rules(by_priority: ObjectReader, priority: str) -> tuple[NotificationRule, ...]:
    entries = by_priority.nested_list(priority)
    if len(entries) > MAX_RULES:
        by_priority.add_error(priority, TOO_MANY_ENTRIES(maximum=MAX_RULES, length=len(entries)))
    if not entries:
        by_priority.add_error(priority, _NO_METHODS())
    return tuple(_rule(entry) for entry in entries)


def _rule(entry: ObjectReader) -> NotificationRule:
    times, every = read_repeat(entry)
    rule = NotificationRule(
        entry.text("method", required=True, max_length=100),
        entry.duration("wait", timedelta(), maximum=MAX_RULE_DELAY),
        times,
        every,
    )
    entry.reject_unknown_keys()
    return rule


def read_repeat(entry: ObjectReader) -> tuple[int, timedelta]:
    """Reads `repeat: {times, every}` of a contact method: the number of repeats and their interval."""
    spec = entry.nested("repeat")
    if spec is None:
        return 0, timedelta()
    times = spec.integer("times", 0, maximum=MAX_RULE_REPEATS)
    every = spec.duration("every", timedelta(), maximum=MAX_RULE_DELAY)
    if times and not every:
        spec.add_error("every", _NEEDS_INTERVAL(), "missing")
    spec.reject_unknown_keys()
    return times, every if times else timedelta()


def _quiet(entry: ObjectReader) -> QuietHours:
    days = []
    for index, text in enumerate(entry.texts("days")):
        if text.lower()[:3] in DAYS and text.isalpha():
            days.append(text.lower()[:3])
        else:
            entry.add_error(f"days[{index}]", _NOT_A_DAY(value=text, days=DAYS))
    exempt_priority = entry.text("let_through", "high")
    if exempt_priority not in PRIORITIES:
        entry.add_error("let_through", NOT_A_CHOICE(value=exempt_priority, choices=PRIORITIES))
        exempt_priority = "high"
    quiet = QuietHours(
        days=tuple(day for day in DAYS if day in days) or DAYS,
        start=_time(entry, "from"),
        end=_time(entry, "to"),
        methods=entry.texts("methods"),
        exempt_priority=exempt_priority,
    )
    entry.reject_unknown_keys()
    return quiet


def _time(entry: ObjectReader, key: str) -> str:
    text = entry.text(key, required=True, max_length=10)
    if text and not _TIME.fullmatch(text):
        entry.add_error(key, _NOT_A_TIME(value=text))
        return "00:00"
    return text.rjust(5, "0")


def repeat_data(times: int, every: timedelta) -> dict[str, Any]:
    """Returns `{repeat: …}`, or an empty dict without repeats."""
    return {"repeat": {"times": times, "every": durations.write(every)}} if times else {}


def _rule_data(rule: NotificationRule) -> dict[str, Any]:
    wait = {"wait": durations.write(rule.wait)} if rule.wait else {}
    return {"method": rule.method, **wait, **repeat_data(rule.repeat_times, rule.repeat_every)}


def _quiet_hours_data(quiet: QuietHours) -> dict[str, Any]:
    data: dict[str, Any] = {} if quiet.days == DAYS else {"days": list(quiet.days)}
    data |= {"from": quiet.start, "to": quiet.end}
    if quiet.methods:
        data["methods"] = list(quiet.methods)
    return data | {"let_through": quiet.exempt_priority}
