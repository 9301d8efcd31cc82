"""A listening `core.net.http_server`, for tests of client behaviour."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tocsin.core.net.http_server import ConnectionLimits, listen, make_server


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[Callable[[], socket.socket]]:
    """Serves `app` on a thread; gives a function that connects to it. `options` are those of `make_server`."""
    ready = threading.Event()
    listener = listen("127.0.0.1", 0)
    server = make_server(app, graceful_timeout=1, on_ready=ready.set, on_exit=lambda: None, **options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert ready.wait(10)
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=10))
        return opened[-1]

    try:
        yield connect
    finally:
        for connection in opened:
            connection.close()
        server.should_exit = True
        thread.join(10)


def limits(total: int = 1_000, idle: int = 1_000, busy: int = 1_000) -> ConnectionLimits:
    return ConnectionLimits(total=total, idle_per_client=idle, busy_per_client=busy)


def read_answer(connection: socket.socket) -> bytes:
    """One answer with a Content-Length; empty where the connection was closed or reset instead."""
    got = b""
    try:
        while b"\r\n\r\n" not in got:
            if not (part := connection.recv(65_536)):
                return got
            got += part
        head, _, body = got.partition(b"\r\n\r\n")
        declared = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        length = int(declared.split(b":")[1])
        while len(body) < length and (part := connection.recv(65_536)):
            body += part
    except (ConnectionResetError, BrokenPipeError):
        return b""
    return head + b"\r\n\r\n" + body


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection, or does so within the socket's timeout."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
