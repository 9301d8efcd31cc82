"""Second factors (MFA): prevents a code from being used twice, and resets the factors of a user who lost them.

An administrator, or anybody with a shell on the machine, can reset them. The factors are django-allauth's records.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from allauth.mfa import app_settings as factors
from allauth.mfa.models import Authenticator
from django.db import connection

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.people import sessions
from tocsin.people.models import UsedCode, User

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
            sessions.end_all(user)
            audit.record(
                actor,
                "reset_second_factor",
                now=now,
                object_type="user",
                object_id=user.pk,
                object_name=user.username,
                before={"second_factors": removed},
                after={"second_factors": []},
            )
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
