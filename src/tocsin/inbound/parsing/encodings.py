"""Decompresses request bodies by `Content-Encoding` (RFC 9110, 8.4.1): gzip and deflate. Pure.

The output never exceeds `max_bytes` bytes, however small the input.
"""

from __future__ import annotations

import zlib
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_UNKNOWN_ENCODING = ReasonType(
    "body.unknown_encoding", "The Content-Encoding “{encoding}” is not supported. Send gzip, deflate or none."
)
_INVALID_ENCODING = ReasonType("body.invalid_encoding", "The body is not valid {encoding}, or is truncated.")
_TOO_LARGE = ReasonType("body.too_large_decompressed", "The body exceeds {maximum} MiB, compressed or decompressed.")
_TOO_MANY_MEMBERS = ReasonType("body.too_many_gzip_members", "The gzip has more than {maximum} members.")

#: zlib's `wbits` by encoding. "deflate" means the zlib format, but some senders omit its header.
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15

_WBITS: Final = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _RAW)}

#: The maximum number of gzip members. The data after each is copied, so a huge number of members would take minutes.
MAX_MEMBERS: Final = 1_000

#: Encodings that mean uncompressed.
_UNCOMPRESSED: Final = frozenset({"", "identity"})


def is_compressed(encoding: str) -> bool:
    """Returns whether a `Content-Encoding` requires decompression."""
    return encoding.strip().lower() not in _UNCOMPRESSED


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Returns the decompressed body.

    Raises Rejected: `unknown_encoding`, `invalid_encoding` for invalid or truncated data, `too_large` for more than
    `max_bytes` bytes.
    """
    name = encoding.strip().lower()
    wbits_options = _WBITS.get(name)
    if wbits_options is None:
        raise Rejected("unknown_encoding", _UNKNOWN_ENCODING(encoding=encoding.strip()[:40]))
    for wbits in wbits_options:
        try:
            return _inflate(body, wbits, max_bytes)
        except zlib.error:
            continue
    raise Rejected("invalid_encoding", _INVALID_ENCODING(encoding=name))


def _inflate(body: bytes, wbits: int, max_bytes: int) -> bytes:
    """Decompresses, for gzip with several members. Raises zlib.error; Rejected for more than `max_bytes` bytes."""
    output = bytearray()
    for _ in range(MAX_MEMBERS):
        stream = zlib.decompressobj(wbits)
        output += stream.decompress(body, max_bytes + 1 - len(output))
        if len(output) > max_bytes:
            raise Rejected("too_large", _TOO_LARGE(maximum=max_bytes // 2**20))
        if not stream.eof:
            raise zlib.error("it ends too soon")
        body = stream.unused_data.lstrip(b"\0")
        if not body:
            return bytes(output)
        if wbits != _GZIP:
            raise zlib.error("something comes after its end")
    raise Rejected("invalid_encoding", _TOO_MANY_MEMBERS(maximum=MAX_MEMBERS))
