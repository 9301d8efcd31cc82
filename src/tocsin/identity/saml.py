"""SAML 2.0 as a service provider: metadata, requests, and the checks of responses. Needs the extra `tocsin[saml]`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode
from xml.etree.ElementTree import Element
from xml.sax.saxutils import (
    escape,  # nosec B406 # escape, and parse nothing
    quoteattr,  # nosec B406 # escapes, and parses nothing
)

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from django.core.cache import cache

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, sentence
from tocsin.core.validation.spec import InvalidValue
from tocsin.identity import reasons
from tocsin.identity.models import IdentityProvider, redirect_uri, saml_entity_id
from tocsin.identity.oidc_tokens import MAX_AGE as MAX_AGE_oidc_tokens
from tocsin.identity.oidc_tokens import MAX_SKEW, MIN_AGE, MIN_RSA_BITS, DocumentClient

# ---------- support
# Whether the packages for SAML are installed, which come with the extra `tocsin[saml]`.


def is_installed() -> bool:
    """Returns whether SAML can be used."""
    return find_spec("xmlsec") is not None and find_spec("lxml") is not None


def _require_packages() -> None:
    if not is_installed():
        raise Rejected("not_installed", reasons.SAML_NOT_INSTALLED(), "kind")


# ---------- elements
# Reads the XML of SAML: the names of its elements, and a parser without document types and entities. Pure.


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


# ---------- assertion
# Checks what a SAML response says (SAML Profiles 4.1.4.3, Core 2.5): whom it is for, when, and whether it answers a
# request. Pure. `signed_assertion` checks the signature, and decides what part of the response is read here.


#: The name under which the subject is among the attributes.
NAME_ID = "NameID"

#: An assertion is used for at most this long, whatever it says, so that its id has to be remembered no longer.
MAX_AGE = timedelta(hours=12)

_MAX_SUBJECT_CHARS = 255
_KNOWN_CONDITIONS = frozenset(f"{SAML}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction"))


@dataclass(frozen=True, slots=True)
class Addressee:
    """What a response has to agree with."""

    #: The provider's entity ID.
    issuer: str
    #: Tocsin's own.
    audience: str
    acs_url: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a provider says about the user who signs in."""

    assertion_id: str
    expires_at: datetime
    subject: str
    #: The request that it answers; empty: none.
    in_response_to: str
    #: The provider's session; empty: unknown.
    session_index: str
    #: The subject as `NameID`, and each attribute by its name and its friendly name.
    attributes: dict[str, Any]


def check_response(xml: bytes, addressee: Addressee, provider_name: str) -> None:
    """Checks what is outside of the assertion. It may not be signed, so that nothing is taken from it.

    Raises Rejected: `provider_error` for a status other than success, `invalid_answer`.
    """
    response = parse(xml)
    if response is None or response.tag != f"{SAMLP}Response" or response.get("Version") != "2.0":
        raise _invalid(reasons.MALFORMED())
    status = response.find(f"{SAMLP}Status")
    codes = [] if status is None else [code.get("Value", "") for code in status.iter(f"{SAMLP}StatusCode")]
    if codes[:1] != [SUCCESS]:
        message = text_of(status.find(f"{SAMLP}StatusMessage")) if status is not None else ""
        error = ": ".join(filter(None, (codes[-1].rpartition(":")[2] if codes else "no status", message)))
        raise Rejected("provider_error", reasons.PROVIDER_ERROR(provider=provider_name, error=error[:300]))
    if response.find(f"{SAML}EncryptedAssertion") is not None:
        raise _invalid(reasons.ENCRYPTED())
    if response.get("Destination", addressee.acs_url) != addressee.acs_url:
        raise _invalid(reasons.WRONG_RECIPIENT(found=response.get("Destination", "")[:300], expected=addressee.acs_url))
    issuer = response.find(f"{SAML}Issuer")
    if issuer is not None:
        _check_issuer(issuer, addressee)


def read_assertion(xml: bytes, addressee: Addressee) -> Assertion:
    """Returns the assertion of these signed bytes. Raises Rejected("invalid_answer")."""
    assertion = parse(xml)
    if assertion is None or assertion.get("Version") != "2.0" or not assertion.get("ID"):
        raise _invalid(reasons.MALFORMED())
    issued_at = _moment(assertion.get("IssueInstant"))
    if issued_at is None:
        raise _invalid(reasons.MALFORMED())
    if issued_at <= addressee.now - MAX_AGE:
        raise _invalid(reasons.EXPIRED())
    _check_begin(assertion.get("IssueInstant"), addressee)
    _check_issuer(_only(assertion, "Issuer"), addressee)
    _check_conditions(_only(assertion, "Conditions"), addressee)
    subject = _only(assertion, "Subject")
    name_id = subject.find(f"{SAML}NameID")
    if name_id is None or not 0 < len(text_of(name_id)) <= _MAX_SUBJECT_CHARS:
        raise _invalid(reasons.CLAIM_MISSING(claim=NAME_ID))
    if name_id.get("Format") == TRANSIENT:
        raise _invalid(reasons.TRANSIENT_SUBJECT())
    confirmation, expires_at = _confirmation(subject, addressee)
    statement = _only(assertion, "AuthnStatement")
    _check_end(statement.get("SessionNotOnOrAfter"), addressee)
    return Assertion(
        assertion_id=assertion.get("ID", ""),
        expires_at=min(expires_at, issued_at + MAX_AGE),
        subject=text_of(name_id),
        in_response_to=confirmation.get("InResponseTo", ""),
        session_index=statement.get("SessionIndex", "")[:300],
        attributes=_attributes(assertion) | {NAME_ID: text_of(name_id)},
    )


def _check_issuer(issuer: Element, addressee: Addressee) -> None:
    if text_of(issuer) != addressee.issuer:
        raise _invalid(reasons.WRONG_ISSUER(found=text_of(issuer)[:200], expected=addressee.issuer))


def _check_conditions(conditions: Element, addressee: Addressee) -> None:
    for condition in conditions:
        if condition.tag not in _KNOWN_CONDITIONS:
            raise _invalid(reasons.UNKNOWN_CONDITION(name=condition.tag.rpartition("}")[2][:100]))
    _check_begin(conditions.get("NotBefore"), addressee)
    _check_end(conditions.get("NotOnOrAfter"), addressee)
    restrictions = conditions.findall(f"{SAML}AudienceRestriction")
    # Each restriction has to name Tocsin: they are combined by "and", the audiences in one by "or".
    if not restrictions or any(
        addressee.audience not in map(text_of, restriction.iterfind(f"{SAML}Audience")) for restriction in restrictions
    ):
        raise _invalid(reasons.WRONG_AUDIENCE())


def _confirmation(subject: Element, addressee: Addressee) -> tuple[Element, datetime]:
    """Returns the data of the first bearer confirmation that holds, and its end. Raises Rejected for the last one that
    does not."""
    problem = _invalid(reasons.CLAIM_MISSING(claim="SubjectConfirmationData"))
    for confirmation in subject.iterfind(f"{SAML}SubjectConfirmation"):
        data = confirmation.find(f"{SAML}SubjectConfirmationData")
        if confirmation.get("Method") != BEARER or data is None:
            continue
        try:
            if data.get("Recipient") != addressee.acs_url:
                found = data.get("Recipient", "")[:300]
                raise _invalid(reasons.WRONG_RECIPIENT(found=found, expected=addressee.acs_url))
            expires_at = moment_of(data.get("NotOnOrAfter"))
            if expires_at is None:
                raise _invalid(reasons.CLAIM_MISSING(claim="NotOnOrAfter"))
            _check_begin(data.get("NotBefore"), addressee)
            _check_end(data.get("NotOnOrAfter"), addressee)
        except Rejected as rejected:
            problem = rejected
        else:
            return data, expires_at
    raise problem


def _check_begin(text: str | None, addressee: Addressee) -> None:
    begin = _moment(text)
    if begin is not None and begin > addressee.now + MAX_SKEW:
        raise _invalid(reasons.NOT_YET_VALID())


def _check_end(text: str | None, addressee: Addressee) -> None:
    end = _moment(text)
    if end is not None and end <= addressee.now - MAX_SKEW:
        raise _invalid(reasons.EXPIRED())


def _moment(text: str | None) -> datetime | None:
    moment = moment_of(text)
    if text is not None and moment is None:
        raise _invalid(reasons.MALFORMED())
    return moment


def _attributes(assertion: Element) -> dict[str, Any]:
    """Returns the values of each attribute. A friendly name never stands for an attribute that has it as its name."""
    found: dict[str, list[str]] = {}
    friendly: dict[str, list[str]] = {}
    for attribute in assertion.iterfind(f"{SAML}AttributeStatement/{SAML}Attribute"):
        values = [text_of(value) for value in attribute.iterfind(f"{SAML}AttributeValue")]
        found.setdefault(attribute.get("Name", ""), []).extend(values)
        if name := attribute.get("FriendlyName"):
            friendly.setdefault(name, []).extend(values)
    return {name: values for name, values in (friendly | found).items() if name}


def _only(parent: Element, name: str) -> Element:
    elements = parent.findall(f"{SAML}{name}")
    if len(elements) != 1:
        raise _invalid(reasons.CLAIM_MISSING(claim=name) if not elements else reasons.MALFORMED())
    return elements[0]


def _invalid(reason: Reason) -> Rejected:
    return Rejected("invalid_answer", reason)


# ---------- signature
# Finds what a provider signed in a SAML response, and returns nothing else.
#
# A caller gets the canonical bytes of the signed assertion and parses those: comments, namespaces and elements around
# it cannot change what is read, which is how signature wrapping works elsewhere. lxml and xmlsec come with the extra
# `tocsin[saml]`, so only the functions here import them.


_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
#: None uses SHA-1, and none a shared secret, so that no public key serves as one.
_SIGNATURES = frozenset(f"{_MORE}{family}-sha{bits}" for family in ("rsa", "ecdsa") for bits in (256, 384, 512))
_DIGESTS = frozenset(
    {"http://www.w3.org/2001/04/xmlenc#sha256", f"{_MORE}sha384", "http://www.w3.org/2001/04/xmlenc#sha512"}
)
_SIGNATURE_PARTS = [f"{DS}SignedInfo", f"{DS}SignatureValue"]
_INFO_PARTS = [f"{DS}CanonicalizationMethod", f"{DS}SignatureMethod", f"{DS}Reference"]
_REFERENCE_PARTS = [f"{DS}Transforms", f"{DS}DigestMethod", f"{DS}DigestValue"]
_IDS = ("ID", "Id", "id", "{http://www.w3.org/XML/1998/namespace}id")


def signed_assertion(xml: bytes, certificates: Sequence[str]) -> bytes:
    """Returns the canonical bytes of the one assertion of a response. It, or the response around it, is signed with the
    key of one of `certificates` (PEM); every signature in the response is right.

    Raises Rejected("invalid_answer").
    """
    from lxml import etree

    root = _parse_response(xml)
    assertions = list(root.iter(f"{SAML}Assertion"))
    if root.tag != f"{SAMLP}Response" or len(assertions) != 1 or assertions[0].getparent() is not root:
        raise _invalid(sentence("The provider's answer must have exactly one assertion, directly in the response."))
    assertion = assertions[0]
    ids = [element.get(name) for element in root.iter(etree.Element) for name in _IDS if name in element.attrib]
    if len(ids) != len(set(ids)):
        raise _invalid(reasons.BAD_SIGNATURE())
    signatures = list(root.iter(f"{DS}Signature"))
    parents = [signature.getparent() for signature in signatures]
    if not signatures:
        raise _invalid(sentence("The provider's answer is not signed."))
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


def _parse_response(xml: bytes) -> Any:
    from lxml import etree

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
    info = signature.find(f"{DS}SignedInfo")
    if parts not in (_SIGNATURE_PARTS, [*_SIGNATURE_PARTS, f"{DS}KeyInfo"]) or len(info) != 3:
        raise _invalid(reasons.BAD_SIGNATURE())
    canonicalization, method, reference = info
    if [child.tag for child in info] != _INFO_PARTS or [child.tag for child in reference] != _REFERENCE_PARTS:
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
    import xmlsec

    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem)
    context.register_id(signature.getparent(), "ID")
    try:
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


# ---------- metadata
# Metadata: what a provider's says, and Tocsin's own. Pure.


MAX_CHARS = 1024 * 1024
_PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class SamlProvider:
    """What has to be known of an identity provider: its entity ID, where a sign-in begins, and what signs."""

    entity_id: str
    sso_url: str
    #: In PEM form.
    certificates: tuple[str, ...]


def read_metadata(xml: str | bytes, entity_id: str, now: datetime) -> SamlProvider:
    """Returns the identity provider of a metadata document: the one called `entity_id`, or the only one if that is
    empty. Raises InvalidValue, with a reason that completes a sentence."""
    root = parse(xml) if len(xml) <= MAX_CHARS else None
    if root is None or root.tag not in (f"{METADATA}EntityDescriptor", f"{METADATA}EntitiesDescriptor"):
        raise InvalidValue(reasons.NOT_METADATA())
    described = {
        entity.get("entityID", ""): role
        for entity in root.iter(f"{METADATA}EntityDescriptor")
        for role in entity.iterfind(f"{METADATA}IDPSSODescriptor")
        if PROTOCOL in role.get("protocolSupportEnumeration", "").split()
    }
    if not described:
        raise InvalidValue(reasons.NOT_METADATA())
    if entity_id and entity_id not in described:
        found = ", ".join(list(described)[:3])[:300]
        raise InvalidValue(reasons.OTHER_METADATA(found=found, expected=entity_id))
    if not entity_id and len(described) > 1:
        raise InvalidValue(sentence("name several identity providers: enter the issuer."))
    name = entity_id or next(iter(described))
    valid_until = moment_of(root.get("validUntil"))
    if valid_until is not None and valid_until <= now:
        raise InvalidValue(sentence("expired {at}.", at=valid_until))
    role = described[name]
    services = role.iterfind(f"{METADATA}SingleSignOnService")
    url = next((one.get("Location", "") for one in services if one.get("Binding") == REDIRECT), "")
    if not url:
        raise InvalidValue(sentence("name no address for single sign-on with the HTTP-Redirect binding."))
    return SamlProvider(name, url, _certificates_of(role))


def _certificates_of(role: Element) -> tuple[str, ...]:
    found = [
        normalize_certificate(text_of(certificate))
        for key in role.iterfind(f"{METADATA}KeyDescriptor")
        if key.get("use", "signing") == "signing"
        for certificate in key.iter(f"{DS}X509Certificate")
    ]
    if not found:
        raise InvalidValue(reasons.NO_CERTIFICATE())
    return tuple(dict.fromkeys(found))


def normalize_certificate(text: str) -> str:
    """Returns a certificate in PEM form, given so or as base64 alone. Raises InvalidValue."""
    lines = text.replace(_PEM, "").replace("-----END CERTIFICATE-----", "").split()
    try:
        der = base64.b64decode("".join(lines), validate=True)
        certificate = x509.load_der_x509_certificate(der)
    except (binascii.Error, ValueError):
        raise InvalidValue(reasons.NOT_A_CERTIFICATE()) from None
    if problem := _weakness(certificate):
        raise InvalidValue(problem)
    encoded = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    body = "\n".join(encoded[start : start + 64] for start in range(0, len(encoded), 64))
    return f"{_PEM}\n{body}\n-----END CERTIFICATE-----"


def usable_certificates(certificates: Iterable[str], now: datetime) -> tuple[list[str], Reason]:
    """Returns the certificates that are valid at `now`, or the reason why there is none."""
    usable, last, weak = [], None, NO_REASON
    for pem in certificates:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        if problem := _weakness(certificate):
            weak = problem
        elif certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            usable.append(pem)
        elif last is None or last < certificate.not_valid_after_utc:
            last = certificate.not_valid_after_utc
    missing = weak or reasons.NO_CERTIFICATE()
    return usable, missing if last is None else reasons.CERTIFICATE_EXPIRED(at=last)


def _weakness(certificate: x509.Certificate) -> Reason:
    """Returns why no signature by the certificate's key is believed, if so."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return reasons.NOT_A_CERTIFICATE()
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return reasons.WEAK_KEY(bits=key.key_size, minimum=MIN_RSA_BITS)
    return NO_REASON


def last_expiry(certificates: Iterable[str]) -> datetime | None:
    """Returns when the last of the certificates ends; None without any."""
    ends = (x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc for pem in certificates)
    return max(ends, default=None)


def own_metadata(*, entity_id: str, acs_url: str) -> str:
    """Returns Tocsin's metadata as a service provider, for one identity provider."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<md:EntityDescriptor xmlns:md="{METADATA[1:-1]}" entityID={quoteattr(entity_id)}>'
        f'<md:SPSSODescriptor protocolSupportEnumeration="{PROTOCOL}" AuthnRequestsSigned="false"'
        ' WantAssertionsSigned="true">'
        f'<md:AssertionConsumerService Binding="{POST}" Location={quoteattr(acs_url)} index="0" isDefault="true"/>'
        "</md:SPSSODescriptor></md:EntityDescriptor>\n"
    )


# ---------- exchange
# A sign-in by SAML: the request that begins it, and what becomes of the provider's response.


_MAX_RESPONSE_CHARS = 512 * 1024
_FIELD = "metadata_url"


def new_request_id() -> str:
    """Returns the id of a new request, which its response has to name."""
    return f"_{secrets.token_hex(20)}"


def request_url(provider: IdentityProvider, *, request_id: str, relay_state: str, now: datetime) -> str:
    """Returns the URL at the provider that begins a sign-in (HTTP-Redirect binding). Raises Rejected."""
    _require_packages()
    url = load_provider(provider, now).sso_url
    issued = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    xml = (
        f'<samlp:AuthnRequest xmlns:samlp="{SAMLP[1:-1]}" xmlns:saml="{SAML[1:-1]}" ID="{request_id}" Version="2.0"'
        f' IssueInstant="{issued}" Destination={quoteattr(url)} ProtocolBinding="{POST}"'
        f" AssertionConsumerServiceURL={quoteattr(redirect_uri(provider))}>"
        f"<saml:Issuer>{escape(saml_entity_id(provider))}</saml:Issuer>"
        '<samlp:NameIDPolicy AllowCreate="true"/></samlp:AuthnRequest>'
    )
    deflated = zlib.compress(xml.encode(), wbits=-15)
    query = urlencode({"SAMLRequest": base64.b64encode(deflated).decode(), "RelayState": relay_state})
    return f"{url}{'&' if '?' in url else '?'}{query}"


def load_provider(
    provider: IdentityProvider, now: datetime, *, max_age: timedelta = MAX_AGE_oidc_tokens
) -> SamlProvider:
    """Returns what is configured of the provider, and what its metadata says if they are at a URL. Raises Rejected."""
    stored = provider.saml
    certificates = tuple(stored.get("certificates", ()))
    url = stored.get("metadata_url", "")
    if not url:
        return SamlProvider(provider.issuer, stored["sso_url"], certificates)
    with DocumentClient(provider.name, now, allow_private=provider.allow_private) as client:
        xml = client.document(
            url,
            lambda body: body if 0 < len(body) <= MAX_CHARS else None,
            accept="application/samlmetadata+xml, */*",
            field=_FIELD,
            max_age=max_age,
        )
    try:
        found = read_metadata(xml, provider.issuer, now)
    except InvalidValue as problem:
        reason = reasons.BAD_METADATA(provider=provider.name, problem=problem.errors[0].reason)
        raise Rejected("unreachable", reason, _FIELD) from None
    if not found.sso_url.startswith(("https://", "http://") if provider.allow_private else "https://"):
        reason = reasons.BAD_METADATA(provider=provider.name, problem=reasons.NOT_HTTPS())
        raise Rejected("unreachable", reason, _FIELD)
    return SamlProvider(found.entity_id, found.sso_url, (*found.certificates, *certificates))


def receive(provider: IdentityProvider, response: str, *, now: datetime) -> tuple[str, Assertion]:
    """Returns the provider's entity ID and the assertion of a response (base64), after checking everything about it but
    the request that it answers. An assertion is accepted once.

    Raises Rejected.
    """
    xml = _decode(response)
    try:
        entity_id, assertion = _verify(provider, xml, now, MAX_AGE_oidc_tokens)
    except Rejected as rejected:
        # The provider may have a new key: its metadata are loaded again.
        if rejected.reason.code != reasons.BAD_SIGNATURE.code or not provider.saml.get("metadata_url"):
            raise
        entity_id, assertion = _verify(provider, xml, now, MIN_AGE)
    digest = hashlib.sha256(f"{provider.pk} {assertion.assertion_id}".encode()).hexdigest()
    remembered = assertion.expires_at - now + 2 * MAX_SKEW
    if not cache.add(f"saml {digest}", True, remembered.total_seconds()):
        raise Rejected("replayed", reasons.REPLAYED())
    if not assertion.in_response_to and not provider.saml.get("idp_initiated"):
        raise Rejected("invalid_answer", reasons.UNSOLICITED(provider=provider.name))
    return entity_id, assertion


def _verify(provider: IdentityProvider, xml: bytes, now: datetime, max_age: timedelta) -> tuple[str, Assertion]:
    _require_packages()
    known = load_provider(provider, now, max_age=max_age)
    addressee = Addressee(known.entity_id, saml_entity_id(provider), redirect_uri(provider), now)
    check_response(xml, addressee, provider.name)
    certificates, problem = usable_certificates(known.certificates, now)
    if not certificates:
        raise Rejected("invalid_answer", reasons.BAD_METADATA(provider=provider.name, problem=problem), "certificates")
    return known.entity_id, read_assertion(signed_assertion(xml, certificates), addressee)


def _decode(response: str) -> bytes:
    try:
        if not 0 < len(response) <= _MAX_RESPONSE_CHARS:
            raise ValueError
        # Some providers wrap the lines.
        return base64.b64decode("".join(response.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("invalid_answer", reasons.MALFORMED()) from None
