"""Whose turn it is to look at a Halo: a lease by the database's clock, renewed while the look goes on, so that a long
look is not taken up by another process, and that of a process that was killed soon is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection

#: A look of which nothing was heard for so long is taken up by another process. Longer than a request may take.
LEASE = timedelta(minutes=1)


class LeaseLost(Exception):
    """Another process has taken the look up: this one must not write any more."""


@dataclass(slots=True)
class PollLease:
    """The look at one Halo that this process has, and what was known before it."""

    integration_id: int
    until: datetime
    standing: Mapping[str, Any]

    @property
    def was_barred(self) -> bool:
        """Whether it was a look that found that nothing works until a person acts."""
        problem, said = self.standing["problem"], self.standing["poll_error"]
        return bool(problem) and problem.startswith(said) and bool(said)

    def renew(self) -> None:
        """Keeps the turn. Raises Overtaken."""
        with database.transaction() as connection:
            wanted = {"id": self.integration_id, "until": self.until, "lease": LEASE}
            found = connection.execute(_RENEW, wanted).fetchone()
        if found is None:
            raise LeaseLost
        self.until = found[0]

    def end(self, connection: Connection) -> None:
        """Gives the turn back, inside the transaction that writes what came of it. Raises Overtaken."""
        wanted = {"id": self.integration_id, "until": self.until}
        if connection.execute(_END, wanted).fetchone() is None:
            raise LeaseLost


#: No look is planned so far ahead: one that is was planned before the clock went back. Patience that Halo asks for has
#: a moment of its own.
MAX_POLL_AHEAD = timedelta(minutes=10)

_CLAIM = """
UPDATE outbound_integrationstatus s SET poll_lease_until = clock_timestamp() + %(lease)s
WHERE s.integration_id = (
  SELECT t.integration_id FROM outbound_integrationstatus t
  JOIN outbound_outboundintegration o ON o.id = t.integration_id
  WHERE o.is_enabled AND o.kind = 'haloitsm' AND (t.next_poll_at <= %(now)s OR t.next_poll_at > %(furthest)s)
    AND (t.poll_lease_until IS NULL OR t.poll_lease_until < clock_timestamp()
         OR t.poll_lease_until > clock_timestamp() + 2 * %(lease)s)
    AND (t.blocked_until IS NULL OR t.blocked_until <= %(now)s OR o.settings ->> 'pull' = 'true')
    AND (t.not_before IS NULL OR t.not_before <= %(now)s)
  ORDER BY t.next_poll_at LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED)
RETURNING s.integration_id, s.poll_lease_until, s.polled_until, s.last_polled_at, s.poll_state, s.granted_to,
          s.problem, s.poll_error
"""

_RENEW = """
UPDATE outbound_integrationstatus SET poll_lease_until = clock_timestamp() + %(lease)s
WHERE integration_id = %(id)s AND poll_lease_until = %(until)s RETURNING poll_lease_until
"""

_END = """
UPDATE outbound_integrationstatus SET poll_lease_until = NULL
WHERE integration_id = %(id)s AND poll_lease_until = %(until)s RETURNING 1
"""


def claim(connection: Connection, now: datetime) -> PollLease | None:
    """The Halo that is to be looked at next, if there is one."""
    found = database.row(connection, _CLAIM, {"now": now, "lease": LEASE, "furthest": now + MAX_POLL_AHEAD})
    return PollLease(found["integration_id"], found["poll_lease_until"], found) if found is not None else None
