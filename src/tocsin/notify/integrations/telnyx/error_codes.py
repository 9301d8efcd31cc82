"""Telnyx's error codes (https://support.telnyx.com, "Messaging Error Codes") as reasons. Pure data."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.core.delivery.failure import FailureKind
from tocsin.core.reasons import ReasonType
from tocsin.notify.integrations import reasons
from tocsin.notify.integrations.error_codes import VendorError

_ADDRESS, _NO_SUCH = FailureKind.ADDRESS_REJECTED, FailureKind.NO_SUCH_ADDRESS
_VENDOR = "Telnyx"

_API_KEY = ReasonType("provider.telnyx_api_key", "Telnyx rejected the API key. Enter it again")
_NO_BALANCE = ReasonType("provider.telnyx_no_balance", "The Telnyx account has no balance left. Top it up")
_SPAM_PERMANENTLY = ReasonType(
    "provider.telnyx_spam_permanently",
    "The carrier blocked the text as spam permanently. Register the From number's use with Telnyx",
)
_REJECTED_BY_CARRIER = ReasonType("provider.telnyx_rejected_by_carrier", "The recipient's carrier rejected the text")
_EXPIRED = ReasonType("provider.telnyx_expired", "The text was not delivered in time")
_CARRIER_DOWN = ReasonType("provider.telnyx_carrier_down", "The recipient's carrier is unavailable")
_CHARACTERS = ReasonType(
    "provider.telnyx_characters", "The text contains characters that the recipient's carrier does not accept"
)
_CARRIER_BUSY = ReasonType("provider.telnyx_carrier_busy", "The carrier accepts no more texts from this number for now")
_NUMBER_TYPE = ReasonType("provider.telnyx_number_type", "Texts to this type of number are not supported")
_FROM_NOT_IN_PROFILE = ReasonType(
    "provider.telnyx_from_not_in_profile",
    "The From number does not belong to this messaging profile. Add it at Telnyx",
)
_SENDER_NAME = ReasonType(
    "provider.telnyx_sender_name", "The sender name is not allowed. Register it with Telnyx, or use a number"
)
_PROFILE_DISABLED = ReasonType("provider.telnyx_profile_disabled", "The messaging profile is disabled at Telnyx")
_QUEUE_FULL = ReasonType("provider.telnyx_queue_full", "Telnyx's queue of this number is full")
_CONTENT = ReasonType("provider.telnyx_content", "The text contains words or links that Telnyx does not carry")
_COUNTRY = ReasonType(
    "provider.telnyx_country",
    "Texts to this country are disabled. Allow it in the messaging profile at Telnyx",
)
_SPENDING_LIMIT = ReasonType(
    "provider.telnyx_spending_limit", "The messaging profile has reached its spending limit. Raise it at Telnyx"
)

ERRORS: Mapping[str, VendorError] = {
    "10002": VendorError(reasons.NOT_A_NUMBER(), _NO_SUCH),
    "10009": VendorError(_API_KEY()),
    "20100": VendorError(_NO_BALANCE()),
    "40001": VendorError(reasons.LANDLINE(), _ADDRESS),
    "40002": VendorError(reasons.SPAM(vendor=_VENDOR)),
    "40003": VendorError(_SPAM_PERMANENTLY()),
    "40004": VendorError(_REJECTED_BY_CARRIER(), _ADDRESS),
    "40005": VendorError(_EXPIRED()),
    "40006": VendorError(_CARRIER_DOWN(), FailureKind.TEMPORARY),
    "40008": VendorError(reasons.CARRIER_GAVE_NO_REASON()),
    "40009": VendorError(_CHARACTERS(), _ADDRESS),
    "40010": VendorError(reasons.NOT_REGISTERED_US(vendor=_VENDOR)),
    "40011": VendorError(_CARRIER_BUSY(), FailureKind.TEMPORARY),
    "40012": VendorError(_NUMBER_TYPE(), _ADDRESS),
    "40300": VendorError(reasons.OPTED_OUT(), _ADDRESS),
    "40305": VendorError(_FROM_NOT_IN_PROFILE()),
    "40306": VendorError(_SENDER_NAME()),
    "40310": VendorError(reasons.NOT_A_NUMBER(), _NO_SUCH),
    "40311": VendorError(reasons.FROM_CANNOT_TEXT()),
    "40312": VendorError(_PROFILE_DISABLED()),
    "40318": VendorError(_QUEUE_FULL(), FailureKind.TEMPORARY),
    "40322": VendorError(_CONTENT()),
    "40331": VendorError(_COUNTRY(), _ADDRESS),
    "40333": VendorError(_SPENDING_LIMIT()),
}


def find_error(code: str) -> VendorError | None:
    """Returns the meaning of a code; None if it is unknown."""
    return ERRORS.get(code)
