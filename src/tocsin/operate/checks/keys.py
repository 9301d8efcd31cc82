"""Checks whether stored data still needs an older secret key."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.core.config import crypto
from tocsin.core.db.database import Connection
from tocsin.core.reasons import ReasonType
from tocsin.operate.encryption import rotation
from tocsin.operate.finding import HealthFinding, note

_NODE_WITHOUT_KEY = ReasonType("health.node_without_key", "Node {node} does not have the newest secret key.")
_NODE_WITHOUT_KEY_REMEDY = ReasonType(
    "health.node_without_key_remedy", "Restart it with that key first in TOCSIN_SECRET_KEY."
)
_OLD_KEY = ReasonType("health.old_key", "Still encrypted with an older secret key: {values}.")
_OLD_KEY_REMEDY = ReasonType("health.old_key_remedy", "Run `tocsin keys rotate`.")
_UNUSED = ReasonType("health.old_key_unused", "No stored data uses an older secret key.")
_UNUSED_REMEDY = ReasonType(
    "health.old_key_unused_remedy",
    "Remove it once links in earlier pages have expired (7 days), or immediately if it was leaked.",
)


def check(connection: Connection) -> Iterator[HealthFinding]:
    """With several keys: reports what still needs older ones, and nodes without the newest one."""
    if len(crypto.keys()) < 2:
        return
    for name in rotation.nodes_without_newest_key(connection):
        yield HealthFinding(
            "secrets.node_without_key",
            _NODE_WITHOUT_KEY(node=name),
            _NODE_WITHOUT_KEY_REMEDY(),
            about=name,
        )
    remaining = rotation.count(connection)
    if remaining.old:
        yield note("secrets.old_key", _OLD_KEY(values=remaining.old_values), _OLD_KEY_REMEDY())
    else:
        yield note("secrets.old_key_unused", _UNUSED(), _UNUSED_REMEDY())
