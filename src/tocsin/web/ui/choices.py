"""Choices shared by several forms: priorities, group roles, channels."""

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
        "email": gettext("E-mail"),
        "sms": gettext("SMS"),
        "voice": gettext("Call"),
        "push": gettext("Push"),
        "ntfy": "ntfy",
        "chat": gettext("Chat"),
    }
    return names.get(channel, channel)


def channel_choices() -> list[tuple[str, str]]:
    """Return (channel, label) for every channel that a contact method can use."""
    return [(name, local_term(CHANNELS[name].label) if name in CHANNELS else name) for name in addresses.channels()]


ROLES = [
    (MemberRole.PRIMARY, _("primary")),
    (MemberRole.SECONDARY, _("secondary")),
    (MemberRole.MANAGER, _("manager")),
]
