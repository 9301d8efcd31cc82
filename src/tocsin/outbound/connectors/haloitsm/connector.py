"""The HaloITSM connector: its settings, and a sender that writes notes, agents and statuses and creates tickets.

Every completed step is recorded, so that a retry does only the remaining ones.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import HttpClient, OutcomeUnknown
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.notify.text.html_sanitizer import plain
from tocsin.outbound.connectors.haloitsm import writeback_settings
from tocsin.outbound.connectors.haloitsm.address import clean_address
from tocsin.outbound.connectors.haloitsm.client import HaloClient, rows_of, whole
from tocsin.outbound.connectors.haloitsm.errors import AgentRequired, NoteRejected, TicketNotFound
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, ConnectorKind, IntegrationAccount, RecordedClient
from tocsin.outbound.rate_limit import RequestRate

#: Halo's fair-use limit is 500 requests in 3 minutes.
_PER_SECOND, _BURST = 2, 20

#: Halo's standard action for private notes. A role may forbid it, so another one can be configured.
NOTE_ACTION = "Private Note"

#: The events that can create a ticket for an alert from another source.
CREATE_ON = ("opened", "acknowledge", "assign", "escalate", "exhausted")


@dataclass(slots=True)
class HaloSender:
    """The sender of one Halo account."""

    account: IntegrationAccount
    client: HaloClient
    rate: RequestRate

    def send(self, job: CallJob, line: RecordedClient, now: datetime) -> CallDone:
        """Executes the job: `write` to a ticket, or `create` one."""
        if wait := job.known.get("wait"):
            raise Temporary(wait)
        if job.action == "create":
            if problem := job.known.get("problem"):
                raise Permanent(problem)
            return self._create(job, line, now)
        ticket = str(job.known.get("ticket") or job.ticket)
        if not ticket:
            raise Permanent(
                "There is no ticket in Halo for this alert: making it failed.", "It is written once the ticket is made."
            )
        return _TicketWrite(self.client, job, line, now, ticket).carry_out()

    def verify(self, line: RecordedClient, now: datetime) -> str:
        """Signs in again and reads everything that Tocsin needs to read."""
        self.client.forget_token()
        me = self.client.me(line, now)
        rows = self.client.items(line, "status", now)
        found = self.client.get(
            line, "Tickets", now, "read tickets", query={"pageinate": True, "page_no": 1, "page_size": 1}
        )
        count = found.get("record_count", len(rows_of(found))) if isinstance(found, dict) else len(rows_of(found))
        name = me.get("name") or "an agent without a name"
        return f"Signed in to {self.client.base} as {name}; {count} tickets and {len(rows)} statuses can be read."

    def _create(self, job: CallJob, line: RecordedClient, now: datetime) -> CallDone:
        """Creates a ticket. A retry, and only a retry, first checks whether an earlier attempt created it."""
        content = job.content
        mark = writeback_settings.marker(int(job.alert_id or 0))
        if job.is_uncertain or job.progress.get("tried") or content.get("looks_first"):
            found = self._marked(line, now, mark)
            if found:
                return CallDone(f"Ticket {found} is there from an earlier try.", ticket=found)
        job.progress["tried"] = True
        body: dict[str, object] = {
            "summary": f"{content['summary']} {mark}",
            "details_html": "<p>" + html.escape(str(content.get("details", ""))).replace("\n", "<br>") + "</p>",
            **job.known.get("fields", {}),
        }
        made = self.client.post(line, "Tickets", body, now, "make a ticket")
        number = whole(made.get("id")) if isinstance(made, dict) else ""
        if not number:
            raise OutcomeUnknown("Halo did not say the number of the ticket that it made.")
        return CallDone(f"Made ticket {number}.", ticket=number)

    def _marked(self, line: RecordedClient, now: datetime, mark: str) -> str:
        """The ticket with the marker in its subject, or "".

        Halo ignores unknown filters, so the results are checked again.
        """
        for query in ({"search": mark}, {}):
            newest_first = {"order": "id", "orderdesc": True, **query}
            for page, (rows, _at) in enumerate(self.client.pages(line, now, newest_first)):
                found = next((whole(row.get("id")) for row in rows if mark in str(row.get("summary", ""))), "")
                if found:
                    return found
                if page >= 3:
                    break
        return ""


@dataclass(slots=True)
class _TicketWrite:
    """One `write` to one ticket, step by step."""

    client: HaloClient
    job: CallJob
    line: RecordedClient
    now: datetime
    ticket: str

    def carry_out(self) -> CallDone:
        """Writes the note first, then agent, team and priority, and the status last, because it may close the ticket.

        A rejected note does not prevent the other steps, and an unknown status does not prevent the note.
        """
        done: list[str] = []
        refused: NoteRejected | None = None
        known = self.job.known
        try:
            done += self._step("note", self._note)
        except NoteRejected as error:
            refused = error
        if problem := known.get("problem"):
            raise Permanent(str(problem) if refused is None else f"{problem} {refused}")
        done += self._step("fields", self._fields)
        done += self._step("status", self._status)
        if refused is not None:
            raise refused
        if remark := known.get("remark"):
            done.append(str(remark))
        return CallDone(_in_one(done) or "There was nothing to write.")

    def _step(self, name: str, work: Any) -> list[str]:
        if self.job.progress.get(name):
            return [str(self.job.progress[name])]
        said = work()
        if said:
            self.job.progress[name] = said
            return [said]
        return []

    def _note(self) -> str:
        note = str(self.job.content.get("note") or "")
        if not note:
            return ""
        if self.job.is_uncertain and self._is_there(note):
            return "The note was there from an earlier try."
        is_public = bool(self.job.content.get("public"))
        body = {
            "ticket_id": int(self.ticket),
            **_outcome(self.job.known.get("note_action") or NOTE_ACTION),
            "note_html": "<p>" + html.escape(note).replace("\n", "<br>") + "</p>",
            "hiddenfromuser": not is_public,
            "sendemail": is_public,
            "dont_do_rules": True,
        }
        self.client.post(self.line, "Actions", body, self.now, "write a note", self.ticket)
        return "Wrote a public note." if is_public else "Wrote a private note."

    def _is_there(self, note: str) -> bool:
        """Whether an earlier attempt wrote the note: the ticket has one more note with this text than other calls
        wrote."""
        wanted = " ".join(note.split())
        actions = self.client.actions(self.line, self.ticket, self.now)
        found = sum(wanted == " ".join(text_of_note(row).split()) for row in actions)
        return found > int(self.job.known.get("same_before", 0))

    def _fields(self) -> str:
        known = self.job.known
        body: dict[str, object] = {}
        said = []
        if agent := known.get("agent"):
            body |= {"agent_id": int(agent["number"]), "_forcereassign": True}
            said.append(f"Gave it to {agent['name']}.")
        if team := known.get("team"):
            body["team"] = team
            said.append(f"Set its team to {team}.")
        if priority := known.get("priority"):
            body["priority_id"] = int(priority["number"])
            said.append(f"Set its priority to {priority['name']}.")
        if not body:
            return ""
        self._post_ticket(body, "change the ticket")
        return _in_one(said)

    def _status(self) -> str:
        status = self.job.known.get("status")
        if not status:
            return ""
        body: dict[str, object] = {"status_id": int(status["number"])}
        try:
            self._post_ticket(body, "change the status")
        except AgentRequired:
            name = self._assign_somebody()
            self._post_ticket(body, "change the status")
            given = f"Gave it to {name}, because Halo closes no ticket without an agent"
            return f"{given}, and set its status to {status['name']}."
        except (TicketNotFound, Temporary):
            raise
        except Permanent:
            # Some installations require the ticket's own type and client along with a status.
            whole_ticket, _at = self.client.ticket(self.line, self.ticket, self.now)
            own = {key: whole_ticket[key] for key in ("tickettype_id", "client_id") if whole_ticket.get(key)}
            if not own:
                raise
            self._post_ticket({**body, **own}, "change the status")
        return f"Set its status to {status['name']}."

    def _assign_somebody(self) -> str:
        """Assigns the ticket to the acting user's agent, or else to Tocsin's own agent. Returns the agent's name."""
        stand_in = self.job.known.get("stand_in")
        if not stand_in:
            me = self.client.me(self.line, self.now)
            stand_in = {"number": whole(me.get("id")), "name": me.get("name") or "Tocsin's agent"}
        if not str(stand_in["number"]).isdecimal():
            raise AgentRequired("Halo closes no ticket that has no agent, and does not say who Tocsin's agent is.")
        self._post_ticket({"agent_id": int(stand_in["number"]), "_forcereassign": True}, "assign the ticket")
        return str(stand_in["name"])

    def _post_ticket(self, body: Mapping[str, object], doing: str) -> None:
        self.client.post(self.line, "Tickets", {"id": int(self.ticket), **body}, self.now, doing, self.ticket)


def _in_one(said: Sequence[str]) -> str:
    """Joins sentences into one: "Wrote a private note; gave it to Alice." """
    first, *rest = [one.removesuffix(".") for one in said if one] or [""]
    lower = (one if one.startswith("Halo") else one[:1].lower() + one[1:] for one in rest)
    return f"{'; '.join([first, *lower])}." if first else ""


def text_of_note(action: Mapping[str, Any]) -> str:
    """The text of an action's note, without markup."""
    text = action.get("note")
    if not text and action.get("note_html"):
        return plain(str(action["note_html"]))
    return html.unescape(str(text or ""))


def _outcome(action: str) -> dict[str, object]:
    """An action by its id or its name."""
    return {"outcome_id": int(action)} if action.isdecimal() else {"outcome": action}


def _read(spec: ObjectReader) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tenant = spec.text("tenant", longest=100)
    address = spec.text("base_url", required=True, longest=500)
    if address:
        try:
            found["base_url"], named = clean_address(address)
            tenant = tenant or named
        except Rejected as problem:
            spec.note(problem)
    found["tenant"] = tenant
    found["client_id"] = spec.text("client_id", required=True, longest=200)
    found["scope"] = spec.text("scope", "all", longest=500)
    found["application"] = spec.text("application", longest=200)
    found["note_action"] = spec.text("note_action", NOTE_ACTION, longest=100)
    if spec.has("time_zone"):
        found["time_zone"] = spec.zone()
    found["pull"] = spec.flag("pull", False)
    found["read_notes"] = spec.flag("read_notes", True)
    found["reread"] = spec.flag("reread", True)
    found["rate"] = spec.whole("rate", _PER_SECOND, least=1, most=50)
    agents = spec.raw("agents", {})
    if not isinstance(agents, Mapping):
        spec.refuse("agents", "names for each user the agent in Halo, by number.")
    else:
        found["agents"] = {str(user)[:150]: whole(number)[:20] for user, number in agents.items()}
    if spec.has("sync"):
        found["sync"] = writeback_settings.read_sync(spec)
    if (create := spec.spec("create_ticket")) is not None:
        found["create_ticket"] = _read_create(create)
    kept = {"sync"}
    defaults = {"scope": "all", "note_action": NOTE_ACTION, "read_notes": True, "reread": True, "rate": _PER_SECOND}
    return {
        name: value
        for name, value in found.items()
        if name in kept or (value not in ("", {}, [], None, False) and value != defaults.get(name))
        or (value is False and name in defaults)
    }  # fmt: skip


def _read_create(create: ObjectReader) -> dict[str, Any]:
    found: dict[str, Any] = {}
    on = create.texts("on")
    for number, event in enumerate(on):
        if event not in CREATE_ON:
            create.refuse(f"on[{number}]", f"must be one of {', '.join(CREATE_ON)}.")
    found["on"] = list(on)
    for key in ("ticket_type", "team", "priority", "client", "site", "user"):
        found[key] = create.text(key, longest=100)
    for key in ("client", "site", "user"):
        if found[key] and not found[key].isdecimal():
            create.refuse(key, f"give the {key}'s number in Halo: names there are not unique.")
    found["summary"] = create.text("summary", longest=500)
    found["details"] = create.text("details", longest=5000)
    create.done()
    return {name: value for name, value in found.items() if value not in ("", [])}


def _open(account: IntegrationAccount, client: HttpClient) -> HaloSender:
    return HaloSender(account, HaloClient(account), RequestRate(account.settings.get("rate", _PER_SECOND), _BURST))


HALOITSM = ConnectorKind(
    name="haloitsm",
    title="HaloITSM",
    description="Writes what people do to the ticket, and reads what agents do in Halo.",
    open=_open,
    read=_read,
    secrets=("client_secret",),
    needed=lambda settings: ("client_secret",),
)
