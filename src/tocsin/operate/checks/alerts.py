"""Checks the alerts: those whose escalation is exhausted, and that nobody has answered."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import AlertRef, ReasonType
from tocsin.operate.finding import HealthFinding

_UNANSWERED = ReasonType("health.alert_unanswered", "Alert {alert} was not acknowledged: {subject}")
_UNANSWERED_REMEDY = ReasonType("health.alert_unanswered_remedy", "Acknowledge or close it, or page someone else.")

# Raw SQL: Home runs it on every request, and Django takes longer to build such a query than PostgreSQL to run it.
# `escalation.models.EXHAUSTED_RUNS` has the condition and the index.
_UNANSWERED_ALERTS = """
SELECT run.alert_id, alert.subject FROM escalation_run run JOIN alerts_alert alert ON alert.id = run.alert_id
WHERE (run.status = 'finished'
       OR (run.status = 'active' AND run.due_at IS NOT NULL AND run.progress -> 'is_repeating_last_step' = 'true'))
AND alert.status = 'open' ORDER BY run.alert_id DESC LIMIT 5
"""


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the newest alerts without an answer after their last step."""
    for row in database.rows(connection, _UNANSWERED_ALERTS):
        yield HealthFinding(
            "alert.unanswered",
            _UNANSWERED(alert=AlertRef(row["alert_id"]), subject=row["subject"]),
            _UNANSWERED_REMEDY(),
            about=str(row["alert_id"]),
            object_id=row["alert_id"],
            is_urgent=True,
        )
