"""Checks running processes: whether Tocsin runs and is monitored, and what its self-check reports about paging."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.core.config import environment
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Ago, ReasonType
from tocsin.operate import health_status, node_heartbeat
from tocsin.operate.finding import HealthFinding, note

_NOTHING = ReasonType("health.no_node", "No Tocsin node is running: messages are not accepted, and no one is paged.")
_NOTHING_REMEDY = ReasonType(
    "health.no_node_remedy", "Start `tocsin serve`. Use `tocsin service install` to start it at boot."
)
_GONE = ReasonType(
    "health.node_gone",
    "The node {node} ({role}) sent its last heartbeat {ago} and did not shut down cleanly. Other nodes have taken "
    "over its work.",
)
_GONE_REMEDY = ReasonType(
    "health.node_gone_remedy", "Check and restart that server. Dead nodes are removed after an hour."
)
_VERSIONS = ReasonType("health.node_versions", "Nodes run different versions: {versions}.")
_VERSIONS_REMEDY = ReasonType("health.node_versions_remedy", "Upgrade the older nodes.")
_UNWATCHED_REMEDY = ReasonType(
    "health.no_self_check_remedy",
    "Start a node with the role worker or all. A new node needs about 30 seconds.",
)
_NO_HEARTBEAT = ReasonType(
    "health.no_heartbeat", "TOCSIN_HEARTBEAT_URL is not set: no external service notices if this server fails."
)
_NO_HEARTBEAT_REMEDY = ReasonType(
    "health.no_heartbeat_remedy", "Set it to the URL of a dead man's switch that alerts when pings stop."
)
_HEARTBEAT = ReasonType("health.heartbeat_failed", "The external heartbeat failed: {error}.")
_HEARTBEAT_REMEDY = ReasonType(
    "health.heartbeat_failed_remedy", "Check TOCSIN_HEARTBEAT_URL, and whether this server can connect to it."
)


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Checks what is running now."""
    nodes = node_heartbeat.load_nodes(connection)
    running_nodes = [node for node in nodes if node.is_alive]
    if not running_nodes:
        yield HealthFinding("running.nothing", _NOTHING(), _NOTHING_REMEDY(), is_urgent=True)
    for node in nodes:
        if running_nodes and not node.is_alive:
            yield HealthFinding(
                "running.gone",
                _GONE(node=node.name, role=node.role, ago=Ago(node.age)),
                _GONE_REMEDY(),
                about=node.name,
            )
    if len(versions := sorted({node.version for node in running_nodes})) > 1:
        yield note("running.versions", _VERSIONS(versions=tuple(versions)), _VERSIONS_REMEDY())
    yield from _paging(connection, bool(running_nodes))


def _paging(connection: Connection, is_running: bool) -> Iterator[HealthFinding]:
    status = health_status.status_from_problems(connection)
    if is_running and status.silence:
        yield HealthFinding("paging.unwatched", status.silence, _UNWATCHED_REMEDY(), is_urgent=True)
    for problem in status.problems if is_running or status.is_recent else ():
        yield HealthFinding(
            f"paging.{problem.id.partition(':')[0]}",
            problem.detail,
            problem.remedy,
            about=problem.id,
            is_urgent=True,
        )
    if environment.current().heartbeat_url is None:
        yield note("heartbeat.none", _NO_HEARTBEAT(), _NO_HEARTBEAT_REMEDY())
    elif status.heartbeat_problem:
        yield HealthFinding("heartbeat.failing", _HEARTBEAT(error=status.heartbeat_problem), _HEARTBEAT_REMEDY())
