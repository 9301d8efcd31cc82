"""The fake Halo's state and rules: tickets, actions, lists, webhooks. Thread-safe by one lock, which the server holds
during each request."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

UNASSIGNED = 1
#: The agent as whom the API application acts.
API_AGENT = 20
#: The service desk agent who uses the web page.
DESK_AGENT = 5

_UNSET = "1900-01-01T00:00:00"

#: Event numbers from Halo's own list.
EVENTS: Mapping[str, int] = {
    "new ticket logged": 3,
    "ticket updated by user": 19,
    "ticket closed": 39,
    "ticket status changed": 76,
    "ticket reassigned": 77,
    "action added": 1004,
    "ticket deleted": 1072,
}


class FakeHaloError(Exception):
    """Halo rejects a request, with the status and body that it would send."""

    def __init__(self, status: int, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class FakeHaloEvent:
    """One event for webhooks."""

    event: str
    ticket: int
    by: int
    at: datetime


def _lists() -> dict[str, list[dict[str, Any]]]:
    statuses = {
        1: "New",
        2: "In Progress",
        3: "Action Required",
        4: "With User",
        5: "Updated",
        8: "Resolved",
        9: "Closed",
    }
    return {
        "Status": [{"id": number, "name": name, "type": 0} for number, name in statuses.items()],
        "Team": [{"id": 1, "name": "1st Line Support"}, {"id": 2, "name": "2nd Line Support"}],
        "Agent": [
            {"id": UNASSIGNED, "name": "Unassigned", "email": ""},
            {"id": DESK_AGENT, "name": "Sam Service", "email": "sam@example.org"},
            {"id": 7, "name": "Alice Andersson", "email": "alice@example.org"},
            {"id": 8, "name": "Bob Brown", "email": "bob@example.org"},
            {"id": API_AGENT, "name": "Tocsin API", "email": "tocsin@example.org"},
        ],
        "Priority": [
            {"id": str(uuid.UUID(int=100 + number)), "slaid": 1, "priorityid": number, "name": name}
            for number, name in enumerate(("Critical", "High", "Medium", "Low"), start=1)
        ] + [{"id": str(uuid.UUID(int=200)), "slaid": 2, "priorityid": 1, "name": "VIP Critical"}],
        "TicketType": [{"id": 1, "name": "Incident"}, {"id": 2, "name": "Change"}],
        "Outcome": [{"id": 7, "outcome": "Private Note"}, {"id": 8, "outcome": "Public Note"}],
        "Client": [{"id": 12, "name": "Acme Corp"}],
        "Site": [{"id": 18, "name": "Zürich", "client_id": 12}],
        "Users": [{"id": 96, "name": "José Ångström", "site_id": 18}],
    }  # fmt: skip


@dataclass
class FakeHalo:
    """One tenant."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    #: The tenant's time zone; dates of tickets carry no offset.
    zone: timedelta = timedelta(hours=1)
    client_id: str = "tocsin"
    client_secret: str = "halo-demo-secret"  # noqa: S105 - the fake Halo stores nothing
    tenant: str = ""
    #: Known scopes; `all` includes every other.
    scopes: frozenset[str] = frozenset(
        {"all", "all:standard", "admin", "read:tickets", "edit:tickets", "admin:webhooks"}
    )
    #: Rights that the application lacks: `webhooks`, `edit:tickets`, `read:tickets`, `Outcome`, …
    lacking: set[str] = field(default_factory=set)
    #: Tickets that the application's agent may not see.
    hidden: set[int] = field(default_factory=set)
    #: Actions that the agent's role does not permit.
    refused_actions: set[str] = field(default_factory=set)
    #: Statuses that a ticket type does not allow.
    forbidden_statuses: dict[int, set[int]] = field(default_factory=dict)
    wants_type_with_status: bool = False

    tickets: dict[int, dict[str, Any]] = field(default_factory=dict)
    actions: list[dict[str, Any]] = field(default_factory=list)
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=_lists)
    webhooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    notifications: dict[int, dict[str, Any]] = field(default_factory=dict)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[str, datetime] = field(default_factory=dict)
    #: Every write through the API: (path, body).
    writes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    #: Called for each event, with the lock held.
    listeners: list[Callable[[FakeHaloEvent], None]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _next_ticket: int = 20817
    _next: int = 1000

    def name_of(self, noun: str, number: object, key: str = "id") -> str:
        """Return the name of a list entry, or ""."""
        return next((str(row.get("name") or row.get("outcome")) for row in self.lists[noun] if row[key] == number), "")

    def number(self) -> int:
        """Return a new unique number."""
        self._next += 1
        return self._next

    # Tickets

    def log(self, fields: Mapping[str, Any], by: int) -> dict[str, Any]:
        """Create a ticket."""
        with self.lock:
            number = self._next_ticket
            self._next_ticket += 1
            at = self.local()
            ticket: dict[str, Any] = {
                "id": number, "dateoccurred": at, "summary": "", "details": "", "status_id": 1, "tickettype_id": 1,
                "sla_id": 1, "priority_id": 3, "client_id": 12, "client_name": "Acme Corp", "site_id": 18,
                "site_name": "Zürich", "user_id": 96, "user_name": "José Ångström", "team": "1st Line Support",
                "agent_id": UNASSIGNED, "hasbeenclosed": False, "dateclosed": _UNSET, "last_update": at,
                "lastactiondate": at, "customfields": [],
            }  # fmt: skip
            ticket |= {key: value for key, value in fields.items() if key not in ("id", "status_id")}
            self.tickets[number] = ticket
            self._happened("new ticket logged", number, by)
            return ticket

    def change(self, number: int, fields: Mapping[str, Any], by: int) -> dict[str, Any]:
        """Change a ticket according to Halo's rules. Raises FakeHaloError."""
        with self.lock:
            ticket = self.visible(number)
            wanted = {key: value for key, value in fields.items() if not key.startswith("_") and key != "id"}
            status = wanted.get("status_id", ticket["status_id"])
            agent = wanted.get("agent_id", ticket["agent_id"])
            if not isinstance(status, int) or not self.name_of("Status", status):
                raise FakeHaloError(400, {"[0].status_id": [f"Could not convert string to integer: {status}."]})
            if status in self.forbidden_statuses.get(ticket["tickettype_id"], set()):
                raise FakeHaloError(400, {"Message": "This status is not allowed for this ticket type."})
            if self.wants_type_with_status and "status_id" in wanted and "tickettype_id" not in wanted:
                raise FakeHaloError(400, {"Message": "Please select a Ticket Type."})
            if status == 9 and agent == UNASSIGNED:
                raise FakeHaloError(400, "Please assign this Ticket these before closing it.")
            before = dict(ticket)
            ticket |= wanted
            ticket["last_update"] = self.local()
            if status == 9 and before["status_id"] != 9:
                ticket |= {"hasbeenclosed": True, "dateclosed": self.local()}
            elif status != 9 and before["status_id"] == 9:
                ticket["dateclosed"] = _UNSET
            if (before["agent_id"], before["team"]) != (ticket["agent_id"], ticket["team"]):
                self._happened("ticket reassigned", number, by)
            if before["status_id"] != status:
                self._happened("ticket closed" if status == 9 else "ticket status changed", number, by)
            elif before["priority_id"] != ticket["priority_id"] or before["summary"] != ticket["summary"]:
                self._happened("ticket updated by user", number, by)
            return ticket

    def act(self, body: Mapping[str, Any], by: int, application: str | None = None) -> dict[str, Any]:
        """Add an action (a note with changes) to a ticket. Raises FakeHaloError."""
        with self.lock:
            ticket = self.visible(int(body.get("ticket_id") or 0))
            outcome = body.get("outcome") or self.name_of("Outcome", body.get("outcome_id"))
            if not outcome or outcome not in {row["outcome"] for row in self.lists["Outcome"]}:
                raise FakeHaloError(
                    400, {"ClassName": "System.Exception", "Message": "An Outcome must be entered for this Action"}
                )
            if outcome in self.refused_actions:
                raise FakeHaloError(400, "You do not have access to this Action at the moment")
            changes = {
                "new_status": "status_id",
                "new_agent": "agent_id",
                "new_team": "team",
                "new_priority": "priority_id",
            }
            wanted = {to: body[key] for key, to in changes.items() if key in body}
            old = ticket["status_id"]
            if wanted:
                self.change(ticket["id"], wanted, by)
            action = {
                "id": self.number(), "ticket_id": ticket["id"], "outcome": outcome, "who": self.name_of("Agent", by),
                "who_type": 1, "who_agentid": by, "datetime": self.local(), "note": body.get("note"),
                "note_html": body.get("note_html"), "hiddenfromuser": bool(body.get("hiddenfromuser")),
                "sendemail": bool(body.get("sendemail")), "old_status": old, "new_status": ticket["status_id"],
                "actionby_application_id": application, "guid": str(uuid.uuid4()),
            }  # fmt: skip
            self.actions.append(action)
            ticket["last_update"] = ticket["lastactiondate"] = self.local()
            self._happened("action added", ticket["id"], by)
            return action

    def merge(self, number: int, into: int, by: int) -> None:
        """Merge a ticket into another: it is closed and refers to the other one."""
        with self.lock:
            self.visible(into)
            self.visible(number)
            self.tickets[number] |= {"merged_into_id": into, "status_id": 9, "last_update": self.local()}
            self._happened("ticket updated by user", number, by)

    def delete(self, number: int, by: int) -> None:
        """Delete a ticket. The webhook of the deletion still contains it."""
        with self.lock:
            self.visible(number)
            self._happened("ticket deleted", number, by)
            del self.tickets[number]

    def visible(self, number: int) -> dict[str, Any]:
        """Return a ticket. Raises FakeHaloError if it does not exist or is hidden."""
        if number in self.hidden:
            raise FakeHaloError(401, {"Message": "Record not found, or restricted."})
        if number not in self.tickets:
            raise FakeHaloError(404)
        return self.tickets[number]

    def linked(self, ticket: Mapping[str, Any]) -> dict[str, Any]:
        """Return a ticket with its linked objects."""
        return {
            **ticket,
            "status": {"id": ticket["status_id"], "name": self.name_of("Status", ticket["status_id"])},
            "priority": {
                "id": ticket["priority_id"],
                "name": self.name_of("Priority", ticket["priority_id"], "priorityid"),
            },
            "agent": next((row for row in self.lists["Agent"] if row["id"] == ticket["agent_id"]), None),
            "tickettype": {"id": ticket["tickettype_id"], "name": self.name_of("TicketType", ticket["tickettype_id"])},
        }  # fmt: skip

    def local(self) -> str:
        """Return the current time in Halo's format: in the tenant's zone, without an offset."""
        return (self.now() + self.zone).replace(tzinfo=None).isoformat(timespec="milliseconds")

    def _happened(self, event: str, ticket: int, by: int) -> None:
        happened = FakeHaloEvent(event, ticket, by, self.now())
        for listener in list(self.listeners):
            listener(happened)
