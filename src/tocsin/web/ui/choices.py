"""Choices shared by several forms: priorities, group roles, channels, rules."""

from __future__ import annotations

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from tocsin.alerts.states import Priority
from tocsin.core.locale_format import local_term
from tocsin.notify.registry import CHANNELS
from tocsin.people import addresses
from tocsin.people.member_roles import MemberRole

PRIORITIES = [
    (Priority.CRITICAL, _("Critical")),
    (Priority.HIGH, _("High")),
    (Priority.MEDIUM, _("Medium")),
    (Priority.LOW, _("Low")),
]


def channel_name(channel: str) -> str:
    """Return the translated display name of a channel."""
    names = {
        "email": gettext("Email"),
        "sms": gettext("SMS"),
        "voice": gettext("Call"),
        "push": gettext("Push"),
        "ntfy": "ntfy",
        "chat": gettext("Chat"),
    }
    return names.get(channel, channel)


def trace_label(name: str) -> str:
    """Return the label of a rule, or of another mechanism in a message's trace."""
    labels = {
        "cancel": gettext("Close as false alarm"),
        "close": gettext("Close the alert"),
        "open": gettext("Open an alert"),
        "update": gettext("Update the alert"),
        "filters": gettext("Filters"),
        "veto": gettext("Veto"),
        "maintenance": gettext("Maintenance"),
        "flapping": gettext("Flapping"),
        "delay": gettext("Delay"),
        "parent": gettext("Parent"),
        "group": gettext("Group"),
        "flood": gettext("Alert storm"),
        "gate": gettext("Noise reduction"),
    }
    return labels.get(name, name)


def channel_choices() -> list[tuple[str, str]]:
    """Return (channel, label) for every channel that a contact method can use."""
    return [(name, local_term(CHANNELS[name].label) if name in CHANNELS else name) for name in addresses.channels()]


ROLES = [
    (MemberRole.PRIMARY, _("primary")),
    (MemberRole.SECONDARY, _("secondary")),
    (MemberRole.MANAGER, _("manager")),
]
