"""What scenarios run in: one node with the built-in PostgreSQL, or with one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.prove.bench import MAIL_SECONDS, Bench, PageLog, free_port, short_folder, wait_for_database
from tests.prove.senders import Senders
from tests.support.installation import CONFIGURATION, Installation
from tocsin.core.config import crypto
from tocsin.core.embedded_layout import RunAs
from tocsin.core.embedded_server import DATABASE, SUPERUSER, EmbeddedPostgres, PostgresServer, settings

#: Tickets a second: far below what a node can page.
RATE = 10.0

#: Each page is a mail of its own, so that it can be counted.
ONE_MAIL_A_PAGE = "settings: {bundle_pages: false}\n"


@contextmanager
def configured_installation() -> Iterator[Installation]:
    """An installation that never runs, for worlds to copy."""
    with short_folder() as home:
        first = Installation(home)
        with EmbeddedPostgres(first.data_dir):
            first.apply(CONFIGURATION + ONE_MAIL_A_PAGE)
            first.make_token()
        yield first


@dataclass
class OwnPostgres:
    """A PostgreSQL beside Tocsin, on a TCP port, that the test starts, stops and breaks. `within`: see `serve`."""

    server: PostgresServer
    port: int
    host: str = "127.0.0.1"
    within: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of Tocsin's database."""
        return self.url_of(DATABASE)

    def url_of(self, database: str, user: str = SUPERUSER) -> str:
        """The URL of a database."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}?sslmode=disable"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Starts it; it need not be ready yet."""
        run_as: RunAs = self.server.account.run_as() if self.server.account is not None else {}
        options = {"listen_addresses": "*", "port": str(self.port), "unix_socket_directories": str(self.server.run)}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self.server.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, *_as_account(run_as), self.server.binaries.postgres, "-D", self.server.data, *arguments],
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment},
            )  # fmt: skip

    def stop(self, sign: signal.Signals = signal.SIGINT, seconds: float = 60.0) -> None:
        """Stops it: fast by default, at once with SIGQUIT or SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)
            self.process.wait(seconds)

    def kill(self) -> None:
        """Kills every process of it, as a machine does that loses its power."""
        assert self.process is not None
        kill_postgres(self.process.pid)
        self.process.wait()

    def wait_until_ready(self) -> None:
        wait_for_database(self.url)


def kill_postgres(postmaster: int) -> None:
    """Kills a postmaster and its processes."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (postmaster, *map(int, children)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _as_account(run_as: RunAs) -> list[str]:
    """The beginning of a command that runs under another account, and keeps its process id."""
    if not run_as:
        return []
    return ["setpriv", f"--reuid={run_as['user']}", f"--regid={run_as['group']}", "--clear-groups"]


@contextmanager
def mail_servers(number: int, log: PageLog, host: str = "127.0.0.1") -> Iterator[list[SmtpDouble]]:
    """Mail servers whose pages are recorded."""
    with ExitStack() as stack:
        doubles = [stack.enter_context(smtp_double(host=host)) for _ in range(number)]
        for double in doubles:
            double.takes = MAIL_SECONDS
            log.record(double)
        yield doubles


def mail_environment(double: SmtpDouble) -> dict[str, str]:
    """The variables by which a node uses this mail server."""
    return {"TOCSIN_SMTP_URL": double.url, "TOCSIN_EMAIL_FROM": "tocsin@example.org"}


@contextmanager
def embedded(configured: Installation, folder: Path | None = None) -> Iterator[Bench]:
    """One node with the built-in PostgreSQL, under load. `folder` takes its data."""
    log = PageLog()
    with short_folder() as home, mail_servers(1, log) as mails:
        place = folder or home
        subprocess.run(["cp", "-a", configured.data_dir, place], check=True)
        installation = Installation(place, mail_environment(mails[0]), configured.token)
        bench = _on_a_port(installation, log)
        bench.parts["mails"] = mails
        with _loaded(bench):
            yield bench
        # A node that was killed leaves its PostgreSQL running for the next process that uses it.
        leftover = EmbeddedPostgres(installation.data_dir)
        leftover.start()
        leftover.release()


@contextmanager
def external(
    configured: Installation,
    mail_server_count: int = 1,
    node_environment: Mapping[str, str] = MappingProxyType({}),
    postgres_environment: Mapping[str, str] = MappingProxyType({}),
    configuration: str = "",
) -> Iterator[Bench]:
    """One node with a PostgreSQL of its own, under load. `configuration` is applied first."""
    log = PageLog()
    with (
        short_folder() as home,
        own_postgres(configured, home, postgres_environment) as postgres,
        mail_servers(mail_server_count, log) as mails,
    ):
        environment = {
            "TOCSIN_DATABASE_URL": postgres.url,
            "TOCSIN_SECRET_KEY": crypto.stored_key(configured.data_dir),
            **node_environment,
        }
        if mail_server_count == 1:
            environment |= mail_environment(mails[0])
        installation = Installation(home, environment, configured.token)
        if mail_server_count > 1:
            installation.apply(_providers(mails))
        if configuration:
            installation.apply(configuration)
        bench = _on_a_port(installation, log)
        bench.parts |= {"mails": mails, "postgres": postgres, "logs": {"postgresql.log": postgres.server.log}}
        with _loaded(bench):
            yield bench


def _providers(mails: list[SmtpDouble]) -> str:
    """Mail servers as configuration; the first is used while it works."""
    lines = [
        f"  - {{name: Mail {number}, kind: smtp, host: {mail.host}, port: {mail.port}, security: none, order: {number},"
        " allow_private: true, sender: tocsin@example.org}\n"
        for number, mail in enumerate(mails, 1)
    ]
    return "providers:\n" + "".join(lines)


@contextmanager
def own_postgres(
    configured: Installation, home: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[OwnPostgres]:
    """A running PostgreSQL with a copy of the configured database."""
    source = EmbeddedPostgres(configured.data_dir)
    source.start()
    base = source._server
    assert base is not None
    source.release()
    subprocess.run(["cp", "-a", base.data, home / "pgdata"], check=True)
    run = home / "pgrun"
    run.mkdir(mode=0o777)
    run.chmod(0o777)
    log = home / "postgresql.log"
    server = replace(base, data=home / "pgdata", run=run, log=log)
    values = {**settings(memory_bytes=0), "logging_collector": "off"}
    own = "".join(f"{name} = '{value}'\n" for name, value in values.items())
    (server.data / "postgresql.conf").write_text(own)
    (server.data / "pg_hba.conf").write_text(
        "local all all trust\nhost all all all trust\nlocal replication all trust\nhost replication all all trust\n"
    )
    postgres = OwnPostgres(server, free_port(), environment=environment)
    try:
        postgres.start()
        postgres.wait_until_ready()
        yield postgres
    finally:
        postgres.stop()


def _on_a_port(installation: Installation, log: PageLog) -> Bench:
    """A bench whose nodes listen on one port, one after the other."""
    port = free_port()
    senders = Senders(lambda: f"http://127.0.0.1:{port}", RATE)
    bench = Bench(installation, log, senders)
    bench.start_node = lambda: installation.serve("--port", str(port))
    return bench


@contextmanager
def _loaded(bench: Bench) -> Iterator[None]:
    """Starts the node and the senders, and ends both."""
    try:
        bench.start_node()
        assert bench.node.url
        with bench.senders:
            yield
    finally:
        bench.installation.end()
