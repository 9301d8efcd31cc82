"""Compression of stored message bodies: small bodies are stored as they are, larger ones compressed. Pure, lossless.

A body of 30 kB is written several times until it is on disk (WAL, table, full-page image). Compressed, it is a fifth:
compressing costs less than those writes, and five times as many messages fit into the same space.
"""

from __future__ import annotations

import zlib
from typing import Final

#: Prefix of a compressed body; zlib data (RFC 1950) follows. A raw body with this prefix is always compressed.
COMPRESSED_PREFIX: Final = b"\x00tz\x01"

#: Smaller bodies fit inline in their row; larger ones, mostly e-mails with attachments, take long to compress and
#: hardly shrink.
MIN_COMPRESSED_BYTES: Final = 4 * 1024
MAX_COMPRESSED_BYTES: Final = 256 * 1024

#: The limit for decompressed bodies in bytes. Data that exceeds it was not compressed by Tocsin and is returned as is:
#: a sender must not choose how much memory is used.
MAX_DECOMPRESSED_BYTES: Final = 32 * 1024 * 1024

#: The fastest level: level 2 saves a few per cent more in half as much time again.
_LEVEL: Final = 1


def compress(body: bytes, *, is_pending: bool = False) -> bytes:
    """Returns the stored form of a body.

    The body of a message that `is_pending` (Pending) may be read by any node, including one of an older version without
    compression: it is stored as it is, unless it would be mistaken for a compressed one.
    """
    has_prefix = body.startswith(COMPRESSED_PREFIX)
    if not has_prefix and (is_pending or not MIN_COMPRESSED_BYTES <= len(body) <= MAX_COMPRESSED_BYTES):
        return body
    compressed = COMPRESSED_PREFIX + zlib.compress(body, _LEVEL)
    return compressed if has_prefix or len(compressed) < len(body) else body


def decompress(stored: bytes) -> bytes:
    """Returns the original body. Data that only looks compressed is returned unchanged."""
    if not stored.startswith(COMPRESSED_PREFIX):
        return stored
    decompressor = zlib.decompressobj()
    try:
        body = decompressor.decompress(stored[len(COMPRESSED_PREFIX) :], MAX_DECOMPRESSED_BYTES + 1)
    except zlib.error:
        return stored
    return body if decompressor.eof and not decompressor.unused_data and len(body) <= MAX_DECOMPRESSED_BYTES else stored
