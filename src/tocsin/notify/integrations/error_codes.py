"""The meaning of a vendor's error code. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VendorError:
    """One error code: a sentence that says what to do."""

    sentence: str
    #: Whether the recipient's number is the cause, not the account.
    is_address_error: bool = False
    #: Whether the error is expected to pass within minutes.
    is_transient: bool = False
