"""Decompresses request bodies by `Content-Encoding` (RFC 9110, 8.4.1): gzip and deflate. Pure.

The output never exceeds `most` bytes, however small the input.
"""

from __future__ import annotations

import zlib
from typing import Final

from tocsin.core.errors import Rejected

#: zlib's `wbits` by encoding. "deflate" means the zlib format, but some senders omit its header.
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15

_FORMS: Final = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _RAW)}

#: The maximum number of gzip members. The data after each is copied, so a huge number of members would take minutes.
MAX_MEMBERS: Final = 1_000

#: Encodings that mean uncompressed.
_NONE: Final = frozenset({"", "identity"})


def is_compressed(encoding: str) -> bool:
    """Returns whether a `Content-Encoding` requires decompression."""
    return encoding.strip().lower() not in _NONE


def decompress(body: bytes, encoding: str, most: int) -> bytes:
    """Returns the decompressed body.

    Raises Rejected: `unknown_encoding`, `invalid_encoding` for invalid or truncated data, `too_large` for more than
    `most` bytes.
    """
    name = encoding.strip().lower()
    forms = _FORMS.get(name)
    if forms is None:
        detail = f"The Content-Encoding “{encoding.strip()[:40]}” is not known here. Send gzip, deflate or none."
        raise Rejected("unknown_encoding", detail)
    for form in forms:
        try:
            return _inflated(body, form, most)
        except zlib.error:
            continue
    raise Rejected("invalid_encoding", f"The Content-Encoding says {name}, but the body is not, or ends too soon.")


def _inflated(body: bytes, form: int, most: int) -> bytes:
    """Decompresses, for gzip with several members. Raises zlib.error; Rejected for more than `most` bytes."""
    found = bytearray()
    for _ in range(MAX_MEMBERS):
        stream = zlib.decompressobj(form)
        found += stream.decompress(body, most + 1 - len(found))
        if len(found) > most:
            raise Rejected("too_large", f"A body has at most {most // 2**20} MiB, unpacked too.")
        if not stream.eof:
            raise zlib.error("it ends too soon")
        body = stream.unused_data.lstrip(b"\0")
        if not body:
            return bytes(found)
        if form != _GZIP:
            raise zlib.error("something comes after its end")
    raise Rejected("invalid_encoding", f"The gzip has more than {MAX_MEMBERS:,} members.")
