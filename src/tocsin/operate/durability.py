"""Checks that COMMIT on this database is durable, on which every 2xx response relies. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType


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
    detail: Reason
    remedy: Reason


_STANDBY = ReasonType("health.database_standby", "The database is a standby: it accepts no writes.")
_STANDBY_REMEDY = ReasonType(
    "health.database_standby_remedy",
    "Point TOCSIN_DATABASE_URL at the primary; with several servers, `target_session_attrs=read-write` selects it.",
)
_READ_ONLY = ReasonType("health.database_read_only", "The database accepts no writes.")
_TURN_OFF = ReasonType("health.database_turn_off_remedy", "Set {setting} to off.")
_TURN_ON = ReasonType("health.database_turn_on_remedy", "Set {setting} to on.")
_FSYNC = ReasonType("health.database_fsync", "fsync is off: a power failure can lose accepted messages.")
_FULL_PAGE_WRITES = ReasonType(
    "health.database_full_page_writes", "full_page_writes is off: a power failure can corrupt the database."
)
_SYNCHRONOUS_COMMIT = ReasonType(
    "health.database_synchronous_commit",
    "synchronous_commit is off: a crash can lose the last accepted messages.",
)
_SYNCHRONOUS_COMMIT_REMEDY = ReasonType(
    "health.database_synchronous_commit_remedy",
    "Set synchronous_commit to on, including for Tocsin's role and database.",
)
_STANDBY_NOT_WAITED_FOR = ReasonType(
    "health.database_standby_not_waited_for",
    "synchronous_commit is local: commits do not wait for the standby, which may lack the last accepted messages.",
)
_STANDBY_MISSING = ReasonType(
    "health.database_standby_missing",
    "Commits wait for a synchronous standby, but none is connected: nothing can be stored.",
)
_STANDBY_MISSING_REMEDY = ReasonType(
    "health.database_standby_missing_remedy", "Start the standby, or remove it from synchronous_standby_names."
)
_ASYNCHRONOUS = ReasonType(
    "health.database_standby_asynchronous",
    "{count} standby replicates asynchronously: a failover to it can lose the last accepted messages.",
    "{count} standbys replicate asynchronously: a failover to one can lose the last accepted messages.",
)
_ASYNCHRONOUS_REMEDY = ReasonType(
    "health.database_standby_asynchronous_remedy",
    "List one in synchronous_standby_names, or do not fail over to any of them.",
)

_READ = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, pg_is_in_recovery() AS is_standby,
       -- As new sessions get it: doctor's own is set to read only.
       (SELECT reset_val::boolean FROM pg_settings WHERE name = 'default_transaction_read_only') AS is_read_only,
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
        risks.append(DurabilityRisk("standby", _STANDBY(), _STANDBY_REMEDY()))
    elif server.is_read_only:
        risks.append(DurabilityRisk("read_only", _READ_ONLY(), _TURN_OFF(setting="default_transaction_read_only")))
    if server.fsync != "on":
        risks.append(DurabilityRisk("fsync", _FSYNC(), _TURN_ON(setting="fsync")))
    if server.full_page_writes != "on":
        risks.append(DurabilityRisk("full_page_writes", _FULL_PAGE_WRITES(), _TURN_ON(setting="full_page_writes")))
    if server.synchronous_commit == "off":
        risks.append(DurabilityRisk("synchronous_commit", _SYNCHRONOUS_COMMIT(), _SYNCHRONOUS_COMMIT_REMEDY()))
    risks.extend(_standbys(server))
    return tuple(risks)


def _standbys(server: ServerDurability) -> list[DurabilityRisk]:
    """Risks concerning the synchronous standby that the operator intends to fail over to."""
    if not server.standby_names or server.is_standby:
        return []
    if server.synchronous_commit == "local":
        return [
            DurabilityRisk("standby_not_waited_for", _STANDBY_NOT_WAITED_FOR(), _TURN_ON(setting="synchronous_commit"))
        ]
    if server.synchronous_commit != "off" and (server.standbys == 0 or server.synchronous == 0):
        return [DurabilityRisk("standby_missing", _STANDBY_MISSING(), _STANDBY_MISSING_REMEDY())]
    return []


def risk_at_failover(server: ServerDurability) -> DurabilityRisk | None:
    """What an operator must know before a failover. Not a problem while the primary is alive."""
    if server.standbys and not server.standby_names:
        return DurabilityRisk("standby_asynchronous", _ASYNCHRONOUS(count=server.standbys), _ASYNCHRONOUS_REMEDY())
    return None
