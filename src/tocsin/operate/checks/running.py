"""Checks running processes: whether Tocsin runs and is monitored, and what its self-check reports about paging."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.core.config import environment
from tocsin.core.db.database import Connection
from tocsin.core.validation import durations
from tocsin.operate import health_status, node_heartbeat
from tocsin.operate.finding import HealthFinding, note


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Checks what is running now."""
    nodes = node_heartbeat.load_nodes(connection)
    running_nodes = [node for node in nodes if node.is_alive]
    if not running_nodes:
        yield HealthFinding(
            "running.nothing",
            "No Tocsin runs on this database: nothing is taken, and nobody is paged.",
            "Start `tocsin serve`; `tocsin service install` has it start with the machine.",
        )
    for node in nodes:
        if running_nodes and not node.is_alive:
            yield HealthFinding(
                "running.gone",
                f"The node {node.name} ({node.role}) was last heard of {durations.describe(node.age)} ago, and did not "
                "end in good order. Others have taken over its work.",
                "Look at that machine, and start it again. An hour after it was last heard of it is forgotten.",
                about=node.name,
            )
    if len(versions := sorted({node.version for node in running_nodes})) > 1:
        yield note("running.versions", f"Nodes run different versions: {', '.join(versions)}.", "Upgrade the others.")
    yield from _paging(connection, bool(running_nodes))


def _paging(connection: Connection, is_running: bool) -> Iterator[HealthFinding]:
    status = health_status.status_from_problems(connection)
    if is_running and status.silence is not None:
        remedy = "Start a node with the role worker or all. A node that just started needs half a minute."
        yield HealthFinding("paging.unwatched", status.silence, remedy)
    for problem in status.problems if is_running else ():
        yield HealthFinding(f"paging.{problem.id.partition(':')[0]}", problem.detail, problem.remedy, about=problem.id)
    if environment.current().heartbeat_url is None:
        yield note(
            "heartbeat.none",
            "TOCSIN_HEARTBEAT_URL is not set: if this machine dies, nobody outside notices.",
            "Set it to the address of a service that raises an alarm when it is not called.",
        )
    elif status.heartbeat_problem:
        yield HealthFinding(
            "heartbeat.failing",
            f"The outside heartbeat is not taken: {status.heartbeat_problem}.",
            "Look at TOCSIN_HEARTBEAT_URL, and whether this machine may connect to it.",
        )
