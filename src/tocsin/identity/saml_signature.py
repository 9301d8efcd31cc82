"""Finds what a provider signed in a SAML response, and returns nothing else.

The only module that imports lxml and xmlsec, which come with the extra `tocsin[saml]`; `support.signatures` loads it.
A caller gets the canonical bytes of the signed assertion and parses those: comments, namespaces and elements around it
cannot change what is read, which is how signature wrapping works elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xmlsec
from lxml import etree

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.identity import reasons

ASSERTION = "{urn:oasis:names:tc:SAML:2.0:assertion}Assertion"
RESPONSE = "{urn:oasis:names:tc:SAML:2.0:protocol}Response"

_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
#: None uses SHA-1, and none a shared secret, so that no public key serves as one.
_SIGNATURES = frozenset(f"{_MORE}{family}-sha{bits}" for family in ("rsa", "ecdsa") for bits in (256, 384, 512))
_DIGESTS = frozenset(
    {"http://www.w3.org/2001/04/xmlenc#sha256", f"{_MORE}sha384", "http://www.w3.org/2001/04/xmlenc#sha512"}
)
_SIGNATURE_PARTS = ([f"{_DS}SignedInfo", f"{_DS}SignatureValue"], [f"{_DS}KeyInfo"])
_IDS = ("ID", "Id", "id", "{http://www.w3.org/XML/1998/namespace}id")


def signed_assertion(xml: bytes, certificates: Sequence[str]) -> bytes:
    """Returns the canonical bytes of the one assertion of a response. It, or the response around it, is signed with the
    key of one of `certificates` (PEM); every signature in the response is right.

    Raises Rejected("invalid_answer").
    """
    root = _parse(xml)
    assertions = list(root.iter(ASSERTION))
    if root.tag != RESPONSE or len(assertions) != 1 or assertions[0].getparent() is not root:
        raise _invalid(reasons.NOT_ONE_ASSERTION())
    assertion = assertions[0]
    ids = [element.get(name) for element in root.iter(etree.Element) for name in _IDS if name in element.attrib]
    if len(ids) != len(set(ids)):
        raise _invalid(reasons.BAD_SIGNATURE())
    signatures = list(root.iter(f"{_DS}Signature"))
    parents = [signature.getparent() for signature in signatures]
    if not signatures:
        raise _invalid(reasons.UNSIGNED())
    if len(set(parents)) != len(parents) or not {root, assertion}.issuperset(parents):
        raise _invalid(reasons.BAD_SIGNATURE())
    for signature in signatures:
        _check_form(signature)
        if not any(_verifies(signature, certificate) for certificate in certificates):
            raise _invalid(reasons.BAD_SIGNATURE())
    for signature in signatures:
        signature.getparent().remove(signature)
    canonical: bytes = etree.tostring(assertion, method="c14n", exclusive=True, with_comments=False)
    return canonical


def _parse(xml: bytes) -> Any:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise _invalid(reasons.MALFORMED()) from None
    if root.getroottree().docinfo.doctype:
        raise _invalid(reasons.MALFORMED())
    return root


def _check_form(signature: Any) -> None:
    """Accepts only what SAML allows: one reference, to the parent, with no transforms but the two that all use."""
    parts = [child.tag for child in signature]
    info = signature.find(f"{_DS}SignedInfo")
    if parts not in (_SIGNATURE_PARTS[0], [*_SIGNATURE_PARTS[0], *_SIGNATURE_PARTS[1]]) or len(info) != 3:
        raise _invalid(reasons.BAD_SIGNATURE())
    canonicalization, method, reference = info
    if [child.tag for child in info] != [
        f"{_DS}CanonicalizationMethod",
        f"{_DS}SignatureMethod",
        f"{_DS}Reference",
    ] or [child.tag for child in reference] != [f"{_DS}Transforms", f"{_DS}DigestMethod", f"{_DS}DigestValue"]:
        raise _invalid(reasons.BAD_SIGNATURE())
    for element, accepted in (
        (canonicalization, {_EXCLUSIVE}),
        (method, _SIGNATURES),
        (reference[1], _DIGESTS),
        *((transform, {_EXCLUSIVE, _ENVELOPED}) for transform in reference[0]),
    ):
        if element.get("Algorithm") not in accepted:
            raise _invalid(reasons.ALGORITHM(algorithm=str(element.get("Algorithm"))[:100]))
    identifier = signature.getparent().get("ID")
    if not identifier or reference.get("URI") != f"#{identifier}":
        raise _invalid(reasons.BAD_SIGNATURE())


def _verifies(signature: Any, certificate: str) -> bool:
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem)
    context.register_id(signature.getparent(), "ID")
    try:
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


def _invalid(reason: Reason) -> Rejected:
    return Rejected("invalid_answer", reason)
