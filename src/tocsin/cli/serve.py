"""`tocsin serve`: migrates the database, starts a node, prints `ready`, and shuts down cleanly on SIGTERM.

`tocsin probe` asks such a node whether it is healthy, for containers without a shell or curl.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.session import DatabaseSession, DataDir, configuration_folder, configure, open_database
from tocsin.core import embedded_layout
from tocsin.core.config import environment
from tocsin.core.config.environment import DEFAULT_HOST, DEFAULT_PORT
from tocsin.core.db import start_up
from tocsin.core.embedded_layout import ROOT_DATA_DIR
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import http_server
from tocsin.core.net.http_server import listen, make_server
from tocsin.core.reasons import Text, sentence
from tocsin.core.runtime import telemetry
from tocsin.operate import service
from tocsin.operate.service import UnitLocation

log = logging.getLogger(__name__)

_NO_ANSWER = Text("Tocsin gives no answer at {address}: {error}.")

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
    telemetry.set_up_logs(configure(data_dir).log_format)
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
        raise Temporary(
            sentence("Tocsin at {address} answers {status}: {text}", address=address, status=response.status, text=text)
        )
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

    http_server.raise_limit()
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
    if start_up.shares_sessions():
        log.warning(
            "%s Changes are noticed up to a second later. %s", start_up.SHARES_SESSIONS(), start_up.USE_SESSIONS()
        )


def _exit(_number: int, _frame: object) -> None:
    """Unwind, as a server that was asked to stop: whoever asked expects success."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise SystemExit(0)


def _print_setup_link() -> None:
    """Print the one-time setup link if there is no administrator."""
    from tocsin.access import tokens
    from tocsin.access.roles import Role
    from tocsin.people.models import User

    if not User.objects.filter(role=Role.ADMIN, is_active=True).exists():
        sys.stderr.write(f"Make the first administrator: {environment.current().public_url}/setup/{tokens.make()}\n")
        sys.stderr.flush()


def _display_host(host: str) -> str:
    """Return the host for display in a URL."""
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


# ---------- service
# `tocsin service`: installs a systemd unit, so that Tocsin starts with the machine and paging survives a reboot.
# And how the command of a .deb or .rpm acts on the service.


app = typer.Typer(help="Run Tocsin as a service.", no_args_is_help=True, rich_markup_mode=None)

#: Exists if systemd is the init system (sd_booted(3)).
BOOTED = Path("/run/systemd/system")

#: Root of the system-wide files.
ROOT = Path("/")


def act_as_packaged_service() -> None:
    """For root, on a machine with the .deb or the .rpm: take the service's user, for good, and its variables, except
    those that are set."""
    if os.geteuid() != 0:
        return
    file = service.system_location(ROOT).environment
    variables = service.read_environment(file.read_text()) if file.exists() else {}
    for name, value in ({"TOCSIN_DATA_DIR": str(ROOT_DATA_DIR)} | variables).items():
        os.environ.setdefault(name, value)
    account = pwd.getpwnam(service.PACKAGE_USER)
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ["HOME"] = account.pw_dir


@app.callback()
def _group() -> None:
    """Run Tocsin as a service."""


@app.command()
def install(
    user: Annotated[bool, typer.Option("--user", help="Install for the current user instead of system-wide.")] = False,
    only_print: Annotated[bool, typer.Option("--print", help="Print the unit without installing it.")] = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = DEFAULT_PORT,
    data_dir: DataDir = None,
) -> None:
    """Install Tocsin as a systemd service.

    Writes a systemd unit, enables it and starts it. Tocsin then restarts after a crash or a reboot. The TOCSIN_*
    variables of the current environment are stored for the service in a file that only its user can read.
    """
    settings = configure(data_dir)
    location = service.user_location(configuration_folder()) if user else service.system_location(ROOT)
    command = _command(host, port)
    text = service.unit(location, command, settings.data_dir)
    if only_print:
        typer.echo(text, nl=False)
        return
    _refuse(location, command[0])
    if not user and settings.database_url is None:
        # The account is created here, because the service itself may not write to /etc.
        embedded_layout.find_or_make()
    if not user:
        # Here too: the service may write to this folder, and to nothing above it.
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    _write_environment(location)
    location.unit.parent.mkdir(parents=True, exist_ok=True)
    location.unit.write_text(text)
    for arguments in (["daemon-reload"], ["enable", service.NAME], ["restart", service.NAME]):
        _run([*location.systemctl, *arguments])
    _echo(f"{location.unit} is written, enabled and started.")
    if user:
        _enable_lingering()
    _echo(
        f"Settings: {location.environment}. Log, with the set-up link while there is no administrator: "
        f"{location.journal}"
    )


def _refuse(location: UnitLocation, program: str) -> None:
    """Raise an error, before anything is written, if the installation cannot succeed. `program` is Tocsin's path."""
    of_package = ROOT / service.PACKAGE_UNIT.relative_to("/")
    if not location.is_user and of_package.exists():
        raise Permanent(
            sentence("The package has brought {path}; nothing was written.", path=str(of_package)),
            sentence("`systemctl enable --now tocsin` starts it, now and with the machine."),
        )
    if shutil.which("systemctl") is None or not BOOTED.is_dir():
        raise Permanent(
            sentence("This machine is not run by systemd; nothing was written."),
            sentence("`tocsin service install --print` shows the unit; have your own init start that command."),
        )
    if not location.is_user and os.geteuid() != 0:
        raise Rejected(
            "needs_root",
            # By its path: sudo does not look where uv installs.
            sentence(
                "A service of the machine needs root: `sudo {program} service install`; or add --user for your own.",
                program=program,
            ),
        )
    if location.unit.exists() and not location.unit.read_text().startswith(service.MARK):
        raise Rejected(
            "in_the_way",
            sentence("{path} is there and was not written by this command: move it away.", path=str(location.unit)),
        )


def _command(host: str, port: int) -> list[str]:
    """Return the command line that starts this installation of Tocsin."""
    sibling = Path(sys.executable).with_name("tocsin")
    program = str(sibling) if os.access(sibling, os.X_OK) else shutil.which("tocsin")
    if program is None:
        raise Permanent(
            sentence("The program `tocsin` cannot be found."), sentence("Install it with `uv tool install tocsin`.")
        )
    path = str(Path(program).absolute())
    if any(character in path for character in "\"'\\"):
        raise Permanent(
            sentence("systemd cannot start a program whose path contains quotes: {path}.", path=path),
            sentence("Install it elsewhere."),
        )
    return [path, "serve", "--host", host, "--port", str(port)]


def _write_environment(location: UnitLocation) -> None:
    """Create the environment file, readable by its owner only. An existing file is not changed."""
    variables = service.carried_variables(os.environ, Path.cwd())
    location.environment.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(location.environment, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if variables:
            _echo(
                f"{location.environment} is left as it is; this shell's {', '.join(sorted(variables))} are not added."
            )
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(service.environment(variables))


def _enable_lingering() -> None:
    """Enable lingering. Without it a user's services stop at sign-out and do not start with the machine."""
    command = ["loginctl", "enable-linger"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a constant command
    if process.returncode != 0:
        _echo('It ends when you sign out, until this was done once: sudo loginctl enable-linger "$USER"')


def _run(command: list[str]) -> None:
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no user input
    if process.returncode != 0:
        output = " ".join((process.stderr or process.stdout).split())
        raise Permanent(
            sentence("`{command}` failed: {error}.", command=" ".join(command), error=output or process.returncode)
        )


def _echo(text: str) -> None:
    typer.echo(text, err=True)
