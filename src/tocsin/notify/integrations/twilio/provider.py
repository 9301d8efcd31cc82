"""The `twilio` provider kind: texts and calls, with delivery receipts, replies and key presses."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

from tocsin.core.delivery.failure import FailureKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, ReasonType
from tocsin.notify.channels.phone_numbers import is_phone_number
from tocsin.notify.integrations import reasons
from tocsin.notify.integrations.twilio import twiml
from tocsin.notify.integrations.twilio.error_codes import find_error
from tocsin.notify.integrations.twilio.sender import API, TwilioSender
from tocsin.notify.interfaces import ProviderAccount, ProviderKind, ProviderSender, ProviderSetting, ProviderSettingType
from tocsin.notify.rules.delivery_reasons import MACHINE_ANSWERED
from tocsin.notify.webhooks import (
    Callback,
    CallbackResponse,
    CallState,
    EventReceiver,
    InboundText,
    InvalidWebhookSignature,
    Receipt,
    ReceiptState,
    WebhookEndpoint,
    WebhookProvider,
)

_XML = "text/xml; charset=utf-8"

_OPT_OUT = {"STOP": True, "START": False}

_SMS_STATES = {
    "delivered": ReceiptState.DELIVERED,
    "read": ReceiptState.DELIVERED,
    "undelivered": ReceiptState.FAILED,
    "failed": ReceiptState.FAILED,
    "canceled": ReceiptState.FAILED,
}
_CALL_STATES = {
    # The call's own requests have already reported whether a person heard the message.
    "completed": ReceiptState.ENDED,
    "busy": ReceiptState.NOT_REACHED,
    "no-answer": ReceiptState.NOT_REACHED,
    "canceled": ReceiptState.NOT_REACHED,
}
BUSY = ReasonType("provider.phone_busy", "The phone was busy.")
NO_ANSWER = ReasonType("provider.call_not_answered", "No one picked up.")
CANCELLED = ReasonType("provider.call_cancelled", "The call was cancelled.")
OFF = ReasonType("provider.phone_off", "The phone was off or out of reach.")
NO_SUCH_NUMBER = ReasonType("provider.no_such_number", "The number is not in service.")
CALL_FAILED = ReasonType("provider.twilio_call_failed", "Twilio could not make the call.")
_UNKNOWN_ENDPOINT = ReasonType("provider.twilio_unknown_endpoint", "Twilio calls sms, voice and status.")
_NOT_REACHED_REASONS = {"busy": BUSY(), "no-answer": NO_ANSWER(), "canceled": CANCELLED()}
#: SIP response codes of a failed call (RFC 3261, 21): the number is unavailable now, or does not exist. With any other
#: code, Twilio itself could not make the call.
_SIP_UNAVAILABLE, _NO_SUCH_NUMBER = "480", frozenset({"404", "410", "484", "604"})


class TwilioKind(ProviderKind, WebhookProvider):
    name = "twilio"
    label = "Twilio"
    description = "Text messages and phone calls worldwide, with replies, key presses and delivery receipts."
    icon = "phone-call"
    channels: tuple[str, ...] = ("sms", "voice")
    reply_channels: frozenset[str] = frozenset({"sms", "voice"})
    receipt_channels: frozenset[str] = frozenset({"sms", "voice"})
    max_concurrent_sends = 40
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "account_sid",
            "Account SID",
            is_required=True,
            help="Shown on the Twilio console's home page; starts with AC.",
        ),
        ProviderSetting(
            "auth_token", "Auth token", is_required=True, is_secret=True, help="Shown below the account SID."
        ),
        ProviderSetting(
            "from_number",
            "From number",
            is_required=True,
            help="Your Twilio number, such as +41 44 000 00 00. A sender name also works for texts.",
        ),
        ProviderSetting(
            "messaging_service_sid",
            "Messaging service SID",
            help="Only if you send texts through a messaging service; starts with MG.",
        ),
        ProviderSetting(
            "machine_detection",
            "Detect voicemail",
            ProviderSettingType.FLAG,
            default=True,
            help="Calls answered by a machine count as not reached. Twilio charges a small fee.",
        ),
        ProviderSetting(
            "api_base",
            "API URL",
            ProviderSettingType.URL,
            default=API,
            help="Change only for a Twilio region.",
        ),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint(
            "sms",
            "Incoming message URL",
            "At Twilio: your number (or messaging service), Messaging, Webhook, HTTP POST.",
        ),
        WebhookEndpoint(
            "voice",
            "Incoming call URL",
            "At Twilio: your number, Voice, Webhook, HTTP POST. Lets users call back to hear a missed page.",
        ),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return is_phone_number(address)

    def open(self, account: ProviderAccount) -> ProviderSender:
        return TwilioSender(account)

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        fields = dict(parse_qsl(callback.body.decode("utf-8", "replace"), keep_blank_values=True))
        _verify_signature(account, callback, fields)
        match callback.endpoint:
            case "sms":
                return _handle_text(fields, receiver)
            case "voice":
                return _handle_call(account, callback, fields, receiver)
            case "status":
                receiver.handle_receipt(_receipt(callback.query.get("n", ""), fields))
                return CallbackResponse(204)
            case _:
                raise Rejected("not_found", _UNKNOWN_ENDPOINT())


def _verify_signature(account: ProviderAccount, callback: Callback, fields: dict[str, str]) -> None:
    """Verifies Twilio's signature over the called URL and the posted fields
    (https://www.twilio.com/docs/usage/security).
    """
    # Imported on demand: the library takes time and memory to load, and is needed only for Twilio's callbacks.
    from twilio.request_validator import RequestValidator

    token = account.secrets.get("auth_token", "")
    signature = callback.headers.get("x-twilio-signature", "")
    if not token or not signature or not RequestValidator(token).validate(callback.url, fields, signature):
        raise InvalidWebhookSignature


def _handle_text(fields: dict[str, str], receiver: EventReceiver) -> CallbackResponse:
    message = InboundText(
        "sms",
        fields.get("From", ""),
        fields.get("Body", ""),
        fields.get("MessageSid", ""),
        _OPT_OUT.get(fields.get("OptOutType", "").upper()),
    )
    return CallbackResponse(200, twiml.text_answer(receiver.handle_text(message)), _XML)


def _handle_call(
    account: ProviderAccount, callback: Callback, fields: dict[str, str], receiver: EventReceiver
) -> CallbackResponse:
    key = callback.query.get("n", "")
    is_inbound = fields.get("Direction", "") == "inbound"
    call_state = CallState(
        key=key,
        external_id=fields.get("CallSid", ""),
        number=fields.get("From" if is_inbound else "To", ""),
        digits=fields.get("Digits", ""),
        pending_digit=callback.query.get("asked", ""),
        is_machine=bool(re.match(r"machine|fax", fields.get("AnsweredBy", ""))),
    )
    prompt = receiver.handle_call(call_state)
    query = {name: value for name, value in (("n", key), ("asked", prompt.pending_digit)) if value}
    action = f"{account.callback_base_url}/voice{f'?{urlencode(query)}' if query else ''}"
    return CallbackResponse(200, twiml.step(prompt, action), _XML)


def _receipt(key: str, fields: dict[str, str]) -> Receipt:
    if "CallSid" in fields:
        status = fields.get("CallStatus", "")
        if status == "completed" and re.match(r"machine|fax", fields.get("AnsweredBy", "")):
            return Receipt(ReceiptState.NOT_REACHED, key, fields["CallSid"], MACHINE_ANSWERED())
        if status == "failed":
            return _failed_call(key, fields)
        return Receipt(
            _CALL_STATES.get(status, ReceiptState.IN_TRANSIT),
            key,
            fields["CallSid"],
            _NOT_REACHED_REASONS.get(status, NO_REASON),
        )
    state = _SMS_STATES.get(fields.get("MessageStatus", fields.get("SmsStatus", "")), ReceiptState.IN_TRANSIT)
    if state is not ReceiptState.FAILED:
        return Receipt(state, key, fields.get("MessageSid", ""))
    code = fields.get("ErrorCode", "")
    vendor_error = find_error(code)
    problem = vendor_error.reason if vendor_error else reasons.NOT_DELIVERED_CODE()
    reason = reasons.with_code(problem, "Twilio", code[:10]) if code else reasons.NOT_DELIVERED()
    failure = vendor_error.failure if vendor_error else FailureKind.PERMANENT
    return Receipt(state, key, fields.get("MessageSid", ""), reason, failure)


def _failed_call(key: str, fields: dict[str, str]) -> Receipt:
    sip_code = fields.get("SipResponseCode", "")
    if sip_code == _SIP_UNAVAILABLE:
        return Receipt(ReceiptState.NOT_REACHED, key, fields["CallSid"], OFF())
    if sip_code in _NO_SUCH_NUMBER:
        return Receipt(ReceiptState.FAILED, key, fields["CallSid"], NO_SUCH_NUMBER(), FailureKind.NO_SUCH_ADDRESS)
    return Receipt(ReceiptState.FAILED, key, fields["CallSid"], CALL_FAILED())
