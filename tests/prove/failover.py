"""Patroni with etcd and a synchronous standby: the primary is killed, frozen, or unplugged."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg

from tests.prove.bench import Bench, Fault, PageLog, free_port, short_folder
from tests.prove.network import Host, Network, host, networks
from tests.prove.scenario import Scenario
from tests.prove.senders import Senders
from tests.prove.worlds import ONE_MAIL_A_PAGE, RATE, mail_environment, mail_servers
from tests.support.installation import CONFIGURATION, Installation, until

#: The account of Debian's PostgreSQL.
_ACCOUNT = "postgres"
_ETCD_PORT, _REST_PORT, _PORT = 2379, 8008, 5432
_LIMIT = 120.0

#: Patroni's least `ttl`: the standby is promoted that many seconds after the primary was last heard of.
_TTL = 20


class Cluster:
    """Two hosts with Patroni and PostgreSQL."""

    def __init__(self, home: Path, hosts: list[Host], etcd: str) -> None:
        self.home = home
        self.hosts = hosts
        self._etcd = etcd
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """All servers in one address: Tocsin uses the one that accepts writes."""
        return f"postgresql://postgres@{','.join(f'{_address(one)}:{_PORT}' for one in self.hosts)}/tocsin"

    def start(self, one: Host) -> None:
        """Starts Patroni on a host, which starts PostgreSQL."""
        file = self.home / f"{one.name}.json"
        # JSON is YAML.
        file.write_text(json.dumps(self._configuration(one)))
        with (self.home / f"{one.name}.log").open("ab") as log:
            self._started.append(
                subprocess.Popen(
                    [*one.within, "setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups",
                     "/usr/bin/patroni", file],
                    cwd="/", env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log,
                )
            )  # fmt: skip

    def is_primary(self, one: Host) -> bool:
        """Whether the server of a host accepts writes."""
        with suppress(psycopg.Error), self._connect(one) as connection:
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        return False

    def primary(self) -> Host:
        """The host whose server is the primary and has a synchronous standby."""

        def find() -> Host | None:
            for one in self.hosts:
                with suppress(psycopg.Error), self._connect(one) as connection:
                    row = connection.execute(
                        "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND NOT pg_is_in_recovery()"
                    ).fetchone()
                    if row and self._knows_standby(one):
                        return one
            return None

        found = until("a primary has its synchronous standby", find, _LIMIT)
        assert found is not None
        return found

    def end(self) -> None:
        """Ends everything on the hosts."""
        for one in self.hosts:
            _signal(one, signal.SIGKILL)
        for process in self._started:
            process.wait()

    def _knows_standby(self, one: Host) -> bool:
        """Whether Patroni would promote the other server: it has written down that it is synchronous."""
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://{_address(one)}:{_REST_PORT}/cluster", timeout=2) as got,
        ):
            return any(member["role"] == "sync_standby" for member in json.load(got)["members"])
        return False

    def _connect(self, one: Host) -> psycopg.Connection:
        return psycopg.connect(
            f"postgresql://postgres@{_address(one)}:{_PORT}/postgres?connect_timeout=1&tcp_user_timeout=1000",
            autocommit=True,
        )

    def _configuration(self, one: Host) -> dict[str, object]:
        login = {"username": "postgres", "password": "postgres"}
        return {
            "scope": "tocsin",
            "name": one.name,
            "restapi": {"listen": f"{_address(one)}:{_REST_PORT}", "connect_address": f"{_address(one)}:{_REST_PORT}"},
            "etcd3": {"hosts": f"{self._etcd}:{_ETCD_PORT}"},
            "bootstrap": {
                "dcs": {
                    "ttl": _TTL,
                    "loop_wait": 2,
                    "retry_timeout": 4,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, {"auth": "trust"}],
            },
            "postgresql": {
                "listen": f"{_address(one)}:{_PORT}",
                "connect_address": f"{_address(one)}:{_PORT}",
                "data_dir": str(self.home / f"{one.name}-data"),
                "bin_dir": str(max(Path("/usr/lib/postgresql").glob("*/bin"))),
                "pgpass": str(self.home / f"{one.name}.pgpass"),
                "authentication": {"superuser": login, "replication": login, "rewind": login},
                "parameters": {"unix_socket_directories": "", "max_locks_per_transaction": 256},
                "pg_hba": ["local all all trust", "host all all all trust", "host replication all all trust"],
            },
        }


def _address(one: Host) -> str:
    return one.addresses["back"]


def _signal(one: Host, sign: signal.Signals) -> None:
    """Sends a signal to every process on a host."""
    namespace = Path(f"/proc/{one.pid}/ns/net").readlink()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(folder.name) != one.pid and (folder / "ns" / "net").readlink() == namespace:
                os.kill(int(folder.name), sign)


@contextmanager
def cluster(configured: Installation) -> Iterator[Bench]:
    """One node on a database with a synchronous standby that Patroni promotes."""
    log = PageLog()
    with ExitStack() as stack:
        home = stack.enter_context(short_folder())
        os.chown(home, pwd.getpwnam(_ACCOUNT).pw_uid, -1)
        back = stack.enter_context(networks("back"))["back"]
        hosts = [stack.enter_context(host(name, number, [back])) for name, number in (("pg1", 21), ("pg2", 22))]
        stack.enter_context(_etcd(home, back))
        made = Cluster(home, hosts, back.address)
        stack.callback(made.end)
        for one in hosts:
            made.start(one)
        first = made.primary()
        with made._connect(first) as connection:
            connection.execute("CREATE DATABASE tocsin")
        (mails,) = stack.enter_context(mail_servers(1, log))
        environment = {"TOCSIN_DATABASE_URL": made.url, **mail_environment(mails)}
        installation = Installation(home, environment)
        installation.data_dir.mkdir()
        installation.apply(CONFIGURATION + ONE_MAIL_A_PAGE)
        installation.make_token()
        port = free_port()
        senders = Senders(lambda: f"http://127.0.0.1:{port}", RATE)
        bench = Bench(installation, log, senders)
        bench.parts |= {"cluster": made, "logs": {f"{one.name}.log": home / f"{one.name}.log" for one in hosts}}
        stack.callback(installation.end)
        assert installation.serve("--port", str(port)).url
        stack.enter_context(senders)
        yield bench


@contextmanager
def _etcd(home: Path, back: Network) -> Iterator[None]:
    address = f"http://{back.address}:{_ETCD_PORT}"
    with (home / "etcd.log").open("wb") as output:
        process = subprocess.Popen(
            ["etcd", "--data-dir", home / "etcd", "--listen-client-urls", address, "--advertise-client-urls", address,
             "--listen-peer-urls", "http://127.0.0.1:2380"],
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _lose_primary(
    what: str, lose: Callable[[Host], None], bring_back: Callable[[Cluster, Host], None], bench: Bench
) -> Fault:
    made: Cluster = bench.parts["cluster"]
    victim = made.primary()
    (standby,) = [one for one in made.hosts if one is not victim]
    bench.sleep(0.5, 2.0)
    began = time.monotonic()
    lose(victim)
    until("the standby is promoted", lambda: made.is_primary(standby), _LIMIT)
    at = time.monotonic()
    bench.wait_until_paging(at)
    bring_back(made, victim)
    made.primary()
    return Fault(f"the primary {what}", at, f"the standby was promoted after {at - began:.1f} s", is_over=True)


def _kill(victim: Host) -> None:
    _signal(victim, signal.SIGKILL)


def _freeze(victim: Host) -> None:
    _signal(victim, signal.SIGSTOP)


def _thaw(made: Cluster, victim: Host) -> None:
    _signal(victim, signal.SIGCONT)


def _unplug(victim: Host) -> None:
    victim.unplug("back")


def _plug_in(made: Cluster, victim: Host) -> None:
    victim.plug_in("back")


def _scenario(
    name: str, what: str, lose: Callable[[Host], None], bring_back: Callable[[Cluster, Host], None], short_runs: int = 0
) -> Scenario:
    act = partial(_lose_primary, what, lose, bring_back)
    programs = ("patroni", "etcd", "ip", "setpriv")
    return Scenario(
        name, cluster, act, runs=3, short_runs=short_runs, programs=programs, needs_root=True, max_seconds=15.0
    )


SCENARIOS = [
    _scenario("primary-killed", "killed", _kill, Cluster.start, short_runs=1),
    _scenario("primary-frozen", "frozen", _freeze, _thaw),
    _scenario("primary-unplugged", "unplugged", _unplug, _plug_in),
]
