"""The next action of many alerts, for the web and the API.

Reads runs, alerts and users and passes them to `forecast`; never writes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tocsin.alerts import store
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent
from tocsin.core.reasons import reason_from_json
from tocsin.escalation.actions import forecast
from tocsin.escalation.actions.forecast import NextAction
from tocsin.escalation.run import pending_pages, run_store
from tocsin.escalation.run.run_state import ActivePause, RunState, RunStatus
from tocsin.notify import pause as pauses

log = logging.getLogger(__name__)


def next_steps(connection: Connection, alert_ids: Sequence[int], now: datetime) -> dict[int, NextAction]:
    """The next action by alert id if nobody responds; an alert without a timer is absent.

    The on-call users as of `now` are used for all alerts, so after a handoff in between somebody else may be paged.
    """
    rows = {
        alert_id: row
        for alert_id, row in run_store.current_rows(connection, alert_ids).items()
        if row["due_at"] is not None and row["status"] != RunStatus.TERMINATED
    }
    if not rows:
        return {}
    plans = run_store.load_plans(connection, {row["version_id"] for row in rows.values()})
    runs: dict[int, RunState] = {}
    upcoming: dict[int, NextAction] = {}
    for alert_id, row in rows.items():
        try:
            runs[alert_id] = run_store.run_from_row(row, plans)
        except (Permanent, msgspec.ValidationError) as error:
            log.warning("The run of alert %s cannot be read: %s", alert_id, error, extra={"alert_id": alert_id})
            upcoming[alert_id] = NextAction(row["due_at"], reason_from_json(row["reason"]))
    runs = pending_pages.users_with_pending_pages(connection, runs, now)
    states = store.load(connection, list(runs))
    context = run_store.load_target_context(connection, runs.values(), now)
    current_pause = pauses.current_pause(connection, now)
    pause = ActivePause(current_pause.until, current_pause.reason) if current_pause else None
    for alert_id, run in runs.items():
        step = forecast.forecast_next_action(run, states[alert_id], context, now, pause) if alert_id in states else None
        if step is not None:
            upcoming[alert_id] = step
    return upcoming
