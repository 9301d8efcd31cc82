"""Checks the alerts: those whose escalation is exhausted, and that nobody has answered."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import AlertRef, ReasonType
from tocsin.escalation.models import EXHAUSTED_RUNS_SQL
from tocsin.operate.finding import HealthFinding, limited
from tocsin.resources import visibility

#: The maximum number of alerts named in the finding; it counts the others.
MAX_NAMED = 20

_UNANSWERED = ReasonType(
    "health.alert_unanswered",
    "{count} alert is unassigned, and its policy is exhausted: {alerts}",
    "{count} alerts are unassigned, and their policies are exhausted: {alerts}",
)
_NAMED_ALERT = ReasonType("health.alert_named", "#{alert} {subject}")
_UNANSWERED_REMEDY = ReasonType("health.alert_unanswered_remedy", "Assign or close each of them, or page someone else.")

# Raw SQL: Home runs it on every request, and Django takes longer to build such a query than PostgreSQL to run it. The
# partial index of exhausted runs serves it.
_UNANSWERED_ALERTS = f"""
SELECT a.id, a.subject, count(*) OVER () AS number FROM escalation_run r JOIN alerts_alert a ON a.id = r.alert_id
WHERE ({EXHAUSTED_RUNS_SQL}) AND a.status = 'open'{{visible}} ORDER BY a.id LIMIT {MAX_NAMED}
"""


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Lists the alerts without an answer after their last step that the viewer sees, oldest first, and counts them."""
    query = database.literal(_UNANSWERED_ALERTS.format(visible=visibility.alerts_sql()))
    rows = database.rows(connection, query, visibility.alerts_parameters())
    if not rows:
        return
    alerts = [_NAMED_ALERT(alert=AlertRef(row["id"]), subject=row["subject"]) for row in rows]
    count = rows[0]["number"]
    yield HealthFinding(
        "alert.unanswered",
        _UNANSWERED(count=count, alerts=limited(alerts, MAX_NAMED, count)),
        _UNANSWERED_REMEDY(),
        object_id=rows[0]["id"],
        is_urgent=True,
        is_about_several=count > 1,
    )
