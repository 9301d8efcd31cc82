"""PATCH on a document: what RFC 7644 says, what providers send, and nothing in between."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.identity.scim import filters
from tocsin.identity.scim.schema import GROUP, USER

USER_DOCUMENT: dict[str, Any] = {
    "userName": "bob",
    "active": True,
    "name": {"givenName": "Bob", "familyName": "Brown"},
    "emails": [{"type": "work", "value": "w@x.example", "primary": True}, {"type": "home", "value": "h@x.example"}],
}
GROUP_DOCUMENT: dict[str, Any] = {"displayName": "Staff", "members": [{"value": "1", "type": "User", "$ref": "u/1"}]}


def patched(*operations: dict[str, Any], document: dict[str, Any] = USER_DOCUMENT) -> dict[str, Any]:
    before = copy.deepcopy(document)
    schema = USER if "userName" in document else GROUP
    try:
        return filters.apply(schema, document, {"Operations": list(operations)})
    finally:
        assert document == before


@pytest.mark.parametrize(
    ("operation", "attribute", "expected"),
    [
        (
            {"op": "replace", "path": "name", "value": {"givenName": "B"}},
            "name",
            {"givenName": "B", "familyName": "Brown"},
        ),
        ({"op": "replace", "path": "NAME.GIVENNAME", "value": "B"}, "name", {"givenName": "B", "familyName": "Brown"}),
        ({"op": "remove", "path": "name.givenName"}, "name", {"familyName": "Brown"}),
        ({"op": "remove", "path": "name"}, "name", None),
        ({"op": "replace", "path": "name", "value": None}, "name", None),
        ({"op": "add", "path": "displayName", "value": "B"}, "displayName", "B"),
        ({"op": "add", "path": "displayName", "value": ""}, "displayName", ""),
        ({"op": "Replace", "path": "active", "value": "False"}, "active", False),
        (
            {"op": "add", "path": "emails", "value": [{"type": "work", "value": "w@x.example"}]},
            "emails",
            USER_DOCUMENT["emails"],
        ),
        (
            {"op": "add", "path": "emails", "value": {"type": "other", "value": "o@x.example", "primary": True}},
            "emails",
            [
                {"type": "work", "value": "w@x.example", "primary": False},
                {"type": "home", "value": "h@x.example"},
                {"type": "other", "value": "o@x.example", "primary": True},
            ],
        ),
        (
            {"op": "replace", "path": 'emails[type eq "home"]', "value": {"value": "n@x.example"}},
            "emails",
            [USER_DOCUMENT["emails"][0], {"value": "n@x.example"}],
        ),
        (
            {"op": "replace", "path": "emails.value", "value": "n@x.example"},
            "emails",
            [
                {"type": "work", "value": "n@x.example", "primary": True},
                {"type": "home", "value": "n@x.example"},
            ],
        ),
        ({"op": "remove", "path": 'emails[type eq "home"]'}, "emails", [USER_DOCUMENT["emails"][0]]),
        ({"op": "remove", "path": 'emails[type eq "none"]'}, "emails", USER_DOCUMENT["emails"]),
        ({"op": "add", "path": "urn:ietf:params:scim:schemas:core:2.0:User:locale", "value": "de"}, "locale", "de"),
        ({"op": "add", "path": 'addresses[type eq "work"].formatted', "value": "x"}, "addresses", None),
        ({"op": "add", "path": "urn:x:y:User", "value": {"a": 1}}, "urn:x:y:User", None),
        ({"op": "add", "value": {"schemas": ["x"], "id": "9", "locale": "de"}}, "locale", "de"),
    ],
)
def test_operation_changes_what_its_path_names(operation: dict[str, Any], attribute: str, expected: Any) -> None:
    assert patched(operation).get(attribute) == expected


def test_members_listed_in_the_value_are_removed() -> None:
    assert "members" not in patched(
        {"op": "remove", "path": "members", "value": [{"value": "1"}]}, document=GROUP_DOCUMENT
    )
    kept = patched({"op": "remove", "path": "members", "value": [{"value": "2"}]}, document=GROUP_DOCUMENT)
    assert kept == GROUP_DOCUMENT


def test_too_many_operations_and_values_are_refused() -> None:
    operation = {"op": "replace", "path": "displayName", "value": "x"}
    with pytest.raises(Rejected) as raised:
        patched(*[operation] * (filters.MAX_OPERATIONS + 1))
    assert raised.value.code == "invalid_syntax"
    numbers = [{"op": "add", "path": "emails", "value": {"value": f"{n}@x.example"}} for n in range(30)]
    with pytest.raises(Rejected) as raised:
        patched(*numbers)
    assert raised.value.code == "invalid_value"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "type", "x"]), inner),
    max_leaves=6,
)
_PATHS = st.sampled_from(
    [
        *("userName", "name", "name.givenName", "emails", 'emails[type eq "work"]', 'emails[type eq "home"].value'),
        *("emails[", "x", "active", "meta.created", 'name[x eq "y"]', "emails.primary", "emails[not (type pr)].type"),
        *("groups", ""),
    ]
)
_CODES = {"", "invalid_syntax", "invalid_path", "invalid_filter", "no_target", "mutability", "invalid_value"}
_OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "Add", "x"])},
    optional={"path": _PATHS | st.text(max_size=12) | _JSON, "value": _JSON},
)


@given(st.fixed_dictionaries({"Operations": st.lists(_OPERATIONS, min_size=1, max_size=4)}) | _JSON)
def test_any_patch_is_applied_or_refused(body: Any) -> None:
    try:
        changed = filters.apply(USER, USER_DOCUMENT, body)
    except Rejected as rejected:
        code = rejected.code
    else:
        code = ""
        assert {"userName", "active", "emails"} <= changed.keys()
        assert changed["emails"]
    assert code in _CODES
