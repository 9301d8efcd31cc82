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

from tocsin.core.errors import Permanent, Rejected, Temporary, TocsinError
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.notify.channels.phone_numbers import is_phone_number, sender
from tocsin.notify.integrations import http_status, json_object
from tocsin.notify.integrations.error_codes import VendorError
from tocsin.notify.integrations.json_object import child, items, text
from tocsin.notify.integrations.telnyx.error_codes import trouble
from tocsin.notify.interfaces import (
    AddressRejected,
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

_STATES = {
    "delivered": ReceiptState.DELIVERED,
    "sending_failed": ReceiptState.FAILED,
    "delivery_failed": ReceiptState.FAILED,
    "expired": ReceiptState.FAILED,
}


class TelnyxKind(ProviderKind, WebhookProvider):
    name = "telnyx"
    label = "Telnyx"
    about = "Text messages to most countries, with replies and receipts."
    icon = "message-circle"
    channels: tuple[str, ...] = ("sms",)
    replies: frozenset[str] = frozenset({"sms"})
    receipts: frozenset[str] = frozenset({"sms"})
    parallel = 40
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting("api_key", "API key", is_required=True, is_secret=True, help="In Telnyx's portal: Keys; KEY…"),
        ProviderSetting(
            "public_key",
            "Public key",
            is_required=True,
            help="In Telnyx's portal: Keys, Public key. Replies and receipts are checked by it.",
        ),
        ProviderSetting(
            "from_number", "From number", is_required=True, help="Your number at Telnyx, or a sender name."
        ),
        ProviderSetting("messaging_profile_id", "Messaging profile", help="Its ID; needed with a sender name."),
        ProviderSetting(
            "api_base",
            "API address",
            ProviderSettingType.URL,
            default=API,
            help="Another one only where Telnyx says so.",
        ),
    )
    points: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint("sms", "Inbound messages", "At Telnyx: your messaging profile, Inbound, Send a webhook to."),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return is_phone_number(address)

    def open(self, account: ProviderAccount) -> ProviderSender:
        return TelnyxSender(account)

    def listen(self, account: ProviderAccount, callback: Callback, ears: EventReceiver) -> CallbackResponse:
        _require_genuine(account, callback)
        try:
            event = child(json_object.parsed(callback.body), "data")
        except ValueError:
            event = {}
        payload = child(event, "payload")
        if not payload or not isinstance(event.get("event_type"), str):
            raise Rejected("invalid", "This is no event of Telnyx's messaging.")
        match event["event_type"]:
            case "message.received":
                _received(account, payload, ears)
            case "message.sent" | "message.finalized":
                ears.receipt(_receipt(callback.query.get("n", ""), payload))
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
        if self._account.callbacks:
            body["webhook_url"] = f"{self._account.callbacks}/status?{urlencode({'n': idempotency_key})}"
        headers = {**self._headers(), "Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        url = f"{self._base}/v2/messages"
        answer = self._client.request("POST", url, headers=headers, content=json.dumps(body).encode())
        if answer.status not in (200, 201, 202):
            _fail(answer)
        data = http_status.body(answer).get("data")
        if not isinstance(data, dict) or not data.get("id"):
            raise http_status.no_answer("Telnyx")
        return SendReceipt(str(data["id"])[:100])

    def verify(self) -> str:
        answer = self._client.request("GET", f"{self._base}/v2/balance", headers=self._headers())
        if answer.status != 200:
            _fail(answer)
        data = http_status.body(answer).get("data")
        balance = data if isinstance(data, dict) else {}
        rest = " ".join(http_status.line(balance.get(name, ""), 20) for name in ("balance", "currency")).strip()
        deaf = "" if self._account.callbacks else " Set TOCSIN_BASE_URL, so that replies and receipts come back."
        return f"Signed in to Telnyx{f', balance {rest}' if rest else ''}.{deaf}"

    def close(self) -> None:
        self._client.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}


def _require_genuine(account: ProviderAccount, callback: Callback) -> None:
    """Verifies Telnyx's Ed25519 signature over the timestamp, "|" and the body
    (https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks).
    """
    stamp = callback.headers.get("telnyx-timestamp", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
        raise InvalidWebhookSignature
    if abs(callback.at.timestamp() - int(stamp)) > MAX_SIGNATURE_AGE.total_seconds():
        raise InvalidWebhookSignature
    try:
        key = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(str(account.settings.get("public_key") or ""), validate=True)
        )
        signature = base64.b64decode(callback.headers.get("telnyx-signature-ed25519", ""), validate=True)
        key.verify(signature, f"{stamp}|".encode() + callback.body)
    except (InvalidSignature, ValueError, binascii.Error):
        raise InvalidWebhookSignature from None


def _received(account: ProviderAccount, payload: dict[str, Any], ears: EventReceiver) -> None:
    """Handles an inbound text. Telnyx accepts no reply in the response, so the reply is sent as a separate message."""
    writer, external_id = text(child(payload, "from").get("phone_number")), text(payload.get("id"))
    if not writer or not external_id:
        raise Rejected("invalid", "This is no event of Telnyx's messaging.")
    answer = ears.text(InboundText("sms", writer, text(payload.get("text")), external_id))
    if not answer:
        return
    made = TelnyxSender(account)
    try:
        made.send(Rendered("", answer), "sms", writer, f"answer-{external_id}")
    except TocsinError as error:
        # The command has been carried out; only its confirmation failed.
        raise Rejected("invalid", f"The answer could not be sent: {error}") from None
    finally:
        made.close()


def _receipt(key: str, payload: dict[str, Any]) -> Receipt:
    first = next(iter(items(payload.get("to"))), None)
    if not isinstance(first, dict):
        raise Rejected("invalid", "This is no event of Telnyx's messaging.")
    state = _STATES.get(text(first.get("status")), ReceiptState.ON_ITS_WAY)
    external_id = text(payload.get("id"))
    if state is not ReceiptState.FAILED:
        return Receipt(state, key, external_id)
    code, said, known = _told(payload.get("errors"))
    if known is not None:
        return Receipt(state, key, external_id, _sentence(known, code), known.is_address, known.is_passing)
    return Receipt(state, key, external_id, f"Telnyx says: {said}." if said else "The text was not delivered.")


def _told(errors: object) -> tuple[str, str, VendorError | None]:
    """Returns the first error's code, Telnyx's text, and the meaning if it is known; empty without an error."""
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    code = http_status.line(text(first.get("code")), 10)
    said = http_status.line(text(first.get("detail")) or text(first.get("title")))
    return code, f"{said} ({code})" if said else "", trouble(code)


def _sentence(known: VendorError, code: str) -> str:
    return f"{known.sentence.rstrip('.')} (Telnyx {code})."


def _fail(answer: EgressResponse) -> NoReturn:
    code, said, known = _told(http_status.body(answer).get("errors"))
    if known is not None and 400 <= answer.status < 500 and answer.status not in http_status.AGAIN:
        sentence = _sentence(known, code)
        if known.is_passing:
            raise Temporary(sentence, answer.retry_after)
        raise AddressRejected(sentence) if known.is_address else Permanent(sentence)
    http_status.raise_for_status(answer, "Telnyx", said)
