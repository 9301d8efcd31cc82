"""A real promotion under load: no answered message is lost or counted as broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection as django_connection
from pytest_django import DjangoDbBlocker

from tests.doubles.postgres_relay import relay_to, socket_of
from tests.support.ingest import halo, make_integration
from tests.support.integrations import InboundResponse, InboundServer, inbound_server, rows
from tests.support.postgres import in_use
from tests.support.replication import replicated
from tocsin.core.db import migrate
from tocsin.inbound.models import Integration


class Sender(threading.Thread):
    """Sends tickets, one after the other, and counts its answers."""

    def __init__(self, node: InboundServer, integration: Integration) -> None:
        super().__init__(daemon=True)
        self._node, self._integration = node, integration
        self._answered = threading.Condition()
        self.replies: list[InboundResponse] = []
        self.is_over = False

    def run(self) -> None:
        while not self.is_over:
            reply = self._node.post(self._integration, halo(len(self.replies) + 1))
            with self._answered:
                self.replies.append(reply)
                self._answered.notify_all()

    def stored(self) -> set[int]:
        """The tickets that were answered with 200."""
        return {number for number, reply in enumerate(self.replies, start=1) if reply.status == 200}

    def wait_for(self, number: int, seconds: float = 30) -> None:
        """Returns once so many tickets were answered with 200."""
        with self._answered:
            assert self._answered.wait_for(lambda: len(self.stored()) >= number, seconds)


@contextmanager
def sending(node: InboundServer, integration: Integration) -> Iterator[Sender]:
    sender = Sender(node, integration)
    sender.start()
    try:
        yield sender
    finally:
        sender.is_over = True
        sender.join(20)


def test_a_promotion_loses_no_message_and_poisons_none(django_db_blocker: DjangoDbBlocker) -> None:
    with replicated() as servers, django_db_blocker.unblock():
        url, standby = servers.primary.url("postgres"), servers.standby.url("postgres")
        with relay_to(url) as relay, in_use(relay.url(url)):
            migrate.migrate()
            integration = make_integration()
            with inbound_server(max_wait=2) as node, sending(node, integration) as sender:
                sender.wait_for(20)
                # A virtual IP address that moves too early: for a moment it leads to a server that is read-only.
                relay.move(socket_of(standby))
                servers.fail_over()
                sender.wait_for(len(sender.stored()) + 20)
            django_connection.close()
            stored = rows()
    assert {row.status for row in stored} == {"Mapped Opened"}
    assert sender.stored() <= {int(row.source_id) for row in stored}
