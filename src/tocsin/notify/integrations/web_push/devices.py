"""The devices on which users receive pushes: subscribing, renaming, removing. All devices of a user share one contact
method.

`record_results` writes the results of push services over the connection pool; everything else uses Django's connection.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version, crypto
from tocsin.core.db import database
from tocsin.core.delivery.failure import NoSuchAddress
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType
from tocsin.core.stored_reason import reason_columns
from tocsin.notify.channels import push_addresses
from tocsin.notify.integrations.web_push import subscription
from tocsin.notify.integrations.web_push.subscription import Subscription
from tocsin.notify.models import PushDevice
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod, User

LABEL = "Push"
CHANNEL = "push"
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
    parsed = subscription.parse_subscription(value)
    with boundary.command():
        config_version.lock()
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
        config_version.lock()
        user, before = device.user, _audit_values(device)
        device_id = device.pk
        device.delete()
        _record(device, before, None, actor, now, device_id)
        method = contact_method(user)
        if method is not None and not PushDevice.objects.filter(address=method.address).exists():
            people.delete_contact_method(method, actor=actor, now=now)


def device_by_endpoint(endpoint: str) -> PushDevice | None:
    """Returns the subscribed device with this endpoint. The endpoint is known only to its browser and so authenticates
    it.
    """
    endpoint_hash = subscription.hash_of(endpoint)
    return PushDevice.objects.select_related("user").filter(endpoint_hash=endpoint_hash, gone_at=None).first()


def replace(device: PushDevice, value: object, *, actor: AuditActor, now: datetime) -> None:
    """Replaces the subscription after the browser renewed it; the device stays the same. Raises Rejected."""
    parsed = subscription.parse_subscription(value)
    with boundary.command():
        before = _audit_values(device)
        PushDevice.objects.filter(endpoint_hash=parsed.hash).exclude(pk=device.pk).delete()
        device.endpoint_hash, device.service = parsed.hash, parsed.service
        device.subscription = crypto.encrypt(parsed.text())
        device.save(update_fields=["endpoint_hash", "service", "subscription"])
        _record(device, before, _audit_values(device), actor, now)


def contact_method(user: User) -> ContactMethod | None:
    """Returns the user's push contact method, or None."""
    methods = ContactMethod.objects.filter(user=user, channel=CHANNEL, address__startswith=push_addresses.PREFIX)
    return methods.order_by("pk").first()


def devices_at(address: str) -> list[Device]:
    """Returns the subscribed devices of an address, over the connection pool."""
    with database.transaction() as connection:
        rows = database.rows(
            connection,
            "SELECT id, name, subscription FROM notify_pushdevice "
            "WHERE address = %s AND gone_at IS NULL AND subscription <> '' ORDER BY id",
            (address,),
        )
    return [Device(row["id"], row["name"], subscription.from_text(crypto.decrypt(row["subscription"]))) for row in rows]


@dataclass(frozen=True, slots=True)
class PushResult:
    """The push service's result for a device: success, an error, or the end of the subscription."""

    device_id: int
    error: Reason = NO_REASON
    is_unsubscribed: bool = False


_RECORD_RESULTS = """
UPDATE notify_pushdevice d
SET last_sent_at = CASE WHEN t.code = '' THEN %(now)s ELSE d.last_sent_at END,
    last_error_code = t.code, last_error_data = t.data,
    gone_at = CASE WHEN t.is_gone THEN %(now)s ELSE d.gone_at END,
    subscription = CASE WHEN t.is_gone THEN '' ELSE d.subscription END
FROM unnest(%(ids)s::bigint[], %(codes)s::text[], %(data)s::jsonb[], %(gone)s::boolean[]) AS t(id, code, data, is_gone)
WHERE d.id = t.id
"""


def record_results(results: Sequence[PushResult], now: datetime) -> None:
    """Records the results of push services. The row of an unsubscribed device is kept, so that the user sees it."""
    columns = [reason_columns(result.error) for result in results]
    with database.transaction() as connection:
        connection.execute(
            _RECORD_RESULTS,
            {
                "now": now,
                "ids": [result.device_id for result in results],
                "codes": [code for code, _ in columns],
                "data": [Jsonb(data) for _, data in columns],
                "gone": [result.is_unsubscribed for result in results],
            },
        )


def require_devices(address: str) -> list[Device]:
    """Returns the devices of an address as `at` does. Raises NoSuchAddress with the remedy if there are none."""
    devices = devices_at(address)
    if not devices:
        raise NoSuchAddress(_NO_DEVICE(), _SUBSCRIBE())
    return devices


def _new_contact_method(user: User, actor: AuditActor, now: datetime) -> ContactMethod:
    labels = {label.lower() for label in user.contact_methods.values_list("label", flat=True)}
    label = next(name for name in (LABEL, *(f"{LABEL} {n}" for n in range(2, 100))) if name.lower() not in labels)
    spec = {"label": label, "channel": CHANNEL, "address": push_addresses.new_address(secrets.token_bytes(13))}
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
    device: PushDevice,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    actor: AuditActor,
    now: datetime,
    device_id: int | None = None,
) -> None:
    audit.record_change(
        actor,
        now=now,
        object_type="push_device",
        object_id=device_id or device.pk,
        object_name=(after or before or {})["name"],
        before=before,
        after=after,
    )
