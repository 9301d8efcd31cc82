"""A process-wide cache of compiled policy versions. Versions are immutable, so entries never go stale."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY, CompiledPolicy, load

log = logging.getLogger(__name__)

#: The capacity; least recently used versions are evicted.
MAX_CACHED_VERSIONS = 5_000

_known: OrderedDict[tuple[str, int], CompiledPolicy] = OrderedDict()
_lock = threading.Lock()


def load_plans(connection: Connection, version_ids: Iterable[int | None]) -> dict[int | None, CompiledPolicy]:
    """Returns compiled policies by version id, with at most one query. None maps to the recipients-only policy.

    A version that cannot be read is absent; the caller handles its rows separately.
    """
    wanted = set(version_ids)
    # Tests and restores use several databases in one process, and each has its own version ids.
    place = database.url()
    found: dict[int | None, CompiledPolicy] = {None: RECIPIENTS_ONLY} if None in wanted else {}
    with _lock:
        for number in wanted:
            if number is not None and (place, number) in _known:
                found[number] = _known[place, number]
                _known.move_to_end((place, number))
    missing = [number for number in wanted if number not in found]
    if missing:
        found.update(_load(connection, place, missing))
    return found


def _load(connection: Connection, place: str, missing: list[int | None]) -> dict[int | None, CompiledPolicy]:
    query = "SELECT id, definition FROM escalation_policyversion WHERE id = ANY(%s)"
    found: dict[int | None, CompiledPolicy] = {}
    for row in database.rows(connection, query, (missing,)):
        try:
            found[row["id"]] = load(row["definition"])
        except Rejected as problem:
            # One unreadable version must not stop the runs of the others.
            log.error("Policy version %s cannot be read: %s", row["id"], problem.detail)
    with _lock:
        for number, plan in found.items():
            if number is not None:
                _known[place, number] = plan
        while len(_known) > MAX_CACHED_VERSIONS:
            _known.popitem(last=False)
    return found
