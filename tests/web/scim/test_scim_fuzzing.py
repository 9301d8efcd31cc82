"""Random requests of a provider with a valid token: never a 5xx, and never an error in another form than SCIM's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.company import Company
from tests.support.scim import scim_client
from tocsin.people.models import User

_TEXT = st.text(max_size=10) | st.sampled_from(["a\x00b", "\ud800", "bob", "bob@example.org", "True", "x" * 300, "7.x"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "type", "primary"]), inner),
    max_leaves=5,
)
_NAMES = st.sampled_from(
    [
        "userName",
        "displayName",
        "emails",
        "active",
        "name",
        "phoneNumbers",
        "members",
        "externalId",
        "timezone",
        "locale",
    ]
)
_RESOURCES = st.dictionaries(_NAMES, _JSON, max_size=6)
_PATCHES = st.fixed_dictionaries(
    {
        "Operations": st.lists(
            st.fixed_dictionaries(
                {"op": st.sampled_from(["add", "remove", "replace"]), "value": _JSON},
                optional={"path": _NAMES | st.sampled_from(['members[value eq "1"]', 'emails[type eq "work"].value'])},
            ),
            max_size=4,
        )
    }
)
_SEARCHES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("filter", "sortBy", "startIndex", "count", "attributes"), _JSON)
)


@pytest.mark.parametrize("kind", ["Users", "Groups"])
def test_random_requests_are_answered_in_scims_form(company: Company, kind: str) -> None:
    client = scim_client()
    name = "userName" if kind == "Users" else "displayName"
    begun = client.create("fuzz") if kind == "Users" else client.create_group("Fuzz", client.create("fuzz")["id"])

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        method, path, bodies = data.draw(
            st.sampled_from(
                [
                    ("POST", f"/{kind}", _RESOURCES),
                    ("PUT", f"/{kind}/{begun['id']}", _RESOURCES.map(lambda body: {name: "fuzz", **body})),
                    ("PATCH", f"/{kind}/{begun['id']}", _PATCHES),
                    ("POST", f"/{kind}/.search", _SEARCHES),
                ]
            )
        )
        body: Any = data.draw(bodies)
        answer = client.send(method, path, json.dumps(body, ensure_ascii=True).encode())
        assert answer.status in (200, 201, 400, 409), (method, path, body, answer)
        assert answer.status < 400 or answer.error

    attempt()
    assert client.get(f"/{kind}/{begun['id']}").status == 200
    assert User.objects.get(username="alice").is_active
