"""Inbound integrations: from the catalogue to the first message, and their settings."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.alerts.models import Alert
from tocsin.core import ids
from tocsin.core.config import environment, settings_store
from tocsin.core.reasons import as_reason
from tocsin.inbound.admin import commands, secrets
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import DelayedAlert, Heartbeat, InboundMessage, Integration, IntegrationVersion
from tocsin.outbound.models import LookUp, OutboundIntegration
from tocsin.people.models import User
from tocsin.web.integrations import tabs

type BrowserOf = Callable[[User], Client]


def text_of(client: Client, path: str) -> str:
    return client.get(path).content.decode()


def arrived(company: Company, status: str = "New", outcome: str = MessageStatus.OPENED, **columns: object) -> str:
    """A message in the log."""
    message = InboundMessage.objects.create(
        id=ids.uuid7(),
        integration=company.halo,
        received_at=company.now,
        status=outcome,
        source_status=status,
        **{
            "subject": "VPN down",
            "raw": b'{"object_id": 20817, "ticket": {"status": {"name": "New"}, "summary": "VPN down"}}',
            **columns,
        },
    )
    return str(message.pk)


def test_only_group_is_preselected_for_new_integration(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    form = client.get("/integrations/add/haloitsm/").context["form"]
    assert form["groups"].initial == [], "of two groups nobody knows which one is meant"
    company.night.delete()
    assert client.get("/integrations/add/haloitsm/").context["form"]["groups"].initial == [company.desk.pk]


def test_adding_halo_needs_few_fields_and_shows_url_and_guide(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    form = {
        "name": "Halo 2",
        "policy": company.policy.pk,
        "groups": [company.desk.pk],
        "setting_halo_address": "acme.haloitsm.com",
    }
    answer = client.post("/integrations/add/haloitsm/", form, follow=True)
    text = answer.content.decode()
    made = Integration.objects.get(name="Halo 2")
    assert made.settings["halo_address"] == "https://acme.haloitsm.com"
    assert secrets.url_of(made) in text
    assert "Waiting for Halo 2…" in text
    assert "Webhooks" in text
    # Another Halo has tickets of the same numbers: only then is a Source asked for.
    other = {**form, "name": "Halo 3", "setting_halo_address": "beta.haloitsm.com"}
    text = client.post("/integrations/add/haloitsm/", other).content.decode()
    assert "Use a different Source, such as HaloITSM beta.haloitsm.com." in text
    assert 'type="text" name="source"' in text
    client.post("/integrations/add/haloitsm/", {**other, "source": "Beta"})
    assert Integration.objects.get(name="Halo 3").source == "Beta"


def test_catalogue_search_matches_several_words_and_shows_initials(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    value = text_of(client, "/integrations/add/?q=psa+TICKETS")
    assert "HaloPSA" in value
    assert "Autotask" in value
    assert "Alertmanager" not in value
    assert 'aria-hidden="true" data-letters="HP"' in client.get("/integrations/add/?q=halopsa").content.decode()
    assert "No matching integrations" in text_of(client, "/integrations/add/?q=psa+grafana")


def test_waiting_indicator_turns_green_with_first_message(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    arrived(company)
    part = client.get(f"/integrations/{company.halo.pk}/", headers={"X-Part": "first"}).content.decode()
    chip = client.get(f"/integrations/{company.halo.pk}/", headers={"X-Part": "health"}).content.decode()
    assert 'id="health"' in chip
    assert "waiting for the first message" not in chip
    assert "data-live" not in chip
    assert "Message received from HaloITSM" in part
    assert "VPN down" in part
    assert "would page Bob Brown, now" in part
    assert "<html" not in part


def test_duplicate_name_and_bad_address_are_shown_at_their_fields(company: Company, browser_of: BrowserOf) -> None:
    form = {
        "name": "haloitsm",
        "policy": company.policy.pk,
        "groups": [company.desk.pk],
        "setting_halo_address": "not an address",
    }
    answer = browser_of(company.admin).post("/integrations/add/haloitsm/", form)
    text = answer.content.decode()
    assert answer.status_code == 422
    assert text.count('class="errors"') == 2, text
    assert 'value="not an address"' in text


def test_unreachable_integration_is_saved_only_after_confirmation(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    form = {"name": "Nobody", "policy": company.policy.pk}
    text = client.post("/integrations/add/api/", form).content.decode()
    assert "No one would be notified" in text
    assert 'type="checkbox" name="anyway"' in text
    assert not Integration.objects.filter(name="Nobody").exists()
    client.post("/integrations/add/api/", {**form, "anyway": "on"})
    assert Integration.objects.filter(name="Nobody").exists()


def test_a_manager_adds_for_an_own_group_only(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    form = {"name": "Ours", "policy": company.policy.pk, "groups": [company.desk.pk]}
    assert client.post("/integrations/add/api/", form).status_code == 422
    assert client.post("/integrations/add/api/", {**form, "group": company.night.pk}).status_code == 422
    client.post("/integrations/add/api/", {**form, "group": company.desk.pk})
    assert Integration.objects.get(name="Ours").group == company.desk


def test_webhook_url_is_shown_only_with_change_permission(company: Company, browser_of: BrowserOf) -> None:
    url = secrets.url_of(company.halo)
    path = f"/integrations/{company.halo.pk}/"
    assert url in text_of(browser_of(company.manager), path)
    for user in (company.responder, company.observer):
        assert url not in text_of(browser_of(user), path)
        assert url not in text_of(browser_of(user), f"{path}guide/")
        for tab in ("security", "settings", "test", "delete"):
            assert browser_of(user).get(f"{path}{tab}/").status_code == 403


def test_statuses_of_a_connected_halo_are_listed_by_effect(company: Company, browser_of: BrowserOf) -> None:
    outbound = OutboundIntegration.objects.create(name="Halo", kind="haloitsm", created_at=company.now)
    Integration.objects.filter(pk=company.halo.pk).update(outbound=outbound)
    for number, name in enumerate(("New", "Renewal sent", "Resolved", "Closed", "Erledigt", "To be closed")):
        LookUp.objects.create(
            integration=outbound, list_name="status", number=str(number), name=name, refreshed_at=company.now
        )
    client, path = browser_of(company.admin), f"/integrations/{company.halo.pk}/"
    before = {str(label): names for _, label, names in client.get(path).context["in_halo"]}
    assert before == {
        "opens": ["New"],
        "updates": ["Renewal sent", "Resolved", "To be closed"],
        "closes": ["Closed", "Erledigt"],
    }
    assert "Statuses in Halo" in text_of(client, path)
    client.post(f"{path}status", {"status": "Resolved", "does": "close"})
    assert ["Resolved", "Closed", "Erledigt"] in [names for _, _, names in client.get(path).context["in_halo"]]


def test_one_click_changes_what_a_status_does(company: Company, browser_of: BrowserOf) -> None:
    arrived(company, "Resolved")
    client = browser_of(company.manager)
    path = f"/integrations/{company.halo.pk}/"
    text = text_of(client, path)
    assert "Resolved" in text
    client.post(f"{path}status", {"status": "Resolved", "does": "close"})
    company.halo.refresh_from_db()
    rules = company.halo.current_version.definition["rules"]
    assert rules["close"]["any"][1] == {"field": "source_status", "operator": "equals", "value": "Resolved"}
    client.post(f"{path}status", {"status": "Resolved", "does": "update"})
    company.halo.refresh_from_db()
    assert browser_of(company.responder).post(f"{path}status", {"status": "New", "does": "close"}).status_code == 403


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: {open: {field: source_status, operator: contains, value: New}}", None),
        ("rules: {open: {field: source_status, operator: sounds like, value: New}}", "sounds like"),
        ("rules: {open: [", "Line 1, column"),
        ("- a\n- b", "Use the keys rules"),
        ("routes: []", "Use the keys rules"),
        ("rules: {open: {field: source_status, operator: matches, value: '('}}", "invalid regex"),
        ("rules: {open: {any: [true, {field: client, operator: equals, valeu: x}]}}", "unknown key"),
        (f"rules: {{open: {{field: client, operator: equals, value: {'1' * 5_000}}}}}", "contains an invalid number"),
    ],
)
def test_rules_are_saved_as_text_or_refused_with_the_place(
    company: Company, browser_of: BrowserOf, text: str, message: str | None
) -> None:
    form = {"yaml": text, "yaml_digest": "other", "do": "save"}
    answer = browser_of(company.manager).post(f"/integrations/{company.halo.pk}/rules/", form)
    if message is None:
        assert answer.status_code == 302
    else:
        shown = answer.content.decode()
        assert answer.status_code == 422
        assert message.casefold() in shown.casefold()
        assert html.escape(text) in shown, "what was typed is lost"


@pytest.mark.parametrize(
    "lines",
    [
        ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)],
        ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)],
    ],
)
def test_yaml_alias_bomb_is_rejected_before_expansion(
    company: Company, browser_of: BrowserOf, lines: list[str]
) -> None:
    form = {"yaml": "\n".join(lines), "yaml_digest": "", "do": "save"}
    answer = browser_of(company.manager).post(f"/integrations/{company.halo.pk}/routing/", form)
    assert answer.status_code == 422
    assert not IntegrationVersion.objects.filter(integration=company.halo, number__gt=1).exists()


def test_payload_is_tested_by_production_code_and_nothing_is_stored(company: Company, browser_of: BrowserOf) -> None:
    payload = json.dumps({"object_id": 7, "ticket": {"summary": "Hot server room", "status": {"name": "New"}}})
    answer = browser_of(company.manager).post(
        f"/integrations/{company.halo.pk}/test/", {"chosen": "pasted", "payload": payload, "at": "2026-12-24T03:00"}
    )
    text = answer.content.decode()
    assert "Opens an alert" in text
    assert "Hot server room" in text
    assert "Bob Brown</bdi></strong> email" in text, "the primary, at once"
    assert "+5 minutes" in text
    assert "Alice Andersson" in text, "the secondary, after that"
    assert not InboundMessage.objects.exists()
    assert not Alert.objects.exists()


def test_logged_message_is_tested_as_received(company: Company, browser_of: BrowserOf) -> None:
    number = arrived(company)
    client = browser_of(company.manager)
    path = f"/integrations/{company.halo.pk}/test/"
    assert "VPN down" in text_of(client, f"{path}?message={number}")
    text = client.post(path, {"chosen": f"log:{number}", "payload": "something else"}).content.decode()
    assert "Opens an alert" in text
    assert "something else" not in text, "what is tried is what is shown"
    assert client.post(path, {"chosen": "log:nonsense", "payload": "{}"}).status_code == 200


@pytest.mark.parametrize("payload", ["", "{", "[]", "null", "\x00", "9" * 5000, '{"a": 1e400000}', "[" * 5000])
def test_any_payload_can_be_tried_out(company: Company, browser_of: BrowserOf, payload: str) -> None:
    answer = browser_of(company.manager).post(
        f"/integrations/{company.halo.pk}/test/", {"chosen": "pasted", "payload": payload}
    )
    assert answer.status_code == 200


def test_new_url_works_immediately_and_old_one_until_expiry(company: Company, browser_of: BrowserOf) -> None:
    before = secrets.token_of(company.halo)
    client = browser_of(company.manager)
    client.post(f"/integrations/{company.halo.pk}/security/", {"form": "rotate", "overlap": "1h"})
    company.halo.refresh_from_db()
    assert secrets.token_of(company.halo) != before
    assert company.halo.old_token_until - company.now < timedelta(hours=1, minutes=1)
    refused = client.post(f"/integrations/{company.halo.pk}/security/", {"form": "rotate", "overlap": "a while"})
    assert refused.status_code == 422


def test_a_secret_is_written_kept_and_never_shown(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    path = f"/integrations/{company.halo.pk}/security/"
    form = {"form": "credentials", "basic_username": "halo", "basic_password": "open sesame"}
    client.post(path, form)
    assert "open sesame" not in text_of(client, path)
    assert 'value="halo"' in text_of(client, path)
    assert 'placeholder="saved"' in text_of(client, path)
    client.post(path, {"form": "credentials", "basic_username": "halo2", "basic_password": ""})
    company.halo.refresh_from_db()
    assert secrets.credentials_of(company.halo) == {"basic": {"username": "halo2", "password": "open sesame"}}
    networks = "192.0.2.7, 2001:db8::/32"
    client.post(path, {"form": "credentials", "basic_username": "halo2", "addresses": networks})
    company.halo.refresh_from_db()
    assert secrets.credentials_of(company.halo)["addresses"] == ["192.0.2.7/32", "2001:db8::/32"]
    assert "2001:db8::/32" in text_of(client, path)
    wrong = client.post(path, {"form": "credentials", "addresses": "192.0.2.7 nowhere"})
    assert (wrong.status_code, "is not an address" in wrong.content.decode()) == (422, True)


def test_missed_heartbeat_is_not_shown_as_healthy(company: Company, browser_of: BrowserOf) -> None:
    spec = {"name": "Backup", "kind": "heartbeat", "anyway": True}
    row = commands.save_integration(spec, actor=COMMAND_LINE, now=company.now)
    client = browser_of(company.admin)

    def chip(path: str) -> str:
        match = re.search(r'class="chip (\w+)">([^<]*)', client.get(path).content.decode().partition("Backup")[2])
        assert match is not None
        return f"{match[1]}: {match[2]}"

    for health, text in (("late", "now: overdue"), ("failed", "now: failed"), ("up", "ok: up")):
        Heartbeat.objects.update_or_create(integration=row, defaults={"health": health, "last_at": company.now})
        assert chip(f"/integrations/{row.pk}/") == chip("/integrations/") == text


def test_deletion_requires_confirmation_and_lists_obstacles(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    number = open_alert()
    client = browser_of(company.admin)
    path = f"/integrations/{company.halo.pk}/delete/"
    assert "Its webhook URL stops working immediately" in text_of(client, path)
    assert Integration.objects.filter(pk=company.halo.pk).exists()
    assert "1 active alert" in client.post(path).content.decode()
    client.post(f"/alerts/{number}/close")
    waits = DelayedAlert.objects.create(
        key_hash=bytes(32),
        integration=company.halo,
        delay_reason="wait",
        since=company.now,
        due_at=company.now,
    )
    assert "1 delayed alert" in text_of(client, path)
    assert "1 delayed alert" in client.post(path).content.decode()
    waits.delete()
    assert client.post(path).status_code == 302
    assert not Integration.objects.filter(pk=company.halo.pk).exists()


def test_the_log_shows_outcome_and_reason_and_is_filtered(company: Company, browser_of: BrowserOf) -> None:
    arrived(company, reason=as_reason("status “New” contains New"), source_id="20817")
    arrived(company, outcome=MessageStatus.FAILED, reason=as_reason("not JSON: line 1 column 3"), raw=b"{x", subject="")
    client = browser_of(company.observer)
    text = text_of(client, "/inbound-log/")
    assert "status “New” contains New" in text
    assert "not JSON: line 1 column 3" in text
    failed = text_of(client, "/inbound-log/?outcome=failed")
    assert "not JSON" in failed
    assert "status “New”" not in failed
    assert "status “New”" in text_of(client, "/inbound-log/?q=20817")
    assert "No matching messages" in text_of(client, "/inbound-log/?q=something-else")
    for query in ("cursor=nonsense", "integration=x", "alert=99999999999999999999", "outcome=x", "q=%00"):
        assert client.get(f"/inbound-log/?{query}").status_code == 200, query


def test_a_message_shows_how_it_was_read_and_decided(company: Company, browser_of: BrowserOf) -> None:
    text = text_of(browser_of(company.observer), f"/inbound-log/{arrived(company)}/")
    assert "ticket^summary" in text
    assert "Open an alert" in text
    assert "Replay" not in text, "an observer replays nothing"


def test_a_german_decision_is_marked_as_an_english_one(company: Company, browser_of: BrowserOf) -> None:
    number = arrived(company)
    page = browser_of(company.observer).get(f"/inbound-log/{number}/", headers={"accept-language": "de"})
    content = page.content.decode()
    assert "Einen Alarm eröffnen" in content
    assert "result-yes" in content


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"<script>alert(1)</script>", b'{"a": "\x00"}', b"[" * 3000])
def test_every_body_can_be_viewed(company: Company, browser_of: BrowserOf, raw: bytes) -> None:
    number = arrived(company, outcome=MessageStatus.FAILED, raw=raw)
    answer = browser_of(company.admin).get(f"/inbound-log/{number}/")
    assert answer.status_code == 200
    assert "<script>alert(1)" not in answer.content.decode()


def test_a_message_is_replayed_by_the_rules_of_now(company: Company, browser_of: BrowserOf) -> None:
    number = arrived(company)
    answer = browser_of(company.manager).post(f"/inbound-log/{number}/replay", {"page": "no"}, follow=True)
    assert "Replayed with the current rules" in answer.content.decode()
    made = InboundMessage.objects.get(replay_of=number)
    assert made.status == MessageStatus.OPENED
    assert browser_of(company.observer).post(f"/inbound-log/{number}/replay").status_code == 403


def test_paging_question_shows_weekly_counts_and_becomes_first_route(
    company: Company, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabs, "MAX_SECONDS", 60.0)
    for number, priority in enumerate(("Critical", "Low", "Low"), start=1):
        ticket = {"id": number, "status": {"name": "New"}, "priority": {"name": priority}, "client_name": "Acme"}
        arrived(company, raw=json.dumps({"object_id": number, "ticket": ticket}).encode())
    client = browser_of(company.manager)
    path = f"/integrations/{company.halo.pk}/paging-preset/"
    answer = client.get(path)
    counts = {one.preset.kind.value: one.totals and one.totals.pages for one in answer.context["options"]}
    assert counts == {"all": 3, "urgent": 1, "outside": None, "these": None}
    assert "Acme" in answer.content.decode()
    for number in range(200):
        arrived(company, raw=b'{"object_id": %d, "ticket": {"status": {"name": "New"}}}' % (number + 10))
    assert "counting…" in text_of(client, path), "a page is there at once"
    later = client.get(path, headers={"X-Part": "counts"}).content.decode()
    assert "<strong>203</strong>" in later
    assert "<html" not in later
    assert client.post(path, {"which": "these", "do": "save"}).status_code == 422
    assert client.post(path, {"which": "outside", "hours": "Nobody's", "do": "save"}).status_code == 422
    assert client.post(path, {"which": "urgent", "do": "save"}).status_code == 302
    company.halo.refresh_from_db()
    assert [route["name"] for route in company.halo.current_version.definition["routes"]] == ["Which tickets page?"]
    assert browser_of(company.observer).post(path, {"which": "all", "do": "save"}).status_code == 403


def test_versions_are_compared_and_brought_back(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    path = f"/integrations/{company.halo.pk}/versions/"
    assert "Only one version so far" in text_of(client, path)
    form = {"yaml": "filters: {field: client, operator: equals, value: Acme}", "yaml_digest": "", "do": "save"}
    assert client.post(f"/integrations/{company.halo.pk}/rules/", form).status_code == 302
    text = text_of(client, path)
    assert "From version 1 to 2" in text
    assert "Mia Manager" in text
    assert '<span class="added">+field: client' in text
    assert client.post(path, {"number": "1"}).status_code == 302
    assert "No differences" in text_of(client, f"{path}?from=1&to=3")
    for number in ("99", "x", ""):
        assert client.post(path, {"number": number}).status_code in (302, 404)
    assert browser_of(company.observer).post(path, {"number": "1"}).status_code == 403


def test_dry_run_integration_shows_pages_it_would_have_sent(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    open_alert()
    Alert.objects.update(dry_run=True)
    Integration.objects.update(mode="dry_run")
    arrived(company)
    text = text_of(browser_of(company.manager), f"/integrations/{company.halo.pk}/")
    assert "in the last 7 days it would have paged once," in text


def test_unusable_integration_shows_reason_on_overview_and_home(company: Company, browser_of: BrowserOf) -> None:
    arrived(company, outcome=MessageStatus.FAILED)
    broken = {"rules": {"open": {"field": "client", "operator": "smells"}}}
    IntegrationVersion.objects.update(definition=broken)
    settings_store.bump()
    client = browser_of(company.admin)
    for path in (f"/integrations/{company.halo.pk}/", "/"):
        assert "unknown operator &quot;smells&quot;" in text_of(client, path)
    # It can be mended where it is shown.
    path = f"/integrations/{company.halo.pk}/rules/"
    assert "smells" in text_of(client, path)
    form = {"yaml": "", "yaml_digest": "changed", "do": "save"}
    assert client.post(path, form).status_code == 302
    assert "smells" not in text_of(client, "/")


def test_messages_are_replayed_after_confirming_their_number(company: Company, browser_of: BrowserOf) -> None:
    raws = [json.dumps({"object_id": n, "ticket": {"status": {"name": "New"}}}).encode() for n in (1, 2, 3)]
    numbers = [arrived(company, raw=raw, outcome=MessageStatus.FAILED) for raw in raws]
    client = browser_of(company.manager)
    stated = client.post("/inbound-log/replay", {"message": numbers[:2]}).content.decode()
    assert "Replay 2 messages?" in stated
    assert InboundMessage.objects.count() == 3, "nothing happens before one is sure"
    form = {"message": [*numbers[:2], "nonsense"], "sure": "yes", "page": "no"}
    text = client.post("/inbound-log/replay", form, follow=True).content.decode()
    assert "2 Mapped Opened" in text
    assert [m.replay_of and str(m.replay_of) for m in InboundMessage.objects.order_by("pk")[3:]] == numbers[:2]
    assert AuditEntry.objects.filter(action="replay").count() == 2
    assert (
        "Replay 3 messages?" in client.post("/inbound-log/replay", {"all": "yes", "outcome": "failed"}).content.decode()
    )
    assert client.post("/inbound-log/replay", {"message": "x"}).status_code == 302
    assert browser_of(company.responder).post("/inbound-log/replay", form).status_code == 403


def test_unreachable_webhook_url_is_reported_until_the_first_message(
    company: Company, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser_of(company.admin)
    places = [f"/integrations/{company.halo.pk}/{tab}" for tab in ("", "guide/", "security/")]
    for place in places:
        assert "No public URL is set: webhook URLs" in text_of(client, place)
    for url, problem in (
        ("http://tocsin.example.org", "is not encrypted"),
        ("https://tocsin.local", "is a private name"),
    ):
        own = replace(environment.current(), base_url=url)
        monkeypatch.setattr(environment, "current", lambda own=own: own)
        for place in places:
            assert problem in text_of(client, place), place
    # Managers see the URL, and with it the notice; observers see neither.
    assert "is a private name" in text_of(browser_of(company.manager), places[0])
    assert "is a private name" not in text_of(browser_of(company.observer), places[0])
    arrived(company)
    assert "is a private name" not in text_of(client, places[1])


def test_a_public_https_url_needs_no_notice(
    company: Company, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = replace(environment.current(), base_url="https://tocsin.example.org")
    monkeypatch.setattr(environment, "current", lambda: public)
    text = browser_of(company.admin).get(f"/integrations/{company.halo.pk}/").content.decode()
    assert "https://tocsin.example.org/in/" in text
    assert "notice now" not in text


def test_an_integration_type_has_one_tile_everywhere(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    client, number = browser_of(company.admin), open_alert()
    tiles = set()
    for path in ("/integrations/add/?q=haloitsm", "/integrations/", f"/integrations/{company.halo.pk}/", "/alerts/",
                 f"/alerts/{number}/"):  # fmt: skip
        found = re.search(
            r'class="tile (tile-\d+) [^"]*" aria-hidden="true" data-letters="(\w+)"', client.get(path).content.decode()
        )
        assert found, path
        tiles.add(found.groups())
    assert len(tiles) == 1
