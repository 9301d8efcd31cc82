"""Telnyx's error codes (https://support.telnyx.com, "Messaging Error Codes") as sentences. Pure data."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.notify.integrations.error_codes import VendorError

_ADDRESS = True

ERRORS: Mapping[str, VendorError] = {
    "10002": VendorError("The recipient's number is not a phone number.", _ADDRESS),
    "10009": VendorError("Telnyx does not accept the API key. Enter it again."),
    "20100": VendorError("The Telnyx account has no balance left. Top it up."),
    "40001": VendorError("The number is a landline, which takes no texts.", _ADDRESS),
    "40002": VendorError("The operator took the text for spam for now. Register the From number's use at Telnyx."),
    "40003": VendorError("The operator took the text for spam for good. Register the From number's use at Telnyx."),
    "40004": VendorError("The recipient's operator refused the text.", _ADDRESS),
    "40005": VendorError("The text was not delivered in time."),
    "40006": VendorError("The recipient's operator is away.", is_transient=True),
    "40008": VendorError("The operator did not deliver the text, and says no reason."),
    "40009": VendorError("The text has characters that this recipient's operator does not take.", _ADDRESS),
    "40010": VendorError("The From number is not registered for texts to the US (A2P 10DLC). Register it at Telnyx."),
    "40011": VendorError("The operator takes no more texts from this number for now.", is_transient=True),
    "40012": VendorError("Texts to this kind of number are not carried.", _ADDRESS),
    "40300": VendorError("The recipient has opted out with STOP, and must send START to get texts again.", _ADDRESS),
    "40305": VendorError("The From number is not one of this messaging profile's. Add it at Telnyx."),
    "40306": VendorError("The sender name is not allowed. Register it at Telnyx, or use a number."),
    "40310": VendorError("The recipient's number is not a phone number.", _ADDRESS),
    "40311": VendorError("The From number cannot send texts."),
    "40312": VendorError("The messaging profile is switched off at Telnyx."),
    "40318": VendorError("Telnyx's queue of this number is full.", is_transient=True),
    "40322": VendorError("The text has words or addresses in it that Telnyx does not carry."),
    "40331": VendorError(
        "Texts to this country are switched off. Allow it in the messaging profile at Telnyx.", _ADDRESS
    ),
    "40333": VendorError("The messaging profile has reached its spending limit. Raise it at Telnyx."),
}


def find_error(code: str) -> VendorError | None:
    """Returns the meaning of a code; None if it is unknown."""
    return ERRORS.get(code)
