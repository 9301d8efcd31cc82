"""An administrator connects a provider, and a user signs in: in a browser, with its rules for cookies."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_every_page import sign_in
from tests.support import service_desk
from tests.support.browser import DESK, PHONE, Visitor, visitor
from tests.support.openid_provider import certified_provider
from tests.support.saml_provider import npm_saml_provider
from tests.support.server_process import serve
from tocsin.identity.saml import own_metadata
from tocsin.people.models import User

pytestmark = pytest.mark.browser


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def address(port: int) -> str:
    """For a browser, 127.0.0.1 of the provider is another site than localhost."""
    return f"http://localhost:{port}"


def fill_in(alice: Visitor, kind: str, **values: str) -> Page:
    page = alice.page
    sign_in(alice, "alice")
    alice.open("/settings/sign-in/")
    page.get_by_role("link", name=f"Other provider {kind}").click()
    fields = {"Name": "Acme", "Allowed email domains": "example.org", **values}
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " "), exact=label == "Name").fill(value)
    page.get_by_label("Provider in a private network").check()
    page.get_by_label("Role without a matching group").select_option("observer")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Test sign-in").click()
    return page


def check_test(alice: Visitor) -> None:
    expect(alice.page.get_by_text("The user ann is created and signs in.")).to_be_visible()
    expect(alice.page.get_by_text("nothing was changed")).to_be_visible()
    assert not User.objects.filter(username="ann").exists()
    alice.check_page()


def check_ann(ann: Visitor) -> None:
    expect(ann.page.get_by_role("heading", name="Alerts")).to_be_visible()
    assert User.objects.get(username="ann").email == "ann@example.org"
    ann.open("/me/")
    expect(ann.page.get_by_role("heading", name="Linked identities")).to_be_visible()


def test_a_saml_provider_is_connected_tested_and_signs_in(
    browser: Browser, database: str, tmp_path: Path, port: int
) -> None:
    service_desk.set_up()
    url, place = address(port), f"{address(port)}/accounts/saml/acme"
    known = own_metadata(entity_id=f"{place}/metadata/", acs_url=f"{place}/acs/")
    with serve(tmp_path, database, port=port, TOCSIN_BASE_URL=url), npm_saml_provider(tmp_path, known) as provider:
        with visitor(browser, url, width=DESK) as alice:
            page = fill_in(alice, "SAML 2.0", Metadata_URL=f"{provider.url}/metadata")
            page.get_by_role("link", name="ann").click()
            check_test(alice)
        with visitor(browser, url, width=PHONE) as ann:
            ann.open("/account/login/?next=/alerts/")
            ann.page.get_by_role("link", name="Sign in with Acme").click()
            ann.page.get_by_role("link", name="ann").click()
            check_ann(ann)


def test_an_openid_provider_is_connected_tested_and_signs_in(
    browser: Browser, database: str, tmp_path: Path, port: int
) -> None:
    service_desk.set_up()
    url, place = address(port), f"{address(port)}/accounts/oidc/acme"

    def pass_provider(page: Page) -> None:
        page.locator("[name=login]").fill("ann")
        page.locator("[name=password]").fill("any")
        page.get_by_role("button", name="Sign-in").click()
        page.get_by_role("button", name="Continue").click()

    with (
        serve(tmp_path, database, port=port, TOCSIN_BASE_URL=url),
        certified_provider(
            redirect_uri=f"{place}/login/callback/", logout_uri=f"{place}/backchannel-logout/"
        ) as provider,
    ):
        with visitor(browser, url, width=DESK) as alice:
            values = {"Issuer": provider.issuer, "Client_ID": "tocsin", "Client_secret": "a-client-secret"}
            pass_provider(fill_in(alice, "OpenID Connect", **values))
            check_test(alice)
        with visitor(browser, url, width=PHONE) as ann:
            ann.open("/account/login/?next=/alerts/")
            ann.page.get_by_role("link", name="Sign in with Acme").click()
            pass_provider(ann.page)
            check_ann(ann)
