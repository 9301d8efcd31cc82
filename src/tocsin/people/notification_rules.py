"""A user's notification rules: contact methods by priority, quiet hours, and a limit of messages per hour.

Reads, validates and writes them; `notify.rules.page_planner` applies them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import NO_SUCH_CONTACT_METHOD, TOO_MANY_ENTRIES
from tocsin.core.validation.spec import Duration, InvalidValue, ListOf, Names, OneOf, Spec, SpecErrors, at_most, list_of

#: The values of `alerts.states.Priority`. This room may not import `alerts`, which is above it.
PRIORITIES = ("critical", "high", "medium", "low")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MAX_RULE_DELAY = timedelta(days=1)
MAX_RULE_REPEATS = 100
MAX_RULES = 50
MAX_QUIET_HOURS = 20
MAX_MESSAGES_PER_HOUR = 1000


_TIME = re.compile(r"([01]?\d|2[0-3]):[0-5]\d|24:00", re.ASCII)


def _day(text: str) -> str:
    if text.lower()[:3] not in DAYS or not text.isalpha():
        raise InvalidValue(sentence('"{value}" is not a day. Use one of {days}.', value=text, days=DAYS))
    return text.lower()[:3]


def _time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise InvalidValue(sentence('"{value}" is not a time of day. Use a format like 22:00.', value=text))
    return text.rjust(5, "0")


RuleDelay = Annotated[Duration, at_most(MAX_RULE_DELAY)]

#: The label of a contact method.
MethodLabel = Annotated[str, Field(min_length=1, max_length=100)]

_DAYS = Annotated[
    tuple[str, ...],
    list_of(_day, {"enum": list(DAYS)}),
    AfterValidator(lambda days: tuple(day for day in DAYS if day in days) or DAYS),
]
_TIME_OF_DAY = Annotated[
    str,
    Field(min_length=1, max_length=10, json_schema_extra={"pattern": f"^({_TIME.pattern})$"}),
    AfterValidator(_time),
]


class RepeatSpec(Spec):
    """Repeats of a page by one contact method."""

    times: int = Field(default=0, ge=0, le=MAX_RULE_REPEATS, description="Number of repeats.")
    every: RuleDelay = Field(default=timedelta(), description="Interval between repeats. Required if there are any.")

    def check(self, errors: SpecErrors) -> None:
        if self.times and not self.every:
            errors.add(
                "every", sentence("is required, and must be greater than zero, if there are repeats."), "missing"
            )

    @property
    def interval(self) -> timedelta:
        """The interval between repeats; zero if there are none."""
        return self.every if self.times else timedelta()


class NotificationRule(Spec):
    """One entry of a rule: a contact method, its delay after the step, and repeats."""

    repeat: RepeatSpec = Field(default=RepeatSpec(), description="Repeats of the page.")
    method: MethodLabel = Field(description="Label of a contact method of the user.")
    wait: RuleDelay = Field(default=timedelta(), description="Delay after the escalation step.")


class QuietHours(Spec):
    """When pages are delayed: days, from and to in the user's time zone, and the priority from which pages pass.

    An end at or before the start is on the next day.
    """

    days: _DAYS = Field(default=DAYS, description="Days on which the quiet hours begin. Default: every day.")
    exempt_priority: Annotated[str, OneOf(PRIORITIES)] = Field(
        default="high", alias="let_through", description="Pages of this priority and above are not delayed."
    )
    start: _TIME_OF_DAY = Field(alias="from", description="Local time at which the quiet hours begin.")
    end: _TIME_OF_DAY = Field(alias="to", description="Local time at which they end, on the next day if it is earlier.")
    methods: Names = Field(default=(), description="Labels of the contact methods that are quiet. Default: all.")


_RULES = Annotated[ListOf[NotificationRule], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_RULES})]


class PriorityRules(Spec):
    """The rules of each priority, in the order of use."""

    critical: _RULES | None = Field(default=None, description="Contact methods for alerts of priority critical.")
    high: _RULES | None = Field(default=None, description="Contact methods for alerts of priority high.")
    medium: _RULES | None = Field(default=None, description="Contact methods for alerts of priority medium.")
    low: _RULES | None = Field(default=None, description="Contact methods for alerts of priority low.")

    def check(self, errors: SpecErrors) -> None:
        for priority, rules in self.items():
            if not rules:
                errors.add(
                    priority,
                    sentence(
                        "must contain a contact method. Omit the priority to use the contact methods' own settings."
                    ),
                )
            if len(rules) > MAX_RULES:
                errors.add(priority, TOO_MANY_ENTRIES(maximum=MAX_RULES, length=len(rules)))

    def items(self) -> Iterator[tuple[str, tuple[NotificationRule, ...]]]:
        """Yields the priorities that have rules, with their rules."""
        return ((priority, rules) for priority in PRIORITIES if (rules := getattr(self, priority)) is not None)


class NotificationRules(Spec):
    """All notification rules of a user. A priority without rules uses the contact methods' own delays and repeats."""

    by_priority: PriorityRules = Field(
        default=PriorityRules(),
        description="Contact methods by the alert's priority. A priority without rules uses the settings of the "
        "contact methods.",
    )
    quiet_hours: ListOf[QuietHours] = Field(
        default=(), json_schema_extra={"maxItems": MAX_QUIET_HOURS}, description="Hours in which pages are delayed."
    )
    max_per_hour: int = Field(
        default=0,
        ge=0,
        le=MAX_MESSAGES_PER_HOUR,
        alias="most_per_hour",
        description="Maximum number of messages per hour to one address. 0: no limit.",
    )

    def check(self, errors: SpecErrors) -> None:
        if len(self.quiet_hours) > MAX_QUIET_HOURS:
            errors.add("quiet_hours", TOO_MANY_ENTRIES(maximum=MAX_QUIET_HOURS, length=len(self.quiet_hours)))


def load(stored: object) -> NotificationRules:
    """Returns the rules from their stored form, or no rules if it is invalid."""
    try:
        return NotificationRules.read(stored or {})
    except Rejected:
        return NotificationRules()


def write(rules: NotificationRules) -> dict[str, Any]:
    """Returns the stored form, which is also the form that users write; empty if there are no rules."""
    return rules.written()


def add_unknown_labels(errors: SpecErrors, rules: NotificationRules, labels: Iterable[str]) -> None:
    """Adds an error for each label in `rules` that no contact method of the user has."""
    known = {label.casefold() for label in labels}
    places = {
        f"by_priority.{priority}[{index}].method": rule.method
        for priority, entries in rules.by_priority.items()
        for index, rule in enumerate(entries)
    }
    places |= {
        f"quiet_hours[{index}].methods[{position}]": label
        for index, quiet in enumerate(rules.quiet_hours)
        for position, label in enumerate(quiet.methods)
    }
    for path, label in places.items():
        if label.casefold() not in known:
            errors.add(path, NO_SUCH_CONTACT_METHOD(label=label), "not_found")


def labels(rules: NotificationRules) -> set[str]:
    """Returns the labels used in the rules, case-folded."""
    names = {rule.method.casefold() for _priority, entries in rules.by_priority.items() for rule in entries}
    return names | {label.casefold() for quiet in rules.quiet_hours for label in quiet.methods}


def rename_method(rules: NotificationRules, old: str, new: str | None) -> NotificationRules:
    """Returns the rules after a method was relabelled, or deleted (`new` is None). An emptied priority is removed."""

    def label(text: str) -> str | None:
        return new if text.casefold() == old.casefold() else text

    by_priority = {
        priority: tuple(
            rule.model_copy(update={"method": name}) for rule in entries if (name := label(rule.method)) is not None
        )
        for priority, entries in rules.by_priority.items()
    }
    quiet = [
        (hours, tuple(name for text in hours.methods if (name := label(text)) is not None))
        for hours in rules.quiet_hours
    ]
    return NotificationRules(
        by_priority=PriorityRules(**{priority: entries for priority, entries in by_priority.items() if entries}),
        # Quiet hours for only this method must not become quiet hours for all methods.
        quiet_hours=tuple(
            hours.model_copy(update={"methods": methods}) for hours, methods in quiet if methods or not hours.methods
        ),
        most_per_hour=rules.max_per_hour,
    )


def repeat_data(times: int, every: timedelta) -> dict[str, Any]:
    """Returns `{repeat: …}`, or an empty dict without repeats."""
    return {"repeat": {"times": times, "every": inputs.write_duration(every)}} if times else {}
