"""Shift reminders: how long before a shift, and by which contact method. A user has at most three."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.people.models import ContactMethod, User

MAX_REMINDERS = 3
MAX_LEAD_TIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class ReminderRule:
    """A reminder: the time before a shift, and a contact method's label; "" is e-mail to the account's address."""

    before: timedelta
    by: str = ""


def rules_of(stored: Any) -> tuple[ReminderRule, ...]:
    """Returns the rules from their stored form, which is the form that users write."""
    return tuple(ReminderRule(durations.parse(rule["before"]), rule.get("by", "")) for rule in stored)


def renamed(stored: Any, old: str, new: str | None) -> list[dict[str, str]]:
    """Returns the stored rules after a method was relabelled, or deleted (`new` is None), which falls back
    to e-mail."""
    rules = [replace(rule, by=new or "") if rule.by.casefold() == old.casefold() else rule for rule in rules_of(stored)]
    return [_written(rule) for rule in dict.fromkeys(rules)]


def replace_all(user: User, wanted: object, *, actor: AuditActor, now: datetime) -> bool:
    """Replaces the user's reminders with a list of specs. Returns False if nothing changed.

    Raises Rejected, naming the field from `reminders` on.
    """
    with transaction.atomic():
        config_version.lock()
        outer = ObjectReader({"reminders": wanted})
        specs = outer.specs("reminders")
        labels = {m.label.casefold(): m.label for m in ContactMethod.objects.filter(user=user)}
        rules = [_read(spec, labels) for spec in specs]
        outer.check()
        if len(rules) > MAX_REMINDERS:
            raise Rejected("invalid", f"reminders: there are at most {MAX_REMINDERS}.", "reminders")
        written = [_written(rule) for rule in sorted(rules, key=lambda rule: -rule.before)]
        if len({(rule.before, rule.by) for rule in rules}) < len(rules):
            raise Rejected("invalid", "reminders: the same reminder is there twice.", "reminders")
        held = User.objects.get(pk=user.pk).reminders
        if held == written:
            return False
        User.objects.filter(pk=user.pk).update(reminders=written)
        audit.record_change(
            actor,
            now=now,
            object_type="user",
            object_id=user.pk,
            object_name=user.username,
            before={"reminders": held},
            after={"reminders": written},
        )
        config_version.bump()
    return True


def _read(spec: ObjectReader, labels: dict[str, str]) -> ReminderRule:
    before = spec.span("before", timedelta(), longest=MAX_LEAD_TIME)
    if before < timedelta(minutes=1):
        spec.refuse("before", "is needed: at least 1m before the shift, such as 1h.", "missing")
    by = spec.text("by")
    if by and by.casefold() not in labels:
        spec.refuse("by", f'there is no contact method "{by}".', "not_found")
    spec.done()
    return ReminderRule(before, labels.get(by.casefold(), ""))


def _written(rule: ReminderRule) -> dict[str, str]:
    return {"before": durations.write(rule.before), **({"by": rule.by} if rule.by else {})}
