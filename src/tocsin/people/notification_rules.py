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
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import ObjectReader

#: The values of `alerts.states.Priority`. This room may not import `alerts`, which is above it.
PRIORITIES = ("critical", "high", "medium", "low")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MAX_RULE_DELAY = timedelta(days=1)
MAX_RULE_REPEATS = 100
MAX_RULES = 50
MAX_QUIET_HOURS = 20
MAX_MESSAGES_PER_HOUR = 1000

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
    let_through: str = "high"


@dataclass(frozen=True, slots=True)
class NotificationRules:
    """All notification rules of a user. A priority without rules uses the contact methods' own delays and repeats."""

    by_priority: Mapping[str, tuple[NotificationRule, ...]] = field(default_factory=dict)
    quiet_hours: tuple[QuietHours, ...] = ()
    #: Maximum messages per hour to one address; 0 for no limit.
    most_per_hour: int = 0


def read(spec: ObjectReader) -> NotificationRules:
    """Reads the rules from a `notification_rules` object. Errors are recorded in `spec`."""
    found: dict[str, tuple[NotificationRule, ...]] = {}
    by_priority = spec.spec("by_priority")
    if by_priority is not None:
        for priority in PRIORITIES:
            if by_priority.has(priority):
                found[priority] = _rules(by_priority, priority)
        by_priority.done()
    quiet = tuple(_quiet(entry) for entry in spec.specs("quiet_hours"))
    if len(quiet) > MAX_QUIET_HOURS:
        spec.refuse("quiet_hours", f"has at most {MAX_QUIET_HOURS} entries; this one has {len(quiet)}.")
    rules = NotificationRules(found, quiet, spec.whole("most_per_hour", 0, most=MAX_MESSAGES_PER_HOUR))
    spec.done()
    return rules


def load(stored: object) -> NotificationRules:
    """Returns the rules from their stored form, or no rules if it is invalid."""
    problems: list[Rejected] = []
    spec = ObjectReader(stored or {}, problems=problems)
    rules = read(spec)
    return NotificationRules() if problems else rules


def write(rules: NotificationRules) -> dict[str, Any]:
    """Returns the stored form, which is also the form that users write; empty if there are no rules."""
    written: dict[str, Any] = {}
    if rules.by_priority:
        written["by_priority"] = {
            priority: [_written_rule(rule) for rule in rules.by_priority[priority]]
            for priority in PRIORITIES
            if priority in rules.by_priority
        }
    if rules.quiet_hours:
        written["quiet_hours"] = [_written_quiet(quiet) for quiet in rules.quiet_hours]
    if rules.most_per_hour:
        written["most_per_hour"] = rules.most_per_hour
    return written


def refuse_unknown(spec: ObjectReader, rules: NotificationRules, labels: Iterable[str]) -> None:
    """Records an error for each label in `rules` that no contact method of the user has."""
    known = {label.casefold() for label in labels}
    held = spec.spec("by_priority")
    for priority, entries in rules.by_priority.items():
        for number, rule in enumerate(entries):
            if held is not None and rule.method and rule.method.casefold() not in known:
                held.refuse(f"{priority}[{number}].method", f'there is no contact method "{rule.method}".', "not_found")
    for number, quiet in enumerate(rules.quiet_hours):
        for place, label in enumerate(quiet.methods):
            if label.casefold() not in known:
                spec.refuse(
                    f"quiet_hours[{number}].methods[{place}]", f'there is no contact method "{label}".', "not_found"
                )


def labels(rules: NotificationRules) -> set[str]:
    """Returns the labels used in the rules, case-folded."""
    found = {rule.method.casefold() for entries in rules.by_priority.values() for rule in entries}
    return found | {label.casefold() for quiet in rules.quiet_hours for label in quiet.methods}


def renamed(rules: NotificationRules, old: str, new: str | None) -> NotificationRules:
    """Returns the rules after a method was relabelled, or deleted (`new` is None). An emptied priority is removed."""

    def label(text: str) -> str | None:
        return new if text.casefold() == old.casefold() else text

    by_priority = {
        priority: tuple(replace(rule, method=name) for rule in entries if (name := label(rule.method)) is not None)
        for priority, entries in rules.by_priority.items()
    }
    quiet = [
        (one, tuple(name for text in one.methods if (name := label(text)) is not None)) for one in rules.quiet_hours
    ]
    return NotificationRules(
        {priority: entries for priority, entries in by_priority.items() if entries},
        # Quiet hours for only this method must not become quiet hours for all methods.
        tuple(replace(one, methods=methods) for one, methods in quiet if methods or not one.methods),
        rules.most_per_hour,
    )


def _rules(by_priority: ObjectReader, priority: str) -> tuple[NotificationRule, ...]:
    entries = by_priority.specs(priority)
    if len(entries) > MAX_RULES:
        by_priority.refuse(priority, f"has at most {MAX_RULES} entries; this one has {len(entries)}.")
    if not entries:
        by_priority.refuse(priority, "names no way: leave the priority out to use the methods as they are.")
    return tuple(_rule(entry) for entry in entries)


def _rule(entry: ObjectReader) -> NotificationRule:
    times, every = repeat(entry)
    rule = NotificationRule(
        entry.text("method", required=True, longest=100),
        entry.span("wait", timedelta(), longest=MAX_RULE_DELAY),
        times,
        every,
    )
    entry.done()
    return rule


def repeat(entry: ObjectReader) -> tuple[int, timedelta]:
    """Reads `repeat: {times, every}` of a contact method: the number of repeats and their interval."""
    held = entry.spec("repeat")
    if held is None:
        return 0, timedelta()
    times = held.whole("times", 0, most=MAX_RULE_REPEATS)
    every = held.span("every", timedelta(), longest=MAX_RULE_DELAY)
    if times and not every:
        held.refuse("every", "is needed, and more than nothing, where there are repeats.", "missing")
    held.done()
    return times, every if times else timedelta()


def _quiet(entry: ObjectReader) -> QuietHours:
    days = []
    for number, text in enumerate(entry.texts("days")):
        if text.lower()[:3] in DAYS and text.isalpha():
            days.append(text.lower()[:3])
        else:
            entry.refuse(f"days[{number}]", f'"{text}" is not a day; write {", ".join(DAYS)}.')
    let_through = entry.text("let_through", "high")
    if let_through not in PRIORITIES:
        entry.refuse("let_through", f'"{let_through}" is not one of {", ".join(PRIORITIES)}.')
        let_through = "high"
    quiet = QuietHours(
        days=tuple(day for day in DAYS if day in days) or DAYS,
        start=_time(entry, "from"),
        end=_time(entry, "to"),
        methods=entry.texts("methods"),
        let_through=let_through,
    )
    entry.done()
    return quiet


def _time(entry: ObjectReader, key: str) -> str:
    text = entry.text(key, required=True, longest=10)
    if text and not _TIME.fullmatch(text):
        entry.refuse(key, f'"{text}" is not a time of day; write it like "22:00".')
        return "00:00"
    return text.rjust(5, "0")


def written_repeat(times: int, every: timedelta) -> dict[str, Any]:
    """Returns `{repeat: …}`, or an empty dict without repeats."""
    return {"repeat": {"times": times, "every": durations.write(every)}} if times else {}


def _written_rule(rule: NotificationRule) -> dict[str, Any]:
    wait = {"wait": durations.write(rule.wait)} if rule.wait else {}
    return {"method": rule.method, **wait, **written_repeat(rule.repeat_times, rule.repeat_every)}


def _written_quiet(quiet: QuietHours) -> dict[str, Any]:
    written: dict[str, Any] = {} if quiet.days == DAYS else {"days": list(quiet.days)}
    written |= {"from": quiet.start, "to": quiet.end}
    if quiet.methods:
        written["methods"] = list(quiet.methods)
    return written | {"let_through": quiet.let_through}
