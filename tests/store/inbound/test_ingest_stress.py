"""Two nodes, users and escalation on the same forty tickets: no deadlock and no inconsistency."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import halo, make_integration, message
from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge, Assign, Command, Escalate, Hold, Unacknowledge, Unassign
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.processing.committer import Committer, IngestRequest
from tocsin.inbound.processing.drain import drain
from tocsin.inbound.storage.messages import MessageResult

TICKETS = range(1, 41)
REQUESTS = 60
SEED = 20261124


@dataclass
class StressScenario:
    """What the threads share: the tickets' last words, what failed, and when to stop."""

    door: Integration
    desk: EscalationHarness
    start: datetime
    #: By ticket: when the last thing was said of it, and what.
    last: dict[int, tuple[datetime, str]] = field(default_factory=dict)
    problems: list[BaseException] = field(default_factory=list)
    acted: Counter[str] = field(default_factory=Counter)
    is_over: threading.Event = field(default_factory=threading.Event)
    _moments: Iterator[int] = field(default_factory=itertools.count)
    _saying: threading.Lock = field(default_factory=threading.Lock)

    def message(self, ticket: int, status: str) -> dict[str, Any]:
        """A message that is newer than every one before it."""
        with self._saying:
            at = self.start + timedelta(milliseconds=next(self._moments))
            self.last[ticket] = (at, status)
        return {**halo(ticket, status), "timestamp": at.isoformat()}

    @contextmanager
    def thread(self, work: Callable[[], object]) -> Iterator[threading.Thread]:
        """Runs `work`; whatever it raises fails the test."""

        def run() -> None:
            try:
                work()
            except BaseException as problem:  # noqa: BLE001 - the test itself looks at it
                self.problems.append(problem)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield thread
        finally:
            thread.join(60)
            assert not thread.is_alive()


def send(scenario: StressScenario, committer: Committer, seed: int) -> None:
    """One node's senders: requests of several messages, the next one before the last is answered."""
    dice = random.Random(seed)
    answered = threading.Semaphore(4)

    def answer(result: list[MessageResult] | Exception) -> None:
        if isinstance(result, Exception):
            scenario.problems.append(result)
        answered.release()

    for _ in range(REQUESTS):
        assert answered.acquire(timeout=30)
        payloads = [
            scenario.message(dice.choice(TICKETS), dice.choice(("New", "New", "Closed")))
            for _ in range(dice.randint(1, 12))
        ]
        incoming = [message(scenario.door, payload, clock.now()) for payload in payloads]
        assert committer.put(IngestRequest(incoming, sum(len(one.raw) for one in incoming), answer))
    for _ in range(4):
        assert answered.acquire(timeout=30)


def act(scenario: StressScenario, seed: int) -> None:
    """One person who answers whatever there is."""
    dice = random.Random(seed)
    name = dice.choice(("alice", "bob", "carol"))
    me = scenario.desk.actor(name)
    while not scenario.is_over.is_set():
        with database.transaction() as connection:
            cursor = connection.execute("SELECT id FROM alerts_alert WHERE status = ANY(%s)", (["open", "assigned"],))
            live = [row[0] for row in cursor]
        if not live:
            scenario.is_over.wait(0.01)
            continue
        order: Command = dice.choice(
            (
                Acknowledge(actor=me),
                Acknowledge(actor=me),
                Unacknowledge(actor=me),
                Escalate(actor=me),
                Assign(actor=me, name=me.name, user_id=me.user_id),
                Unassign(actor=me),
                Hold(actor=me, until=clock.now() + timedelta(minutes=5)),
            )
        )
        try:
            service.apply_command(FoundAlert.by_tocsin(dice.choice(live)), order, now=clock.now())
        except Rejected as rejected:
            scenario.acted[rejected.code] += 1
        else:
            scenario.acted["done"] += 1


def repeat_until_over(scenario: StressScenario, work: Callable[[], object]) -> None:
    """A loop of a worker."""
    while not scenario.is_over.is_set():
        work()
        scenario.is_over.wait(0.005)


@pytest.fixture
def scenario(database: str) -> Iterator[StressScenario]:
    with escalation_enabled():
        now = clock.now()
        desk = EscalationHarness(now)
        integration = make_integration(policy=desk.policy)
        integration.recipient_groups.add(desk.group)
        settings_store.bump()
        yield StressScenario(integration, desk, now)


def test_concurrent_opens_closes_and_commands_from_two_nodes_are_consistent(scenario: StressScenario) -> None:
    registries = [IntegrationRegistry(), IntegrationRegistry(), IntegrationRegistry()]
    for registry in registries:
        registry.refresh()
    nodes = [Committer(registry) for registry in registries[:2]]
    numbers = AlertIdAllocator()
    for node in nodes:
        node.start()
    with (
        scenario.thread(lambda: repeat_until_over(scenario, lambda: drain(registries[2], numbers, clock.now()))),
        scenario.thread(lambda: repeat_until_over(scenario, lambda: scenario.desk.keeper.run_once(clock.now()))),
        scenario.thread(lambda: act(scenario, SEED + 1)),
        scenario.thread(lambda: act(scenario, SEED + 2)),
        scenario.thread(lambda: act(scenario, SEED + 3)),
    ):
        with (
            scenario.thread(lambda: send(scenario, nodes[0], SEED + 4)),
            scenario.thread(lambda: send(scenario, nodes[1], SEED + 5)),
        ):
            pass
        scenario.is_over.set()
    for node in nodes:
        node.stop(10)
    for _ in range(20):
        drain(registries[2], numbers, clock.now())
    assert scenario.problems == []
    assert scenario.acted["done"] > 0
    assert_nothing_is_lost()
    assert_each_ticket_has_its_last_status(scenario)
    assert_runs_match_their_alerts()
    with database.transaction() as connection:
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row == (0,)


def assert_nothing_is_lost() -> None:
    """Every message is decided once, and each that counted is counted on an alert."""
    outcomes = Counter(InboundMessage.objects.values_list("status", flat=True))
    assert set(outcomes) <= {"Mapped Opened", "Mapped Appended", "Mapped Closed", "Mapped Ignored"}
    assert outcomes["Mapped Opened"] == Alert.objects.count()
    assert outcomes["Mapped Closed"] == Alert.objects.filter(status="closed").count()
    counted = outcomes["Mapped Opened"] + outcomes["Mapped Appended"] + outcomes["Mapped Closed"]
    assert sum(Alert.objects.values_list("count", flat=True)) == counted


def assert_each_ticket_has_its_last_status(scenario: StressScenario) -> None:
    live = Counter(Alert.objects.exclude(status="closed").values_list("source_id", flat=True))
    assert set(live.values()) <= {1}
    expected = {str(ticket) for ticket, (_, status) in scenario.last.items() if status == "New"}
    assert set(live) == expected


def assert_runs_match_their_alerts() -> None:
    """Each alert has one run that is not ended while it lives, and none afterwards."""
    for alert in Alert.objects.all():
        alive = EscalationRun.objects.filter(alert=alert).exclude(status="ended").count()
        assert alive == (0 if alert.status == "closed" else 1), alert.status
