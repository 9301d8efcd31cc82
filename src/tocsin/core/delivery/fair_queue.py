"""The SQL that claims due rows fairly: each lane, such as an integration, gets an equal share of what can be taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from tocsin.core.db import database

# Finds every lane with waiting rows (a loose index scan), of those the ones with due rows, then the share of each.
# Rows locked by another node are skipped. Rows without a lane form one of their own. NULL has its own arm, because an
# index serves `=` and `IS NULL`, but no single condition that covers both.
_CLAIM = """
WITH RECURSIVE lanes(lane) AS (
  (SELECT {lane} FROM {table} q WHERE {waiting} ORDER BY {lane} LIMIT 1)
  UNION ALL
  SELECT (SELECT {lane} FROM {table} q WHERE {waiting} AND {lane} > l.lane ORDER BY {lane} LIMIT 1)
  FROM lanes l WHERE l.lane IS NOT NULL
), due AS (
  SELECT l.lane, f.is_first FROM lanes l CROSS JOIN (VALUES {ranks}) AS f(is_first) CROSS JOIN LATERAL (
    (SELECT FROM {table} q WHERE {waiting} AND {lane} = l.lane{rank} AND {due} LIMIT 1)
    UNION ALL
    (SELECT FROM {table} q WHERE {waiting} AND l.lane IS NULL AND {lane} IS NULL{rank} AND {due} LIMIT 1)
  ) AS found
), share AS (
  SELECT ceil(%(free)s::numeric / greatest(1, count(*)))::int AS most
  FROM (SELECT DISTINCT coalesce(lane, 0) FROM due) AS different
), picked AS (
  SELECT p.id, f.lane, f.is_first, p.due_at, s.most,
         row_number() OVER (PARTITION BY f.lane ORDER BY f.is_first DESC, p.due_at) AS place
  FROM share s CROSS JOIN due f CROSS JOIN LATERAL (
    SELECT * FROM (
      SELECT q.id, q.due_at FROM {table} q{join} WHERE {waiting} AND {lane} = f.lane{rank} AND {due}
      ORDER BY q.due_at LIMIT s.most FOR NO KEY UPDATE OF {locked} SKIP LOCKED) a
    UNION ALL
    SELECT * FROM (
      SELECT q.id, q.due_at FROM {table} q{join} WHERE {waiting} AND f.lane IS NULL AND {lane} IS NULL{rank} AND {due}
      ORDER BY q.due_at LIMIT s.most FOR NO KEY UPDATE OF {locked} SKIP LOCKED) b
  ) p
)
SELECT id, lane, most FROM picked WHERE place <= most ORDER BY place, is_first DESC, due_at LIMIT %(free)s
"""


@dataclass(frozen=True, slots=True)
class FairQueue:
    """A table of waiting rows with the columns `id` and `due_at`. Expressions name the table `q`.

    An index on (lane, the first-column descending if there is one, `due_at`) with the condition `waiting` serves it.
    """

    table: str
    #: A column: rows with the same value share what one lane gets.
    lane: str
    #: The condition of the partial index.
    waiting: str
    #: A boolean column: within a lane, its rows come first.
    first: str = ""
    #: A join, and the alias of the table whose rows are locked.
    join: str = ""
    locked: str = "q"

    def claim_query(self, filters: str = "") -> LiteralString:
        """Returns the query that locks the due rows, the lanes in turn: id, lane, and the share of each lane.

        Its parameters are `now` and `free`, the number of rows that can be taken, and those of `filters`, further
        conditions.
        """
        return database.literal(
            _CLAIM.format(
                table=self.table,
                lane=f"q.{self.lane}",
                waiting=self.waiting,
                ranks="(true), (false)" if self.first else "(true)",
                rank=f" AND q.{self.first} = f.is_first" if self.first else "",
                due=f"q.due_at <= %(now)s {filters}".rstrip(),
                join=f" {self.join}" if self.join else "",
                locked=self.locked,
            )
        )
