"""Identifiers made by Tocsin: time-ordered UUIDs and secret tokens."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import threading
import time
from datetime import datetime
from uuid import UUID

_lock = threading.Lock()
_last = 0
#: Random numbers of 64 bits that were fetched and not used yet.
_random: list[int] = []
# A forked process must not use what its parent uses too.
os.register_at_fork(after_in_child=_random.clear)


def uuid7() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7) that is greater than every one this process made before.

    48 bits of Unix milliseconds, then a 12-bit fraction of the millisecond (method 3 of section 6.2), then 62 random
    bits. Python 3.12 and PostgreSQL 15 have none of their own.
    """
    global _last
    with _lock:
        stamp = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        _last = stamp
        if not _random:
            # A call to the system gives up the interpreter to other threads, so not one for each id.
            _random.extend(struct.unpack("512Q", os.urandom(8 * 512)))
        random = _random.pop() & 0x3FFF_FFFF_FFFF_FFFF
    value = ((stamp >> 12) << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | (0b10 << 62) | random
    return UUID(int=value)


def first_uuid7(at: datetime) -> UUID:
    """The smallest UUIDv7 of that moment: what was made from then on is not smaller."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 0b10 << 62)


def token() -> str:
    """A new secret of 128 bits: 32 lower-case hex characters."""
    return secrets.token_hex(16)


def token_hash(text: str) -> bytes:
    """What is stored of a token: its SHA-256 (32 bytes). Tokens are random, so no slow hash is needed."""
    return hashlib.sha256(text.encode()).digest()


def key_hash(dedup_key: str) -> bytes:
    """What a dedup key is indexed by: its SHA-256 (32 bytes). Lone surrogates are kept apart, never an error."""
    return hashlib.sha256(dedup_key.encode("utf-8", "surrogatepass")).digest()


def lock_number(hashed: bytes) -> int:
    """The signed 64-bit number under which `pg_advisory_xact_lock` guards a key: the first 8 bytes of its hash."""
    return int.from_bytes(hashed[:8], signed=True)
