"""Providers are saved by the settings of their kind; secrets are never returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from tests.doubles.ntfy import NtfyDouble, ntfy_double
from tests.doubles.smtp import smtp_double
from tests.support.outbox_harness import allow_loopback, configured
from tests.support.people import ACTOR
from tocsin.access.models import AuditEntry
from tocsin.core.config import crypto, settings_store
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.notify import notices
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands
from tocsin.notify.providers.pool import ProviderPool
from tocsin.people.models import User

pytestmark = pytest.mark.usefixtures("database")

NTFY = {"name": "Push", "kind": "ntfy", "api_base": "https://ntfy.example.org/", "token": "tk_secret"}


@pytest.fixture
def ntfy(monkeypatch: pytest.MonkeyPatch) -> Iterator[NtfyDouble]:
    allow_loopback(monkeypatch)
    with ntfy_double() as double:
        yield double


def save(spec: Mapping[str, object], now: datetime, existing: Provider | None = None) -> Provider:
    return commands.save_provider(spec, existing=existing, actor=ACTOR, now=now)


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"name": ""}, "name", "is required"),
        ({"name": "a/b"}, "name", "slash"),
        ({"name": "sandbox"}, "name", "is reserved"),
        ({"name": "smtp (Default)"}, "name", "is reserved"),
        ({"kind": "pigeon"}, "kind", "is not one of smtp, "),
        ({"kind": None}, "kind", "is required"),
        ({"channels": ["sms"]}, "channels[0]", '"sms" is not one of ntfy and push'),
        ({"channels": "ntfy"}, "channels", "must be a list"),
        ({"order": 0}, "order", "from 1 to 1,000"),
        ({"api_base": "ftp://x"}, "api_base", "http:// or https://"),
        ({"api_base": "https://user:pw@x"}, "api_base", "must not contain a user name or password"),
        ({"auth_token": "x"}, "auth_token", "unknown key"),
        ({"ordre": 1}, "ordre", 'did you mean "order"?'),
        ({"enabled": "yes"}, "enabled", "true or false"),
        ({"token": 5}, "token", "must be text"),
    ],
)
def test_a_bad_spec_is_refused_naming_the_place(
    changes: dict[str, Any], field: str, sentence: str, now: datetime
) -> None:
    with pytest.raises(Rejected) as caught:
        save({**NTFY, **changes}, now)
    assert field in caught.value.fields
    assert sentence in caught.value.fields[field]
    assert Provider.objects.count() == 0


@pytest.mark.parametrize("host", ["<b>", "mail example.org", "mail.example.org:587", "-mail.example.org", "smtp://x"])
def test_a_server_that_can_be_none_is_refused(host: str, now: datetime) -> None:
    with pytest.raises(Rejected) as caught:
        save({"name": "Mail", "kind": "smtp", "host": host, "sender": "Tocsin"}, now)
    assert "is not a server name" in caught.value.fields["host"]
    assert "is not an email address" in caught.value.fields["sender"]


@pytest.mark.parametrize(
    "host", ["mail", "mail_1.example.org", "MAIL.example.org.", "bücher.example", "192.0.2.1", "::1"]
)
def test_every_server_name_and_address_is_accepted(host: str, now: datetime) -> None:
    made = save({"name": "Mail", "kind": "smtp", "host": host, "sender": "Tocsin <t@example.org>"}, now)
    assert made.settings["host"] == host


#: What each vendor of texts needs besides a From number.
VENDORS: dict[str, dict[str, Any]] = {
    "twilio": {"account_sid": "AC1", "auth_token": "secret"},
    "telnyx": {"api_key": "secret", "public_key": "key", "texml_application_id": "177"},
    "vonage": {"api_key": "key", "api_secret": "secret", "signing_secret": "secret"},
}
NO_NUMBERS = [
    "044 555 00 00",
    "0445550000",
    "+0445550000",
    "0044445550000",
    "+41 44",
    "The Service Desk",
    "***",
    "+",
    "-",
]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("number", NO_NUMBERS)
def test_from_number_without_country_code_is_refused(vendor: str, number: str, now: datetime) -> None:
    with pytest.raises(Rejected) as caught:
        save({"name": "SMS", "kind": vendor, "channels": ["sms"], "from_number": number, **VENDORS[vendor]}, now)
    assert f'"{number}" has no country code' in caught.value.fields["from_number"]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("number", ["+41 44 555 00 00", "+41445550000", "Tocsin", "Acme IT", "12345"])
def test_number_short_code_or_name_may_send_texts(vendor: str, number: str, now: datetime) -> None:
    spec = {"name": "SMS", "kind": vendor, "channels": ["sms"], "from_number": number, **VENDORS[vendor]}
    assert save(spec, now).settings["from_number"] == number


@pytest.mark.parametrize("vendor", ["twilio", "telnyx"])
@pytest.mark.parametrize("number", ["Tocsin", "12345"])
@pytest.mark.parametrize("channels", [{}, {"channels": ["sms", "voice"]}])
def test_calls_need_a_number_to_come_from(vendor: str, number: str, channels: dict[str, Any], now: datetime) -> None:
    with pytest.raises(Rejected) as caught:
        save({"name": "Phones", "kind": vendor, "from_number": number, **VENDORS[vendor], **channels}, now)
    assert f'Calls cannot come from "{number}"' in caught.value.fields["from_number"]


def test_telnyx_without_a_texml_application_carries_texts_only(now: datetime) -> None:
    spec = {"name": "Telnyx", "kind": "telnyx", "from_number": "+15550100", "api_key": "secret", "public_key": "key"}
    assert save(spec, now).channels == ["sms"]
    with pytest.raises(Rejected) as caught:
        save({**spec, "name": "Calls", "channels": ["voice"]}, now)
    assert "required for the channel Call" in caught.value.fields["texml_application_id"]
    assert save({**spec, "name": "Both", "texml_application_id": "177"}, now).channels == ["sms", "voice"]


def test_all_errors_are_reported_at_once(now: datetime) -> None:
    with pytest.raises(Rejected) as caught:
        save({"name": "1", "kind": "smtp", "port": 70_000, "security": "rot13"}, now)
    assert set(caught.value.fields) == {"name", "host", "port", "security"}


def test_provider_is_returned_as_written_without_its_secrets(now: datetime) -> None:
    made = save({**NTFY, "order": 3}, now)
    assert commands.provider_spec(made) == {
        "name": "Push",
        "kind": "ntfy",
        "channels": ["ntfy", "push"],
        "order": 3,
        "api_base": "https://ntfy.example.org",
    }
    assert commands.provider_spec(made, with_secrets=True)["token"] == "tk_secret"
    assert commands.secrets_set(made) == {"token"}
    again = save({**commands.provider_spec(made), "name": "Again"}, now)
    assert commands.provider_spec(again) == {**commands.provider_spec(made), "name": "Again"}


def test_a_secret_is_stored_encrypted_and_stands_nowhere_else(now: datetime) -> None:
    made = save(NTFY, now)
    assert "tk_secret" not in f"{made.secrets}{made.settings}"
    assert crypto.decrypt_bundle(made.secrets) == {"token": "tk_secret"}
    save({**commands.provider_spec(made), "token": "tk_other"}, now, made)
    entries = list(AuditEntry.objects.filter(object_type="provider").order_by("id"))
    assert [entry.action for entry in entries] == ["create", "update"]
    text = " ".join(f"{entry.before}{entry.after}" for entry in entries)
    assert "tk_" not in text
    assert "secrets_changed" in text


def test_omitted_secret_is_kept_and_empty_secret_is_cleared(now: datetime) -> None:
    made = save(NTFY, now)
    save({**commands.provider_spec(made), "order": 2}, now, made)
    assert crypto.decrypt_bundle(made.secrets) == {"token": "tk_secret"}
    save({**commands.provider_spec(made), "token": ""}, now, made)
    assert made.secrets == ""


@pytest.mark.parametrize(
    ("spec", "secret"),
    [
        ({"kind": "twilio", "account_sid": "AC1", "auth_token": "t", "from_number": "+41440000000"}, "auth_token"),
        ({"kind": "telnyx", "api_key": "KEY1", "from_number": "+41440000000", "public_key": "k"}, "api_key"),
        ({"kind": "slack", "bot_token": "xoxb-1"}, "bot_token"),
        ({"kind": "telegram", "bot_token": "1:A"}, "bot_token"),
    ],
)
def test_required_secret_can_be_neither_omitted_nor_emptied(now: datetime, spec: dict[str, Any], secret: str) -> None:
    spec = {"name": "Team", **spec}
    without = {key: value for key, value in spec.items() if key != secret}
    with pytest.raises(Rejected) as refused:
        save(without, now)
    assert refused.value.fields == {secret: f"{secret}: is required."}
    made = save(spec, now)
    for empty in ("", "  "):
        with pytest.raises(Rejected) as refused:
            save({**commands.provider_spec(made), secret: empty}, now, made)
        assert refused.value.fields == {secret: f"{secret}: is required."}
    made.refresh_from_db()
    save({**commands.provider_spec(made), "order": 2}, now, made)
    assert crypto.decrypt_bundle(made.secrets) == {secret: spec[secret]}
    # What another kind knew is nothing to this one.
    ntfy = save(NTFY, now)
    with pytest.raises(Rejected, match=f"{secret}: is required"):
        save({**without, "name": "Push"}, now, ntfy)


SMTP = {"name": "Mail", "kind": "smtp", "host": "mail.example.org", "port": 587, "security": "starttls",
        "username": "tocsin", "password": "sesame", "sender": "tocsin@example.org"}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "secret", "moved"),
    [
        (NTFY, "token", {"api_base": "https://ntfy.evil.example/"}),
        (NTFY, "token", {"api_base": "http://ntfy.example.org/"}),
        (SMTP, "password", {"host": "mail.evil.example"}),
        (SMTP, "password", {"port": 2525}),
        (SMTP, "password", {"security": "none"}),
    ],
)
def test_stored_secret_is_not_reused_for_another_server(
    now: datetime, spec: dict[str, Any], secret: str, moved: dict[str, Any]
) -> None:
    made = save(spec, now)
    there = {**commands.provider_spec(made), **moved}
    with pytest.raises(Rejected, match=f"{secret}: enter the secret again: the address has changed"):
        save(there, now, made)
    made.refresh_from_db()
    assert commands.provider_spec(made)["name"] == spec["name"]
    save({**there, secret: "another"}, now, made)
    save({**commands.provider_spec(made), "order": 3}, now, made)
    assert crypto.decrypt_bundle(made.secrets) == {secret: "another"}


def test_secrets_that_authenticate_callers_are_not_requested_again(now: datetime) -> None:
    spec = {"name": "Chat", "kind": "slack", "bot_token": "xoxb-1", "signing_secret": "s3cret"}
    made = save(spec, now)
    there = {**commands.provider_spec(made), "api_base": "https://slack.proxy.example"}
    save({**there, "bot_token": "xoxb-2"}, now, made)
    assert crypto.decrypt_bundle(made.secrets) == {"bot_token": "xoxb-2", "signing_secret": "s3cret"}


def test_provider_name_is_unique_ignoring_case(now: datetime) -> None:
    save(NTFY, now)
    with pytest.raises(Rejected) as caught:
        save({**NTFY, "name": "PUSH"}, now)
    assert caught.value.code == "name_taken"


def test_two_providers_are_never_called_back_at_the_same_address(now: datetime) -> None:
    save({**NTFY, "name": "Push one"}, now)
    with pytest.raises(Rejected) as caught:
        save({**NTFY, "name": "push-one"}, now)
    assert 'too similar to "Push one"' in caught.value.detail


def test_saving_the_same_again_changes_nothing(now: datetime) -> None:
    made = save(NTFY, now)
    with database.transaction() as connection:
        before = settings_store.current_version(connection)
    save({**NTFY, "channels": ["ntfy", "push"]}, now, made)
    with database.transaction() as connection:
        assert settings_store.current_version(connection) == before
    assert AuditEntry.objects.count() == 1


def test_a_deleted_provider_is_used_no_more(now: datetime) -> None:
    made = save(NTFY, now)
    directory = ProviderPool()
    with database.transaction() as connection:
        directory.refresh(connection)
    assert [carrier.name for carrier in directory.providers_for("ntfy", "topic")] == ["Push"]
    commands.delete_provider(made, actor=ACTOR, now=now)
    with database.transaction() as connection:
        directory.refresh(connection)
    assert directory.providers_for("ntfy", "topic") == ()
    directory.close()


def test_providers_are_tried_in_order_and_the_environments_comes_last(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(monkeypatch, smtp_url="smtp://mail.example.org", email_from="t@example.org")
    save({"name": "B", "kind": "smtp", "host": "b.example.org", "order": 1}, now)
    save({"name": "A", "kind": "smtp", "host": "a.example.org", "order": 2}, now)
    save({"name": "Off", "kind": "smtp", "host": "c.example.org", "order": 1, "enabled": False}, now)
    directory = ProviderPool()
    with database.transaction() as connection:
        directory.refresh(connection)
    names = [carrier.name for carrier in directory.providers_for("email", "x@example.org")]
    assert names == ["B", "A", "SMTP (default)"]
    assert directory.providers_for("email", "not an address") == ()
    directory.close()


def test_open_connections_stay_when_something_else_is_changed(now: datetime) -> None:
    save(NTFY, now)
    directory = ProviderPool()
    with database.transaction() as connection:
        directory.refresh(connection)
    before = directory.get("Push")
    save({"name": "Mail", "kind": "smtp", "host": "mail.example.org"}, now)
    with database.transaction() as connection:
        directory.refresh(connection)
    assert directory.get("Push") is before
    assert directory.has_provider("email")
    directory.close()


def test_testing_a_provider_says_what_worked(now: datetime, ntfy: NtfyDouble) -> None:
    ntfy.token = "tk_secret"
    made = save({**NTFY, "api_base": ntfy.url}, now)
    assert str(commands.test_provider(made)) == f"{ntfy.url} is healthy and accepts the access token."
    assert ntfy.messages == []


def test_testing_a_provider_says_what_did_not(now: datetime, ntfy: NtfyDouble) -> None:
    ntfy.token = "tk_other"
    with pytest.raises(Permanent, match="Check the access token"):
        commands.test_provider(save({**NTFY, "api_base": ntfy.url}, now))
    dead = save({"name": "Dead", "kind": "smtp", "host": "127.0.0.1", "port": 9}, now)
    with pytest.raises(Temporary, match="does not answer"):
        commands.test_provider(dead)


def test_message_is_not_tested_to_a_country_that_is_excluded(now: datetime) -> None:
    spec = {"name": "Texts", "kind": "twilio", "account_sid": "AC1", "auth_token": "x", "from_number": "+41790000000"}
    made = save({**spec, "prefixes": "+41"}, now)
    with pytest.raises(Rejected) as raised:
        notices.send_test(made, "sms", "+4915112345678", user=User(), now=now)
    assert (raised.value.field, raised.value.reason.code) == ("address", "{provider} does not deliver to this address.")


def test_provider_of_an_unknown_type_cannot_be_tested() -> None:
    with pytest.raises(Permanent) as raised:
        commands.test_provider(Provider(name="Old", kind="pigeon"))
    assert raised.value.reason.code == "Unknown provider type: {kind}."


def test_the_environments_server_can_be_tested_too(monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, smtp_url=None)
    with pytest.raises(Rejected):
        commands.test_environment()
    with smtp_double() as server:
        configured(monkeypatch, smtp_url=server.url)
        assert str(commands.test_environment()) == f"Connected to 127.0.0.1 port {server.port} without encryption."
