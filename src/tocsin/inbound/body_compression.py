"""Compression of stored message bodies: small bodies are stored as they are, larger ones compressed. Pure, lossless.

A body of 30 kB is written several times until it is on disk (WAL, table, full-page image). Compressed, it is a fifth:
compressing costs less than those writes, and five times as many messages fit into the same space.
"""

from __future__ import annotations

import zlib
from typing import Final

#: Prefix of a compressed body; zlib data (RFC 1950) follows. A raw body with this prefix is always compressed.
MARK: Final = b"\x00tz\x01"

#: Smaller bodies fit inline in their row; larger ones, mostly e-mails with attachments, take long to compress and
#: hardly shrink.
PACKED_FROM: Final = 4 * 1024
PACKED_TO: Final = 256 * 1024

#: The limit for decompressed bodies in bytes. Data that exceeds it was not compressed by Tocsin and is returned as is:
#: a sender must not choose how much memory is used.
MAX_UNPACKED_BYTES: Final = 32 * 1024 * 1024

#: The fastest level: level 2 saves a few per cent more in half as much time again.
_LEVEL: Final = 1


def compress(body: bytes, *, is_waiting: bool = False) -> bytes:
    """Returns the stored form of a body.

    The body of a message that `is_waiting` (Pending) may be read by any node, including one of an older version without
    compression: it is stored as it is, unless it would be mistaken for a compressed one.
    """
    is_marked = body.startswith(MARK)
    if not is_marked and (is_waiting or not PACKED_FROM <= len(body) <= PACKED_TO):
        return body
    packed = MARK + zlib.compress(body, _LEVEL)
    return packed if is_marked or len(packed) < len(body) else body


def decompress(stored: bytes) -> bytes:
    """Returns the original body. Data that only looks compressed is returned unchanged."""
    if not stored.startswith(MARK):
        return stored
    packed = zlib.decompressobj()
    try:
        body = packed.decompress(stored[len(MARK) :], MAX_UNPACKED_BYTES + 1)
    except zlib.error:
        return stored
    return body if packed.eof and not packed.unused_data and len(body) <= MAX_UNPACKED_BYTES else stored
