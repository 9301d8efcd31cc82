"""Decodes a request's bytes to elements: one for an object or form, one for each entry of an array. Pure.

Any input yields a value or Rejected, never another error, in bounded time. What was parsed leniently is in the
element's notes.
"""

from __future__ import annotations

import codecs
import re
from email.message import Message
from functools import lru_cache
from typing import Final

import msgspec

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType
from tocsin.inbound.parsing import form_fields, lenient_json, xml_text
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.parsing.json_text import invalid_json, parse, split_array
from tocsin.inbound.parsing.reasons import EMPTY_ARRAY, EMPTY_BODY

_TOO_MANY_ELEMENTS = ReasonType(
    "json.too_many_elements", "An array may have at most {maximum} elements; this one has more."
)
_TOO_DEEP = ReasonType("body.too_deep", "The body is nested more than {maximum} levels deep.")
_A_TEXT = ReasonType("json.type_text", "a text")
_A_NUMBER = ReasonType("json.type_number", "a number")
_A_BOOLEAN = ReasonType("json.type_boolean", "true or false")
_NULL = ReasonType("json.type_null", "null")
_AN_ARRAY = ReasonType("json.type_array", "an array")
_ELEMENT_NOT_AN_OBJECT = ReasonType(
    "json.element_not_an_object", "This element of the array is {type}; each must be an object ({…})."
)
_NOT_AN_OBJECT = ReasonType(
    "json.not_an_object", "The body is {type}, at line 1 column 1; send an object ({…}) or an array of them."
)

MAX_ELEMENTS: Final = 1000
MAX_DEPTH: Final = 512
#: Up to this many brackets are searched one by one.
_MAX_SEARCHED_BRACKETS: Final = 32
#: Bodies larger than this are parsed in a thread, so that they do not block others; XML and e-mails if larger than
#: `_COSTLY_SIZE`. In bytes.
LARGE: Final = 256 * 1024
_COSTLY_SIZE: Final = 16 * 1024
#: An array with more commas than this is counted before its elements are created.
_MANY_COMMAS: Final = 100_000

_DECODER: Final = msgspec.json.Decoder()
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
#: Byte order marks, which declare the encoding of XML.
_BYTE_ORDER_MARKS: Final = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPACES: Final = (b" ", b"\t", b"\r", b"\n")
_BLANK: Final = b" \t\r\n\x00"
_JSON_STARTS: Final = (b"{", b"[", b'"')
_PLAIN_TEXT: Final = "text/plain"
#: How an array of objects begins; a text may begin with "[PROBLEM]".
_ARRAY_START: Final = re.compile(rb"\s*\[[\s\x00]*([\[{\"\],\d-]|true|false|null|$)")
#: Words in front of "=" or instead of it.
_TEXT_START: Final = re.compile(rb"\s*[^\s=&]+\s+[^\s=&][^=&]*(=|$)")
#: Python also has codecs that are not charsets (hex, zip, idna); senders do not mean those.
_TEXT_CHARSET: Final = re.compile(r"utf-(16|32)|iso8859|cp\d|koi8|gb|big5|shift_jis|euc")

#: Errors of msgspec for bodies that it rejects, although some are valid JSON.
_REFUSALS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Element(msgspec.Struct, frozen=True):
    """One message: its payload (an object), its raw bytes, and notes on how it was parsed.

    The raw bytes of an array's element are UTF-8 JSON, whatever the body's charset.
    If the element is unusable, while others of its array may be usable, `problem` is set and `payload` is None.
    """

    payload: dict[str, object] | None
    raw: bytes
    notes: tuple[Reason, ...] = ()
    problem: Rejected | None = None


class Decoded(msgspec.Struct, frozen=True):
    elements: tuple[Element, ...]
    is_array: bool


def is_costly(body: bytes, content_type: str | None) -> bool:
    """Returns whether a body should be parsed in a thread: a large one, or XML or an e-mail of some size."""
    if len(body) > _COSTLY_SIZE:
        kind = (content_type or "").lower()
        return len(body) > LARGE or "xml" in kind or mail.MEDIA_TYPE in kind or body.lstrip()[:5] == b"<?xml"
    return False


def decode(body: bytes, content_type: str | None, *, lenient: bool) -> Decoded:
    """Decodes a body: JSON (if it starts like JSON, whatever the content type) or lines of JSON objects, form fields,
    XML, an e-mail, or, if the content type says so, a text, which is the `message` of its object.

    `lenient` accepts what HaloITSM's templates produce: raw line breaks in strings, trailing commas, invalid bytes.
    Raises Rejected: `invalid_json` with line and column, `invalid_form`, `invalid_xml`, `invalid_mail`,
    `too_deep`, `too_many` (over 1,000 elements).
    """
    media, charset, boundary = _media_type(content_type)
    if media == mail.MEDIA_TYPE:
        return Decoded((Element(mail.read(body), body),), False)
    start = body[:1]
    if start in _SPACES:
        start = body.lstrip()[:1]
    if start == b"{" and charset == "utf-8":
        try:
            payload = _DECODER.decode(body)
        except _REFUSALS:
            return _decode_thoroughly(body, charset, lenient)
        _refuse_depth(payload, body)
        return Decoded((Element(payload, body),), False)
    if not lenient and _is_text(body, media, start):
        return Decoded((Element({"message": body.decode(charset, "replace")}, body),), False)
    if start == b"[" and charset == "utf-8":
        return _array(body, charset, lenient)
    if media in form_fields.MEDIA_TYPES and start not in (b"{", b"["):
        return Decoded((Element(_json_field(form_fields.read(body, media, charset, boundary)), body),), False)
    if (start == b"<" or body.startswith(_BYTE_ORDER_MARKS)) and xml_text.is_xml(media, body.lstrip()[:5]):
        return Decoded((Element(xml_text.read(body.lstrip()), body),), False)
    return _decode_thoroughly(body, charset, lenient)


def _is_text(body: bytes, media: str, start: bytes) -> bool:
    """Returns whether a body is a text: by its content type, or sent as a form with what no form begins with, such as
    "[PROBLEM] db1 is down"."""
    if media not in (_PLAIN_TEXT, form_fields.URLENCODED):
        return False
    if start == b"[":
        return _ARRAY_START.match(body) is None
    if media == form_fields.URLENCODED:
        return start not in _JSON_STARTS and _TEXT_START.match(body) is not None
    if (start == b"<" or body.startswith(_BYTE_ORDER_MARKS)) and xml_text.is_xml(media, body.lstrip()[:5]):
        return False
    return start not in _JSON_STARTS and bool(body.strip(_BLANK))


def _json_field(fields: dict[str, object]) -> dict[str, object]:
    """Returns the object that a form has as JSON in its `payload` or only field, else the form's fields. A name without
    a value, which has spaces, is a text that was sent as a form."""
    name, value = next(iter(fields.items()))
    if len(fields) == 1 and not value and " " in name.strip():
        return {"message": name}
    text = fields.get("payload") if len(fields) > 1 else value
    if not isinstance(text, str) or text.lstrip()[:1] != "{":
        return fields
    try:
        payload: dict[str, object] = _DECODER.decode(text)
    except _REFUSALS:
        return fields
    _refuse_depth(payload, text.encode("utf-8", "replace"))
    return payload


@lru_cache(maxsize=256)
def _media_type(content_type: str | None) -> tuple[str, str, str | None]:
    """Returns media type, charset (Python's name; utf-8 if missing or unknown), and multipart boundary."""
    if not content_type:
        return "", "utf-8", None
    header = Message()
    header["content-type"] = "".join(c for c in content_type[:500] if c.isprintable() and c.isascii())
    try:
        charset = codecs.lookup(header.get_content_charset() or "utf-8").name
    except LookupError:
        charset = "utf-8"
    return header.get_content_type(), charset if _TEXT_CHARSET.match(charset) else "utf-8", header.get_boundary()


def _array(body: bytes, charset: str, lenient: bool) -> Decoded:
    if body.count(b",") > _MANY_COMMAS:
        count = len(split_array(body.decode("utf-8", "replace"), MAX_ELEMENTS + 1) or ())
        _refuse_count(count)
    try:
        raws = _ARRAY.decode(body)
    except _REFUSALS:
        return _decode_thoroughly(body, charset, lenient)
    _refuse_count(len(raws))
    if not raws:
        raise invalid_json(EMPTY_ARRAY(), 1, 1)
    return Decoded(tuple(_element(bytes(raw), lenient) for raw in raws), True)


def _refuse_count(count: int) -> None:
    if count > MAX_ELEMENTS:
        raise Rejected("too_many", _TOO_MANY_ELEMENTS(maximum=MAX_ELEMENTS))


def _element(raw: bytes, lenient: bool) -> Element:
    """Parses one element of an array. A problem affects only this element."""
    try:
        try:
            payload = _DECODER.decode(raw)
        except _REFUSALS:
            (element,) = _decode_thoroughly(raw, "utf-8", lenient, is_element=True).elements
            return element
        _refuse_depth(payload, raw)
    except Rejected as problem:
        return Element(None, raw, problem=problem)
    if type(payload) is not dict:
        return Element(None, raw, problem=_not_an_object(payload, is_element=True))
    return Element(payload, raw)


def _decode_thoroughly(body: bytes, charset: str, lenient: bool, *, is_element: bool = False) -> Decoded:
    """Parses thoroughly what the fast decoder rejected."""
    text, notes = lenient_json.to_text(body, charset, lenient)
    if not text.strip(" \t\r\n\x00"):
        raise invalid_json(EMPTY_BODY(), 1, 1)
    try:
        payload, more_notes = parse(text)
    except Rejected as problem:
        if not is_element and (lines := _lines_of_json(text)):
            return Decoded(tuple(_with_notes(_element(line.encode(), lenient), notes) for line in lines), True)
        if not lenient or problem.code != "invalid_json":
            raise
        if not is_element and text.lstrip()[:1] == "[" and (slices := split_array(text, MAX_ELEMENTS + 1)):
            return _slices(slices, notes, lenient)
        payload, more_notes = lenient_json.read(text)
    notes += more_notes
    _refuse_depth(payload, body)
    if type(payload) is list and not is_element:
        if not payload:
            raise invalid_json(EMPTY_ARRAY(), 1, 1)
        _refuse_count(len(payload))
        if slices := split_array(text, MAX_ELEMENTS + 1):
            return _slices(slices, notes, lenient)
        return Decoded(tuple(_re_encoded_element(item, notes) for item in payload), True)
    if type(payload) is not dict:
        raise _not_an_object(payload, is_element=is_element)
    return Decoded((Element(payload, body, notes),), False)


def _lines_of_json(text: str) -> list[str]:
    """Returns the objects of a body that has one in each line, as log shippers send them; empty if it does not."""
    lines = [line for line in text.strip().split("\n", MAX_ELEMENTS) if line.strip()]
    are_objects = len(lines) > 1 and all(line.startswith("{") and line.rstrip()[-1:] == "}" for line in lines)
    try:
        return lines if are_objects and all(type(_DECODER.decode(line)) is dict for line in lines) else []
    except _REFUSALS:
        return []


def _slices(slices: list[str], notes: tuple[Reason, ...], lenient: bool) -> Decoded:
    _refuse_count(len(slices))
    elements = (_element(piece.encode("utf-8", "replace"), lenient) for piece in slices)
    return Decoded(tuple(_with_notes(element, notes) for element in elements), True)


def _with_notes(element: Element, notes: tuple[Reason, ...]) -> Element:
    return Element(element.payload, element.raw, notes + element.notes, element.problem) if notes else element


def _re_encoded_element(payload: object, notes: tuple[Reason, ...]) -> Element:
    """Re-encodes an element of an array whose own bytes cannot be separated from the others'."""
    raw = msgspec.json.encode(payload)
    if type(payload) is not dict:
        return Element(None, raw, notes, _not_an_object(payload, is_element=True))
    return Element(payload, raw, notes)


_TYPES: Final = {str: _A_TEXT, int: _A_NUMBER, float: _A_NUMBER, bool: _A_BOOLEAN, type(None): _NULL}


def _not_an_object(payload: object, *, is_element: bool) -> Rejected:
    problem = _ELEMENT_NOT_AN_OBJECT if is_element else _NOT_AN_OBJECT
    return Rejected("invalid_json", problem(type=_TYPES.get(type(payload), _AN_ARRAY)()))


def _may_be_deep(body: bytes) -> bool:
    """Returns whether a body has enough brackets to be too deep. Most have few, and finding them beats counting."""
    bracket_count = 0
    for bracket in (b"{", b"["):
        position = body.find(bracket)
        while position >= 0:
            bracket_count += 1
            if bracket_count > _MAX_SEARCHED_BRACKETS:
                return body.count(b"{") + body.count(b"[") > MAX_DEPTH
            position = body.find(bracket, position + 1)
    return False


def _refuse_depth(payload: object, body: bytes) -> None:
    if not _may_be_deep(body):
        return
    level = [payload]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            for child in (value.values() if type(value) is dict else value)  # type: ignore[attr-defined]
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise Rejected("too_deep", _TOO_DEEP(maximum=MAX_DEPTH))
