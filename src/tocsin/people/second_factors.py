"""Second factors: a code of one signs in once, and an administrator, or whoever has a shell on the machine, takes them
away from somebody who lost theirs. They are the account library's own records."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from allauth.mfa import app_settings as factors
from allauth.mfa.models import Authenticator
from django.db import connection, transaction

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.people import sessions
from tocsin.people.models import UsedCode, User

#: A code of an authenticator app fits for so long, since clocks differ.
FITS_FOR = timedelta(seconds=factors.TOTP_PERIOD * (2 * factors.TOTP_TOLERANCE + 1))


def kinds(user: User) -> list[str]:
    """What somebody signs in with besides the password, in order: `recovery_codes`, `totp`, `webauthn`."""
    found = Authenticator.objects.filter(user=user).values_list("type", flat=True)
    return sorted(set(found))


def take_away(user: User, *, actor: AuditActor, now: datetime) -> list[str]:
    """Takes all of them away, recovery codes and passkeys too, and returns which there were: from then on the password
    alone signs in, until the person sets up others. Their sessions end."""
    with transaction.atomic():
        gone = kinds(user)
        if gone:
            Authenticator.objects.filter(user=user).delete()
            sessions.end_all(user)
            audit.record(
                actor,
                "reset_second_factor",
                now=now,
                object_type="user",
                object_id=user.pk,
                object_name=user.username,
                before={"second_factors": gone},
                after={"second_factors": []},
            )
    return gone


def is_used_up(user: User, code: str, *, now: datetime) -> bool:
    """Whether that code of theirs was used, and might still fit."""
    return UsedCode.objects.filter(key=_key(user, code), at__gt=now - FITS_FOR).exists()


def use_up(user: User, code: str, *, now: datetime) -> bool:
    """Uses up a code that fits (RFC 6238, 5.2). Of several who do so at once, in whatever process, one hears True."""
    with transaction.atomic():
        UsedCode.objects.filter(at__lte=now - FITS_FOR).delete()
        with connection.cursor() as cursor:
            cursor.execute(_USE_UP, (_key(user, code), now))
            return bool(cursor.rowcount)


_USE_UP = "INSERT INTO people_usedcode (key, at) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"


def _key(user: User, code: str) -> str:
    return hashlib.sha256(f"{user.pk} {code}".encode()).hexdigest()
