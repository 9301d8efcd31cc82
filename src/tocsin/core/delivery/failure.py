"""Why an attempt to deliver something failed, and the errors that say so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import Reason, ReasonType

WORKER_LOST = ReasonType("delivery.worker_lost", "The process that was sending it stopped.")
ENTER_CREDENTIALS = ReasonType("delivery.enter_credentials", "Enter them again.")


class Throttled(Temporary):
    """The remote system rate-limits Tocsin: everything for it waits, and the attempt does not count."""


class NeedsAttention(Permanent):
    """Nothing can be sent until a person acts: rejected secret, missing permission, or wrong address."""


class AddressRejected(Permanent):
    """The provider works but does not deliver to this address for now: the recipient opted out, or the country is
    disabled. Does not count against the provider's health; another provider may deliver.
    """


class NoSuchAddress(AddressRejected):
    """The address does not exist: no mailbox, number or member. The only refusal that ends a page."""


class FailureKind(StrEnum):
    """Why an attempt failed."""

    #: Nothing was done; a retry may succeed.
    TEMPORARY = "temporary"
    #: It may have been done.
    OUTCOME_UNKNOWN = "outcome_unknown"
    #: The remote system rate-limits Tocsin.
    THROTTLED = "throttled"
    #: The remote system refused this message or call. A retry succeeds once a person has acted.
    PERMANENT = "permanent"
    #: Nothing succeeds until a person acts.
    BLOCKED = "blocked"
    #: The provider does not deliver to this address for now. Does not count against the provider's health.
    ADDRESS_REJECTED = "address_rejected"
    #: The address does not exist.
    NO_SUCH_ADDRESS = "no_such_address"
    #: An internal error of Tocsin.
    INTERNAL_ERROR = "internal_error"
    #: The sending process stopped.
    WORKER_LOST = "worker_lost"


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A failed attempt. `error` is for users and contains no secret; `retry_after` is the delay that the server
    requested.
    """

    kind: FailureKind
    error: Reason
    retry_after: timedelta | None = None


#: The first that matches counts.
_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (Throttled, FailureKind.THROTTLED),
    (OutcomeUnknown, FailureKind.OUTCOME_UNKNOWN),
    (Temporary, FailureKind.TEMPORARY),
    (NoSuchAddress, FailureKind.NO_SUCH_ADDRESS),
    (AddressRejected, FailureKind.ADDRESS_REJECTED),
    (NeedsAttention, FailureKind.BLOCKED),
)


def failure_of(error: Temporary | Permanent | Rejected) -> AttemptFailed:
    """Returns the failure that an error of a sender means."""
    kind = next((kind for error_type, kind in _KINDS if isinstance(error, error_type)), FailureKind.PERMANENT)
    return AttemptFailed(kind, error.full_reason, error.retry_after if isinstance(error, Temporary) else None)
