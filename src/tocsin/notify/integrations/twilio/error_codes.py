"""Twilio's error codes (https://www.twilio.com/docs/api/errors) as sentences that say what to do. Pure data."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.notify.integrations.error_codes import VendorError

_ADDRESS = True

ERRORS: Mapping[int, VendorError] = {
    20003: VendorError("Twilio does not accept the account SID and auth token. Enter them again."),
    20008: VendorError("These are Twilio's test credentials, which send nothing. Enter the live ones."),
    20404: VendorError("Twilio does not know this account. Check the account SID."),
    21210: VendorError("The From number is not verified for calls. Buy it at Twilio, or verify it there."),
    21211: VendorError("The recipient's number is not a phone number.", _ADDRESS),
    21212: VendorError("The From number is not one of this Twilio account's."),
    21215: VendorError(
        "Calls to this country are switched off. Allow them at Twilio under Voice, Geo permissions.", _ADDRESS
    ),
    21216: VendorError("Twilio does not call this number.", _ADDRESS),
    21217: VendorError("The recipient's number is not a phone number.", _ADDRESS),
    21219: VendorError("A trial account calls verified numbers only. Verify this one at Twilio, or upgrade.", _ADDRESS),
    21266: VendorError("The recipient's number is the From number itself.", _ADDRESS),
    21408: VendorError(
        "Texts to this country are switched off. Allow them at Twilio: Messaging, Geo permissions.", _ADDRESS
    ),
    21606: VendorError("The From number cannot send texts. Choose one with SMS at Twilio."),
    21608: VendorError("A trial account texts verified numbers only. Verify this one at Twilio, or upgrade.", _ADDRESS),
    21610: VendorError("The recipient has opted out with STOP, and must send START to get texts again.", _ADDRESS),
    21611: VendorError("Twilio's queue of the From number is full.", is_transient=True),
    21612: VendorError("Twilio has no way from the From number to this recipient.", _ADDRESS),
    21614: VendorError("The recipient's number is not a mobile phone.", _ADDRESS),
    21617: VendorError("The text is too long for Twilio."),
    21659: VendorError("The From number is not one of this Twilio account's."),
    21660: VendorError("The From number belongs to another Twilio account."),
    30001: VendorError("Twilio's queue of this account is full.", is_transient=True),
    30002: VendorError("The Twilio account is suspended. Look at Twilio's console."),
    30003: VendorError("The phone was off or out of reach.", _ADDRESS),
    30004: VendorError("The recipient, or their operator, blocks these texts.", _ADDRESS),
    30005: VendorError("The number is not in service.", _ADDRESS),
    30006: VendorError("The number is a landline, which takes no texts.", _ADDRESS),
    30007: VendorError("The operator took the text for spam. Register the From number's use at Twilio."),
    30008: VendorError("The operator did not deliver the text, and says no reason."),
    30010: VendorError("The text costs more than the account's limit."),
    30022: VendorError(
        "Too many texts for the registered campaign. Ask Twilio for a higher limit, or set messages a minute.",
        is_transient=True,
    ),
    30032: VendorError("The toll-free From number is not verified. Verify it at Twilio."),
    30034: VendorError("The From number is not registered for texts to the US (A2P 10DLC). Register it at Twilio."),
    30044: VendorError("A trial account sends short texts only. Upgrade the account."),
    30410: VendorError("The operator did not answer Twilio in time.", is_transient=True),
    30485: VendorError("The recipient's operator does not carry these texts.", _ADDRESS),
    32203: VendorError("Twilio blocks calls to this number as dangerous.", _ADDRESS),
    13223: VendorError("The recipient's number is not a phone number.", _ADDRESS),
    13224: VendorError("The recipient's number is not a phone number.", _ADDRESS),
    13225: VendorError("Twilio does not call this number.", _ADDRESS),
    13227: VendorError(
        "Calls to this country are switched off. Allow them at Twilio under Voice, Geo permissions.", _ADDRESS
    ),
}


def find_error(code: object) -> VendorError | None:
    """Returns the meaning of a code as Twilio sends it; None if it is unknown."""
    text = str(code or "")
    return ERRORS.get(int(text)) if text.isascii() and text.isdigit() else None
