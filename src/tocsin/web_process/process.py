"""The web process: Django in threads, behind a Unix socket that only its parent knows."""

from __future__ import annotations

import gc
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import uvicorn
from a2wsgi import WSGIMiddleware

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.net.asgi import AsgiApp, AsgiScope, Receive, Send
from tocsin.core.runtime import child_process, clock

log = logging.getLogger(__name__)

#: Requests handled at once. Each may use one database connection.
THREADS = 8

#: Headers by which the parent passes on the client's address and port, or nothing, and the scheme.
CLIENT, PROTO = b"x-tocsin-address", b"x-tocsin-proto"

#: Longer than the parent keeps an idle connection, so that a request never meets one that is being closed.
KEEP_ALIVE = 24 * 60 * 60

#: Seconds between checks of the clock.
POLL = 1.0


def main() -> None:
    """Serves until the parent stops it, or exits."""
    child_config = child_process.child_setup()
    from django.core.handlers.wsgi import WSGIHandler

    app = wsgi_app(WSGIHandler())
    gc.collect()
    gc.freeze()
    server = _WebServer(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=child_process.STOP_GRACE_SECONDS,
        )
    )
    child_process.exit_with_parent(server.end)
    threading.Thread(target=_follow_clock, name="clock", daemon=True).start()
    child_process.report_ready(child_config)
    try:
        server.run(sockets=[socket.socket(fileno=child_config.socket_fd)])
    finally:
        # At interpreter exit, the pool would wait for threads that no longer run by then.
        database.close()


def wsgi_app(django: Callable[..., object]) -> AsgiApp:
    """Returns the ASGI app of this process, which passes each request to Django as the parent described it."""
    # With an unbounded queue (0), a thread never waits for a client that reads its response slowly.
    web = WSGIMiddleware(django, workers=THREADS, send_queue_size=0)  # type: ignore[arg-type]

    async def forward(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        address, _, port = headers.get(CLIENT, b"").decode("ascii").rpartition(" ")
        client = (address, int(port)) if address else None
        forwarded_headers = [header for header in scope["headers"] if header[0] != CLIENT]
        request_scope = {
            **scope,
            "headers": forwarded_headers,
            "client": client,
            "server": None,
            "scheme": headers.get(PROTO, b"http").decode(),
        }
        await web(request_scope, receive, send)  # type: ignore[arg-type]

    return forward


class _WebServer(uvicorn.Server):
    """uvicorn's server without signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Stops gracefully; may be called from any thread."""
        self.should_exit = True


def _follow_clock() -> None:
    """Measures the database's clock every minute, and follows a test clock at once."""
    while True:
        try:
            with database.connect(name="tocsin pages") as connection:
                if environment.current().test_clock:
                    connection.execute(f"LISTEN {database.CHANNEL}".encode())
                clock.measure(connection)
                while not connection.is_outdated:
                    for _hint in connection.notifies(timeout=POLL, stop_after=1):
                        pass
                    clock.measure_if_due(connection)
        except psycopg.Error as error:
            log.warning("The database's clock cannot be read for the pages: %s", error)
            time.sleep(POLL)


if __name__ == "__main__":
    main()
