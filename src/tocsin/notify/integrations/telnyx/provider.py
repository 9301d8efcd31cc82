"""The `telnyx` provider kind: texts with delivery receipts and replies
(https://developers.telnyx.com/docs/messaging).
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import timedelta
from typing import Any, NoReturn
from urllib.parse import urlencode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, joined
from tocsin.notify.channels.phone_numbers import is_phone_number, sender
from tocsin.notify.integrations import http_status, json_object, reasons
from tocsin.notify.integrations.error_codes import VendorError
from tocsin.notify.integrations.json_object import child, items, text
from tocsin.notify.integrations.telnyx.error_codes import find_error
from tocsin.notify.interfaces import (
    ProviderAccount,
    ProviderKind,
    ProviderSender,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
    SendReceipt,
)
from tocsin.notify.webhooks import (
    Callback,
    CallbackResponse,
    EventReceiver,
    InboundText,
    InvalidWebhookSignature,
    Receipt,
    ReceiptState,
    WebhookEndpoint,
    WebhookProvider,
)

API = "https://api.telnyx.com"

#: An older signed request is a replay.
MAX_SIGNATURE_AGE = timedelta(minutes=5)

_NOT_AN_EVENT = ReasonType("provider.telnyx_not_an_event", "This is not a Telnyx messaging event.")
_ANSWER_FAILED = ReasonType("provider.telnyx_answer_failed", "The reply could not be sent: {error}")
_SIGNED_IN = ReasonType("provider.telnyx_signed_in", "Signed in to Telnyx.")
_BALANCE = ReasonType("provider.telnyx_signed_in_balance", "Signed in to Telnyx, balance {balance}.")
_NO_CALLBACKS = ReasonType(
    "provider.telnyx_no_callbacks", "Set TOCSIN_BASE_URL to receive replies and delivery receipts."
)
_VENDOR_ERROR = ReasonType("provider.telnyx_error", "Telnyx reports: {error}.")

_STATES = {
    "delivered": ReceiptState.DELIVERED,
    "sending_failed": ReceiptState.FAILED,
    "delivery_failed": ReceiptState.FAILED,
    "expired": ReceiptState.FAILED,
}


class TelnyxKind(ProviderKind, WebhookProvider):
    name = "telnyx"
    label = "Telnyx"
    description = "Text messages to most countries, with replies and delivery receipts."
    icon = "message-circle"
    channels: tuple[str, ...] = ("sms",)
    reply_channels: frozenset[str] = frozenset({"sms"})
    receipt_channels: frozenset[str] = frozenset({"sms"})
    max_concurrent_sends = 40
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
        ProviderSetting("from_number", "From number", is_required=True, help="Your Telnyx number or a sender name."),
        ProviderSetting("messaging_profile_id", "Messaging profile", help="Profile ID; required with a sender name."),
        ProviderSetting(
            "api_base",
            "API URL",
            ProviderSettingType.URL,
            default=API,
            help="Change only if Telnyx tells you to.",
        ),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint("sms", "Inbound messages", "At Telnyx: your messaging profile, Inbound, Send a webhook to."),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return is_phone_number(address)

    def open(self, account: ProviderAccount) -> ProviderSender:
        return TelnyxSender(account)

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        _verify_signature(account, callback)
        try:
            event = child(json_object.parsed(callback.body), "data")
        except ValueError:
            event = {}
        payload = child(event, "payload")
        if not payload or not isinstance(event.get("event_type"), str):
            raise Rejected("invalid", _NOT_AN_EVENT())
        match event["event_type"]:
            case "message.received":
                _handle_text(account, payload, receiver)
            case "message.sent" | "message.finalized":
                receiver.handle_receipt(_receipt(callback.query.get("n", ""), payload))
        return CallbackResponse(200)


class TelnyxSender:
    """Sends with one Telnyx account."""

    def __init__(self, account: ProviderAccount) -> None:
        self._account = account
        self._base = str(account.settings.get("api_base") or API).rstrip("/")
        self._key = account.secrets.get("api_key", "")
        self._client = HttpClient(trusted=account.is_trusted)

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        body: dict[str, Any] = {
            "from": sender(str(self._account.settings.get("from_number") or "")),
            "to": address,
            "text": rendered.text,
        }
        if profile := self._account.settings.get("messaging_profile_id"):
            body["messaging_profile_id"] = str(profile)
        if self._account.callback_base_url:
            body["webhook_url"] = f"{self._account.callback_base_url}/status?{urlencode({'n': idempotency_key})}"
        headers = {**self._headers(), "Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        url = f"{self._base}/v2/messages"
        response = self._client.request("POST", url, headers=headers, content=json.dumps(body).encode())
        if response.status not in (200, 201, 202):
            _fail(response)
        data = http_status.body(response).get("data")
        if not isinstance(data, dict) or not data.get("id"):
            raise http_status.no_answer("Telnyx")
        return SendReceipt(str(data["id"])[:100])

    def verify(self) -> Reason:
        response = self._client.request("GET", f"{self._base}/v2/balance", headers=self._headers())
        if response.status != 200:
            _fail(response)
        data = http_status.body(response).get("data")
        balance = data if isinstance(data, dict) else {}
        balance_text = " ".join(http_status.line(balance.get(name, ""), 20) for name in ("balance", "currency")).strip()
        no_callbacks = NO_REASON if self._account.callback_base_url else _NO_CALLBACKS()
        return joined(_BALANCE(balance=balance_text) if balance_text else _SIGNED_IN(), no_callbacks, separator=" ")

    def close(self) -> None:
        self._client.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}


def _verify_signature(account: ProviderAccount, callback: Callback) -> None:
    """Verifies Telnyx's Ed25519 signature over the timestamp, "|" and the body
    (https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks).
    """
    timestamp = callback.headers.get("telnyx-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        raise InvalidWebhookSignature
    if abs(callback.at.timestamp() - int(timestamp)) > MAX_SIGNATURE_AGE.total_seconds():
        raise InvalidWebhookSignature
    try:
        key = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(str(account.settings.get("public_key") or ""), validate=True)
        )
        signature = base64.b64decode(callback.headers.get("telnyx-signature-ed25519", ""), validate=True)
        key.verify(signature, f"{timestamp}|".encode() + callback.body)
    except (InvalidSignature, ValueError, binascii.Error):
        raise InvalidWebhookSignature from None


def _handle_text(account: ProviderAccount, payload: dict[str, Any], receiver: EventReceiver) -> None:
    """Handles an inbound text. Telnyx accepts no reply in the response, so the reply is sent as a separate message."""
    sender_number, external_id = text(child(payload, "from").get("phone_number")), text(payload.get("id"))
    if not sender_number or not external_id:
        raise Rejected("invalid", _NOT_AN_EVENT())
    reply = receiver.handle_text(InboundText("sms", sender_number, text(payload.get("text")), external_id))
    if not reply:
        return
    reply_sender = TelnyxSender(account)
    try:
        reply_sender.send(Rendered("", reply), "sms", sender_number, f"answer-{external_id}")
    except (Permanent, Temporary) as error:
        # The command has been carried out; only its confirmation failed.
        raise Rejected("invalid", _ANSWER_FAILED(error=error.reason)) from None
    finally:
        reply_sender.close()


def _receipt(key: str, payload: dict[str, Any]) -> Receipt:
    first = next(iter(items(payload.get("to"))), None)
    if not isinstance(first, dict):
        raise Rejected("invalid", _NOT_AN_EVENT())
    state = _STATES.get(text(first.get("status")), ReceiptState.IN_TRANSIT)
    external_id = text(payload.get("id"))
    if state is not ReceiptState.FAILED:
        return Receipt(state, key, external_id)
    code, message, vendor_error = _first_error(payload.get("errors"))
    if vendor_error is not None:
        return Receipt(
            state,
            key,
            external_id,
            reasons.with_code(vendor_error.reason, "Telnyx", code),
            vendor_error.failure,
        )
    reason = _VENDOR_ERROR(error=message) if message else reasons.NOT_DELIVERED()
    return Receipt(state, key, external_id, reason)


def _first_error(errors: object) -> tuple[str, str, VendorError | None]:
    """Returns the first error's code, Telnyx's text, and the meaning if it is known; empty without an error."""
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    code = http_status.line(text(first.get("code")), 10)
    message = http_status.line(text(first.get("detail")) or text(first.get("title")))
    return code, f"{message} ({code})" if message else "", find_error(code)


def _fail(response: EgressResponse) -> NoReturn:
    code, message, vendor_error = _first_error(http_status.body(response).get("errors"))
    if (
        vendor_error is not None
        and 400 <= response.status < 500
        and response.status not in http_status.RETRYABLE_STATUSES
    ):
        reason = reasons.with_code(vendor_error.reason, "Telnyx", code)
        vendor_error.throw(reason, response.retry_after)
    http_status.raise_for_status(response, "Telnyx", message)
