"""API tokens: secrets with which a script acts as its user. Shown once on creation; only the hash is stored."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import InternalError
from django.db.models import Q

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor, AuditUser
from tocsin.access.models import ApiToken
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, ReasonType
from tocsin.core.validation.field_errors import CONTROL_CHARACTER, rejected_at
from tocsin.core.validation.naming_rules import has_control_character

#: Number of characters of the secret stored in clear, shown in lists.
PREFIX_CHARS = 6

#: `last_used_at` is written at most this often, so that a busy script does not cause a write per request.
LAST_USED_PRECISION = timedelta(minutes=1)

MAX_NAME_CHARS = 100
_MAX_SECRET_CHARS = 200

_NAME_LENGTH = ReasonType("token.name_length", "A token's name must have 1 to {maximum} characters.")
_NAME_TAKEN = ReasonType("token.name_taken", '{user} already has a token "{name}".')


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token with its secret, which is never shown again."""

    token: ApiToken
    secret: str


def create(user: AuditUser, name: str, *, actor: AuditActor, now: datetime) -> NewToken:
    """Creates a token for `user`. Raises `Rejected("invalid_name")` or `Rejected("name_taken")`."""
    label = name.strip()
    if not label or len(label) > MAX_NAME_CHARS:
        raise Rejected("invalid_name", _NAME_LENGTH(maximum=MAX_NAME_CHARS), "name")
    if has_control_character(label):
        raise rejected_at("name", CONTROL_CHARACTER(), "invalid_name")
    secret = ids.token()
    with boundary.command():
        if ApiToken.objects.filter(user_id=user.pk, name__iexact=label, revoked_at=None).exists():
            raise Rejected("name_taken", _NAME_TAKEN(user=Person(user.display_name, user.pk), name=label), "name")
        token = ApiToken.objects.create(
            user_id=user.pk, name=label, hash=ids.token_hash(secret), prefix=secret[:PREFIX_CHARS], created_at=now
        )
        _record(token, "create", actor, now)
    return NewToken(token, secret)


def verify(secret: str, *, now: datetime) -> ApiToken | None:
    """Returns the token for this secret, with its user. None if there is none, it is revoked, or its user is inactive.

    Records the use, unless the database is read-only: reading must still work then.
    """
    if not secret or len(secret) > _MAX_SECRET_CHARS or not secret.isascii():
        return None
    hashed = ids.token_hash(secret)
    token = ApiToken.objects.select_related("user").filter(hash=hashed, revoked_at=None, user__is_active=True).first()
    # The index matched the row by its hash. This comparison takes the same time for every result.
    if token is None or not secrets.compare_digest(bytes(token.hash), hashed):
        return None
    used_before = now - LAST_USED_PRECISION
    if token.last_used_at is None or token.last_used_at <= used_before:
        _record_use(token, used_before, now)
    return token


def _record_use(token: ApiToken, used_before: datetime, now: datetime) -> None:
    is_stale = Q(last_used_at=None) | Q(last_used_at__lte=used_before)
    try:
        ApiToken.objects.filter(is_stale, pk=token.pk).update(last_used_at=now)
    except InternalError as error:
        if not database.is_read_only_error(error):
            raise
    else:
        token.last_used_at = now


def revoke(token: ApiToken, *, actor: AuditActor, now: datetime) -> None:
    """Revokes a token permanently. Does nothing if it is already revoked."""
    with boundary.command():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now):
            _record(token, "revoke", actor, now)


def _record(token: ApiToken, action: str, actor: AuditActor, now: datetime) -> None:
    audit.record(
        actor,
        action,
        now=now,
        object_type="token",
        object_id=token.pk,
        object_name=token.name,
        after={"user": token.user.username, "prefix": token.prefix} if action == "create" else None,
    )
