"""Who may sign in with a password, by the setting `sign_in`, and the break-glass accounts that always may."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from allauth.mfa import app_settings as factors
from allauth.mfa.models import Authenticator
from django.db import connection

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, sentence
from tocsin.people.models import UsedCode, User

# ---------- sessions
# Ends a user's sessions. Each session holds a hash of the password and of a stamp that changes here.
#
# API tokens are not sessions: they stay valid until they are revoked.


def end_all(user: User) -> None:
    """Ends every session of the user. On one's own account, the current session continues with the new hash."""
    user.session_stamp = secrets.token_hex(8)
    user.save(update_fields=["session_stamp"])


# ---------- second factors
# Second factors (MFA): prevents a code from being used twice, and resets the factors of a user who lost them.
#
# An administrator, or anybody with a shell on the machine, can reset them. The factors are django-allauth's records.


#: How long a code of an authenticator app is accepted, because clocks differ.
CODE_LIFETIME = timedelta(seconds=factors.TOTP_PERIOD * (2 * factors.TOTP_TOLERANCE + 1))


def list_second_factors(user: User) -> list[str]:
    """Returns the kinds of second factors that a user has, sorted: `recovery_codes`, `totp`, `webauthn`."""
    kinds = Authenticator.objects.filter(user=user).values_list("type", flat=True)
    return sorted(set(kinds))


def remove_second_factors(user: User, *, actor: AuditActor, now: datetime) -> list[str]:
    """Deletes all second factors of a user, recovery codes and passkeys included, and returns their kinds.

    From then on the password alone is enough, until the user sets up new ones. The user's sessions end.
    """
    with boundary.command():
        removed = list_second_factors(user)
        if removed:
            Authenticator.objects.filter(user=user).delete()
            end_all(user)
            before, after = {"second_factors": removed}, {"second_factors": list[str]()}
            about = audit.about("user", user)
            audit.record(actor, "reset_second_factor", now=now, before=before, after=after, **about)
    return removed


def is_code_consumed(user: User, code: str, *, now: datetime) -> bool:
    """Returns whether the user's code was used, while it may still be valid."""
    return UsedCode.objects.filter(key=_key(user, code), at__gt=now - CODE_LIFETIME).exists()


def consume_code(user: User, code: str, *, now: datetime) -> bool:
    """Marks a valid code as used (RFC 6238, 5.2). If several processes do so at once, exactly one gets True."""
    with boundary.command():
        UsedCode.objects.filter(at__lte=now - CODE_LIFETIME).delete()
        with connection.cursor() as cursor:
            cursor.execute(_CONSUME, (_key(user, code), now))
            return bool(cursor.rowcount)


_CONSUME = "INSERT INTO people_usedcode (key, at) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"


def _key(user: User, code: str) -> str:
    return hashlib.sha256(f"{user.pk} {code}".encode()).hexdigest()


def requires_single_sign_on() -> bool:
    """Returns whether passwords are disabled, except for break-glass accounts."""
    return settings_store.get(settings_store.SIGN_IN) == settings_store.SSO_ONLY


def may_use_password(user: User) -> bool:
    """Returns whether `user` may sign in with a password, set one, and be invited to."""
    return user.is_break_glass or not requires_single_sign_on()


def has_break_glass(*, except_for: User | None = None) -> bool:
    """Returns whether an active administrator, besides `except_for`, can sign in without single sign-on."""
    accounts = User.objects.filter(role=Role.ADMIN, is_active=True, is_break_glass=True)
    return any(user.has_usable_password() for user in accounts if except_for is None or user.pk != except_for.pk)


def is_last_break_glass(user: User) -> bool:
    """Returns whether `user` is the only one who can sign in if single sign-on fails, and passwords are disabled."""
    is_one = user.is_break_glass and user.is_active and user.role == Role.ADMIN
    return is_one and requires_single_sign_on() and not has_break_glass(except_for=user)


def reject_last_break_glass(user: User) -> None:
    """Raises `Rejected("last_break_glass")` if `user` must stay as it is."""
    if is_last_break_glass(user):
        reason = sentence(
            "{user} is the last administrator who can sign in if single sign-on fails. Mark another one as a "
            "break-glass account first.",
            user=Person(user.username, user.pk),
        )
        raise Rejected("last_break_glass", reason, "break_glass")


def check_settings(values: dict[str, Any]) -> None:
    """Raises `Rejected("no_break_glass")` if the new settings would lock everyone out while a provider fails."""
    if values.get("sign_in") == settings_store.SSO_ONLY and not has_break_glass():
        raise Rejected(
            "no_break_glass",
            sentence(
                "First mark an active administrator who has a password as a break-glass account: if single sign-on "
                "failed, no one could sign in."
            ),
            "sign_in",
        )
