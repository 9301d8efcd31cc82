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
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.runtime import clock
from tocsin.notify.channels import push_addresses
from tocsin.notify.integrations.web_push import devices, encryption, keys
from tocsin.notify.integrations.web_push.devices import Device, PushResult
from tocsin.notify.integrations.web_push.keys import KeyPair
from tocsin.notify.integrations.web_push.payload import payload
from tocsin.notify.interfaces import (
    AddressRejected,
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

UNSUBSCRIBED = "Its browser takes pushes no more: it was uninstalled, or permission was taken away."


class WebPushKind(ProviderKind):
    name = "web_push"
    label = "Web Push"
    description = "Pushes to people's own browsers and phones, with no account anywhere."
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

    def verify(self) -> str:
        keys.pair(clock.now())
        return "Pushes are signed with this installation's own key; each browser names its own push service."

    def close(self) -> None:
        self._client.close()

    def _push(self, device: Device, data: bytes, rendered: Rendered, key: str, signing: KeyPair) -> _PushAttempt:
        try:
            return _attempt_of_response(device, self._post(device, data, rendered, key, signing))
        except (Temporary, Permanent) as error:
            return _PushAttempt(PushResult(device.id, error=error.detail), error)

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
    service = device.subscription.service
    match response.status:
        case 200 | 201 | 202 | 204:
            return _PushAttempt(PushResult(device.id), external_id=response.headers.get("location", ""))
        case 404 | 410:
            # RFC 8030, 7.3: the subscription no longer exists.
            sentence = f"{device.name}: {UNSUBSCRIBED}"
            problem: Temporary | Permanent = AddressRejected(sentence, "Press “Push on this device” there.")
            return _PushAttempt(PushResult(device.id, error=UNSUBSCRIBED, is_unsubscribed=True), problem)
        case 408 | 425 | 429:
            problem = Temporary(f"{service} takes no more for now ({response.status}).", response.retry_after)
        case status if status >= 500:
            problem = Temporary(f"{service} has trouble of its own ({status}).", response.retry_after)
        case 413:
            problem = Permanent(f"{service} finds the message too long (413).")
        case status if status in range(300, 400):
            problem = Permanent(f"{service} points elsewhere ({status}).", "Press “Push on this device” there again.")
        case status:
            problem = Permanent(f"{service} refuses the push ({status}).", "Press “Push on this device” there again.")
    return _PushAttempt(PushResult(device.id, error=problem.detail), problem)


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
