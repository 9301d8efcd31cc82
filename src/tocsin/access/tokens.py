"""API tokens: secrets with which a script acts as its user. Shown once on creation; only the hash is stored."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import InternalError

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor, AuditUser
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import DEFAULT_LIFETIME, MAX_LIFETIME, TokenLimits
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.models import Setting
from tocsin.core.reasons import Person, Text, sentence
from tocsin.core.validation.inputs import CONTROL_CHARACTER, has_control_character, rejected_at

#: Number of characters of the secret stored in clear, shown in lists.
PREFIX_CHARS = 6

#: `last_used_at` is written at most this often, so that a busy script does not cause a write per request.
LAST_USED_PRECISION = timedelta(minutes=1)

MAX_NAME_CHARS = 100
MAX_CLIENTS = 100
_MAX_SECRET_CHARS = 200

#: The action of the first use of a token from an address, in the audit log.
FIRST_USE = "use"

#: Uses that this process has recorded: the hash of the token and the address. A script behind several addresses
#: does not cause a write per request either.
_known_uses: set[tuple[bytes, str | None]] = set()
_MAX_KNOWN_USES = 10_000

#: The code of the rejection of an expired token.
EXPIRED_CODE = "token_expired"

_NAME_TAKEN = Text('{user} already has a token "{name}".')
_EXPIRED = Text('The token "{name}" expired on {day}. Create a new one.')


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token with its secret, which is never shown again."""

    token: ApiToken
    secret: str


def create(
    user: AuditUser,
    name: str,
    *,
    limits: TokenLimits,
    expires_at: datetime | None = None,
    maker: ApiToken | None = None,
    actor: AuditActor,
    now: datetime,
) -> NewToken:
    """Creates a token for `user`, which expires a year later unless `expires_at` says otherwise. `maker` is the token
    that makes it.

    The caller checks that the user is a member of the groups. Raises Rejected, naming `name`, `clients` or
    `expires_at`.
    """
    label = name.strip()
    if not label or len(label) > MAX_NAME_CHARS:
        raise Rejected(
            "invalid_name",
            sentence("A token's name must have 1 to {maximum} characters.", maximum=MAX_NAME_CHARS),
            "name",
        )
    if has_control_character(label):
        raise rejected_at("name", CONTROL_CHARACTER(), "invalid_name")
    _check_clients(limits)
    expiry = expires_at or now + DEFAULT_LIFETIME
    if expiry <= now:
        raise Rejected("invalid", sentence("A token's expiry must be in the future."), "expires_at")
    if expiry > now + MAX_LIFETIME:
        raise Rejected(
            "invalid", sentence("A token expires after at most {days} days.", days=MAX_LIFETIME.days), "expires_at"
        )
    secret = ids.token()
    with boundary.command():
        if ApiToken.objects.filter(user_id=user.pk, name__iexact=label, revoked_at=None, expires_at__gt=now).exists():
            raise Rejected("name_taken", _NAME_TAKEN(user=Person(user.display_name, user.pk), name=label), "name")
        token = ApiToken.objects.create(
            user_id=user.pk,
            name=label,
            hash=ids.token_hash(secret),
            prefix=secret[:PREFIX_CHARS],
            scope=limits.scope,
            group_ids=sorted(limits.groups),
            clients=sorted(limits.clients),
            created_at=now,
            expires_at=expiry,
            made_by=maker,
        )
        _record(token, "create", actor, now)
    return NewToken(token, secret)


def _check_clients(limits: TokenLimits) -> None:
    if limits.groups and limits.clients:
        raise Rejected(
            "invalid", sentence("A token is limited either to groups or to clients, not to both."), "clients"
        )
    if len(limits.clients) > MAX_CLIENTS:
        raise Rejected(
            "invalid", sentence("A token may be limited to at most {maximum} clients.", maximum=MAX_CLIENTS), "clients"
        )
    maximum = 200
    if any(not 0 < len(name) <= maximum or has_control_character(name) for name in limits.clients):
        raise Rejected(
            "invalid", sentence("A client's name must have 1 to {maximum} characters.", maximum=maximum), "clients"
        )


def verify(secret: str, *, now: datetime, address: str | None = None) -> ApiToken | None:
    """Returns the token for this secret, with its user. None if there is none, it is revoked, or its user is inactive.

    Records the use from `address`, unless the database is read-only: reading must still work then. Raises
    `Rejected("token_expired")`, which names the day.
    """
    if not secret or len(secret) > _MAX_SECRET_CHARS or not secret.isascii():
        return None
    hashed = ids.token_hash(secret)
    token = ApiToken.objects.select_related("user").filter(hash=hashed, revoked_at=None, user__is_active=True).first()
    # The index matched the row by its hash. This comparison takes the same time for every result.
    if token is None or not secrets.compare_digest(bytes(token.hash), hashed):
        return None
    if token.expires_at <= now:
        raise Rejected(EXPIRED_CODE, _EXPIRED(name=token.name, day=token.expires_at.date()))
    is_known_use = (hashed, address) in _known_uses
    if not is_known_use or token.last_used_at is None or token.last_used_at <= now - LAST_USED_PRECISION:
        _record_use(token, address, now)
        if not is_known_use and len(_known_uses) < _MAX_KNOWN_USES:
            _known_uses.add((hashed, address))
    return token


def _record_use(token: ApiToken, address: str | None, now: datetime) -> None:
    try:
        with boundary.command():
            # Locks the row: of two simultaneous uses, the second finds the entry of the first.
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now, last_used_from=address)
            uses = AuditEntry.objects.filter(object_type="token", object_id=str(token.pk), action=FIRST_USE)
            # Once the audit log has forgotten the first use from an address, the next one is the first again.
            if address is not None and not uses.filter(address=address).exists():
                _record(token, FIRST_USE, AuditActor.from_user(token.user, "api", address, limits=token.limits), now)
    except InternalError as error:
        if not database.is_read_only_error(error):
            raise
    else:
        token.last_used_at, token.last_used_from = now, address


#: How many calls of an assistant its token keeps. Those that wrote are kept for an hour, because they are limited.
KEPT_CALLS = 10
_WRITES_PERIOD = timedelta(hours=1)

_TOO_MANY_WRITES = Text(
    "An assistant makes at most {count} change an hour with this token. The next one is possible at {at}.",
    "An assistant makes at most {count} changes an hour with this token. The next one is possible at {at}.",
)


@dataclass(frozen=True, slots=True)
class AssistantCall:
    """A call of an assistant by a token: the tool, and how many objects it changes."""

    at: datetime
    tool: str
    changes: int = 0

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> AssistantCall:
        """Returns a stored call."""
        return cls(datetime.fromisoformat(stored["at"]), stored["tool"], stored["changes"])


def with_call(calls: Sequence[AssistantCall], call: AssistantCall, max_changes: int) -> list[AssistantCall]:
    """Returns the calls to keep after one more. Raises Rejected("too_many_writes") for one change too many within the
    hour. Pure."""
    recent = [one for one in calls if one.changes and one.at > call.at - _WRITES_PERIOD]
    if call.changes and sum(one.changes for one in recent) + call.changes > max_changes:
        first = recent[0].at if recent else call.at
        raise Rejected("too_many_writes", _TOO_MANY_WRITES(count=max_changes, at=first + _WRITES_PERIOD))
    newest = calls[-KEPT_CALLS + 1 :]
    return [*(one for one in recent if one not in newest), *newest, call]


def last_calls(token: ApiToken) -> list[AssistantCall]:
    """Returns the last calls of an assistant, newest first."""
    return [AssistantCall.read(stored) for stored in reversed(token.assistant_calls[-KEPT_CALLS:])]


def record_call(token: ApiToken, call: AssistantCall, max_changes: int) -> None:
    """Records a call of an assistant, before it is made. One that only reads goes on while the database is read-only.

    Raises `Rejected("too_many_writes")`.
    """
    try:
        with boundary.command():
            # The lock counts simultaneous calls one after the other.
            row = ApiToken.objects.select_for_update().get(pk=token.pk)
            calls = with_call([AssistantCall.read(stored) for stored in row.assistant_calls], call, max_changes)
            row.assistant_calls = [
                {"at": one.at.isoformat(), "tool": one.tool, "changes": one.changes} for one in calls
            ]
            row.save(update_fields=["assistant_calls"])
    except InternalError as error:
        if call.changes or not database.is_read_only_error(error):
            raise


def revoke(token: ApiToken, *, actor: AuditActor, now: datetime) -> None:
    """Revokes a token permanently, and the tokens that it made: whoever had it may have those too."""
    with boundary.command():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now):
            _record(token, "revoke", actor, now)
        for made in ApiToken.objects.filter(made_by=token.pk):
            revoke(made, actor=actor, now=now)


def _record(token: ApiToken, action: str, actor: AuditActor, now: datetime) -> None:
    limits = {"group_ids": token.group_ids, "clients": token.clients}
    created = {
        "user": token.user.username,
        "prefix": token.prefix,
        "scope": token.scope,
        **{name: value for name, value in limits.items() if value},
        "expires_at": token.expires_at.isoformat(),
    }
    audit.record(actor, action, now=now, after=created if action == "create" else None, **audit.about("token", token))


# ---------- setup link
# The one-time link that creates the first administrator. Only hashes of its tokens are stored.


#: Every start creates a link. This many of the newest stay valid, so that the nodes of one installation do not
#: invalidate each other's.
MAX_LINKS = 10

_NAME = "setup_link"

_USED = Text("This setup link has already been used or has expired. Restart Tocsin to get a new one.")


def make() -> str:
    """Creates a link and returns its token. The caller checks first that there is no administrator."""
    token = ids.token()
    with boundary.config_command():
        hashes = [*_hashes(), ids.token_hash(token).hex()]
        Setting.objects.update_or_create(name=_NAME, defaults={"value": hashes[-MAX_LINKS:]})
    return token


def is_valid(token: str) -> bool:
    """Returns whether `token` belongs to a valid link."""
    hashed = ids.token_hash(token).hex()
    # Compares with every hash, so that the time taken reveals nothing.
    return sum(secrets.compare_digest(hashed, known) for known in _hashes()) > 0


def consume(token: str) -> None:
    """Invalidates every link, inside the caller's transaction, which holds the configuration lock.

    Raises `Rejected("setup_link_used")` if `token` belongs to no valid link.
    """
    if not is_valid(token):
        raise Rejected("setup_link_used", _USED())
    revoke_all()


def revoke_all() -> None:
    """Invalidates every link, because an administrator exists."""
    Setting.objects.filter(name=_NAME).delete()


def _hashes() -> list[str]:
    row = Setting.objects.filter(name=_NAME).first()
    return list(row.value) if row else []
