"""Generates identifiers: time-ordered UUIDs and secret tokens. Also hashes tokens and dedup keys for storage."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

_lock = threading.Lock()
_time_ns = time.time_ns
_last = 0
#: Unused 64-bit random numbers, fetched in advance.
_random: list[int] = []
# A forked process must not reuse random numbers of its parent.
os.register_at_fork(after_in_child=_random.clear)


def uuid7() -> UUID:
    """Returns a UUIDv7 (RFC 9562, section 5.7) greater than every other that this process has generated.

    Its layout is 48 bits of Unix milliseconds, a 12-bit fraction of the millisecond (section 6.2, method 3), and 62
    random bits. Python 3.12 and PostgreSQL 15 have no generator of their own.
    """
    global _last
    with _lock:
        stamp = max(_time_ns() * 4096 // 1_000_000, _last + 1)
        _last = stamp
        if not _random:
            # Each system call releases the interpreter to other threads, so random numbers are fetched in bulk.
            _random.extend(struct.unpack("512Q", os.urandom(8 * 512)))
        random = _random.pop() & 0x3FFF_FFFF_FFFF_FFFF
    value = ((stamp >> 12) << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | (0b10 << 62) | random
    return UUID(int=value)


@contextmanager
def uuid7_clock(now: Callable[[], datetime]) -> Iterator[None]:
    """Has `uuid7` read another clock, for rows of the past that are written now. No other thread may need current ones
    meanwhile."""
    global _time_ns, _last
    real, newest = _time_ns, _last
    _time_ns, _last = (lambda: int(now().timestamp() * 1_000_000) * 1000), 0
    try:
        yield
    finally:
        _time_ns, _last = real, max(_last, newest)


def first_uuid7(at: datetime) -> UUID:
    """Returns the smallest UUIDv7 for the moment `at`. No UUIDv7 generated from then on is smaller."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 0b10 << 62)


def token() -> str:
    """Returns a new 128-bit secret as 32 lower-case hex characters."""
    return secrets.token_hex(16)


def token_hash(text: str) -> bytes:
    """Returns the SHA-256 (32 bytes) stored in place of a token. Tokens are random, so no slow hash is needed."""
    return hashlib.sha256(text.encode()).digest()


def key_hash(dedup_key: str) -> bytes:
    """Returns the SHA-256 (32 bytes) by which a dedup key is indexed. Lone surrogates are encoded, and never raise."""
    return hashlib.sha256(dedup_key.encode("utf-8", "surrogatepass")).digest()


def advisory_lock_key(hashed: bytes) -> int:
    """Returns the signed 64-bit key for `pg_advisory_xact_lock`: the first 8 bytes of the hash."""
    return int.from_bytes(hashed[:8], signed=True)
