"""Twilio's error codes (https://www.twilio.com/docs/api/errors) as reasons that say what to do. Pure data."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.core.delivery.failure import FailureKind
from tocsin.core.reasons import ReasonType
from tocsin.notify.integrations import reasons
from tocsin.notify.integrations.error_codes import VendorError

_ADDRESS, _NO_SUCH = FailureKind.ADDRESS_REJECTED, FailureKind.NO_SUCH_ADDRESS
_VENDOR = "Twilio"

_CREDENTIALS = ReasonType(
    "provider.twilio_credentials", "Twilio rejected the account SID and auth token. Enter them again"
)
_TEST_CREDENTIALS = ReasonType(
    "provider.twilio_test_credentials",
    "These are Twilio's test credentials, which send nothing. Enter the live credentials",
)
_UNKNOWN_ACCOUNT = ReasonType(
    "provider.twilio_unknown_account", "Twilio does not know this account. Check the account SID"
)
_FROM_NOT_VERIFIED = ReasonType(
    "provider.twilio_from_not_verified",
    "The From number is not verified for calls. Buy it from Twilio, or verify it there",
)
_FROM_NOT_OWNED = ReasonType("provider.twilio_from_not_owned", "The From number does not belong to this Twilio account")
_CALLS_TO_COUNTRY = ReasonType(
    "provider.twilio_calls_to_country",
    "Calls to this country are disabled. Allow them at Twilio under Voice, Geo permissions",
)
_TEXTS_TO_COUNTRY = ReasonType(
    "provider.twilio_texts_to_country",
    "Texts to this country are disabled. Allow them at Twilio under Messaging, Geo permissions",
)
_NOT_CALLED = ReasonType("provider.twilio_not_called", "Twilio does not call this number")
_TRIAL_CALLS = ReasonType(
    "provider.twilio_trial_calls",
    "A trial account calls verified numbers only. Verify this one at Twilio, or upgrade the account",
)
_TRIAL_TEXTS = ReasonType(
    "provider.twilio_trial_texts",
    "A trial account texts verified numbers only. Verify this one at Twilio, or upgrade the account",
)
_TRIAL_LENGTH = ReasonType(
    "provider.twilio_trial_length", "A trial account sends short texts only. Upgrade the account"
)
_TO_ITSELF = ReasonType("provider.twilio_to_itself", "The recipient's number is the From number itself")
_CHOOSE_FROM = ReasonType(
    "provider.twilio_choose_from", "The From number cannot send texts. Choose a number with SMS at Twilio"
)
_FROM_QUEUE_FULL = ReasonType("provider.twilio_from_queue_full", "Twilio's queue of the From number is full")
_NO_ROUTE = ReasonType("provider.twilio_no_route", "Twilio has no route from the From number to this recipient")
_NOT_MOBILE = ReasonType("provider.twilio_not_mobile", "The recipient's number is not a mobile phone")
_TEXT_TOO_LONG = ReasonType("provider.twilio_text_too_long", "The text is too long for Twilio")
_FROM_OF_OTHERS = ReasonType("provider.twilio_from_of_others", "The From number belongs to another Twilio account")
_ACCOUNT_QUEUE_FULL = ReasonType("provider.twilio_account_queue_full", "Twilio's queue of this account is full")
_SUSPENDED = ReasonType("provider.twilio_suspended", "The Twilio account is suspended. Check Twilio's console")
_BLOCKED = ReasonType("provider.twilio_blocked", "The recipient, or their carrier, blocks these texts")
_TOO_EXPENSIVE = ReasonType("provider.twilio_too_expensive", "The text costs more than the account's limit")
_CAMPAIGN_LIMIT = ReasonType(
    "provider.twilio_campaign_limit",
    "Too many texts for the registered campaign. Ask Twilio for a higher limit, or set a rate limit",
)
_TOLL_FREE_NOT_VERIFIED = ReasonType(
    "provider.twilio_toll_free_not_verified", "The toll-free From number is not verified. Verify it at Twilio"
)
_CARRIER_TIMED_OUT = ReasonType("provider.twilio_carrier_timed_out", "The carrier did not answer Twilio in time")
_NOT_CARRIED = ReasonType("provider.twilio_not_carried", "The recipient's carrier does not carry these texts")
_BLOCKED_CALLS = ReasonType("provider.twilio_blocked_calls", "Twilio blocks calls to this number as high-risk")

_NOT_A_NUMBER = VendorError(reasons.NOT_A_NUMBER(), _NO_SUCH)

ERRORS: Mapping[int, VendorError] = {
    20003: VendorError(_CREDENTIALS()),
    20008: VendorError(_TEST_CREDENTIALS()),
    20404: VendorError(_UNKNOWN_ACCOUNT()),
    21210: VendorError(_FROM_NOT_VERIFIED()),
    21211: _NOT_A_NUMBER,
    21212: VendorError(_FROM_NOT_OWNED()),
    21215: VendorError(_CALLS_TO_COUNTRY(), _ADDRESS),
    21216: VendorError(_NOT_CALLED(), _ADDRESS),
    21217: _NOT_A_NUMBER,
    21219: VendorError(_TRIAL_CALLS(), _ADDRESS),
    21266: VendorError(_TO_ITSELF(), _ADDRESS),
    21408: VendorError(_TEXTS_TO_COUNTRY(), _ADDRESS),
    21606: VendorError(_CHOOSE_FROM()),
    21608: VendorError(_TRIAL_TEXTS(), _ADDRESS),
    21610: VendorError(reasons.OPTED_OUT(), _ADDRESS),
    21611: VendorError(_FROM_QUEUE_FULL(), FailureKind.TEMPORARY),
    21612: VendorError(_NO_ROUTE(), _ADDRESS),
    21614: VendorError(_NOT_MOBILE(), _NO_SUCH),
    21617: VendorError(_TEXT_TOO_LONG()),
    21659: VendorError(_FROM_NOT_OWNED()),
    21660: VendorError(_FROM_OF_OTHERS()),
    30001: VendorError(_ACCOUNT_QUEUE_FULL(), FailureKind.TEMPORARY),
    30002: VendorError(_SUSPENDED()),
    30003: VendorError(reasons.UNREACHABLE_PHONE(), _ADDRESS),
    30004: VendorError(_BLOCKED(), _ADDRESS),
    30005: VendorError(reasons.NOT_IN_SERVICE(), _ADDRESS),
    30006: VendorError(reasons.LANDLINE(), _ADDRESS),
    30007: VendorError(reasons.SPAM(vendor=_VENDOR)),
    30008: VendorError(reasons.CARRIER_GAVE_NO_REASON()),
    30010: VendorError(_TOO_EXPENSIVE()),
    30022: VendorError(_CAMPAIGN_LIMIT(), FailureKind.TEMPORARY),
    30032: VendorError(_TOLL_FREE_NOT_VERIFIED()),
    30034: VendorError(reasons.NOT_REGISTERED_US(vendor=_VENDOR)),
    30044: VendorError(_TRIAL_LENGTH()),
    30410: VendorError(_CARRIER_TIMED_OUT(), FailureKind.TEMPORARY),
    30485: VendorError(_NOT_CARRIED(), _ADDRESS),
    32203: VendorError(_BLOCKED_CALLS(), _ADDRESS),
    13223: _NOT_A_NUMBER,
    13224: _NOT_A_NUMBER,
    13225: VendorError(_NOT_CALLED(), _ADDRESS),
    13227: VendorError(_CALLS_TO_COUNTRY(), _ADDRESS),
}


def find_error(code: object) -> VendorError | None:
    """Returns the meaning of a code as Twilio sends it; None if it is unknown."""
    text = str(code or "")
    return ERRORS.get(int(text)) if text.isascii() and text.isdigit() else None
