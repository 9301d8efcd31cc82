"""A provider's SCIM client: requests with its token, and answers as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.test import Client

from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.identity.models import IdentityProvider
from tocsin.identity.scim import documents

PATCH_URN = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@dataclass(frozen=True, slots=True)
class ScimAnswer:
    """Status, headers and the parsed body; None without a body."""

    status: int
    headers: Any
    body: Any

    @property
    def error(self) -> tuple[int, str]:
        """Status and scimType of an error, which must be in SCIM's form."""
        assert self.body["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"], self.body
        assert self.body["status"] == str(self.status)
        assert self.body["detail"]
        return self.status, self.body.get("scimType", "")


@dataclass(frozen=True, slots=True)
class ScimClient:
    """Sends requests as one provider."""

    provider: IdentityProvider
    token: str

    def send(self, method: str, path: str, body: object = None, **headers: str) -> ScimAnswer:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        response = Client(raise_request_exception=False).generic(
            method,
            f"/scim/v2{path}",
            data,
            content_type="application/scim+json",
            headers={"Authorization": f"Bearer {self.token}", **headers},
        )
        if response.content:
            assert response["Content-Type"] == "application/scim+json"
        return ScimAnswer(response.status_code, response.headers, json.loads(response.content or b"null"))

    def get(self, path: str, **headers: str) -> ScimAnswer:
        return self.send("GET", path, **headers)

    def create(self, username: str, **attributes: Any) -> dict[str, Any]:
        """A user whom the provider creates."""
        answer = self.send("POST", "/Users", user_body(username, **attributes))
        assert answer.status == 201, answer.body
        created: dict[str, Any] = answer.body
        return created

    def create_group(self, name: str, *members: str) -> dict[str, Any]:
        body = {"displayName": name, "members": [{"value": member} for member in members]}
        answer = self.send("POST", "/Groups", body)
        assert answer.status == 201, answer.body
        created: dict[str, Any] = answer.body
        return created

    def patch(self, path: str, *operations: dict[str, Any], **headers: str) -> ScimAnswer:
        return self.send("PATCH", path, {"schemas": [PATCH_URN], "Operations": list(operations)}, **headers)

    def find(self, filter: str, kind: str = "Users") -> list[dict[str, Any]]:
        answer = self.send("POST", f"/{kind}/.search", {"filter": filter})
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.body["Resources"]
        assert answer.body["totalResults"] == len(found)
        return found


def scim_client(name: str = "Directory", **columns: Any) -> ScimClient:
    """A provider with a SCIM token."""
    provider = IdentityProvider.objects.create(name=name, slug=name.lower(), kind="oidc", issuer=name, **columns)
    return ScimClient(provider, documents.rotate_token(provider, actor=COMMAND_LINE, now=clock.now()))


def user_body(username: str, **attributes: Any) -> dict[str, Any]:
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": username,
        "emails": [{"value": f"{username}@example.org", "type": "work", "primary": True}],
        **attributes,
    }
