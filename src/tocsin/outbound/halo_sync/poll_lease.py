"""Leases for polling a Halo, by the database's clock and renewed during the poll.

So a long poll is not duplicated by another process, and a killed process's poll is soon taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.lease import LeaseLost
from tocsin.core.stored_reason import reason_in

#: How long a poll may go without renewal before another process takes over. Longer than a request can take.
LEASE = timedelta(minutes=1)


@dataclass(slots=True)
class PollLease:
    """This process's lease on polling one Halo, and the integration's status before it."""

    integration_id: int
    until: datetime
    status: Mapping[str, Any]

    @property
    def was_blocked(self) -> bool:
        """Whether the previous poll found that nothing works until a person acts."""
        problem = reason_in(self.status, "problem")
        return bool(problem) and problem == reason_in(self.status, "poll_error")

    def renew(self) -> None:
        """Extends the lease. Raises LeaseLost."""
        with database.transaction() as connection:
            parameters = {"id": self.integration_id, "until": self.until, "lease": LEASE}
            row = connection.execute(_RENEW, parameters).fetchone()
        if row is None:
            raise LeaseLost
        self.until = row[0]

    def end(self, connection: Connection) -> None:
        """Releases the lease in the transaction that writes the poll's results. Raises LeaseLost."""
        parameters = {"id": self.integration_id, "until": self.until}
        if connection.execute(_END, parameters).fetchone() is None:
            raise LeaseLost


#: No poll is planned further ahead; a later time was planned before a clock rollback. A rate limit imposed by Halo has
#: its own column.
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
          s.problem_code, s.problem_data, s.poll_error_code, s.poll_error_data
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
    """Claims the Halo whose poll is due next, or returns None."""
    row = database.row(connection, _CLAIM, {"now": now, "lease": LEASE, "furthest": now + MAX_POLL_AHEAD})
    return PollLease(row["integration_id"], row["poll_lease_until"], row) if row is not None else None
