"""Who would be paged by pushes alone: a phone that is off, silent or offline then reaches nobody. Pure."""

from __future__ import annotations

from tocsin.alerts.states import Priority
from tocsin.notify.rules import notification_rules
from tocsin.notify.rules.notification_rules import USER_RULES, Recipient

#: Channels that ring only where the phone lets them.
PUSHES = frozenset({"push", "ntfy"})

#: The priorities for which that is not enough.
URGENT_PRIORITIES = (Priority.CRITICAL, Priority.HIGH)


def priorities(person: Recipient) -> tuple[Priority, ...]:
    """The high priorities at which all of a person's ways are pushes; none for somebody without any way."""
    return tuple(priority for priority in URGENT_PRIORITIES if _is_alone(person, priority))


def _is_alone(person: Recipient, priority: Priority) -> bool:
    methods, _note = notification_rules.ways(person, USER_RULES, priority)
    return bool(methods) and all(method.channel in PUSHES for method in methods)
