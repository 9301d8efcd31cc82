"""API tokens: secrets that let a script act as its user. Shown once when made; only their hash is kept."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import InternalError, transaction
from django.db.models import Q

from tocsin.access import audit
from tocsin.access.audit import AuditActor, AuditUser
from tocsin.access.models import ApiToken
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.validation.naming_rules import has_control_character

#: How many characters of the secret are kept in the clear, so that people recognise it in a list.
PREFIX_CHARS = 6

#: `last_used_at` is written at most so often, so that a busy script does not write with every request.
LAST_USED_PRECISION = timedelta(minutes=1)

MAX_NAME_CHARS = 100
_MAX_SECRET_CHARS = 200


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made, with its secret, which nobody will see again."""

    token: ApiToken
    secret: str


def create(user: AuditUser, name: str, *, actor: AuditActor, now: datetime) -> NewToken:
    """Makes a token for `user`. Raises Rejected when the name is missing, too long, or in use by that user."""
    label = name.strip()
    if not label or len(label) > MAX_NAME_CHARS:
        raise Rejected("invalid_name", f"A token's name has 1 to {MAX_NAME_CHARS} characters.", "name")
    if has_control_character(label):
        raise Rejected("invalid_name", "name: has a line break or control character in it.", "name")
    secret = ids.token()
    with transaction.atomic():
        if ApiToken.objects.filter(user_id=user.pk, name__iexact=label, revoked_at=None).exists():
            raise Rejected("name_taken", f'{user.display_name} has a token "{label}" already.', "name")
        token = ApiToken.objects.create(
            user_id=user.pk, name=label, hash=ids.token_hash(secret), prefix=secret[:PREFIX_CHARS], created_at=now
        )
        _record(token, "create", actor, now)
    return NewToken(token, secret)


def verify(secret: str, *, now: datetime) -> ApiToken | None:
    """The token whose secret this is, with its user; None when there is none, it was revoked, or its user is inactive.

    Notes the use, where the database takes it: what only reads needs no more.
    """
    if not secret or len(secret) > _MAX_SECRET_CHARS or not secret.isascii():
        return None
    hashed = ids.token_hash(secret)
    token = ApiToken.objects.select_related("user").filter(hash=hashed, revoked_at=None, user__is_active=True).first()
    # The index found it by its hash; this comparison takes the same time whatever it found.
    if token is None or not secrets.compare_digest(bytes(token.hash), hashed):
        return None
    used_before = now - LAST_USED_PRECISION
    if token.last_used_at is None or token.last_used_at <= used_before:
        _note_use(token, used_before, now)
    return token


def _note_use(token: ApiToken, used_before: datetime, now: datetime) -> None:
    unnoted = Q(last_used_at=None) | Q(last_used_at__lte=used_before)
    try:
        ApiToken.objects.filter(unnoted, pk=token.pk).update(last_used_at=now)
    except InternalError as error:
        if not database.takes_no_writes(error):
            raise
    else:
        token.last_used_at = now


def revoke(token: ApiToken, *, actor: AuditActor, now: datetime) -> None:
    """Ends a token at once and for good. Does nothing to one that was revoked before."""
    with transaction.atomic():
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
