"""The installation's health and key facts. Reads only."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import django
from django.utils.translation import gettext as _

from tocsin import __version__
from tocsin.core.config import environment
from tocsin.core.config.last_backup import BackupStatus, load_status
from tocsin.core.db import database
from tocsin.operate import health_status, node_heartbeat
from tocsin.operate.health_status import HealthStatus
from tocsin.operate.node_heartbeat import NodeStatus


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """Everything that the System view shows."""

    status: HealthStatus
    nodes: list[NodeStatus]
    #: (label, value)
    facts: list[tuple[Any, Any]]
    backup: BackupStatus


def read(now: datetime) -> SystemHealth:
    """Read the health in one transaction."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), pg_size_pretty(pg_database_size(current_database()))"
        ).fetchone()
        backup = load_status(connection, now)
        status_and_nodes = health_status.status_from_problems(connection), node_heartbeat.load_nodes(connection)
    assert row is not None
    facts = [
        ("Tocsin", __version__),
        (_("Public URL"), environment.current().public_url),
        ("PostgreSQL", row[0]),
        (_("Database size"), row[1]),
        ("Python", platform.python_version()),
        ("Django", django.get_version()),
    ]
    return SystemHealth(*status_and_nodes, facts, backup)
