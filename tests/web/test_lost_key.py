"""A lost secret key: every page still renders, reports it, and accepts the secrets again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import unescape

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.config import crypto, environment
from tocsin.core.errors import Permanent, Rejected
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration
from tocsin.notify.integrations import web_push
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands as providers
from tocsin.outbound import commands as outbound
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import User

type BrowserOf = Callable[[User], Client]

KEY = "another-key-of-at-least-thirty-two-characters"
PROVIDER = {"name": "Texts", "kind": "twilio", "account_sid": "AC1", "from_number": "+41440000000", "channels": ["sms"]}
HALO = {"name": "Halo", "kind": "haloitsm", "base_url": "https://acme.haloitsm.com", "client_id": "tocsin"}


@pytest.fixture
def lose_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    def lose() -> None:
        monkeypatch.setenv("TOCSIN_SECRET_KEY", KEY)
        environment.read_again()

    yield lose
    monkeypatch.undo()
    environment.read_again()


@pytest.fixture
def guarded(company: Company) -> Integration:
    """An integration that asks its senders for a password."""
    spec = {**integrations.integration_spec(company.halo), "credentials": {"basic": {"username": "u", "password": "p"}}}
    return integrations.save_integration(spec, existing=company.halo, actor=COMMAND_LINE, now=company.now)


def test_pages_and_the_api_show_what_there_is(
    company: Company, guarded: Integration, browser_of: BrowserOf, lose_key: Callable[[], None]
) -> None:
    lose_key()
    client = browser_of(company.admin)
    for tab in ("", "guide/", "security/", "settings/"):
        answer = client.get(f"/integrations/{guarded.pk}/{tab}")
        assert answer.status_code == 200, tab
    security = unescape(client.get(f"/integrations/{guarded.pk}/security/").content.decode())
    assert "can't be shown" in security
    assert "All requests are rejected until you re-enter them" in security
    assert "can't be shown" in client.get(f"/integrations/{guarded.pk}/").content.decode()
    (listed,) = [one for one in client.get("/api/v1/integrations").json()["items"] if one["id"] == guarded.pk]
    assert listed["url"] is None
    assert "credentials" not in listed


def test_a_new_url_and_new_credentials_can_be_made(
    company: Company, guarded: Integration, browser_of: BrowserOf, lose_key: Callable[[], None]
) -> None:
    before = bytes(guarded.token_hash)
    lose_key()
    client = browser_of(company.admin)
    client.post(f"/integrations/{guarded.pk}/security/", {"form": "rotate", "overlap": "1h"})
    form = {"form": "credentials", "basic_username": "u", "basic_password": "new"}
    client.post(f"/integrations/{guarded.pk}/security/", form)
    row = Integration.objects.get(pk=guarded.pk)
    assert bytes(row.old_token_hash or b"") == before
    assert secrets.url_of(row) in client.get(f"/integrations/{row.pk}/security/").content.decode()
    assert secrets.credentials_of(row)["basic"] == {"username": "u", "password": "new"}


def test_saving_without_secrets_keeps_them_for_the_restored_key(
    company: Company, guarded: Integration, lose_key: Callable[[], None]
) -> None:
    token, sealed = guarded.token, guarded.credentials
    lose_key()
    spec = {**integrations.integration_spec(guarded), "name": "Halo of old"}
    row = integrations.save_integration(spec, existing=guarded, actor=COMMAND_LINE, now=company.now)
    assert (row.token, row.credentials) == (token, sealed)


def test_resubmitted_token_is_kept_under_the_new_key(
    company: Company, guarded: Integration, lose_key: Callable[[], None]
) -> None:
    token, hashed = secrets.token_of(guarded), bytes(guarded.token_hash)
    lose_key()
    spec = {**integrations.integration_spec(guarded), "token": token}
    row = integrations.save_integration(spec, existing=guarded, actor=COMMAND_LINE, now=company.now)
    assert (secrets.token_of(row), bytes(row.token_hash), row.old_token_hash) == (token, hashed, None)


def test_the_secrets_of_providers_and_outbound_integrations_are_entered_again(
    company: Company, lose_key: Callable[[], None]
) -> None:
    by = {"actor": COMMAND_LINE, "now": company.now}
    provider = providers.save_provider({**PROVIDER, "auth_token": "old"}, **by)  # type: ignore[arg-type]
    halo = outbound.save_outbound({**HALO, "client_secret": "old"}, **by)  # type: ignore[arg-type]
    lose_key()
    with pytest.raises(Rejected, match="auth_token: is required"):
        providers.save_provider(PROVIDER, existing=provider, **by)  # type: ignore[arg-type]
    with pytest.raises(Rejected, match="client_secret: is required"):
        outbound.save_outbound(HALO, existing=halo, **by)  # type: ignore[arg-type]
    provider, halo = Provider.objects.get(pk=provider.pk), OutboundIntegration.objects.get(pk=halo.pk)
    with pytest.raises(Permanent):
        crypto.decrypt_bundle(provider.secrets)
    providers.save_provider({**PROVIDER, "auth_token": "new"}, existing=provider, **by)  # type: ignore[arg-type]
    outbound.save_outbound({**HALO, "client_secret": "new"}, existing=halo, **by)  # type: ignore[arg-type]
    assert crypto.decrypt_bundle(Provider.objects.get(pk=provider.pk).secrets) == {"auth_token": "new"}
    assert crypto.decrypt_bundle(OutboundIntegration.objects.get(pk=halo.pk).secrets) == {"client_secret": "new"}


def test_optional_secret_is_kept_for_the_restored_key(company: Company, lose_key: Callable[[], None]) -> None:
    spec = {"name": "Phones", "kind": "ntfy", "token": "tk_secret"}
    provider = providers.save_provider(spec, actor=COMMAND_LINE, now=company.now)
    sealed = provider.secrets
    lose_key()
    renamed = {"name": "Telephones", "kind": "ntfy"}
    assert providers.save_provider(renamed, existing=provider, actor=COMMAND_LINE, now=company.now).secrets == sealed


def test_push_devices_work_with_the_public_key_alone(
    company: Company, browser_of: BrowserOf, lose_key: Callable[[], None]
) -> None:
    client = browser_of(company.admin)
    key = client.get("/api/v1/push-devices/key").json()["public"]
    lose_key()
    assert key in client.get("/me/devices/").content.decode()
    assert client.get("/api/v1/push-devices/key").json() == {"public": key}
    with pytest.raises(Permanent, match="don't decrypt"):
        web_push.pair(company.now)
