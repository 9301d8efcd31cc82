"""What a vendor's error code means: a sentence that says what to do. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VendorError:
    """One code."""

    sentence: str
    #: Whether it is the recipient's number, and not the account.
    is_address: bool = False
    #: Whether it ends by itself within minutes.
    is_passing: bool = False
