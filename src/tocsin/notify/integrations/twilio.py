"""The Twilio provider kind: text messages and phone calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote, urlencode

from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Text, joined, sentence, translatable
from tocsin.notify.channels.phone import is_phone_number, sender
from tocsin.notify.integrations import twiml, vendor_http
from tocsin.notify.integrations.twiml import Dialect, HotlineKind, HotlineSender
from tocsin.notify.integrations.vendor_http import VendorError
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


# ---------- sender
# Sends texts and starts calls with Twilio's REST API (https://www.twilio.com/docs/usage/api).


API = "https://api.twilio.com"

_DIALECT = Dialect(
    _VENDOR, "Twiml", {"timeout": "10"}, ("transcribe", "transcribeCallback"), ".mp3", media_hosts=("twilio.com",)
)
#: The call has ended, or was never picked up (https://www.twilio.com/docs/api/errors/21220).
_CALL_OVER = 21220

_ACCOUNT_NOT_ACTIVE = ReasonType("provider.twilio_account_not_active", "The Twilio account {account} is {status}.")
_CHECK_CONSOLE = ReasonType("provider.twilio_check_console", "Check Twilio's console.")
_SIGNED_IN = ReasonType("provider.twilio_signed_in", "Signed in to Twilio as {account}.")
_TRIAL = ReasonType("provider.twilio_trial", "It is a trial account, which reaches verified numbers only.")
_NO_CALLBACKS = ReasonType(
    "provider.twilio_no_callbacks", "Set the public URL to receive replies, key presses and delivery receipts."
)


class TwilioSender(HotlineSender):
    """Sends with one Twilio account."""

    api = API
    dialect = _DIALECT

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(account)
        self._sid = str(account.settings.get("account_sid") or "")
        self._from = sender(str(account.settings.get("from_number") or ""))
        self._authorization = vendor_http.basic_authorization(self._sid, account.secrets.get("auth_token", ""))

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        if channel == "voice":
            return self._start_call(
                twiml.call_parameters(self._account, rendered, address, idempotency_key, inline=_DIALECT.inline)
            )
        return self._create("Messages.json", self._text(rendered, address, idempotency_key))

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

    def _text(self, rendered: Rendered, address: str, key: str) -> dict[str, str]:
        service = str(self._account.settings.get("messaging_service_sid") or "")
        origin = {"MessagingServiceSid": service} if service else {"From": self._from}
        fields = {"To": address, **origin, "Body": rendered.text}
        if self._account.callback_base_url:
            fields["StatusCallback"] = vendor_http.callback_url(self._account, "status", n=key)
        return fields

    def _url(self, path: str) -> str:
        return f"{self._base}/2010-04-01/Accounts/{quote(self._sid, safe='')}{path}"

    def _start_call(self, fields: dict[str, Any]) -> str:
        return self._create("Calls.json", fields)

    def _create(self, resource: str, fields: Mapping[str, Any]) -> str:
        response = self._request("POST", resource, fields)
        if response.status not in (200, 201):
            _fail(response)
        sid = vendor_http.body(response).get("sid")
        if not sid:
            raise vendor_http.no_answer(_VENDOR)
        return str(sid)[:100]

    def _request_of_account(
        self, method: str, resource: str, fields: Mapping[str, str] | None = None
    ) -> EgressResponse | None:
        response = self._request(method, f"{resource.removesuffix('.json')}.json", fields or {})
        if response.status == 404 or vendor_http.body(response).get("code") == _CALL_OVER:
            return None
        if response.status not in (200, 201, 204):
            _fail(response)
        return response

    def _request(self, method: str, resource: str, fields: Mapping[str, Any]) -> EgressResponse:
        form = {"Content-Type": "application/x-www-form-urlencoded"} if fields else {}
        return self._client.request(
            method,
            self._url(f"/{resource}"),
            headers={"Authorization": self._authorization, **form},
            content=urlencode(fields, doseq=True).encode(),
        )

    def _media_headers(self) -> dict[str, str]:
        return {"Authorization": self._authorization}


def _fail(response: EgressResponse) -> NoReturn:
    error = vendor_http.body(response)
    code = error.get("code")
    message = vendor_http.line(error.get("message", ""))
    vendor_http.raise_for_error(response, _VENDOR, str(code or ""), find_error(code), message)


# ---------- provider


_OPT_OUT = {"STOP": True, "START": False}

_STATES = {
    "delivered": ReceiptState.DELIVERED,
    "read": ReceiptState.DELIVERED,
    "undelivered": ReceiptState.FAILED,
    "failed": ReceiptState.FAILED,
    "canceled": ReceiptState.FAILED,
}
_UNKNOWN_ENDPOINT = ReasonType("provider.twilio_unknown_endpoint", "Twilio calls sms, voice and status.")


class TwilioKind(HotlineKind):
    name = "twilio"
    label = "Twilio"
    description = "Text messages and phone calls worldwide, with replies, key presses and delivery receipts."
    icon = "phone-call"
    channels: tuple[str, ...] = ("sms", "voice")
    reply_channels: frozenset[str] = frozenset({"sms", "voice"})
    receipt_channels: frozenset[str] = frozenset({"sms", "voice"})
    max_concurrent_sends = 40
    open = TwilioSender
    dialect = _DIALECT
    package_help = translatable(
        "Takes a message while Tocsin does not answer. At Twilio: create a TwiML Bin with it, and choose the bin at "
        "your hotline's number under Primary handler fails."
    )
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
            ProviderSettingType.SENDER,
            is_required=True,
            help="Your Twilio number, such as +41 44 000 00 00. A sender name also works for texts.",
        ),
        ProviderSetting(
            "messaging_service_sid",
            "Messaging service SID",
            help="Only if you send texts through a messaging service; starts with MG.",
        ),
        twiml.MACHINE_DETECTION,
        ProviderSetting(
            "api_base", "API URL", ProviderSettingType.URL, default=API, help="Change only for a Twilio region."
        ),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint(
            "sms",
            translatable("Incoming message URL"),
            translatable("At Twilio: your number (or messaging service), Messaging, Webhook, HTTP POST."),
        ),
        WebhookEndpoint(
            "voice",
            translatable("Incoming call URL"),
            translatable(
                "At Twilio: your number, Voice, Webhook, HTTP POST. Lets users call back to hear a missed page."
            ),
        ),
        *twiml.hotline_endpoints(
            translatable("At Twilio: the number of your hotline, Voice, A call comes in, Webhook, HTTP POST."),
            translatable("At Twilio: the same number, Voice, Call status changes, HTTP POST. Reports hang-ups."),
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
                return twiml.handle_call(_VENDOR, account, callback, fields, receiver)
            case "status" if "CallSid" in fields:
                return twiml.handle_call(_VENDOR, account, callback, fields, receiver)
            case endpoint if twiml.is_hotline(endpoint):
                return twiml.handle_hotline(_DIALECT, account, callback, fields, receiver)
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


def text_answer(text: str) -> str:
    """Returns the reply to a text, or no reply if `text` is empty."""
    return twiml.document(*((twiml.Verb("Message", text),) if text else ()))


def _handle_text(fields: dict[str, str], receiver: EventReceiver) -> CallbackResponse:
    message = InboundText(
        "sms",
        fields.get("From", ""),
        fields.get("Body", ""),
        fields.get("MessageSid", ""),
        _OPT_OUT.get(fields.get("OptOutType", "").upper()),
    )
    return CallbackResponse(200, text_answer(receiver.handle_text(message)), twiml.XML)


def _receipt(key: str, fields: dict[str, str]) -> Receipt:
    state = _STATES.get(fields.get("MessageStatus", fields.get("SmsStatus", "")), ReceiptState.IN_TRANSIT)
    external_id = fields.get("MessageSid", "")
    if state is not ReceiptState.FAILED:
        return Receipt(state, key, external_id)
    code = fields.get("ErrorCode", "")[:10]
    return vendor_http.failed_receipt(_VENDOR, code, find_error(code), key=key, external_id=external_id)
