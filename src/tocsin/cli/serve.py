"""`tocsin serve`: migrates the database, starts a node, prints `ready`, and shuts down cleanly on SIGTERM.

`tocsin probe` asks such a node whether it is healthy, for containers without a shell or curl.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from tocsin.cli.session import DatabaseSession, DataDir, configure, open_database
from tocsin.core.config import environment
from tocsin.core.config.environment import DEFAULT_HOST, DEFAULT_PORT
from tocsin.core.db import pooler, start_up
from tocsin.core.errors import Temporary
from tocsin.core.net import descriptors
from tocsin.core.net.http_server import listen, make_server
from tocsin.core.reasons import ReasonType
from tocsin.core.runtime import logs

log = logging.getLogger(__name__)

_NO_ANSWER = ReasonType("probe.no_answer", "Tocsin gives no answer at {address}: {error}.")
_NOT_OK = ReasonType("probe.not_ok", "Tocsin at {address} answers {status}: {text}")

#: Seconds that running requests may take to finish after SIGTERM.
SHUTDOWN_TIMEOUT = 10

#: In seconds. A readiness check takes up to four.
PROBE_TIMEOUT = 8.0

ROLES = ("all", "ingest", "web", "worker")


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = DEFAULT_PORT,
    role: Annotated[str, typer.Option(help=f"The process's role: {', '.join(ROLES)}.")] = "all",
    data_dir: DataDir = None,
) -> None:
    """Start Tocsin. Prints `ready URL` once it accepts requests."""
    if role not in ROLES:
        raise typer.BadParameter(f"{role!r} is none of {', '.join(ROLES)}.", param_hint="--role")
    logs.set_up(configure(data_dir).log_format)
    signal.signal(signal.SIGTERM, _exit)
    with open_database(data_dir, startup_timeout=start_up.MAX_WAIT) as session:
        start_up.wait_for_database(_warn_of_pooler)
        run(session, *open_socket(host, port), role)


def open_socket(host: str, port: int) -> tuple[socket.socket, str]:
    """Return a listening socket and its URL, which is Tocsin's public URL unless `TOCSIN_BASE_URL` is set."""
    try:
        listening = listen(host, port)
    except OSError as error:
        raise typer.BadParameter(f"{host}:{port} cannot be listened at: {error.strerror}.") from error
    url = f"http://{_display_host(host)}:{listening.getsockname()[1]}"
    environment.listen_address(url)
    return listening, url


def probe(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port on which Tocsin listens.")] = DEFAULT_PORT,
    ready: Annotated[bool, typer.Option("--ready", help="Ask /readyz instead of /healthz.")] = False,
) -> None:
    """Check whether Tocsin on this machine is healthy.

    Prints ok. The exit status is 1 if it is not healthy, or gives no answer.
    """
    address = f"http://127.0.0.1:{port}/{'readyz' if ready else 'healthz'}"
    connection = HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", "/readyz" if ready else "/healthz")
        response = connection.getresponse()
        text = response.read(1000).decode("utf-8", "replace").strip()
    except (OSError, HTTPException) as error:
        raise Temporary(_NO_ANSWER(address=address, error=str(error))) from error
    finally:
        connection.close()
    if response.status != 200:
        raise Temporary(_NOT_OK(address=address, status=response.status, text=text))
    typer.echo(text)


def run(
    session: DatabaseSession,
    listening: socket.socket,
    url: str,
    role: str,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight. `on_ready` is called with the URL."""
    from tocsin.node import NodeProcess, NodeRole

    descriptors.raise_limit()
    node = NodeProcess(NodeRole(role), session.embedded)

    def ready() -> None:
        if on_ready is not None:
            on_ready(url)
        sys.stdout.write(f"ready {url}\n")
        sys.stdout.flush()
        tell_service_manager(f"READY=1\nSTATUS=Serving at {url}")

    server = make_server(
        node.app, graceful_timeout=SHUTDOWN_TIMEOUT, on_ready=ready, on_exit=node.end_streams, fast_path=node.fast_path
    )
    try:
        # The node works before the web server runs and has its own way to stop.
        signal.signal(signal.SIGTERM, _exit)
        node.start()
        node.wait()
        if on_ready is None:
            start_up.wait_for_database(_print_setup_link)
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell_service_manager("STOPPING=1")
        node.stop()


def tell_service_manager(state: str) -> None:
    """Report a state to systemd (sd_notify(3)), if it asked for that."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        # A first @ stands for the NUL of an abstract socket.
        address = f"\0{address[1:]}" if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client, suppress(OSError):
            client.sendto(state.encode(), address)


def _warn_of_pooler() -> None:
    if pooler.shares_sessions():
        log.warning("%s Changes are noticed up to a second later. %s", pooler.SHARES_SESSIONS(), pooler.USE_SESSIONS())


def _exit(_number: int, _frame: object) -> None:
    """Unwind, as a server that was asked to stop: whoever asked expects success."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise SystemExit(0)


def _print_setup_link() -> None:
    """Print the one-time setup link if there is no administrator."""
    from tocsin.access import setup_link
    from tocsin.access.roles import Role
    from tocsin.people.models import User

    if not User.objects.filter(role=Role.ADMIN, is_active=True).exists():
        sys.stderr.write(
            f"Make the first administrator: {environment.current().public_url}/setup/{setup_link.make()}\n"
        )
        sys.stderr.flush()


def _display_host(host: str) -> str:
    """Return the host for display in a URL."""
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
