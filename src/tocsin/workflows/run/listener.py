"""Follows changes of alerts in their transaction: notes which workflows look at them, and when. Does nothing else.

Costs one small look at the configuration a second, and no statement where no workflow waits for what happened.
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

from tocsin.alerts.change_handlers import AlertChange
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_storable_json
from tocsin.workflows.definition.definition import Trigger
from tocsin.workflows.models import ORDER
from tocsin.workflows.run import triggers
from tocsin.workflows.states import OF_PAGING, TriggerKind

log = logging.getLogger(__name__)

#: What wakes the loop.
TOPIC = "workflows"

#: How old what a process knows of the workflows can be, in seconds.
CACHE_SECONDS = 1.0

_ENABLED = database.literal(
    "SELECT id, definition -> 'trigger' AS trigger FROM workflows_workflow WHERE is_enabled AND trigger <> 'manual' "
    f"ORDER BY {', '.join(ORDER)}"
)

# Of updates that come close together, one run looks at all. Not one that is looking already, and may have read the
# alert as it was before; and one that has not begun to look waits until this update is there to be seen.
_INSERT = """
INSERT INTO workflows_run (workflow_id, alert_id, status, cause, depth, created_at, due_at)
SELECT n.workflow_id, n.alert_id, 'waiting', n.cause,
       greatest(n.depth, o.depth, CASE WHEN n.of_paging THEN o.paging_depth END), %(now)s, n.due_at
FROM ROWS FROM (jsonb_to_recordset(%(runs)s) AS (workflow_id bigint, alert_id bigint, cause text, depth int,
                due_at timestamptz, once boolean, of_paging boolean)) WITH ORDINALITY AS n(workflow_id, alert_id, cause,
                depth, due_at, once, of_paging, place)
LEFT JOIN workflows_origin o ON o.alert_id = n.alert_id
WHERE NOT (n.once AND EXISTS (SELECT 1 FROM workflows_run r WHERE r.alert_id = n.alert_id
           AND r.workflow_id = n.workflow_id AND r.due_at IS NOT NULL AND r.begun_at IS NULL FOR SHARE SKIP LOCKED))
ORDER BY n.place
"""


def follow(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """The reactor."""
    waiting = _triggers.current(connection)
    if not waiting:
        return
    runs: dict[tuple[int, int], dict[str, object]] = {}
    for change in changes:
        for kind, cause in triggers.happened(change).items():
            for workflow_id, trigger in waiting.get(kind, ()):
                runs[workflow_id, change.alert_id] = {
                    "workflow_id": workflow_id,
                    "alert_id": change.alert_id,
                    "cause": cause[:1000],
                    "depth": _carried(),
                    "due_at": triggers.due_at(trigger, now),
                    "once": kind is TriggerKind.UPDATED,
                    "of_paging": kind in OF_PAGING,
                }
    if runs:
        # Of one alert, the workflows look in their own order.
        order = {number: place for place, number in enumerate(_triggers.order)}
        ordered = sorted(runs.values(), key=lambda run: order.get(int(str(run["workflow_id"])), 0))
        connection.execute(_INSERT, {"runs": as_storable_json(ordered), "now": now})
        database.hint(connection, TOPIC)


@dataclass(slots=True)
class _Triggers:
    """What enabled workflows wait for, by kind. Read again at most each second, so that ingest does not ask with every
    batch."""

    url: str = ""
    read_at: float = float("-inf")
    found: Mapping[TriggerKind, Sequence[tuple[int, Trigger]]] = field(default_factory=dict)
    #: Their numbers, in their order.
    order: Sequence[int] = ()
    #: Those that cannot be read, so that each is told of once.
    unreadable: frozenset[int] = frozenset()

    def current(self, connection: Connection) -> Mapping[TriggerKind, Sequence[tuple[int, Trigger]]]:
        """By kind, the workflows."""
        at, url = time.monotonic(), database.url()
        if url != self.url or at - self.read_at >= CACHE_SECONDS:
            rows = connection.execute(_ENABLED).fetchall()
            self.url, self.read_at, self.found = url, at, self._by_kind(rows)
            self.order = [row[0] for row in rows]
        return self.found

    def _by_kind(self, rows: Sequence[tuple[int, object]]) -> dict[TriggerKind, list[tuple[int, Trigger]]]:
        found: dict[TriggerKind, list[tuple[int, Trigger]]] = {}
        unreadable = set()
        for number, stored in rows:
            try:
                trigger = msgspec.convert(stored, Trigger)
            except msgspec.ValidationError as problem:
                # What this version cannot read must not stop the others, let alone a message. Home tells of it too.
                unreadable.add(number)
                if number not in self.unreadable:
                    log.error("Workflow %s cannot be read: %s", number, problem)
            else:
                found.setdefault(trigger.on, []).append((number, trigger))
        self.unreadable = frozenset(unreadable)
        return found


_triggers = _Triggers()


def look_again() -> None:
    """Has this process read the workflows with the next change: they were changed here."""
    _triggers.read_at = float("-inf")


_carrying = threading.local()


@contextmanager
def carrying(depth: int) -> Iterator[None]:
    """Whatever changes alerts inside is caused by a workflow, and so `depth` deep in a chain of them."""
    before = _carried()
    _carrying.depth = depth
    try:
        yield
    finally:
        _carrying.depth = before


def _carried() -> int:
    return int(getattr(_carrying, "depth", 0))
