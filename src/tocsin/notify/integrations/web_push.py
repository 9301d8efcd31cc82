"""The built-in Web Push provider kind: pushes to users' own browsers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import crypto, environment, settings_store
from tocsin.core.db import database
from tocsin.core.delivery.circuit_breaker import NoSuchAddress
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, ReasonType
from tocsin.core.runtime import clock
from tocsin.notify.channels import chat
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender
from tocsin.notify.interfaces import (
    ProviderKind,
    ProviderSetting,
    Rendered,
)
from tocsin.notify.models import PushDevice
from tocsin.notify.text import formatting, signed_links
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod, User

# ---------- subscription
# Validates a browser's push subscription (W3C Push API, PushSubscription.toJSON). Pure: no database, sends nothing.


MAX_ENDPOINT_CHARS = 2000

#: RFC 8291, 3.2: an uncompressed P-256 point, and 16 bytes shared by browser and sender.
_POINT = 65
_AUTH = 16

_NO_ENDPOINT = ReasonType("push.no_endpoint", "The browser's subscription contains no address of a push service.")
_ENDPOINT_NOT_ALLOWED = ReasonType("push.endpoint_not_allowed", "The push service's address cannot be reached.")
_PUBLIC_KEY = ReasonType("push.public_key_invalid", "The browser's public key is not a point of P-256.")
_SECRET = ReasonType("push.secret_invalid", "The browser's secret is not 16 bytes.")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A browser's endpoint at its push service, and the keys to encrypt for it: who has all of it could push."""

    endpoint: str = field(repr=False)
    p256dh: str = field(repr=False)
    auth: str = field(repr=False)

    @property
    def hash(self) -> str:
        """Identifies a browser across subscriptions."""
        return hash_of(self.endpoint)

    @property
    def service(self) -> str:
        """The push service's hostname."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def origin(self) -> str:
        """The audience of a signed push (RFC 8292, 2: `aud`)."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    def text(self) -> str:
        """Returns the stored form. The caller encrypts it."""
        return json.dumps({"endpoint": self.endpoint, "p256dh": self.p256dh, "auth": self.auth})


def hash_of(endpoint: str) -> str:
    """Returns the SHA-256 of an endpoint in hexadecimal, which identifies the browser."""
    return hashlib.sha256(endpoint.encode("utf-8", "replace")).hexdigest()


def parse_subscription(value: object) -> Subscription:
    """Returns the validated subscription that a browser sent. Raises Rejected("invalid") with the invalid field."""
    document = value if isinstance(value, dict) else {}
    keys = document.get("keys") if isinstance(document.get("keys"), dict) else {}
    assert isinstance(keys, dict)
    endpoint, p256dh, auth = document.get("endpoint"), keys.get("p256dh"), keys.get("auth")
    if not isinstance(endpoint, str) or len(endpoint) > MAX_ENDPOINT_CHARS:
        raise Rejected("invalid", _NO_ENDPOINT(), "endpoint")
    try:
        egress.check_url(endpoint)
    except Permanent:
        raise Rejected("invalid", _ENDPOINT_NOT_ALLOWED(), "endpoint") from None
    if not _is_point(p256dh):
        raise Rejected("invalid", _PUBLIC_KEY(), "keys.p256dh")
    if not isinstance(auth, str) or len(_decoded(auth)) != _AUTH:
        raise Rejected("invalid", _SECRET(), "keys.auth")
    assert isinstance(p256dh, str)
    return Subscription(endpoint, p256dh.rstrip("="), auth.rstrip("="))


def _is_point(value: object) -> bool:
    if not isinstance(value, str) or len(point := _decoded(value)) != _POINT:
        return False
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return False
    return True


def _decoded(text: str) -> bytes:
    try:
        return _bytes(text)
    except (ValueError, binascii.Error):
        return b""


def _bytes(text: str) -> bytes:
    plain = text.rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)


# ---------- keys
# The key pair that identifies this installation to push services (VAPID, RFC 8292). Created once, stored encrypted.
#
# Browsers bind a subscription to the public key, so the key pair is never replaced: all devices would have to
# subscribe again.


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both in base64url without padding: the uncompressed point, and the private number."""

    public: str
    private: str = field(repr=False)


def pair(now: datetime) -> KeyPair:
    """Returns the installation's key pair and creates it on first use; concurrent first uses get the same pair. Raises
    Permanent if no known secret key decrypts it.
    """
    row = _row(now)
    return KeyPair(row["public"], crypto.decrypt(row["private"]))


def check() -> None:
    """Raises Permanent if the key pair exists and no known secret key decrypts it. Writes nothing."""
    with database.transaction() as connection:
        row = database.row(connection, _STORED)
    if row is not None:
        crypto.decrypt(row["private"])


def public(now: datetime) -> str:
    """Returns the public key, which browsers subscribe with. It is available even if the secret key is lost."""
    return str(_row(now)["public"])


_STORED = "SELECT public, private FROM notify_pushkey WHERE id = 1"
_STORE = "INSERT INTO notify_pushkey (id, public, private, created_at) VALUES (1, %s, %s, %s) ON CONFLICT DO NOTHING"


def _row(now: datetime) -> dict[str, Any]:
    with database.transaction() as connection:
        row = database.row(connection, _STORED)
        if row is None:
            key = ec.generate_private_key(ec.SECP256R1())
            point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            private = _text(key.private_numbers().private_value.to_bytes(32))
            connection.execute(_STORE, (_text(point), crypto.encrypt(private), now))
            row = database.row(connection, _STORED)
    assert row is not None
    return row


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# ---------- encryption
# Encrypts a push for one browser (RFC 8291) and signs it for its push service (RFC 8292).
#
# Uses the two libraries behind pywebpush directly: pywebpush itself loads an unused asynchronous HTTP client of 18 MB.


#: RFC 8030, 7.2: a push service must accept 4096 bytes of body; header, tag and padding take 103 of them.
MAX_PAYLOAD_BYTES = 3_900

#: RFC 8292, 2: at most 24 hours.
_SIGNED_FOR = timedelta(hours=12)


def encrypted(data: bytes, subscription: Subscription) -> bytes:
    """Returns `data` in the content coding aes128gcm, readable only by that browser."""
    # Imported on demand, when a push is sent.
    import http_ece

    ciphertext: bytes = http_ece.encrypt(
        data,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=_bytes(subscription.p256dh),
        auth_secret=_bytes(subscription.auth),
        version="aes128gcm",
    )
    return ciphertext


def authorization(pair: KeyPair, subscription: Subscription, contact: str, now: datetime) -> str:
    """Returns the value of the Authorization header. `contact` is a mailto: or https: URL of the operator."""
    from py_vapid import Vapid02

    claims = {"aud": subscription.origin, "sub": contact, "exp": int((now + _SIGNED_FOR).timestamp())}
    signer = Vapid02.from_raw(pair.private.encode())
    # The library's own check of `sub` rejects values that RFC 8292 allows, such as https://host:port.
    signer.conf["no-strict"] = True
    return str(signer.sign(claims)["Authorization"])


def payload(rendered: Rendered, notification_id: str) -> bytes:
    """Returns JSON of at most `MAX_PAYLOAD_BYTES`. The text is shortened first, then the title."""
    token = signed_links.token_of(rendered.link) if rendered.buttons else ""
    target = urlsplit(rendered.link)
    values: dict[str, Any] = {
        "id": notification_id,
        "title": rendered.subject,
        "text": rendered.text,
        # Without its host: a service worker opens only pages of its own origin.
        "url": (target.path or "/") + (f"?{target.query}" if target.query else ""),
        "is_urgent": bool(rendered.buttons),
    }
    if (number := signed_links.alert_of(rendered.link)) is not None:
        # A later push about the same alert, including the all-clear, replaces this one.
        values["tag"] = f"alert-{number}"
    if token:
        values |= {
            "token": token,
            # Browsers show only two buttons, so the most important two come first.
            "acts": [
                {"action": str(button), "title": chat.label(button, rendered.language)} for button in chat.PLAIN_BUTTONS
            ],
        }
    return _fit(values)


def _fit(values: dict[str, Any]) -> bytes:
    for key in ("text", "title"):
        data = _json(values)
        while len(data) > MAX_PAYLOAD_BYTES and values[key]:
            excess = len(data) - MAX_PAYLOAD_BYTES
            values[key] = formatting.cut(values[key], max(0, len(values[key]) - max(1, excess // 4)))
            data = _json(values)
    return _json(values)


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


# ---------- devices
# The devices on which users receive pushes: subscribing, renaming, removing. All devices of a user share one contact
# method.
#
# What sending reads and writes goes over the connection pool; everything else uses Django's connection.


LABEL = "Push"
CHANNEL = "push"
#: The address of a contact method that reaches all devices of a user has this prefix and a random word: it cannot be
#: guessed and says nothing about the user, so that no user's pages can reach another user's devices.
PREFIX = "devices:"
_ADDRESS = re.compile(r"devices:[a-z2-7]{20}")
#: A limit that no user needs to exceed. It prevents one user's page from being sent hundreds of times.
MAX_DEVICES = 20

_TOO_MANY = ReasonType("push.too_many_devices", "You already have {limit} devices. Remove one first.")
_NO_DEVICE = ReasonType("push.no_device", "None of the person's devices accepts push notifications.")
_SUBSCRIBE = ReasonType("push.subscribe", "Have the person press “Enable push on this device” in their profile.")
_NAME = ReasonType("push.device_name", "A device's name has 1 to 100 characters.")


@dataclass(frozen=True, slots=True)
class Device:
    """A subscribed device, ready to be sent to."""

    id: int
    name: str
    subscription: Subscription = field(repr=False)


def device_spec(device: PushDevice) -> dict[str, Any]:
    """Returns the device as the API shows it. Never includes the subscription."""
    return {
        "id": device.pk,
        "name": device.name,
        "service": device.service,
        "created_at": device.created_at,
        "last_sent_at": device.last_sent_at,
        "last_error": str(device.last_error),
        "gone_at": device.gone_at,
    }


def subscribe(user: User, value: object, name: str, *, actor: AuditActor, now: datetime) -> PushDevice:
    """Subscribes the device to `user`'s pushes and creates the push contact method if there is none. A known browser
    keeps its device row, which then belongs to the user who signed in there.

    Raises Rejected with the problem.
    """
    parsed = parse_subscription(value)
    with boundary.command():
        settings_store.lock()
        method = contact_method(user) or _new_contact_method(user, actor, now)
        device = PushDevice.objects.filter(endpoint_hash=parsed.hash).first()
        if device is None and user.push_devices.count() >= MAX_DEVICES:
            raise Rejected("too_many", _TOO_MANY(limit=MAX_DEVICES))
        before = _audit_values(device) if device and device.user_id == user.pk else None
        device = device or PushDevice(endpoint_hash=parsed.hash, created_at=now)
        device.user, device.address, device.name = user, method.address, _validate_name(name)
        device.service, device.subscription = parsed.service, crypto.encrypt(parsed.text())
        device.gone_at, device.last_error = None, NO_REASON
        device.save()
        _record(device, before, _audit_values(device), actor, now)
    return device


def rename(device: PushDevice, name: str, *, actor: AuditActor, now: datetime) -> None:
    """Renames the device. Raises Rejected for an invalid name."""
    with boundary.command():
        before = _audit_values(device)
        device.name = _validate_name(name)
        device.save(update_fields=["name"])
        _record(device, before, _audit_values(device), actor, now)


def remove(device: PushDevice, *, actor: AuditActor, now: datetime) -> None:
    """Deletes the device. The last device's contact method is deleted too, since it would reach nobody."""
    with boundary.command():
        settings_store.lock()
        user = device.user
        _record(device, _audit_values(device), None, actor, now)
        device.delete()
        method = contact_method(user)
        if method is not None and not PushDevice.objects.filter(address=method.address).exists():
            people.delete_contact_method(method, actor=actor, now=now)


def device_by_endpoint(endpoint: str) -> PushDevice | None:
    """Returns the subscribed device with this endpoint, which only its browser knows and so authenticates it."""
    return PushDevice.objects.select_related("user").filter(endpoint_hash=hash_of(endpoint), gone_at=None).first()


def replace(device: PushDevice, value: object, *, actor: AuditActor, now: datetime) -> None:
    """Replaces the subscription after the browser renewed it; the device stays the same. Raises Rejected."""
    parsed = parse_subscription(value)
    with boundary.command():
        before = _audit_values(device)
        PushDevice.objects.filter(endpoint_hash=parsed.hash).exclude(pk=device.pk).delete()
        device.endpoint_hash, device.service = parsed.hash, parsed.service
        device.subscription = crypto.encrypt(parsed.text())
        device.save(update_fields=["endpoint_hash", "service", "subscription"])
        _record(device, before, _audit_values(device), actor, now)


def contact_method(user: User) -> ContactMethod | None:
    """Returns the user's push contact method, or None."""
    methods = ContactMethod.objects.filter(user=user, channel=CHANNEL, address__startswith=PREFIX)
    return methods.order_by("pk").first()


def _devices_at(address: str) -> list[Device]:
    """Returns the subscribed devices of an address. Raises NoSuchAddress with the remedy if there are none."""
    with database.transaction() as connection:
        rows = database.rows(
            connection,
            "SELECT id, name, subscription FROM notify_pushdevice "
            "WHERE address = %s AND gone_at IS NULL AND subscription <> '' ORDER BY id",
            (address,),
        )
    if not rows:
        raise NoSuchAddress(_NO_DEVICE(), _SUBSCRIBE())
    return [
        Device(row["id"], row["name"], Subscription(**json.loads(crypto.decrypt(row["subscription"])))) for row in rows
    ]


_RECORD_RESULTS = """
UPDATE notify_pushdevice d
SET last_sent_at = CASE WHEN t.error = '{}' THEN %(now)s ELSE d.last_sent_at END,
    last_error = t.error,
    gone_at = CASE WHEN t.is_gone THEN %(now)s ELSE d.gone_at END,
    subscription = CASE WHEN t.is_gone THEN '' ELSE d.subscription END
FROM unnest(%(ids)s::bigint[], %(errors)s::jsonb[], %(gone)s::boolean[]) AS t(id, error, is_gone)
WHERE d.id = t.id
"""


def new_address() -> str:
    return PREFIX + base64.b32encode(secrets.token_bytes(13)).decode().lower()[:20]


def _new_contact_method(user: User, actor: AuditActor, now: datetime) -> ContactMethod:
    labels = {label.lower() for label in user.contact_methods.values_list("label", flat=True)}
    label = next(name for name in (LABEL, *(f"{LABEL} {n}" for n in range(2, 100))) if name.lower() not in labels)
    spec = {"label": label, "channel": CHANNEL, "address": new_address()}
    method = people.save_contact_method(user, spec, actor=actor, now=now)
    # The browser asked the user for permission, so no verification code is needed.
    ContactMethod.objects.filter(pk=method.pk).update(verified_at=now)
    return method


def _validate_name(name: str) -> str:
    text = " ".join(name.split())
    if not text or len(text) > 100 or not text.isprintable():
        raise Rejected("invalid", _NAME(), "name")
    return text


def _audit_values(device: PushDevice) -> dict[str, Any]:
    return {"user": device.user.username, "name": device.name, "service": device.service}


def _record(
    device: PushDevice, before: dict[str, Any] | None, after: dict[str, Any] | None, actor: AuditActor, now: datetime
) -> None:
    audit.record_change(
        actor,
        now=now,
        object_type="push_device",
        object_id=device.pk,
        object_name=device.name,
        before=before,
        after=after,
    )


# ---------- provider
# The built-in provider for pushes to users' own devices: no account, no vendor SDK, no app.
#
# Each browser names its own push service (RFC 8030) when it subscribes; the message is encrypted for that browser.


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


class WebPushSender(HttpSender):
    """Sends to every device of an address. One successful device is enough."""

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        devices = _devices_at(address)
        data, signing = payload(rendered, idempotency_key), pair(clock.now())

        def push(device: Device) -> _PushAttempt:
            try:
                response = self._post(device, data, rendered, idempotency_key, signing)
            except (Temporary, Permanent) as error:
                return _PushAttempt(device, error)
            return _PushAttempt(device, _error_of(device, response), response.headers.get("location", ""))

        # A slow push service must not delay the user's other devices.
        with ThreadPoolExecutor(min(len(devices), _MAX_CONCURRENT)) as pool:
            attempts = list(pool.map(push, devices)) if len(devices) > 1 else [push(devices[0])]
        _record_results(attempts, clock.now())
        return _outcome(attempts)

    def verify(self) -> Reason:
        check()
        return _SIGNED()

    def _post(self, device: Device, data: bytes, rendered: Rendered, key: str, signing: KeyPair) -> EgressResponse:
        now = clock.now()
        subscription = device.subscription
        return self._client.request(
            "POST",
            subscription.endpoint,
            headers={
                "Authorization": authorization(signing, subscription, contact(), now),
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
                "TTL": str(_TTL_SECONDS),
                "Urgency": "high" if rendered.buttons else "normal",
                # A repeated message replaces the first one while the device is offline (RFC 8030, 5.4).
                "Topic": UUID(key).hex,
            },
            content=encrypted(data, subscription),
        )


class WebPushKind(ProviderKind):
    name = "web_push"
    label = "Web Push"
    description = "Push notifications to users' browsers and phones, without any external account."
    icon = "device-mobile"
    is_built_in = True
    channels: tuple[str, ...] = ("push",)
    reply_channels: frozenset[str] = frozenset({"push"})
    max_concurrent_sends = 40
    open = WebPushSender
    settings: tuple[ProviderSetting, ...] = ()

    def accepts(self, channel: str, address: str) -> bool:
        return _ADDRESS.fullmatch(address) is not None


@dataclass(frozen=True, slots=True)
class _PushAttempt:
    """The result of a push to one device."""

    device: Device
    error: Temporary | Permanent | None
    external_id: str = ""


def _record_results(attempts: Sequence[_PushAttempt], now: datetime) -> None:
    """Records what push services answered. The row of an unsubscribed device is kept, so that the user sees it."""
    gone = [isinstance(attempt.error, NoSuchAddress) for attempt in attempts]
    errors = [attempt.error.reason if attempt.error else NO_REASON for attempt in attempts]
    parameters: dict[str, object] = {
        "now": now,
        "ids": [attempt.device.id for attempt in attempts],
        "errors": [UNSUBSCRIBED() if is_gone else error for is_gone, error in zip(gone, errors, strict=True)],
        "gone": gone,
    }
    with database.transaction() as connection:
        connection.execute(_RECORD_RESULTS, parameters)


def contact() -> str:
    """Returns the contact that a push service may write to about problems with this sender (RFC 8292, 2.1)."""
    settings = environment.current()
    mail = parseaddr(settings.email_from or "")[1]
    if mail:
        return f"mailto:{mail}"
    if settings.public_url.startswith("https://"):
        return settings.public_url
    return f"mailto:tocsin@{urlsplit(settings.public_url).hostname}"


def _error_of(device: Device, response: EgressResponse) -> Temporary | Permanent | None:
    """Returns the error that a push service's response means."""
    service, answer = device.subscription.service, str(response.status)
    match response.status:
        case 200 | 201 | 202 | 204:
            return None
        case 404 | 410:
            # RFC 8030, 7.3: the subscription no longer exists.
            return NoSuchAddress(_OF_DEVICE(device=device.name, problem=UNSUBSCRIBED()), _SUBSCRIBE_THERE())
        case 408 | 425 | 429:
            return Temporary(vendor_http.BUSY(server=service, answer=answer), response.retry_after)
        case status if status >= 500:
            return Temporary(vendor_http.SERVER_ERROR(server=service, answer=answer), response.retry_after)
        case 413:
            return Permanent(_TOO_LONG(server=service, answer=answer))
        case status if status in range(300, 400):
            return Permanent(vendor_http.REDIRECTED(server=service, answer=answer), _SUBSCRIBE_AGAIN())
        case _:
            return Permanent(vendor_http.MESSAGE_REJECTED(server=service, answer=answer), _SUBSCRIBE_AGAIN())


def _outcome(attempts: Sequence[_PushAttempt]) -> str:
    """Returns success if any device's service accepted; else raises the most recoverable error."""
    errors: list[Temporary | Permanent] = []
    for attempt in attempts:
        if attempt.error is None:
            return attempt.external_id
        errors.append(attempt.error)
    raise min(errors, key=lambda error: (not isinstance(error, OutcomeUnknown), not isinstance(error, Temporary)))
