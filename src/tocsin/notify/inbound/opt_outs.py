"""STOP and START: addresses that want no text messages, as their owners or vendors say. Works in the transaction given.

An opt-out holds for the number on the channel, whichever provider heard it: nobody is texted against their word.
"""

from __future__ import annotations

from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection

START_ANSWER = "You get text messages from Tocsin again."


def opt_out(connection: Connection, channel: str, address: str, provider: str, now: datetime) -> None:
    """Nothing is sent there any more."""
    connection.execute(
        "INSERT INTO notify_optout (channel, address, provider_name, at) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (channel, address) DO NOTHING",
        (channel, address, provider, now),
    )


def opt_in(connection: Connection, channel: str, address: str) -> bool:
    """Messages are sent there again; whether they were not."""
    return (
        connection.execute("DELETE FROM notify_optout WHERE channel = %s AND address = %s", (channel, address)).rowcount
        > 0
    )


def opted_out(connection: Connection) -> list[tuple[int, str, str, datetime]]:
    """The active people whom this makes harder to reach: user id, name, label of the contact method, since when."""
    found = database.rows(
        connection,
        "SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, m.label, o.at FROM notify_optout o "
        "JOIN people_contactmethod m ON m.channel = o.channel AND m.address = o.address AND m.is_enabled "
        "JOIN people_user u ON u.id = m.user_id AND u.is_active ORDER BY name, m.label",
    )
    return [(row["id"], row["name"], row["label"], row["at"]) for row in found]
