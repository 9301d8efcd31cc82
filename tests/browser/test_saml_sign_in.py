"""An administrator connects a SAML provider, and a user signs in: in a browser, with its rules for cookies."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_every_page import sign_in
from tests.support import service_desk
from tests.support.browser import DESK, PHONE, visitor
from tests.support.saml_provider import npm_saml_provider
from tests.support.server_process import serve
from tocsin.identity.saml.metadata import own_metadata
from tocsin.people.models import User

pytestmark = pytest.mark.browser


def test_a_provider_is_connected_tested_and_signs_in(browser: Browser, database: str, tmp_path: Path) -> None:
    service_desk.set_up()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # For a browser, 127.0.0.1 of the provider is another site than localhost.
    url = f"http://localhost:{port}"
    known = own_metadata(entity_id=f"{url}/accounts/saml/acme/metadata/", acs_url=f"{url}/accounts/saml/acme/acs/")
    with (
        serve(tmp_path, database, port=port, TOCSIN_BASE_URL=url),
        npm_saml_provider(tmp_path, known) as provider,
    ):
        with visitor(browser, url, width=DESK) as alice:
            page = alice.page
            sign_in(alice, "alice")
            alice.open("/settings/sign-in/")
            page.get_by_role("link", name="Other provider SAML 2.0").click()
            page.get_by_label("Name", exact=True).fill("Acme")
            page.get_by_label("Metadata URL").fill(f"{provider.url}/metadata")
            page.get_by_label("Provider in a private network").check()
            page.get_by_label("Allowed email domains").fill("example.org")
            page.get_by_label("Role without a matching group").select_option("observer")
            page.get_by_role("button", name="Save").click()
            page.get_by_role("link", name="Test sign-in").click()
            page.get_by_role("link", name="ann").click()
            expect(page.get_by_text("The user ann is created and signs in.")).to_be_visible()
            expect(page.get_by_text("nothing was changed")).to_be_visible()
            assert not User.objects.filter(username="ann").exists()
            alice.check_page()
        with visitor(browser, url, width=PHONE) as ann:
            ann.open("/account/login/?next=/alerts/")
            ann.page.get_by_role("link", name="Sign in with Acme").click()
            ann.page.get_by_role("link", name="ann").click()
            expect(ann.page.get_by_role("heading", name="Alerts")).to_be_visible()
            assert User.objects.get(username="ann").email == "ann@example.org"
            ann.open("/me/")
            expect(ann.page.get_by_role("heading", name="Linked identities")).to_be_visible()
