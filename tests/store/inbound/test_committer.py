"""The committer: processing order, and arrays answered as a whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

import pytest
from msgspec.structs import replace

from tests.support.ingest import NOW, halo, make_integration, message
from tests.support.integrations import rows
from tests.support.people import make_user, while_deleted
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.deciding.decide import prepare
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import Integration
from tocsin.inbound.processing.committer import Committer, IngestRequest
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult
from tocsin.notify.pages import queue_pages
from tocsin.notify.rules.page_planner import PageRequest

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def registry() -> IntegrationRegistry:
    return IntegrationRegistry()


@pytest.fixture
def integration(registry: IntegrationRegistry) -> Integration:
    made = make_integration()
    registry.refresh()
    return made


def arriving(
    registry: IntegrationRegistry, integration: Integration, ticket: int, status: str = "New"
) -> IncomingMessage:
    """A message as the doors put it in: read already, so that its key is known."""
    incoming = message(integration, halo(ticket, status))
    assert not isinstance(incoming.element, Rejected)
    return replace(incoming, preprocessed=prepare(registry.get(integration.pk), incoming.element, incoming.id))


class Answered:
    """Waits for the answers to tickets."""

    def __init__(self) -> None:
        self.results: dict[int, list[MessageResult] | Exception] = {}
        self._came = threading.Condition()

    def ticket(self, number: int, incoming: Sequence[IncomingMessage]) -> IngestRequest:
        def answer(result: list[MessageResult] | Exception) -> None:
            with self._came:
                assert number not in self.results, "answered twice"
                self.results[number] = result
                self._came.notify_all()

        return IngestRequest(incoming, sum(len(one.raw) for one in incoming), answer)

    def wait_for(self, number: int) -> list[list[MessageResult] | Exception]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.results) == number, 20)
        return [self.results[one] for one in range(number)]


def test_an_array_is_answered_once_in_its_own_order(registry: IntegrationRegistry, integration: Integration) -> None:
    answered = Answered()
    incoming = [arriving(registry, integration, number) for number in range(1, 41)]
    made = Committer(registry)
    assert made.put(answered.ticket(0, incoming))
    assert made.queue_status().message_count == 40
    made.start()
    try:
        (stored,) = answered.wait_for(1)
    finally:
        made.stop(10)
    assert isinstance(stored, list)
    alerts = {row.id: row.alert_id for row in rows()}
    assert [one.alert_id for one in stored] == [alerts[one.id] for one in incoming]
    assert len(set(alerts.values())) == 40
    assert {one.status for one in stored} == {MessageStatus.OPENED}
    assert made.queue_status().message_count == made.queue_status().size_bytes == 0


def test_messages_of_one_key_are_decided_in_arrival_order(
    registry: IntegrationRegistry, integration: Integration
) -> None:
    answered = Answered()
    made = Committer(registry)
    made.start()
    rounds = [(status, ticket) for _ in range(6) for status in ("New", "Closed") for ticket in range(1, 9)]
    try:
        for number, (status, ticket) in enumerate(rounds):
            assert made.put(answered.ticket(number, [arriving(registry, integration, ticket, status)]))
        results = answered.wait_for(len(rounds))
    finally:
        made.stop(10)
    expected = {"New": MessageStatus.OPENED, "Closed": MessageStatus.CLOSED}
    for (status, _), result in zip(rounds, results, strict=True):
        assert isinstance(result, list)
        assert result[0].status is expected[status]


def test_closing_message_applies_while_a_paged_user_is_deleted(
    registry: IntegrationRegistry, integration: Integration
) -> None:
    dora = make_user("dora", NOW)
    answered = Answered()
    made = Committer(registry)
    made.start()
    try:
        assert made.put(answered.ticket(0, [arriving(registry, integration, 1)]))
        ((opened,),) = cast(list[list[MessageResult]], answered.wait_for(1))
        with database.transaction() as connection:
            queue_pages(connection, [PageRequest(opened.alert_id or 0, NOW, "Dora is primary.", dora.pk)], NOW)
            connection.execute(
                "UPDATE notify_delivery SET status = 'delivered', receipt = 'delivered', sent_at = %s", (NOW,)
            )

        def close() -> None:
            assert made.put(answered.ticket(1, [arriving(registry, integration, 1, "Closed")]))
            answered.wait_for(2)

        while_deleted(dora, close, now=NOW)
    finally:
        made.stop(10)
    (closed,) = cast(list[MessageResult], answered.results[1])
    assert closed.status is MessageStatus.CLOSED


def test_message_stored_by_lost_transaction_gets_its_recorded_answer(
    registry: IntegrationRegistry, integration: Integration
) -> None:
    answered = Answered()
    incoming = arriving(registry, integration, 1)
    for number in range(2):
        # The second time is a try whose transaction was believed to be lost, while the database still ended it.
        made = Committer(registry)
        assert made.put(answered.ticket(number, [incoming]))
        made.start()
        try:
            answered.wait_for(number + 1)
        finally:
            made.stop(10)
    first, second = answered.results[0], answered.results[1]
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert (second[0].status, second[0].alert_id) == (first[0].status, first[0].alert_id)
    assert len(rows()) == 1


def test_array_with_unstorable_element_is_rejected_whole_and_once(
    registry: IntegrationRegistry, integration: Integration
) -> None:
    answered = Answered()
    incoming = [arriving(registry, integration, number) for number in range(1, 21)]
    made = Committer(registry)
    assert made.put(answered.ticket(0, [replace(incoming[0], integration_id=0), *incoming[1:]]))
    made.start()
    try:
        (result,) = answered.wait_for(1)
    finally:
        made.stop(10)
    assert isinstance(result, UnknownIntegration)
    assert len(rows()) == 19
