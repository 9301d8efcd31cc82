"""Shift reminders: how long before a shift, and by which contact method. A user has at most three."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import rejected_at
from tocsin.core.validation.spec import InvalidValue, Spec, reading_context
from tocsin.core.validation.spec_types import Duration, at_most
from tocsin.people.models import ContactMethod, User
from tocsin.people.reasons import NO_SUCH_CONTACT_METHOD

MAX_REMINDERS = 3
MAX_LEAD_TIME = timedelta(days=30)

_TOO_MANY = ReasonType(
    "reminder.too_many", "a user can have at most {count} reminder.", "a user can have at most {count} reminders."
)
_TWICE = ReasonType("reminder.duplicate", "the same reminder is listed twice.")
_NEEDS_LEAD_TIME = ReasonType("reminder.needs_lead_time", "must be at least 1m before the shift, such as 1h.")


def _lead_time(duration: timedelta) -> timedelta:
    if duration < timedelta(minutes=1):
        raise InvalidValue(_NEEDS_LEAD_TIME(), "missing")
    return duration


def _known_label(label: str, info: ValidationInfo) -> str:
    """Returns the label as its contact method has it."""
    labels = reading_context(info).get("labels")
    if labels is None or not label:
        return label
    if label.casefold() not in labels:
        raise InvalidValue(NO_SUCH_CONTACT_METHOD(label=label), "not_found")
    return str(labels[label.casefold()])


class ReminderSpec(Spec):
    """A reminder of a shift. With `labels` as context, by its case-folded name, the contact method must exist."""

    lead_time: Annotated[Duration, at_most(MAX_LEAD_TIME), AfterValidator(_lead_time)] = Field(
        alias="before", description="How long before the shift the reminder is sent."
    )
    contact_label: Annotated[str, Field(max_length=200), AfterValidator(_known_label)] = Field(
        "", alias="by", description="Label of the contact method. Default: email to the account's address."
    )


def load_rules(stored: Any) -> tuple[ReminderSpec, ...]:
    """Returns the rules from their stored form, which is the form that users write."""
    return ReminderSpec.read_list(stored, "reminders")


def rename_method(stored: Any, old: str, new: str | None) -> list[dict[str, str]]:
    """Returns the stored rules after a method was relabelled, or deleted (`new` is None), which falls back
    to e-mail."""
    rules = [
        rule.model_copy(update={"contact_label": new or ""})
        if rule.contact_label.casefold() == old.casefold()
        else rule
        for rule in load_rules(stored)
    ]
    return [rule.written() for rule in dict.fromkeys(rules)]


def replace_all(user: User, value: object, *, actor: AuditActor, now: datetime) -> bool:
    """Replaces the user's reminders with a list of specs. Returns False if nothing changed.

    Raises Rejected, naming the field from `reminders` on.
    """
    with boundary.command():
        config_version.lock()
        labels = {m.label.casefold(): m.label for m in ContactMethod.objects.filter(user=user)}
        rules = ReminderSpec.read_list(value, "reminders", labels=labels)
        if len(rules) > MAX_REMINDERS:
            raise rejected_at("reminders", _TOO_MANY(count=MAX_REMINDERS))
        stored = [rule.written() for rule in sorted(rules, key=lambda rule: -rule.lead_time)]
        if len({(rule.lead_time, rule.contact_label) for rule in rules}) < len(rules):
            raise rejected_at("reminders", _TWICE())
        current = User.objects.get(pk=user.pk).reminders
        if current == stored:
            return False
        User.objects.filter(pk=user.pk).update(reminders=stored)
        audit.record_change(
            actor,
            now=now,
            object_type="user",
            object_id=user.pk,
            object_name=user.username,
            before={"reminders": current},
            after={"reminders": stored},
        )
        config_version.bump()
    return True
