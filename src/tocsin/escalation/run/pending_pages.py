"""Corrects which users of a run really have pages pending. Reads only.

A run stores until when each user's contact methods are planned to be tried. After a failure the remaining methods are
used at once, so a user may have been paged by all of them sooner than planned; after all nodes stood still, later.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tocsin.alerts.commands import PagingMode
from tocsin.core.db.database import Connection
from tocsin.escalation.run.run_state import RunState, with_progress

#: A timer handled within this delay counts as on time, so that intervals do not drift; later ones count from now.
ON_TIME_TOLERANCE = timedelta(seconds=5)

# A page that was sent after a late run fell due is the one that the run would send.
_PENDING_PAGES = """
SELECT DISTINCT d.alert_id, d.user_id
FROM unnest(%s::bigint[], %s::timestamptz[]) AS r(alert_id, late_since) JOIN notify_delivery d USING (alert_id)
WHERE d.purpose = 'page' AND d.user_id IS NOT NULL AND (d.status IN ('queued', 'sending') OR d.sent_at >= r.late_since)
"""


def users_with_pending_pages[Key](
    connection: Connection, runs: Mapping[Key, RunState], now: datetime
) -> dict[Key, RunState]:
    """The runs, with only those busy users who have pages pending. Dry runs have no pages and stay unchanged."""
    corrected = dict(runs)
    paging_runs = {
        key: run
        for key, run in runs.items()
        if run.mode is PagingMode.PAGE
        and (_is_late(run, now) or any(until > now for until in run.progress.paging_until.values()))
    }
    if not paging_runs:
        return corrected
    late_since = {run.alert_id: run.due_at if _is_late(run, now) else None for run in paging_runs.values()}
    pending = set(connection.execute(_PENDING_PAGES, (list(late_since), list(late_since.values()))).fetchall())
    for key, run in paging_runs.items():
        still_pending = {
            user: max(until, now) if late_since[run.alert_id] and (run.alert_id, user) in pending else until
            for user, until in run.progress.paging_until.items()
            if until <= now or (run.alert_id, user) in pending
        }  # fmt: skip
        corrected[key] = with_progress(run, paging_until=still_pending)
    return corrected


def _is_late(run: RunState, now: datetime) -> bool:
    return run.due_at is not None and run.due_at < now - ON_TIME_TOLERANCE and bool(run.progress.paging_until)
