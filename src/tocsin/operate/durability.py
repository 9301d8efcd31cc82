"""Checks that COMMIT on this database is durable, on which every 2xx response relies. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.core.db import database
from tocsin.core.db.database import Connection


@dataclass(frozen=True, slots=True)
class ServerDurability:
    """PostgreSQL's settings in this session."""

    fsync: str = "on"
    full_page_writes: str = "on"
    synchronous_commit: str = "on"
    #: Whether it accepts no writes: a standby, or set to read-only.
    is_standby: bool = False
    is_read_only: bool = False
    #: `synchronous_standby_names`; empty: commits wait for no other server.
    standby_names: str = ""
    #: Streaming standbys, and how many of them commits wait for (None: this role may not see that).
    standbys: int = 0
    synchronous: int | None = 0


@dataclass(frozen=True, slots=True)
class DurabilityRisk:
    """Why acknowledged data could be lost, and the remedy."""

    id: str
    detail: str
    remedy: str


_READ = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, pg_is_in_recovery() AS is_standby,
       current_setting('default_transaction_read_only')::boolean AS is_read_only,
       current_setting('synchronous_standby_names') AS standby_names, r.standbys, r.synchronous
FROM (
  SELECT count(*) AS standbys,
         CASE WHEN bool_and(sync_state IS NOT NULL) OR count(*) = 0
              THEN count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END AS synchronous
  FROM pg_stat_replication WHERE application_name NOT IN ('pg_basebackup', 'pg_receivewal')
) AS r
"""


def read(connection: Connection) -> ServerDurability:
    """Reads the server's settings. Roles without `pg_monitor` see the number of standbys but not their mode."""
    row = database.row(connection, _READ)
    assert row is not None
    return ServerDurability(**row)


def weaknesses(server: ServerDurability) -> tuple[DurabilityRisk, ...]:
    """Why a committed message could be lost, or nothing be committed; the most serious first. Empty: commits are
    durable."""
    risks = []
    if server.is_standby:
        risks.append(
            DurabilityRisk(
                "standby",
                "The database is a standby: it takes no writes.",
                "Point TOCSIN_DATABASE_URL at the primary; `target_session_attrs=read-write` finds it among several.",
            )
        )
    elif server.is_read_only:
        risks.append(
            DurabilityRisk("read_only", "The database takes no writes.", "Set default_transaction_read_only to off.")
        )
    if server.fsync != "on":
        risks.append(
            DurabilityRisk("fsync", "fsync is off: a power cut loses messages that were answered.", "Set fsync to on.")
        )
    if server.full_page_writes != "on":
        risks.append(
            DurabilityRisk(
                "full_page_writes",
                "full_page_writes is off: a power cut can destroy the database.",
                "Set full_page_writes to on.",
            )
        )
    if server.synchronous_commit == "off":
        risks.append(
            DurabilityRisk(
                "synchronous_commit",
                "synchronous_commit is off: a crash loses the last messages that were answered.",
                "Set synchronous_commit to on, for Tocsin's role and database too.",
            )
        )
    risks.extend(_standbys(server))
    return tuple(risks)


def _standbys(server: ServerDurability) -> list[DurabilityRisk]:
    """Risks concerning the synchronous standby that the operator intends to fail over to."""
    if not server.standby_names or server.is_standby:
        return []
    if server.synchronous_commit == "local":
        return [
            DurabilityRisk(
                "standby_not_waited_for",
                "synchronous_commit is local: commits do not wait for the standby, which lacks the last messages "
                "that were answered.",
                "Set synchronous_commit to on.",
            )
        ]
    if server.synchronous_commit != "off" and (server.standbys == 0 or server.synchronous == 0):
        return [
            DurabilityRisk(
                "standby_missing",
                "Commits wait for a synchronous standby, and none follows: nothing can be stored.",
                "Start the standby, or take it out of synchronous_standby_names.",
            )
        ]
    return []


def risk_at_failover(server: ServerDurability) -> DurabilityRisk | None:
    """What an operator must know before a failover. Not a problem while the primary is alive."""
    if server.standbys and not server.standby_names:
        is_plural = server.standbys != 1
        return DurabilityRisk(
            "standby_asynchronous",
            f"{server.standbys} {'standbys follow' if is_plural else 'standby follows'} asynchronously: "
            "after a failover to "
            "one, the last messages that were answered can be missing.",
            "Name one in synchronous_standby_names. Without that, never fail over to one.",
        )
    return None
