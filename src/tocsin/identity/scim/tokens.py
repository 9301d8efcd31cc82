"""The bearer token with which a provider provisions users: made, rotated and turned off by administrators."""

from __future__ import annotations

import secrets
from datetime import datetime

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core import ids
from tocsin.identity.models import IdentityProvider

#: Number of characters of the secret stored in clear, shown to administrators.
PREFIX_CHARS = 6
_MAX_SECRET_CHARS = 200


def rotate(provider: IdentityProvider, *, actor: AuditActor, now: datetime) -> str:
    """Creates the provider's SCIM token, which replaces an earlier one at once. Returns it: it is never shown again."""
    secret = ids.token()
    with boundary.command():
        locked = IdentityProvider.objects.select_for_update().get(pk=provider.pk)
        action = "create_scim_token" if locked.scim_token_hash is None else "rotate_scim_token"
        provider.scim_token_hash, provider.scim_token_prefix = ids.token_hash(secret), secret[:PREFIX_CHARS]
        provider.save(update_fields=["scim_token_hash", "scim_token_prefix"])
        _record(provider, action, actor, now, after={"prefix": provider.scim_token_prefix})
    return secret


def set_enabled(provider: IdentityProvider, *, is_on: bool, actor: AuditActor, now: datetime) -> None:
    """Turns provisioning on, with a token that nobody knows until it is created anew, or off. An existing token stays
    while it is on."""
    if not is_on:
        turn_off(provider, actor=actor, now=now)
    elif provider.scim_token_hash is None:
        provider.scim_token_hash = ids.token_hash(ids.token())
        provider.save(update_fields=["scim_token_hash"])


def turn_off(provider: IdentityProvider, *, actor: AuditActor, now: datetime) -> bool:
    """Ends provisioning by the provider. Users and what they were given stay. Returns False if there was no token."""
    with boundary.command():
        rows = IdentityProvider.objects.filter(pk=provider.pk, scim_token_hash__isnull=False)
        if not rows.update(scim_token_hash=None, scim_token_prefix=""):  # nosec B106 # none
            return False
        provider.scim_token_hash, provider.scim_token_prefix = None, ""
        _record(provider, "revoke_scim_token", actor, now, after=None)
    return True


def verify(secret: str) -> IdentityProvider | None:
    """Returns the enabled provider with this token; None if there is none."""
    if not secret or len(secret) > _MAX_SECRET_CHARS or not secret.isascii():
        return None
    hashed = ids.token_hash(secret)
    provider = IdentityProvider.objects.filter(scim_token_hash=hashed, is_enabled=True).first()
    # The index matched the row by its hash. This comparison takes the same time for every result.
    if provider is None or not secrets.compare_digest(bytes(provider.scim_token_hash or b""), hashed):
        return None
    return provider


def _record(
    provider: IdentityProvider, action: str, actor: AuditActor, now: datetime, after: dict[str, object] | None
) -> None:
    audit.record(
        actor,
        action,
        now=now,
        object_type="identity_provider",
        object_id=provider.pk,
        object_name=provider.name,
        after=after,
    )
