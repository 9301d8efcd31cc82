"""Machines on one kernel: network namespaces on bridges, which can be unplugged without a packet. Linux, as root.

`make prove` runs in a network namespace of its own, so that nothing of this is seen or left outside.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge; this process has the first address of its network."""

    name: str
    prefix: str

    @property
    def address(self) -> str:
        return f"{self.prefix}.1"


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one interface in each network. `addresses` are by the network's name."""

    name: str
    pid: int
    addresses: dict[str, str]

    @property
    def within(self) -> list[str]:
        """The beginning of a command that runs there."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net"]

    def unplug(self, network: str) -> None:
        """From now on no packet passes in either direction, without an error."""
        _ip("link", "set", f"{self.name}-{network}", "nomaster")

    def plug_in(self, network: str) -> None:
        """Packets pass again."""
        _ip("link", "set", f"{self.name}-{network}", "master", network)


@contextmanager
def networks(*names: str) -> Iterator[dict[str, Network]]:
    """A bridge for each name."""
    made = {name: Network(name, f"10.98.{number}") for number, name in enumerate(names)}
    try:
        for network in made.values():
            _ip("link", "add", network.name, "type", "bridge")
            _ip("addr", "add", f"{network.address}/24", "dev", network.name)
            _ip("link", "set", network.name, "up")
        yield made
    finally:
        for network in made.values():
            _ip("link", "delete", network.name, must=False)


@contextmanager
def host(name: str, number: int, plugged_into: Sequence[Network]) -> Iterator[Host]:
    """A host with the address `number` in each network."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        _wait_for_namespace(holder.pid)
        made = Host(name, holder.pid, {network.name: f"{network.prefix}.{number}" for network in plugged_into})
        inside = [*made.within, "ip"]
        subprocess.run([*inside, "link", "set", "lo", "up"], check=True)
        for network in plugged_into:
            end = f"{name}-{network.name}"
            _ip("link", "add", end, "type", "veth", "peer", "name", network.name, "netns", str(holder.pid))
            _ip("link", "set", end, "master", network.name, "up")
            address = f"{made.addresses[network.name]}/24"
            subprocess.run([*inside, "addr", "add", address, "dev", network.name], check=True)
            subprocess.run([*inside, "link", "set", network.name, "up"], check=True)
        yield made
    finally:
        holder.kill()
        holder.wait()


def _wait_for_namespace(pid: int) -> None:
    own = Path("/proc/self/ns/net").readlink()
    end = time.monotonic() + _LIMIT
    while Path(f"/proc/{pid}/ns/net").readlink() == own:
        assert time.monotonic() < end, "unshare made no network namespace"
        time.sleep(0.01)


def _ip(*arguments: str, must: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=must, capture_output=not must)
