"""Checks whether stored data still needs an older secret key."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.core.config import crypto
from tocsin.core.db.database import Connection
from tocsin.operate.encryption import rotation
from tocsin.operate.finding import HealthFinding, note


def check(connection: Connection) -> Iterator[HealthFinding]:
    """With several keys: reports what still needs older ones, and nodes without the newest one."""
    if len(crypto.keys()) < 2:
        return
    for name in rotation.nodes_without_newest_key(connection):
        yield HealthFinding(
            "secrets.node_without_key",
            f"The node {name} does not know the newest secret key.",
            "Start it again with that key in front of the others.",
            about=name,
        )
    remaining = rotation.count(connection)
    if remaining.old:
        yield note("secrets.old_key", f"Stored under an older secret key: {remaining}.", "Run `tocsin keys rotate`.")
    else:
        yield note(
            "secrets.old_key_unused",
            "Nothing stored needs an older secret key.",
            "Retire it when the links of pages that were sent before are a week old, or at once if it has leaked.",
        )
