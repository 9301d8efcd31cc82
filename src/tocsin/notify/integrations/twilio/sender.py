"""Sends texts and starts calls with Twilio's REST API (https://www.twilio.com/docs/usage/api). Callbacks are handled in
`integrations.twilio.provider`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import NoReturn
from urllib.parse import quote, urlencode

from tocsin.core.errors import Permanent
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, joined
from tocsin.notify.channels.phone_numbers import sender
from tocsin.notify.integrations import http_status, reasons
from tocsin.notify.integrations.twilio import twiml
from tocsin.notify.integrations.twilio.error_codes import find_error
from tocsin.notify.interfaces import ProviderAccount, Rendered, SendReceipt

API = "https://api.twilio.com"
#: After this time, the phone's voicemail usually answers.
RING_SECONDS = 30

_ACCOUNT_NOT_ACTIVE = ReasonType("provider.twilio_account_not_active", "The Twilio account {account} is {status}.")
_CHECK_CONSOLE = ReasonType("provider.twilio_check_console", "Check Twilio's console.")
_SIGNED_IN = ReasonType("provider.twilio_signed_in", "Signed in to Twilio as {account}.")
_TRIAL = ReasonType("provider.twilio_trial", "It is a trial account, which reaches verified numbers only.")
_NO_CALLBACKS = ReasonType(
    "provider.twilio_no_callbacks", "Set TOCSIN_BASE_URL to receive replies, key presses and delivery receipts."
)


class TwilioSender:
    """Sends with one Twilio account."""

    def __init__(self, account: ProviderAccount) -> None:
        self._account = account
        self._sid = str(account.settings.get("account_sid") or "")
        self._from = sender(str(account.settings.get("from_number") or ""))
        self._service = str(account.settings.get("messaging_service_sid") or "")
        self._base = str(account.settings.get("api_base") or API).rstrip("/")
        pair = f"{self._sid}:{account.secrets.get('auth_token', '')}"
        self._authorization = f"Basic {b64encode(pair.encode()).decode()}"
        self._client = HttpClient(trusted=account.is_trusted)

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        fields = self._call(rendered, address, idempotency_key) if channel == "voice" else self._text(rendered, address)
        if self._account.callback_base_url:
            # Twilio has no idempotency key. With Tocsin's key in the URL, an early callback finds its message before
            # Twilio's message id is stored.
            fields["StatusCallback"] = self._callback_url("status", idempotency_key)
        response = self._post("Calls.json" if channel == "voice" else "Messages.json", fields)
        sid = http_status.body(response).get("sid")
        if not sid:
            raise http_status.no_answer("Twilio")
        return SendReceipt(str(sid)[:100])

    def verify(self) -> Reason:
        response = self._client.request("GET", self._url(".json"), headers={"Authorization": self._authorization})
        if response.status != 200:
            _fail(response)
        account = http_status.body(response)
        name = http_status.line(account.get("friendly_name", self._sid), 60)
        status = http_status.line(account.get("status", "active"), 20)
        if status != "active":
            raise Permanent(_ACCOUNT_NOT_ACTIVE(account=name, status=status), _CHECK_CONSOLE())
        trial = _TRIAL() if account.get("type") == "Trial" else NO_REASON
        no_callbacks = NO_REASON if self._account.callback_base_url else _NO_CALLBACKS()
        return joined(_SIGNED_IN(account=name), trial, no_callbacks, separator=" ")

    def close(self) -> None:
        self._client.close()

    def _text(self, rendered: Rendered, address: str) -> dict[str, str]:
        origin = {"MessagingServiceSid": self._service} if self._service else {"From": self._from}
        return {"To": address, **origin, "Body": rendered.text}

    def _call(self, rendered: Rendered, address: str, key: str) -> dict[str, str]:
        fields = {"To": address, "From": self._from, "Timeout": str(RING_SECONDS)}
        if not self._account.callback_base_url:
            # Without a public address Twilio cannot fetch the script, so it is sent along, and keys do nothing.
            return {**fields, "Twiml": twiml.spoken_once(rendered)}
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
    error = http_status.body(response)
    vendor_error = find_error(error.get("code"))
    if (
        vendor_error is not None
        and 400 <= response.status < 500
        and response.status not in http_status.RETRYABLE_STATUSES
    ):
        reason = reasons.with_code(vendor_error.reason, "Twilio", str(error["code"]))
        vendor_error.throw(reason, response.retry_after)
    http_status.raise_for_status(response, "Twilio", http_status.line(error.get("message", "")))
