"""The states of outbound calls, and the alert events that cause them."""

from __future__ import annotations

from enum import StrEnum

from tocsin.core.reasons import translatable


class CallStatus(StrEnum):
    #: Waiting to be sent.
    QUEUED = "queued"
    #: Being sent.
    SENDING = "sending"
    SENT = "sent"
    #: Failed permanently; a person can send it again.
    DEAD = "dead"
    #: Dropped by a person.
    DROPPED = "dropped"


#: Calls that block later ones of the same ticket.
WAITING = frozenset({CallStatus.QUEUED, CallStatus.SENDING})


#: Calls that a person can send again.
ENDED = frozenset({CallStatus.DEAD, CallStatus.DROPPED})


class OutboundEvent(StrEnum):
    """Alert events that other systems are notified of. The values are the keys of `sync` in YAML."""

    ACKNOWLEDGE = translatable("acknowledge")
    ASSIGN = translatable("assign")
    ESCALATE = translatable("escalate")
    REPLY = translatable("reply")
    HOLD = translatable("hold")
    CLOSE = translatable("close")
    EXHAUSTED = translatable("exhausted")
