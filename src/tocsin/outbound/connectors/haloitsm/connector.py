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

from pydantic import AfterValidator, Field

from tocsin.core.delivery.circuit_breaker import NeedsAttention, RateLimit
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import HttpClient, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term, joined, reason_as_json, reason_from_json
from tocsin.core.reasons import translatable as _
from tocsin.core.validation.spec import (
    InForm,
    InvalidValue,
    OneOf,
    Secret,
    SpecErrors,
    TimeZone,
)
from tocsin.notify.text.formatting import plain
from tocsin.outbound import reasons
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.connectors.haloitsm.client import (
    LISTS,
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
from tocsin.outbound.connectors.tickets import Agents, CreateTicketSpec, Label, ReferenceEntry, SyncSpec

# ---------- specs
# An outbound integration with HaloITSM as YAML, the API and forms write it. Pure.


#: The kind of inbound integrations with Halo tickets; compatible kinds belong to the same family.
KIND = "haloitsm"
#: Its name in sentences.
LABEL = "Halo"

#: Halo's standard action for private notes. A role may forbid it, so another one can be configured.
NOTE_ACTION = "Private Note"

#: The id of "Unassigned" among the agents.
UNASSIGNED_AGENT = "1"

#: Halo's fair-use limit is 500 requests in 3 minutes.
DEFAULT_RATE = 2

_NOT_A_NUMBER = ReasonType("halo.not_a_number", "must be the {field}'s number in Halo: names are not unique.")


def _address(text: str) -> str:
    try:
        clean_address(text)
    except Rejected as rejection:
        errors = SpecErrors()
        errors.add_rejection(rejection, "base_url")
        raise InvalidValue(errors) from None
    return text


class HaloTicketSpec(CreateTicketSpec):
    """Tickets for alerts from other sources."""

    def check(self, errors: SpecErrors) -> None:
        for key in ("client", "site", "user"):
            if (number := getattr(self, key)) and not number.isdecimal():
                errors.add(key, _NOT_A_NUMBER(field=Term(key)))


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
    tenant: Annotated[Label, InForm(_("Tenant"), _("Shared hosting only."))] = Field(
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
        Label,
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
    matched_agents: Agents = Field(
        default={},
        alias="agents",
        description="Numbers of agents in Halo by username, for users who are matched manually.",
    )
    sync: SyncSpec | None = Field(
        default=None, description="What is written to the ticket. Default: a note for every event."
    )
    create_ticket: HaloTicketSpec | None = Field(
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


# ---------- connector


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
            raise Permanent(reasons.NO_TICKET(desk=LABEL), reasons.WRITTEN_WITH_TICKET())
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
            return CallDone(reasons.TICKET_EXISTED(ticket=existing_ticket), ticket=existing_ticket)
    job.progress["tried"] = True
    body: dict[str, object] = {
        "summary": f"{content['summary']} {marker}",
        "details_html": _as_html(str(content.get("details", ""))),
        **_fields(job),
    }
    created = halo.post("Tickets", body, client.CREATE_TICKET())
    ticket_id = id_text(created.get("id")) if isinstance(created, dict) else ""
    if not ticket_id:
        raise OutcomeUnknown(client.NO_TICKET_NUMBER())
    return CallDone(reasons.TICKET_CREATED(ticket=ticket_id), ticket=ticket_id)


def _fields(job: CallJob) -> dict[str, object]:
    """The fields of a new ticket. Client, site and user are ids, because their names are not unique in Halo."""
    fields: dict[str, object] = {}
    for name, field in (("ticket_type", "tickettype_id"), ("priority", "priority_id")):
        if entry := job.prepared.get(name):
            fields[field] = int(entry["number"])
    if team := job.prepared.get("team"):
        fields["team"] = team["name"]
    for key in ("client", "site", "user"):
        if str(job.content.get(key, "")).isdecimal():
            fields[f"{key}_id"] = int(job.content[key])
    return fields


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
        return CallDone(joined(*results) or reasons.NOTHING_WRITTEN())

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
            return reasons.NOTE_EXISTED()
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
        return reasons.PUBLIC_NOTE_WRITTEN() if is_public else reasons.PRIVATE_NOTE_WRITTEN()

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
            body |= {"agent_id": int(agent["number"] or UNASSIGNED_AGENT), "_forcereassign": True}
            name = agent["name"]
            results.append(reasons.AGENT_ASSIGNED(agent=name) if name else reasons.AGENT_UNASSIGNED())
        if team := prepared.get("team"):
            body["team"] = team["name"]
            results.append(reasons.TEAM_SET(team=team["name"]))
        if priority := prepared.get("priority"):
            body["priority_id"] = int(priority["number"])
            results.append(reasons.PRIORITY_SET(priority=priority["name"]))
        if not body:
            return NO_REASON
        self._post_ticket(body, client.UPDATE_TICKET())
        return joined(*results)

    def _write_status(self) -> Reason:
        status = self.job.prepared.get("status")
        if not status:
            return NO_REASON
        result = reasons.STATUS_SET(status=status["name"])
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


def read_lists(halo: HaloSession) -> tuple[dict[str, list[ReferenceEntry]], dict[str, Reason]]:
    """Returns every readable list, and by name the error for the others. Raises if none can be read."""
    lists: dict[str, list[ReferenceEntry]] = {}
    problems: dict[str, Reason] = {}
    for list_name in LISTS:
        try:
            rows = halo.list_entries(list_name)
        except Permanent as error:
            if isinstance(error, NeedsAttention):
                raise
            problems[list_name] = error.full_reason
        else:
            lists[list_name] = [entry for row in rows if (entry := _entry(list_name, row)) is not None]
    return lists, problems


def _entry(list_name: str, row: Mapping[str, Any]) -> ReferenceEntry | None:
    number = id_text(row.get("priorityid") if list_name == "priority" else row.get("id"))
    name = str(row.get("name") or row.get("outcome") or row.get("buttonname") or "").strip()
    if not number or not name:
        return None
    data: dict[str, Any] = {}
    if list_name == "agent":
        email = str(row.get("email") or row.get("emailaddress") or row.get("smtp_address") or "").strip().casefold()
        data = {"email": email, **({"inactive": True} if row.get("isdisabled") or row.get("inactive") else {})}
        if isinstance(row.get("teams"), list):
            names = [str(t.get("name") or t.get("team_name") or "") for t in row["teams"] if isinstance(t, Mapping)]
            data["teams"] = [team for team in names if team]
    elif list_name == "priority":
        data = {"sla": id_text(row.get("slaid"))}
    return ReferenceEntry(list_name, number, name[:200], data)


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
    label=LABEL,
    ticket_url="<address>/ticket?id=<ticket>",
    list_names=tuple(LISTS),
)
