"""XML as an object: `<alert id="7"><host>a</host></alert>` reads as `{"@id": "7", "host": "a"}`. Pure.

No DTD and no entity is read, so nothing grows in memory and nothing is fetched.
"""

from __future__ import annotations

from typing import Any, Final
from xml.etree.ElementTree import Element as Node
from xml.etree.ElementTree import TreeBuilder

from tocsin.core.errors import Rejected

MAX_TAGS: Final = 50_000
#: As many equals signs: the parser takes a tag with very many attributes at one go, and holds up everybody meanwhile.
MAX_ATTRIBUTES: Final = 100_000
MAX_DEPTH: Final = 100

_MEDIA: Final = ("application/xml", "text/xml")


def is_xml(media: str, start: bytes) -> bool:
    """Whether a body is XML, by its media type or by how it begins."""
    return media in _MEDIA or media.endswith("+xml") or start.startswith(b"<?xml")


def read(body: bytes) -> dict[str, object]:
    """What is in the document's root: attributes as `@name`, text as `#text` where there is more than text, elements
    of one name as a list. Namespaces are left out of names.

    Raises Rejected: `invalid_xml` with line and column, `too_deep`, `too_many`.
    """
    # Costs time and memory that a node without XML senders need not spend.
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser, ParseError

    if body.count(b"<") > 2 * MAX_TAGS:
        raise Rejected("too_many", f"The XML has more than {MAX_TAGS:,} elements.")
    if body.count(b"=") > MAX_ATTRIBUTES:
        raise Rejected("too_many", f"The XML has more than {MAX_ATTRIBUTES:,} attributes.")
    parser: Any = DefusedXMLParser(forbid_dtd=True, target=_Builder())  # type: ignore[no-untyped-call]
    try:
        parser.feed(body)
        root: Node = parser.close()
    except DefusedXmlException:
        raise Rejected("invalid_xml", "The XML has a DTD or an entity in it, which Tocsin does not read.") from None
    except ParseError as error:
        line, column = error.position
        said = str(error).partition(":")[0]
        raise Rejected("invalid_xml", f"Not XML: {said}, at line {line} column {column + 1}") from None
    except (ValueError, LookupError) as error:
        raise Rejected("invalid_xml", f"Not XML: {error}") from None
    value = _value(root)
    return value if isinstance(value, dict) else {"#text": value}


class _Builder(TreeBuilder):
    """Refuses what is nested too deep while it is read, before anybody walks it."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Rejected("too_deep", f"The XML is nested more than {MAX_DEPTH} levels deep.")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Node:
        self._depth -= 1
        return super().end(tag)


def _value(node: Node) -> object:
    found: dict[str, object] = {f"@{_name(key)}": value for key, value in node.attrib.items()}
    texts = [(node.text or "").strip()]
    for child in node:
        name, value = _name(child.tag), _value(child)
        before = found.get(name)
        if before is None:
            found[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            found[name] = [before, value]
        texts.append((child.tail or "").strip())
    text = " ".join(filter(None, texts))
    if not found:
        return text
    if text:
        found["#text"] = text
    return found


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]
