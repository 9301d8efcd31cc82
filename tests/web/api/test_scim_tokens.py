"""The SCIM token of an identity provider, by API."""

from __future__ import annotations

from tests.web.api.conftest import Api
from tocsin.identity.models import IdentityProvider
from tocsin.identity.scim import documents


def test_administrators_create_and_revoke_the_token(admin: Api, manager: Api) -> None:
    provider = IdentityProvider.objects.create(
        name="Entra", slug="entra", kind="oidc", issuer="https://x.example", client_id="tocsin"
    )
    path = "identity-providers/Entra/scim-token"
    assert manager.post(path).status == 403
    assert admin.post("identity-providers/None/scim-token").status == 404
    created = admin.post(path)
    assert (created.status, created.body["url"][-8:]) == (201, "/scim/v2")
    assert documents.verify_token(created.body["token"]) == provider
    shown = admin.get("identity-providers/Entra").body
    assert shown["scim_token_prefix"] == created.body["token"][:6]
    assert manager.delete(path).status == 403
    assert admin.delete(path).status == 204
    assert admin.get("identity-providers/Entra").body["scim_token_prefix"] == ""
    assert documents.verify_token(created.body["token"]) is None
