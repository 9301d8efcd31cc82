"""Tells the owner of an API token by mail that it expires soon; for a service account, the administrators."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from tocsin.access.models import ApiToken
from tocsin.access.roles import Role
from tocsin.access.token_limits import WARN_BEFORE
from tocsin.core.reasons import Person, Reason, ReasonType, joined
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify.rules.delivery_reasons import OWN_ACCOUNT
from tocsin.oncall.changes import notices
from tocsin.people.models import User

INTERVAL = timedelta(hours=1)

#: Tokens in one transaction.
BATCH = 100

_TITLE = ReasonType("notice.token_expires", 'The API token "{name}" expires soon')
_EXPIRES = ReasonType(
    "notice.token_expires_at", 'The API token "{name}" of {user} ({prefix}…) is rejected from {at} on.'
)
_LAST_USE = ReasonType("notice.token_last_use", "It was last used {at}.")
_NEVER_USED = ReasonType("notice.token_never_used", "It was never used.")
_RENEW = ReasonType(
    "notice.token_renew", "If a script uses it, create a new one and replace it there; then revoke this one."
)


def token_expiry_task() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask("expiring tokens", lambda: warn_owners(clock.now()), INTERVAL)


def warn_owners(now: datetime) -> bool:
    """Queues a mail for each token that expires soon, once. Returns whether there may be more.

    A token that was created for a shorter time than that needs no warning.
    """
    with transaction.atomic():
        expiring = ApiToken.objects.filter(
            revoked_at=None,
            warned_at=None,
            user__is_active=True,
            expires_at__gt=now,
            expires_at__lte=now + WARN_BEFORE,
            expires_at__gte=F("created_at") + WARN_BEFORE,
        )
        locked = expiring.select_related("user").select_for_update(skip_locked=True, of=("self",))
        tokens = list(locked.order_by("pk")[:BATCH])
        for token in tokens:
            notices.write(
                _recipients(token), title=_TITLE(name=token.name), text=_text(token), reason=OWN_ACCOUNT(), now=now
            )
            token.warned_at = now
            token.save(update_fields=["warned_at"])
    return len(tokens) == BATCH


def _recipients(token: ApiToken) -> list[User]:
    if token.user.is_service_account:
        return list(User.objects.filter(role=Role.ADMIN, is_active=True))
    return [token.user]


def _text(token: ApiToken) -> Reason:
    user = Person(token.user.display_name, token.user_id)
    return joined(
        _EXPIRES(name=token.name, user=user, prefix=token.prefix, at=token.expires_at),
        _LAST_USE(at=token.last_used_at) if token.last_used_at else _NEVER_USED(),
        _RENEW(),
        separator="\n\n",
    )
