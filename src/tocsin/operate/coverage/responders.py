"""Readiness of the users on call by group: runs `notify.rules.responder_readiness` on data from the database. Reads
only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.enqueue.recipients import load_recipients
from tocsin.notify.registry import address_problem
from tocsin.notify.rules.notification_rules import Recipient
from tocsin.notify.rules.responder_readiness import (
    TEST_VALID_FOR,
    MethodState,
    OnCallPerson,
    ShiftReadiness,
    readiness,
)
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.people.models import accepts_code

#: How far ahead readiness is checked where no range is given: the current shifts, and the next of a weekly rotation.
READINESS_HORIZON = timedelta(days=8)

# Notifications are found by user, the newest first. A message in the sandbox left no machine, and a call that nobody
# answered proves nothing.
_METHODS = """
SELECT m.user_id, m.label, m.channel, m.address, m.verified_at IS NOT NULL AS has_code, arrived.at AS arrived_at
FROM people_contactmethod m
LEFT JOIN LATERAL (
    SELECT coalesce(d.delivered_at, d.sent_at) AS at
    FROM notify_notification n JOIN notify_delivery d ON d.notification_id = n.id
    WHERE n.user_id = m.user_id AND n.id >= %(oldest)s AND n.channel = m.channel AND n.address = m.address
        AND d.status IN ('sent', 'delivered') AND d.provider_name NOT IN ('', 'sandbox') AND d.receipt <> 'not_reached'
    ORDER BY n.id DESC LIMIT 1
) arrived ON true
WHERE m.user_id = ANY(%(users)s)
"""


def readiness_of_groups(
    connection: Connection, group_ids: Iterable[int], now: datetime, since: datetime, until: datetime
) -> dict[int, tuple[GroupPlan, tuple[ShiftReadiness, ...]]]:
    """Returns each group's snapshot and the readiness of its shifts from `since` until `until`, by group id."""
    plans = loader.plans(connection, group_ids, since)
    timelines = {group_id: final_schedule.timeline(plan, since, until) for group_id, plan in plans.items()}
    user_ids = {shift.user_id for timeline in timelines.values() for shift in timeline.segments}
    responders = load_responders(connection, user_ids, now)
    return {group_id: (plan, readiness(timelines[group_id], responders, now)) for group_id, plan in plans.items()}


def load_responders(connection: Connection, user_ids: Collection[int], now: datetime) -> dict[int, OnCallPerson]:
    """Returns the users with their contact methods and the state of each, by id."""
    if not user_ids:
        return {}
    states: dict[int, dict[str, MethodState]] = {}
    parameters = {"users": sorted(user_ids), "oldest": ids.first_uuid7(now - TEST_VALID_FOR)}
    for row in database.rows(connection, _METHODS, parameters):
        is_verified = row["has_code"] or not accepts_code(row["channel"], row["address"])
        states.setdefault(row["user_id"], {})[row["label"]] = MethodState(is_verified, row["arrived_at"])
    return {
        user_id: OnCallPerson(_with_valid_addresses(recipient), states.get(user_id, {}))
        for user_id, recipient in load_recipients(connection, user_ids).items()
    }


def _with_valid_addresses(recipient: Recipient) -> Recipient:
    """Returns the user with those contact methods disabled whose address no provider of today accepts."""
    return replace(
        recipient,
        methods=tuple(
            replace(method, is_enabled=method.is_enabled and address_problem(method.channel, method.address) is None)
            for method in recipient.methods
        ),
    )
