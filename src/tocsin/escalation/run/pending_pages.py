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

_PENDING_PAGES = """
SELECT DISTINCT alert_id, user_id FROM notify_delivery
WHERE alert_id = ANY(%s) AND purpose = 'page' AND status IN ('queued', 'sending') AND user_id IS NOT NULL
"""


def users_with_pending_pages[Key](
    connection: Connection, runs: Mapping[Key, RunState], now: datetime
) -> dict[Key, RunState]:
    """The runs, with only those busy users who have pages pending. Dry runs have no pages and stay unchanged."""
    corrected = dict(runs)
    paging_runs = {
        key: run
        for key, run in runs.items()
        if run.mode is PagingMode.PAGE and any(until > now for until in run.progress.paging_until.values())
    }
    if not paging_runs:
        return corrected
    pending = set(
        connection.execute(_PENDING_PAGES, (sorted({run.alert_id for run in paging_runs.values()}),)).fetchall()
    )
    for key, run in paging_runs.items():
        still_pending = {
            user: until
            for user, until in run.progress.paging_until.items()
            if until <= now or (run.alert_id, user) in pending
        }  # fmt: skip
        corrected[key] = with_progress(run, paging_until=still_pending)
    return corrected
