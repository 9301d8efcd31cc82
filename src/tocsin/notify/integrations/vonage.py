"""The Vonage provider kind: text messages by the SMS API (https://developer.vonage.com/en/api/sms)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import Reason, translatable
from tocsin.notify.channels.phone import is_gsm, is_phone_number, sender
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender, VendorError, items, text
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
    WebhookProvider,
)
from tocsin.notify.states import ReceiptState

API = "https://rest.nexmo.com"
#: A longer callback URL is refused; the account's own is then used.
_MAX_CALLBACK_CHARS = 100

_VENDOR = "Vonage"
_TEMPORARY, _ADDRESS, _NO_SUCH = FailureKind.TEMPORARY, FailureKind.ADDRESS_REJECTED, FailureKind.NO_SUCH_ADDRESS

#: The status of a message in the answer to a request
#: (https://developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms). The others say that the request is wrong.
ERRORS: Mapping[str, VendorError] = {
    "1": VendorError(vendor_http.QUEUE_FULL(vendor=_VENDOR), _TEMPORARY),
    "4": VendorError(vendor_http.CREDENTIALS(vendor=_VENDOR)),
    "5": VendorError(vendor_http.QUEUE_FULL(vendor=_VENDOR), _TEMPORARY),
    "6": VendorError(vendor_http.NO_ROUTE(vendor=_VENDOR), _ADDRESS),
    "7": VendorError(vendor_http.BLOCKED(), _ADDRESS),
    "8": VendorError(vendor_http.SUSPENDED(vendor=_VENDOR)),
    "9": VendorError(vendor_http.NO_BALANCE(vendor=_VENDOR)),
    "10": VendorError(vendor_http.QUEUE_FULL(vendor=_VENDOR), _TEMPORARY),
    "12": VendorError(vendor_http.TEXT_TOO_LONG(vendor=_VENDOR)),
    "14": VendorError(vendor_http.CREDENTIALS(vendor=_VENDOR)),
    "15": VendorError(vendor_http.SENDER_NAME(vendor=_VENDOR)),
    "29": VendorError(vendor_http.TRIAL(vendor=_VENDOR), _ADDRESS),
    "33": VendorError(vendor_http.NOT_IN_SERVICE(), _NO_SUCH),
}

#: The `err-code` of a delivery receipt
#: (https://api.support.vonage.com/hc/en-us/articles/204014733). Only a number that is no longer active does not exist.
RECEIPT_ERRORS: Mapping[str, VendorError] = {
    "1": VendorError(vendor_http.CARRIER_GAVE_NO_REASON()),
    "2": VendorError(vendor_http.UNREACHABLE_PHONE(), _ADDRESS),
    "3": VendorError(vendor_http.NOT_IN_SERVICE(), _NO_SUCH),
    "4": VendorError(vendor_http.BLOCKED(), _ADDRESS),
    "5": VendorError(vendor_http.REJECTED_BY_CARRIER(), _ADDRESS),
    "6": VendorError(vendor_http.SPAM(vendor=_VENDOR)),
    "7": VendorError(vendor_http.UNREACHABLE_PHONE(), _ADDRESS),
    "8": VendorError(vendor_http.CARRIER_DOWN(), _TEMPORARY),
    "9": VendorError(vendor_http.OPTED_OUT(), _ADDRESS),
    "10": VendorError(vendor_http.CHARACTERS(), _ADDRESS),
    "11": VendorError(vendor_http.NO_ROUTE(vendor=_VENDOR), _ADDRESS),
    "12": VendorError(vendor_http.NO_ROUTE(vendor=_VENDOR), _ADDRESS),
    "13": VendorError(vendor_http.BLOCKED(), _ADDRESS),
    "14": VendorError(vendor_http.BLOCKED(), _ADDRESS),
    "15": VendorError(vendor_http.REJECTED_BY_CARRIER(), _ADDRESS),
    "16": VendorError(vendor_http.CARRIER_BUSY(), _TEMPORARY),
    "50": VendorError(vendor_http.SENDER_NAME(vendor=_VENDOR)),
    "51": VendorError(vendor_http.SENDER_NAME(vendor=_VENDOR)),
    "52": VendorError(vendor_http.CONTENT(vendor=_VENDOR)),
    "53": VendorError(vendor_http.OPTED_OUT(), _ADDRESS),
    "54": VendorError(vendor_http.REJECTED_BY_CARRIER(), _ADDRESS),
}

_STATES = {
    "delivered": ReceiptState.DELIVERED,
    "expired": ReceiptState.FAILED,
    "failed": ReceiptState.FAILED,
    "rejected": ReceiptState.FAILED,
}

_SIGNATURES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512, "sha1": hashlib.sha1, "md5": hashlib.md5}


class VonageSender(HttpSender):
    """Sends with one Vonage account."""

    api = API

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        body = {
            **self._credentials(),
            "from": sender(str(self._account.settings.get("from_number") or "")).lstrip("+"),
            "to": address.lstrip("+"),
            "text": rendered.text,
            "type": "text" if is_gsm(rendered.text) else "unicode",
            # Receipts carry it.
            "client-ref": idempotency_key,
        }
        callback = f"{self._account.callback_base_url}/status"
        if self._account.callback_base_url and len(callback) <= _MAX_CALLBACK_CHARS:
            body["callback"] = callback
        response = self._post_json(f"{self._base}/sms/json", body, {"Idempotency-Key": idempotency_key})
        if response.status != 200:
            vendor_http.raise_for_status(response, _VENDOR)
        # A long text is several messages with a status each, all under one reference.
        messages = [one for one in items(vendor_http.body(response).get("messages")) if isinstance(one, dict)]
        if not messages:
            raise vendor_http.no_answer(_VENDOR)
        if all(text(one.get("status")) != "0" for one in messages):
            _fail(response, messages[0])
        return text(messages[0].get("message-id"))[:100] or idempotency_key

    def verify(self) -> Reason:
        authorization = vendor_http.basic_authorization(*self._credentials().values())
        headers = {"Content-Type": "application/json", "Authorization": authorization}
        response = self._client.request("GET", f"{self._base}/account/get-balance", headers=headers)
        if response.status != 200:
            vendor_http.raise_for_status(response, _VENDOR)
        balance = vendor_http.line(vendor_http.body(response).get("value", ""), 20)
        return self._with_callback_note(vendor_http.SIGNED_IN_BALANCE(vendor=_VENDOR, balance=f"{balance} EUR"))

    def _credentials(self) -> dict[str, str]:
        key = str(self._account.settings.get("api_key") or "")
        return {"api_key": key, "api_secret": self._account.secrets.get("api_secret", "")}


class VonageKind(WebhookProvider):
    name = "vonage"
    label = "Vonage"
    description = "Text messages to most countries, with replies and delivery receipts."
    icon = "message-circle"
    channels: tuple[str, ...] = ("sms",)
    reply_channels: frozenset[str] = frozenset({"sms"})
    receipt_channels: frozenset[str] = frozenset({"sms"})
    max_concurrent_sends = 20
    open = VonageSender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting("api_key", "API key", is_required=True, help="In the Vonage dashboard under API settings."),
        ProviderSetting("api_secret", "API secret", is_required=True, is_secret=True, help="Beside the API key."),
        ProviderSetting(
            "signing_secret",
            "Signature secret",
            is_required=True,
            is_secret=True,
            help="In the API settings. Verifies replies and delivery receipts, which Vonage must be asked to sign.",
        ),
        ProviderSetting(
            "signature_method",
            "Signature method",
            ProviderSettingType.CHOICE,
            default="sha256",
            choices=("md5hash", *_SIGNATURES),
            help="As in the API settings: md5hash is MD5 hash, the others are HMAC.",
        ),
        ProviderSetting(
            "from_number",
            "From number",
            ProviderSettingType.SENDER,
            is_required=True,
            help="Your Vonage number, such as +41 44 000 00 00, or a sender name.",
        ),
        ProviderSetting("api_base", "API URL", ProviderSettingType.URL, default=API, help="Change only for a proxy."),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint(
            "sms",
            translatable("Inbound messages"),
            translatable("At Vonage: API settings, Inbound SMS webhooks, POST-JSON."),
        ),
        WebhookEndpoint(
            "status",
            translatable("Delivery receipts"),
            translatable("At Vonage: API settings, Delivery receipts webhooks."),
        ),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return is_phone_number(address)

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        fields = callback.fields()
        _verify_signature(account, callback, fields)
        external_id, number = fields.get("messageId", ""), fields.get("msisdn", "")
        if not external_id or not number:
            raise Rejected("invalid", vendor_http.NOT_AN_EVENT(vendor=_VENDOR))
        if "status" in fields:
            receiver.handle_receipt(_receipt(fields))
        elif fields.get("concat", "").lower() != "true" or fields.get("concat-part") == "1":
            # A command stands at the beginning of a text: only the first part of a long one is read.
            message = InboundText("sms", f"+{number.lstrip('+')}", fields.get("text", ""), external_id)
            vendor_http.reply_separately(VonageSender(account), receiver, message)
        return CallbackResponse(200)


def sign(fields: Mapping[str, str], secret: str, method: str) -> str:
    """Signs a request's fields (https://developer.vonage.com/en/getting-started/concepts/signing-messages)."""
    sorted_fields = sorted((name, value) for name, value in fields.items() if name != "sig")
    signed = "".join(f"&{name}={value.translate(_SEPARATORS)}" for name, value in sorted_fields)
    if method == "md5hash":
        # Vonage's default, and what older accounts have.
        return hashlib.md5(f"{signed}{secret}".encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return hmac.new(secret.encode(), signed.encode("utf-8", "replace"), _SIGNATURES[method]).hexdigest()


#: These separate the fields that are signed, and are replaced in their values.
_SEPARATORS = str.maketrans("&=", "__")


def _verify_signature(account: ProviderAccount, callback: Callback, fields: Mapping[str, str]) -> None:
    secret = account.secrets.get("signing_secret", "")
    method = str(account.settings.get("signature_method") or "sha256")
    if not secret or not vendor_http.is_recent(fields.get("timestamp", ""), callback.at):
        raise InvalidWebhookSignature
    given = fields.get("sig", "").lower().encode("ascii", "replace")
    if not hmac.compare_digest(sign(fields, secret, method).encode(), given):
        raise InvalidWebhookSignature


def _receipt(fields: Mapping[str, str]) -> Receipt:
    key, external_id = fields.get("client-ref", ""), fields["messageId"]
    state = _STATES.get(fields["status"], ReceiptState.IN_TRANSIT)
    # Prices are in euros, whatever the account is billed in.
    cost = vendor_http.cost_of(fields.get("price"), "EUR")
    if state is not ReceiptState.FAILED:
        return Receipt(state, key, external_id, cost=cost)
    code = vendor_http.line(fields.get("err-code", ""), 10)
    failed = vendor_http.failed_receipt(_VENDOR, code, RECEIPT_ERRORS.get(code), key=key, external_id=external_id)
    return replace(failed, cost=cost)


def _fail(response: EgressResponse, message: Mapping[str, Any]) -> NoReturn:
    code = vendor_http.line(text(message.get("status")), 10)
    error = ERRORS.get(code)
    if error is None:
        problem = vendor_http.line(message.get("error-text", ""))
        error = VendorError(vendor_http.REJECTED_TEXT(vendor=_VENDOR, error=problem))
    error.throw(_VENDOR, code, response.retry_after)
