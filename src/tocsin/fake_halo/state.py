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
    agent_id: int
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
    missing_rights: set[str] = field(default_factory=set)
    #: Tickets that the application's agent may not see.
    hidden: set[int] = field(default_factory=set)
    #: Actions that the agent's role does not permit.
    refused_actions: set[str] = field(default_factory=set)
    #: Statuses that a ticket type does not allow.
    forbidden_statuses: dict[int, set[int]] = field(default_factory=dict)
    requires_type_with_status: bool = False

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

    def find_name(self, list_name: str, entry_id: object, key: str = "id") -> str:
        """Return the name of a list entry, or ""."""
        return next(
            (str(row.get("name") or row.get("outcome")) for row in self.lists[list_name] if row[key] == entry_id), ""
        )

    def next_id(self) -> int:
        """Return a new unique number."""
        self._next += 1
        return self._next

    # Tickets

    def create_ticket(self, fields: Mapping[str, Any], agent_id: int) -> dict[str, Any]:
        """Create a ticket."""
        with self.lock:
            ticket_id = self._next_ticket
            self._next_ticket += 1
            at = self.local_time()
            ticket: dict[str, Any] = {
                "id": ticket_id, "dateoccurred": at, "summary": "", "details": "", "status_id": 1, "tickettype_id": 1,
                "sla_id": 1, "priority_id": 3, "client_id": 12, "client_name": "Acme Corp", "site_id": 18,
                "site_name": "Zürich", "user_id": 96, "user_name": "José Ångström", "team": "1st Line Support",
                "agent_id": UNASSIGNED, "hasbeenclosed": False, "dateclosed": _UNSET, "last_update": at,
                "lastactiondate": at, "customfields": [],
            }  # fmt: skip
            ticket |= {key: value for key, value in fields.items() if key not in ("id", "status_id")}
            self.tickets[ticket_id] = ticket
            self._emit("new ticket logged", ticket_id, agent_id)
            return ticket

    def change_ticket(self, ticket_id: int, fields: Mapping[str, Any], agent_id: int) -> dict[str, Any]:
        """Change a ticket according to Halo's rules. Raises FakeHaloError."""
        with self.lock:
            ticket = self.find_visible(ticket_id)
            changes = {key: value for key, value in fields.items() if not key.startswith("_") and key != "id"}
            status = changes.get("status_id", ticket["status_id"])
            agent = changes.get("agent_id", ticket["agent_id"])
            if not isinstance(status, int) or not self.find_name("Status", status):
                raise FakeHaloError(400, {"[0].status_id": [f"Could not convert string to integer: {status}."]})
            if status in self.forbidden_statuses.get(ticket["tickettype_id"], set()):
                raise FakeHaloError(400, {"Message": "This status is not allowed for this ticket type."})
            if self.requires_type_with_status and "status_id" in changes and "tickettype_id" not in changes:
                raise FakeHaloError(400, {"Message": "Please select a Ticket Type."})
            if status == 9 and agent == UNASSIGNED:
                raise FakeHaloError(400, "Please assign this Ticket these before closing it.")
            previous = dict(ticket)
            ticket |= changes
            ticket["last_update"] = self.local_time()
            if status == 9 and previous["status_id"] != 9:
                ticket |= {"hasbeenclosed": True, "dateclosed": self.local_time()}
            elif status != 9 and previous["status_id"] == 9:
                ticket["dateclosed"] = _UNSET
            if (previous["agent_id"], previous["team"]) != (ticket["agent_id"], ticket["team"]):
                self._emit("ticket reassigned", ticket_id, agent_id)
            if previous["status_id"] != status:
                self._emit("ticket closed" if status == 9 else "ticket status changed", ticket_id, agent_id)
            elif previous["priority_id"] != ticket["priority_id"] or previous["summary"] != ticket["summary"]:
                self._emit("ticket updated by user", ticket_id, agent_id)
            return ticket

    def add_action(self, body: Mapping[str, Any], agent_id: int, application: str | None = None) -> dict[str, Any]:
        """Add an action (a note with changes) to a ticket. Raises FakeHaloError."""
        with self.lock:
            ticket = self.find_visible(int(body.get("ticket_id") or 0))
            outcome = body.get("outcome") or self.find_name("Outcome", body.get("outcome_id"))
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
            ticket_changes = {to: body[key] for key, to in changes.items() if key in body}
            old_status = ticket["status_id"]
            if ticket_changes:
                self.change_ticket(ticket["id"], ticket_changes, agent_id)
            action = {
                "id": self.next_id(), "ticket_id": ticket["id"], "outcome": outcome, "who": self.find_name("Agent",
                agent_id),
                "who_type": 1, "who_agentid": agent_id, "datetime": self.local_time(), "note": body.get("note"),
                "note_html": body.get("note_html"), "hiddenfromuser": bool(body.get("hiddenfromuser")),
                "sendemail": bool(body.get("sendemail")), "old_status": old_status, "new_status": ticket["status_id"],
                "actionby_application_id": application, "guid": str(uuid.uuid4()),
            }  # fmt: skip
            self.actions.append(action)
            ticket["last_update"] = ticket["lastactiondate"] = self.local_time()
            self._emit("action added", ticket["id"], agent_id)
            return action

    def merge(self, ticket_id: int, into: int, agent_id: int) -> None:
        """Merge a ticket into another: it is closed and refers to the other one."""
        with self.lock:
            self.find_visible(into)
            self.find_visible(ticket_id)
            self.tickets[ticket_id] |= {"merged_into_id": into, "status_id": 9, "last_update": self.local_time()}
            self._emit("ticket updated by user", ticket_id, agent_id)

    def delete(self, ticket_id: int, agent_id: int) -> None:
        """Delete a ticket. The webhook of the deletion still contains it."""
        with self.lock:
            self.find_visible(ticket_id)
            self._emit("ticket deleted", ticket_id, agent_id)
            del self.tickets[ticket_id]

    def find_visible(self, ticket_id: int) -> dict[str, Any]:
        """Return a ticket. Raises FakeHaloError if it does not exist or is hidden."""
        if ticket_id in self.hidden:
            raise FakeHaloError(401, {"Message": "Record not found, or restricted."})
        if ticket_id not in self.tickets:
            raise FakeHaloError(404)
        return self.tickets[ticket_id]

    def with_linked_objects(self, ticket: Mapping[str, Any]) -> dict[str, Any]:
        """Return a ticket with its linked objects."""
        return {
            **ticket,
            "status": {"id": ticket["status_id"], "name": self.find_name("Status", ticket["status_id"])},
            "priority": {
                "id": ticket["priority_id"],
                "name": self.find_name("Priority", ticket["priority_id"], "priorityid"),
            },
            "agent": next((row for row in self.lists["Agent"] if row["id"] == ticket["agent_id"]), None),
            "tickettype": {"id": ticket["tickettype_id"], "name": self.find_name("TicketType",
            ticket["tickettype_id"])},
        }  # fmt: skip

    def local_time(self) -> str:
        """Return the current time in Halo's format: in the tenant's zone, without an offset."""
        return (self.now() + self.zone).replace(tzinfo=None).isoformat(timespec="milliseconds")

    def _emit(self, event: str, ticket: int, agent_id: int) -> None:
        halo_event = FakeHaloEvent(event, ticket, agent_id, self.now())
        for listener in list(self.listeners):
            listener(halo_event)
