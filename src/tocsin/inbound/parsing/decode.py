"""Decodes a request's bytes to elements: one for an object or form, one for each entry of an array. Pure.

Any input yields a value or Rejected, never another error, in bounded time. What was parsed leniently is in the
element's notes.
"""

from __future__ import annotations

import codecs
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.message import Message
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element as Node
from xml.etree.ElementTree import TreeBuilder

import msgspec

from tocsin.catalogue.hooks import Headers, Payload
from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, Text
from tocsin.inbound.mapping.message_objects import tickets_in
from tocsin.inbound.parsing import lenient_json
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.parsing.lenient_json import EMPTY_ARRAY, EMPTY_BODY, invalid_json, parse, split_array

# ---------- form fields
# Parses form fields (urlencoded and `multipart/form-data`) to one object. Repeated names become a list.

_NO_BOUNDARY = ReasonType("form.no_boundary", "The content type has no multipart boundary.")
_TOO_MANY_FIELDS = ReasonType("form.too_many_fields", "The form has more than {maximum} fields.")
_NO_FIELDS = ReasonType("form.no_fields", "The form has no fields.")
_TOO_MANY_PARTS = ReasonType("form.too_many_parts", "The form has more than {maximum} parts.")
_NAMELESS_PART = ReasonType("form.nameless_part", "Part {number} of the form has no name.")
_TRUNCATED = ReasonType("form.truncated", "The form data is truncated.")

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
MEDIA_TYPES: Final = (URLENCODED, MULTIPART)

MAX_FIELDS: Final = 10_000
_MAX_PARTS: Final = 1000
_MAX_HEADERS: Final = 8192

_PARAMETER: Final = re.compile(r';\s*(name|filename)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.IGNORECASE)


def read(body: bytes, media: str, charset: str, boundary: str | None) -> dict[str, object]:
    """Returns the fields of a form. Raises Rejected("invalid_form")."""
    if media == MULTIPART:
        if not boundary or len(boundary) > 200:
            raise Rejected("invalid_form", _NO_BOUNDARY())
        return _merge_repeated(_parts(body, boundary.encode("utf-8", "replace"), charset))
    try:
        text = body.decode(charset, "replace")
        fields = parse_qsl(text.strip("\r\n"), keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except (ValueError, LookupError):
        raise Rejected("invalid_form", _TOO_MANY_FIELDS(maximum=MAX_FIELDS)) from None
    if not fields:
        raise Rejected("invalid_form", _NO_FIELDS())
    return _merge_repeated(fields)


def _merge_repeated(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    fields_by_name: dict[str, object] = {}
    repeated: dict[str, list[object]] = {}
    for name, value in fields:
        if name in repeated:
            repeated[name].append(value)
        elif name in fields_by_name:
            repeated[name] = [fields_by_name[name], value]
        else:
            fields_by_name[name] = value
    return {**fields_by_name, **repeated}


def _parts(body: bytes, boundary: bytes, charset: str) -> list[tuple[str, object]]:
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, _MAX_PARTS + 1)
    if len(pieces) > _MAX_PARTS + 1:
        raise Rejected("invalid_form", _TOO_MANY_PARTS(maximum=_MAX_PARTS))
    parts: list[tuple[str, object]] = []
    is_closed = False
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            is_closed = True
            break
        head, separator, content = piece.partition(b"\r\n\r\n")
        parameters = _parameters(head[:_MAX_HEADERS].decode("utf-8", "replace"))
        if not separator or "name" not in parameters:
            raise Rejected("invalid_form", _NAMELESS_PART(number=len(parts) + 1))
        parts.append((parameters["name"], _content(parameters.get("filename"), content, charset)))
    if not is_closed:
        raise Rejected("invalid_form", _TRUNCATED())
    if not parts:
        raise Rejected("invalid_form", _NO_FIELDS())
    return parts


def _parameters(head: str) -> dict[str, str]:
    for header in head.split("\r\n"):
        if header.lower().startswith("content-disposition:"):
            return {
                name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else unquoted
                for name, quoted, unquoted in _PARAMETER.findall(header)
            }
    return {}


def _content(filename: str | None, content: bytes, charset: str) -> object:
    if filename:
        return {"filename": filename, "size": len(content)}
    try:
        return content.decode(charset, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


# ---------- encodings
# Decompresses request bodies by `Content-Encoding` (RFC 9110, 8.4.1): gzip and deflate. Pure.
# The output never exceeds `max_bytes` bytes, however small the input.

_UNKNOWN_ENCODING = ReasonType(
    "body.unknown_encoding", "The Content-Encoding “{encoding}” is not supported. Send gzip, deflate or none."
)
_INVALID_ENCODING = ReasonType("body.invalid_encoding", "The body is not valid {encoding}, or is truncated.")
_TOO_LARGE = ReasonType("body.too_large_decompressed", "The body exceeds {maximum} MiB, compressed or decompressed.")
_TOO_MANY_MEMBERS = ReasonType("body.too_many_gzip_members", "The gzip has more than {maximum} members.")

#: zlib's `wbits` by encoding. "deflate" means the zlib format, but some senders omit its header.
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15

_WBITS: Final = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _RAW)}

#: The maximum number of gzip members. The data after each is copied, so a huge number of members would take minutes.
MAX_MEMBERS: Final = 1_000

#: Encodings that mean uncompressed.
_UNCOMPRESSED: Final = frozenset({"", "identity"})


def is_compressed(encoding: str) -> bool:
    """Returns whether a `Content-Encoding` requires decompression."""
    return encoding.strip().lower() not in _UNCOMPRESSED


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Returns the decompressed body.

    Raises Rejected: `unknown_encoding`, `invalid_encoding` for invalid or truncated data, `too_large` for more than
    `max_bytes` bytes.
    """
    name = encoding.strip().lower()
    wbits_options = _WBITS.get(name)
    if wbits_options is None:
        raise Rejected("unknown_encoding", _UNKNOWN_ENCODING(encoding=encoding.strip()[:40]))
    for wbits in wbits_options:
        try:
            return _inflate(body, wbits, max_bytes)
        except zlib.error:
            continue
    raise Rejected("invalid_encoding", _INVALID_ENCODING(encoding=name))


def _inflate(body: bytes, wbits: int, max_bytes: int) -> bytes:
    """Decompresses, for gzip with several members. Raises zlib.error; Rejected for more than `max_bytes` bytes."""
    output = bytearray()
    for _ in range(MAX_MEMBERS):
        stream = zlib.decompressobj(wbits)
        output += stream.decompress(body, max_bytes + 1 - len(output))
        if len(output) > max_bytes:
            raise Rejected("too_large", _TOO_LARGE(maximum=max_bytes // 2**20))
        if not stream.eof:
            raise zlib.error("it ends too soon")
        body = stream.unused_data.lstrip(b"\0")
        if not body:
            return bytes(output)
        if wbits != _GZIP:
            raise zlib.error("something comes after its end")
    raise Rejected("invalid_encoding", _TOO_MANY_MEMBERS(maximum=MAX_MEMBERS))


# ---------- xml text
# Parses XML to an object: `<alert id="7"><host>a</host></alert>` becomes `{"@id": "7", "host": "a"}`. Pure.
# DTDs and entities are refused, so that nothing expands in memory and nothing is fetched.

_TOO_MANY_TAGS = ReasonType("xml.too_many_elements", "The XML has more than {maximum} elements.")
_TOO_MANY_ATTRIBUTES = ReasonType("xml.too_many_attributes", "The XML has more than {maximum} attributes.")
_HAS_DTD = ReasonType("xml.has_dtd", "The XML contains a DTD or an entity, which Tocsin does not accept.")
_NOT_XML_AT = ReasonType("xml.not_xml_at_position", "Not XML: {error}, at line {line} column {column}")
_NOT_XML = ReasonType("xml.not_xml", "Not XML: {error}")
_XML_TOO_DEEP = ReasonType("xml.too_deep", "The XML is nested more than {maximum} levels deep.")

MAX_TAGS: Final = 50_000
#: Counted as equals signs: the parser processes a tag with many attributes in one go, which blocks everything else.
MAX_ATTRIBUTES: Final = 100_000
MAX_XML_DEPTH: Final = 100

_MEDIA: Final = ("application/xml", "text/xml")


def is_xml(media: str, start: bytes) -> bool:
    return media in _MEDIA or media.endswith("+xml") or start.startswith(b"<?xml")


def read_xml(body: bytes) -> dict[str, object]:
    """Returns the contents of the root element: attributes as `@name`, text as `#text` if there is more than text,
    repeated elements as a list. Namespaces are dropped from names.

    Raises Rejected: `invalid_xml` with line and column, `too_deep`, `too_many`.
    """
    # Imported here to save time and memory on nodes without XML senders.
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser, ParseError

    if body.count(b"<") > 2 * MAX_TAGS:
        raise Rejected("too_many", _TOO_MANY_TAGS(maximum=MAX_TAGS))
    if body.count(b"=") > MAX_ATTRIBUTES:
        raise Rejected("too_many", _TOO_MANY_ATTRIBUTES(maximum=MAX_ATTRIBUTES))
    parser: Any = DefusedXMLParser(forbid_dtd=True, target=_Builder())  # type: ignore[no-untyped-call]
    try:
        parser.feed(body)
        root: Node = parser.close()
    except DefusedXmlException:
        raise Rejected("invalid_xml", _HAS_DTD()) from None
    except ParseError as error:
        line, column = error.position
        message = str(error).partition(":")[0]
        problem = _NOT_XML_AT(error=message, line=str(line), column=str(column + 1))
        raise Rejected("invalid_xml", problem) from None
    except (ValueError, LookupError) as error:
        raise Rejected("invalid_xml", _NOT_XML(error=str(error))) from None
    value = _value(root)
    return value if isinstance(value, dict) else {"#text": value}


class _Builder(TreeBuilder):
    """Rejects documents that are nested too deep during parsing, before they are traversed."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Node:
        self._depth += 1
        if self._depth > MAX_XML_DEPTH:
            raise Rejected("too_deep", _XML_TOO_DEEP(maximum=MAX_XML_DEPTH))
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Node:
        self._depth -= 1
        return super().end(tag)


def _value(node: Node) -> object:
    result: dict[str, object] = {f"@{_name(key)}": value for key, value in node.attrib.items()}
    texts = [(node.text or "").strip()]
    for child in node:
        name, value = _name(child.tag), _value(child)
        existing = result.get(name)
        if existing is None:
            result[name] = value
        elif isinstance(existing, list):
            existing.append(value)
        else:
            result[name] = [existing, value]
        texts.append((child.tail or "").strip())
    text = " ".join(filter(None, texts))
    if not result:
        return text
    if text:
        result["#text"] = text
    return result


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]


_TOO_MANY_ELEMENTS = ReasonType(
    "json.too_many_elements", "An array may have at most {maximum} elements; this one has more."
)
_TOO_DEEP = ReasonType("body.too_deep", "The body is nested more than {maximum} levels deep.")
_A_TEXT = Text("a text")
_A_NUMBER = Text("a number")
_A_BOOLEAN = Text("true or false")
_NULL = Text("null")
_AN_ARRAY = Text("an array")
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
    if media in MEDIA_TYPES and start not in (b"{", b"["):
        return Decoded((Element(_json_field(read(body, media, charset, boundary)), body),), False)
    if (start == b"<" or body.startswith(_BYTE_ORDER_MARKS)) and is_xml(media, body.lstrip()[:5]):
        return Decoded((Element(read_xml(body.lstrip()), body),), False)
    return _decode_thoroughly(body, charset, lenient)


def _is_text(body: bytes, media: str, start: bytes) -> bool:
    """Returns whether a body is a text: by its content type, or sent as a form with what no form begins with, such as
    "[PROBLEM] db1 is down"."""
    if media not in (_PLAIN_TEXT, URLENCODED):
        return False
    if start == b"[":
        return _ARRAY_START.match(body) is None
    if media == URLENCODED:
        return start not in _JSON_STARTS and _TEXT_START.match(body) is not None
    if (start == b"<" or body.startswith(_BYTE_ORDER_MARKS)) and is_xml(media, body.lstrip()[:5]):
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
    if not lenient and all(raw[:1] == b'"' for raw in map(bytes, raws)):
        # Lines of one text.
        return Decoded((Element({"message": "\n".join(map(_DECODER.decode, raws))}, body),), False)
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
    if type(payload) is str and not is_element:
        return _decode_quoted(payload, body, notes, lenient)
    if type(payload) is not dict:
        raise _not_an_object(payload, is_element=is_element)
    return Decoded((Element(payload, body, notes),), False)


def _decode_quoted(text: str, body: bytes, notes: tuple[Reason, ...], lenient: bool) -> Decoded:
    """Decodes what was sent as one text in JSON: an object that was encoded twice, XML, or a text."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return decode(text.encode("utf-8", "replace"), None, lenient=lenient)
        except Rejected:
            pass
    if text.lstrip().startswith("<?xml"):
        return Decoded((Element(read_xml(text.strip().encode("utf-8", "replace")), body, notes),), False)
    if lenient or not text.strip():
        raise _not_an_object(text, is_element=False)
    return Decoded((Element({"message": text}, body, notes),), False)


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


# ---------- payload splitting
# Splits a request's body into the messages that its integration's kind sees in it.
# Stored messages are not split again: each is a single message.

log = logging.getLogger(__name__)

_TOO_MANY_MESSAGES = ReasonType(
    "body.too_many_messages", "One request may have at most {maximum} messages; this one has more."
)
_KIND_FAILED = ReasonType("body.kind_failed", "{kind} could not parse the message: {error}. It can be replayed.")
_TOO_REPETITIVE = ReasonType("body.too_repetitive", "The messages in this body expand to more than {maximum} MiB.")

#: Limit for the total size of the messages of one body: shared parts are repeated in each and could grow unbounded.
MAX_SPLIT = 16 * 1024 * 1024

_NO_HEADERS: Mapping[str, str] = {}


def elements_of(
    kind: IntegrationKind, body: bytes, content_type: str | None, headers: Mapping[str, str] = _NO_HEADERS
) -> Decoded:
    """Decodes and splits a body. `headers` by lower-case name. Raises Rejected as `decode` does."""
    decoded = decode(body, content_type, lenient=kind.lenient)
    split = _ticket_splitter(kind) if kind.assigns_source_agent else kind.kind_hooks.messages
    if split is None:
        return decoded
    elements: list[Element] = []
    for element in decoded.elements:
        elements += _messages(kind, split, element, headers)
        if len(elements) > MAX_ELEMENTS:
            raise Rejected("too_many", _TOO_MANY_MESSAGES(maximum=MAX_ELEMENTS))
    return Decoded(tuple(elements), decoded.is_array or len(elements) > 1)


type _Split = Callable[[Payload, Headers], Sequence[Payload]]


def _ticket_splitter(kind: IntegrationKind) -> _Split:
    """Returns the function that splits a list of tickets, and then each as the kind does."""
    hook = kind.kind_hooks.messages

    def split(payload: Payload, headers: Headers) -> Sequence[Payload]:
        tickets = tickets_in(payload) or [payload]
        return tickets if hook is None else [message for ticket in tickets for message in hook(ticket, headers)]

    return split


def _messages(kind: IntegrationKind, split: _Split, element: Element, headers: Headers) -> list[Element]:
    """Returns the messages of one element; the element itself if there is only one, or the kind's hook failed."""
    if element.payload is None:
        return [element]
    try:
        payloads = list(islice(split(element.payload, headers), MAX_ELEMENTS + 1))
    except Exception as error:  # boundary of a kind's hook: one sender's input must not affect other messages
        log.exception("The code of the kind %s cannot read a message.", kind.name)
        reason = _KIND_FAILED(kind=kind.title, error=type(error).__name__)
        return [Element(element.payload, element.raw, problem=Rejected("cannot_be_read", reason))]
    if not payloads or (len(payloads) == 1 and payloads[0] is element.payload):
        return [element]
    elements: list[Element] = []
    size = 0
    for payload in payloads:
        raw = msgspec.json.encode(payload)
        size += len(raw)
        if size > MAX_SPLIT:
            problem = Rejected("too_large", _TOO_REPETITIVE(maximum=MAX_SPLIT // 1024**2))
            return [Element(element.payload, element.raw, element.notes, problem)]
        elements.append(Element(payload, raw, element.notes))
    return elements
