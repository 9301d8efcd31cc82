"""HaloITSM messages as administrators build them, and what each should do.

All but `_FURTHER` were written from HaloITSM's own guide before the mapping was looked at: they say what a user
expects, not what the code does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

OPEN: Final = "open"
CLOSE: Final = "close"
UPDATE: Final = "update"

_SUMMARY: Final = "VPN down at Zürich for 40 users"
_UNSET: Final = "1900-01-01T00:00:00"


@dataclass(frozen=True, slots=True)
class Variant:
    """One message, and what becomes of each of its tickets: action, number, a part of the subject."""

    name: str
    body: object
    expected: tuple[tuple[str, str, str], ...]
    content_type: str = "application/json"
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        """Returns the body as HaloITSM sends it."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


def _ticket(**changes: object) -> dict[str, object]:
    """Returns the full object: flat, with ids, and without the status's name."""
    ticket: dict[str, object] = {
        "id": 20817,
        "dateoccurred": "2026-11-24T09:14:58.91",
        "summary": _SUMMARY,
        "details": "VPN gateway zrh-vpn-01 isn't responding.\r\n\r\nKind regards,\r\nJosé",
        "status_id": 1,
        "tickettype_id": 1,
        "sla_id": 1,
        "priority_id": 1,
        "client_id": 12,
        "client_name": "Acme Corp",
        "site_name": "Zürich",
        "user_name": "José Ångström",
        "team": "1st Line Support",
        "agent_id": 1,
        "responsedate": _UNSET,
        "dateclosed": _UNSET,
        "last_update": "2026-11-24T09:14:59.147",
        "hasbeenclosed": False,
        "closure_note": None,
        "customfields": [{"id": 101, "name": "CFaffectedUsers", "label": "Affected users", "value": "40"}],
    }
    return {key: value for key, value in (ticket | changes).items() if value is not ...}


def _envelope(event: str, ticket: dict[str, object] | None = None, **changes: object) -> dict[str, object]:
    envelope: dict[str, object] = {
        "id": "0d0c6f1e-2b7a-4d7b-9a3c-000000000001",
        "webhook_id": "53232637-7724-4a19-b126-3c7267a292aa",
        "notification_id": 41,
        "escmsg_id": "b0000000-acb8-f111-8260-000000000001",
        "event": event,
        "object_id": 20817,
        "agent_id": 1,
        "timestamp": "2026-11-24T09:15:02.1234567Z",
    }
    if ticket is not None:
        envelope["message"] = "Ticket ID: 0020817."
        envelope["ticket"] = ticket
    return envelope | changes


def _flat(**fields: object) -> dict[str, object]:
    """Returns a custom payload: flat, with display values."""
    return {"ticket_id": "20817", "summary": _SUMMARY, "priority": "Critical", "client": "Acme Corp", **fields}


def _one(name: str, action: str, body: object, subject: str = "VPN down", **more: object) -> Variant:
    return Variant(name, body, ((action, "20817", subject if action == OPEN else ""),), **more)  # type: ignore[arg-type]


_LINKED_NEW: Final = {
    "status": {"id": 1, "name": "New", "shortname": "New", "colour": "#0078d7"},
    "priority": {"priorityid": 1, "slaid": 1, "name": "Critical"},
    "agent": {"id": 1, "name": "Unassigned"},
    "user": {"id": 96, "name": "José Ångström"},
}


def _linked(identity: int, name: str) -> dict[str, object]:
    return _LINKED_NEW | {"status": {"id": identity, "name": name}}


_OPENS: Final = (
    _one("full object, new ticket", OPEN, _envelope("new ticket logged", _ticket())),
    _one("linked objects, new ticket", OPEN, _envelope("new ticket logged", _ticket(**_LINKED_NEW))),
    _one(
        "small object, new ticket",
        OPEN,
        _envelope("new ticket logged", {"id": 20817, "summary": _SUMMARY, "status_id": 1, "client_id": 12}),
    ),
    _one("event only, new ticket", OPEN, _envelope("new ticket logged"), subject=""),
    _one("event with its flavour", OPEN, _envelope("New Ticket Logged - All", _ticket(status_id=31))),
    _one("event: ticket created", OPEN, _envelope("Ticket Created", _ticket(status_id=31))),
    _one("event: ticket logged", OPEN, _envelope("Ticket Logged", _ticket(status_id=31))),
    _one("a template's linked ticket, without event", OPEN, {"ticket": _ticket(**_LINKED_NEW)}),
    _one("flat, display values", OPEN, _flat(event="New Ticket Logged", status="New", agent="Unassigned")),
    _one("flat, display values, without event", OPEN, _flat(status="New")),
    _one("status New - 1st line", OPEN, _flat(status="New - 1st line")),
    _one("status Newly logged", OPEN, _flat(status="Newly logged")),
    _one("status in capitals", OPEN, _flat(status="NEW TICKET")),
    _one("status Neu", OPEN, _flat(status="Neu")),
    _one("status Nouveau", OPEN, _flat(status="Nouveau")),
    _one("status Nuovo", OPEN, _flat(status="Nuovo")),
    _one("status Awaiting triage", OPEN, _flat(status="Awaiting triage")),
    _one("status Logged", OPEN, _flat(event="new ticket logged", status="Logged - triage")),
    _one(
        "PascalCase",
        OPEN,
        {"Event": "New Ticket Logged", "TicketId": "20817", "Summary": _SUMMARY, "Status": "New", "Priority": "High"},
    ),
    _one(
        "PascalCase with objects",
        OPEN,
        {
            "Event": "New Ticket Logged",
            "Ticket": {"Id": 20817, "Summary": _SUMMARY, "Status": {"Id": 1, "Name": "New"}},
        },
    ),
    _one("capitals", OPEN, {"TICKET_ID": 20817, "SUMMARY": _SUMMARY, "STATUS": "New"}),
    _one(
        "display names as keys",
        OPEN,
        {"Ticket ID": "20817", "Summary": _SUMMARY, "Status": "New", "Ticket Type": "Incident", "Client Name": "Acme"},
    ),
    _one(
        "ticketSummary, ticketStatus",
        OPEN,
        {"ticketId": 20817, "ticketSummary": _SUMMARY, "ticketStatus": "New", "ticketPriority": "P1"},
    ),
    _one(
        "ticket_summary, status_name",
        OPEN,
        {"ticket_id": 20817, "ticket_summary": _SUMMARY, "status_name": "New", "status_id": 1},
    ),
    _one("an array of one", OPEN, [_envelope("new ticket logged", _ticket())]),
    Variant(
        "an array: one new, another closed",
        [
            _envelope("new ticket logged", _ticket()),
            _envelope("ticket closed", _ticket(id=20700, status_id=9, hasbeenclosed=True), object_id=20700),
        ],
        ((OPEN, "20817", "VPN down"), (CLOSE, "20700", "")),
    ),
    Variant(
        "tickets[] of two",
        {"tickets": [_ticket(), _ticket(id=20818, summary="Core switch down")]},
        ((OPEN, "20817", "VPN down"), (OPEN, "20818", "Core switch down")),
    ),
    _one("tickets[] of one", OPEN, {"event": "new ticket logged", "tickets": [_ticket()]}),
    _one("object", OPEN, {"event": "New Ticket Logged", "object": _ticket(), "object_id": 20817}),
    _one("object inside ticket-less envelope", OPEN, {"event": "new ticket logged", "object": {"ticket": _ticket()}}),
    _one("data", OPEN, {"event": "new ticket logged", "data": _ticket()}),
    _one("data in capitals", OPEN, {"Event": "New Ticket Logged", "Data": {"TICKET_ID": 20817, "SUMMARY": _SUMMARY}}),
    _one("payload with ticket", OPEN, {"payload": {"event": "new ticket logged", "ticket": _ticket()}}),
    _one("body of a relay", OPEN, {"body": _envelope("new ticket logged", _ticket()), "headers": {"host": "relay"}}),
    _one(
        "brackets in a form",
        OPEN,
        "event=New+Ticket+Logged&ticket%5Bid%5D=20817&ticket%5Bsummary%5D=VPN+down&ticket%5Bstatus%5D=New",
        content_type="application/x-www-form-urlencoded",
    ),
    _one("brackets in JSON", OPEN, {"ticket[id]": 20817, "ticket[summary]": _SUMMARY, "ticket[status][name]": "New"}),
    _one(
        "a form",
        OPEN,
        "event=New+Ticket+Logged&ticket_id=20817&summary=VPN+down&status=New",
        content_type="application/x-www-form-urlencoded",
    ),
    _one("number, summary and priority", OPEN, {"ticket_id": 20817, "summary": _SUMMARY, "priority": "P1"}),
    _one("a whole number as id", OPEN, {"id": 20817, "summary": _SUMMARY, "priority": "P1"}),
    _one("faultid, symptom", OPEN, {"faultid": 20817, "symptom": _SUMMARY, "status": "New"}),
    _one(
        "a summary with a closing word",
        OPEN,
        _envelope("new ticket logged", _ticket(summary="VPN down: valve 3 closed, job completed")),
    ),
    _one("a client with a closing word", OPEN, _flat(status="New", client="Closed Loop Ltd")),
    _one("updated while still new", OPEN, _envelope("ticket updated by user", _ticket(**_LINKED_NEW))),
)

_CLOSES: Final = (
    _one(
        "full object, closed",
        CLOSE,
        _envelope("ticket closed", _ticket(status_id=9, hasbeenclosed=True, dateclosed="2026-11-24T11:02:44.203")),
    ),
    _one("event only, closed", CLOSE, _envelope("ticket closed")),
    _one("event only, as Halo lists it", CLOSE, _envelope("Closed")),
    _one("event Ticket Closed, unknown id", CLOSE, _envelope("Ticket Closed", {"id": 20817, "status_id": 23})),
    _one(
        "event closed, another status's name", CLOSE, _envelope("ticket closed", _ticket(**_linked(23, "Finished off")))
    ),
    _one("event closed, stale status's name", CLOSE, _envelope("ticket closed", _ticket(**_linked(2, "In Progress")))),
    _one("event closed, stale New", CLOSE, _envelope("ticket closed", _ticket(**_LINKED_NEW))),
    _one("event in German", CLOSE, _envelope("Ticket geschlossen", _ticket(status_id=23))),
    _one("event in French", CLOSE, _envelope("Ticket fermé", _ticket(status_id=23))),
    _one("event in Italian", CLOSE, _envelope("Ticket chiuso", _ticket(status_id=23))),
    _one(
        "status id 9 and hasbeenclosed",
        CLOSE,
        _envelope("ticket status changed", {"id": 20817, "summary": "x", "status_id": 9, "hasbeenclosed": True}),
    ),
    _one("status id 9 alone", CLOSE, _envelope("ticket status changed", _ticket(status_id=9))),
    _one("status id 9 as text", CLOSE, _flat(status_id="9")),
    _one("status 9 in status", CLOSE, _flat(event="ticket status changed", status=9)),
    _one("status id 9 with another name", CLOSE, _envelope("ticket status changed", _ticket(**_linked(9, "Fertig")))),
    _one(
        "hasbeenclosed with a date",
        CLOSE,
        _envelope(
            "ticket status changed",
            _ticket(status_id=30, hasbeenclosed=True, dateclosed="2026-11-24T11:02:44.203"),
        ),
    ),
    _one(
        "hasbeenclosed with a date, another name",
        CLOSE,
        _envelope(
            "ticket status changed",
            _ticket(hasbeenclosed=True, dateclosed="2026-11-24T11:02:44.203", **_linked(30, "Sorted")),
        ),
    ),
    _one(
        "hasbeenclosed as text",
        CLOSE,
        _flat(status="Sorted", hasbeenclosed="True", dateclosed="24/11/2026 11:02:44"),
    ),
    _one("name Closed", CLOSE, _flat(status="Closed")),
    _one("name Closed, linked", CLOSE, _envelope("ticket status changed", _ticket(**_linked(31, "Closed")))),
    _one("name in capitals", CLOSE, _flat(status="  CLOSED ")),
    _one("name Closed - no response", CLOSE, _flat(status="Closed - no response")),
    _one("name Closed by client", CLOSE, _flat(status="Closed by client")),
    _one("name Completed", CLOSE, _flat(event="ticket status changed", status="Completed")),
    _one("name Completed, linked", CLOSE, _envelope("ticket status changed", _ticket(**_linked(21, "Completed")))),
    _one("name Cancelled", CLOSE, _flat(status="Cancelled")),
    _one("name Canceled", CLOSE, _flat(status="Canceled")),
    _one("name Geschlossen", CLOSE, _flat(status="Geschlossen")),
    _one("name Erledigt", CLOSE, _flat(status="Erledigt")),
    _one("name Abgeschlossen", CLOSE, _flat(status="Abgeschlossen")),
    _one("name Fermé", CLOSE, _flat(status="Fermé")),
    _one("name Clôturé", CLOSE, _flat(status="Clôturé")),
    _one("name Chiuso", CLOSE, _flat(status="Chiuso")),
    _one("name Annullato", CLOSE, _flat(status="Annullato")),
    _one("PascalCase, closed", CLOSE, {"TicketID": "20817", "Summary": _SUMMARY, "Status": "Closed"}),
    _one("PascalCase, closed by event", CLOSE, {"Event": "Ticket Closed", "TicketId": 20817, "StatusId": 23}),
    _one(
        "display names as keys, closed",
        CLOSE,
        {"Ticket ID": "20817", "Summary": _SUMMARY, "Status": "Closed", "Date Closed": "24/11/2026 11:02"},
    ),
    _one("object, closed", CLOSE, {"event": "Ticket Closed", "object": _ticket(status_id=9)}),
    _one("data, closed", CLOSE, {"data": _ticket(status_id=9, hasbeenclosed=True)}),
    _one("payload, closed", CLOSE, {"payload": {"event": "ticket closed", "ticket": _ticket(status_id=23)}}),
    _one("tickets[], closed", CLOSE, {"tickets": [_ticket(**_linked(9, "Closed"))]}),
    _one("ticketStatus, closed", CLOSE, {"ticketId": 20817, "ticketSummary": _SUMMARY, "ticketStatus": "Closed"}),
    _one("brackets, closed", CLOSE, {"ticket[id]": 20817, "ticket[status][name]": "Closed"}),
    _one("an array, closed", CLOSE, [_envelope("ticket closed", _ticket(status_id=9))]),
    _one("deleted", CLOSE, _envelope("ticket deleted", _ticket(status_id=2))),
    _one("status name in statusname", CLOSE, _envelope("ticket status changed", _ticket(statusname="Closed"))),
)

_UPDATES: Final = (
    _one("status Renewal sent", UPDATE, _flat(event="ticket status changed", status="Renewal sent")),
    _one("status Not New", UPDATE, _flat(event="ticket status changed", status="Not New")),
    _one("status Renewed", UPDATE, _envelope("ticket status changed", _ticket(**_linked(33, "Contract renewed")))),
    _one("status To be closed", UPDATE, _flat(event="ticket status changed", status="To be closed")),
    _one("status Unclosed", UPDATE, _flat(event="ticket status changed", status="Unclosed")),
    _one("status Not closed", UPDATE, _flat(event="ticket status changed", status="Not closed")),
    _one("status Awaiting closure", UPDATE, _flat(event="ticket status changed", status="Awaiting closure")),
    _one("status Ready to be closed", UPDATE, _flat(event="ticket status changed", status="Ready to be closed")),
    _one("status Noch nicht erledigt", UPDATE, _flat(event="ticket status changed", status="Noch nicht erledigt")),
    _one("status Pas encore fermé", UPDATE, _flat(event="ticket status changed", status="Pas encore fermé")),
    _one("status Non chiuso", UPDATE, _flat(event="ticket status changed", status="Non chiuso")),
    _one("status In Progress", UPDATE, _envelope("ticket status changed", _ticket(**_linked(2, "In Progress")))),
    _one("status id 2", UPDATE, _envelope("ticket status changed", _ticket(status_id=2, agent_id=7))),
    _one(
        "closed before, open again",
        UPDATE,
        _envelope("ticket status changed", _ticket(status_id=2, hasbeenclosed=True, dateclosed=_UNSET)),
    ),
    _one(
        "a note that says closed",
        UPDATE,
        _envelope(
            "ticket updated by user",
            _ticket(status_id=5),
            action={
                "id": 7,
                "ticket_id": 20817,
                "outcome": "User Update",
                "note": "Please keep this closed. Resolved?",
            },
        ),
    ),
    _one("SLA warning", UPDATE, _envelope("first sla warning", _ticket(**_linked(2, "In Progress")))),
    _one("reassigned", UPDATE, _envelope("ticket reassigned", _ticket(status_id=2, agent_id=7))),
)


def _card(title: str, **facts: str) -> dict[str, object]:
    """Returns a ticket's notification as a channel of Teams gets it."""
    listed = [{"name": name, "value": value} for name, value in facts.items()]
    return {"@type": "MessageCard", "summary": title.partition(":")[0], "title": title, "sections": [{"facts": listed}]}


#: Written after the mapping was changed, by the same author.
_FURTHER: Final = (
    Variant(
        "a list of events",
        {
            "events": [
                _envelope("new ticket logged", _ticket()),
                _envelope("ticket closed", _ticket(id=20700), object_id=20700),
            ]
        },
        ((OPEN, "20817", "VPN down"), (CLOSE, "20700", "")),
    ),
    _one("Faults of one", OPEN, {"Faults": [{"faultid": 20817, "symptom": _SUMMARY, "status": "New"}]}),
    _one("ticket as JSON text", OPEN, {"event": "New Ticket Logged", "ticket": json.dumps(_ticket())}),
    _one("names in German", OPEN, {"Ticketnummer": 20817, "Betreff": _SUMMARY, "Status": "Neu"}),
    _one("event in German", OPEN, {"event": "Neues Ticket erfasst", "ticket_id": 20817, "summary": _SUMMARY}),
    _one("is_closed", CLOSE, _flat(status="Sorted", is_closed=True)),
    _one("display names, finalised", CLOSE, {
        "Ticket ID": 20817, "Status": "Finalised", "Date Closed": "24/11/2026 11:02", "Has Been Closed": "Yes",
    }),
    _one("reopened", UPDATE, _envelope(
        "ticket reopened", _ticket(status_id=2, hasbeenclosed=True, dateclosed="2026-11-20T10:00:00")
    )),
    _one("new again", OPEN, _envelope(
        "ticket status changed", _ticket(**_LINKED_NEW, hasbeenclosed=True, dateclosed="2026-11-20T10:00:00")
    )),
    _one("another ticket closed", UPDATE, _envelope("child ticket closed", _ticket(status_id=2))),
    _one("resolved is only a status", UPDATE, _envelope("Ticket Resolved", _ticket(status_id=8))),
    _one("resolved by another name", UPDATE, {"ticket_id": 20817, "titre": _SUMMARY, "etat": "Résolu"}),
    _one("closed by the mail's subject", CLOSE, {
        "title": "[HALO-20817] Ticket closed: VPN down", "text": "Closed by José.", "ticketId": 20817,
    }),
    _one("closed by a German subject", CLOSE, {
        "subject": "[Halo] Ticket 20817 geschlossen – VPN down", "text": "Kunde: Acme", "ticket": 20817,
    }),
    _one("deleted", CLOSE, {"TicketRef": "20817", "Subject": "VPN down", "State": "Deleted"}),
    _one("a card of facts", OPEN, _card("New ticket 20817: VPN down", Status="New", Priority="High")),
    _one("a card of facts, closed", CLOSE, _card("Ticket 20817 closed: VPN down", Status="Closed")),
    _one("a card whose facts have the number", CLOSE, _card("VPN down", Ticketnummer="20817", Zustand="Storniert")),
    _one("number and event in the title alone", OPEN, {"subject": "[Halo] Neues Ticket 20817 – VPN down"}),
    _one("number and end in the title alone", CLOSE, {"text": "Ticket n° 20817 clôturé : VPN down"}),
    _one("status in a text", CLOSE, {"ticket_id": 20817, "text": "Betreff: VPN down\nStatus: Geschlossen"}),
    _one("in an object of any name", OPEN, {
        "source": "runbook", "storingsmelding": {"nr": 20817, "kurztext": _SUMMARY, "status": {"bezeichnung": "Neu"}},
    }),
    _one("in an object of any name, cancelled", CLOSE, {
        "source": "runbook",
        "storingsmelding": {"nr": 20817, "kurztext": _SUMMARY, "status": {"id": 44, "bezeichnung": "Storniert"}},
    }),
    _one("a number in Spanish", OPEN, {"num_incidencia": 20817, "asunto": _SUMMARY, "situacion": "Nueva"}),
    _one("a number in Spanish, not closed", UPDATE, {
        "event": "ticket status changed", "num_incidencia": 20817, "asunto": _SUMMARY, "situacion": "No cerrada",
    }),
    _one("removed", CLOSE, {"event": "ticket_removed", "ticketId": 20817, "title": "VPN down"}),
    _one("closed automatically", CLOSE, _flat(status="Automatisch geschlossen")),
    _one("an asset of the ticket's number", UPDATE, {
        "event": "Asset Updated", "object_id": 20817, "asset": {"id": 20817, "inventory": "LT-1", "status": "Active"},
    }),
    _one("closed under another name closes", CLOSE, {"ticket_id": 20817, "titre": _SUMMARY, "etat": "Clôturé"}),
)  # fmt: skip

VARIANTS: Final = (*_OPENS, *_CLOSES, *_UPDATES, *_FURTHER)
