"""Removes a user's second factors and mails the user about it, in case the user did not request it."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from tocsin.access.audit import AuditActor
from tocsin.oncall.changes import notices
from tocsin.people import second_factors
from tocsin.people.models import User


def remove_second_factors(user: User, *, actor: AuditActor, now: datetime) -> list[str]:
    """Removes all second factors and returns which there were. If there was one, queues a mail to the user."""
    with transaction.atomic():
        removed = second_factors.remove_second_factors(user, actor=actor, now=now)
        if removed:
            notices.write(
                [user],
                title="Your second factors were taken away",
                text=(
                    f"{_actor_name(actor)} took away what you sign in with besides the password.\n\n"
                    "Until you set up others, the password alone signs you in.\n\n"
                    "You did not ask for it? Change your password, and tell an administrator."
                ),
                reason="It is about your account.",
                now=now,
            )
    return removed


def _actor_name(actor: AuditActor) -> str:
    return actor.name if actor.user_id is not None else "Somebody on Tocsin's own machine"
