"""Parses a reply from the bytes of a mail: sender, references to Tocsin's mails, and new text. Pure.

Detects automatic mails: out-of-office replies, bounces, mailing lists. Never raises for any input.
"""

from __future__ import annotations

import hashlib
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email import message_from_bytes, message_from_string, policy
from email.errors import MessageError
from email.message import EmailMessage, Message
from email.utils import getaddresses
from functools import partial
from itertools import takewhile
from types import FrameType
from typing import Any
from uuid import UUID

import msgspec

from tocsin.alerts.states import CommandKind
from tocsin.core.reasons import NO_REASON, Reason, Text, sentence
from tocsin.core.runtime import child_process
from tocsin.core.validation.inputs import fold_login, sanitize
from tocsin.notify.text import formatting
from tocsin.notify.text.formatting import NUMBERS, ParsedCommand, Word
from tocsin.notify.text.signed_links import MessageReference, find_references

# ---------- quotes
# The library that recognises quotations uses regular expressions that take minutes for some texts. It gets two
# seconds; after that, the text before the first quoted line is used.


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
        lines = plain.split("\n")
        return "\n".join(takewhile(lambda line: not _QUOTE_START.match(line.lstrip()), lines))


def _parsed(plain: str) -> str:
    # Imported on demand: its expressions for a dozen languages are large.
    from mailparser_reply import EmailReplyParser

    parsed = EmailReplyParser(languages=_LANGUAGES).read(plain)
    latest = parsed.replies[0].body if parsed.replies else ""
    return "\n".join(line for line in str(latest).strip().split("\n") if not line.lstrip().startswith(">"))


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


# ---------- bounces
# Finds the bounced notification and the reason in a delivery status notification (RFC 3464). Pure.


MAX_REASON_CHARS = 200

#: Tocsin's Message-ID: the notification id, its signed reference and its number of alerts.
_ID = re.compile(r"([0-9a-f]{8}-[0-9a-f-]{27})\.([A-Za-z0-9_-]{20,80})\.[0-9]{1,3}@")


@dataclass(frozen=True, slots=True)
class Bounce:
    """A permanent delivery failure of one of Tocsin's mails."""

    notification: UUID
    #: The unverified signed reference.
    token: str
    #: The server's diagnostic on one line; may contain the address.
    reason: str


def parse_bounce(mail: EmailMessage) -> Bounce | None:
    """Returns the bounce if the report says that one of Tocsin's mails failed for good, not if it is only delayed."""
    if mail.get_content_type() != "multipart/report":
        return None
    reason, original = "", ""
    for part in mail.walk():
        match part.get_content_type():
            case "message/delivery-status":
                reason = reason or _failed(part)
            case "message/rfc822":
                original = original or _message_id(part.get_payload())
            case "text/rfc822-headers":
                original = original or _message_id(message_from_string(_text(part)))
    match = _ID.search(original)
    if not reason or match is None:
        return None
    try:
        return Bounce(UUID(match[1]), match[2], reason)
    except ValueError:
        return None


def _failed(part: Message) -> str:
    """Returns the reason of the first failed recipient; empty if none failed."""
    groups: Any = part.get_payload()
    for group in groups if isinstance(groups, list) else []:
        if str(group.get("Action", "")).strip().lower() == "failed":
            diagnostic = str(group.get("Diagnostic-Code", "")).partition(";")[2] or str(group.get("Status", ""))
            return formatting.one_line(sanitize(diagnostic), MAX_REASON_CHARS) or "no reason given"
    return ""


def _message_id(payload: object) -> str:
    inner = payload[0] if isinstance(payload, list) and payload else payload
    return str(inner.get("Message-ID", "")) if isinstance(inner, Message) else ""


def _text(part: Message) -> str:
    raw = part.get_payload(decode=True)
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""


MAX_TEXT_CHARS = 20_000

_SENT_TO = ("To", "Cc", "Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To")


_SENT_AUTOMATICALLY = Text("It was sent automatically ({header}).")
UNREADABLE = Text("It can't be parsed: it takes too much time or memory.")


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A parsed mail."""

    #: Identifies the mail, for deduplication.
    hash: str
    #: In lower case; empty if the mail does not have exactly one sender.
    sender: str
    subject: str
    references: tuple[MessageReference, ...]
    #: The new text, without quotations and signature.
    text: str
    #: The code and data of the reason why the mail was not written by a person; None otherwise.
    automatic: tuple[str, dict[str, str]] | None = None
    #: Set if the mail reports a bounce of one of Tocsin's mails.
    bounce: Bounce | None = None


def parse_reply(raw: bytes) -> ParsedReply:
    """Returns the parsed mail."""
    mail = message_from_bytes(raw, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    ids = f"{_header(mail, 'References')} {_header(mail, 'In-Reply-To')}"
    sent_to = [value for name in _SENT_TO for value in _headers(mail, name)]
    message_id = _header(mail, "Message-ID").strip()
    return ParsedReply(
        hash=hashlib.sha256(message_id.encode("utf-8", "replace") if message_id else raw).hexdigest(),
        sender=sanitize(_sender(mail)),
        subject=formatting.one_line(sanitize(_header(mail, "Subject")), 200),
        references=tuple(find_references(ids, sent_to)),
        text=sanitize(new_part(_text_of(mail))).strip()[:MAX_TEXT_CHARS],
        automatic=_columns(_ignore_errors(lambda: find_automatic_reason(mail), NO_REASON)),
        bounce=_ignore_errors(lambda: parse_bounce(mail), None),
    )


def _columns(reason: Reason) -> tuple[str, dict[str, str]] | None:
    return (reason.code, reason.data) if reason else None


def find_automatic_reason(mail: EmailMessage) -> Reason:
    """Returns why a mail is automatic, else `NO_REASON` (RFC 3834, 5, and older conventions)."""
    submitted = _header(mail, "Auto-Submitted").lower()
    if submitted and not submitted.startswith("no"):
        return _SENT_AUTOMATICALLY(header=f"Auto-Submitted: {submitted[:40]}")
    precedence = _header(mail, "Precedence").lower().strip()
    if precedence in ("bulk", "junk", "list", "auto_reply"):
        return _SENT_AUTOMATICALLY(header=f"Precedence: {precedence}")
    for name in ("X-Autoreply", "X-Autorespond", "X-Auto-Reply-From", "X-Mail-Autoreply", "X-Autogenerated"):
        if _header(mail, name):
            return _SENT_AUTOMATICALLY(header=name)
    if _header(mail, "List-Id") or _header(mail, "List-Unsubscribe"):
        return sentence("It came from a mailing list.")
    if mail.get_content_type() == "multipart/report" or _header(mail, "Return-Path").strip() == "<>":
        return sentence("It is a delivery report about another email.")
    if _sender(mail).partition("@")[0] in ("mailer-daemon", "postmaster", "noreply", "no-reply", "donotreply"):
        return sentence("It was sent automatically from a no-reply address.")
    subject = _header(mail, "Subject").strip().lower()
    if re.match(r"(auto(matic|matische)?[ -]?(reply|response|antwort)|out of (the )?office|abwesen)", subject):
        return sentence("It was sent automatically (by its subject).")
    return NO_REASON


def _text_of(mail: EmailMessage) -> str:
    """Returns the plain part, else the HTML part as text."""
    for kind, convert in (("plain", str), ("html", lambda text: formatting.plain(text, MAX_TEXT_CHARS))):
        part = _ignore_errors(partial(mail.get_body, (kind,)), None)
        if part is None:
            continue
        text = _ignore_errors(lambda part=part: str(part.get_content()), "")  # type: ignore[misc]
        if text.strip():
            return convert(text)
    return ""


def _sender(mail: EmailMessage) -> str:
    senders: list[tuple[str, str]] = _ignore_errors(lambda: getaddresses(_headers(mail, "From")), [])
    addresses = [address for _name, address in senders if "@" in address]
    return fold_login(addresses[0]) if len(addresses) == 1 else ""


def _header(mail: EmailMessage, name: str) -> str:
    return next(iter(_headers(mail, name)), "")


def _headers(mail: EmailMessage, name: str) -> list[str]:
    """Returns the values of a header; unreadable values count as absent."""
    values: list[object] = _ignore_errors(lambda: list(mail.get_all(name) or []), [])
    return [str(value) for value in values]


def _ignore_errors[T](operation: Callable[[], T], default: T) -> T:
    """Returns `default` on an error: Python's mail parser raises many undocumented ones for malformed mails."""
    try:
        return operation()
    except (MessageError, LookupError, ValueError, AttributeError, TypeError, AssertionError, RecursionError):
        return default


# ---------- command
# Parses the command in the new part of a mail. A command word alone on the first line acts; anything else is a reply
# on the alert. Pure.


#: A command word followed by nothing except alert numbers or "all": "Close the window in room 7" must close no alert.
#: The possessive quantifiers never backtrack, so that matching takes time linear in the line's length.
_ALONE = re.compile(rf"\W*+[^\W_]++[\s:,.#!]*+(?:{NUMBERS.pattern}|all)?+[\s.!]*", re.IGNORECASE)


def parse_command(text: str) -> ParsedCommand:
    """Returns the command in a mail's new part, or `Word.HELP`. An empty part is a reply without text."""
    first, *lines_below = text.split("\n", 1)
    parsed = formatting.parse_command(first.strip())
    if parsed.action is CommandKind.REPLY:
        return replace(parsed, text="\n".join([parsed.text, *lines_below]).strip())
    if _ALONE.fullmatch(first.strip()) and (parsed.action is Word.HELP or isinstance(parsed.action, CommandKind)):
        return parsed
    return ParsedCommand(CommandKind.REPLY, text=text)


# ---------- parse subprocess
# Parses all but the smallest mails in a sandboxed child process. Python's parser and the quotation library can fail or
# take minutes for some mails, and would block every thread meanwhile. Run as a module, this is the child process.


log = logging.getLogger(__name__)

#: In bytes. A mail of this size takes a few tenths of a second at worst.
_SMALL = 500
#: The child process's time limit.
_SECONDS = 8


def parse_in_subprocess(raw: bytes, *, seconds: int = _SECONDS) -> ParsedReply:
    """Like `parse_reply`. A mail that cannot be parsed within `seconds` is returned as automatic, with the reason."""
    try:
        if len(raw) <= _SMALL:
            return parse_reply(raw)
        return msgspec.json.decode(child_process.run(__name__, raw, seconds=seconds), type=ParsedReply)
    except child_process.ResourceLimitExceeded:
        pass
    except (RuntimeError, OSError, msgspec.MsgspecError) as error:
        log.warning("A mail cannot be read as an answer: %s", error)
    return ParsedReply(hashlib.sha256(raw).hexdigest(), "", "", (), "", _columns(UNREADABLE()))


def main() -> None:
    """Parses a mail from standard input and writes the result to standard output as JSON."""
    child_process.limit_resources()
    sys.stdout.buffer.write(msgspec.json.encode(parse_reply(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
