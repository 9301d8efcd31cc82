"""The write-back settings of each alert event for Halo tickets, default note texts, and rendered notes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.validation import text_templates
from tocsin.outbound.states import OutboundEvent

#: The kind of inbound integrations with Halo tickets; compatible kinds belong to the same family.
KIND = "haloitsm"

#: Default note texts. `<after>` is "after 1 call" and `<note>` the user's own note; both may be empty.
TEXTS: Mapping[OutboundEvent, str] = {
    OutboundEvent.ACKNOWLEDGE: "<who> acknowledged this at <time><after>.<note>",
    OutboundEvent.ASSIGN: "<who> assigned this to themselves at <time><after>.<note>",
    OutboundEvent.ESCALATE: "<what>",
    OutboundEvent.REPLY: "<who>: <said>",
    OutboundEvent.HOLD: "<who> snoozed this at <time>, until <until>.<note>",
    OutboundEvent.CLOSE: "<who> closed the alert at <time><after>.<note>",
    OutboundEvent.EXHAUSTED: "<what>",
}

_MAX_NOTE_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class EventWriteback:
    """What one event writes. Changing a status can e-mail the customer, so only notes are written by default."""

    #: The note's template; "" for no note.
    note: str = ""
    #: Whether the requester can see the note.
    is_public: bool = False
    #: A status by name; "" leaves it unchanged.
    status: str = ""
    #: Whether to assign the ticket to the acting user's agent, or to the alert's assignee.
    should_assign: bool = False
    team: str = ""
    priority: str = ""

    @property
    def has_changes(self) -> bool:
        return bool(self.note or self.status or self.should_assign or self.team or self.priority)


def get_writeback(settings: Mapping[str, Any], event: OutboundEvent) -> EventWriteback:
    """What the integration's settings say about an event."""
    sync: Mapping[str, Any] = settings.get("sync", {})
    entry = sync.get(event.value, {"note": True} if "sync" not in settings else {})
    note = entry.get("note", False)
    text = TEXTS[event] if note is True else note if isinstance(note, str) else ""
    return EventWriteback(
        text,
        bool(entry.get("public")),
        entry.get("status", ""),
        bool(entry.get("agent")),
        entry.get("team", ""),
        entry.get("priority", ""),
    )


def note_text(template: str, values: Mapping[str, object]) -> str:
    """Renders a note."""
    return text_templates.render(template, values).strip()[:_MAX_NOTE_CHARS]


def clock_text(at: datetime, zone: str) -> str:
    """A time of day for a note, such as 03:12; followed by "UTC" if that is the zone."""
    local = at.astimezone(ZoneInfo(zone))
    return f"{local:%H:%M}{' UTC' if zone == 'UTC' else ''}"


#: The words for one page and several pages, by channel.
_CHANNEL_WORDS = {
    "voice": ("call", "calls"),
    "sms": ("SMS", "SMS"),
    "email": ("email", "emails"),
    "push": ("push message", "push messages"),
    "chat": ("chat message", "chat messages"),
}


def after_text(pages: Mapping[str, int]) -> str:
    """Text such as " after 1 call and 2 SMS", grouped by channel; "" when nobody was paged."""
    parts = []
    for channel, count in sorted(
        pages.items(), key=lambda pair: list(_CHANNEL_WORDS).index(pair[0]) if pair[0] in _CHANNEL_WORDS else 9
    ):
        singular, plural = _CHANNEL_WORDS.get(channel, ("page", "pages"))
        parts.append(f"{count} {singular if count == 1 else plural}")
    if not parts:
        return ""
    return f" after {parts[0]}" if len(parts) == 1 else f" after {', '.join(parts[:-1])} and {parts[-1]}"


def marker(alert_id: int) -> str:
    """The marker in the subject of a ticket created for an alert, by which the ticket is found again."""
    return f"(Tocsin #{alert_id})"
