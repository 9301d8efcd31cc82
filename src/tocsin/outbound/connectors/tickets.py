"""What all ticket systems share: what an event writes to a ticket, its texts, the settings, and the system's lists
(statuses, teams, agents, priorities, types), stored as rows.

Also updates inbound integrations with the lists: status names and agent names by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from django.utils.translation import gettext_noop
from pydantic import Field

from tocsin.access.audit import AuditActor
from tocsin.catalogue.desks import ticket_kinds
from tocsin.catalogue.kinds import IntegrationSettingType, load_kinds
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, Term, Text
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import TOO_LONG, UNSTORABLE_CHARACTER
from tocsin.core.validation.spec import InvalidValue, Parsed, Spec, is_unstorable, list_of
from tocsin.inbound.admin import commands as inbound
from tocsin.inbound.admin.simple_rules import StatusEffect, action_of_status
from tocsin.inbound.inspect import normalizer_of_version
from tocsin.inbound.models import Integration
from tocsin.notify.providers.pool import CHANNELS
from tocsin.outbound.models import AgentMatch, LookUp, OutboundIntegration
from tocsin.outbound.states import OutboundEvent
from tocsin.people.models import User

# ---------- writeback settings
# The write-back settings of each alert event for tickets, default note texts, and rendered notes. Pure.


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
    return inputs.render(template, values).strip()[:_MAX_NOTE_CHARS]


def clock_text(at: datetime, zone: str) -> str:
    """A time of day for a note, such as 03:12; followed by "UTC" if that is the zone."""
    local = at.astimezone(ZoneInfo(zone))
    return f"{local:%H:%M}{' UTC' if zone == 'UTC' else ''}"


def after_text(pages: Mapping[str, int]) -> str:
    """Text such as " after 1 call and 2 SMS", the loudest channel first; "" when nobody was paged."""
    parts = []
    for name in sorted(pages, key=lambda name: CHANNELS[name].quietness if name in CHANNELS else -1, reverse=True):
        singular, plural = CHANNELS[name].nouns if name in CHANNELS else ("page", "pages")
        parts.append(f"{pages[name]} {singular if pages[name] == 1 else plural}")
    if not parts:
        return ""
    return f" after {parts[0]}" if len(parts) == 1 else f" after {', '.join(parts[:-1])} and {parts[-1]}"


# ---------- specs
# The settings of a ticket system as YAML, the API and forms write them. Pure.


#: The events that can create a ticket for an alert from another source.
CREATE_ON = ("opened", "acknowledge", "assign", "escalate", "exhausted")

_MAX_TEMPLATE_CHARS = 2000

_INVALID_AGENTS = ReasonType("halo.invalid_agents", "must map each user to the agent's number.")
_NOT_A_TRIGGER = ReasonType("halo.not_a_trigger", "must be one of {events}.")
_INVALID_NOTE = ReasonType(
    "halo.invalid_note", "must be true, false, or the note's text with values such as <who> and <time>."
)


def _agents(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidValue(_INVALID_AGENTS())
    return {str(user)[:150]: inputs.describe_template(number)[:100] for user, number in value.items()}


def _note(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidValue(_INVALID_NOTE())
    text = value.strip()
    if is_unstorable(text):
        raise InvalidValue(UNSTORABLE_CHARACTER())
    if len(text) > _MAX_TEMPLATE_CHARS:
        raise InvalidValue(TOO_LONG(maximum=_MAX_TEMPLATE_CHARS, length=len(text)))
    return text


def _create_on(text: str) -> str:
    if text not in CREATE_ON:
        raise InvalidValue(_NOT_A_TRIGGER(events=", ".join(CREATE_ON)))
    return text


Label = Annotated[str, Field(max_length=100)]
#: Agents' numbers by username.
Agents = Annotated[
    dict[str, str], Parsed(_agents, {"type": "object", "additionalProperties": {"type": ["string", "integer"]}})
]
_Note = Annotated[
    bool | str, Parsed(_note, {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": _MAX_TEMPLATE_CHARS}]})
]


class WritebackSpec(Spec):
    """What an event writes to the ticket."""

    note: _Note = Field(default=False, description="Whether it writes the default note, or the text of a note.")
    public: bool = Field(default=False, description="Whether the requester can see the note.")
    agent: bool = Field(default=False, description="Whether the acting user becomes the ticket's agent.")
    status: Label = Field(default="", description="New status. Default: unchanged.")
    team: Label = Field(default="", description="New team. Default: unchanged.")
    priority: Label = Field(default="", description="New priority. Default: unchanged.")

    def settings(self) -> dict[str, Any]:
        """The settings as stored."""
        values = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: value for key, value in values.items() if value or key == "note"}


class SyncSpec(Spec):
    """What Tocsin writes to the ticket, by event. An event without it writes nothing."""

    acknowledge: WritebackSpec | None = Field(default=None, description="When the alert is acknowledged.")
    assign: WritebackSpec | None = Field(default=None, description="When it is assigned.")
    escalate: WritebackSpec | None = Field(default=None, description="When it is escalated.")
    reply: WritebackSpec | None = Field(default=None, description="When a user replies.")
    hold: WritebackSpec | None = Field(default=None, description="When it is snoozed.")
    close: WritebackSpec | None = Field(default=None, description="When it is closed.")
    exhausted: WritebackSpec | None = Field(default=None, description="When escalation is exhausted.")

    def settings(self) -> dict[str, Any]:
        """The settings as stored."""
        events = {event.value: getattr(self, event.value) for event in OutboundEvent}
        return {name: event.settings() for name, event in events.items() if event is not None}


class CreateTicketSpec(Spec):
    """Tickets for alerts from other sources."""

    on: Annotated[tuple[str, ...], list_of(_create_on, {"enum": list(CREATE_ON)})] = Field(
        default=(), description="Events that create a ticket."
    )
    ticket_type: Label = Field(default="", description="Name of the ticket type.")
    team: Label = Field(default="", description="Name of the team.")
    priority: Label = Field(default="", description="Name of the priority.")
    client: Label = Field(default="", description="Number of the client.")
    site: Label = Field(default="", description="Number of the site.")
    user: Label = Field(default="", description="Number of the requester.")
    summary: str = Field(default="", max_length=500, description="Summary. Default: the alert's subject.")
    details: str = Field(default="", max_length=5000, description="Details. Default: the alert's long text.")

    def settings(self) -> dict[str, Any]:
        """The settings as stored."""
        values = {key: getattr(self, key) for key in type(self).model_fields} | {"on": list(self.on)}
        return {key: value for key, value in values.items() if value}


# ---------- lists
# The lists of a ticket system, as last read.


ENTRY_NAMES: dict[str, str] = {
    "status": gettext_noop("status"),
    "team": gettext_noop("team"),
    "priority": gettext_noop("priority"),
    "ticket_type": gettext_noop("ticket type"),
}


LIST_NAMES: dict[str, str] = {
    "status": gettext_noop("statuses"),
    "team": gettext_noop("teams"),
    "agent": gettext_noop("agents"),
    "priority": gettext_noop("priorities"),
    "ticket_type": gettext_noop("ticket types"),
    "outcome": gettext_noop("outcomes"),
}


def list_label(name: str) -> Term:
    """The name of one of the lists, for readers."""
    return Term(LIST_NAMES.get(name, name.replace("_", " ")))


def missing_entry(kind: Text, desk: str, entry: str, name: object) -> Reason:
    """`ENTRY_MISSING` or `TICKET_FIELD_MISSING` for an entry of one of the desk's lists."""
    return kind(desk=desk, list=Term(ENTRY_NAMES[entry]), name=str(name))


#: The audit actor for integrations changed because of Halo's lists.
READER = AuditActor(None, "Lists of the ticket system", "outbound")

_WORDS = {"critical": "critical", "urgent": "critical", "high": "high", "medium": "medium", "normal": "medium",
          "low": "low"}  # fmt: skip

#: The maximum number of agents in an integration's settings.
_MAX_AGENTS = 1500


@dataclass(frozen=True, slots=True)
class ReferenceEntry:
    """One row of a list."""

    list_name: str
    number: str
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReferenceLists:
    """All lists of one ticket system."""

    entries: Sequence[ReferenceEntry]

    def has_list(self, list_name: str) -> bool:
        """Whether the list of this name could be read."""
        return any(entry.list_name == list_name for entry in self.entries)

    def find_by_name(self, list_name: str, name: str) -> ReferenceEntry | None:
        """The entry with that name, case-insensitively, or else with that id."""
        folded = name.strip().casefold()
        matches = [entry for entry in self.entries if entry.list_name == list_name and entry.name.casefold() == folded]
        return _prefer_active(matches) or self.find_by_number(list_name, name.strip())

    def find_by_number(self, list_name: str, number: str) -> ReferenceEntry | None:
        return next((e for e in self.entries if e.list_name == list_name and number and e.number == number), None)

    def find_agent_by_email(self, email: str) -> ReferenceEntry | None:
        """The agent with that e-mail address."""
        folded = email.strip().casefold()
        return _prefer_active(
            [e for e in self.entries if e.list_name == "agent" and folded and e.data.get("email") == folded]
        )


def _prefer_active(entries: Sequence[ReferenceEntry]) -> ReferenceEntry | None:
    """The first entry that is active there, or else the first."""
    return min(entries, key=lambda entry: bool(entry.data.get("inactive")), default=None)


def load(connection: Connection, integration_id: int) -> ReferenceLists:
    """The lists as last read."""
    rows = database.rows(
        connection,
        "SELECT list_name, number, name, data FROM outbound_lookup WHERE integration_id = %s ORDER BY list_name, id",
        (integration_id,),
    )
    return ReferenceLists([ReferenceEntry(row["list_name"], row["number"], row["name"], row["data"]) for row in rows])


def store(
    connection: Connection, integration_id: int, lists: Mapping[str, Sequence[ReferenceEntry]], now: datetime
) -> bool:
    """Stores the lists that were read and keeps the others. Returns whether any names changed."""
    previous_names = _names(connection, integration_id)
    for list_name, entries in lists.items():
        connection.execute(
            "DELETE FROM outbound_lookup WHERE integration_id = %s AND list_name = %s", (integration_id, list_name)
        )
        unique = {entry.number: {"number": entry.number, "name": entry.name, "data": entry.data} for entry in entries}
        rows = _by_number(entries) if list_name == "priority" else list(unique.values())
        connection.execute(
            "INSERT INTO outbound_lookup (integration_id, list_name, number, name, data, refreshed_at) "
            "SELECT %s, %s, n.number, n.name, n.data, %s "
            "FROM jsonb_to_recordset(%s) AS n(number text, name text, data jsonb)",
            (integration_id, list_name, now, as_json(rows)),
        )
    return _names(connection, integration_id) != previous_names


def _names(connection: Connection, integration_id: int) -> set[tuple[str, str, str]]:
    return {(entry.list_name, entry.number, entry.name) for entry in load(connection, integration_id).entries}


def _by_number(entries: Sequence[ReferenceEntry]) -> list[dict[str, Any]]:
    """Priorities by id; an id with different names under different SLAs keeps all of them in `names`."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        entry_names = names.setdefault(entry.number, [])
        if entry.name not in entry_names:
            entry_names.append(entry.name)
    return [{"number": number, "name": labels[0], "data": {"names": labels}} for number, labels in names.items()]


def publish_to_inbound(integration: OutboundIntegration, now: datetime) -> None:
    """Updates the settings of the inbound integrations that write back through this one.

    Sets the status of each id, the name of each agent (the user's own name if matched), and those priorities whose id
    has the same meaning under every SLA. Entries for ids unknown to it are kept.
    """
    rows = list(LookUp.objects.filter(integration=integration))
    statuses = {row.number: row.name for row in rows if row.list_name == "status"}
    agents = _agent_names(integration, [row for row in rows if row.list_name == "agent"])
    priorities = {}
    for row in rows:
        priority_words = {_word(name) for name in row.data.get("names", [])} if row.list_name == "priority" else set()
        if len(priority_words) == 1 and (priority_word := priority_words.pop()):
            priorities[row.number] = priority_word

    for inbound_integration in integration.inbound.filter(kind__in=ticket_kinds(integration.kind)):
        kind = load_kinds()[inbound_integration.kind]
        address = next((one.name for one in kind.settings if one.kind is IntegrationSettingType.ADDRESS), "")
        current = inbound_integration.settings
        merged = {
            **current,
            address: current.get(address) or integration.settings.get("base_url", ""),
            "statuses": {**current.get("statuses", {}), **statuses},
            "agents": {**current.get("agents", {}), **agents},
            "priorities": {**priorities, **current.get("priorities", {})},
        }
        known = {setting.name for setting in kind.settings}
        updated = {name: value for name, value in merged.items() if name in known and value not in ({}, "")}
        if updated == current:
            continue
        try:
            with settings_store.exclusive(inbound_integration):
                spec = inbound.integration_spec(inbound_integration) | {"settings": updated}
                inbound.save_integration(spec, existing=inbound_integration, actor=READER, now=now)
        except Rejected:
            # The integration has another problem, which its own view shows.
            continue


def statuses_by_effect(integration: Integration) -> dict[StatusEffect, list[str]]:
    """Returns the names of the connected system's statuses by what each does to an alert, in its order; empty if none
    is connected, its statuses have not been read, or the integration's rules do not compile."""
    names = list(
        LookUp.objects.filter(integration=integration.outbound_id, list_name="status")
        .order_by("pk")
        .values_list("name", flat=True)
    )
    try:
        normalizer = normalizer_of_version(integration, integration.current_version) if names else None
    except Rejected:
        return {}
    if normalizer is None:
        return {}
    by_effect: dict[StatusEffect, list[str]] = {effect: [] for effect in StatusEffect}
    for name in dict.fromkeys(names):
        by_effect[action_of_status(normalizer, name)].append(name)
    return by_effect


def _word(name: str) -> str:
    folded = name.casefold()
    return next((priority_word for text, priority_word in _WORDS.items() if text in folded), "")


def _agent_names(integration: OutboundIntegration, rows: Sequence[LookUp]) -> dict[str, str]:
    users = {user.email.casefold(): user.display_name for user in User.objects.filter(is_active=True) if user.email}
    matches = AgentMatch.objects.filter(integration=integration).select_related("user")
    matched_names = {match.number: match.user.display_name for match in matches}
    agent_names = {
        row.number: matched_names.get(row.number) or users.get(row.data.get("email", "")) or row.name for row in rows
    }
    return dict(list(agent_names.items())[:_MAX_AGENTS])


def numbered(text: object) -> object:
    """An id as JSON has it: a number if it is one."""
    return int(str(text)) if str(text).isdecimal() else text


def numbered_priority(number: object) -> str:
    """A priority of which only the number is known, as the integration's mapping shows it."""
    return f"Priority {number}"
