"""The states of outbound calls, and the alert events that cause them."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from tocsin.core.delivery.circuit_breaker import Backoff, CircuitPolicy, doubling
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


# ---------- retry policy
# When calls to other systems are retried, and when a system is left alone. Pure.


#: A call that cannot be made for this long becomes a dead letter.
GIVE_UP_AFTER = timedelta(days=1)

#: The wait before a failed call is retried.
RETRIES = Backoff(doubling(timedelta(seconds=5), timedelta(minutes=30)), jitter=0.2)

#: While the circuit is open, nothing is sent; then single calls probe the remote system.
CIRCUIT = CircuitPolicy(5, Backoff(doubling(timedelta(seconds=15), timedelta(minutes=5))))

#: The interval of automatic retries for problems that a person must fix.
BLOCKED_INTERVAL = timedelta(hours=1)

_THROTTLES = Backoff(doubling(timedelta(seconds=5), timedelta(seconds=60)))


def throttle_wait(times: int, retry_after: timedelta | None) -> timedelta:
    """Returns how long to wait after the `times`th consecutive rate-limit response."""
    return _THROTTLES.delay(times) if retry_after is None else retry_after
