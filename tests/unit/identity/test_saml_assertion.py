"""What a signed assertion has to say before it is believed, and how its attributes are read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lxml import etree

from tests.doubles.saml import ACS_URL, ENTITY_ID, ISSUER, NAMES, SamlDouble
from tocsin.core.errors import Rejected
from tocsin.identity.saml import MAX_AGE, Addressee, Assertion, moment_of, parse, read_assertion, text_of

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
HERE = Addressee(ISSUER, ENTITY_ID, ACS_URL, NOW)
SAML = f"{{{NAMES['saml']}}}"


def read(edit: Callable[[Any], object] = lambda assertion: None, **changes: Any) -> Assertion:
    double = SamlDouble(lambda: NOW, attributes={"email": "ann@example.org"}, changes=changes)
    assertion = etree.fromstring(double.xml("_request")).find("saml:Assertion", NAMES)
    edit(assertion)
    return read_assertion(etree.tostring(assertion), HERE)


def refusal(edit: Callable[[Any], object] = lambda assertion: None, **changes: Any) -> str:
    with pytest.raises(Rejected) as caught:
        read(edit, **changes)
    return caught.value.reason.code


def test_a_right_assertion_is_read() -> None:
    found = read()
    assert (found.subject, found.in_response_to, found.session_index) == ("ann-1", "_request", "session-1")
    assert found.attributes == {"email": ["ann@example.org"], "NameID": "ann-1"}


def test_unknown_conditions_are_refused() -> None:
    def add(assertion: Any) -> None:
        etree.SubElement(assertion.find("saml:Conditions", NAMES), f"{SAML}Condition")

    assert refusal(add) == 'The assertion has the unknown condition "{name}".'


def test_every_audience_restriction_has_to_hold() -> None:
    def add(assertion: Any) -> None:
        restriction = etree.SubElement(assertion.find("saml:Conditions", NAMES), f"{SAML}AudienceRestriction")
        etree.SubElement(restriction, f"{SAML}Audience").text = "https://other.example.org/"

    assert refusal(add) == "The provider's answer is not meant for this application."


def test_an_assertion_without_audience_is_refused() -> None:
    def remove(assertion: Any) -> None:
        conditions = assertion.find("saml:Conditions", NAMES)
        conditions.remove(conditions[0])

    assert refusal(remove) == "The provider's answer is not meant for this application."


@pytest.mark.parametrize("name", ["Issuer", "Conditions", "Subject", "AuthnStatement"])
def test_each_part_has_to_be_there_once(name: str) -> None:
    def double_part(assertion: Any) -> None:
        part = assertion.find(f"saml:{name}", NAMES)
        part.addnext(etree.fromstring(etree.tostring(part)))

    assert refusal(lambda one: one.remove(one.find(f"saml:{name}", NAMES))) == 'The provider sent no claim "{claim}".'
    assert refusal(double_part) == "The provider's answer cannot be read."


def test_only_a_bearer_confirmation_counts() -> None:
    def change(assertion: Any) -> None:
        confirmation = assertion.find(".//saml:SubjectConfirmation", NAMES)
        confirmation.set("Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key")

    assert refusal(change) == 'The provider sent no claim "{claim}".'


def test_one_of_several_confirmations_is_enough() -> None:
    def add(assertion: Any) -> None:
        confirmation = assertion.find(".//saml:SubjectConfirmation", NAMES)
        other = etree.fromstring(etree.tostring(confirmation))
        other[0].set("Recipient", "https://other.example.org/")
        confirmation.addprevious(other)

    assert read(add).subject == "ann-1"


def test_an_ended_session_is_refused() -> None:
    def end(assertion: Any) -> None:
        assertion.find("saml:AuthnStatement", NAMES).set("SessionNotOnOrAfter", "2026-11-24T08:00:00Z")

    assert refusal(end) == "The provider's answer has expired. Compare the clocks of Tocsin and of the provider."


def test_an_old_assertion_is_refused_whatever_it_says() -> None:
    old = (NOW - MAX_AGE).isoformat()
    assert (
        refusal(issued=old, not_after="9999-12-31T23:59:59Z")
        == "The provider's answer has expired. Compare the clocks of Tocsin and of the provider."
    )
    young = read(issued=(NOW - timedelta(hours=1)).isoformat(), not_after="9999-12-31T23:59:59Z")
    assert young.expires_at == NOW + MAX_AGE - timedelta(hours=1)


@pytest.mark.parametrize("text", ["", "yesterday", "0001-01-01T00:00:00+14:00"])
def test_unreadable_times_are_refused(text: str) -> None:
    assert refusal(issued=text) == "The provider's answer cannot be read."
    assert refusal(not_before=text) == "The provider's answer cannot be read."


def test_times_without_a_zone_are_utc() -> None:
    assert moment_of("2026-11-24T09:15:00") == moment_of("2026-11-24T10:15:00.0000000+01:00") == NOW


def test_attributes_are_found_by_name_and_friendly_name() -> None:
    def name(assertion: Any) -> None:
        attribute = assertion.find(".//saml:Attribute", NAMES)
        attribute.set("Name", "urn:oid:0.9.2342.19200300.100.1.3")
        attribute.set("FriendlyName", "mail")
        other = etree.SubElement(attribute.getparent(), f"{SAML}Attribute", Name="x", FriendlyName="NameID")
        etree.SubElement(other, f"{SAML}AttributeValue").text = "alice-1"

    found = read(name).attributes
    assert found["mail"] == found["urn:oid:0.9.2342.19200300.100.1.3"] == ["ann@example.org"]
    assert found["NameID"] == "ann-1", "no attribute stands for the subject"


def test_comments_and_instructions_never_cut_a_text() -> None:
    root = parse("<a>alice<!-- x -->@example<?x y?>.org</a>")
    assert text_of(root) == "alice@example.org"
    assert parse('<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>') is None
