"""Extracts the new text of a mail, without quotations and signature.

The library that recognises quotations uses regular expressions that take minutes for some texts. It gets two seconds;
after that, the text before the first quoted line is used.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: The languages in which the library recognises the introduction of a quotation.
_LANGUAGES = ["en", "de", "fr", "it", "es", "nl", "pl", "da", "sv", "no", "cs", "pt"]

#: The maximum length of text that is parsed, and the time limit in seconds.
_MAX_TEXT_CHARS = 50_000
SECONDS = 2.0

#: The first line of a quotation, as far as a single line can show it.
_QUOTE_START = re.compile(r">|-{5,}|_{20,}|-- $")


def new_part(text: str, *, seconds: float = SECONDS) -> str:
    """Returns the sender's own text. If parsing takes longer than `seconds`, returns everything before the first quoted
    line.

    The time limit works only in a process's main thread: parse untrusted text in a child process.
    """
    plain = text.replace("\r\n", "\n")[:_MAX_TEXT_CHARS]
    try:
        with _within(seconds):
            return _parsed(plain)
    except TimeoutError:
        return _before_quotation(plain)


def _parsed(plain: str) -> str:
    # Imported on demand: its expressions for a dozen languages are large.
    from mailparser_reply import EmailReplyParser

    parsed = EmailReplyParser(languages=_LANGUAGES).read(plain)
    latest = parsed.replies[0].body if parsed.replies else ""
    return "\n".join(line for line in str(latest).strip().split("\n") if not line.lstrip().startswith(">"))


def _before_quotation(plain: str) -> str:
    lines: list[str] = []
    for line in plain.split("\n"):
        if _QUOTE_START.match(line.lstrip()):
            break
        lines.append(line)
    return "\n".join(lines)


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError after this much CPU time. Python's regular expression engine checks for signals regularly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_timeout(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous_handler = signal.signal(signal.SIGVTALRM, on_timeout)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous_handler)
