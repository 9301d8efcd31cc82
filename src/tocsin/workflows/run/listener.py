"""Reacts to alert changes in their transaction by creating workflow runs, and nothing else.

Costs at most one small configuration query a second, and no statement if no workflow waits for the change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tocsin.alerts.commands import AlertChange
from tocsin.alerts.states import ACTIVE
from tocsin.alerts.store import WITH_INTEGRATION
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_storable_json
from tocsin.core.reasons import reason_as_json
from tocsin.workflows.definition import OF_PAGING, Trigger, TriggerKind
from tocsin.workflows.models import ORDER
from tocsin.workflows.run import engine

log = logging.getLogger(__name__)

#: The hint that wakes the periodic task.
TOPIC = "workflows"

#: How long a process caches the workflows' triggers, in seconds.
CACHE_SECONDS = 1.0

_ENABLED = database.literal(
    "SELECT id, definition -> 'trigger' AS trigger FROM workflows_workflow WHERE is_enabled AND trigger <> 'manual' "
    f"ORDER BY {', '.join(ORDER)}"
)

# While boundaries are on, a group's workflow concerns only alerts of the group. One run handles updates in close
# succession. A run being decided does not count, as it may have read the alert's previous state; one not yet started
# waits (FOR SHARE) until this update is visible.
_INSERT = f"""
INSERT INTO workflows_run (workflow_id, alert_id, status, cause, depth, created_at, due_at)
SELECT n.workflow_id, n.alert_id, 'waiting', n.cause,
       greatest(n.depth, o.depth, CASE WHEN n.of_paging THEN o.paging_depth END), %(now)s, n.due_at
FROM ROWS FROM (jsonb_to_recordset(%(runs)s) AS (workflow_id bigint, alert_id bigint, cause jsonb,
                depth int, due_at timestamptz, once boolean, of_paging boolean)) WITH ORDINALITY
                AS n(workflow_id, alert_id, cause, depth, due_at, once, of_paging, place)
LEFT JOIN workflows_origin o ON o.alert_id = n.alert_id LEFT JOIN workflows_workflow w ON w.id = n.workflow_id
WHERE (w.group_id IS NULL
       OR NOT EXISTS (SELECT 1 FROM core_setting WHERE name = 'visibility' AND value = '"groups"')
       OR EXISTS (SELECT 1 FROM {WITH_INTEGRATION}
                  WHERE a.id = n.alert_id AND w.group_id = ANY(a.group_ids || i.group_id)))
  AND NOT (n.once AND EXISTS (SELECT 1 FROM workflows_run r WHERE r.alert_id = n.alert_id
           AND r.workflow_id = n.workflow_id AND r.due_at IS NOT NULL AND r.started_at IS NULL FOR SHARE SKIP LOCKED))
ORDER BY n.place
"""


# A run that another worker holds ends when it is due: waiting for it could deadlock, as its action may lock the alert.
_END_WAITS = """
UPDATE workflows_run SET due_at = %(now)s WHERE id IN (
  SELECT id FROM workflows_run WHERE alert_id = ANY(%(alerts)s) AND due_at > %(now)s FOR NO KEY UPDATE SKIP LOCKED)
"""


def handle_changes(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    triggers_by_kind = _triggers.current(connection)
    if not triggers_by_kind:
        return
    runs: dict[tuple[int, int], dict[str, object]] = {}
    for change in changes:
        for kind, cause in engine.fired_triggers(change).items():
            for workflow_id, trigger in triggers_by_kind.get(kind, ()):
                runs[workflow_id, change.alert_id] = {
                    "workflow_id": workflow_id,
                    "alert_id": change.alert_id,
                    "cause": reason_as_json(cause),
                    "depth": _current_depth(),
                    "due_at": engine.due_at(trigger, now),
                    "once": kind is TriggerKind.UPDATED,
                    "of_paging": kind in OF_PAGING,
                }
    ended = [
        change.alert_id
        for change in changes
        if change.before is not None and change.before.status in ACTIVE and change.after.status not in ACTIVE
    ]
    if ended and connection.execute(_END_WAITS, {"alerts": ended, "now": now}).rowcount and not runs:
        database.notify(connection, TOPIC)
    if runs:
        # Workflows of the same alert run in their configured order.
        order = {number: place for place, number in enumerate(_triggers.order)}
        ordered = sorted(runs.values(), key=lambda run: order.get(int(str(run["workflow_id"])), 0))
        connection.execute(_INSERT, {"runs": as_storable_json(ordered), "now": now})
        database.notify(connection, TOPIC)


@dataclass(slots=True)
class _Triggers:
    """A cache of the triggers of enabled workflows, by kind.

    Refreshed at most once a second, so that ingestion does not query them with every batch.
    """

    url: str = ""
    read_at: float = float("-inf")
    by_kind: Mapping[TriggerKind, Sequence[tuple[int, Trigger]]] = field(default_factory=dict)
    order: Sequence[int] = ()
    #: Ids of unreadable workflows, so that each is logged once.
    unreadable: frozenset[int] = frozenset()

    def current(self, connection: Connection) -> Mapping[TriggerKind, Sequence[tuple[int, Trigger]]]:
        """The ids and triggers of enabled workflows, by kind."""
        at, url = time.monotonic(), database.url()
        if url == self.url and at - self.read_at < CACHE_SECONDS:
            return self.by_kind
        by_kind: dict[TriggerKind, list[tuple[int, Trigger]]] = {}
        unreadable = set()
        rows = connection.execute(_ENABLED).fetchall()
        for number, stored in rows:
            try:
                trigger = msgspec.convert(stored, Trigger)
            except msgspec.ValidationError as problem:
                # An unreadable workflow must not stop the others, let alone a message. Home lists it too.
                unreadable.add(number)
                if number not in self.unreadable:
                    log.error("Workflow %s cannot be read: %s", number, problem)
            else:
                by_kind.setdefault(trigger.on, []).append((number, trigger))
        self.url, self.read_at, self.by_kind, self.unreadable = url, at, by_kind, frozenset(unreadable)
        self.order = [row[0] for row in rows]
        return by_kind


_triggers = _Triggers()


def re_evaluate() -> None:
    """Makes this process reload the workflows with the next change, after they were changed here."""
    _triggers.read_at = float("-inf")


_thread_state = threading.local()


@contextmanager
def at_workflow_depth(depth: int) -> Iterator[None]:
    """Marks alert changes made inside as caused by a workflow, `depth` levels deep in a chain."""
    before = _current_depth()
    _thread_state.depth = depth
    try:
        yield
    finally:
        _thread_state.depth = before


def _current_depth() -> int:
    return int(getattr(_thread_state, "depth", 0))
