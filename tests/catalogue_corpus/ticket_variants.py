"""Messages of any service desk that its type was not made for: scripts, relays, out-of-hours bots, SIGNL4's form."""

from __future__ import annotations

from typing import Final

from tests.catalogue_corpus.halo_variants import CLOSE, OPEN, UPDATE

SUBJECT: Final = "Core switch down"
NUMBER: Final = "9003"

_OPENS: Final = {
    "number, summary and priority": {"ticket_id": 9003, "summary": SUBJECT, "priority": "P1"},
    "number as text": {"ticket_id": "9003", "subject": SUBJECT, "priority": "High", "requester": "Ann"},
    "ticketNumber": {"ticketNumber": "9003", "title": SUBJECT, "urgency": "critical"},
    "in ticket": {"ticket": {"id": 9003, "subject": SUBJECT, "priority": "P1"}},
    "in data": {"data": {"ticket_id": 9003, "subject": SUBJECT}},
    "in payload and ticket": {"payload": {"ticket": {"id": 9003, "title": SUBJECT, "status": "New"}}},
    "awaiting triage": {"ticket_id": 9003, "subject": SUBJECT, "status": "Awaiting triage"},
    "awaiting triage, prefixed": {"ticket_id": 9003, "ticket_subject": SUBJECT, "ticket_status": "Awaiting triage"},
    "SIGNL4": {"Title": SUBJECT, "Message": "Zürich", "X-S4-ExternalID": "9003", "X-S4-Status": "new"},
    "SIGNL4 without status": {"Title": SUBJECT, "Message": "Zürich", "X-S4-ExternalID": "9003"},
    "bot with a ticket": {"event": "out_of_hours_call", "ticket": {"number": "9003", "summary": SUBJECT}},
    "bot with a message": {"source": "after_hours", "ticket_id": "9003", "message": SUBJECT, "caller": "+41790000000"},
    "bot with a description": {"ticketId": "9003", "description": SUBJECT, "callerName": "Ann"},
    "PascalCase": {"TicketId": 9003, "Subject": SUBJECT, "Status": "New"},
    "brackets": {"ticket[id]": "9003", "ticket[subject]": SUBJECT, "ticket[status]": "new"},
    "display names": {"Ticket ID": "9003", "Subject": SUBJECT, "Priority": "P1"},
    "created": {"event": "ticket.created", "ticket": {"id": 9003, "subject": SUBJECT, "status": "Backlog"}},
    "Neu": {"ticket_id": 9003, "subject": SUBJECT, "status": "Neu"},
}
_CLOSES: Final = {
    "by event": {"event": "ticket closed", "ticket_id": 9003, "subject": SUBJECT, "status": "In Progress"},
    "Closed": {"ticket_id": 9003, "subject": SUBJECT, "status": "Closed"},
    "Completed": {"ticket": {"id": 9003, "subject": SUBJECT, "status": "Completed"}},
    "Erledigt": {"ticket_id": 9003, "ticket_subject": SUBJECT, "ticket_status": "Erledigt"},
    "Fermé": {"data": {"ticket_id": 9003, "status": "Fermé"}},
}
_UPDATES: Final = {
    "updated": {"event": "ticket updated", "ticket_id": 9003, "subject": SUBJECT, "status": "In Progress"},
    "in progress": {"ticket_id": 9003, "subject": SUBJECT, "status": "In Progress"},
    "waiting": {"ticket_id": 9003, "subject": SUBJECT, "status": "Waiting on customer"},
    "note": {"event": "note added", "ticket_id": 9003, "subject": SUBJECT},
    "without a subject": {"ticket_id": 9003, "priority": "P1"},
}

#: By name: the message, and what it does.
VARIANTS: Final[dict[str, tuple[dict[str, object], str]]] = {
    **{name: (body, OPEN) for name, body in _OPENS.items()},
    **{name: (body, CLOSE) for name, body in _CLOSES.items()},
    **{name: (body, UPDATE) for name, body in _UPDATES.items()},
}
