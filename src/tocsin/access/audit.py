"""The audit log: who changed which part of the configuration, the values before and after, and who signed in.

Writes in the caller's Django transaction, so that a change and its entry are stored together. Never stores a secret.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
from typing import Any, Protocol

from django.core.cache import cache
from django.db import Error
from django.db.models import Q
from django.db.models.functions import Lower

from tocsin.access import boundary
from tocsin.access.audit_log import ERASE, change_for_erasure, digests_after_erasure
from tocsin.access.models import AuditEntry
from tocsin.access.roles import TokenLimits
from tocsin.core.config import crypto, settings_store
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import translatable
from tocsin.core.validation.inputs import sanitize

#: Replaces a secret in the log.
MASK = "•••"

#: Keys whose value is a secret anywhere. Specs already leave secrets out; this is the second line of defence.
SECRET_KEYS = frozenset(
    {"password", "token", "secret", "auth_token", "client_secret", "api_key", "access_token", "credentials", "hmac"}
)


class AuditUser(Protocol):
    """The part of a user that this room needs."""

    @property
    def pk(self) -> Any: ...
    @property
    def display_name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class AuditActor:
    """Who changes configuration, through which interface (`web`, `api`, `cli`, `yaml`), and from which IP address.

    Commands ask `people.permissions.viewer_of` what the actor may do, never the user alone.
    """

    user_id: int | None
    name: str
    via: str
    address: str | None = None
    #: The limits of the token by which the user acts; None without a token.
    limits: TokenLimits | None = None

    @classmethod
    def from_user(
        cls, user: AuditUser, via: str, address: str | None = None, *, limits: TokenLimits | None
    ) -> AuditActor:
        """Returns the actor for `user`, or for a token of theirs with these limits."""
        return cls(user.pk, user.display_name, via, address, limits)


#: Anybody with a shell on the machine.
COMMAND_LINE = AuditActor(None, translatable("command line"), "cli")


def about(object_type: str, row: Any) -> dict[str, Any]:
    """Returns the parameters of `record` that name a row."""
    return {"object_type": object_type, "object_id": row.pk, "object_name": getattr(row, "username", "") or row.name}


def record(
    actor: AuditActor,
    action: str,
    *,
    now: datetime,
    object_type: str = "",
    object_id: object = "",
    object_name: str = "",
    group_id: int | None = None,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Adds one entry. `action` is `create`, `update`, `delete` or a verb of the object, such as `rotate_token`.

    The managers of the group `group_id`, which owns the object, see the entry; without it only administrators do.
    """
    # Whoever may see it: the viewer of the request often may not.
    with boundary.unbounded():
        AuditEntry.objects.create(
            at=now,
            actor_id=actor.user_id,
            actor_name=actor.name[:200],
            action=action[:40],
            object_type=object_type[:60],
            object_id=str(object_id)[:60],
            object_name=sanitize(object_name)[:200],
            group_id=group_id,
            before=None if before is None else mask_secrets(before),
            after=None if after is None else mask_secrets(after),
            via=actor.via,
            address=actor.address,
        )


def record_change(
    actor: AuditActor,
    *,
    now: datetime,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
    **subject: Any,
) -> bool:
    """Records a creation (no `before`), a deletion (no `after`), or an update with the keys that differ. `subject` is
    what `record` takes besides.

    Returns False, and records nothing, if there is no difference.
    """
    if before == after:
        return False
    if before is not None and after is not None:
        changed_keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        before = {key: before[key] for key in changed_keys if key in before}
        after = {key: after[key] for key in changed_keys if key in after}
    action = "create" if before is None else "delete" if after is None else "update"
    record(actor, action, now=now, before=before, after=after, **subject)
    return True


#: Keys whose value is a personal address.
_ADDRESS_KEYS = frozenset({"address", "email"})


def erase_person(
    object_type: str, object_id: object, *, email: str, replacement: str, actor: AuditActor, now: datetime
) -> None:
    """Masks every address and phone number in the entries about a deleted object. The entries themselves stay.

    In sign-ins attempted as `email`, an e-mail address, or as an earlier address of the object, the address is
    replaced by `replacement`. Records which entries were changed, so that the hash chain stays verifiable.
    """
    names = {email.lower()}
    entries = AuditEntry.objects.filter(object_type=object_type, object_id=str(object_id))
    changed = set()
    for entry in entries.exclude(before__isnull=True, after__isnull=True):
        for state in (entry.before, entry.after):
            names.add(str((state or {}).get("email", "")).lower())
        before, after = _without_addresses(entry.before), _without_addresses(entry.after)
        if (before, after) != (entry.before, entry.after):
            change_for_erasure(_ERASE_STATES, (_as_json(before), _as_json(after), entry.pk))
            changed.add(entry.pk)
    # A failed sign-in belongs to no user: its actor is the name that was entered.
    names -= {"", MASK}
    sign_ins = AuditEntry.objects.filter(action__startswith="sign_in").annotate(
        login=Lower("object_name"), as_actor=Lower("actor_name")
    )
    affected = sign_ins.filter(Q(as_actor__in=names) | Q(login__in=names))
    if signed_in := list(affected.values_list("pk", flat=True)):
        parameters = (list(names), replacement, list(names), replacement, signed_in)
        change_for_erasure(_ERASE_NAMES, parameters)
        changed.update(signed_in)
    for chunk in batched(sorted(changed), _MAX_ERASED_PER_ENTRY):
        record(
            actor,
            ERASE,
            now=now,
            object_type=object_type,
            object_id=object_id,
            object_name=replacement,
            after={"entries": digests_after_erasure(chunk)},
        )


_MAX_ERASED_PER_ENTRY = 500
_ERASE_STATES = "UPDATE access_auditentry SET before = %s, after = %s, salt = NULL WHERE id = %s"
_ERASE_NAMES = """
UPDATE access_auditentry SET salt = NULL,
  actor_name = CASE WHEN lower(actor_name) = ANY(%s) THEN %s ELSE actor_name END,
  object_name = CASE WHEN lower(object_name) = ANY(%s) THEN %s ELSE object_name END
WHERE id = ANY(%s)
"""


def _as_json(state: object) -> str | None:
    return None if state is None else json.dumps(state, ensure_ascii=False)


def _without_addresses(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: MASK if key in _ADDRESS_KEYS and isinstance(child, str) and child else _without_addresses(child)
            for key, child in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_addresses(item) for item in value]
    return value


def record_sign_in(
    user: AuditUser | None,
    login: str,
    *,
    succeeded: bool,
    via: str = "web",
    address: str | None,
    now: datetime,
    details: Mapping[str, object] | None = None,
) -> None:
    """Records that `user` signed in, or that a sign-in as `login` failed. `details` has the identity provider and the
    claims that decided."""
    name = user.display_name if user else login
    record(
        AuditActor(user.pk if user else None, name, via, address),
        "sign_in" if succeeded else "sign_in_failed",
        now=now,
        object_type="user" if user else "",
        object_id=user.pk if user else "",
        object_name=login,
        after=details or None,
    )


def record_sign_out(user: AuditUser, *, via: str = "web", address: str | None, now: datetime) -> None:
    actor = AuditActor.from_user(user, via, address, limits=None)
    record(actor, "sign_out", now=now, object_type="user", object_id=user.pk)


def mask_secrets(value: Mapping[str, object]) -> dict[str, object]:
    """Returns a copy of `value` in which every secret, at any depth, is masked: an encrypted one too, because an entry
    is never encrypted anew under another key."""
    return {key: MASK if key in SECRET_KEYS and item else _masked(item) for key, item in value.items()}


def _masked(value: object) -> object:
    if isinstance(value, Mapping):
        return mask_secrets(value)
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return crypto.mask_encrypted(sanitize(value), MASK) if isinstance(value, str) else value


# ---------- config audit
# The last part of every configuration command: writes the audit log, and makes all nodes reload.


class NamedObject(Protocol):
    """A configuration row with a name."""

    @property
    def pk(self) -> Any: ...
    @property
    def name(self) -> str: ...


def record_config_audit(
    object_type: str,
    row: NamedObject,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
    *,
    actor: AuditActor,
    now: datetime,
    secrets: Sequence[str] = (),
) -> bool:
    """Records that `row`, a `object_type`, was created (no `before`), deleted (no `after`) or changed, and makes nodes
    reload.

    `secrets` names the secrets that were set; their values are never recorded. Runs in the caller's Django transaction.
    Returns False, and does nothing, if there is no difference.
    """
    if after is not None and secrets:
        after = {**after, "secrets_changed": list(secrets)}
    group_id = row.pk if object_type == "group" else getattr(row, "group_id", None)
    is_change = record_change(actor, now=now, before=before, after=after, group_id=group_id, **about(object_type, row))
    if is_change:
        settings_store.bump()
    return is_change


# ---------- history
# Reads the audit log of one configuration object: who changed it last. Writes nothing.


#: Maximum entries of an object that are searched.
_MAX_ENTRIES = 50

#: Listed in an entry besides the keys that differ.
_SECRETS = "secrets_changed"


def newest_change() -> int:
    """Returns the id of the newest entry; 0 if there is none."""
    return AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def list_changes(
    object_type: str, object_id: object, keys: Collection[str] = (), *, after: int = 0
) -> Iterator[AuditEntry]:
    """Yields the changes of an object with an id above `after`, newest first. If `keys` are given, only changes of one
    of these keys of its spec, or of a secret."""
    entries = AuditEntry.objects.filter(object_type=object_type, object_id=str(object_id), pk__gt=after)
    for entry in entries.exclude(before__isnull=True, after__isnull=True).order_by("-pk")[:_MAX_ENTRIES]:
        changed = {*(entry.before or ()), *(entry.after or ())}
        if not keys or not changed.isdisjoint({*keys, _SECRETS}):
            yield entry


# ---------- refusals
# Records in the audit log that a signed-in user or a token was refused: one entry for each request and hour.


log = logging.getLogger(__name__)

#: The action of a refusal.
REFUSED = "refused"

#: The same request of the same actor is recorded at most once in this time.
QUIET_TIME = timedelta(hours=1)

#: The maximum number of entries of an actor in that time: an actor that tries many addresses is in the log by then.
MAX_PER_ACTOR = 60


def record_refusal(actor: AuditActor, request: str, *, token: str = "", now: datetime) -> None:
    """Records that `actor` was refused `request`, such as `DELETE /api/v1/groups/7`; `token` is the name of the token.

    Never raises: a refusal is answered also while the database takes no writes.
    """
    try:
        who = f"{actor.user_id} {token}"
        if not is_recordable(who) or _count(f"refusal {who} {request}") > 1:
            return
        # As a command: the viewer may not see the entry, and the database would refuse to give back its id.
        with boundary.command():
            record(
                actor,
                REFUSED,
                now=now,
                object_type="request",
                object_name=request,
                after={"token_name": token} if token else None,
            )
    except Error as error:
        log.warning("A refusal was not recorded: %s", error)


def is_recordable(who: str) -> bool:
    """Counts a refusal of `who`, and returns whether it is to be recorded."""
    return _count(f"refusals {who}") <= MAX_PER_ACTOR


def _count(key: str) -> int:
    """Counts in the shared cache, and returns the number within the quiet time."""
    if cache.add(key, 1, timeout=QUIET_TIME.total_seconds()):
        return 1
    try:
        return cache.incr(key)
    except ValueError:
        # It has just expired.
        return 1


# ---------- settings commands
# Changes the installation-wide settings: validates them, writes the audit log, and makes all nodes reload.


#: Given new settings, raises Rejected if they would harm what a higher room knows; or applies their consequences after
#: they were stored.
CHECKS: Hooks[Callable[[dict[str, Any]], None]] = Hooks()
REACTIONS: Hooks[Callable[[dict[str, Any]], None]] = Hooks()


def change_settings(values: Mapping[str, object], *, actor: AuditActor, now: datetime) -> bool:
    """Sets the given settings, and leaves the others. Returns whether any changed.

    Raises Rejected, naming the setting, for an unknown name or an invalid value.
    """
    validated = settings_store.validated(values)
    with boundary.config_command():
        for check in CHECKS.of():
            check(validated)
        before = {name: settings_store.stored(name) for name in validated}
        changed = record_change(
            actor, now=now, before=before, after=validated, object_type="settings", object_name="settings"
        )
        if changed:
            settings_store.write(validated)
            for react in REACTIONS.of():
                react(validated)
    return changed
