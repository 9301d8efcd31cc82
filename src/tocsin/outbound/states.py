"""What becomes of a call to another system, and what happened on an alert that one is made for."""

from __future__ import annotations

from enum import StrEnum


class CallStatus(StrEnum):
    #: Waits for its turn.
    QUEUED = "queued"
    #: Is on its way.
    SENDING = "sending"
    SENT = "sent"
    #: It failed for good: a person may send it again.
    DEAD = "dead"
    #: A person decided that it is not sent.
    DROPPED = "dropped"


#: What still holds up later calls of the same ticket.
WAITING = frozenset({CallStatus.QUEUED, CallStatus.SENDING})


#: What a person can have sent again.
ENDED = frozenset({CallStatus.DEAD, CallStatus.DROPPED})


class OutboundEvent(StrEnum):
    """What happened on an alert, as far as other systems are told. The names are those of `sync` in the YAML."""

    ACKNOWLEDGE = "acknowledge"
    ASSIGN = "assign"
    ESCALATE = "escalate"
    REPLY = "reply"
    HOLD = "hold"
    CLOSE = "close"
    EXHAUSTED = "exhausted"
