"""What is new in a mail: its text without what it answers to, and without a signature.

The library that knows how mail programs write does so by expressions that take minutes for some texts, and hold up
every thread meanwhile. So all but short texts are read in a process of its own; run as a module this is that process.
"""

from __future__ import annotations

import logging
import re
import sys

from tocsin.core import apart

log = logging.getLogger(__name__)

#: Languages in which the library knows how mail programs introduce a quotation.
_LANGUAGES = ["en", "de", "fr", "it", "es", "nl", "pl", "da", "sv", "no", "cs", "pt"]

#: A text of so many characters takes a tenth of a second at worst.
_SHORT = 250
#: A longer one is read for so many seconds, and so much of it.
_SECONDS = 3
_LONGEST = 50_000

#: Where a quotation begins, as far as that can be told by a line alone.
_BEGINS = re.compile(r">|-{5,}|_{20,}|-- $")


def new_part(text: str, *, seconds: int = _SECONDS) -> str:
    """What its writer wrote. Where that would take too long, all that stands before the first quoted line."""
    plain = text.replace("\r\n", "\n")[:_LONGEST]
    if len(plain) <= _SHORT:
        return _parsed(plain)
    try:
        return apart.run(__name__, plain.encode("utf-8", "replace"), seconds=seconds).decode("utf-8", "replace")
    except apart.TooMuch:
        return _before_quotation(plain)
    except (RuntimeError, OSError) as error:
        log.warning("What is new in a mail is told by its lines alone: %s", error)
        return _before_quotation(plain)


def _parsed(plain: str) -> str:
    # Loaded where a mail is read: its expressions for a dozen languages are large.
    from mailparser_reply import EmailReplyParser

    parsed = EmailReplyParser(languages=_LANGUAGES).read(plain)
    latest = parsed.replies[0].body if parsed.replies else ""
    return "\n".join(line for line in str(latest).strip().split("\n") if not line.lstrip().startswith(">"))


def _before_quotation(plain: str) -> str:
    lines: list[str] = []
    for line in plain.split("\n"):
        if _BEGINS.match(line.lstrip()):
            break
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Reads a text from standard input, and writes what is new in it to standard output."""
    apart.limit()
    sys.stdout.buffer.write(_parsed(sys.stdin.buffer.read().decode("utf-8", "replace")).encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
