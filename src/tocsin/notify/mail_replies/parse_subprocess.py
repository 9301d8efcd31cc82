"""Reads a mail in a process of its own, as all but the smallest are: Python's parser and the library that knows
quotations take minutes for some mails, or fail, and hold up every thread meanwhile. As a module it is that process."""

from __future__ import annotations

import hashlib
import logging
import sys

import msgspec

from tocsin.core.runtime import sandboxed_process
from tocsin.notify.mail_replies import parse
from tocsin.notify.mail_replies.parse import ParsedReply

log = logging.getLogger(__name__)

#: A mail of so many bytes takes a few tenths of a second at worst.
_SMALL = 500
#: It may work for so many seconds.
_SECONDS = 8


def read(raw: bytes, *, seconds: int = _SECONDS) -> ParsedReply:
    """As `reading.read`. A mail that cannot be read in so many seconds is nobody's answer, and says so."""
    try:
        if len(raw) <= _SMALL:
            return parse.read(raw)
        return msgspec.json.decode(sandboxed_process.run(__name__, raw, seconds=seconds), type=ParsedReply)
    except sandboxed_process.ResourceLimitExceeded:
        pass
    except (RuntimeError, OSError, msgspec.MsgspecError) as error:
        log.warning("A mail cannot be read as an answer: %s", error)
    return ParsedReply(
        hash=hashlib.sha256(raw).hexdigest(),
        sender="",
        subject="",
        references=(),
        text="",
        automatic="cannot be read: it takes too long, or too much memory.",
    )


def main() -> None:
    """Reads a mail from standard input, and writes what it says to standard output."""
    sandboxed_process.limit()
    sys.stdout.buffer.write(msgspec.json.encode(parse.read(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
