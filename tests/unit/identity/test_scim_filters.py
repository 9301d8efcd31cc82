"""Filters of SCIM: what they match, and what is no filter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.identity.scim import filters
from tocsin.identity.scim.schema import GROUP, USER

BJENSEN: dict[str, Any] = {
    "id": "7",
    "userName": "bjensen",
    "externalId": "BJ",
    "name": {"familyName": "O'Malley"},
    "active": True,
    "emails": [
        {"type": "work", "value": "B@example.com", "primary": True},
        {"type": "home", "value": "b@home.example"},
    ],
    "meta": {"lastModified": "2026-05-13T04:42:34Z", "resourceType": "User"},
}


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ('userName eq "BJensen"', True),
        ('urn:ietf:params:scim:schemas:core:2.0:User:userName sw "bj"', True),
        ('USERNAME EQ "bjensen"', True),
        ('externalId eq "bj"', False),
        ('userName ne "bjensen"', False),
        ('name.familyName co "O\'Malley"', True),
        ('name.familyName ew "lley" and active eq true', True),
        ('active eq "True"', True),
        ("active ne false", True),
        ("displayName pr", False),
        ("displayName eq null", True),
        ("not (displayName pr)", True),
        ('title pr or userName eq "x"', False),
        ('emails eq "b@EXAMPLE.com"', True),
        ('emails.type eq "home"', True),
        ('emails[type eq "home" and value co "example.com"]', False),
        ('emails[type eq "work" and primary eq true]', True),
        ('emails[display eq "x"]', False),
        ('meta.lastModified gt "2026-05-13T04:42:33Z"', True),
        ('meta.lastModified le "2026-05-13T06:42:34+02:00"', True),
        ('userName eq "x" or userName eq "y" or (id eq "7" and not (active eq false))', True),
        ('userName eq "x" and userName eq "y" or id eq "7"', True),
        ('userName gt "a" and userName lt "c" and userName ge "bjensen"', True),
    ],
)
def test_filter_matches(text: str, is_match: bool) -> None:
    assert filters.matches(filters.parse(text, USER), BJENSEN) is is_match


@pytest.mark.parametrize(
    "text",
    [
        "",
        "userName",
        "userName eq",
        "userName eq bjensen",
        "userName eq 'x'",
        'userName like "x"',
        'userName eq "x" and',
        '(userName eq "x"',
        'userName eq "x")',
        "not userName pr",
        'shoeSize eq "44"',
        'name.shoeSize eq "44"',
        'emails[shoeSize eq "44"]',
        'emails[type eq "work"',
        "active eq 1",
        "active gt true",
        "userName eq true",
        "userName eq 7",
        'name eq "x"',
        'meta.created gt "yesterday"',
        'meta.created gt "2026-05-13T04:42:34"',
        'userName eq "\\u0000"',
        'userName eq "\\ud800"',
        'userName eq "' + "x" * 2000 + '"',
        "(" * 50 + "id pr" + ")" * 50,
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as raised:
        filters.parse(text, USER)
    assert raised.value.code == "invalid_filter"


_WORDS = st.sampled_from(
    ["userName", "emails", "name.givenName", "eq", "pr", "and", "or", "not", "(", ")", "[", "]", '"x"', "true", "null"]
)


@given(st.lists(_WORDS, max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        parsed = filters.parse(text, USER)
    except Rejected as rejected:
        outcome: object = rejected.code
    else:
        outcome = filters.matches(parsed, BJENSEN)
    assert outcome in (True, False, "invalid_filter")


def test_values_that_must_be_equal_are_found() -> None:
    parsed = filters.parse('id eq "7" and (members[value eq "3"] or displayName eq "x")', GROUP)
    assert filters.equal_values(parsed, ("id", "id")) == ["7"]
    assert filters.equal_values(parsed, ("members", "value"), ("displayName", "displayName")) == []
    parsed = filters.parse('members eq "3" and members[value eq "4" and type eq "User"]', GROUP)
    assert filters.equal_values(parsed, ("members", "value")) == ["3", "4"]
