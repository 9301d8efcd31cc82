"""The audit log: who changed which part of the configuration, what it was before, and who signed in.

Writes inside the caller's Django transaction, so that a change and its entry are stored together. Never holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from django.db.models.functions import Lower

from tocsin.access.models import AuditEntry

#: What stands in the log in the place of a secret.
MASK = "•••"

#: Keys whose value is a secret wherever they appear. Specs leave secrets out; this is the second fence.
SECRET_KEYS = frozenset(
    {"password", "token", "secret", "auth_token", "client_secret", "api_key", "access_token", "credentials", "hmac"}
)


class AuditUser(Protocol):
    """A user, as far as this room needs to know one."""

    @property
    def pk(self) -> Any: ...
    @property
    def display_name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class AuditActor:
    """Who changes configuration, and by which door: `web`, `api`, `cli`, `yaml`. `address` is where from."""

    user_id: int | None
    name: str
    via: str
    address: str | None = None

    @classmethod
    def of(cls, user: AuditUser, via: str, address: str | None = None) -> AuditActor:
        """The actor that `user` is."""
        return cls(user.pk, user.display_name, via, address)


#: Whoever has a shell on the machine.
COMMAND_LINE = AuditActor(None, "command line", "cli")


def record(
    actor: AuditActor,
    action: str,
    *,
    now: datetime,
    object_type: str = "",
    object_id: object = "",
    object_name: str = "",
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Adds one entry. `action` is `create`, `update`, `delete` or a verb of the object, such as `rotate_token`."""
    AuditEntry.objects.create(
        at=now,
        actor_id=actor.user_id,
        actor_name=actor.name[:200],
        action=action[:40],
        object_type=object_type[:60],
        object_id=str(object_id)[:60],
        object_name=object_name[:200],
        before=None if before is None else masked(before),
        after=None if after is None else masked(after),
        via=actor.via,
        address=actor.address,
    )


def record_change(
    actor: AuditActor,
    *,
    now: datetime,
    object_type: str,
    object_id: object,
    object_name: str,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
) -> bool:
    """Records a create (no `before`), a delete (no `after`), or an update with the keys that differ.

    Returns False, and records nothing, when there is no difference.
    """
    if before == after:
        return False
    if before is not None and after is not None:
        differ = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        before = {key: before[key] for key in differ if key in before}
        after = {key: after[key] for key in differ if key in after}
    action = "create" if before is None else "delete" if after is None else "update"
    record(
        actor,
        action,
        now=now,
        object_type=object_type,
        object_id=object_id,
        object_name=object_name,
        before=before,
        after=after,
    )
    return True


#: What tells where somebody can be reached.
_REACHED_AT = frozenset({"address", "email"})


def erase(object_type: str, object_id: object, *, known_as: str, instead: str) -> None:
    """Takes every address and number out of what was recorded of an object that is gone; that it was recorded stays.

    Sign-ins tried as `known_as`, an address, or as an address that it had before, stand under `instead` from then on.
    """
    names = {known_as.lower()}
    entries = AuditEntry.objects.filter(object_type=object_type, object_id=str(object_id))
    for entry in entries.exclude(before__isnull=True, after__isnull=True):
        for state in (entry.before, entry.after):
            names.add(str((state or {}).get("email", "")).lower())
        entry.before, entry.after = _without_addresses(entry.before), _without_addresses(entry.after)
        entry.save(update_fields=["before", "after"])
    # A sign-in that failed is nobody's: its actor is what was tried.
    sign_ins = AuditEntry.objects.filter(action__startswith="sign_in").annotate(
        tried=Lower("object_name"), as_actor=Lower("actor_name")
    )
    names -= {"", MASK}
    sign_ins.filter(as_actor__in=names).update(actor_name=instead)
    sign_ins.filter(tried__in=names).update(object_name=instead)


def _without_addresses(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: MASK if key in _REACHED_AT and isinstance(held, str) and held else _without_addresses(held)
            for key, held in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_addresses(item) for item in value]
    return value


def record_sign_in(
    user: AuditUser | None, tried: str, *, succeeded: bool, via: str = "web", address: str | None, now: datetime
) -> None:
    """Records that `user` signed in, or that somebody tried to as `tried` and failed."""
    name = user.display_name if user else tried
    record(
        AuditActor(user.pk if user else None, name, via, address),
        "sign_in" if succeeded else "sign_in_failed",
        now=now,
        object_type="user" if user else "",
        object_id=user.pk if user else "",
        object_name=tried,
    )


def record_sign_out(user: AuditUser, *, via: str = "web", address: str | None, now: datetime) -> None:
    """Records that `user` signed out."""
    record(AuditActor.of(user, via, address), "sign_out", now=now, object_type="user", object_id=user.pk)


def masked(value: Mapping[str, object]) -> dict[str, object]:
    """`value` with every secret in it, at any depth, replaced by the mask."""
    return {key: MASK if key in SECRET_KEYS and held else _masked(held) for key, held in value.items()}


def _masked(value: object) -> object:
    if isinstance(value, Mapping):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value
