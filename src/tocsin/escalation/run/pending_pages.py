"""Corrects which users of a run really have pages pending. Reads only.

A run stores until when each user's contact methods are planned to be tried. After a failure the remaining methods are
used at once, so a user may have been paged by all of them sooner than planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.alerts.change_handlers import PagingMode
from tocsin.core.db.database import Connection
from tocsin.escalation.run.run_state import RunState, with_progress

_TO_COME = """
SELECT DISTINCT alert_id, user_id FROM notify_delivery
WHERE alert_id = ANY(%s) AND purpose = 'page' AND status IN ('queued', 'sending') AND user_id IS NOT NULL
"""


def users_with_pending_pages[Key](
    connection: Connection, runs: Mapping[Key, RunState], now: datetime
) -> dict[Key, RunState]:
    """The runs, with only those busy users who have pages pending. Dry runs have no pages and stay unchanged."""
    found = dict(runs)
    busy = {
        key: run
        for key, run in runs.items()
        if run.mode is PagingMode.PAGE and any(until > now for until in run.progress.busy.values())
    }
    if not busy:
        return found
    to_come = set(connection.execute(_TO_COME, (sorted({run.alert_id for run in busy.values()}),)).fetchall())
    for key, run in busy.items():
        kept = {
            user: until
            for user, until in run.progress.busy.items()
            if until <= now or (run.alert_id, user) in to_come
        }  # fmt: skip
        found[key] = with_progress(run, busy=kept)
    return found
