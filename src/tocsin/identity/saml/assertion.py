"""Checks what a SAML response says (SAML Profiles 4.1.4.3, Core 2.5): whom it is for, when, and whether it answers a
request. Pure. The signature is checked by `signature`, which also decides what part of the response is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.identity import reasons
from tocsin.identity.oidc.tokens import MAX_SKEW
from tocsin.identity.saml.elements import BEARER, SAML, SAMLP, SUCCESS, TRANSIENT, moment_of, parse, text_of

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
