"""A request's body without the compression that its `Content-Encoding` names (RFC 9110, 8.4.1): gzip and deflate. Pure.

However little a body says that it is, never more than `most` bytes come out of it.
"""

from __future__ import annotations

import zlib
from typing import Final

from tocsin.core.errors import Rejected

#: By name, with what zlib calls the form. "deflate" is zlib's form; some senders leave its frame away.
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15

_FORMS: Final = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _RAW)}

#: A gzip may have so many members. What is behind each is copied, so very many of them would take minutes.
MAX_MEMBERS: Final = 1_000

#: What says that a body is as it is.
_NONE: Final = frozenset({"", "identity"})


def is_packed(encoding: str) -> bool:
    """Whether a `Content-Encoding` says that the body has to be unpacked."""
    return encoding.strip().lower() not in _NONE


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """The body as its sender had it.

    Raises Rejected: `unknown_encoding`, `invalid_encoding` for bytes that are not in that form or end too soon, and
    `too_large` for more than `most` bytes.
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
    """Raises zlib.error; Rejected for more than `most` bytes. A gzip may have several members, one after the other."""
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
