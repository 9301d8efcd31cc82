"""The HaloITSM connector: its settings, and a sender that writes notes, agents and statuses and creates tickets.

Every completed step is recorded, so that a retry does only the remaining ones.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.delivery.rate_limit import RateLimit
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import HttpClient, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, joined, reason_as_json, reason_from_json
from tocsin.notify.text.html_sanitizer import plain
from tocsin.outbound.connectors.haloitsm import reasons, writeback_settings
from tocsin.outbound.connectors.haloitsm.client import HaloClient, extract_rows, id_text
from tocsin.outbound.connectors.haloitsm.errors import AgentRequired, NoteRejected, TicketNotFound
from tocsin.outbound.connectors.haloitsm.specs import DEFAULT_RATE, NOTE_ACTION, HaloSpec
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, ConnectorKind, IntegrationAccount, RecordedClient

_BURST = 20


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
        if job.action == "create":
            if problem := job.prepared.get("problem"):
                raise Permanent(problem)
            return self._create_ticket(job, http_client, now)
        ticket = str(job.prepared.get("ticket") or job.ticket)
        if not ticket:
            raise Permanent(reasons.NO_TICKET(), reasons.WRITTEN_WITH_TICKET())
        return _TicketWrite(self.client, job, http_client, now, ticket).execute()

    def verify(self, http_client: RecordedClient, now: datetime) -> Reason:
        """Signs in again and reads everything that Tocsin needs to read."""
        self.client.forget_token()
        agent = self.client.current_agent(http_client, now)
        rows = self.client.list_entries(http_client, "status", now)
        payload = self.client.get(
            http_client, "Tickets", now, reasons.READ_TICKETS(), query={"pageinate": True, "page_no": 1, "page_size": 1}
        )
        count = (
            payload.get("record_count", len(extract_rows(payload)))
            if isinstance(payload, dict)
            else len(extract_rows(payload))
        )
        return reasons.SIGNED_IN(
            address=self.client.base,
            agent=str(agent["name"]) if agent.get("name") else reasons.UNNAMED_AGENT(),
            count=int(count),
            statuses=len(rows),
        )

    def _create_ticket(self, job: CallJob, http_client: RecordedClient, now: datetime) -> CallDone:
        """Creates a ticket. A retry, and only a retry, first checks whether an earlier attempt created it."""
        content = job.content
        marker = writeback_settings.marker(int(job.alert_id or 0))
        if job.is_uncertain or job.progress.get("tried") or content.get("looks_first"):
            existing_ticket = self._find_marked_ticket(http_client, now, marker)
            if existing_ticket:
                return CallDone(reasons.TICKET_EXISTED(ticket=existing_ticket), ticket=existing_ticket)
        job.progress["tried"] = True
        body: dict[str, object] = {
            "summary": f"{content['summary']} {marker}",
            "details_html": "<p>" + html.escape(str(content.get("details", ""))).replace("\n", "<br>") + "</p>",
            **job.prepared.get("fields", {}),
        }
        created = self.client.post(http_client, "Tickets", body, now, reasons.CREATE_TICKET())
        ticket_id = id_text(created.get("id")) if isinstance(created, dict) else ""
        if not ticket_id:
            raise OutcomeUnknown(reasons.NO_TICKET_NUMBER())
        return CallDone(reasons.TICKET_CREATED(ticket=ticket_id), ticket=ticket_id)

    def _find_marked_ticket(self, http_client: RecordedClient, now: datetime, marker: str) -> str:
        """The ticket with the marker in its subject, or "".

        Halo ignores unknown filters, so the results are checked again.
        """
        for query in ({"search": marker}, {}):
            newest_query = {"order": "id", "orderdesc": True, **query}
            for page_index, (rows, _at) in enumerate(self.client.iter_ticket_pages(http_client, now, newest_query)):
                ticket_id = next((id_text(row.get("id")) for row in rows if marker in str(row.get("summary", ""))), "")
                if ticket_id:
                    return ticket_id
                if page_index >= 3:
                    break
        return ""


@dataclass(slots=True)
class _TicketWrite:
    """One `write` to one ticket, step by step."""

    client: HaloClient
    job: CallJob
    http_client: RecordedClient
    now: datetime
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
            "note_html": "<p>" + html.escape(note).replace("\n", "<br>") + "</p>",
            "hiddenfromuser": not is_public,
            "sendemail": is_public,
            "dont_do_rules": True,
        }
        self.client.post(self.http_client, "Actions", body, self.now, reasons.WRITE_NOTE(), self.ticket)
        return reasons.PUBLIC_NOTE_WRITTEN() if is_public else reasons.PRIVATE_NOTE_WRITTEN()

    def _note_exists(self, note: str) -> bool:
        """Whether an earlier attempt wrote the note: the ticket has one more note with this text than other calls
        wrote."""
        expected_text = " ".join(note.split())
        actions = self.client.list_actions(self.http_client, self.ticket, self.now)
        matching_notes = sum(expected_text == " ".join(text_of_note(row).split()) for row in actions)
        return matching_notes > int(self.job.prepared.get("same_notes", 0))

    def _write_fields(self) -> Reason:
        prepared = self.job.prepared
        body: dict[str, object] = {}
        results = []
        if agent := prepared.get("agent"):
            body |= {"agent_id": int(agent["number"]), "_forcereassign": True}
            name = agent["name"]
            results.append(reasons.AGENT_ASSIGNED(agent=name) if name else reasons.AGENT_UNASSIGNED())
        if team := prepared.get("team"):
            body["team"] = team
            results.append(reasons.TEAM_SET(team=team))
        if priority := prepared.get("priority"):
            body["priority_id"] = int(priority["number"])
            results.append(reasons.PRIORITY_SET(priority=priority["name"]))
        if not body:
            return NO_REASON
        self._post_ticket(body, reasons.UPDATE_TICKET())
        return joined(*results)

    def _write_status(self) -> Reason:
        status = self.job.prepared.get("status")
        if not status:
            return NO_REASON
        result = reasons.STATUS_SET(status=status["name"])
        body: dict[str, object] = {"status_id": int(status["number"])}
        try:
            self._post_ticket(body, reasons.CHANGE_STATUS())
        except AgentRequired:
            name = self._assign_any_agent()
            self._post_ticket(body, reasons.CHANGE_STATUS())
            return joined(reasons.AGENT_ASSIGNED_TO_CLOSE(agent=name), result)
        except (TicketNotFound, Temporary):
            raise
        except Permanent:
            # Some installations require the ticket's own type and client along with a status.
            ticket, _at = self.client.get_ticket(self.http_client, self.ticket, self.now)
            required_fields = {key: ticket[key] for key in ("tickettype_id", "client_id") if ticket.get(key)}
            if not required_fields:
                raise
            self._post_ticket({**body, **required_fields}, reasons.CHANGE_STATUS())
        return result

    def _assign_any_agent(self) -> str:
        """Assigns the ticket to the acting user's agent, or else to Tocsin's own agent. Returns the agent's name."""
        fallback_agent = self.job.prepared.get("fallback_agent")
        if not fallback_agent:
            agent = self.client.current_agent(self.http_client, self.now)
            fallback_agent = {"number": id_text(agent.get("id")), "name": agent.get("name") or "Tocsin's agent"}
        if not str(fallback_agent["number"]).isdecimal():
            raise AgentRequired(reasons.OWN_AGENT_UNKNOWN())
        self._post_ticket({"agent_id": int(fallback_agent["number"]), "_forcereassign": True}, reasons.ASSIGN_TICKET())
        return str(fallback_agent["name"])

    def _post_ticket(self, body: Mapping[str, object], operation: Reason) -> None:
        self.client.post(
            self.http_client, "Tickets", {"id": int(self.ticket), **body}, self.now, operation, self.ticket
        )


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
