"""What is new in a mail: its text without what it answers to, and without a signature.

The library that knows how mail programs write does so by expressions that take minutes for some texts; it is given two
seconds, and then what stands before the first quoted line is what is new.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Languages in which the library knows how mail programs introduce a quotation.
_LANGUAGES = ["en", "de", "fr", "it", "es", "nl", "pl", "da", "sv", "no", "cs", "pt"]

#: So much of a text is read, for so many seconds of work.
_MAX_TEXT_CHARS = 50_000
SECONDS = 2.0

#: Where a quotation begins, as far as that can be told by a line alone.
_BEGINS = re.compile(r">|-{5,}|_{20,}|-- $")


def new_part(text: str, *, seconds: float = SECONDS) -> str:
    """What its writer wrote. Where that takes too long, all that stands before the first quoted line.

    The time is kept in a process's first thread only: give what a stranger wrote to a process of its own.
    """
    plain = text.replace("\r\n", "\n")[:_MAX_TEXT_CHARS]
    try:
        with _within(seconds):
            return _parsed(plain)
    except TimeoutError:
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


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError after so much work: Python's expressions look for signals now and then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
