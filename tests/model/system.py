"""The system under test for one seed: its clock, its tasks, its dispatcher, and the history of events."""

from __future__ import annotations

import logging
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from unittest import mock

from tests.model.gateways import ProviderConditions, RandomProviderPool, SentMessage
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.escalation import tasks
from tocsin.escalation.tasks import EscalationTask
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.processing import drain
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.notify import notices, pause
from tocsin.notify.dispatch import send
from tocsin.notify.dispatch.claim import claim
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.workflows.run import tasks as workflows

START = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)

BASE_URL = "https://tocsin.example.org"

#: The system must be idle after this number of rounds. Each round sends one due message.
MAX_ROUNDS = 400

#: The node name of a process that crashes while it sends.
_CRASHED_NODE = "crashed process"

_NEXT = """
SELECT min(at) AS at FROM (
  SELECT due_at AS at FROM escalation_run WHERE due_at IS NOT NULL
  UNION ALL SELECT due_at FROM notify_delivery WHERE status = 'queued'
  UNION ALL SELECT due_at FROM inbound_delayedalert
  UNION ALL SELECT until FROM notify_pause WHERE ended_at IS NULL
  UNION ALL SELECT due_at FROM notify_awaitedreceipt
  UNION ALL SELECT retry_at FROM notify_providerhealth WHERE is_open
  UNION ALL SELECT due_at FROM oncall_reminder WHERE done_at IS NULL
  UNION ALL SELECT due_at FROM workflows_run WHERE status = 'waiting'
  UNION ALL SELECT due_at FROM outbound_call WHERE status = 'queued'
  UNION ALL SELECT greatest(open_until, not_before) FROM outbound_integrationstatus
) AS timers WHERE at > %s
"""

# Work that a task leaves to an earlier task of the same round.
_DUE = """
SELECT FROM escalation_run WHERE due_at <= %s UNION ALL SELECT FROM workflows_run WHERE due_at <= %s LIMIT 1
"""

_STATES = """
SELECT id, status, owner_id, owner_name, merged_into_id, priority, hold_until,
       (SELECT array_agg(user_id ORDER BY user_id) FROM alerts_acknowledgement k WHERE k.alert_id = a.id) AS acks
FROM alerts_alert a
"""

# A delivery leased by the dispatcher is being sent right now.
_MISDIRECTED = """
SELECT d.alert_id, d.user_id, a.status, a.dry_run FROM notify_delivery d
JOIN notify_notification n ON n.id = d.notification_id JOIN alerts_alert a ON a.id = d.alert_id
WHERE d.status = 'sending' AND d.leased_by = %s AND d.purpose = 'page' AND (
  a.dry_run OR a.status IN ('closed', 'cancelled', 'merged') OR (a.owner_id = d.user_id AND NOT n.data ? 'assignment')
  OR (a.status = 'on_hold' AND NOT n.data ? 'wake')
  OR EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id AND k.user_id = d.user_id))
"""


@dataclass(frozen=True, slots=True)
class Before:
    """The states of all alerts before a step, and the last event ID."""

    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    last_event: int = 0


@dataclass(frozen=True, slots=True)
class UndoneCommand:
    """A command that was undone immediately, with snapshots of its alert before the command and after the undo."""

    alert: int
    what: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """A request that an external system received, and whether an earlier attempt had an unknown outcome."""

    call: int
    order_key: str
    is_uncertain: bool


class ErrorLog(logging.Handler):
    """Collects log records with a traceback: Tocsin's internal errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            lines = traceback.format_exception(*record.exc_info)
            self.texts.append("\n".join([record.getMessage(), "".join(lines)]))


class System:
    """Uses the current database. `running_system` creates one and closes its dispatcher and log at the end."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = START
        self.history: list[str] = []
        #: Received payloads with their integration ID, to be sent again.
        self.payloads: list[tuple[int, dict[str, Any] | bytes]] = []
        self.registry = IntegrationRegistry()
        self.numbers = AlertIdAllocator()
        self.error_log = ErrorLog()
        self.misdirected: list[str] = []
        self.undone: UndoneCommand | None = None
        #: Whether the step only opened a link.
        self.opened = False
        #: Differences between a forecast and its outcome.
        self.contradictions: list[str] = []
        #: The requests an external system received, in order, and the pool that sent them.
        self.outbound_requests: list[OutboundRequest] = []
        self.integration_pool: object = None
        #: Called at the end.
        self.closers: list[Callable[[], None]] = []
        #: Users that were ever disabled or enabled: they are not informed later about what they missed.
        self.toggled_users: set[int] = set()
        self.before = Before()
        self.conditions = ProviderConditions(self.rng, self.on_send, {"": self.rng.choice([0, 0, 0.1, 0.3])})
        self._providers = RandomProviderPool(self.conditions)
        # One slot: random numbers are drawn in the same order in each walk of a seed.
        self._outbox = DeliveryDispatcher(
            slots=1, provider_pool=self._providers, now=lambda: self.now, jitter=lambda: 0.0
        )
        self._node = self._outbox.node
        keeper = EscalationTask()
        self.tasks: dict[str, Callable[[], bool]] = {
            "inbound drain": lambda: drain.drain(self.registry, AlertIdAllocator(), self.now),
            "delayed alerts": lambda: drain.open_due(self.registry, AlertIdAllocator(), self.now),
            "deactivated users": lambda: tasks.release_deactivated_users(self.now),
            "workflows": lambda: workflows.run_once(self.now),
            "shift notices": lambda: notices.queue_pending_notices(self.now),
            "reminder plans": lambda: notices.plan_reminders(self.now),
            "reminders": lambda: notices.queue_reminders(self.now),
            "escalation": lambda: keeper.run_once(self.now),
            "outbox leases": self._outbox.maintain_leases,
            "providers": self._outbox.probe_providers,
            "outbox": self._send,
        }

    def close(self) -> None:
        self._outbox.close()
        for close in self.closers:
            close()

    # Queries

    def rows(self, query: LiteralString, *parameters: object) -> list[dict[str, Any]]:
        with database.transaction() as connection:
            return database.rows(connection, query, parameters)

    def alerts(self, *, active: bool = False) -> list[int]:
        """The IDs of alerts, the newest first."""
        alerts = Alert.objects.order_by("-id")
        return list((alerts.filter(status__in=list(ACTIVE)) if active else alerts).values_list("pk", flat=True))

    def sent_messages(self) -> list[SentMessage]:
        """The last messages that users or groups received."""
        return list(self.conditions.sent_messages)

    def states(self) -> dict[int, dict[str, Any]]:
        """The state of each alert by its ID."""
        return {row["id"]: row for row in self.rows(_STATES)}

    # Events

    def record(self, sentence: str) -> None:
        """Adds a line to the history."""
        self.history.append(f"{self.now:%d %H:%M:%S} {sentence}")

    def begin_step(self) -> None:
        """Begins a step: later changes belong to it."""
        newest = AlertEvent.objects.order_by("-id").values_list("id", flat=True).first()
        self.before = Before(self.states(), newest or 0)
        self.undone = None
        self.opened = False

    def advance(self, span: timedelta) -> None:
        """Advances the clock without running tasks."""
        self.now += span

    def run_until_idle(self) -> None:
        """Runs all tasks until nothing is due."""
        for _ in range(MAX_ROUNDS):
            again = [attempt() for attempt in self.tasks.values()]
            if not any(again) and not self.rows(_DUE, self.now, self.now):
                return
        raise RuntimeError("The tasks never become idle.")

    def run_for(self, span: timedelta) -> None:
        """Advances the clock and runs the tasks whenever something is due."""
        end = self.now + span
        self.run_until_idle()
        while self.now < end:
            upcoming = self.rows(_NEXT, self.now)[0]["at"] or end
            self.now = min(end, max(upcoming, self.now + timedelta(milliseconds=500)))
            self.run_until_idle()

    def crash_while_sending(self) -> int:
        """Claims the due deliveries and crashes before or after sending each. Returns the number claimed."""
        self._node = _CRASHED_NODE
        with database.transaction() as connection:
            self._providers.refresh(connection)
            current_pause = pause.current_pause(connection, self.now)
            claimed = claim(
                connection,
                self._providers,
                Counter(),
                {},
                node=_CRASHED_NODE,
                slots=9,
                now=self.now,
                pause=current_pause,
            )
        for job in claimed.jobs:
            if self.rng.random() < 0.5:
                send.send(job, lambda: self.now, lambda: None)
        self._node = self._outbox.node
        return len(claimed.jobs)

    def expire_leases(self) -> None:
        """Expires the leases of crashed processes. Leases use the database's clock, which tests do not set."""
        with database.transaction() as connection:
            connection.execute(
                "UPDATE notify_delivery SET lease_until = clock_timestamp() - interval '1 s' WHERE status = 'sending'"
            )
            connection.execute(
                "UPDATE outbound_call SET lease_until = clock_timestamp() - interval '1 s' WHERE status = 'sending'"
            )

    def _send(self) -> bool:
        again = self._outbox.run_once()
        self._outbox.settle()
        return again

    def on_send(self) -> datetime:
        """Records a misdirected page. An invariant reports it, since an exception here would be a provider failure."""
        for row in self.rows(_MISDIRECTED, self._node):
            self.misdirected.append(f"a page about #{row['alert_id']} ({row['status']}) leaves for {row['user_id']}")
        return self.now


@contextmanager
def running_system(seed: int) -> Iterator[System]:
    """The system of a seed, closed afterwards."""
    system = System(seed)
    log = logging.getLogger("tocsin")
    log.addHandler(system.error_log)
    try:
        # Views read the clock themselves, and providers call back only at a public address.
        public = replace(environment.current(), base_url=BASE_URL)
        clocks = mock.patch.object(clock, "now", side_effect=lambda: system.now)
        with clocks, mock.patch.object(environment, "current", return_value=public):
            yield system
    finally:
        log.removeHandler(system.error_log)
        system.close()
