"""One seed's Tocsin: its clock, its loops, its outbox, and the story of what has happened in it."""

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

from tests.walk.gateways import Gateways, Letter, Weather
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.escalation.actions import deactivated_users
from tocsin.escalation.tasks import EscalationTask
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.processing import batch, delayed_alerts_task
from tocsin.inbound.processing import drain as inbound
from tocsin.notify import pause
from tocsin.notify.dispatch import send
from tocsin.notify.dispatch.claim import claim
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.enqueue import shift_reminders
from tocsin.workflows.run import tasks as workflows

START = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)

BASE_URL = "https://tocsin.example.org"

#: At rest comes after so many rounds of all loops at the latest; of what is due one message leaves in each.
ROUNDS = 400

#: The node of a process that ends while it sends.
_ENDING = "a process that ends"

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

# What a loop leaves to one that turned before it in the same round.
_DUE = """
SELECT FROM escalation_run WHERE due_at <= %s UNION ALL SELECT FROM workflows_run WHERE due_at <= %s LIMIT 1
"""

_STATES = """
SELECT id, status, owner_id, owner_name, merged_into_id, priority, hold_until,
       (SELECT array_agg(user_id ORDER BY user_id) FROM alerts_acknowledgement k WHERE k.alert_id = a.id) AS acks
FROM alerts_alert a
"""

# What the outbox holds a lease of is what leaves right now.
_MISDIRECTED = """
SELECT d.alert_id, d.user_id, a.status, a.dry_run FROM notify_delivery d
JOIN notify_notification n ON n.id = d.notification_id JOIN alerts_alert a ON a.id = d.alert_id
WHERE d.status = 'sending' AND d.leased_by = %s AND d.purpose = 'page' AND (
  a.dry_run OR a.status IN ('closed', 'cancelled', 'merged') OR a.owner_id = d.user_id
  OR (a.status = 'on_hold' AND NOT n.data ? 'wake')
  OR EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id AND k.user_id = d.user_id))
"""


@dataclass(frozen=True, slots=True)
class Before:
    """How all alerts stood before a step, and the last event there was."""

    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    last_event: int = 0


@dataclass(frozen=True, slots=True)
class Undone:
    """An act that was undone at once: how its alert stood before and after, by what was looked at."""

    alert: int
    what: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What another system was asked for, and whether an earlier try was known to be one that it may have heard."""

    call: int
    order_key: str
    is_uncertain: bool


class Troubles(logging.Handler):
    """Keeps what Tocsin logs as its own failure: whatever has a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            lines = traceback.format_exception(*record.exc_info)
            self.texts.append("\n".join([record.getMessage(), "".join(lines)]))


class World:
    """Made in the database in use; `inhabited` makes one whose outbox and log are closed at the end."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = START
        self.story: list[str] = []
        #: What arrived, by the integration's id, to be sent once more.
        self.payloads: list[tuple[int, dict[str, Any] | bytes]] = []
        self.registry = IntegrationRegistry()
        self.numbers = batch.AlertIdAllocator()
        self.troubles = Troubles()
        self.misdirected: list[str] = []
        self.undone: Undone | None = None
        #: Whether all that the step did was to open a link.
        self.opened = False
        #: Where something happened otherwise than Tocsin had said.
        self.contradictions: list[str] = []
        #: What another system was asked for, in that order; and the way there.
        self.asked: list[Asked] = []
        self.elsewhere: object = None
        #: What is closed at the end.
        self.at_the_end: list[Callable[[], None]] = []
        #: Who was ever switched off or on: what they missed meanwhile is not told them later.
        self.switched_off: set[int] = set()
        self.before = Before()
        self.weather = Weather(self.rng, self.leaving, {"": self.rng.choice([0, 0, 0.1, 0.3])})
        self._gateways = Gateways(self.weather)
        # One at a time: the dice fall in the same order in each walk of a seed.
        self._outbox = DeliveryDispatcher(slots=1, directory=self._gateways, now=lambda: self.now, jitter=lambda: 0.0)
        self._node = self._outbox.node
        keeper = EscalationTask()
        self.loops: dict[str, Callable[[], bool]] = {
            "inbound drain": lambda: inbound.drain(self.registry, batch.AlertIdAllocator(), self.now),
            "delayed openings": lambda: delayed_alerts_task.open_due(self.registry, batch.AlertIdAllocator(), self.now),
            "departed owners": lambda: deactivated_users.turn(self.now),
            "workflows": lambda: workflows.turn(self.now),
            "duty notices": lambda: shift_reminders.hand_on(self.now),
            "shifts to remind of": lambda: shift_reminders.plan_reminders(self.now),
            "reminders": lambda: shift_reminders.remind(self.now),
            "escalation": lambda: keeper.turn(self.now),
            "outbox leases": self._outbox.keep_leases,
            "providers": self._outbox.ask_providers,
            "outbox": self._send,
        }

    def close(self) -> None:
        self._outbox.close()
        for close in self.at_the_end:
            close()

    # What is read of it

    def rows(self, query: LiteralString, *parameters: object) -> list[dict[str, Any]]:
        with database.transaction() as connection:
            return database.rows(connection, query, parameters)

    def alerts(self, *, live: bool = False) -> list[int]:
        """The numbers of alerts, the newest first."""
        found = Alert.objects.order_by("-id")
        return list((found.filter(status__in=list(ACTIVE)) if live else found).values_list("pk", flat=True))

    def letters(self) -> list[Letter]:
        """The last messages that arrived at a person's or group's."""
        return list(self.weather.letters)

    def states(self) -> dict[int, dict[str, Any]]:
        """How each alert stands, by its number."""
        return {row["id"]: row for row in self.rows(_STATES)}

    # What happens in it

    def say(self, sentence: str) -> None:
        """One more line of the story."""
        self.story.append(f"{self.now:%d %H:%M:%S} {sentence}")

    def remember(self) -> None:
        """Begins a step: what changes from here on is what the step changed."""
        newest = AlertEvent.objects.order_by("-id").values_list("id", flat=True).first()
        self.before = Before(self.states(), newest or 0)
        self.undone = None
        self.opened = False

    def pass_by(self, span: timedelta) -> None:
        """Time passes, and no loop turns."""
        self.now += span

    def settle(self) -> None:
        """Turns the loops until nothing is due any more."""
        for _ in range(ROUNDS):
            again = [turn() for turn in self.loops.values()]
            if not any(again) and not self.rows(_DUE, self.now, self.now):
                return
        raise RuntimeError("The loops never come to rest.")

    def live(self, span: timedelta) -> None:
        """Time passes as it does in life: the loops turn whenever something is due."""
        end = self.now + span
        self.settle()
        while self.now < end:
            upcoming = self.rows(_NEXT, self.now)[0]["at"] or end
            self.now = min(end, max(upcoming, self.now + timedelta(milliseconds=500)))
            self.settle()

    def die_sending(self) -> int:
        """A process claims what is due and ends, before or after each message has left. Returns how many it had."""
        self._node = _ENDING
        with database.transaction() as connection:
            self._gateways.refresh(connection)
            held = pause.current(connection, self.now)
            claimed = claim(connection, self._gateways, Counter(), node=_ENDING, slots=9, now=self.now, pause=held)
        for job in claimed.jobs:
            if self.rng.random() < 0.5:
                send.send(job, lambda: self.now)
        self._node = self._outbox.node
        return len(claimed.jobs)

    def end_leases(self) -> None:
        """The leases of processes that ended run out. They are by the database's clock, which nobody sets."""
        with database.transaction() as connection:
            connection.execute(
                "UPDATE notify_delivery SET lease_until = clock_timestamp() - interval '1 s' WHERE status = 'sending'"
            )
            connection.execute(
                "UPDATE outbound_call SET lease_until = clock_timestamp() - interval '1 s' WHERE status = 'sending'"
            )

    def _send(self) -> bool:
        again = self._outbox.turn()
        self._outbox.settle()
        return again

    def leaving(self) -> datetime:
        """A message leaves: notes what must not, which is told by the promises, since a sender's error is a failure."""
        for row in self.rows(_MISDIRECTED, self._node):
            self.misdirected.append(f"a page about #{row['alert_id']} ({row['status']}) leaves for {row['user_id']}")
        return self.now


@contextmanager
def inhabited(seed: int) -> Iterator[World]:
    """The world of a seed, as long as it is walked in."""
    world = World(seed)
    log = logging.getLogger("tocsin")
    log.addHandler(world.troubles)
    try:
        # Pages read the clock themselves, and vendors call back at a public address only.
        public = replace(environment.current(), base_url=BASE_URL)
        clocks = mock.patch.object(clock, "now", side_effect=lambda: world.now)
        with clocks, mock.patch.object(environment, "current", return_value=public):
            yield world
    finally:
        log.removeHandler(world.troubles)
        world.close()
