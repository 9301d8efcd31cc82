"""The devices on which people take pushes: subscribed, named, removed. All of a person's have one contact method.

What a push service says of a device is written by `told`, over the pool's connection; the rest is Django's.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version, crypto
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.channels import push_addresses
from tocsin.notify.integrations.web_push import subscription
from tocsin.notify.integrations.web_push.subscription import Subscription
from tocsin.notify.interfaces import AddressRejected
from tocsin.notify.models import PushDevice
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod, User

LABEL = "Push"
CHANNEL = "push"
#: More browsers than this nobody carries; it keeps one person's page from being sent hundreds of times.
MAX_DEVICES = 20


@dataclass(frozen=True, slots=True)
class Device:
    """A device that takes pushes, ready to be sent to."""

    id: int
    name: str
    subscription: Subscription = field(repr=False)


def device_spec(device: PushDevice) -> dict[str, Any]:
    """The device as the API shows one. Its subscription is never shown."""
    return {
        "id": device.pk,
        "name": device.name,
        "service": device.service,
        "created_at": device.created_at,
        "last_sent_at": device.last_sent_at,
        "last_error": device.last_error,
        "gone_at": device.gone_at,
    }


def subscribe(user: User, value: object, name: str, *, actor: AuditActor, now: datetime) -> PushDevice:
    """Has `user` take pushes on the device whose browser made this subscription; their contact method by push is made
    where there is none. A browser that is known already is the same device, and belongs to whoever signed in on it.

    Raises Rejected that names what is wrong.
    """
    given = subscription.read(value)
    with transaction.atomic():
        config_version.lock()
        method = contact_method(user) or _new_contact_method(user, actor, now)
        device = PushDevice.objects.filter(endpoint_hash=given.hash).first()
        if device is None and user.push_devices.count() >= MAX_DEVICES:
            raise Rejected("too_many", f"You have {MAX_DEVICES} devices already; remove one first.")
        before = _audited(device) if device and device.user_id == user.pk else None
        device = device or PushDevice(endpoint_hash=given.hash, created_at=now)
        device.user, device.address, device.name = user, method.address, _named(name)
        device.service, device.subscription = given.service, crypto.encrypt(given.text())
        device.gone_at, device.last_error = None, ""
        device.save()
        _record(device, before, _audited(device), actor, now)
    return device


def rename(device: PushDevice, name: str, *, actor: AuditActor, now: datetime) -> None:
    """Gives the device another name. Raises Rejected for none."""
    with transaction.atomic():
        before = _audited(device)
        device.name = _named(name)
        device.save(update_fields=["name"])
        _record(device, before, _audited(device), actor, now)


def remove(device: PushDevice, *, actor: AuditActor, now: datetime) -> None:
    """Forgets the device. With the last one goes the contact method, which would reach nobody."""
    with transaction.atomic():
        config_version.lock()
        user, before = device.user, _audited(device)
        number = device.pk
        device.delete()
        _record(device, before, None, actor, now, number)
        method = contact_method(user)
        if method is not None and not PushDevice.objects.filter(address=method.address).exists():
            people.delete_contact_method(method, actor=actor, now=now)


def known(endpoint: str) -> PushDevice | None:
    """The device whose browser has this address at its push service, which nobody else knows."""
    hashed = subscription.hash_of(endpoint)
    return PushDevice.objects.select_related("user").filter(endpoint_hash=hashed, gone_at=None).first()


def replace(device: PushDevice, value: object, *, actor: AuditActor, now: datetime) -> None:
    """The same device, after its browser renewed its subscription by itself. Raises Rejected."""
    given = subscription.read(value)
    with transaction.atomic():
        before = _audited(device)
        PushDevice.objects.filter(endpoint_hash=given.hash).exclude(pk=device.pk).delete()
        device.endpoint_hash, device.service = given.hash, given.service
        device.subscription = crypto.encrypt(given.text())
        device.save(update_fields=["endpoint_hash", "service", "subscription"])
        _record(device, before, _audited(device), actor, now)


def contact_method(user: User) -> ContactMethod | None:
    """The contact method that reaches the user's devices, if there is one."""
    methods = ContactMethod.objects.filter(user=user, channel=CHANNEL, address__startswith=push_addresses.PREFIX)
    return methods.order_by("pk").first()


def at(address: str) -> list[Device]:
    """The devices behind an address that take pushes, over the pool's connection."""
    with database.transaction() as connection:
        found = database.rows(
            connection,
            "SELECT id, name, subscription FROM notify_pushdevice "
            "WHERE address = %s AND gone_at IS NULL AND subscription <> '' ORDER BY id",
            (address,),
        )
    return [Device(row["id"], row["name"], subscription.of_text(crypto.decrypt(row["subscription"]))) for row in found]


@dataclass(frozen=True, slots=True)
class PushResult:
    """What its push service said of a device: nothing wrong, a refusal, or that it is gone."""

    device_id: int
    error: str = ""
    is_gone: bool = False


_TOLD = """
UPDATE notify_pushdevice d
SET last_sent_at = CASE WHEN t.error = '' THEN %(now)s ELSE d.last_sent_at END, last_error = t.error,
    gone_at = CASE WHEN t.is_gone THEN %(now)s ELSE d.gone_at END,
    subscription = CASE WHEN t.is_gone THEN '' ELSE d.subscription END
FROM unnest(%(ids)s::bigint[], %(errors)s::text[], %(gone)s::boolean[]) AS t(id, error, is_gone)
WHERE d.id = t.id
"""


def told(news: Sequence[PushResult], now: datetime) -> None:
    """Writes down what push services said. A device that is gone keeps its row, so that its person sees it."""
    with database.transaction() as connection:
        connection.execute(
            _TOLD,
            {
                "now": now,
                "ids": [one.device_id for one in news],
                "errors": [one.error for one in news],
                "gone": [one.is_gone for one in news],
            },
        )


def require_devices(address: str) -> list[Device]:
    """`at`, or AddressRefused with what to do where there is none."""
    found = at(address)
    if not found:
        raise AddressRejected(
            "None of the person's devices takes pushes.", "They press “Push on this device” under Me."
        )
    return found


def _new_contact_method(user: User, actor: AuditActor, now: datetime) -> ContactMethod:
    labels = {label.lower() for label in user.contact_methods.values_list("label", flat=True)}
    label = next(name for name in (LABEL, *(f"{LABEL} {n}" for n in range(2, 100))) if name.lower() not in labels)
    spec = {"label": label, "channel": CHANNEL, "address": push_addresses.made(secrets.token_bytes(13))}
    method = people.save_contact_method(user, spec, actor=actor, now=now)
    # The browser asked its person; no code needs to travel.
    ContactMethod.objects.filter(pk=method.pk).update(verified_at=now)
    return method


def _named(name: str) -> str:
    text = " ".join(name.split())
    if not text or len(text) > 100 or not text.isprintable():
        raise Rejected("invalid", "A device's name has 1 to 100 characters.", "name")
    return text


def _audited(device: PushDevice) -> dict[str, Any]:
    return {"user": device.user.username, "name": device.name, "service": device.service}


def _record(
    device: PushDevice,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    actor: AuditActor,
    now: datetime,
    number: int | None = None,
) -> None:
    audit.record_change(
        actor,
        now=now,
        object_type="push_device",
        object_id=number or device.pk,
        object_name=(after or before or {})["name"],
        before=before,
        after=after,
    )
