"""Microsoft Teams: cards with buttons, tokens, installations, messages to the bot."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from tests.doubles.http import Response
from tests.doubles.smtp import smtp_double
from tests.doubles.teams import ALICE, APP_ID, TENANT, TeamsDouble, executes, teams_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, configured, outbox_harness, provider
from tests.support.people import ACTOR
from tocsin.alerts import commands
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.escalation.commands import save_policy
from tocsin.identity.models import IdentityProvider, LinkedIdentity, ScimUser
from tocsin.notify.dispatch import updates
from tocsin.notify.models import ChatConversation, Provider
from tocsin.notify.providers import pool
from tocsin.people.changes import groups

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
TEAMS = {"label": "Teams", "channel": "chat", "address": f"teams:{ALICE}"}
BOB = "0b0b0b0b-0000-4000-8000-00000000b0bb"


@dataclass
class TeamsScenario:
    post: OutboxHarness
    teams: TeamsDouble

    def receive(self, activity: dict[str, Any], **signing: Any) -> HttpResponse:
        headers = self.teams.signed(activity, signing.pop("at", self.post.now), **signing)
        return self.receive_unsigned(activity, headers)

    def receive_unsigned(self, activity: dict[str, Any], headers: dict[str, str]) -> HttpResponse:
        made: HttpResponse = Client().post(
            "/hooks/teams/messages", json.dumps(activity), content_type="application/json", headers=headers
        )
        return made

    def install(self, sender: str = ALICE) -> None:
        assert self.receive(self.teams.activity("installationUpdate", sender, action="add")).status_code == 200

    def press(self, message: dict[str, Any], command: str, sender: str = ALICE, **inputs: str) -> str:
        answer = self.receive(self.teams.press(message, command, sender, **inputs)).json()
        assert (answer["statusCode"], answer["type"]) == (200, "application/vnd.microsoft.activity.message")
        return str(answer["value"])

    def write(self, text: str, sender: str = ALICE, **values: Any) -> str:
        before = len(self.teams.messages)
        self.receive(self.teams.activity("message", sender, text=text, **values))
        return str(self.teams.messages[before]["text"]) if len(self.teams.messages) > before else ""

    def page(self, *methods: dict[str, Any], **spec: Any) -> tuple[int, dict[str, Any]]:
        """A page to Alice, who has installed the app: the alert and the message."""
        self.install()
        self.post.user("alice", *(methods or (TEAMS,)), **spec)
        alert = self.post.alert()
        self.post.page(alert, "alice")
        self.post.go()
        return alert, self.teams.messages[-1]

    def update(self, seconds: float = 2) -> None:
        self.post.seconds = seconds
        updates.run_once(self.post.outboxes[0].provider_pool, self.post.now)


@pytest.fixture
def scenario(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[TeamsScenario]:
    allow_loopback(monkeypatch, base_url=BASE)
    with outbox_harness(now) as post, teams_double() as teams:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        provider("Teams", "teams", ["chat"], secrets={"client_secret": teams.secret}, **teams.settings)
        yield TeamsScenario(post, teams)


def test_a_page_is_a_card_whose_buttons_work(scenario: TeamsScenario) -> None:
    alert, message = scenario.page()
    assert scenario.teams.messages[0]["text"].endswith(f"teams:{ALICE}"), "an installation is told its address"
    assert (message["conversation"], message["summary"]) == ("a:0a0a0a0a", "🔴 P1 Critical: Acme: VPN down")
    card = message["attachments"][0]["content"]
    assert (card["version"], card["body"][0]["style"]) == ("1.5", "attention")
    assert [action["title"] for action in card["actions"]] == [
        "Acknowledge", "Assign to me", "Snooze", "Close", "Add note", "Open the alert",
    ]  # fmt: skip
    assert all(one["fallback"]["type"] == "Action.Submit" for one in executes(message))
    assert scenario.press(message, "acknowledge") == f"You acknowledged alert {alert}."
    event = AlertEvent.objects.get(kind="acknowledged")
    assert (event.actor.username if event.actor else "", event.via) == ("alice", "chat")
    scenario.update()
    (redrawn,) = scenario.teams.updates
    assert (redrawn["conversation"], redrawn["id"]) == ("a:0a0a0a0a", "1:2")
    assert "Acknowledged by Alice" in json.dumps(redrawn)
    assert [one["verb"] for one in executes(redrawn)] == ["assign", "hold", "close", "reply"]


def test_every_button_does_what_it_says_once(scenario: TeamsScenario) -> None:
    alert, message = scenario.page(language="de")
    assert "Eine Notiz eingeben." in scenario.press(message, "reply", text="  ")
    scenario.press(message, "reply", text="On my way\x00")
    assert AlertEvent.objects.filter(kind="replied").count() == 1
    scenario.press(message, "hold", text="4h")
    assert Alert.objects.get(pk=alert).hold_until == scenario.post.now + timedelta(hours=4)
    scenario.press(message, "assign")
    scenario.press(message, "close")
    events = AlertEvent.objects.count()
    assert "geschlossen" in scenario.press(message, "acknowledge"), "an old card answers with the present state"
    assert AlertEvent.objects.count() == events
    scenario.update()
    assert executes(scenario.teams.updates[-1]) == []


def test_strangers_and_observers_change_nothing(scenario: TeamsScenario) -> None:
    _, message = scenario.page(role="observer")
    events = AlertEvent.objects.count()
    assert f"teams:{BOB}" in scenario.press(message, "close", BOB)
    assert (
        scenario.press(message, "close") == "Your role can view alerts but not respond to them. Ask an administrator."
    )
    gone = json.loads(json.dumps(message).replace('"close:', '"close:9'))
    assert AlertEvent.objects.count() == events
    scenario.post.users["alice"].role = "responder"
    scenario.post.users["alice"].save()
    assert "any more" in scenario.press(gone, "close"), "a card of an alert that is gone"
    assert AlertEvent.objects.count() == events


def test_a_user_of_another_group_sees_and_does_nothing(scenario: TeamsScenario) -> None:
    alert, message = scenario.page()
    scenario.post.user("bob", {**TEAMS, "address": f"teams:{BOB}"}, role="responder")
    for name, member in (("Desk", "alice"), ("Other", "bob")):
        spec = {"name": name, "members": [{"user": member, "roles": ["primary"]}]}
        group = groups.save_group(spec, actor=ACTOR, now=scenario.post.now)
        if member == "alice":
            Alert.objects.filter(pk=alert).update(group_ids=[group.pk])
    settings_store.set(settings_store.VISIBILITY, "groups")
    events = AlertEvent.objects.count()
    answer = scenario.press(message, "close", BOB)
    assert "VPN" not in answer
    assert AlertEvent.objects.count() == events
    scenario.install(BOB)
    assert scenario.write("on call", BOB) == "Other: Bob"
    assert scenario.press(message, "acknowledge") == f"You acknowledged alert {alert}."


def test_forged_and_foreign_requests_are_refused(scenario: TeamsScenario) -> None:
    _, message = scenario.page()
    right, now = scenario.teams.press(message, "close"), scenario.post.now
    events = AlertEvent.objects.count()
    assert scenario.receive_unsigned(right, {}).status_code == 403, "no token"
    assert scenario.receive_unsigned(right, {"Authorization": "Bearer x.y.z"}).status_code == 403
    for claims in (
        {"aud": "99999999-2222-4333-8444-555555555555"},
        {"iss": "https://sts.windows.net/"},
        {"exp": int((now - timedelta(minutes=6)).timestamp())},
        {"nbf": int((now + timedelta(minutes=6)).timestamp())},
        {"serviceurl": "https://elsewhere.example"},
        {"serviceurl": None},
    ):
        assert scenario.receive(right, **claims).status_code == 403, claims
    other = json.loads(json.dumps(right).replace(TENANT, "cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee"))
    assert scenario.receive(other).status_code == 403, "another tenant"
    assert scenario.receive({**right, "channelId": "slack"}).status_code == 403, "an endorsement is missing"
    assert scenario.receive(right, key="unknown").status_code == 403
    assert AlertEvent.objects.count() == events
    assert scenario.receive(right, exp=int((now - timedelta(minutes=4)).timestamp())).status_code == 200, "leeway"


def test_a_rotated_key_is_loaded_at_most_once_a_minute(scenario: TeamsScenario) -> None:
    activity = scenario.teams.activity("conversationUpdate")
    assert scenario.receive(activity).status_code == 200
    scenario.teams.keys = ["second"]
    assert scenario.receive(activity, key="second").status_code == 403, "the keys are seconds old"
    scenario.post.seconds = 61
    assert scenario.receive(activity, key="second").status_code == 200
    assert scenario.receive(activity, key="first").status_code == 403
    loads = [request for request in scenario.teams.http.requests if request.path.endswith("/keys")]
    assert len(loads) == 2


def test_a_conversation_that_is_gone_rejects_the_address(scenario: TeamsScenario) -> None:
    scenario.page()
    for status, code in (
        (403, "MessageWritesBlocked"),
        (403, "BotNotInConversationRoster"),
        (404, "ConversationNotFound"),
    ):
        scenario.teams.answers.append(Response(status, json.dumps({"error": {"code": code, "message": "x"}}).encode()))
        scenario.post.seconds += 60
        scenario.post.page(scenario.post.alert(code), "alice")
        scenario.post.go()
        failed = scenario.post.deliveries()[-1]
        assert code in str(failed.error), failed.error
    assert scenario.receive(scenario.teams.activity("installationUpdate", action="remove")).status_code == 200
    assert not ChatConversation.objects.exists()


def test_a_blocked_conversation_begins_the_next_contact_method(
    scenario: TeamsScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = {"label": "Email", "channel": "email", "address": "alice@example.org", "wait": "10m"}
    with smtp_double() as mail:
        configured(monkeypatch, smtp_url=mail.url, email_from="tocsin@example.org")
        body = json.dumps({"error": {"code": "MessageWritesBlocked", "message": "Blocked."}}).encode()
        scenario.install()
        scenario.post.user("alice", TEAMS, email)
        scenario.teams.answers.append(Response(403, body))
        scenario.post.page(alert := scenario.post.alert(), "alice")
        scenario.post.go()
        assert len(mail.subjects) == 1
    by_channel = {one.channel: one for one in scenario.post.deliveries(alert)}
    assert "MessageWritesBlocked" in str(by_channel["chat"].error)
    assert "because the previous contact method failed" in str(by_channel["email"].reason)


def test_people_are_known_by_their_object_id_in_entra(scenario: TeamsScenario) -> None:
    email = {"label": "Email", "channel": "email", "address": "alice@example.org"}
    alice = scenario.post.user("alice", email)
    scenario.install()
    alert = scenario.post.alert()
    entra = IdentityProvider.objects.create(
        name="Entra",
        slug="entra",
        kind="oidc",
        preset="entra",
        issuer=f"https://login.microsoftonline.com/{TENANT}/v2.0",
    )
    link = LinkedIdentity.objects.create(
        provider=entra, user=alice, issuer=entra.issuer, subject="s", object_id=ALICE.upper(),
        created_at=scenario.post.now, signed_in_at=scenario.post.now,
    )  # fmt: skip
    invoke = scenario.teams.activity(
        "invoke", name="adaptiveCard/action", value={"action": {"data": {"tocsin": f"acknowledge:{alert}"}}}
    )
    assert scenario.receive(invoke).json()["value"] == f"You acknowledged alert {alert}."
    link.issuer = "https://idp.example/another"
    link.save()
    assert "recognize" in scenario.receive(invoke).json()["value"], "another provider's word does not count"
    provisioned = ScimUser.objects.create(
        provider=entra, user=alice, scim_id="1", is_created=True, external_id=ALICE.upper(),
        created_at=scenario.post.now, modified_at=scenario.post.now,
    )  # fmt: skip
    assert "recognize" not in scenario.receive(invoke).json()["value"]
    provisioned.external_id = "alice@example.org"
    provisioned.save()
    assert "recognize" in scenario.receive(invoke).json()["value"], "a directory may map another attribute"
    provisioned.external_id = ALICE
    provisioned.save()
    entra.issuer = "https://login.microsoftonline.com/cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee/v2.0"
    entra.save()
    assert "recognize" in scenario.receive(invoke).json()["value"], "nor does another tenant's"


def test_messages_to_the_bot_are_answered(scenario: TeamsScenario) -> None:
    scenario.post.user("alice", TEAMS, language="de")
    scenario.post.user("bob")
    spec = {
        "name": "Desk",
        "members": [{"user": "alice", "roles": ["primary"]}, {"user": "bob", "roles": ["secondary"]}],
    }
    groups.save_group(spec, actor=ACTOR, now=scenario.post.now)
    scenario.install()
    assert scenario.write("<at>Tocsin</at>&nbsp;on call".replace("&nbsp;", "\u00a0"), id="1") == "Desk: Alice und Bob"
    assert "ON CALL" in scenario.write("help", id="2")
    assert scenario.write("ack", id="3") == "Für Sie ist kein Alarm offen."
    assert f"teams:{BOB}" in scenario.write("on call", BOB, id="4")
    assert scenario.write("alert Disk full", id="5").startswith("Nichts wurde geöffnet"), "there is no policy"
    assert Alert.objects.count() == 0
    policy = {"name": "Standard", "steps": [{"notify": {"roles": ["primary"]}}]}
    save_policy(policy, actor=ACTOR, now=scenario.post.now)
    assert "Standard" in scenario.write("alert Disk full", id="6")
    assert scenario.write("alert Disk full", id="6"), "a repeat gets the same answer"
    alert = Alert.objects.get()
    assert (alert.subject, alert.source_name) == ("Disk full", "alice")


def test_a_press_that_comes_as_a_message_is_answered(scenario: TeamsScenario) -> None:
    alert, message = scenario.page()
    data = executes(message)[0]["fallback"]["data"]
    assert scenario.write("", value=data) == f"You acknowledged alert {alert}."


def test_the_card_of_a_channel_is_changed_too(scenario: TeamsScenario) -> None:
    commands.HANDLERS.register(updates.follow)
    alert, _ = scenario.page()
    scenario.post.act(alert, Close(actor=scenario.post.actor("alice")))
    scenario.teams.answers.append(Response(412, b'{"error": {"code": "PreconditionFailed"}}'))
    scenario.update(2)
    assert scenario.teams.updates == []
    scenario.update(30)
    assert "Closed by Alice" in json.dumps(scenario.teams.updates)


def test_the_app_package_is_made_of_the_settings(scenario: TeamsScenario) -> None:
    packed = pool.build_package(Provider.objects.get())
    with zipfile.ZipFile(io.BytesIO(packed)) as package:
        assert package.namelist() == ["manifest.json", "color.png", "outline.png"]
        manifest = json.loads(package.read("manifest.json"))
        # Width and height stand at the same place of every PNG.
        sizes = [struct.unpack(">II", package.read(name)[16:24]) for name in ("color.png", "outline.png")]
    assert sizes == [(192, 192), (32, 32)]
    (bot,) = manifest["bots"]
    assert (bot["botId"], bot["scopes"]) == (APP_ID, ["personal", "team", "groupChat"])
    assert (manifest["manifestVersion"], manifest["validDomains"]) == ("1.17", ["tocsin.example.org"])
    assert len(manifest["name"]["short"]) <= 30
    assert len(manifest["description"]["short"]) <= 80
    assert packed == pool.build_package(Provider.objects.get()), "equal settings make equal packages"
