"""The web application on a loopback port, for provider doubles that call back over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.core.wsgi import get_wsgi_application
from django.db import connections


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def _application(environ, start_response):  # type: ignore[no-untyped-def]
    try:
        return get_wsgi_application()(environ, start_response)
    finally:
        # The server's thread is the only one that uses this connection, and the test's database goes afterwards.
        connections.close_all()


@contextmanager
def hook_server() -> Iterator[str]:
    """The address of the running server."""
    server = make_server("127.0.0.1", 0, _application, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
