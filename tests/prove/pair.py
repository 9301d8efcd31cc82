"""Two nodes on machines of their own behind haproxy: one is killed, stopped, or cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.prove.bench import Bench, Fault, PageLog, free_port, short_folder
from tests.prove.network import Host, host, networks
from tests.prove.scenario import Scenario
from tests.prove.senders import Senders
from tests.prove.worlds import RATE, mail_environment, mail_servers, own_postgres
from tests.support.installation import Installation, Node, ask, until
from tocsin.core.config import crypto

_PORT = 8686
#: Seconds for which a node is stopped or cut off, and in the short version.
_AWAY, _AWAY_SHORT = 120.0, 20.0

#: As docs/how-to/several-nodes.md says: the proxy polls `/readyz` of each node.
_HAPROXY = """
global
  maxconn 2000
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 10s
  timeout check 2s
  retries 2
  option redispatch 1
  option forwardfor
  option httpchk GET /readyz
  default-server check inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
frontend senders
  bind 127.0.0.1:{port}
  default_backend nodes
backend nodes
  balance roundrobin
{servers}
"""


class Pair:
    """Two hosts, and the node that runs on each."""

    def __init__(self, installation: Installation, hosts: list[Host]) -> None:
        self.installation = installation
        self.hosts = hosts
        self.nodes: dict[str, Node] = {}

    def start(self, where: Host) -> None:
        """Starts the node of a host."""
        arguments = ("--host", "0.0.0.0", "--port", str(_PORT))
        self.nodes[where.name] = self.installation.serve(*arguments, within=where.within)

    def is_ready(self, where: Host) -> bool:
        try:
            return ask("GET", f"http://{where.addresses['front']}:{_PORT}/readyz", seconds=3).status == 200
        except OSError:
            return False


@contextmanager
def pair(configured: Installation) -> Iterator[Bench]:
    """Two nodes: the network `front` leads to haproxy and the mail server, the network `back` to PostgreSQL."""
    log = PageLog()
    with ExitStack() as stack:
        home = stack.enter_context(short_folder())
        made = stack.enter_context(networks("front", "back"))
        hosts = [stack.enter_context(host(name, number, [*made.values()])) for name, number in (("a", 11), ("b", 12))]
        postgres = stack.enter_context(own_postgres(configured, home))
        postgres.host = made["back"].address
        (mails,) = stack.enter_context(mail_servers(1, log, made["front"].address))
        environment = {
            "TOCSIN_DATABASE_URL": postgres.url,
            "TOCSIN_SECRET_KEY": crypto.stored_key(configured.data_dir),
            "TOCSIN_TRUSTED_PROXIES": made["front"].address,
            **mail_environment(mails),
        }
        installation = Installation(home, environment, configured.token)
        stack.callback(installation.end)
        nodes = Pair(installation, hosts)
        for one in hosts:
            nodes.start(one)
        until("both nodes are ready", lambda: all(map(nodes.is_ready, hosts)), 90)
        port = stack.enter_context(_haproxy(home, hosts))
        senders = Senders(lambda: f"http://127.0.0.1:{port}", RATE)
        bench = Bench(installation, log, senders)
        bench.parts |= {"pair": nodes, "logs": {"haproxy.log": home / "haproxy.log"}}
        stack.enter_context(senders)
        yield bench


@contextmanager
def _haproxy(home: Path, hosts: list[Host]) -> Iterator[int]:
    """A running haproxy in front of the hosts; its port."""
    port = free_port()
    servers = "\n".join(f"  server {one.name} {one.addresses['front']}:{_PORT}" for one in hosts)
    file = home / "haproxy.cfg"
    file.write_text(_HAPROXY.format(port=port, servers=servers))
    with (home / "haproxy.log").open("wb") as output:
        process = subprocess.Popen(["haproxy", "-f", file], stdout=output, stderr=output)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _choose(bench: Bench) -> tuple[Pair, Host]:
    bench.sleep(0.5, 3.0)
    nodes: Pair = bench.parts["pair"]
    return nodes, bench.rng.choice(nodes.hosts)


def _kill_one(bench: Bench) -> Fault:
    nodes, victim = _choose(bench)
    at = time.monotonic()
    nodes.nodes[victim.name].kill()
    bench.wait_until_paging(at)
    nodes.start(victim)
    return Fault("one of two nodes killed", at, _until_both_are_ready(nodes))


def _stop_one(bench: Bench) -> Fault:
    nodes, victim = _choose(bench)
    pids = with_descendants(nodes.nodes[victim.name].pid)
    at = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(_AWAY_SHORT if bench.is_short else _AWAY)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return Fault(f"one of two nodes stopped{'' if bench.is_short else ' for two minutes'}", at,
                 _until_both_are_ready(nodes))  # fmt: skip


def _cut_off(what: str, cut: tuple[str, ...], bench: Bench) -> Fault:
    nodes, victim = _choose(bench)
    at = time.monotonic()
    for network in cut:
        victim.unplug(network)
    time.sleep(_AWAY_SHORT if bench.is_short else _AWAY)
    for network in cut:
        victim.plug_in(network)
    return Fault(f"one of two nodes cut off from {what}", at, _until_both_are_ready(nodes))


def _until_both_are_ready(nodes: Pair) -> str:
    began = time.monotonic()
    until("both nodes are ready", lambda: all(map(nodes.is_ready, nodes.hosts)), 180)
    return f"both ready again after {time.monotonic() - began:.1f} s"


def with_descendants(pid: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    children = [int(text) for task in Path(f"/proc/{pid}/task").iterdir()
                for text in (task / "children").read_text().split()]  # fmt: skip
    return [pid, *(found for child in children for found in with_descendants(child))]


def _scenario(name: str, act: Callable[[Bench], Fault], *, short_runs: int = 1) -> Scenario:
    return Scenario(name, pair, act, runs=3, short_runs=short_runs, programs=("haproxy", "ip"), needs_root=True)


SCENARIOS = [
    _scenario("node-killed", _kill_one),
    _scenario("node-stopped", _stop_one),
    _scenario("node-without-database", partial(_cut_off, "the database", ("back",))),
    _scenario("node-without-proxy", partial(_cut_off, "the proxy and the mail server", ("front",)), short_runs=0),
    _scenario("node-alone", partial(_cut_off, "all", ("front", "back")), short_runs=0),
]
