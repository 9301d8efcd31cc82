"""A sign-in by SAML: the request that begins it, and what becomes of the provider's response."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import zlib
from datetime import datetime, timedelta
from urllib.parse import urlencode
from xml.sax.saxutils import escape, quoteattr  # nosec B406 # escape, and parse nothing

from django.core.cache import cache

from tocsin.core.errors import Rejected
from tocsin.core.validation.spec import InvalidValue
from tocsin.identity import reasons
from tocsin.identity.models import IdentityProvider
from tocsin.identity.oidc.tokens import MAX_SKEW
from tocsin.identity.provider_documents import MAX_AGE, MIN_AGE, DocumentClient
from tocsin.identity.redirect_uris import redirect_uri, saml_entity_id
from tocsin.identity.saml import support
from tocsin.identity.saml.assertion import Addressee, Assertion, check_response, read_assertion
from tocsin.identity.saml.elements import POST, SAML, SAMLP
from tocsin.identity.saml.metadata import MAX_CHARS, SamlProvider, read_metadata, usable_certificates

_MAX_RESPONSE_CHARS = 512 * 1024
_FIELD = "metadata_url"


def new_request_id() -> str:
    """Returns the id of a new request, which its response has to name."""
    return f"_{secrets.token_hex(20)}"


def request_url(provider: IdentityProvider, *, request_id: str, relay_state: str, now: datetime) -> str:
    """Returns the URL at the provider that begins a sign-in (HTTP-Redirect binding). Raises Rejected."""
    support.signatures()
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


def load_provider(provider: IdentityProvider, now: datetime, *, max_age: timedelta = MAX_AGE) -> SamlProvider:
    """Returns what is configured of the provider, and what its metadata says if they are at a URL. Raises Rejected."""
    stored = provider.saml
    certificates = tuple(stored.get("certificates", ()))
    url = stored.get("metadata_url", "")
    if not url:
        return SamlProvider(provider.issuer, stored["sso_url"], certificates)
    with DocumentClient(provider.name, now, allow_private=provider.allow_private) as client:
        xml = client.document(
            url, _metadata_text, accept="application/samlmetadata+xml, */*", field=_FIELD, max_age=max_age
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
        entity_id, assertion = _verify(provider, xml, now, MAX_AGE)
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
    signatures = support.signatures()
    known = load_provider(provider, now, max_age=max_age)
    addressee = Addressee(known.entity_id, saml_entity_id(provider), redirect_uri(provider), now)
    check_response(xml, addressee, provider.name)
    certificates, problem = usable_certificates(known.certificates, now)
    if not certificates:
        raise Rejected("invalid_answer", reasons.BAD_METADATA(provider=provider.name, problem=problem), "certificates")
    return known.entity_id, read_assertion(signatures.signed_assertion(xml, certificates), addressee)


def _decode(response: str) -> bytes:
    try:
        if not 0 < len(response) <= _MAX_RESPONSE_CHARS:
            raise ValueError
        # Some providers wrap the lines.
        return base64.b64decode("".join(response.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("invalid_answer", reasons.MALFORMED()) from None


def _metadata_text(body: bytes) -> bytes | None:
    return body if 0 < len(body) <= MAX_CHARS else None
