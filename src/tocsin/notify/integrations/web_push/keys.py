"""The key pair that identifies this installation to push services (VAPID, RFC 8292). Created once, stored encrypted.

Browsers bind a subscription to the public key, so the key pair is never replaced: all devices would have to subscribe
again.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tocsin.core.config import crypto
from tocsin.core.db import database
from tocsin.core.db.database import Connection


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both in base64url without padding: the uncompressed point, and the private number."""

    public: str
    private: str = field(repr=False)


def pair(now: datetime) -> KeyPair:
    """Returns the installation's key pair and creates it on first use; concurrent first uses get the same pair. Raises
    Permanent if no known secret key decrypts it.
    """
    row = _row(now)
    return KeyPair(row["public"], crypto.decrypt(row["private"]))


def check() -> None:
    """Raises Permanent if the key pair exists and no known secret key decrypts it. Writes nothing."""
    with database.transaction() as connection:
        row = _stored(connection)
    if row is not None:
        crypto.decrypt(row["private"])


def public(now: datetime) -> str:
    """Returns the public key, which browsers subscribe with. It is not secret and is available even if the secret key
    is lost.
    """
    return str(_row(now)["public"])


def _row(now: datetime) -> dict[str, Any]:
    with database.transaction() as connection:
        row = _stored(connection)
        if row is None:
            _store(connection, _generate(), now)
            row = _stored(connection)
    assert row is not None
    return row


def _stored(connection: Connection) -> dict[str, Any] | None:
    return database.row(connection, "SELECT public, private FROM notify_pushkey WHERE id = 1")


def _store(connection: Connection, key_pair: KeyPair, now: datetime) -> None:
    connection.execute(
        "INSERT INTO notify_pushkey (id, public, private, created_at) VALUES (1, %s, %s, %s) ON CONFLICT DO NOTHING",
        (key_pair.public, crypto.encrypt(key_pair.private), now),
    )


def _generate() -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return KeyPair(_text(point), _text(key.private_numbers().private_value.to_bytes(32)))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
