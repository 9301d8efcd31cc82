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
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import CHANNEL, PipelinedConnection
from tocsin.core.db.start_up import wait_for_database
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.errors import TocsinError
from tocsin.core.ids import uuid7
from tocsin.core.net.asgi import BodyReader
from tocsin.core.runtime import clock, telemetry
from tocsin.core.runtime.periodic_tasks import Worker
from tocsin.inbound import tasks
from tocsin.inbound.app import InboundApp
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.email import SmtpListener
from tocsin.inbound.processing.committer import Committer
from tocsin.inbound.webhook_endpoint import FastPath
from tocsin.notify import worker as notify_worker
from tocsin.notify.dispatch.send import preload
from tocsin.operate import tasks as operate
from tocsin.operate.http import ProbesApp
from tocsin.operate.node_heartbeat import NodeHeartbeat, TaskRun
from tocsin.outbound.delivery import dispatcher as outbound
from tocsin.web import sse
from tocsin.web_process import WebProcessProxy
from tocsin.wiring import worker_tasks

log = logging.getLogger(__name__)

#: Seconds between polls for changes whose hint was lost.
POLL_SECONDS = 1.0

#: Seconds that all threads together may take to finish their work.
STOP_TIMEOUT = 15.0

#: Seconds after that for storing the results of deliveries.
RECORD_TIMEOUT = 5.0


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
        self._body_reader = BodyReader()
        self._stopping = threading.Event()
        self.committer = Committer(self._registry) if role in (NodeRole.ALL, NodeRole.INGEST) else None
        self.inbound = InboundApp(self._registry, self.committer, self._body_reader) if self.committer else None
        #: Handles complete requests before the ASGI app does.
        self.fast_path = FastPath(self._registry, self.committer, self._body_reader) if self.committer else None
        self.smtp_listener = SmtpListener(self.inbound.service) if self.inbound is not None else None
        self._heartbeat = NodeHeartbeat(self.id, role.value, self._task_runs, stuck_senders=notify_worker.stuck_senders)
        role_tasks = (
            worker_tasks(self._registry, self.id, role.value) if role in (NodeRole.ALL, NodeRole.WORKER) else ()
        )
        # Every node reports its heartbeat, whatever its role.
        refused_requests = self.inbound.service.refused_requests if self.inbound is not None else None
        receiver_tasks = tasks.receiver_tasks(self._registry, refused_requests) if refused_requests is not None else ()
        self.worker = Worker((*role_tasks, *receiver_tasks, operate.heartbeat_task(self._heartbeat)))
        self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._web_process = WebProcessProxy(database.url()) if role in (NodeRole.ALL, NodeRole.WEB) else None
        self.probes = ProbesApp(
            worker=self.worker,
            committer=self.committer,
            is_listening=self._listener.is_alive,
            web_process_problem=self._web_process.problem if self._web_process is not None else None,
        )
        self.app = AsgiRouter(
            body_reader=self._body_reader,
            probes=self.probes,
            inbound=self.inbound,
            live=sse.stream if self._web_process is not None else None,
            web=self._web_process,
            on_unknown_post=refused_requests.count_unmatched if refused_requests is not None else None,
        )

    def start(self) -> None:
        """Measures the clock, loads the configuration and starts the threads. Returns when all of them serve."""
        preload(datetime.now(UTC))
        _tune_garbage_collection()
        if self._web_process is not None:
            # A forked process must not share a database connection.
            connections.close_all()
            database.close()
            self._web_process.fork()
            self._web_process.start()
        telemetry.set_up_traces(str(self.id))
        wait_for_database(self._load, revive=self._restart_embedded_postgres)
        if self.committer is not None:
            self.committer.start()
        if self.smtp_listener is not None:
            self.smtp_listener.start()
        self._listener.start()
        self.worker.start()

    def _load(self) -> None:
        with database.connection() as connection:
            clock.measure(connection)
            settings_store.follow(connection)
        self._registry.refresh()

    def wait(self) -> None:
        """Waits until the web process is ready."""
        if self._web_process is not None:
            self._web_process.wait()

    def end_streams(self) -> None:
        """Ends live streams (SSE), which would delay the server's graceful stop."""
        if self._web_process is not None:
            sse.stop()

    def stop(self) -> None:
        """Stops the threads: accepted work is finished, no new work is started. Takes STOP_TIMEOUT and
        RECORD_TIMEOUT at most, even if commits wait for a missing synchronous standby. `start` may have been
        interrupted anywhere."""
        self._stopping.set()
        end = time.monotonic() + STOP_TIMEOUT
        if self._web_process is not None:
            self._web_process.stop()
        if self.smtp_listener is not None:
            self.smtp_listener.stop(_seconds_until(end))
        if self.committer is not None:
            self.committer.stop(_seconds_until(end))
        self.worker.stop(_seconds_until(end))
        finishing = threading.Thread(target=self._finish, args=(end,), name="finishing", daemon=True)
        finishing.start()
        finishing.join(_seconds_until(end) + RECORD_TIMEOUT)
        if self._listener.is_alive():
            self._listener.join(POLL_SECONDS * 2)
        telemetry.shut_down_traces()

    def _task_runs(self) -> list[TaskRun]:
        ages = {task: self.worker.since_run(task.name) for task in self.worker.tasks}
        return [TaskRun(task.name, age, task.interval) for task, age in ages.items() if age is not None]

    def _finish(self, end: float) -> None:
        self._finish_sending(end)
        self._unregister()

    def _finish_sending(self, end: float) -> None:
        """Finishes deliveries in progress and stores their results; otherwise another process would send them again."""
        try:
            notify_worker.close(_seconds_until(end))
            outbound.close(_seconds_until(end))
        except psycopg.Error as error:
            log.warning("What was sent last cannot be written down, so it is sent again: %s", error)

    def _unregister(self) -> None:
        try:
            self._heartbeat.leave()
        except psycopg.Error as error:
            log.warning("The database does not answer at the end: %s", error)

    def _listen(self) -> None:
        """Passes hints on, and polls every second for changes without a hint. Survives any loss of the database."""
        while not self._stopping.is_set():
            try:
                with database.connect(name="tocsin listener") as connection:
                    connection.execute(f"LISTEN {CHANNEL}".encode())
                    self._registry.refresh()
                    sse.process_broadcaster.start()
                    self._wake_all()
                    self._listen_on(connection)
            except psycopg.Error as error:
                if not self._stopping.is_set():
                    log.warning("The database does not answer the listener: %s", error)
                    self._restart_embedded_postgres()
                    self._stopping.wait(POLL_SECONDS)
            except Exception:  # outermost handler: without a listener, dead tasks stay dead and a test clock stops
                log.exception("The listener failed, and begins again.")
                self._stopping.wait(POLL_SECONDS)

    def _listen_on(self, connection: PipelinedConnection) -> None:
        polled_at = time.monotonic()
        while not self._stopping.is_set() and not connection.is_outdated:
            topics: set[str] = set()
            for notice in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                topics.update(notice.payload.split())
            if topics:
                self._publish(topics)
            if "config" in topics or "clock" in topics or time.monotonic() - polled_at >= POLL_SECONDS:
                polled_at = time.monotonic()
                self._registry.refresh()
                settings_store.follow(connection)
                if "clock" in topics:
                    clock.measure(connection)
                else:
                    clock.measure_if_due(connection)
                self.worker.supervise()
                if "clock" in topics:
                    self._wake_all()

    def _publish(self, topics: set[str]) -> None:
        self.worker.wake(topics)
        sse.publish(topics)

    def _wake_all(self) -> None:
        self.worker.wake({topic for task in self.worker.tasks for topic in task.topics})

    def _restart_embedded_postgres(self) -> None:
        """Restarts the embedded PostgreSQL, in case it was killed."""
        if self._embedded is not None:
            try:
                self._embedded.start()
            except (OSError, RuntimeError, TocsinError, psycopg.Error) as error:
                log.error("The embedded PostgreSQL cannot be started: %s", error)


def _seconds_until(end: float) -> float:
    return max(0.0, end - time.monotonic())


def _tune_garbage_collection() -> None:
    """Excludes the objects loaded at start-up from garbage collection, and makes collections rarer.

    Ingest creates many short-lived objects and no cycles. With the defaults, collections took a third of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
