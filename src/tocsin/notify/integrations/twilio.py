"""The Twilio provider kind: text messages and phone calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import parse_qsl, quote, urlencode

from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Text, joined, sentence
from tocsin.notify.channels.phone import is_phone_number, sender
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender, VendorError
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    CallPrompt,
    CallScript,
    CallState,
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
from tocsin.notify.rules.page_planner import MACHINE_ANSWERED
from tocsin.notify.states import ReceiptState

# ---------- error codes
# Twilio's error codes (https://www.twilio.com/docs/api/errors) as reasons that say what to do. Pure data.


_ADDRESS, _NO_SUCH = FailureKind.ADDRESS_REJECTED, FailureKind.NO_SUCH_ADDRESS
_VENDOR = "Twilio"

_CALLS_TO_COUNTRY = Text("Calls to this country are disabled. Allow them at Twilio under Voice, Geo permissions")
_NOT_CALLED = Text("Twilio does not call this number")
_NOT_CARRIED = Text("The recipient's carrier does not carry these texts")

_NOT_A_NUMBER = VendorError(vendor_http.NOT_A_NUMBER(), _NO_SUCH)

ERRORS: Mapping[int, VendorError] = {
    20003: VendorError(vendor_http.CREDENTIALS(vendor=_VENDOR)),
    20008: VendorError(sentence("These are Twilio's test credentials, which send nothing. Enter the live credentials")),
    20404: VendorError(sentence("Twilio does not know this account. Check the account SID")),
    21210: VendorError(sentence("The From number is not verified for calls. Buy it from Twilio, or verify it there")),
    21211: _NOT_A_NUMBER,
    21212: VendorError(vendor_http.FROM_NOT_OWNED(vendor=_VENDOR)),
    21215: VendorError(_CALLS_TO_COUNTRY(), _ADDRESS),
    21216: VendorError(_NOT_CALLED(), _ADDRESS),
    21217: _NOT_A_NUMBER,
    21219: VendorError(vendor_http.TRIAL(vendor=_VENDOR), _ADDRESS),
    21266: VendorError(sentence("The recipient's number is the From number itself"), _ADDRESS),
    21408: VendorError(vendor_http.TEXTS_TO_COUNTRY(vendor=_VENDOR), _ADDRESS),
    21606: VendorError(sentence("The From number cannot send texts. Choose a number with SMS at Twilio")),
    21608: VendorError(vendor_http.TRIAL(vendor=_VENDOR), _ADDRESS),
    21610: VendorError(vendor_http.OPTED_OUT(), _ADDRESS),
    21611: VendorError(vendor_http.QUEUE_FULL(vendor=_VENDOR), FailureKind.TEMPORARY),
    21612: VendorError(vendor_http.NO_ROUTE(vendor=_VENDOR), _ADDRESS),
    21614: VendorError(sentence("The recipient's number is not a mobile phone"), _NO_SUCH),
    21617: VendorError(vendor_http.TEXT_TOO_LONG(vendor=_VENDOR)),
    21659: VendorError(vendor_http.FROM_NOT_OWNED(vendor=_VENDOR)),
    21660: VendorError(sentence("The From number belongs to another Twilio account")),
    30001: VendorError(sentence("Twilio's queue of this account is full"), FailureKind.TEMPORARY),
    30002: VendorError(vendor_http.SUSPENDED(vendor=_VENDOR)),
    30003: VendorError(vendor_http.UNREACHABLE_PHONE(), _ADDRESS),
    30004: VendorError(vendor_http.BLOCKED(), _ADDRESS),
    30005: VendorError(vendor_http.NOT_IN_SERVICE(), _ADDRESS),
    30006: VendorError(vendor_http.LANDLINE(), _ADDRESS),
    30007: VendorError(vendor_http.SPAM(vendor=_VENDOR)),
    30008: VendorError(vendor_http.CARRIER_GAVE_NO_REASON()),
    30010: VendorError(sentence("The text costs more than the account's limit")),
    30022: VendorError(
        sentence("Too many texts for the registered campaign. Ask Twilio for a higher limit, or set a rate limit"),
        FailureKind.TEMPORARY,
    ),
    30032: VendorError(sentence("The toll-free From number is not verified. Verify it at Twilio")),
    30034: VendorError(vendor_http.NOT_REGISTERED_US(vendor=_VENDOR)),
    30044: VendorError(sentence("A trial account sends short texts only. Upgrade the account")),
    30410: VendorError(sentence("The carrier did not answer Twilio in time"), FailureKind.TEMPORARY),
    30485: VendorError(_NOT_CARRIED(), _ADDRESS),
    32203: VendorError(sentence("Twilio blocks calls to this number as high-risk"), _ADDRESS),
    13223: _NOT_A_NUMBER,
    13224: _NOT_A_NUMBER,
    13225: VendorError(_NOT_CALLED(), _ADDRESS),
    13227: VendorError(_CALLS_TO_COUNTRY(), _ADDRESS),
}


def find_error(code: object) -> VendorError | None:
    """Returns the meaning of a code as Twilio sends it; None if it is unknown."""
    text = str(code or "")
    return ERRORS.get(int(text)) if text.isascii() and text.isdigit() else None


# ---------- twiml
# Builds TwiML responses (https://www.twilio.com/docs/voice/twiml) with the vendor's own library.


#: In seconds: how long the call waits for a key after the last word.
KEY_TIMEOUT_SECONDS = 8

#: Characters that XML cannot contain, escaped or not (https://www.w3.org/TR/xml/#charsets). Twilio would read out an
#: error message instead.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def step(prompt: CallPrompt, action: str) -> str:
    """Returns one step of a call: the spoken text, and the URL that receives the pressed key."""
    # Imported on demand here and below: the library takes time and memory to load, and is needed only for calls.
    from twilio.twiml.voice_response import Gather, VoiceResponse

    response = VoiceResponse()
    if prompt.script is None and not prompt.pending_digit:
        if prompt.speech:
            response.say(prompt.speech, language=prompt.language)
        response.hangup()
        return _to_xml(response)
    gather = Gather(num_digits=1, timeout=KEY_TIMEOUT_SECONDS, action=action, method="POST")
    if prompt.speech:
        gather.say(prompt.speech, language=prompt.language)
    if prompt.script is not None:
        _add_script(gather, prompt.script)
    response.append(gather)
    if prompt.script is not None and prompt.script.menu:
        # Repeat the key menu once: the user may just have woken up.
        repeated_menu = Gather(num_digits=1, timeout=KEY_TIMEOUT_SECONDS, action=action, method="POST")
        repeated_menu.say(prompt.script.menu, language=prompt.script.language)
        response.append(repeated_menu)
    return _to_xml(response)


def spoken_once(rendered: Rendered) -> str:
    """Returns a whole call without key input."""
    from twilio.twiml.voice_response import VoiceResponse

    response = VoiceResponse()
    script = rendered.script or CallScript("", rendered.text, "")
    _add_script(response, CallScript(script.greeting, script.message, "", script.language))
    return _to_xml(response)


def text_answer(text: str) -> str:
    """Returns the reply to a text, or no reply if `text` is empty."""
    from twilio.twiml.messaging_response import MessagingResponse

    response = MessagingResponse()
    if text:
        response.message(text)
    return _to_xml(response)


def _to_xml(response: object) -> str:
    return _NO_XML.sub(" ", str(response))


def _add_script(verb: object, script: CallScript) -> None:
    """Adds the greeting, the problem twice, then the key menu."""
    say = verb.say  # type: ignore[attr-defined]
    if script.greeting:
        say(script.greeting, language=script.language)
    if script.message:
        say(script.message, language=script.language)
        verb.pause(length=1)  # type: ignore[attr-defined]
        say(script.message, language=script.language)
    if script.menu:
        say(script.menu, language=script.language)


# ---------- sender
# Sends texts and starts calls with Twilio's REST API (https://www.twilio.com/docs/usage/api).


API = "https://api.twilio.com"
#: After this time, the phone's voicemail usually answers.
RING_SECONDS = 30

_ACCOUNT_NOT_ACTIVE = ReasonType("provider.twilio_account_not_active", "The Twilio account {account} is {status}.")
_CHECK_CONSOLE = ReasonType("provider.twilio_check_console", "Check Twilio's console.")
_SIGNED_IN = ReasonType("provider.twilio_signed_in", "Signed in to Twilio as {account}.")
_TRIAL = ReasonType("provider.twilio_trial", "It is a trial account, which reaches verified numbers only.")
_NO_CALLBACKS = ReasonType(
    "provider.twilio_no_callbacks", "Set the public URL to receive replies, key presses and delivery receipts."
)


class TwilioSender(HttpSender):
    """Sends with one Twilio account."""

    api = API

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(account)
        self._sid = str(account.settings.get("account_sid") or "")
        self._from = sender(str(account.settings.get("from_number") or ""))
        self._authorization = vendor_http.basic_authorization(self._sid, account.secrets.get("auth_token", ""))

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        fields = self._call(rendered, address, idempotency_key) if channel == "voice" else self._text(rendered, address)
        if self._account.callback_base_url:
            # Twilio has no idempotency key. With Tocsin's key in the URL, an early callback finds its message before
            # Twilio's message id is stored.
            fields["StatusCallback"] = self._callback_url("status", idempotency_key)
        response = self._post("Calls.json" if channel == "voice" else "Messages.json", fields)
        sid = vendor_http.body(response).get("sid")
        if not sid:
            raise vendor_http.no_answer("Twilio")
        return str(sid)[:100]

    def verify(self) -> Reason:
        response = self._client.request("GET", self._url(".json"), headers={"Authorization": self._authorization})
        if response.status != 200:
            _fail(response)
        account = vendor_http.body(response)
        name = vendor_http.line(account.get("friendly_name", self._sid), 60)
        status = vendor_http.line(account.get("status", "active"), 20)
        if status != "active":
            raise Permanent(_ACCOUNT_NOT_ACTIVE(account=name, status=status), _CHECK_CONSOLE())
        trial = _TRIAL() if account.get("type") == "Trial" else NO_REASON
        return self._with_callback_note(joined(_SIGNED_IN(account=name), trial, separator=" "), _NO_CALLBACKS)

    def _text(self, rendered: Rendered, address: str) -> dict[str, str]:
        service = str(self._account.settings.get("messaging_service_sid") or "")
        origin = {"MessagingServiceSid": service} if service else {"From": self._from}
        return {"To": address, **origin, "Body": rendered.text}

    def _call(self, rendered: Rendered, address: str, key: str) -> dict[str, str]:
        fields = {"To": address, "From": self._from, "Timeout": str(RING_SECONDS)}
        if not self._account.callback_base_url:
            # Without a public address Twilio cannot fetch the script, so it is sent along, and keys do nothing.
            return {**fields, "Twiml": spoken_once(rendered)}
        if self._account.settings.get("machine_detection", True):
            fields["MachineDetection"] = "Enable"
        return {**fields, "Url": self._callback_url("voice", key)}

    def _callback_url(self, endpoint: str, key: str) -> str:
        return f"{self._account.callback_base_url}/{endpoint}?{urlencode({'n': key})}"

    def _url(self, path: str) -> str:
        return f"{self._base}/2010-04-01/Accounts/{quote(self._sid, safe='')}{path}"

    def _post(self, resource: str, fields: dict[str, str]) -> EgressResponse:
        response = self._client.request(
            "POST",
            self._url(f"/{resource}"),
            headers={"Authorization": self._authorization, "Content-Type": "application/x-www-form-urlencoded"},
            content=urlencode(fields).encode(),
        )
        if response.status not in (200, 201):
            _fail(response)
        return response


def _fail(response: EgressResponse) -> NoReturn:
    error = vendor_http.body(response)
    code = error.get("code")
    message = vendor_http.line(error.get("message", ""))
    vendor_http.raise_for_error(response, _VENDOR, str(code or ""), find_error(code), message)


# ---------- provider


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


class TwilioKind(WebhookProvider):
    name = "twilio"
    label = "Twilio"
    description = "Text messages and phone calls worldwide, with replies, key presses and delivery receipts."
    icon = "phone-call"
    channels: tuple[str, ...] = ("sms", "voice")
    reply_channels: frozenset[str] = frozenset({"sms", "voice"})
    receipt_channels: frozenset[str] = frozenset({"sms", "voice"})
    max_concurrent_sends = 40
    open = TwilioSender
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
            "api_base", "API URL", ProviderSettingType.URL, default=API, help="Change only for a Twilio region."
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
    """Over the called URL and the posted fields (https://www.twilio.com/docs/usage/security)."""
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
    return CallbackResponse(200, text_answer(receiver.handle_text(message)), _XML)


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
    return CallbackResponse(200, step(prompt, action), _XML)


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
    code = fields.get("ErrorCode", "")[:10]
    external_id = fields.get("MessageSid", "")
    return vendor_http.failed_receipt(_VENDOR, code, find_error(code), key=key, external_id=external_id)


def _failed_call(key: str, fields: dict[str, str]) -> Receipt:
    sip_code = fields.get("SipResponseCode", "")
    if sip_code == _SIP_UNAVAILABLE:
        return Receipt(ReceiptState.NOT_REACHED, key, fields["CallSid"], OFF())
    if sip_code in _NO_SUCH_NUMBER:
        return Receipt(ReceiptState.FAILED, key, fields["CallSid"], NO_SUCH_NUMBER(), FailureKind.NO_SUCH_ADDRESS)
    return Receipt(ReceiptState.FAILED, key, fields["CallSid"], CALL_FAILED())
