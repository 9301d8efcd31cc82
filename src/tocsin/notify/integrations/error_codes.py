"""The meaning of a vendor's error code. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from tocsin.core.delivery.failure import AddressRejected, FailureKind, NoSuchAddress
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class VendorError:
    """One error code: what it means and what to do, without a full stop."""

    reason: Reason
    #: PERMANENT: the account is the cause. ADDRESS_REJECTED: the recipient's number is, but it exists. TEMPORARY: the
    #: error is expected to pass within minutes.
    failure: FailureKind = FailureKind.PERMANENT

    def throw(self, reason: Reason, retry_after: timedelta | None) -> NoReturn:
        """Raises the error with `reason`, which names the vendor and the code."""
        match self.failure:
            case FailureKind.TEMPORARY:
                raise Temporary(reason, retry_after)
            case FailureKind.ADDRESS_REJECTED:
                raise AddressRejected(reason)
            case FailureKind.NO_SUCH_ADDRESS:
                raise NoSuchAddress(reason)
            case _:
                raise Permanent(reason)
