"""What providers report, for several kinds: failures of their servers, and rejections of a recipient's number."""

from __future__ import annotations

from tocsin.core.reasons import Reason, ReasonType

#: `answer` is the status, and the vendor's own message if there is one: "403: not allowed".
CREDENTIALS_REJECTED = ReasonType("provider.credentials_rejected", "{server} rejected the credentials ({answer}).")
BUSY = ReasonType("provider.busy", "{server} accepts no more messages for now ({answer}).")
SERVER_ERROR = ReasonType("provider.server_error", "{server} has an internal problem ({answer}).")
REDIRECTED = ReasonType("provider.redirected", "{server} redirects to another address ({answer}).")
ENTER_FINAL_ADDRESS = ReasonType("provider.enter_final_address", "Enter the final URL, without a redirect.")
MESSAGE_REJECTED = ReasonType("provider.message_rejected", "{server} rejected the message ({answer}).")
UNEXPECTED_RESPONSE = ReasonType(
    "provider.unexpected_response", "{server} sent an unexpected response. The message may not have arrived."
)
#: For a server that the settings do not name yet.
GATEWAY = ReasonType("provider.gateway", "The gateway")

#: A vendor's error with its code, so that it can be looked up.
WITH_VENDOR_CODE = ReasonType("provider.with_vendor_code", "{problem} ({vendor} {code}).")
NOT_DELIVERED = ReasonType("provider.text_not_delivered", "The text was not delivered.")
NOT_DELIVERED_CODE = ReasonType("provider.text_not_delivered_code", "The text was not delivered")

#: Two vendors report these. Without a full stop: the code follows.
NOT_A_NUMBER = ReasonType("provider.not_a_phone_number", "The recipient's number is not a phone number")
LANDLINE = ReasonType("provider.landline", "The number is a landline, which receives no texts")
OPTED_OUT = ReasonType(
    "provider.recipient_opted_out",
    "The recipient has opted out with STOP, and must send START to receive texts again",
)
CARRIER_GAVE_NO_REASON = ReasonType(
    "provider.carrier_gave_no_reason", "The carrier did not deliver the text and gave no reason"
)
FROM_CANNOT_TEXT = ReasonType("provider.from_cannot_text", "The From number cannot send texts")
NOT_REGISTERED_US = ReasonType(
    "provider.from_not_registered_us",
    "The From number is not registered for texts to the US (A2P 10DLC). Register it with {vendor}",
)
SPAM = ReasonType(
    "provider.text_blocked_as_spam",
    "The carrier blocked the text as spam. Register the From number's use with {vendor}",
)
NOT_IN_SERVICE = ReasonType("provider.number_not_in_service", "The number is not in service")
UNREACHABLE_PHONE = ReasonType("provider.phone_unreachable", "The phone was off or out of reach")


def with_code(problem: Reason, vendor: str, code: str) -> Reason:
    """Returns a vendor's error with its code."""
    return WITH_VENDOR_CODE(problem=problem, vendor=vendor, code=code)
