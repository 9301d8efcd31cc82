"""A running node: starts the components that its role needs, in order, and stops them in reverse."""

from __future__ import annotations

import gc
import logging
import threading
import time
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import psycopg
from django.db import connections

from tocsin.asgi import AsgiRouter
from tocsin.core.db import database
from tocsin.core.db.database import CHANNEL
from tocsin.core.db.pipelined_connection import PipelinedConnection
from tocsin.core.db.start_up import wait_for_database
from tocsin.core.embedded_postgres.lifecycle import EmbeddedPostgres
from tocsin.core.errors import TocsinError
from tocsin.core.ids import uuid7
from tocsin.core.net.asgi import BodyReader
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import Worker
from tocsin.inbound import tasks
from tocsin.inbound.app import InboundApp
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.email.smtp_listener import SmtpListener
from tocsin.inbound.http.fast_path import FastPath
from tocsin.inbound.processing.committer import Committer
from tocsin.notify import worker as outbox
from tocsin.notify.dispatch.preload import preload
from tocsin.operate import tasks as operate
from tocsin.operate.http.probes import ProbesApp
from tocsin.operate.node_heartbeat import NodeHeartbeat, TaskRun
from tocsin.outbound.delivery import dispatcher as outbound
from tocsin.web.sse import broadcaster, endpoint
from tocsin.web_process.proxy import PageProxy
from tocsin.wiring import loops

log = logging.getLogger(__name__)

#: Seconds between polls for changes whose hint was lost.
POLL = 1.0

#: Seconds that periodic tasks and the committer may take to finish their work.
STOP_TIMEOUT = 15.0


class NodeRole(StrEnum):
    ALL = "all"
    INGEST = "ingest"
    WEB = "web"
    WORKER = "worker"


class NodeProcess:
    """One process of Tocsin. Call `start` before its `app` serves, and `stop` after it."""

    def __init__(self, role: NodeRole, embedded: EmbeddedPostgres | None) -> None:
        self.id: UUID = uuid7()
        self.role = role
        self._embedded = embedded
        self._registry = IntegrationRegistry()
        self._bodies = BodyReader()
        self._stopping = threading.Event()
        self.committer = Committer(self._registry) if role in (NodeRole.ALL, NodeRole.INGEST) else None
        self.inbound = InboundApp(self._registry, self.committer, self._bodies) if self.committer else None
        #: Handles complete requests before the ASGI app does.
        self.short_way = FastPath(self._registry, self.committer, self._bodies) if self.committer else None
        self.mail_door = SmtpListener(self.inbound.reception) if self.inbound is not None else None
        self._presence = NodeHeartbeat(self.id, role.value, self._turned, stuck_senders=outbox.stuck_senders)
        work = loops(self._registry, self.id, role.value) if role in (NodeRole.ALL, NodeRole.WORKER) else ()
        # Every node reports its heartbeat, whatever its role.
        doors = tasks.receiver_tasks(self._registry) if self.inbound is not None else ()
        self.worker = Worker((*work, *doors, operate.node_loop(self._presence)))
        self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._pages = PageProxy(database.url()) if role in (NodeRole.ALL, NodeRole.WEB) else None
        self.probes = ProbesApp(
            worker=self.worker,
            committer=self.committer,
            listens=self._listener.is_alive,
            pages=self._pages.problem if self._pages is not None else None,
        )
        self.app = AsgiRouter(
            bodies=self._bodies,
            probes=self.probes,
            inbound=self.inbound,
            live=endpoint.stream if self._pages is not None else None,
            pages=self._pages,
        )

    def start(self) -> None:
        """Measures the clock, loads the configuration and starts the threads. Returns when all of them serve."""
        preload(datetime.now(UTC))
        _calm_the_collector()
        if self._pages is not None:
            # A forked process must not share a database connection.
            connections.close_all()
            database.close()
            self._pages.fork()
            self._pages.start()
        wait_for_database(self._load)
        if self.committer is not None:
            self.committer.start()
        if self.mail_door is not None:
            self.mail_door.start()
        self._listener.start()
        self.worker.start()

    def _load(self) -> None:
        with database.pool().connection() as connection:
            clock.measure(connection)
        self._registry.refresh()

    def wait(self) -> None:
        """Waits until the web process is ready."""
        if self._pages is not None:
            self._pages.wait()

    def end_streams(self) -> None:
        """Ends live streams (SSE), which would delay the server's graceful stop."""
        if self._pages is not None:
            endpoint.stop()

    def stop(self) -> None:
        """Stops the threads: accepted work is finished, no new work is started."""
        self._stopping.set()
        if self._pages is not None:
            self._pages.stop()
        if self.mail_door is not None:
            self.mail_door.stop(STOP_TIMEOUT)
        if self.committer is not None:
            self.committer.stop(STOP_TIMEOUT)
        self.worker.stop(STOP_TIMEOUT)
        self._finish_sending()
        self._leave()
        self._listener.join(POLL * 2)

    def _turned(self) -> list[TaskRun]:
        return [TaskRun(loop.name, self.worker.turned_at[loop.name], loop.every) for loop in self.worker.loops]

    def _finish_sending(self) -> None:
        """Finishes deliveries in progress and stores their results; otherwise another process would send them again."""
        try:
            outbox.close(STOP_TIMEOUT)
            outbound.close(STOP_TIMEOUT)
        except psycopg.Error as error:
            log.warning("What was sent last cannot be written down, so it is sent again: %s", error)

    def _leave(self) -> None:
        try:
            self._presence.leave()
        except psycopg.Error as error:
            log.warning("The database does not answer at the end: %s", error)

    def _listen(self) -> None:
        """Passes hints on, and polls every second for changes without a hint. Survives any loss of the database."""
        while not self._stopping.is_set():
            try:
                with database.connect(name="tocsin listener") as connection:
                    connection.execute(f"LISTEN {CHANNEL}".encode())
                    self._registry.refresh()
                    broadcaster.hub.start()
                    self._wake_all()
                    self._listen_on(connection)
            except psycopg.Error as error:
                if not self._stopping.is_set():
                    log.warning("The database does not answer the listener: %s", error)
                    self._mend()
                    self._stopping.wait(POLL)
            except Exception:  # outermost handler: without a listener, dead tasks stay dead and a test clock stops
                log.exception("The listener failed, and begins again.")
                self._stopping.wait(POLL)

    def _listen_on(self, connection: PipelinedConnection) -> None:
        looked_at = time.monotonic()
        while not self._stopping.is_set() and not connection.is_outdated:
            topics: set[str] = set()
            for notice in connection.notifies(timeout=POLL, stop_after=1):
                topics.update(notice.payload.split())
            if topics:
                self._pass_on(topics)
            if "config" in topics or "clock" in topics or time.monotonic() - looked_at >= POLL:
                looked_at = time.monotonic()
                self._registry.refresh()
                if "clock" in topics:
                    clock.measure(connection)
                else:
                    clock.measure_if_due(connection)
                self.worker.revive()
                if "clock" in topics:
                    self._wake_all()

    def _pass_on(self, topics: set[str]) -> None:
        self.worker.wake(topics)
        broadcaster.publish(topics)

    def _wake_all(self) -> None:
        self.worker.wake({topic for loop in self.worker.loops for topic in loop.topics})

    def _mend(self) -> None:
        """Restarts the embedded PostgreSQL, in case it was killed."""
        if self._embedded is not None:
            try:
                self._embedded.start()
            except (OSError, RuntimeError, TocsinError, psycopg.Error) as error:
                log.error("The embedded PostgreSQL cannot be started: %s", error)


def _calm_the_collector() -> None:
    """Excludes the objects loaded at start-up from garbage collection, and makes collections rarer.

    Ingest creates many short-lived objects and no cycles. With the defaults, collections took a third of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
