"""Records in the audit log that a signed-in user or a token was refused: one entry for each request and hour."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db import Error

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor

log = logging.getLogger(__name__)

#: The action of a refusal.
REFUSED = "refused"

#: The same request of the same actor is recorded at most once in this time.
QUIET_TIME = timedelta(hours=1)

#: The maximum number of entries of an actor in that time: an actor that tries many addresses is in the log by then.
MAX_PER_ACTOR = 60


def record_refusal(actor: AuditActor, request: str, *, token: str = "", now: datetime) -> None:
    """Records that `actor` was refused `request`, such as `DELETE /api/v1/groups/7`; `token` is the name of the token.

    Never raises: a refusal is answered also while the database takes no writes.
    """
    try:
        who = f"{actor.user_id} {token}"
        if not is_recordable(who) or _count(f"refusal {who} {request}") > 1:
            return
        # As a command: the viewer may not see the entry, and the database would refuse to give back its id.
        with boundary.command():
            audit.record(
                actor,
                REFUSED,
                now=now,
                object_type="request",
                object_name=request,
                after={"token_name": token} if token else None,
            )
    except Error as error:
        log.warning("A refusal was not recorded: %s", error)


def is_recordable(who: str) -> bool:
    """Counts a refusal of `who`, and returns whether it is to be recorded."""
    return _count(f"refusals {who}") <= MAX_PER_ACTOR


def _count(key: str) -> int:
    """Counts in the shared cache, and returns the number within the quiet time."""
    if cache.add(key, 1, timeout=QUIET_TIME.total_seconds()):
        return 1
    try:
        return cache.incr(key)
    except ValueError:
        # It has just expired.
        return 1
