"""Shift reminders: how long before a shift, and by which contact method. A user has at most three."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version
from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import ObjectReader, rejected_at
from tocsin.people.models import ContactMethod, User
from tocsin.people.reasons import NO_SUCH_CONTACT_METHOD

MAX_REMINDERS = 3
MAX_LEAD_TIME = timedelta(days=30)

_TOO_MANY = ReasonType(
    "reminder.too_many", "a user can have at most {count} reminder.", "a user can have at most {count} reminders."
)
_TWICE = ReasonType("reminder.duplicate", "the same reminder is listed twice.")
_NEEDS_LEAD_TIME = ReasonType("reminder.needs_lead_time", "must be at least 1m before the shift, such as 1h.")


@dataclass(frozen=True, slots=True)
class ReminderRule:
    """A reminder: the time before a shift, and a contact method's label; "" is e-mail to the account's address."""

    lead_time: timedelta
    contact_label: str = ""


def load_rules(stored: Any) -> tuple[ReminderRule, ...]:
    """Returns the rules from their stored form, which is the form that users write."""
    return tuple(ReminderRule(durations.parse(rule["before"]), rule.get("by", "")) for rule in stored)


def rename_method(stored: Any, old: str, new: str | None) -> list[dict[str, str]]:
    """Returns the stored rules after a method was relabelled, or deleted (`new` is None), which falls back
    to e-mail."""
    rules = [
        replace(rule, contact_label=new or "") if rule.contact_label.casefold() == old.casefold() else rule
        for rule in load_rules(stored)
    ]
    return [_rule_data(rule) for rule in dict.fromkeys(rules)]


def replace_all(user: User, value: object, *, actor: AuditActor, now: datetime) -> bool:
    """Replaces the user's reminders with a list of specs. Returns False if nothing changed.

    Raises Rejected, naming the field from `reminders` on.
    """
    with transaction.atomic():
        config_version.lock()
        reader = ObjectReader({"reminders": value})
        specs = reader.nested_list("reminders")
        labels = {m.label.casefold(): m.label for m in ContactMethod.objects.filter(user=user)}
        rules = [_read(spec, labels) for spec in specs]
        reader.raise_errors()
        if len(rules) > MAX_REMINDERS:
            raise rejected_at("reminders", _TOO_MANY(count=MAX_REMINDERS))
        stored = [_rule_data(rule) for rule in sorted(rules, key=lambda rule: -rule.lead_time)]
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


def _read(spec: ObjectReader, labels: dict[str, str]) -> ReminderRule:
    lead_time = spec.duration("before", timedelta(), maximum=MAX_LEAD_TIME)
    if lead_time < timedelta(minutes=1):
        spec.add_error("before", _NEEDS_LEAD_TIME(), "missing")
    contact_label = spec.text("by")
    if contact_label and contact_label.casefold() not in labels:
        spec.add_error("by", NO_SUCH_CONTACT_METHOD(label=contact_label), "not_found")
    spec.reject_unknown_keys()
    return ReminderRule(lead_time, labels.get(contact_label.casefold(), ""))


def _rule_data(rule: ReminderRule) -> dict[str, str]:
    return {"before": durations.write(rule.lead_time), **({"by": rule.contact_label} if rule.contact_label else {})}
