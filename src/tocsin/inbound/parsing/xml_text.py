"""Parses XML to an object: `<alert id="7"><host>a</host></alert>` becomes `{"@id": "7", "host": "a"}`. Pure.

DTDs and entities are refused, so that nothing expands in memory and nothing is fetched.
"""

from __future__ import annotations

from typing import Any, Final
from xml.etree.ElementTree import Element as Node
from xml.etree.ElementTree import TreeBuilder

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_TOO_MANY_TAGS = ReasonType("xml.too_many_elements", "The XML has more than {maximum} elements.")
_TOO_MANY_ATTRIBUTES = ReasonType("xml.too_many_attributes", "The XML has more than {maximum} attributes.")
_HAS_DTD = ReasonType("xml.has_dtd", "The XML contains a DTD or an entity, which Tocsin does not accept.")
_NOT_XML_AT = ReasonType("xml.not_xml_at_position", "Not XML: {error}, at line {line} column {column}")
_NOT_XML = ReasonType("xml.not_xml", "Not XML: {error}")
_TOO_DEEP = ReasonType("xml.too_deep", "The XML is nested more than {maximum} levels deep.")

MAX_TAGS: Final = 50_000
#: Counted as equals signs: the parser processes a tag with many attributes in one go, which blocks everything else.
MAX_ATTRIBUTES: Final = 100_000
MAX_DEPTH: Final = 100

_MEDIA: Final = ("application/xml", "text/xml")


def is_xml(media: str, start: bytes) -> bool:
    """Returns whether a body is XML, by its media type or its start."""
    return media in _MEDIA or media.endswith("+xml") or start.startswith(b"<?xml")


def read(body: bytes) -> dict[str, object]:
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
        if self._depth > MAX_DEPTH:
            raise Rejected("too_deep", _TOO_DEEP(maximum=MAX_DEPTH))
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
