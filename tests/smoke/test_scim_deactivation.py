"""Deactivating somebody by SCIM while a page is out, with real processes."""

from __future__ import annotations

import time

import httpx

from tests.doubles.smtp import SmtpDouble
from tests.support.installation import CONFIGURATION, Installation, ticket, traces, until

_PROVIDER = """
identity_providers:
  - {name: Directory, kind: oidc, preset: generic, issuer: https://idp.example.org, client_id: tocsin,
     client_secret: a-secret, default_role: observer}
"""


def test_a_page_moves_on_within_five_seconds(tocsin: Installation, mails: SmtpDouble) -> None:
    tocsin.apply(CONFIGURATION + _PROVIDER)
    token = tocsin.run("scim", "create-token", "Directory").stdout.strip()
    tocsin.serve()
    tocsin.post(ticket(20817))
    until("Alice is mailed", lambda: [mail for mail in mails.mails if mail.to == "alice@example.org"])
    with httpx.Client(
        base_url=f"{tocsin.url}/scim/v2", headers={"Authorization": f"Bearer {token}"}, timeout=30
    ) as provider:
        [alice] = provider.get("/Users", params={"filter": 'userName eq "alice"'}).json()["Resources"]
        change = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "active", "value": False}],
        }
        answer = provider.patch(f"/Users/{alice['id']}", json=change)
    deactivated_at = time.monotonic()
    assert answer.status_code == 200, answer.text
    until("Bob is mailed", lambda: [mail for mail in mails.mails if mail.to == "bob@example.org"], seconds=5)
    assert time.monotonic() - deactivated_at < 5
    assert traces(tocsin.logs()) == []
