"""Metadata: what a provider's says, and Tocsin's own. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr  # nosec B406 # escapes, and parses nothing

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from tocsin.core.reasons import NO_REASON, Reason
from tocsin.core.validation.spec import InvalidValue
from tocsin.identity import reasons
from tocsin.identity.oidc.tokens import MIN_RSA_BITS
from tocsin.identity.saml.elements import DS, METADATA, POST, PROTOCOL, REDIRECT, moment_of, parse, text_of

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
        raise InvalidValue(reasons.SEVERAL_PROVIDERS())
    name = entity_id or next(iter(described))
    valid_until = moment_of(root.get("validUntil"))
    if valid_until is not None and valid_until <= now:
        raise InvalidValue(reasons.METADATA_EXPIRED(at=valid_until))
    role = described[name]
    services = role.iterfind(f"{METADATA}SingleSignOnService")
    url = next((one.get("Location", "") for one in services if one.get("Binding") == REDIRECT), "")
    if not url:
        raise InvalidValue(reasons.NO_REDIRECT_BINDING())
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
