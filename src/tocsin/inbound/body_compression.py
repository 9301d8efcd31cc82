"""Bodies of messages as they are kept: small ones as they came, larger ones packed. Pure, and without any loss.

A body of 30 kB is written several times before it is on the disk (log, table, a page for it). Packed it is a fifth,
which costs less than writing it does, and leaves room for five times as many within the same limit of size.
"""

from __future__ import annotations

import zlib
from typing import Final

#: What a packed body begins with; the rest is zlib's (RFC 1950). A body that begins with it by itself is always packed.
MARK: Final = b"\x00tz\x01"

#: Smaller ones fit beside the other columns of their row; larger ones, mails with attachments mostly, take long and
#: become hardly smaller.
PACKED_FROM: Final = 4 * 1024
PACKED_TO: Final = 256 * 1024

#: No body is larger than this in bytes, whatever brought it: what would become so was not packed here. Whoever sends
#: something must not choose how much memory it takes.
MAX_UNPACKED_BYTES: Final = 32 * 1024 * 1024

#: Of the levels the quickest: the second saves a few per cent more in half as much time again.
_LEVEL: Final = 1


def kept(body: bytes, *, is_waiting: bool = False) -> bytes:
    """What is stored of a body.

    One that `is_waiting` is read again by whichever node decides it, also one that knows no packed bodies yet: it
    stands as it came, unless it would be taken for a packed one then.
    """
    is_marked = body.startswith(MARK)
    if not is_marked and (is_waiting or not PACKED_FROM <= len(body) <= PACKED_TO):
        return body
    packed = MARK + zlib.compress(body, _LEVEL)
    return packed if is_marked or len(packed) < len(body) else body


def body_of(stored: bytes) -> bytes:
    """The body of which this was stored, as it came. What only looks as if it were packed is taken as it is."""
    if not stored.startswith(MARK):
        return stored
    packed = zlib.decompressobj()
    try:
        body = packed.decompress(stored[len(MARK) :], MAX_UNPACKED_BYTES + 1)
    except zlib.error:
        return stored
    return body if packed.eof and not packed.unused_data and len(body) <= MAX_UNPACKED_BYTES else stored
