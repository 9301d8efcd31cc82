"""Reads the XML of SAML: the names of its elements, and a parser without document types and entities. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree.ElementTree import Element

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
METADATA = "{urn:oasis:names:tc:SAML:2.0:metadata}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"

PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"


def parse(xml: str | bytes) -> Element | None:
    """Returns the root; None for what is no XML, or has a document type. Comments and instructions are left out."""
    # Imported here to save time and memory where nobody signs in by SAML.
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    return root


def text_of(element: Element | None) -> str:
    """Returns the text of an element, without the elements in it; empty without one."""
    if element is None:
        return ""
    return "".join((element.text or "", *(child.tail or "" for child in element))).strip()


def moment_of(text: str | None) -> datetime | None:
    """Returns a moment in UTC, as SAML writes it; None if it is none."""
    try:
        moment = datetime.fromisoformat(text or "")
        # A time without a zone is UTC (SAML Core 1.3.3).
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
