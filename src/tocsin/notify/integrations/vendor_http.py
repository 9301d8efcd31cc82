"""What several kinds of provider share: reasons, errors by code and status, callbacks, and tolerant JSON."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NoReturn
from urllib.parse import urlencode

from tocsin.alerts.states import Priority
from tocsin.core.delivery.circuit_breaker import ENTER_CREDENTIALS, AddressRejected, FailureKind, NoSuchAddress
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import DEADLINE, EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Text, joined, sentence
from tocsin.notify.interfaces import (
    Cost,
    EventReceiver,
    InboundText,
    ProviderAccount,
    ProviderSender,
    Quota,
    Receipt,
    Rendered,
)
from tocsin.notify.states import ReceiptState

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
GATEWAY = Text("The gateway")

#: A vendor's error with its code, so that it can be looked up.
WITH_VENDOR_CODE = ReasonType("provider.with_vendor_code", "{problem} ({vendor} {code}).")
NOT_DELIVERED = ReasonType("provider.text_not_delivered", "The text was not delivered.")

SIGNED_IN = ReasonType("provider.signed_in", "Signed in to {vendor}.")
SIGNED_IN_BALANCE = ReasonType("provider.signed_in_balance", "Signed in to {vendor}, balance {balance}.")
NO_CALLBACKS = ReasonType("provider.no_callbacks", "Set the public URL to receive replies and delivery receipts.")
VENDOR_ERROR = ReasonType("provider.vendor_error", "{vendor} reports: {error}.")
NOT_AN_EVENT = Text("This is no event of {vendor}'s.")
ANSWER_FAILED = Text("The reply could not be sent: {error}")

#: What vendors of texts report. Without a full stop: the code follows.
CREDENTIALS = Text("{vendor} rejected the credentials. Enter them again")
REJECTED_TEXT = Text("{vendor} rejected the text: {error}")
NO_BALANCE = Text("The {vendor} account has no balance left. Top it up")
SUSPENDED = Text("The {vendor} account is suspended. Check {vendor}'s console")
TRIAL = Text("A trial account reaches verified numbers only. Verify this one at {vendor}, or upgrade the account")
QUEUE_FULL = Text("{vendor}'s queue of the From number is full")
FROM_NOT_OWNED = Text("The From number does not belong to this {vendor} account")
SENDER_NAME = Text("The sender name is not allowed. Register it with {vendor}, or use a number")
TEXTS_TO_COUNTRY = Text("Texts to this country are disabled. Allow them at {vendor}")
NO_ROUTE = Text("{vendor} has no route from the From number to this recipient")
TEXT_TOO_LONG = Text("The text is too long for {vendor}")
CONTENT = Text("The text contains words or links that {vendor} does not carry")
CHARACTERS = Text("The text contains characters that the recipient's carrier does not accept")
EXPIRED = Text("The text was not delivered in time")
BLOCKED = Text("The recipient, or their carrier, blocks these texts")
REJECTED_BY_CARRIER = Text("The recipient's carrier rejected the text")
CARRIER_DOWN = Text("The recipient's carrier is unavailable")
CARRIER_BUSY = Text("The carrier accepts no more texts from this number for now")
NOT_A_NUMBER = Text("The recipient's number is not a phone number")
LANDLINE = Text("The number is a landline, which receives no texts")
OPTED_OUT = Text("The recipient has opted out with STOP, and must send START to receive texts again")
CARRIER_GAVE_NO_REASON = Text("The carrier did not deliver the text and gave no reason")
FROM_CANNOT_TEXT = Text("The From number cannot send texts")
NOT_REGISTERED_US = Text("The From number is not registered for texts to the US (A2P 10DLC). Register it with {vendor}")
SPAM = Text("The carrier blocked the text as spam. Register the From number's use with {vendor}")
NOT_IN_SERVICE = Text("The number is not in service")
UNREACHABLE_PHONE = Text("The phone was off or out of reach")


class HttpSender:
    """What senders by HTTP share: an account, the base URL of its API, and a client."""

    #: The vendor's own base URL, which the setting `api_base` replaces.
    api = ""
    #: The vendor's quota, as its last answer said.
    quota: Quota | None = None

    def __init__(self, account: ProviderAccount) -> None:
        self._account = account
        self._base = str(account.settings.get("api_base") or self.api).rstrip("/")
        self._client = HttpClient(trusted=account.is_trusted)

    def close(self) -> None:
        self._client.close()

    def _post_json(
        self, url: str, document: object, headers: Mapping[str, str], deadline: float = DEADLINE
    ) -> EgressResponse:
        all_headers = {"Content-Type": "application/json", **headers}
        # Escaped as \uXXXX, a text would take up to three times as many bytes, of which servers read a few thousand.
        content = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        return self._client.request("POST", url, headers=all_headers, content=content, deadline=deadline)

    def _with_callback_note(self, verified: Reason, note: ReasonType | None = None) -> Reason:
        """Returns what was verified, and what is missing for the vendor to call back."""
        missing = NO_REASON if self._account.callback_base_url else (note or NO_CALLBACKS)()
        return joined(verified, missing, separator=" ")


def callback_url(account: ProviderAccount, endpoint: str, **query: str) -> str:
    """Returns the URL that the vendor calls back. With the idempotency key as `n`, an early callback finds its message
    before the vendor's id of it is stored.
    """
    given = urlencode({name: value for name, value in query.items() if value})
    return f"{account.callback_base_url}/{endpoint}{f'?{given}' if given else ''}"


def priority_of(rendered: Rendered, priorities: Mapping[Priority, int], *, quiet: int, default: int) -> int:
    """Returns a push service's number for a message's priority: that of its alert if it asks for a response. A test is
    as loud as a page can be: it shows whether one rings.
    """
    if rendered.is_test:
        return priorities[Priority.CRITICAL]
    if rendered.priority is None:
        return default
    return priorities[rendered.priority] if rendered.buttons else quiet


def basic_authorization(user: str, password: str) -> str:
    """Returns the value of the Authorization header (RFC 7617)."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


# ---------- error codes


@dataclass(frozen=True, slots=True)
class VendorError:
    """One error code: what it means and what to do, without a full stop."""

    reason: Reason
    #: PERMANENT: the account is the cause. ADDRESS_REJECTED: the recipient's number is, but it exists. TEMPORARY: the
    #: error is expected to pass within minutes.
    failure: FailureKind = FailureKind.PERMANENT

    def named(self, vendor: str, code: str) -> Reason:
        return WITH_VENDOR_CODE(problem=self.reason, vendor=vendor, code=code)

    def throw(self, vendor: str, code: str, retry_after: timedelta | None) -> NoReturn:
        """Raises the error, with the vendor and the code."""
        reason = self.named(vendor, code)
        match self.failure:
            case FailureKind.TEMPORARY:
                raise Temporary(reason, retry_after)
            case FailureKind.ADDRESS_REJECTED:
                raise AddressRejected(reason)
            case FailureKind.NO_SUCH_ADDRESS:
                raise NoSuchAddress(reason)
            case _:
                raise Permanent(reason)


def raise_for_error(
    response: EgressResponse, vendor: str, code: str, error: VendorError | None, message: str = ""
) -> NoReturn:
    """Raises the error that an unsuccessful response means: by the vendor's code if it is known, else by the status."""
    if error is not None and 400 <= response.status < 500 and response.status not in RETRYABLE_STATUSES:
        error.throw(vendor, code, response.retry_after)
    raise_for_status(response, vendor, message)


def failed_receipt(
    vendor: str, code: str, error: VendorError | None, *, key: str, external_id: str, message: str = ""
) -> Receipt:
    """Returns the receipt of a text that was not delivered. `message` is the vendor's text, for an unknown code."""
    if error is None and message:
        reason, failure = VENDOR_ERROR(vendor=vendor, error=message), FailureKind.PERMANENT
    elif error is None and not code:
        reason, failure = NOT_DELIVERED(), FailureKind.PERMANENT
    else:
        known = error or VendorError(sentence("The text was not delivered"))
        reason, failure = known.named(vendor, code), known.failure
    return Receipt(ReceiptState.FAILED, key, external_id, reason, failure)


def cost_of(amount: object, currency: object) -> Cost | None:
    """Returns what a vendor says that a message cost; None if it does not say, or says nonsense."""
    try:
        value = abs(Decimal(str(amount)))
    except InvalidOperation:
        return None
    code = str(currency or "").upper()
    is_plausible = value.is_finite() and value < 10_000 and len(code) == 3 and code.isascii() and code.isalpha()
    return Cost(value, code) if is_plausible else None


#: An older signed request is a replay.
MAX_SIGNATURE_AGE = timedelta(minutes=5)


def is_recent(timestamp: str, at: datetime) -> bool:
    """Returns whether `timestamp`, in seconds since 1970 as vendors sign it, is close enough to `at`."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        return False
    return abs(at.timestamp() - int(timestamp)) <= MAX_SIGNATURE_AGE.total_seconds()


def reply_separately(sender: ProviderSender, receiver: EventReceiver, message: InboundText) -> None:
    """Handles a text of a vendor that takes no reply in the response: it is a message of its own. Closes the sender."""
    try:
        if reply := receiver.handle_text(message):
            sender.send(Rendered("", reply), message.channel, message.sender, f"answer-{message.external_id}")
    except (Permanent, Temporary) as error:
        # The command has been carried out; only its confirmation failed.
        raise Rejected("invalid", ANSWER_FAILED(error=error.reason)) from None
    finally:
        sender.close()


# ---------- http status


#: Temporary client errors.
RETRYABLE_STATUSES = frozenset({408, 425, 429, 507})


def raise_for_status(response: EgressResponse, server: str | Reason, message: str = "") -> NoReturn:
    """Raises the error that an unsuccessful response means. `message` is the vendor's text, without secrets.

    Raises Temporary for 408, 425, 429, 507 and 5xx, Permanent for everything else.
    """
    answer = f"{response.status}: {message}" if message else str(response.status)
    match response.status:
        case 401 | 403:
            rejected = CREDENTIALS_REJECTED(server=server, answer=answer)
            raise Permanent(rejected, ENTER_CREDENTIALS())
        case status if status in RETRYABLE_STATUSES:
            raise Temporary(BUSY(server=server, answer=answer), response.retry_after)
        case status if status >= 500:
            raise Temporary(SERVER_ERROR(server=server, answer=answer), response.retry_after)
        case status if 300 <= status < 400:
            redirected = REDIRECTED(server=server, answer=str(status))
            raise Permanent(redirected, ENTER_FINAL_ADDRESS())
        case _:
            raise Permanent(MESSAGE_REJECTED(server=server, answer=answer))


def body(response: EgressResponse) -> dict[str, Any]:
    """Returns the response's JSON object; an empty one for anything else, such as an HTML page."""
    value = content(response)
    return value if isinstance(value, dict) else {}


def content(response: EgressResponse) -> object:
    """Returns the response's JSON value, or None if it is not JSON."""
    try:
        return json.loads(response.body)
    except ValueError:
        return None


def no_answer(server: str | Reason) -> OutcomeUnknown:
    """Returns the error for a 2xx response that is not the vendor's: a proxy or a captive portal may have answered."""
    return OutcomeUnknown(UNEXPECTED_RESPONSE(server=server))


def line(text: object, max_chars: int = 150) -> str:
    """Returns a vendor's text as one short line without a full stop."""
    return " ".join(str(text).split())[:max_chars].rstrip(".")


# ---------- json object
# Tolerant access to the JSON in vendors' callbacks: a value of an unexpected type never raises. Pure.


#: A body that is nested deeper is rejected. No vendor's body is.
MAX_DEPTH = 60


def parsed(body: bytes | str) -> dict[str, Any]:
    """Returns the JSON object in a body. Raises ValueError for anything else."""
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("It nests too deep.") from None
    if not isinstance(document, dict):
        raise ValueError("It is no object.")
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for parent in level for inner in _children(parent)]
        if not level:
            return document
    raise ValueError("It nests too deep.")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def child(value: object, *names: str) -> dict[str, Any]:
    """Returns the object at the end of these keys, or an empty one."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Returns `value` if it is a list, else an empty list."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Returns a string, or an integer as a string; empty for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


# ---------- background post
# Sends follow-up requests of a webhook after its response, because vendors wait only a few seconds.
#
# Only for requests that may be lost, such as updating a chat message after a button press: they are not retried.


log = logging.getLogger(__name__)

_THREADS = 2
_DEADLINE = 10.0


def post_json(url: str, document: object, *, is_trusted: bool) -> None:
    """Posts a JSON document in the background and logs a failure. `url` may contain a secret and is not logged."""
    _pool().submit(_post, url, json.dumps(document).encode(), is_trusted)


def _post(url: str, body: bytes, is_trusted: bool) -> None:
    client = HttpClient(trusted=is_trusted)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    try:
        response = client.request("POST", url, headers=headers, content=body, deadline=_DEADLINE)
        if response.status >= 300:
            log.warning("A call that follows a chat's message failed: the service answered %d.", response.status)
    except (Temporary, Permanent) as error:
        log.warning("A call that follows a chat's message failed: %s", error.detail)
    finally:
        client.close()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="afterwards")
