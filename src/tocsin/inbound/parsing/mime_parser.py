"""Parses an e-mail (RFC 5322, MIME) to an object: subject, addresses, text, headers, and links to attachments. Pure.

Bounded in time and memory: parts, nesting, lines and texts have limits, and archives are not unpacked. Adds the reason
why an e-mail that could cause a mail loop is ignored.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType
from tocsin.notify.text import formatting

MEDIA_TYPE: Final = "message/rfc822"

_UNPARSABLE = ReasonType("mail.unparsable", "The email cannot be parsed ({error}).")
_TOO_LARGE = ReasonType("mail.too_large", "The email is too large.")
_TOO_MANY_BOUNDARIES = ReasonType(
    "mail.too_many_boundaries", "The email has more than {maximum} levels or groups of parts."
)
_TOO_MANY_LINES = ReasonType("mail.too_many_lines", "The email has more than {maximum} lines.")
_NO_HEADERS = ReasonType("mail.no_headers", "The email has no header lines.")
_TOO_MANY_PARTS = ReasonType("mail.too_many_parts", "The email has more than {maximum} parts.")


class LoopCause(StrEnum):
    """Why an email must not open an alert: the values of its field `loop`, which the kind's rules compare."""

    OWN_MAIL = "own_mail"
    AUTOMATIC_REPLY = "automatic_reply"
    BOUNCE = "bounce"
    MAIL_LOOP = "mail_loop"


#: E-mails above MAX_KEPT bytes are stored without their attachments; those above MAX_BYTES are refused.
MAX_STORED_BYTES: Final = 5 * 1024 * 1024
MAX_BYTES: Final = 25 * 1024 * 1024

MAX_BOUNDARIES: Final = 20
MAX_PARTS: Final = 200
MAX_LINES: Final = 200_000
MAX_TEXT: Final = 200_000
MAX_ATTACHMENTS: Final = 50
#: More Received headers than this indicate a mail loop; ordinary e-mails have five to ten.
MAX_HOPS: Final = 25

#: A header that Tocsin adds to the stored e-mail: the URL of its attachments.
ATTACHMENTS_HEADER: Final = "X-Tocsin-Attachments"

#: How Tocsin's own e-mails are recognised, by a header and in the subject.
_TOCSIN_HEADER: Final = "x-tocsin-alert"
_TOCSIN_SUBJECT: Final = re.compile(r"\(Tocsin #\d+\)")

#: Local parts that mail servers send from; a bounce may have none.
_SERVERS: Final = frozenset({"", "mailer-daemon", "postmaster"})

#: Headers available to mappings, besides those with a field of their own.
_HEADERS: Final = (
    "auto-submitted", "cc", "in-reply-to", "importance", "list-id", "message-id", "precedence", "priority",
    "references", "reply-to", "return-path", "sender", "to", "x-priority", "x-mailer", "x-spam-flag",
)  # fmt: skip
_HEADER_LENGTH: Final = 1000

#: Codecs of Python that are not text charsets, some of which take minutes for a long text; and ASCII, which many
#: programs declare whatever they write.
_NO_CHARSETS: Final = frozenset({"ascii", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})

#: What Python's parser raises for malformed e-mails; its header errors are not ValueErrors.
_PARSER_ERRORS: Final = (
    MessageError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RecursionError,
)  # fmt: skip


class MimeAttachment(NamedTuple):
    """A part other than the e-mail's text: its name, media type and bytes."""

    name: str
    media: str
    content: bytes


@contextmanager
def _reject_parser_errors() -> Iterator[None]:
    """Converts errors of Python's parser to Rejected, and lets no other error escape: an e-mail that cannot be
    processed would be delivered again and again, and block those behind it."""
    try:
        yield
    except _PARSER_ERRORS as error:
        raise _rejection(_UNPARSABLE(error=type(error).__name__)) from None


@_reject_parser_errors()
def read(raw: bytes) -> dict[str, object]:
    """Parses an e-mail. Raises Rejected("invalid_mail") if it is malformed or exceeds a limit."""
    mail = _parsed(raw)
    subject = _header(mail, "subject")
    senders = _addresses(mail, "from")
    body, attached_parts = _contents(mail)
    attachments_url = str(mail.get(ATTACHMENTS_HEADER) or "").strip()
    result: dict[str, object] = {
        "subject": subject or "(no subject)",
        "from": senders[0][1] if senders else "",
        "from_name": senders[0][0] if senders else "",
        "to": [address for _, address in _addresses(mail, "to")],
        "body": body,
        "message_id": _header(mail, "message-id"),
        "headers": {name: value for name in _HEADERS if (value := _header(mail, name))},
    }
    if (sent_at := _date(mail)) is not None:
        result["date"] = sent_at
    if attached_parts:
        result["attachments"] = [
            {
                "name": attachment.name,
                "type": attachment.media,
                "size": len(attachment.content),
                **({"url": f"{attachments_url}{index}"} if attachments_url.startswith(("http://", "https://")) else {}),
            }
            for index, attachment in enumerate(attached_parts)
        ]
    if (cause := _loop_cause(mail, subject)) is not None:
        result["loop"] = cause.value
    return result


@_reject_parser_errors()
def attachments(raw: bytes) -> list[MimeAttachment]:
    """Returns the parts other than the e-mail's text, in order. Raises Rejected as `read` does."""
    return _contents(_parsed(raw))[1]


@_reject_parser_errors()
def without_attachments(raw: bytes) -> bytes:
    """Returns the e-mail with each attachment replaced by a remark. Raises Rejected as `read` does."""
    mail = _parsed(raw)
    for part in _parts(mail):
        if not part.is_multipart() and not _is_text(part):
            size = len(part.get_payload() or "")
            del part["content-transfer-encoding"]
            part.set_payload(f"Left out by Tocsin: the whole mail was too large ({size} characters of this part).")
    return mail.as_bytes()


def _parsed(raw: bytes) -> Message:
    if len(raw) > MAX_BYTES:
        raise _rejection(_TOO_LARGE())
    lowered = raw.lower()
    # Each level of nesting makes the parser examine every line once more.
    if lowered.count(b"boundary") > MAX_BOUNDARIES or lowered.count(b"message/") > MAX_BOUNDARIES:
        raise _rejection(_TOO_MANY_BOUNDARIES(maximum=MAX_BOUNDARIES))
    if len(raw) <= MAX_STORED_BYTES and raw.count(b"\n") > MAX_LINES:
        raise _rejection(_TOO_MANY_LINES(maximum=MAX_LINES))
    mail = message_from_bytes(raw)
    if not mail.keys():
        raise _rejection(_NO_HEADERS())
    return mail


def _rejection(problem: Reason) -> Rejected:
    return Rejected("invalid_mail", problem)


def _parts(mail: Message) -> Iterator[Message]:
    for number, part in enumerate(mail.walk()):
        if number >= MAX_PARTS:
            raise _rejection(_TOO_MANY_PARTS(maximum=MAX_PARTS))
        yield part


def _contents(mail: Message) -> tuple[str, list[MimeAttachment]]:
    """Returns the e-mail's text (for HTML, the text visible to a reader), and all other parts."""
    plain = html = ""
    attached_parts: list[MimeAttachment] = []
    for part in _parts(mail):
        if part.is_multipart():
            continue
        if _is_text(part):
            text = _text(part)
            if part.get_content_subtype() == "html":
                html = html or text
            else:
                plain = f"{plain}\n{text}" if plain and text else plain or text
        elif len(attached_parts) < MAX_ATTACHMENTS:
            attached_parts.append(_attachment(part, len(attached_parts)))
    if not plain.strip() and html:
        plain = formatting.plain(formatting.strip_tags(html, "script", "style", "title"), MAX_TEXT)
    return plain.replace("\r\n", "\n").strip()[:MAX_TEXT], attached_parts


def _is_text(part: Message) -> bool:
    return part.get_content_type() in ("text/plain", "text/html") and part.get_content_disposition() != "attachment"


def _text(part: Message) -> str:
    content = _bytes(part)[: 4 * MAX_TEXT]
    try:
        charset = part.get_content_charset()
    except _PARSER_ERRORS:
        charset = None
    return _characters(content, charset).replace("\x00", "\ufffd")


def _characters(content: bytes, charset: str | None) -> str:
    """Decodes bytes to text. Without a charset, or with an unknown or unreliable one, tries UTF-8 and falls back to
    Windows-1252."""
    try:
        name = codecs.lookup(charset or "ascii").name
        if name not in _NO_CHARSETS:
            return content.decode(name, "replace")
    except _PARSER_ERRORS:
        pass
    try:
        # The content may be cut in the middle of a character.
        return codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return content.decode("windows-1252", "replace")


def _bytes(part: Message) -> bytes:
    try:
        content = part.get_payload(decode=True)
    except _PARSER_ERRORS:
        content = None
    return content if isinstance(content, bytes) else b""


def _attachment(part: Message, index: int) -> MimeAttachment:
    try:
        name = _decoded(part.get_filename() or "")
    except _PARSER_ERRORS:
        name = ""
    # Only the last component of a path, without characters that have a meaning in a header or shell.
    clean = re.sub(r'[\x00-\x1f\x7f"\\/<>|:*?]+', "_", re.split(r"[\\/]", name)[-1]).strip(" .")[:150]
    return MimeAttachment(clean or f"attachment-{index + 1}", part.get_content_type(), _bytes(part))


def _header(mail: Message, name: str) -> str:
    return next((_decoded(value)[:_HEADER_LENGTH] for value in _values(mail, name)), "")


def _values(mail: Message, name: str) -> Iterator[str]:
    """Yields a header's values. Raw non-ASCII bytes, forbidden by RFC 5322 but common, are read as UTF-8 or Latin."""
    for key, value in mail.raw_items():
        if key.lower() == name:
            yield _characters(str(value).encode("utf-8", "surrogateescape"), None)


def _decoded(value: str) -> str:
    """Returns a header's text on one line, with encoded words (RFC 2047) decoded."""
    try:
        pieces = [
            _characters(piece, charset) if isinstance(piece, bytes) else piece
            for piece, charset in decode_header(value[: 4 * _HEADER_LENGTH])
        ]
        text = "".join(pieces)
    except _PARSER_ERRORS:
        text = value
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _addresses(mail: Message, name: str) -> list[tuple[str, str]]:
    values = [header_value[: 10 * _HEADER_LENGTH] for header_value in islice(_values(mail, name), 20)]
    try:
        address_pairs = getaddresses(values)
    except _PARSER_ERRORS:
        return []
    return [
        (_decoded(display_name)[:200], address.strip()[:320])
        for display_name, address in address_pairs
        if "@" in address
    ][:100]


def _date(mail: Message) -> str | None:
    try:
        sent_at = parsedate_to_datetime(str(mail.get("date") or ""))
    except _PARSER_ERRORS:
        return None
    return sent_at.isoformat() if sent_at.tzinfo is not None else f"{sent_at.isoformat()}+00:00"


def _is_from_mail_server(mail: Message) -> bool:
    """Returns whether an e-mail comes from a mail server, or is a program's automatic reply. Needed because an empty
    Return-Path alone proves little: some monitors send their alerts that way."""
    sender = next((address for _, address in _addresses(mail, "from")), "").partition("@")[0].lower()
    return sender in _SERVERS or _header(mail, "auto-submitted").lower() not in ("", "no")


def _loop_cause(mail: Message, subject: str) -> LoopCause | None:
    """Returns why an e-mail must not open an alert, if so."""
    submitted = _header(mail, "auto-submitted").lower().partition(";")[0].strip()
    if _TOCSIN_HEADER in mail or _TOCSIN_SUBJECT.search(subject):
        return LoopCause.OWN_MAIL
    # RFC 3834: a monitor's e-mail may be auto-generated, and must open an alert.
    if submitted == "auto-replied" or mail.get("x-autoreply") or mail.get("x-autorespond"):
        return LoopCause.AUTOMATIC_REPLY
    if _header(mail, "precedence").lower() in ("auto_reply", "junk"):
        return LoopCause.AUTOMATIC_REPLY
    if mail.get_content_type() == "multipart/report" or (
        _header(mail, "return-path") == "<>" and _is_from_mail_server(mail)
    ):
        return LoopCause.BOUNCE
    if len(mail.get_all("received", [])) > MAX_HOPS:
        return LoopCause.MAIL_LOOP
    return None
