"""The Telnyx provider kind: text messages and phone calls."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import Reason, ReasonType, sentence, translatable
from tocsin.notify.channels.phone import is_phone_number, sender
from tocsin.notify.integrations import twiml, vendor_http
from tocsin.notify.integrations.twiml import Dialect, HotlineKind, HotlineSender
from tocsin.notify.integrations.vendor_http import VendorError, child, items, text
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    EventReceiver,
    InboundText,
    InvalidWebhookSignature,
    ProviderAccount,
    ProviderSetting,
    ProviderSettingType,
    Receipt,
    Rendered,
    WebhookEndpoint,
)
from tocsin.notify.states import ReceiptState

# ---------- error codes
# Telnyx's error codes (https://support.telnyx.com, "Messaging Error Codes") as reasons. Pure data.


_ADDRESS, _NO_SUCH = FailureKind.ADDRESS_REJECTED, FailureKind.NO_SUCH_ADDRESS
_VENDOR = "Telnyx"


ERRORS: Mapping[str, VendorError] = {
    "10005": VendorError(sentence("Telnyx does not know the TeXML application. Check its ID")),
    "10002": VendorError(vendor_http.NOT_A_NUMBER(), _NO_SUCH),
    "10009": VendorError(vendor_http.CREDENTIALS(vendor=_VENDOR)),
    "20100": VendorError(vendor_http.NO_BALANCE(vendor=_VENDOR)),
    "40001": VendorError(vendor_http.LANDLINE(), _ADDRESS),
    "40002": VendorError(vendor_http.SPAM(vendor=_VENDOR)),
    "40003": VendorError(
        sentence("The carrier blocked the text as spam permanently. Register the From number's use with Telnyx")
    ),
    "40004": VendorError(vendor_http.REJECTED_BY_CARRIER(), _ADDRESS),
    "40005": VendorError(vendor_http.EXPIRED()),
    "40006": VendorError(vendor_http.CARRIER_DOWN(), FailureKind.TEMPORARY),
    "40008": VendorError(vendor_http.CARRIER_GAVE_NO_REASON()),
    "40009": VendorError(vendor_http.CHARACTERS(), _ADDRESS),
    "40010": VendorError(vendor_http.NOT_REGISTERED_US(vendor=_VENDOR)),
    "40011": VendorError(vendor_http.CARRIER_BUSY(), FailureKind.TEMPORARY),
    "40012": VendorError(sentence("Texts to this type of number are not supported"), _ADDRESS),
    "40300": VendorError(vendor_http.OPTED_OUT(), _ADDRESS),
    "40305": VendorError(sentence("The From number does not belong to this messaging profile. Add it at Telnyx")),
    "40306": VendorError(vendor_http.SENDER_NAME(vendor=_VENDOR)),
    "40310": VendorError(vendor_http.NOT_A_NUMBER(), _NO_SUCH),
    "40311": VendorError(vendor_http.FROM_CANNOT_TEXT()),
    "40312": VendorError(sentence("The messaging profile is disabled at Telnyx")),
    "40318": VendorError(vendor_http.QUEUE_FULL(vendor=_VENDOR), FailureKind.TEMPORARY),
    "40322": VendorError(vendor_http.CONTENT(vendor=_VENDOR)),
    "40331": VendorError(vendor_http.TEXTS_TO_COUNTRY(vendor=_VENDOR), _ADDRESS),
    "40333": VendorError(sentence("The messaging profile has reached its spending limit. Raise it at Telnyx")),
}


# ---------- provider
# The `telnyx` provider kind: texts with delivery receipts and replies
# (https://developers.telnyx.com/docs/messaging), and calls
# (https://developers.telnyx.com/api-reference/texml-rest-commands/initiate-an-outbound-call).


API = "https://api.telnyx.com"

#: Recordings come from storage at Amazon, by URLs that are signed and expire.
_DIALECT = Dialect(
    _VENDOR,
    "Texml",
    {"channels": "single"},
    ("transcription", "transcriptionCallback"),
    media_hosts=("telnyx.com", "amazonaws.com"),
)
#: The call has ended (https://support.telnyx.com, "Call Control error codes").
_CALL_OVER = "90018"

_NO_ORGANIZATION = ReasonType(
    "provider.telnyx_no_organization", "Telnyx did not say which organization the API key belongs to."
)


_STATES = {
    "delivered": ReceiptState.DELIVERED,
    "sending_failed": ReceiptState.FAILED,
    "delivery_failed": ReceiptState.FAILED,
    "expired": ReceiptState.FAILED,
}


class TelnyxSender(HotlineSender):
    """Sends with one Telnyx account."""

    api = API
    dialect = _DIALECT

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(account)
        self._account_id = ""

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        if channel == "voice":
            return self._start_call(
                twiml.call_parameters(self._account, rendered, address, idempotency_key, inline=_DIALECT.inline)
            )
        body: dict[str, Any] = {
            "from": sender(str(self._account.settings.get("from_number") or "")),
            "to": address,
            "text": rendered.text,
        }
        if profile := self._account.settings.get("messaging_profile_id"):
            body["messaging_profile_id"] = str(profile)
        if self._account.callback_base_url:
            body["webhook_url"] = vendor_http.callback_url(self._account, "status", n=idempotency_key)
        answer = self._post("/v2/messages", body, {"Idempotency-Key": idempotency_key})
        if not (external_id := text(child(answer, "data").get("id"))):
            raise vendor_http.no_answer(_VENDOR)
        return external_id[:100]

    def verify(self) -> Reason:
        data = child(self._get("/v2/balance"), "data")
        if self._application:
            self._organization()
            self._get(f"/v2/texml_applications/{quote(self._application, safe='')}")
        balance = " ".join(vendor_http.line(data.get(name, ""), 20) for name in ("balance", "currency")).strip()
        with_balance = vendor_http.SIGNED_IN_BALANCE(vendor=_VENDOR, balance=balance)
        return self._with_callback_note(with_balance if balance else vendor_http.SIGNED_IN(vendor=_VENDOR))

    def _start_call(self, fields: dict[str, Any]) -> str:
        document = {**fields, "ApplicationSid": self._application}
        if "StatusCallbackEvent" in fields:
            document["StatusCallbackEvent"] = " ".join(fields["StatusCallbackEvent"])
        if "MachineDetection" in fields:
            # What Telnyx recommends: the other one takes more persons for machines.
            document["DetectionMode"] = "Premium"
        if "AsyncAmd" in fields:
            document["AsyncAmd"] = True
        answer = self._post(self._account_path("Calls"), document, {})
        external_id = text(answer.get("call_sid"))
        # The reference shows no id in the answer. The callbacks name the message by its key.
        if not external_id and not answer.get("status"):
            raise vendor_http.no_answer(_VENDOR)
        return external_id[:100]

    def _request_of_account(
        self, method: str, resource: str, fields: Mapping[str, str] | None = None
    ) -> EgressResponse | None:
        form = {"Content-Type": "application/x-www-form-urlencoded"} if fields else {}
        response = self._client.request(
            method,
            f"{self._base}{self._account_path(resource)}",
            headers={**self._headers(), **form},
            content=urlencode(fields or {}).encode(),
        )
        if response.status == 404 or _first_error(vendor_http.body(response).get("errors"))[0] == _CALL_OVER:
            return None
        if response.status not in (200, 201, 202, 204):
            _fail(response)
        return response

    def _media_headers(self) -> dict[str, str]:
        return self._headers()

    def _account_path(self, resource: str) -> str:
        return f"/v2/texml/Accounts/{quote(self._organization(), safe='')}/{resource}"

    @property
    def _application(self) -> str:
        return str(self._account.settings.get("texml_application_id") or "")

    def _organization(self) -> str:
        """The account in the path of calls, which the portal does not show."""
        if not self._account_id:
            answer = self._get("/v2/whoami")
            self._account_id = text((child(answer, "data") or answer).get("organization_id"))
        if not self._account_id:
            raise Permanent(_NO_ORGANIZATION())
        return self._account_id

    def _get(self, path: str) -> dict[str, Any]:
        response = self._client.request("GET", f"{self._base}{path}", headers=self._headers())
        if response.status != 200:
            _fail(response)
        return vendor_http.body(response)

    def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        response = self._post_json(f"{self._base}{path}", body, {**self._headers(), **headers})
        if response.status not in (200, 201, 202):
            _fail(response)
        return vendor_http.body(response)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._account.secrets.get('api_key', '')}"}


class TelnyxKind(HotlineKind):
    name = "telnyx"
    label = "Telnyx"
    description = "Text messages and phone calls to most countries, with replies, key presses and delivery receipts."
    icon = "phone-call"
    channels: tuple[str, ...] = ("sms", "voice")
    reply_channels: frozenset[str] = frozenset({"sms", "voice"})
    receipt_channels: frozenset[str] = frozenset({"sms", "voice"})
    max_concurrent_sends = 40
    open = TelnyxSender
    dialect = _DIALECT
    package_help = translatable(
        "Takes a message while Tocsin does not answer. At Telnyx: create a TeXML Bin with it, and enter the bin's URL "
        "in your hotline's TeXML application as the Webhook failover URL."
    )
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "api_key",
            "API key",
            is_required=True,
            is_secret=True,
            help="In the Telnyx portal under Keys; starts with KEY.",
        ),
        ProviderSetting(
            "public_key",
            "Public key",
            is_required=True,
            help="In the Telnyx portal under Keys, Public key. Verifies replies and delivery receipts.",
        ),
        ProviderSetting(
            "from_number",
            "From number",
            ProviderSettingType.SENDER,
            is_required=True,
            help="Your Telnyx number, such as +41 44 000 00 00. A sender name also works for texts.",
        ),
        ProviderSetting("messaging_profile_id", "Messaging profile", help="Profile ID; required with a sender name."),
        ProviderSetting(
            "texml_application_id",
            "TeXML application",
            help="Only for calls: the ID of the application, in the Telnyx portal under Voice.",
            channel="voice",
        ),
        twiml.MACHINE_DETECTION,
        ProviderSetting(
            "api_base", "API URL", ProviderSettingType.URL, default=API, help="Change only if Telnyx tells you to."
        ),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint(
            "sms",
            translatable("Inbound messages"),
            translatable("At Telnyx: your messaging profile, Inbound, Send a webhook to."),
        ),
        WebhookEndpoint(
            "voice",
            translatable("Incoming calls"),
            translatable(
                "At Telnyx: your TeXML application, Voice method POST. Lets users call back to hear a missed page."
            ),
        ),
        *twiml.hotline_endpoints(
            translatable("At Telnyx: a TeXML application of its own for your hotline's number, Webhook URL, POST."),
            translatable("At Telnyx: the same TeXML application, Call progress events URL, POST. Reports hang-ups."),
        ),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return is_phone_number(address)

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        _verify_signature(account, callback)
        fields = callback.fields()
        if twiml.is_hotline(callback.endpoint):
            return twiml.handle_hotline(_DIALECT, account, callback, fields, receiver)
        if "CallSid" in fields:
            return twiml.handle_call(_VENDOR, account, callback, fields, receiver)
        try:
            event = child(vendor_http.parsed(callback.body), "data")
        except ValueError:
            event = {}
        payload = child(event, "payload")
        if not payload or not isinstance(event.get("event_type"), str):
            raise Rejected("invalid", vendor_http.NOT_AN_EVENT(vendor=_VENDOR))
        match event["event_type"]:
            case "message.received":
                number, external_id = text(child(payload, "from").get("phone_number")), text(payload.get("id"))
                if not number or not external_id:
                    raise Rejected("invalid", vendor_http.NOT_AN_EVENT(vendor=_VENDOR))
                # Telnyx accepts no reply in the response.
                message = InboundText("sms", number, text(payload.get("text")), external_id)
                vendor_http.reply_separately(TelnyxSender(account), receiver, message)
            case "message.sent" | "message.finalized":
                receiver.handle_receipt(_receipt(callback.query.get("n", ""), payload))
        return CallbackResponse(200)


def _verify_signature(account: ProviderAccount, callback: Callback) -> None:
    """Verifies Telnyx's Ed25519 signature over the timestamp, "|" and the body
    (https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks).
    """
    timestamp = callback.headers.get("telnyx-timestamp", "")
    if not vendor_http.is_recent(timestamp, callback.at):
        raise InvalidWebhookSignature
    try:
        key = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(str(account.settings.get("public_key") or ""), validate=True)
        )
        signature = base64.b64decode(callback.headers.get("telnyx-signature-ed25519", ""), validate=True)
        key.verify(signature, f"{timestamp}|".encode() + callback.body)
    except (InvalidSignature, ValueError, binascii.Error):
        raise InvalidWebhookSignature from None


def _receipt(key: str, payload: dict[str, Any]) -> Receipt:
    first = next(iter(items(payload.get("to"))), None)
    if not isinstance(first, dict):
        raise Rejected("invalid", vendor_http.NOT_AN_EVENT(vendor=_VENDOR))
    state = _STATES.get(text(first.get("status")), ReceiptState.IN_TRANSIT)
    external_id = text(payload.get("id"))
    told = child(payload, "cost")
    cost = vendor_http.cost_of(told.get("amount"), told.get("currency"))
    if state is not ReceiptState.FAILED:
        return Receipt(state, key, external_id, cost=cost)
    code, message, error = _first_error(payload.get("errors"))
    failed = vendor_http.failed_receipt(_VENDOR, code, error, key=key, external_id=external_id, message=message)
    return replace(failed, cost=cost)


def _first_error(errors: object) -> tuple[str, str, VendorError | None]:
    """Returns the first error's code, Telnyx's text, and the meaning if it is known; empty without an error."""
    first = child(next(iter(items(errors)), None))
    code = vendor_http.line(text(first.get("code")), 10)
    message = vendor_http.line(text(first.get("detail")) or text(first.get("title")))
    return code, f"{message} ({code})" if message else "", ERRORS.get(code)


def _fail(response: EgressResponse) -> NoReturn:
    code, message, error = _first_error(vendor_http.body(response).get("errors"))
    vendor_http.raise_for_error(response, _VENDOR, code, error, message)
