"""Parses all but the smallest mails in a sandboxed child process. Python's parser and the quotation library can fail or
take minutes for some mails, and would block every thread meanwhile. Run as a module, this is the child process.
"""

from __future__ import annotations

import hashlib
import logging
import sys

import msgspec

from tocsin.core.runtime import child_process
from tocsin.notify.mail_replies import parse
from tocsin.notify.mail_replies.parse import ParsedReply

log = logging.getLogger(__name__)

#: In bytes. A mail of this size takes a few tenths of a second at worst.
_SMALL = 500
#: The child process's time limit.
_SECONDS = 8


def parse_reply(raw: bytes, *, seconds: int = _SECONDS) -> ParsedReply:
    """Like `parse.read`. A mail that cannot be parsed within `seconds` is returned as automatic, with the reason."""
    try:
        if len(raw) <= _SMALL:
            return parse.parse_reply(raw)
        return msgspec.json.decode(child_process.run(__name__, raw, seconds=seconds), type=ParsedReply)
    except child_process.ResourceLimitExceeded:
        pass
    except (RuntimeError, OSError, msgspec.MsgspecError) as error:
        log.warning("A mail cannot be read as an answer: %s", error)
    return ParsedReply(
        hash=hashlib.sha256(raw).hexdigest(),
        sender="",
        subject="",
        references=(),
        text="",
        automatic=parse.automatic_columns(parse.UNREADABLE()),
    )


def main() -> None:
    """Parses a mail from standard input and writes the result to standard output as JSON."""
    child_process.limit_resources()
    sys.stdout.buffer.write(msgspec.json.encode(parse.parse_reply(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
