"""Real `tocsin` processes for the tests: an installation, its nodes, and what one asks of them from the outside.

Whatever is started here is ended here, by its process id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, LiteralString
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

from tests.support import forked_command
from tests.support.forked_command import PROGRAM, Command
from tocsin.core.embedded_server import SUPERUSER, EmbeddedPostgres

#: The inbound token of the integration in CONFIGURATION.
HALO_TOKEN = "0123456789abcdef0123456789abcdef"

CONFIGURATION = f"""
users:
  - username: alice
    name: Alice Andersson
    email: alice@example.org
    role: responder
    contact_methods: [{{label: Email-Official, channel: email, address: alice@example.org}}]
  - username: bob
    name: Bob Brown
    email: bob@example.org
    role: responder
    contact_methods: [{{label: Email-Official, channel: email, address: bob@example.org}}]
  - username: carol
    name: Carol Clark
    email: carol@example.org
    role: admin
    contact_methods: [{{label: Email-Official, channel: email, address: carol@example.org}}]
groups:
  - name: Desk
    members:
      - {{user: alice, roles: [primary]}}
      - {{user: bob, roles: [secondary]}}
      - {{user: carol, roles: [lead]}}
escalation_policies:
  - name: Standard
    steps:
      - {{notify: {{roles: [primary]}}, after: 0m}}
      - {{notify: {{roles: [secondary]}}, after: 5m}}
integrations:
  - name: HaloITSM
    kind: haloitsm
    escalation_policy: Standard
    recipients: {{groups: [Desk]}}
    token: {HALO_TOKEN}
"""

#: Seconds between two looks: rarely after a while, since looking takes the processor from what is waited for.
_MIN_PAUSE, _MAX_PAUSE = 0.02, 0.1

_MAX_COMMAND_SECONDS = 180


def until[T](what: str, condition: Callable[[], T], seconds: float = 20.0) -> T:
    """The first true value of `condition`, asked again and again. Fails, naming `what`, after so many seconds."""
    end = time.monotonic() + seconds
    pause = _MIN_PAUSE
    while True:
        if found := condition():
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.25, _MAX_PAUSE)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a node answered."""

    status: int
    text: str
    headers: Message

    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    method: str,
    url: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 30,
) -> HttpResponse:
    """One request on a connection of its own: one that is kept may be closed by a server that ends just as it is used
    again. Raises OSError or HTTPException where there is no answer.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.netloc, timeout=seconds)
    try:
        sent = None if body is None else json.dumps(body)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return HttpResponse(answer.status, answer.read().decode(), answer.headers)
    finally:
        connection.close()


@dataclass
class Node:
    """One `tocsin serve`."""

    process: Command
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.err.read_text()

    @property
    def url(self) -> str:
        """Its address, as the line on standard output says it. Fails if the process ends before it is ready."""

        def said() -> str:
            status = self.process.poll()
            assert status is None, f"tocsin serve ended with {status}:\n{self.log}"
            return self.out.read_text()

        said_ready = until(f"ready:\n{self.log}", lambda: "\n" in said() and said(), 60)
        word, url = said_ready.splitlines()[0].split(" ")
        assert word == "ready"
        return url

    def kill(self) -> None:
        """kill -9, as the kernel does when memory is short."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@dataclass
class Installation:
    """One installation: a data directory and its database, the embedded one unless `environment` names another."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    token: str = ""
    nodes: list[Node] = field(default_factory=list)
    #: Whether nodes and commands are forked (see `tests.support.forked_command`), which costs a fraction of a start.
    is_forked: bool = False

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def database_url(self) -> str:
        """The database's address; of the embedded one, while it runs."""
        if given := self.environment.get("TOCSIN_DATABASE_URL"):
            return given
        lines = self._postmaster()
        return f"postgresql:///tocsin?host={lines[4]}&user={SUPERUSER}"

    @property
    def postgres_pid(self) -> int:
        return int(self._postmaster()[0])

    def _postmaster(self) -> list[str]:
        return (EmbeddedPostgres(self.data_dir).location / "data" / "postmaster.pid").read_text().splitlines()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        rest = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
        rest.pop("DJANGO_SETTINGS_MODULE", None)
        own = {"TOCSIN_DATA_DIR": str(self.data_dir), "TOCSIN_TEST_CLOCK": "1"}
        return {**rest, **own, **self.environment, **more}

    def run(self, *arguments: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs one `tocsin` command to its end. One that gets an input is not forked."""
        variables = self._environment(environment)
        if typed:
            return subprocess.run(
                [PROGRAM, *arguments], env=variables, cwd="/", input=typed, capture_output=True, text=True,
                timeout=_MAX_COMMAND_SECONDS, check=False,
            )  # fmt: skip
        with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
            process = forked_command.start(
                arguments, variables, cwd="/", stdout=stdout.fileno(), stderr=stderr.fileno(), is_forked=self.is_forked
            )
            try:
                status = process.wait(_MAX_COMMAND_SECONDS)
            finally:
                process.kill()
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess(arguments, status, stdout.read(), stderr.read())

    def apply(self, configuration: str) -> str:
        """`tocsin apply`; what it printed."""
        file = self.home / "tocsin.yaml"
        file.write_text(configuration)
        done = self.run("apply", str(file))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make_token(self, user: str = "carol") -> None:
        """Makes the token with which `api` speaks."""
        done = self.run("token", "create", "--user", user, "--name", "smoke", "--scope", "admin")
        assert done.returncode == 0, done.stderr
        self.token = done.stdout.strip()

    def serve(self, *arguments: str, within: Sequence[str] = (), **environment: str) -> Node:
        """Starts a node on a free port. It need not be ready yet: `url` waits for that. `within` is the beginning of a
        command that runs another one elsewhere, such as in a network namespace."""
        number = len(self.nodes)
        out, err = self.home / f"out{number}", self.home / f"err{number}"
        command, variables = ["serve", "--port", "0", *arguments], self._environment(environment)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = forked_command.start(
                command, variables, cwd="/", stdout=stdout.fileno(), stderr=stderr.fileno(), within=within,
                is_forked=self.is_forked,
            )  # fmt: skip
        node = Node(process, out, err)
        self.nodes.append(node)
        return node

    @property
    def url(self) -> str:
        """The address of the newest node."""
        return self.nodes[-1].url

    def end(self) -> None:
        """Ends every node that still runs."""
        running = [node for node in self.nodes if node.process.poll() is None]
        for node in running:
            node.process.send_signal(signal.SIGTERM)
        for node in running:
            try:
                node.process.wait(20)
            except subprocess.TimeoutExpired:
                node.kill()

    def post(self, payload: Mapping[str, object], node: Node | None = None) -> HttpResponse:
        """Sends one message to the integration."""
        return ask("POST", f"{(node or self.nodes[-1]).url}/in/{HALO_TOKEN}", payload)

    def api(self, path: str, body: Mapping[str, object] | None = None, node: Node | None = None) -> Any:
        """What the REST API answers to a GET, or with `body` to a POST; the answer must be a good one."""
        answer = self.act(path, body, node)
        assert answer.status in (200, 201), f"{path}: {answer.status} {answer.text}"
        return answer.json()

    def act(self, path: str, body: Mapping[str, object] | None = None, node: Node | None = None) -> HttpResponse:
        """The same, whatever the answer is."""
        address = f"{(node or self.nodes[-1]).url}/api/v1/{path}"
        return ask("GET" if body is None else "POST", address, body, {"Authorization": f"Bearer {self.token}"})

    def rows(self, query: LiteralString, *parameters: object) -> list[dict[str, Any]]:
        """The rows of a query, each by column name."""
        with psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def jump(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Moves the test clock of all nodes ahead."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute(
                "INSERT INTO core_clockoffset (id, seconds) VALUES (1, %s) "
                "ON CONFLICT (id) DO UPDATE SET seconds = core_clockoffset.seconds + excluded.seconds",
                (minutes * 60 + seconds,),
            )
            connection.execute("NOTIFY tocsin, 'clock'")

    def logs(self) -> str:
        """What all nodes have logged."""
        return "\n".join(node.log for node in self.nodes)


def ticket(number: int | str, status: str = "New", **more: object) -> dict[str, object]:
    """A HaloITSM message about a ticket."""
    return {"id": number, "summary": f"VPN {number} down", "status": status, "client_name": "Acme", **more}


def traces(log: str) -> Sequence[str]:
    """The lines of a log with which something unexpected begins."""
    return [line for line in log.splitlines() if line.startswith("Traceback") or " ERROR " in line]
