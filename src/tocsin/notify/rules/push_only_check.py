"""Finds users who would be paged by push alone. A phone that is off, silent or offline then reaches nobody. Pure."""

from __future__ import annotations

from tocsin.alerts.states import Priority
from tocsin.notify.rules import notification_rules
from tocsin.notify.rules.notification_rules import USER_RULES, Recipient

#: Channels that ring only if the phone's settings allow it.
PUSHES = frozenset({"push", "ntfy"})

#: The priorities for which push alone is not enough.
URGENT_PRIORITIES = (Priority.CRITICAL, Priority.HIGH)


def push_only_priorities(recipient: Recipient) -> tuple[Priority, ...]:
    """Returns the urgent priorities at which all contact methods of a user are pushes; none for a user without contact
    methods.
    """
    return tuple(priority for priority in URGENT_PRIORITIES if _is_push_only(recipient, priority))


def _is_push_only(recipient: Recipient, priority: Priority) -> bool:
    methods, _note = notification_rules.select_methods(recipient, USER_RULES, priority)
    return bool(methods) and all(method.channel in PUSHES for method in methods)
