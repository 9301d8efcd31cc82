"""The meaning of a vendor's error code. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class VendorError:
    """One error code: what it means and what to do, without a full stop."""

    reason: Reason
    #: Whether the recipient's number is the cause, not the account.
    is_address_error: bool = False
    #: Whether the error is expected to pass within minutes.
    is_transient: bool = False
