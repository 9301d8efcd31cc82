"""A SAML identity provider that signs whatever a test wants, and forges what attackers send."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape, quoteattr

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from lxml import etree

ISSUER, SSO_URL = "https://idp.example.org/saml", "https://idp.example.org/sso"
ENTITY_ID = "http://localhost:8686/accounts/saml/acme/metadata/"
ACS_URL = "http://localhost:8686/accounts/saml/acme/acs/"
NAMES = {
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"


@cache
def saml_key(name: str) -> rsa.RSAPrivateKey:
    """A key of its own for each name; made once, because that takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "weak" else 2048)


@cache
def certificate(name: str, *, begin: datetime | None = None, days: int = 3650) -> str:
    """The self-signed certificate of a key, in PEM form."""
    key, subject = saml_key(name), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = begin or datetime(2020, 1, 1, tzinfo=UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode().strip()


def metadata(*certificates: str, entity_id: str = ISSUER, sso_url: str = SSO_URL, valid_until: str = "") -> str:
    """The metadata of an identity provider."""
    keys = "".join(
        f'<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{NAMES["ds"]}"><ds:X509Data><ds:X509Certificate>'
        f"{''.join(pem.splitlines()[1:-1])}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        for pem in certificates
    )
    valid = f' validUntil="{valid_until}"' if valid_until else ""
    return (
        f'<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID={quoteattr(entity_id)}{valid}>'
        f'<md:IDPSSODescriptor protocolSupportEnumeration="{NAMES["samlp"]}">{keys}'
        '<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"'
        f" Location={quoteattr(sso_url)}/></md:IDPSSODescriptor></md:EntityDescriptor>"
    )


def request_of(location: str) -> tuple[str, str]:
    """The id and the relay state of the request in a URL."""
    query = parse_qs(urlsplit(location).query)
    xml = zlib.decompress(base64.b64decode(query["SAMLRequest"][0]), wbits=-15)
    return etree.fromstring(xml).get("ID"), query["RelayState"][0]


@dataclass
class SamlDouble:
    """Its responses are right, unless a test changes something."""

    now: Callable[[], datetime]
    subject: str = "ann-1"
    name_id_format: str = PERSISTENT
    attributes: dict[str, Any] = field(default_factory=dict)
    signs_with: str = "first"
    #: What is signed, from the inside out.
    signed: tuple[str, ...] = ("Assertion",)
    signature_method: str = RSA_SHA256
    digest_method: str = SHA256
    #: Replaces values of the response.
    changes: dict[str, Any] = field(default_factory=dict)
    #: Changes the response before, and after, it is signed.
    edit: Callable[[Any], Any] | None = None
    forge: Callable[[Any], Any] | None = None
    count: int = 0

    def respond(self, request_id: str) -> str:
        """The response to a request, in base64."""
        root = etree.fromstring(self.xml(request_id))
        if self.edit:
            root = self.edit(root)
        for name in self.signed:
            element = root if name == "Response" else root.find(f"saml:{name}", NAMES)
            sign(element, self.signs_with, self.signature_method, self.digest_method)
        if self.forge:
            # Parsed anew, as an attacker has it.
            root = self.forge(etree.fromstring(etree.tostring(root)))
        return base64.b64encode(root if isinstance(root, bytes) else etree.tostring(root)).decode()

    def xml(self, request_id: str) -> str:
        """The unsigned response."""
        self.count += 1
        now, text = self.now(), "%Y-%m-%dT%H:%M:%SZ"
        values: dict[str, Any] = {
            "issuer": ISSUER,
            "audience": ENTITY_ID,
            "recipient": ACS_URL,
            "destination": ACS_URL,
            "in_response_to": request_id,
            "issued": now.strftime(text),
            "not_before": (now - timedelta(seconds=5)).strftime(text),
            "not_after": (now + timedelta(minutes=5)).strftime(text),
            "status": "urn:oasis:names:tc:SAML:2.0:status:Success",
            "id": f"_assertion{self.count}-{now.timestamp()}",
            **self.changes,
        }
        answers = f' InResponseTo="{values["in_response_to"]}"' if values["in_response_to"] else ""
        return f"""<samlp:Response xmlns:samlp="{NAMES["samlp"]}" xmlns:saml="{NAMES["saml"]}" Version="2.0"
 ID="_response{self.count}" IssueInstant="{values["issued"]}" Destination="{values["destination"]}"{answers}>
<saml:Issuer>{values["issuer"]}</saml:Issuer>
<samlp:Status><samlp:StatusCode Value="{values["status"]}"/></samlp:Status>
<saml:Assertion ID="{values["id"]}" Version="2.0" IssueInstant="{values["issued"]}">
<saml:Issuer>{values["issuer"]}</saml:Issuer>
<saml:Subject>
<saml:NameID Format="{self.name_id_format}">{self.subject}</saml:NameID>
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
<saml:SubjectConfirmationData NotOnOrAfter="{values["not_after"]}" Recipient="{values["recipient"]}"{answers}/>
</saml:SubjectConfirmation>
</saml:Subject>
<saml:Conditions NotBefore="{values["not_before"]}" NotOnOrAfter="{values["not_after"]}">
<saml:AudienceRestriction><saml:Audience>{values["audience"]}</saml:Audience></saml:AudienceRestriction>
</saml:Conditions>
<saml:AuthnStatement AuthnInstant="{values["issued"]}" SessionIndex="session-1"><saml:AuthnContext>
<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef>
</saml:AuthnContext></saml:AuthnStatement>
{_attribute_statement(self.attributes)}</saml:Assertion></samlp:Response>"""


def sign(element: Any, key: str, method: str = RSA_SHA256, digest: str = SHA256) -> None:
    """Signs an element, whose signature follows its issuer."""
    constants = xmlsec.constants
    methods = {one.href: one for one in vars(constants).values() if hasattr(one, "href") and one.href}
    signature = xmlsec.template.create(element, constants.TransformExclC14N, methods[method], ns="ds")
    element.insert(1, signature)
    reference = xmlsec.template.add_reference(signature, methods[digest], uri=f"#{element.get('ID')}")
    xmlsec.template.add_transform(reference, constants.TransformEnveloped)
    xmlsec.template.add_transform(reference, constants.TransformExclC14N)
    context = xmlsec.SignatureContext()
    if "hmac" in method:
        # Key confusion: the public certificate as a shared secret.
        context.key = xmlsec.Key.from_binary_data(constants.KeyDataHmac, certificate(key).encode())
    else:
        pem = saml_key(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        context.key = xmlsec.Key.from_memory(pem, constants.KeyDataFormatPem)
    context.register_id(element, "ID")
    context.sign(signature)


def naively_verifies(root: Any, key: str) -> bool:
    """Whether the first signature is right for some element of the document, as a careless verifier asks."""
    signature = root.find(".//ds:Signature", NAMES)
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(certificate(key), xmlsec.constants.KeyDataFormatCertPem)
    for element in {element.get("ID"): element for element in root.iter() if "ID" in element.attrib}.values():
        context.register_id(element, "ID")
    try:
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


def _attribute_statement(attributes: Mapping[str, Any]) -> str:
    if not attributes:
        return ""
    rows = "".join(
        f"<saml:Attribute Name={quoteattr(name)}>"
        + "".join(
            f"<saml:AttributeValue>{escape(str(one))}</saml:AttributeValue>"
            for one in (value if isinstance(value, list) else [value])
        )
        + "</saml:Attribute>"
        for name, value in attributes.items()
    )
    return f"<saml:AttributeStatement>{rows}</saml:AttributeStatement>"


def _evil(root: Any) -> tuple[Any, Any, Any]:
    """The signed assertion, its signature, and a copy of the assertion without one that names somebody else."""
    original = root.find("saml:Assertion", NAMES)
    signature = original.find("ds:Signature", NAMES)
    evil = deepcopy(original)
    evil.remove(evil.find("ds:Signature", NAMES))
    evil.set("ID", "_evil")
    evil.find("saml:Subject/saml:NameID", NAMES).text = "alice-1"
    for value in evil.iterfind(".//saml:AttributeValue", NAMES):
        if "@" in (value.text or ""):
            value.text = "alice@example.org"
    return original, signature, evil


def _wrapped_response(root: Any, place: str) -> Any:
    """XSW 1 and 2: a signed response within, or beside the signature of, a forged one."""
    evil = deepcopy(root)
    signature = evil.find("ds:Signature", NAMES)
    evil.remove(signature)
    evil.set("ID", "_evil")
    evil.find("saml:Assertion/saml:Subject/saml:NameID", NAMES).text = "alice-1"
    original = deepcopy(root)
    original.remove(original.find("ds:Signature", NAMES))
    if place == "in signature":
        signature.append(original)
    else:
        evil.insert(1, original)
    evil.insert(1, signature)
    return evil


def wrap(number: int) -> Callable[[Any], Any]:
    """Signature wrapping in its eight forms, as SAML Raider numbers them. 1 and 2 need a signed response, the others a
    signed assertion."""

    def forge(root: Any) -> Any:
        if number in (1, 2):
            return _wrapped_response(root, "in signature" if number == 1 else "beside it")
        original, signature, evil = _evil(root)
        match number:
            case 3:
                # The forged one before the signed one.
                root.insert(root.index(original), evil)
            case 4:
                # The signed one within the forged one.
                root.replace(original, evil)
                evil.append(original)
            case 5:
                # The forged one has the signature, the signed one stands at the end.
                original.remove(signature)
                root.replace(original, evil)
                evil.insert(1, signature)
                root.append(original)
            case 6:
                # The same, and the signed one within the signature.
                original.remove(signature)
                root.replace(original, evil)
                evil.insert(1, signature)
                signature.append(original)
            case 7:
                # The forged one in an element that allows anything.
                extensions = etree.SubElement(root, f"{{{NAMES['samlp']}}}Extensions")
                extensions.append(evil)
                root.insert(1, extensions)
            case 8:
                # The signed one in an object of the signature.
                original.remove(signature)
                root.replace(original, evil)
                evil.insert(1, signature)
                etree.SubElement(signature, f"{{{NAMES['ds']}}}Object").append(original)
        return root

    return forge
