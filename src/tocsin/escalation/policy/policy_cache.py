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

_cache: OrderedDict[tuple[str, int], CompiledPolicy] = OrderedDict()
_lock = threading.Lock()


def load_plans(connection: Connection, version_ids: Iterable[int | None]) -> dict[int | None, CompiledPolicy]:
    """Returns compiled policies by version id, with at most one query. None maps to the recipients-only policy.

    A version that cannot be read is absent; the caller handles its rows separately.
    """
    requested_ids = set(version_ids)
    # Tests and restores use several databases in one process, and each has its own version ids.
    database_url = database.url()
    plans: dict[int | None, CompiledPolicy] = {None: RECIPIENTS_ONLY} if None in requested_ids else {}
    with _lock:
        for number in requested_ids:
            if number is not None and (database_url, number) in _cache:
                plans[number] = _cache[database_url, number]
                _cache.move_to_end((database_url, number))
    missing_ids = [number for number in requested_ids if number not in plans]
    if missing_ids:
        plans.update(_load(connection, database_url, missing_ids))
    return plans


def _load(connection: Connection, database_url: str, missing_ids: list[int | None]) -> dict[int | None, CompiledPolicy]:
    query = "SELECT id, definition FROM escalation_policyversion WHERE id = ANY(%s)"
    plans: dict[int | None, CompiledPolicy] = {}
    for row in database.rows(connection, query, (missing_ids,)):
        try:
            plans[row["id"]] = load(row["definition"])
        except Rejected as problem:
            # One unreadable version must not stop the runs of the others.
            log.error("Policy version %s cannot be read: %s", row["id"], problem.detail)
    with _lock:
        for number, plan in plans.items():
            if number is not None:
                _cache[database_url, number] = plan
        while len(_cache) > MAX_CACHED_VERSIONS:
            _cache.popitem(last=False)
    return plans
