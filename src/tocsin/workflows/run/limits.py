"""Limits how much a workflow may cause in other systems within a period.

A call may make another system open an alert, which triggers the workflow again. No depth is counted through another
system, so this limit ends such loops.
"""

from __future__ import annotations

from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason
from tocsin.notify.enqueue.notices import Notice, queue_notice, was_noticed
from tocsin.notify.enqueue.recipients import load_administrators
from tocsin.workflows import reasons
from tocsin.workflows.definition.definition import LIMIT_SPAN

#: The minimum interval between two notices about a workflow's limit.
NOTICE_INTERVAL = LIMIT_SPAN * 36

_CONSUME = """
INSERT INTO workflows_limit AS l (workflow_id, since, used) VALUES (%(workflow)s, %(now)s, 1)
ON CONFLICT (workflow_id) DO UPDATE SET
  since = CASE WHEN l.since <= %(begin)s THEN %(now)s ELSE l.since END,
  used = CASE WHEN l.since <= %(begin)s THEN 1 ELSE least(l.used, %(limit)s) + 1 END
RETURNING used
"""

_REFUSED = """
UPDATE workflows_limit SET refused = CASE WHEN refused_at > %(begin)s THEN refused + 1 ELSE 1 END, refused_at = %(now)s
WHERE workflow_id = %(workflow)s
"""


def consume(connection: Connection, workflow_id: int, limit: int, now: datetime) -> bool:
    """Consumes one unit of the workflow's limit. Returns False if nothing is left, and counts the refusal."""
    parameters = {"workflow": workflow_id, "now": now, "begin": now - LIMIT_SPAN, "limit": limit}
    row = connection.execute(_CONSUME, parameters).fetchone()
    if row is not None and row[0] <= limit:
        return True
    connection.execute(_REFUSED, {"workflow": workflow_id, "now": now, "begin": now - NOTICE_INTERVAL})
    return False


def describe_limit(limit: int) -> Reason:
    """Why an action was skipped."""
    return reasons.LIMIT_REACHED(limit=limit, period=LIMIT_SPAN)


def report_limit(connection: Connection, workflow_id: int, name: str, limit: int, now: datetime) -> None:
    """Notifies administrators and the managers of the workflow's group, at most once per interval."""
    row = database.row(connection, "SELECT group_id FROM workflows_workflow WHERE id = %s", (workflow_id,))
    about = f"workflow:limit:{workflow_id}"
    user_ids = set(load_administrators(connection)) | _managers(connection, row["group_id"] if row else None)
    if not user_ids or was_noticed(connection, sorted(user_ids), about, now, NOTICE_INTERVAL):
        return
    notice = Notice(
        reasons.TITLE_LIMITED(workflow=name),
        reasons.TEXT_LIMITED(workflow=name, why=describe_limit(limit)),
        about,
        reasons.RECEIVED_AS_MANAGER(),
    )
    queue_notice(connection, notice, now, user_ids=sorted(user_ids))


def _managers(connection: Connection, group_id: int | None) -> set[int]:
    """The group's members whose user role is manager."""
    cursor = connection.execute(
        "SELECT u.id FROM people_user u JOIN people_membership m ON m.user_id = u.id "
        "WHERE m.group_id = %s AND u.is_active AND u.role = 'manager'",
        (group_id,),
    )
    return {row[0] for row in cursor.fetchall()}
