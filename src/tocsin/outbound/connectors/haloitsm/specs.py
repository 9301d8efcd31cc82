"""An outbound integration with HaloITSM as YAML, the API and forms write it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, Term
from tocsin.core.validation.field_errors import TOO_LONG, UNSTORABLE_CHARACTER
from tocsin.core.validation.spec import InvalidValue, Spec, SpecErrors, is_unstorable
from tocsin.core.validation.spec_types import OneOf, Parsed, Secret, TimeZone, list_of
from tocsin.outbound.connectors.haloitsm.address import clean_address
from tocsin.outbound.connectors.haloitsm.client import id_text
from tocsin.outbound.connectors.interfaces import OutboundSpec
from tocsin.outbound.states import OutboundEvent

#: Halo's standard action for private notes. A role may forbid it, so another one can be configured.
NOTE_ACTION = "Private Note"

#: The events that can create a ticket for an alert from another source.
CREATE_ON = ("opened", "acknowledge", "assign", "escalate", "exhausted")

#: Halo's fair-use limit is 500 requests in 3 minutes.
DEFAULT_RATE = 2

_MAX_TEMPLATE_CHARS = 2000

_INVALID_AGENTS = ReasonType("halo.invalid_agents", "must map each user to the agent's number in Halo.")
_NOT_A_TRIGGER = ReasonType("halo.not_a_trigger", "must be one of {events}.")
_NOT_A_NUMBER = ReasonType("halo.not_a_number", "must be the {field}'s number in Halo: names are not unique.")
_INVALID_NOTE = ReasonType(
    "halo.invalid_note", "must be true, false, or the note's text with values such as <who> and <time>."
)


def _address(text: str) -> str:
    try:
        clean_address(text)
    except Rejected as rejection:
        errors = SpecErrors()
        errors.add_rejection(rejection, "base_url")
        raise InvalidValue(errors) from None
    return text


def _agents(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidValue(_INVALID_AGENTS())
    return {str(user)[:150]: id_text(number)[:20] for user, number in value.items()}


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


_Name = Annotated[str, Field(max_length=100)]
_Note = Annotated[
    bool | str, Parsed(_note, {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": _MAX_TEMPLATE_CHARS}]})
]


class WritebackSpec(Spec):
    """What an event writes to the ticket."""

    note: _Note = Field(default=False, description="Whether it writes the default note, or the text of a note.")
    public: bool = Field(default=False, description="Whether the requester can see the note.")
    agent: bool = Field(default=False, description="Whether the acting user becomes the ticket's agent.")
    status: _Name = Field(default="", description="New status. Default: unchanged.")
    team: _Name = Field(default="", description="New team. Default: unchanged.")
    priority: _Name = Field(default="", description="New priority. Default: unchanged.")

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
    ticket_type: _Name = Field(default="", description="Name of the ticket type.")
    team: _Name = Field(default="", description="Name of the team.")
    priority: _Name = Field(default="", description="Name of the priority.")
    client: _Name = Field(default="", description="Number of the client.")
    site: _Name = Field(default="", description="Number of the site.")
    user: _Name = Field(default="", description="Number of the requester.")
    summary: str = Field(default="", max_length=500, description="Summary. Default: the alert's subject.")
    details: str = Field(default="", max_length=5000, description="Details. Default: the alert's long text.")

    def check(self, errors: SpecErrors) -> None:
        for key in ("client", "site", "user"):
            if (number := getattr(self, key)) and not number.isdecimal():
                errors.add(key, _NOT_A_NUMBER(field=Term(key)))

    def settings(self) -> dict[str, Any]:
        """The settings as stored."""
        values = {key: getattr(self, key) for key in type(self).model_fields} | {"on": list(self.on)}
        return {key: value for key, value in values.items() if value}


class HaloSpec(OutboundSpec):
    """An outbound integration of the kind `haloitsm`."""

    kind: Annotated[str, OneOf(("haloitsm",))] = Field(description="Kind of integration.")
    base_url: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_address)] = Field(
        description="Address of Halo."
    )
    tenant: _Name = Field(default="", description="Tenant. Default: that of the address.")
    client_id: str = Field(min_length=1, max_length=200, description="Client id of the API application.")
    client_secret: Secret = Field(default="", description="Client secret of the API application. Required.")
    scope: str = Field(default="all", max_length=500, description="Scope of the token.")
    application: str = Field(
        default="",
        max_length=200,
        description="Name of the API application in Halo, by which Tocsin recognizes its own notes.",
    )
    note_action: _Name = Field(default=NOTE_ACTION, description="Action by which notes are written.")
    time_zone: TimeZone | None = Field(
        default=None, description="Time zone of Halo's times, and of those in notes. Default: the setting `time_zone`."
    )
    pull: bool = Field(default=False, description="Whether Tocsin polls for new tickets.")
    read_notes: bool = Field(default=True, description="Whether Tocsin reads the notes of agents.")
    reread: bool = Field(default=True, description="Whether Tocsin reads a ticket again before it decides.")
    rate: int = Field(default=DEFAULT_RATE, ge=1, le=50, description="Requests a second, at most.")
    matched_agents: Annotated[
        dict[str, str], Parsed(_agents, {"type": "object", "additionalProperties": {"type": ["string", "integer"]}})
    ] = Field(
        default={},
        alias="agents",
        description="Numbers of agents in Halo by username, for users who are matched manually.",
    )
    sync: SyncSpec | None = Field(
        default=None, description="What is written to the ticket. Default: a note for every event."
    )
    create_ticket: CreateTicketSpec | None = Field(
        default=None, description="Which tickets are created for alerts from other sources. Default: none."
    )

    def settings(self) -> dict[str, Any]:
        base_url, url_tenant = clean_address(self.base_url) if self.base_url else ("", "")
        settings: dict[str, Any] = {
            "base_url": base_url,
            "tenant": self.tenant or url_tenant,
            "client_id": self.client_id,
            "application": self.application,
            "time_zone": self.time_zone,
            "pull": self.pull,
            "create_ticket": self.create_ticket.settings() if self.create_ticket else None,
        }
        settings = {key: value for key, value in settings.items() if value}
        for key in ("scope", "note_action", "read_notes", "reread", "rate"):
            value = getattr(self, key)
            if value != "" and value != type(self).model_fields[key].default:
                settings[key] = value
        return settings if self.sync is None else settings | {"sync": self.sync.settings()}

    def required_secrets(self) -> tuple[str, ...]:
        return ("client_secret",)

    @property
    def agents_by_user(self) -> Mapping[str, str]:
        return self.matched_agents
