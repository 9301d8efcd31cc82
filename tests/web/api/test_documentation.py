"""The API describes itself, without external resources."""

from __future__ import annotations

import re
import sys
from html import unescape
from typing import Any

import pytest
from django.test import Client
from pydantic import BaseModel

from tests.web.api.conftest import Api
from tests.web.api.test_permissions import OPERATIONS

WITHOUT_BODY = {
    "POST linked-identities/{id}/approve",
    "POST identity-providers/{id}/scim-token",
    *(f"POST outbound-integrations/{{id}}/{verb}" for verb in ("test", "refresh", "look", "calls/send-again")),
    *(f"POST outbound-integrations/{{id}}/calls/{{call_id}}/{verb}" for verb in ("send-again", "drop")),
    "POST delayed-alerts/{id}/open",
    "POST maintenance-windows/{id}/end",
    *(f"POST workflows/{{id}}/runs/{{run_id}}/{verb}" for verb in ("try-again", "end")),
    "POST alerts/{id}/buttons/{button}",
    "POST alerts/{id}/ticket",
    "POST imports/{id}/apply",
    "POST contact-methods/{id}/test",
    "POST users/{id}/reset-second-factor",
    "POST schedules/{id}/handovers/{note_id}/send",
    "POST groups/{id}/contacts/{label}/test",
    "POST groups/{id}/members/{username}/show-addresses",
    "POST contact-methods/{id}/send-code",
    "POST call-routes/{id}/test-call",
    "POST providers/{id}/test",
    "POST integrations/{id}/test-mailbox",
    "POST integrations/{id}/versions/{number}/restore",
    "POST calendar-feeds/{id}/rotate",
    "POST overrides/{id}/take-back",
    *(f"POST swaps/{{id}}/{answer}" for answer in ("accept", "decline", "withdraw")),
}


@pytest.fixture
def openapi() -> Any:
    answer = Api().get("openapi.json")
    assert answer.status == 200
    return answer.body


@pytest.fixture
def page() -> str:
    response = Client().get("/api/v1/docs")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
    return response.content.decode()


def test_every_endpoint_documents_permissions_and_errors(openapi: Any) -> None:
    described = {
        f"{method.upper()} {path.removeprefix('/api/v1/')}": operation
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    }
    assert set(described) == {name.replace("int:", "") for name in OPERATIONS}
    assert len({operation["operationId"] for operation in described.values()}) == len(described)
    for name, operation in described.items():
        assert operation["summary"], name
        assert operation["x-needs"], name
        assert operation["responses"]["default"]["content"], name
        assert operation["security"], name
        if name.startswith(("POST", "PUT", "PATCH")) and name not in WITHOUT_BODY:
            assert "requestBody" in operation, name


def test_every_shape_that_is_referred_to_is_there(openapi: Any) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', str(openapi).replace("'", '"')))
    assert named
    assert named <= set(openapi["components"]["schemas"])


def test_configured_objects_have_the_schema_of_their_specs(openapi: Any) -> None:
    reference = {"$ref": "#/components/schemas/UserSpec"}
    operations = openapi["paths"]["/api/v1/users"] | openapi["paths"]["/api/v1/users/{id}"]
    assert operations["put"]["requestBody"]["content"]["application/json"]["schema"] == reference
    assert operations["put"]["responses"]["200"]["content"]["application/json"]["schema"] == reference
    schema = openapi["components"]["schemas"]["UserSpec"]
    assert schema["properties"]["id"] == {"type": "integer", "readOnly": True}
    assert schema["properties"]["password"]["writeOnly"]
    assert schema["properties"]["contact_methods"]["items"] == {"$ref": "#/components/schemas/ContactSpec"}
    listed = openapi["paths"]["/api/v1/groups"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    items = openapi["components"]["schemas"][listed["$ref"].rpartition("/")[2]]["properties"]["items"]
    assert items == {"type": "array", "items": {"$ref": "#/components/schemas/GroupSpec"}}


def test_a_shape_has_a_name_that_no_other_has() -> None:
    by_name: dict[str, list[Any]] = {}
    for name, module in sorted(sys.modules.items()):
        if name.startswith("tocsin.api."):
            for result in vars(module).values():
                if isinstance(result, type) and issubclass(result, BaseModel) and result.__module__ == name:
                    by_name.setdefault(result.__name__, []).append(result.model_json_schema())
    assert "AlertSummary" in by_name
    # Of two with one name the description has one, and says it of the other's answers too.
    assert [name for name, result in by_name.items() if any(one != result[0] for one in result)] == []


def test_a_list_says_its_filters(openapi: Any) -> None:
    parameters = {one["name"] for one in openapi["paths"]["/api/v1/alerts"]["get"]["parameters"]}
    assert parameters >= {"limit", "cursor", "status", "integration", "priority"}


def test_the_page_shows_every_address_and_every_shape(openapi: Any, page: str) -> None:
    text = unescape(page)
    for path in openapi["paths"]:
        assert f"<code>{path}</code>" in text
    for shape in ("AlertSummary", "DeliverySchema", "NewAlertBody", "HoldBody"):
        assert f">{shape}</h3>" in text


def test_what_stands_in_backticks_is_drawn_as_code(page: str) -> None:
    assert "One or several: <code>status=open&amp;status=assigned</code>." in page
    assert "`" not in page


def test_the_page_runs_no_script_and_loads_nothing_from_elsewhere(page: str) -> None:
    assert "<script" not in page
    assert "style=" not in page
    assert "<style" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)
    sheet = Client().get("/api/v1/docs.css")
    assert (sheet.status_code, sheet["Content-Type"]) == (200, "text/css; charset=utf-8")


def test_the_page_comes_under_the_strict_policy_of_all_pages() -> None:
    policy = Client().get("/api/v1/docs")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
