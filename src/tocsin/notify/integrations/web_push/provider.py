"""The built-in provider for pushes to users' own devices: no account, no vendor SDK, no app.

Each browser names its own push service (RFC 8030) when it subscribes; the message is encrypted for that browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parseaddr
from urllib.parse import urlsplit
from uuid import UUID

from tocsin.core.config import environment
from tocsin.core.delivery.failure import NoSuchAddress
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.runtime import clock
from tocsin.notify.channels import push_addresses
from tocsin.notify.integrations import reasons
from tocsin.notify.integrations.web_push import devices, encryption, keys
from tocsin.notify.integrations.web_push.devices import Device, PushResult
from tocsin.notify.integrations.web_push.keys import KeyPair
from tocsin.notify.integrations.web_push.payload import payload
from tocsin.notify.interfaces import (
    OutcomeUnknown,
    ProviderAccount,
    ProviderKind,
    ProviderSender,
    ProviderSetting,
    Rendered,
    SendReceipt,
)

#: How long a push service keeps a message for an offline device, in seconds. Later, others have been paged.
_TTL_SECONDS = 3600

#: The maximum number of devices of one user that are pushed to at the same time.
_MAX_CONCURRENT = 8

UNSUBSCRIBED = ReasonType(
    "push.unsubscribed",
    "The browser no longer accepts push notifications: it was uninstalled, or permission was revoked.",
)
_OF_DEVICE = ReasonType("push.device_problem", "{device}: {problem}")
_SUBSCRIBE_THERE = ReasonType("push.subscribe_there", "Press “Enable push on this device” there.")
_SUBSCRIBE_AGAIN = ReasonType("push.subscribe_again", "Press “Enable push on this device” there again.")
_TOO_LONG = ReasonType("push.too_long", "{server} rejected the message as too long ({answer}).")
_SIGNED = ReasonType(
    "push.signed",
    "Push notifications are signed with this installation's key. Each browser names its own push service.",
)


class WebPushKind(ProviderKind):
    name = "web_push"
    label = "Web Push"
    description = "Push notifications to users' browsers and phones, without any external account."
    icon = "device-mobile"
    channels: tuple[str, ...] = ("push",)
    reply_channels: frozenset[str] = frozenset({"push"})
    max_concurrent_sends = 40
    settings: tuple[ProviderSetting, ...] = ()

    def accepts(self, channel: str, address: str) -> bool:
        return push_addresses.is_devices(address)

    def open(self, account: ProviderAccount) -> ProviderSender:
        return WebPushSender()


class WebPushSender:
    """Sends to every device of an address. One successful device is enough."""

    def __init__(self) -> None:
        self._client = HttpClient()

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        target_devices = devices.require_devices(address)
        data = payload(rendered, idempotency_key)
        signing = keys.pair(clock.now())

        def push(device: Device) -> _PushAttempt:
            return self._push(device, data, rendered, idempotency_key, signing)

        # A slow push service must not delay the user's other devices.
        with ThreadPoolExecutor(min(len(target_devices), _MAX_CONCURRENT)) as pool:
            attempts = list(pool.map(push, target_devices)) if len(target_devices) > 1 else [push(target_devices[0])]
        devices.record_results([attempt.result for attempt in attempts], clock.now())
        return _outcome(attempts)

    def verify(self) -> Reason:
        keys.check()
        return _SIGNED()

    def close(self) -> None:
        self._client.close()

    def _push(self, device: Device, data: bytes, rendered: Rendered, key: str, signing: KeyPair) -> _PushAttempt:
        try:
            return _attempt_of_response(device, self._post(device, data, rendered, key, signing))
        except (Temporary, Permanent) as error:
            return _PushAttempt(PushResult(device.id, error=error.reason), error)

    def _post(self, device: Device, data: bytes, rendered: Rendered, key: str, signing: KeyPair) -> EgressResponse:
        now = clock.now()
        subscription = device.subscription
        return self._client.request(
            "POST",
            subscription.endpoint,
            headers={
                "Authorization": encryption.authorization(signing, subscription, contact(), now),
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
                "TTL": str(_TTL_SECONDS),
                "Urgency": "high" if rendered.buttons else "normal",
                # A repeated message replaces the first one while the device is offline (RFC 8030, 5.4).
                "Topic": UUID(key).hex,
            },
            content=encryption.encrypted(data, subscription),
        )


@dataclass(frozen=True, slots=True)
class _PushAttempt:
    """The result of a push to one device."""

    result: PushResult
    error: Temporary | Permanent | None = None
    external_id: str = ""


def contact() -> str:
    """Returns the contact that a push service may write to about problems with this sender (RFC 8292, 2.1)."""
    settings = environment.current()
    mail = parseaddr(settings.email_from or "")[1]
    if mail:
        return f"mailto:{mail}"
    if settings.public_url.startswith("https://"):
        return settings.public_url
    return f"mailto:tocsin@{urlsplit(settings.public_url).hostname}"


def _attempt_of_response(device: Device, response: EgressResponse) -> _PushAttempt:
    service, answer = device.subscription.service, str(response.status)
    match response.status:
        case 200 | 201 | 202 | 204:
            return _PushAttempt(PushResult(device.id), external_id=response.headers.get("location", ""))
        case 404 | 410:
            # RFC 8030, 7.3: the subscription no longer exists.
            reason = _OF_DEVICE(device=device.name, problem=UNSUBSCRIBED())
            problem: Temporary | Permanent = NoSuchAddress(reason, _SUBSCRIBE_THERE())
            return _PushAttempt(PushResult(device.id, error=UNSUBSCRIBED(), is_unsubscribed=True), problem)
        case 408 | 425 | 429:
            problem = Temporary(reasons.BUSY(server=service, answer=answer), response.retry_after)
        case status if status >= 500:
            problem = Temporary(reasons.SERVER_ERROR(server=service, answer=answer), response.retry_after)
        case 413:
            problem = Permanent(_TOO_LONG(server=service, answer=answer))
        case status if status in range(300, 400):
            problem = Permanent(reasons.REDIRECTED(server=service, answer=answer), _SUBSCRIBE_AGAIN())
        case _:
            problem = Permanent(reasons.MESSAGE_REJECTED(server=service, answer=answer), _SUBSCRIBE_AGAIN())
    return _PushAttempt(PushResult(device.id, error=problem.reason), problem)


def _outcome(attempts: Sequence[_PushAttempt]) -> SendReceipt:
    """Returns success if any device's service accepted; else raises the most recoverable error."""
    for attempt in attempts:
        if attempt.error is None:
            return SendReceipt(attempt.external_id)
    errors = [attempt.error for attempt in attempts if attempt.error is not None]
    raise min(errors, key=_severity)


def _severity(error: Exception) -> int:
    if isinstance(error, OutcomeUnknown):
        return 0
    return 1 if isinstance(error, Temporary) else 2
