"""Pushover: the channel of pushes to a person, addressed by their user key, and the provider kind that sends as one
application (https://pushover.net/api).

An urgent page is an "emergency": Pushover repeats it until someone answers in the app, and has a receipt that Tocsin
asks for, so that no public address is needed. A callback is not signed: it only makes Tocsin ask sooner.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore
from typing import Any, NoReturn
from urllib.parse import quote

from tocsin.alerts.states import Priority
from tocsin.core.delivery.circuit_breaker import ENTER_CREDENTIALS, AddressRejected, NoSuchAddress
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.egress import DEADLINE, EgressResponse
from tocsin.core.reasons import Reason, ReasonType, sentence, translatable
from tocsin.notify.channels.chat import CompactPushChannel
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    EventReceiver,
    ProviderAccount,
    ProviderSetting,
    ProviderSettingType,
    Quota,
    ReceiptReport,
    Rendered,
    Repeats,
    WebhookEndpoint,
    WebhookProvider,
)

API = "https://api.pushover.net"
VENDOR = "Pushover"

#: The form of the keys of users and groups, of application tokens and of receipts.
_KEY = re.compile(r"[A-Za-z0-9]{30}")

_NOT_A_KEY = sentence("This is no user key. A user key has 30 letters and digits; Pushover shows it after signing in.")
_GROUP_KEY = ReasonType(
    "provider.pushover_group_key",
    "This is the key of a group: the first member who acknowledges would silence the page for all others. Enter the "
    "user key of one person.",
)
_UNKNOWN_USER = ReasonType(
    "provider.pushover_unknown_user", "Pushover knows no user with this key ({answer}). Copy it from pushover.net."
)
_NO_DEVICES = ReasonType(
    "provider.pushover_no_devices", "This Pushover user has no active device ({answer}). Sign in to the app on a phone."
)
_NO_SUCH_CALLBACK = sentence("There is no such address.")
_QUOTA_EXHAUSTED = ReasonType(
    "provider.pushover_quota_exhausted", "Pushover accepts no more messages of this account for now ({answer})."
)
_BUY_MORE = ReasonType("provider.pushover_buy_more", "Buy more messages at pushover.net, or wait for the next month.")
_VERIFIED = ReasonType(
    "provider.pushover_verified", "Pushover accepts the application token. {left} of {limit} messages are left."
)


class PushoverChannel(CompactPushChannel):
    name = "pushover"
    label = "Pushover"
    nouns = (translatable("Pushover message"), "Pushover messages")
    address_help = translatable("your user key, 30 letters and digits")
    example = "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"
    silence_help = translatable(
        "iPhone: in the Pushover app, Settings, Critical Alerts for high-priority. Android: in the app's settings let "
        "high-priority messages sound as an alarm, and let Pushover override Do Not Disturb."
    )
    max_chars = 1024
    max_details_chars = 400
    has_repeats = True

    def normalize_address(self, text: str) -> str:
        """Returns a user key. Whether it is a person's, only Pushover can say (`PushoverSender.check_address`)."""
        entered = text.strip()
        if not _KEY.fullmatch(entered):
            raise Rejected("invalid_address", _NOT_A_KEY)
        return entered

    def accepts_code(self, address: str) -> bool:
        """A person who reads a page there can acknowledge it."""
        return True


# ---------- messages

#: 0: silent in the user's quiet hours; -1: never a sound. An emergency (2) is set for what is repeated.
_PRIORITIES = {Priority.CRITICAL: 1, Priority.HIGH: 1, Priority.MEDIUM: 0, Priority.LOW: -1}
_QUIET, _DEFAULT = -1, 0
_EMERGENCY = 2

_MAX_TITLE_CHARS, _MAX_MESSAGE_CHARS, _MAX_URL_CHARS, _MAX_URL_TITLE_CHARS = 250, 1024, 512, 100

#: An emergency is repeated at most 50 times, whatever `expire` says.
_MIN_RETRY, _MAX_EXPIRE, _MAX_REPEATS = 30, 10_800, 50
#: In seconds: how often it is repeated, if its time allows.
_RETRY = 60


def emergency_times(duration: timedelta) -> tuple[int, int]:
    """Returns `retry` and `expire`, in seconds, of a page that is repeated for `duration`, within Pushover's limits."""
    expire = min(max(int(duration.total_seconds()), _MIN_RETRY), _MAX_EXPIRE)
    most_often = max(_MIN_RETRY, -(-expire // _MAX_REPEATS))
    return max(most_often, min(_RETRY, expire // 2)), expire


def message_of(rendered: Rendered, settings: Mapping[str, Any], callback: str = "") -> dict[str, Any]:
    """Returns the parameters of a message, besides whom it is for. `callback` is the URL that Pushover calls."""
    button = rendered.buttons[0] if rendered.buttons else None
    url = button.url if button else rendered.link
    # There is room for one link. Others, and one that is too long, follow the text if they fit.
    others = [f"{other.label}: {other.url}" for other in rendered.buttons[1:]]
    if len(url) > _MAX_URL_CHARS:
        url, others = "", [url, *others]
    repeats = rendered.repeats
    fields = {
        "title": rendered.subject[:_MAX_TITLE_CHARS],
        "message": _with_lines(rendered.text or rendered.subject, others),
        "url": url,
        "url_title": button.label[:_MAX_URL_TITLE_CHARS] if button and url else "",
        "priority": _EMERGENCY
        if repeats
        else vendor_http.priority_of(rendered, _PRIORITIES, quiet=_QUIET, default=_DEFAULT),
        # Left out, the user's own choice sounds.
        "sound": settings.get("sound_urgent" if rendered.is_urgent or rendered.is_test else "sound"),
        **(_emergency(repeats, callback) if repeats else {}),
    }
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _emergency(repeats: Repeats, callback: str) -> dict[str, Any]:
    retry, expire = emergency_times(repeats.duration)
    return {"retry": retry, "expire": expire, "tags": ",".join(repeats.tags), "callback": callback}


def _with_lines(text: str, lines: list[str]) -> str:
    """Returns the text, followed by those of `lines` that fit whole."""
    for line in lines:
        if len(text) + len(line) < _MAX_MESSAGE_CHARS:
            text = f"{text}\n{line}"
    return text[:_MAX_MESSAGE_CHARS]


# ---------- provider

#: "Being friendly to our API": at most two connections at a time, receipts included.
_MAX_CONNECTIONS = 2
#: In seconds. A page must not wait for a receipt.
_RECEIPT_DEADLINE = 5.0


def callback_token(app_token: str) -> str:
    """Returns the part of the callback's URL that only holders of the application's token can compute."""
    return hmac.new(app_token.encode(), b"Tocsin's callback", hashlib.sha256).hexdigest()


class PushoverSender(HttpSender):
    """Sends as one application."""

    api = API

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(account)
        self._token = account.secrets.get("app_token", "")
        self._connections = BoundedSemaphore(_MAX_CONNECTIONS)

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        base = self._account.callback_base_url
        callback = f"{base}/{callback_token(self._token)}" if base else ""
        message = message_of(rendered, self._account.settings, callback)
        headers = {"Idempotency-Key": idempotency_key}
        answer = self._post("messages.json", {"user": address, **message}, headers)
        # An emergency is known by its receipt.
        if not (message_id := vendor_http.text(answer.get("receipt") or answer.get("request"))):
            raise vendor_http.no_answer(VENDOR)
        return message_id[:100]

    def verify(self) -> Reason:
        limits = self._get("apps/limits.json")
        self.quota = _quota(limits.get("limit"), limits.get("remaining"), limits.get("reset")) or self.quota
        left, limit = (self.quota.left, self.quota.limit) if self.quota else (0, 0)
        return _VERIFIED(left=left, limit=limit)

    def check_address(self, address: str) -> None:
        """Asks Pushover about a user key. An unknown one raises NoSuchAddress."""
        if self._post("users/validate.json", {"user": address}).get("group") in (1, "1", True):
            raise AddressRejected(_GROUP_KEY())

    def fetch_receipt(self, external_id: str) -> ReceiptReport:
        try:
            found = self._get(f"receipts/{quote(external_id, safe='')}.json", deadline=_RECEIPT_DEADLINE)
        except NoSuchAddress:
            # It is older than a week, or another application's.
            return ReceiptReport(is_over=True)
        is_answered = found.get("acknowledged") == 1
        return ReceiptReport(
            is_delivered=bool(found.get("last_delivered_at")),
            answered_by=vendor_http.text(found.get("acknowledged_by")) if is_answered else "",
            device=vendor_http.line(found.get("acknowledged_by_device"), 60) if is_answered else "",
            is_over=is_answered or found.get("expired") == 1,
        )

    def end_repeats(self, external_id: str = "", tag: str = "") -> None:
        path = f"receipts/{external_id}/cancel.json" if external_id else f"receipts/cancel_by_tag/{tag}.json"
        try:
            self._post(path, {}, deadline=_RECEIPT_DEADLINE)
        except NoSuchAddress:
            # It has ended already.
            return

    def _post(
        self, path: str, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None, deadline: float = DEADLINE
    ) -> dict[str, Any]:
        with self._connections:
            response = self._post_json(
                f"{self._base}/1/{path}", {"token": self._token, **fields}, headers or {}, deadline
            )
        return self._answer(response)

    def _get(self, path: str, deadline: float = DEADLINE) -> dict[str, Any]:
        with self._connections:
            url = f"{self._base}/1/{path}?token={quote(self._token, safe='')}"
            response = self._client.request("GET", url, deadline=deadline)
        return self._answer(response)

    def _answer(self, response: EgressResponse) -> dict[str, Any]:
        """Returns the vendor's answer; raises the error that a rejection means."""
        used = [response.headers.get(f"x-limit-app-{name}") for name in ("limit", "remaining", "reset")]
        self.quota = _quota(*used) or self.quota
        answer = vendor_http.body(response)
        if response.status != 200:
            _fail(response, answer)
        if answer.get("status") != 1:
            raise vendor_http.no_answer(VENDOR)
        return answer


def _quota(limit: object, left: object, resets_at: object) -> Quota | None:
    numbers = [vendor_http.text(value) for value in (limit, left, resets_at)]
    if not all(number.isascii() and number.isdigit() and len(number) < 11 for number in numbers):
        return None
    return Quota(int(numbers[0]), int(numbers[1]), datetime.fromtimestamp(int(numbers[2]), UTC))


def _fail(response: EgressResponse, answer: Mapping[str, Any]) -> NoReturn:
    message = vendor_http.line("; ".join(vendor_http.text(error) for error in vendor_http.items(answer.get("errors"))))
    shown = f"{response.status}: {message}"
    if "status" not in answer or response.status >= 500:
        vendor_http.raise_for_status(response, VENDOR, message)
    if response.status == 429:
        # Refused until the next month, or until a person acts: the next method follows at once.
        raise Permanent(_QUOTA_EXHAUSTED(answer=shown), _BUY_MORE())
    if "token" in answer:
        raise Permanent(vendor_http.CREDENTIALS_REJECTED(server=VENDOR, answer=shown), ENTER_CREDENTIALS())
    if "no active devices" in message:
        raise AddressRejected(_NO_DEVICES(answer=shown))
    if "user" in answer:
        raise NoSuchAddress(_UNKNOWN_USER(answer=shown))
    if "receipt" in answer or response.status == 404:
        raise NoSuchAddress(vendor_http.MESSAGE_REJECTED(server=VENDOR, answer=shown))
    vendor_http.raise_for_status(response, VENDOR, message)


class PushoverKind(WebhookProvider):
    name = "pushover"
    label = "Pushover"
    description = (
        "Push notifications that are repeated until someone acknowledges them, through silence if the phone allows it."
    )
    icon = "bell-ringing"
    channels: tuple[str, ...] = ("pushover",)
    reply_channels: frozenset[str] = frozenset({"pushover"})
    max_concurrent_sends = _MAX_CONNECTIONS
    open = PushoverSender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "app_token",
            "Application token",
            is_required=True,
            is_secret=True,
            help="From pushover.net, Your Applications.",
        ),
        ProviderSetting(
            "sound_urgent",
            "Sound of urgent pages",
            help="Such as siren or persistent, as Pushover names them. Empty: the user's choice.",
        ),
        ProviderSetting("sound", "Sound of other messages", help="As above. Empty: the user's choice."),
        ProviderSetting(
            "api_base", "API URL", ProviderSettingType.URL, default=API, help="Change only for a compatible server."
        ),
    )
    #: Nothing is entered at Pushover: each urgent page names the callback.
    webhook_endpoints: tuple[WebhookEndpoint, ...] = ()
    needs_callbacks = False

    def accepts(self, channel: str, address: str) -> bool:
        return _KEY.fullmatch(address) is not None

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        """Whatever it says, the receipt decides."""
        token = account.secrets.get("app_token", "")
        if not token or not hmac.compare_digest(callback_token(token).encode(), callback.endpoint.encode()):
            raise Rejected("not_found", _NO_SUCH_CALLBACK)
        receiver.hasten_poll(callback.fields().get("receipt", ""))
        return CallbackResponse(200)
