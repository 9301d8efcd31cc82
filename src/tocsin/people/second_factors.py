"""The second factors of people who have lost theirs: an administrator, or whoever has a shell on the machine, takes
them away. They are the account library's own records."""

from __future__ import annotations

from datetime import datetime

from allauth.mfa.models import Authenticator
from django.db import transaction

from tocsin.access import audit
from tocsin.access.audit import Actor
from tocsin.people import sessions
from tocsin.people.models import User


def kinds(user: User) -> list[str]:
    """What somebody signs in with besides the password, in order: `recovery_codes`, `totp`, `webauthn`."""
    found = Authenticator.objects.filter(user=user).values_list("type", flat=True)
    return sorted(set(found))


def take_away(user: User, *, actor: Actor, now: datetime) -> list[str]:
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
