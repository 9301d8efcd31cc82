"""The HaloITSM connector: its settings, and a sender that writes notes, agents and statuses and creates tickets.

Every completed step is recorded, so that a retry does only the remaining ones.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from tocsin.core.delivery.circuit_breaker import RateLimit
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import HttpClient, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term, joined, reason_as_json, reason_from_json
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import TOO_LONG, UNSTORABLE_CHARACTER
from tocsin.core.validation.spec import (
    InForm,
    InvalidValue,
    OneOf,
    Parsed,
    Secret,
    Spec,
    SpecErrors,
    TimeZone,
    is_unstorable,
    list_of,
)
from tocsin.notify.providers.pool import CHANNELS
from tocsin.notify.text.formatting import plain
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.connectors.haloitsm.client import (
    AgentRequired,
    HaloClient,
    HaloSession,
    NoteRejected,
    TicketNotFound,
    clean_address,
    extract_rows,
    id_text,
)
from tocsin.outbound.connectors.interfaces import (
    CallDone,
    CallJob,
    ConnectorKind,
    IntegrationAccount,
    OutboundSpec,
    RecordedClient,
)
from tocsin.outbound.states import OutboundEvent

# ---------- writeback settings
# The write-back settings of each alert event for Halo tickets, default note texts, and rendered notes. Pure.


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
# An outbound integration with HaloITSM as YAML, the API and forms write it. Pure.


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
    base_url: Annotated[
        str,
        Field(min_length=1, max_length=500),
        AfterValidator(_address),
        InForm(_("Halo URL"), _("Any URL of your Halo, such as https://acme.haloitsm.com/tickets."), widget="url"),
    ] = Field(description="Address of Halo.")
    client_id: Annotated[str, InForm(_("Client ID"))] = Field(
        min_length=1, max_length=200, description="Client id of the API application."
    )
    client_secret: Annotated[
        Secret,
        InForm(
            _("Client secret"),
            _("Halo shows it only once, when you create the application."),
            is_required=True,
        ),
    ] = Field(default="", description="Client secret of the API application. Required.")
    tenant: Annotated[_Name, InForm(_("Tenant"), _("Shared hosting only."))] = Field(
        default="", description="Tenant. Default: that of the address."
    )
    application: Annotated[
        str, InForm(_("Application name in Halo"), _("Lets Tocsin recognize and ignore its own notes."))
    ] = Field(
        default="",
        max_length=200,
        description="Name of the API application in Halo, by which Tocsin recognizes its own notes.",
    )
    note_action: Annotated[
        _Name,
        InForm(
            _("Note action"),
            _("Name or number of the action in Halo. Some roles may not use the default action."),
        ),
    ] = Field(default=NOTE_ACTION, description="Action by which notes are written.")
    scope: Annotated[str, InForm(_("Scope"), _("Separate multiple scopes with spaces."))] = Field(
        default="all", max_length=500, description="Scope of the token."
    )
    time_zone: Annotated[
        TimeZone | None, InForm(_("Time zone for notes"), widget="zone", empty=_("Installation default"))
    ] = Field(
        default=None, description="Time zone of Halo's times, and of those in notes. Default: the setting `time_zone`."
    )
    read_notes: Annotated[bool, InForm(_("Add agents' notes to the alert"))] = Field(
        default=True, description="Whether Tocsin reads the notes of agents."
    )
    reread: Annotated[bool, InForm(_("Query Halo if a message lacks status or agent"))] = Field(
        default=True, description="Whether Tocsin reads a ticket again before it decides."
    )
    pull: Annotated[
        bool,
        InForm(
            _("Pull mode: poll tickets every 30 seconds instead of using a webhook"),
            _("For installations that Halo's cloud can't reach."),
        ),
    ] = Field(default=False, description="Whether Tocsin polls for new tickets.")
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


_BURST = 20
#: Of the newest tickets.
_MAX_SEARCHED_PAGES = 4


@dataclass(slots=True)
class HaloSender:
    """The sender of one Halo account."""

    account: IntegrationAccount
    client: HaloClient
    rate: RateLimit

    def send(self, job: CallJob, http_client: RecordedClient, now: datetime) -> CallDone:
        """Executes the job: `write` to a ticket, or `create` one."""
        if wait_reason := job.prepared.get("wait"):
            raise Temporary(wait_reason)
        halo = self.client.session(http_client, now)
        if job.action == "create":
            if problem := job.prepared.get("problem"):
                raise Permanent(problem)
            return _create_ticket(halo, job)
        ticket = str(job.prepared.get("ticket") or job.ticket)
        if not ticket:
            raise Permanent(client.NO_TICKET(), client.WRITTEN_WITH_TICKET())
        return _TicketWrite(halo, job, ticket).execute()

    def verify(self, http_client: RecordedClient, now: datetime) -> Reason:
        """Signs in again and reads everything that Tocsin needs to read."""
        self.client.forget_token()
        halo = self.client.session(http_client, now)
        agent, statuses = halo.current_agent(), halo.list_entries("status")
        payload = halo.get("Tickets", client.READ_TICKETS(), query=client.ONE_ROW)
        count = len(extract_rows(payload))
        if isinstance(payload, dict):
            count = int(payload.get("record_count", count))
        name = client.agent_name(agent)
        return client.SIGNED_IN(address=self.client.base, agent=name, count=count, statuses=len(statuses))


def _create_ticket(halo: HaloSession, job: CallJob) -> CallDone:
    """Creates a ticket. A retry, and only a retry, first checks whether an earlier attempt created it."""
    content = job.content
    # By the marker in its subject the ticket is found again.
    marker = f"(Tocsin #{int(job.alert_id or 0)})"
    if job.is_uncertain or job.progress.get("tried") or content.get("looks_first"):
        existing_ticket = _find_marked_ticket(halo, marker)
        if existing_ticket:
            return CallDone(client.TICKET_EXISTED(ticket=existing_ticket), ticket=existing_ticket)
    job.progress["tried"] = True
    body: dict[str, object] = {
        "summary": f"{content['summary']} {marker}",
        "details_html": _as_html(str(content.get("details", ""))),
        **job.prepared.get("fields", {}),
    }
    created = halo.post("Tickets", body, client.CREATE_TICKET())
    ticket_id = id_text(created.get("id")) if isinstance(created, dict) else ""
    if not ticket_id:
        raise OutcomeUnknown(client.NO_TICKET_NUMBER())
    return CallDone(client.TICKET_CREATED(ticket=ticket_id), ticket=ticket_id)


def _find_marked_ticket(halo: HaloSession, marker: str) -> str:
    """The ticket with the marker, or "". Halo ignores unknown filters, so the results are checked again."""
    for query in ({"search": marker}, {}):
        newest_query = {"order": "id", "orderdesc": True, **query}
        for rows, _at in islice(halo.iter_ticket_pages(newest_query), _MAX_SEARCHED_PAGES):
            for row in rows:
                if marker in str(row.get("summary", "")) and (ticket_id := id_text(row.get("id"))):
                    return ticket_id
    return ""


def _as_html(text: str) -> str:
    return "<p>" + html.escape(text).replace("\n", "<br>") + "</p>"


@dataclass(slots=True)
class _TicketWrite:
    """One `write` to one ticket, step by step."""

    halo: HaloSession
    job: CallJob
    ticket: str

    def execute(self) -> CallDone:
        """Writes the note first, then agent, team and priority, and the status last, because it may close the ticket.

        A rejected note does not prevent the other steps, and an unknown status does not prevent the note.
        """
        results: list[Reason] = []
        note_rejection: NoteRejected | None = None
        prepared = self.job.prepared
        try:
            results += self._run_step("note", self._write_note)
        except NoteRejected as error:
            note_rejection = error
        if problem := prepared.get("problem"):
            raise Permanent(problem, NO_REASON if note_rejection is None else note_rejection.full_reason)
        results += self._run_step("fields", self._write_fields)
        results += self._run_step("status", self._write_status)
        if note_rejection is not None:
            raise note_rejection
        if remark := prepared.get("remark"):
            results.append(remark)
        return CallDone(joined(*results) or client.NOTHING_WRITTEN())

    def _run_step(self, name: str, write: Callable[[], Reason]) -> list[Reason]:
        if self.job.progress.get(name):
            return [reason_from_json(self.job.progress[name])]
        result = write()
        if result:
            self.job.progress[name] = reason_as_json(result)
            return [result]
        return []

    def _write_note(self) -> Reason:
        note = str(self.job.content.get("note") or "")
        if not note:
            return NO_REASON
        if self.job.is_uncertain and self._note_exists(note):
            return client.NOTE_EXISTED()
        is_public = bool(self.job.content.get("public"))
        body = {
            "ticket_id": int(self.ticket),
            **_outcome(self.job.prepared.get("note_action") or NOTE_ACTION),
            "note_html": _as_html(note),
            "hiddenfromuser": not is_public,
            "sendemail": is_public,
            "dont_do_rules": True,
        }
        self.halo.post("Actions", body, client.WRITE_NOTE(), self.ticket)
        return client.PUBLIC_NOTE_WRITTEN() if is_public else client.PRIVATE_NOTE_WRITTEN()

    def _note_exists(self, note: str) -> bool:
        """Whether an earlier attempt wrote the note: the ticket has one more note with this text than other calls
        wrote."""
        expected_text = " ".join(note.split())
        actions = self.halo.list_actions(self.ticket)
        matching_notes = sum(expected_text == " ".join(text_of_note(row).split()) for row in actions)
        return matching_notes > int(self.job.prepared.get("same_notes", 0))

    def _write_fields(self) -> Reason:
        prepared = self.job.prepared
        body: dict[str, object] = {}
        results = []
        if agent := prepared.get("agent"):
            body |= {"agent_id": int(agent["number"]), "_forcereassign": True}
            name = agent["name"]
            results.append(client.AGENT_ASSIGNED(agent=name) if name else client.AGENT_UNASSIGNED())
        if team := prepared.get("team"):
            body["team"] = team
            results.append(client.TEAM_SET(team=team))
        if priority := prepared.get("priority"):
            body["priority_id"] = int(priority["number"])
            results.append(client.PRIORITY_SET(priority=priority["name"]))
        if not body:
            return NO_REASON
        self._post_ticket(body, client.UPDATE_TICKET())
        return joined(*results)

    def _write_status(self) -> Reason:
        status = self.job.prepared.get("status")
        if not status:
            return NO_REASON
        result = client.STATUS_SET(status=status["name"])
        body: dict[str, object] = {"status_id": int(status["number"])}
        try:
            self._post_ticket(body, client.CHANGE_STATUS())
        except AgentRequired:
            name = self._assign_any_agent()
            self._post_ticket(body, client.CHANGE_STATUS())
            return joined(client.AGENT_ASSIGNED_TO_CLOSE(agent=name), result)
        except (TicketNotFound, Temporary):
            raise
        except Permanent:
            # Some installations require the ticket's own type and client along with a status.
            ticket, _at = self.halo.get_ticket(self.ticket)
            required_fields = {key: ticket[key] for key in ("tickettype_id", "client_id") if ticket.get(key)}
            if not required_fields:
                raise
            self._post_ticket({**body, **required_fields}, client.CHANGE_STATUS())
        return result

    def _assign_any_agent(self) -> str:
        """Assigns the ticket to the acting user's agent, or else to Tocsin's own agent. Returns the agent's name."""
        fallback_agent = self.job.prepared.get("fallback_agent")
        if not fallback_agent:
            agent = self.halo.current_agent()
            fallback_agent = {"number": id_text(agent.get("id")), "name": agent.get("name") or "Tocsin's agent"}
        if not str(fallback_agent["number"]).isdecimal():
            raise AgentRequired(client.OWN_AGENT_UNKNOWN())
        self._post_ticket({"agent_id": int(fallback_agent["number"]), "_forcereassign": True}, client.ASSIGN_TICKET())
        return str(fallback_agent["name"])

    def _post_ticket(self, body: Mapping[str, object], operation: Reason) -> None:
        self.halo.post("Tickets", {"id": int(self.ticket), **body}, operation, self.ticket)


def text_of_note(action: Mapping[str, Any]) -> str:
    """The text of an action's note, without markup."""
    text = action.get("note")
    if not text and action.get("note_html"):
        return plain(str(action["note_html"]))
    return html.unescape(str(text or ""))


def _outcome(action: str) -> dict[str, object]:
    """An action by its id or its name."""
    return {"outcome_id": int(action)} if action.isdecimal() else {"outcome": action}


def _open(account: IntegrationAccount, client: HttpClient) -> HaloSender:
    return HaloSender(
        account, HaloClient(account), RateLimit.per_second(account.settings.get("rate", DEFAULT_RATE), _BURST)
    )


HALOITSM = ConnectorKind(
    name="haloitsm",
    title="HaloITSM",
    description="Writes what people do to the ticket, and reads what agents do in Halo.",
    open_sender=_open,
    spec=HaloSpec,
    secret_names=("client_secret",),
)
