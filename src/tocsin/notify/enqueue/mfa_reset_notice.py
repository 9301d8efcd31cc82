"""Removes a user's second factors and mails the user about it, in case the user did not request it."""

from __future__ import annotations

from datetime import datetime

from tocsin.access import boundary
from tocsin.access.audit import AuditActor
from tocsin.core.reasons import Person, Reason, ReasonType, joined
from tocsin.notify.rules.delivery_reasons import OWN_ACCOUNT
from tocsin.oncall.changes import notices
from tocsin.people import second_factors
from tocsin.people.models import User

_TITLE = ReasonType("notice.second_factors_removed", "Your two-factor authentication was reset")
_REMOVED = ReasonType("notice.second_factors_removed_by", "{user} removed all your second factors.")
_REMOVED_ON_SERVER = ReasonType(
    "notice.second_factors_removed_on_server",
    "Someone with access to the Tocsin server removed all your second factors.",
)
_PASSWORD_ONLY = ReasonType("notice.password_only", "Until you set up new ones, you sign in with your password only.")
_NOT_REQUESTED = ReasonType(
    "notice.removal_not_requested", "If you did not request this, change your password and tell an administrator."
)


def remove_second_factors(user: User, *, actor: AuditActor, now: datetime) -> list[str]:
    """Removes all second factors and returns which there were. If there was one, queues a mail to the user."""
    with boundary.command():
        removed = second_factors.remove_second_factors(user, actor=actor, now=now)
        if removed:
            notices.write(
                [user],
                title=_TITLE(),
                text=joined(_removed_by(actor), _PASSWORD_ONLY(), _NOT_REQUESTED(), separator="\n\n"),
                reason=OWN_ACCOUNT(),
                now=now,
            )
    return removed


def _removed_by(actor: AuditActor) -> Reason:
    return _REMOVED(user=Person(actor.name, actor.user_id)) if actor.user_id is not None else _REMOVED_ON_SERVER()
