"""Has an all-clear go by another way of its person's where its own cannot be used any more. Works inside the
transaction it is given, and sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.notify import plan
from tocsin.notify.channels.registry import address_problem, quietest
from tocsin.notify.due import Due
from tocsin.notify.plan import OtherWay

_THEIRS = """
SELECT w.id, m.label, m.channel, m.address,
       EXISTS (SELECT FROM notify_delivery p WHERE p.alert_id = d.alert_id AND p.user_id = d.user_id
               AND p.purpose = 'page' AND p.status IN ('sending', 'sent', 'delivered') AND p.channel = m.channel)
         AS was_used
FROM unnest(%s::uuid[]) AS w(id) JOIN notify_delivery d ON d.id = w.id
JOIN people_contactmethod m ON m.user_id = d.user_id AND m.is_enabled AND NOT m.awaits_code
WHERE NOT EXISTS (SELECT FROM notify_optout o WHERE o.channel = m.channel AND o.address = m.address)
ORDER BY w.id, m.position, m.id
"""
_TURN = """
WITH found AS (
  SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[])
    AS f(id, label, channel, address, because)
), turned AS (
  UPDATE notify_delivery d SET channel = f.channel, address = f.address FROM found f WHERE d.id = f.id
  RETURNING d.notification_id, f.label, f.channel, f.address, f.because
)
UPDATE notify_notification n
SET label = t.label, channel = t.channel, address = t.address, reason = concat_ws(' ', nullif(n.reason, ''), t.because)
FROM turned t WHERE n.id = t.notification_id
"""


def take(connection: Connection, stuck: Sequence[Due]) -> list[Due]:
    """Turns each to the way that `plan.other_way` says, and notes why; returns those that now go by another. Whoever
    has no other way is left as they are."""
    if not stuck:
        return []
    ways: dict[object, list[OtherWay]] = {}
    for row in database.rows(connection, _THEIRS, ([due.id for due in stuck],)):
        if address_problem(row["channel"], row["address"]) is None:
            ways.setdefault(row.pop("id"), []).append(OtherWay(**row))
    turned = [(due, way) for due in stuck if (way := plan.other_way(ways.get(due.id, ()), quietest)) is not None]
    connection.execute(
        _TURN,
        (
            [due.id for due, _ in turned],
            [way.label for _, way in turned],
            [way.channel for _, way in turned],
            [way.address for _, way in turned],
            [f"It comes by {way.label}, because {due.label} cannot be used any more." for due, way in turned],
        ),
    )
    return [due for due, _ in turned]
