"""Opt-outs (STOP and START) of addresses, as reported by their owners or vendors. Runs inside the caller's transaction.

An opt-out applies to the number on the channel for all providers: nobody gets texts against their will.
"""

from __future__ import annotations

from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import ReasonType

OPTED_IN = ReasonType("opt_out.ended", "You will receive text messages from Tocsin again.")


def opt_out(connection: Connection, channel: str, address: str, provider: str, now: datetime) -> None:
    """Stops all messages to the address on the channel."""
    connection.execute(
        "INSERT INTO notify_optout (channel, address, provider_name, at) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (channel, address) DO NOTHING",
        (channel, address, provider, now),
    )


def opt_in(connection: Connection, channel: str, address: str) -> bool:
    """Allows messages to the address again. Returns whether they were stopped."""
    return (
        connection.execute("DELETE FROM notify_optout WHERE channel = %s AND address = %s", (channel, address)).rowcount
        > 0
    )


def opted_out(connection: Connection) -> list[tuple[int, str, str, datetime]]:
    """Returns the active users with an opted-out contact method: user id, name, label of the contact method, and time
    of the opt-out.
    """
    rows = database.rows(
        connection,
        "SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, m.label, o.at FROM notify_optout o "
        "JOIN people_contactmethod m ON m.channel = o.channel AND m.address = o.address AND m.is_enabled "
        "JOIN people_user u ON u.id = m.user_id AND u.is_active ORDER BY name, m.label",
    )
    return [(row["id"], row["name"], row["label"], row["at"]) for row in rows]
