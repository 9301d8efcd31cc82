"""The web process: ingest works without it, and it restarts."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.support.installation import Installation, Node, ask, until


def test_web_process_survives_kill_and_stops_with_its_node(single: Installation) -> None:
    node = single.serve()
    assert ask("GET", f"{node.url}/account/login/").status == 200
    first = pages_of(node)
    # It was forked, so that both have what is loaded once; what it shares besides is its own way to be asked.
    assert command_of(first) == command_of(node.pid)
    assert len(sockets_of(first) & sockets_of(node.pid)) == 1
    os.kill(first, signal.SIGKILL)
    assert single.post({"id": 1, "summary": "VPN down"}).status == 200
    # Who asks meanwhile waits for its successor.
    assert ask("GET", f"{node.url}/account/login/").status == 200
    second = pages_of(node)
    assert second != first
    assert b"tocsin.web_process" in command_of(second)
    assert "ended with -9, and is started again" in node.log
    assert ask("GET", f"{node.url}/readyz").status == 200

    # A service manager tells every process: this one stays for what the node has to answer.
    os.kill(second, signal.SIGTERM)
    assert ask("GET", f"{node.url}/account/login/").status == 200
    assert pages_of(node) == second

    node.kill()
    until("it ends with a node that was killed", lambda: not Path(f"/proc/{second}").exists())

    again = single.serve()
    assert ask("GET", f"{again.url}/account/login/").status == 200
    third = pages_of(again)
    assert again.terminate() == 0
    assert not Path(f"/proc/{third}").exists()


def pages_of(node: Node) -> int:
    """The number of the process that makes the node's pages."""
    tasks = Path(f"/proc/{node.pid}/task").iterdir()
    children = [int(number) for task in tasks for number in (task / "children").read_text().split()]
    (count,) = [child for child in children if b"postgres" not in command_of(child)]
    return count


def command_of(pid: int) -> bytes:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process holds open."""
    names = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.add(str(path.readlink()))
    return {name for name in names if name.startswith("socket:")}
