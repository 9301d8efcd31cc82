"""Chat: messages with buttons in Slack and Telegram, permissions, and services by secret URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from tests.doubles.http import Response, http_double
from tests.doubles.slack import SlackDouble, slack_double
from tests.doubles.telegram import TelegramDouble, telegram_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, changed, outbox_harness, provider
from tests.support.people import ACTOR
from tocsin.access.models import AuditEntry
from tocsin.alerts import commands
from tocsin.alerts.commands import Acknowledge, Assign, Close, Hold
from tocsin.alerts.models import AlertEvent
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.notify import notices
from tocsin.notify.dispatch import updates
from tocsin.notify.integrations.telegram import TelegramKind, secret_of
from tocsin.notify.models import Delivery, MessageUpdate, Notification, OptOut, ProviderHealth
from tocsin.notify.providers import commands as providers
from tocsin.notify.providers.pool import account_of
from tocsin.notify.rules.page_planner import PageRequest
from tocsin.notify.text import formatting
from tocsin.people.changes import groups
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod, GroupContact, User

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
SLACK = {"label": "Slack", "channel": "chat", "address": "slack:U012AB3CD"}
TELEGRAM = {"label": "Telegram", "channel": "chat", "address": "telegram:123456789"}


@dataclass
class ChatScenario:
    post: OutboxHarness
    slack: SlackDouble
    telegram: TelegramDouble

    def slack_press(self, command: str, member: str, age: timedelta = timedelta(), secret: str | None = None) -> int:
        body = self.slack.press(self.slack.messages[-1], command, member)
        headers = self.slack.signed(body, self.post.now - age, secret)
        form = "application/x-www-form-urlencoded"
        status: int = Client().post("/hooks/slack/interact", body, content_type=form, headers=headers).status_code
        return status

    def update(self, seconds: float | None = None) -> None:
        """Makes the updates of messages that are due."""
        self.post.seconds = self.post.seconds if seconds is None else seconds
        updates.run_once(self.post.outboxes[0].provider_pool, self.post.now)

    def user_id(self, name: str) -> int:
        return self.post.users[name].pk

    def telegram_update(self, update: dict[str, Any], secret: str | None = None) -> HttpResponse:
        headers = {"X-Telegram-Bot-Api-Secret-Token": secret_of(self.telegram.token) if secret is None else secret}
        made: HttpResponse = Client().post(
            "/hooks/telegram/update", json.dumps(update), content_type="application/json", headers=headers
        )
        return made


def _buttons(message: dict[str, Any]) -> list[str]:
    return [b["action_id"] for block in message["blocks"] if block["type"] == "actions" for b in block["elements"]]


@pytest.fixture
def scenario(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatScenario]:
    allow_loopback(monkeypatch, base_url=BASE)
    with outbox_harness(now) as post, slack_double() as slack, telegram_double() as telegram:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        secrets = {"bot_token": slack.token, "signing_secret": slack.signing_secret}
        provider("Slack", "slack", ["chat"], api_base=slack.api, secrets=secrets)
        provider("Telegram", "telegram", ["chat"], 2, api_base=telegram.http.url, secrets={"bot_token": telegram.token})
        yield ChatScenario(post, slack, telegram)


def test_only_paged_users_can_press_buttons_in_their_chat(scenario: ChatScenario) -> None:
    """Nobody is asked for a code of a chat: whoever enters another's would answer in their place, and be refused."""
    bob = scenario.post.user("bob", SLACK, role="observer")
    alice = scenario.post.user("alice", SLACK)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    with database.transaction() as connection:
        notices.queue_test(connection, bob.contact_methods.get(label="Slack"), scenario.post.now)
    scenario.post.go()
    page = next(one for one in scenario.slack.messages if "VPN down" in one["text"])
    body = scenario.slack.press(page, "acknowledge", "U012AB3CD")
    headers = scenario.slack.signed(body, scenario.post.now)
    form = "application/x-www-form-urlencoded"
    assert Client().post("/hooks/slack/interact", body, content_type=form, headers=headers).status_code == 200
    event = AlertEvent.objects.get(alert=alert, kind="acknowledged")
    assert event.actor_id == alice.pk


def test_slack_buttons_answer_a_page_and_update_the_message(scenario: ChatScenario) -> None:
    alice = scenario.post.user("alice", SLACK)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert scenario.post.states() == [("Slack", "sent", "Slack")]
    (message,) = scenario.slack.messages
    assert message["channel"] == "U012AB3CD"
    assert message["text"] == "🔴 P1 Critical: Acme: VPN down"
    assert scenario.slack_press("acknowledge", "U012AB3CD") == 200
    event = AlertEvent.objects.get(kind="acknowledged")
    assert (event.actor_id, event.via) == (alice.pk, "chat")
    assert scenario.slack.responded.wait(5)
    (answer,) = scenario.slack.responses
    assert (answer["response_type"], answer["text"]) == ("ephemeral", f"You acknowledged alert {alert}.")
    scenario.update()
    (redrawn,) = scenario.slack.updates
    assert (redrawn["channel"], redrawn["ts"]) == ("U012AB3CD", "1700000000.000001")
    assert "*Acknowledged by Alice*" in json.dumps(redrawn["blocks"])
    assert _buttons(redrawn) == ["tocsin_assign", "tocsin_close"]


def test_every_message_about_an_alert_shows_each_change(scenario: ChatScenario) -> None:
    scenario.post.user("alice", SLACK)
    scenario.post.user("bob", TELEGRAM, language="de")
    commands.HANDLERS.register(updates.follow)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice", "bob")
    scenario.post.go()
    scenario.post.act(alert, Hold(actor=scenario.post.actor("alice"), until=scenario.post.at(1800)))
    scenario.post.act(alert, Assign(actor=scenario.post.actor("alice"), name="Bob", user_id=scenario.user_id("bob")))
    scenario.update()
    (message,) = scenario.slack.updates
    state = "*Assigned to Bob · Snoozed until Tue 24 Nov 2026, 09:45 UTC*"
    assert state in json.dumps(message["blocks"], ensure_ascii=False), "two changes are one update"
    assert _buttons(message) == ["tocsin_close"]
    assert "Bob zugewiesen" in scenario.telegram.edits[-1]["text"]
    scenario.post.act(alert, Close(actor=scenario.post.actor("alice")))
    scenario.update(2)
    assert "*Closed by Alice*" in json.dumps(scenario.slack.updates[-1]["blocks"])
    assert _buttons(scenario.slack.updates[-1]) == []
    assert "reply_markup" not in scenario.telegram.edits[-1]
    assert not MessageUpdate.objects.exists()


def test_an_update_never_overtakes_a_page_and_survives_failures(scenario: ChatScenario) -> None:
    scenario.post.user("alice", SLACK)
    first, second = scenario.post.alert(), scenario.post.alert("Disk full")
    commands.HANDLERS.register(updates.follow)
    scenario.post.page(first, "alice")
    scenario.post.go()
    scenario.post.seconds = 20
    scenario.post.act(first, Acknowledge(actor=scenario.post.actor("alice")))
    scenario.post.page(second, "alice")
    scenario.update()
    assert scenario.slack.updates == [], "the page that is due comes first"
    scenario.post.go()
    scenario.slack.answers.append(Response(503))
    scenario.update()
    assert scenario.slack.updates == []
    scenario.update(22)
    assert scenario.slack.updates == [], "it backs off"
    scenario.post.act(first, Assign(actor=scenario.post.actor("alice"), name="Alice"))
    scenario.update(23)
    assert "*Assigned to Alice*" in json.dumps(scenario.slack.updates[-1]["blocks"])


def test_one_conversation_gets_one_update_a_second(scenario: ChatScenario) -> None:
    scenario.post.user("alice", SLACK)
    commands.HANDLERS.register(updates.follow)
    alerts = []
    for number in range(3):
        alerts.append(scenario.post.alert(f"Disk {number} full"))
        scenario.post.page(alerts[-1], "alice")
        scenario.post.go(number * 20)
    for alert in alerts:
        scenario.post.act(alert, Close(actor=scenario.post.actor("alice")))
    counts = []
    for second in (61, 61.5, 62.1, 63.2, 64.3):
        scenario.update(second)
        counts.append(len(scenario.slack.updates))
    assert counts == [1, 1, 2, 3, 3]


def test_a_message_about_several_alerts_stays_as_it_is(scenario: ChatScenario) -> None:
    scenario.post.user("alice", SLACK)
    commands.HANDLERS.register(updates.follow)
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go()
    both = [scenario.post.alert("Disk full"), scenario.post.alert("Printer on fire")]
    for alert in both:
        scenario.post.page(alert, "alice")
    for second in (1, 12):
        scenario.post.go(second)
    assert scenario.slack.messages[-1]["text"] == "🔴 P1 Critical: 2 alerts"
    scenario.post.act(both[0], Close(actor=scenario.post.actor("alice")))
    scenario.update(13)
    assert scenario.slack.updates == []
    assert not MessageUpdate.objects.exists()


def test_an_unsigned_forged_or_old_interaction_does_nothing(scenario: ChatScenario) -> None:
    scenario.post.user("alice", SLACK)
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go()
    before = AlertEvent.objects.count()
    assert scenario.slack_press("close", "U012AB3CD", secret="guessed") == 403
    assert scenario.slack_press("close", "U012AB3CD", age=timedelta(minutes=6)) == 403
    assert scenario.slack_press("close", "U012AB3CD", age=-timedelta(minutes=6)) == 403
    unsigned = Client().post("/hooks/slack/interact", b"payload={}", content_type="application/x-www-form-urlencoded")
    assert unsigned.status_code == 403
    assert AlertEvent.objects.count() == before
    assert scenario.slack.responses == []


def test_room_members_answer_as_themselves_and_unknown_members_are_informed(scenario: ChatScenario) -> None:
    bob = scenario.post.user("bob", {**SLACK, "address": "slack:U0BOB0BOB"})
    spec = {"name": "Desk", "contacts": [{"label": "Room", "channel": "chat", "address": "slack:C012AB3CD"}]}
    group = groups.save_group(spec, actor=ACTOR, now=scenario.post.now)
    contact = GroupContact.objects.get(group=group)
    alert = scenario.post.alert()
    from tocsin.core.db import database
    from tocsin.notify.pages import queue_pages

    with database.transaction() as connection:
        start = PageRequest(alert, scenario.post.now, "The step names the room.", group_contact_id=contact.pk)
        queue_pages(connection, [start], scenario.post.now)
    scenario.post.go()
    assert "/a/" not in json.dumps(scenario.slack.messages[0]), "a room gets nobody's personal link"
    assert scenario.slack_press("assign", "U0STRANGER") == 200
    assert scenario.slack.responded.wait(5)
    (body,) = scenario.slack.responses
    assert body["response_type"] == "ephemeral"
    assert "slack:U0STRANGER" in body["text"]
    assert not AlertEvent.objects.filter(kind="assigned").exists()
    assert scenario.slack_press("assign", "U0BOB0BOB") == 200
    assert AlertEvent.objects.get(kind="assigned").actor_id == bob.pk


def test_slack_answers_in_the_users_language(scenario: ChatScenario) -> None:
    scenario.post.user("alice", SLACK, language="de")
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert scenario.slack_press("acknowledge", "U012AB3CD") == 200
    assert scenario.slack.responded.wait(5)
    assert scenario.slack.responses[0]["text"] == f"Sie haben Alarm {alert} bestätigt."
    scenario.update()
    assert "Bestätigt von Alice" in json.dumps(scenario.slack.updates, ensure_ascii=False)


def test_telegram_bot_handles_buttons_and_commands_and_shows_chat_address(scenario: ChatScenario) -> None:
    alice = scenario.post.user("alice", TELEGRAM)
    User.objects.filter(pk=alice.pk).update(language="de")
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert scenario.post.states() == [("Telegram", "sent", "Telegram")]
    (message,) = scenario.telegram.messages
    (row,) = message["reply_markup"]["inline_keyboard"]
    assert [button["text"] for button in row] == ["Bestätigen", "Mir zuweisen", "Schließen"]
    answer = scenario.telegram_update(scenario.telegram.press(message, "acknowledge", 123456789)).json()
    assert answer["method"] == "answerCallbackQuery"
    assert answer["text"] == f"Sie haben Alarm {alert} bestätigt."
    assert AlertEvent.objects.get(kind="acknowledged").actor_id == alice.pk
    scenario.update()
    (edit,) = scenario.telegram.edits
    assert "Bestätigt von Alice" in edit["text"]
    stored = edit["reply_markup"]["inline_keyboard"][0]
    assert [button["callback_data"] for button in stored] == [f"assign:{alert}", f"close:{alert}"]
    assert [button["text"] for button in stored] == ["Mir zuweisen", "Schließen"]
    body = scenario.telegram_update(scenario.telegram.text_update("take", 123456789)).json()
    assert body["text"] == f"Alarm {alert} ist Ihnen zugewiesen."
    # What a carrier takes for STOP is a word like another in a chat, where nobody would say that pages end.
    unknown = scenario.telegram_update(scenario.telegram.text_update("cancel", 123456789, update=2)).json()["text"]
    assert unknown == formatting.UNKNOWN.localized("de")
    assert unknown.startswith("Unbekannter Befehl. ACK: ")
    assert not OptOut.objects.exists()
    assert (
        "telegram:-100123"
        in scenario.telegram_update(scenario.telegram.text_update("/start", 5, kind="supergroup")).json()["text"]
    )
    stranger = scenario.telegram_update(scenario.telegram.press(message, "close", 999)).json()
    assert "telegram:999" in stranger["text"]
    assert len(stranger["text"]) <= 200
    assert not AlertEvent.objects.filter(kind="closed").exists()


def test_without_a_webhook_there_are_no_buttons_only_a_link(
    scenario: ChatScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.core.config.crypto import encrypt_bundle
    from tocsin.notify.models import Provider

    Provider.objects.filter(name="Slack").update(secrets=encrypt_bundle({"bot_token": scenario.slack.token}))
    for name, sender in (("Slack", "signing secret"), ("Telegram", "receives its buttons")):
        row = Provider.objects.get(name=name)
        assert sender in str(providers.test_provider(row))
    changed()
    scenario.post.user("alice", SLACK)
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go()
    (message,) = scenario.slack.messages
    assert not [block for block in message["blocks"] if block["type"] == "actions"]
    assert "/a/" in json.dumps(message["blocks"])


def test_first_telegram_message_registers_the_webhook_without_a_test(scenario: ChatScenario) -> None:
    scenario.post.user("alice", TELEGRAM)
    for subject in ("VPN down", "Disk full"):
        scenario.post.page(scenario.post.alert(subject), "alice")
    scenario.post.go()
    assert scenario.telegram.told.wait(5)
    assert scenario.telegram.webhook["url"] == f"{BASE}/hooks/telegram/update"
    scenario.post.go(11)
    assert len([r for r in scenario.telegram.http.requests if r.path.endswith("/setWebhook")]) == 1


def test_telegram_update_requires_bot_secret_and_test_registers_webhook(scenario: ChatScenario) -> None:
    update = scenario.telegram.text_update("ack", 123456789)
    assert scenario.telegram_update(update, secret="guessed").status_code == 403
    assert scenario.telegram_update(update, secret="").status_code == 403
    kind = TelegramKind()
    settings = {"api_base": scenario.telegram.http.url}
    account = account_of("Telegram", 1, kind, settings, {"bot_token": scenario.telegram.token})
    sender = kind.open(account)
    assert "@acme_tocsin_bot" in str(sender.verify())
    sender.close()
    assert scenario.telegram.webhook["url"] == f"{BASE}/hooks/telegram/update"
    assert scenario.telegram.webhook["secret_token"] == secret_of(scenario.telegram.token)


def test_chat_service_is_reached_by_its_sealed_address(scenario: ChatScenario) -> None:
    with http_double() as gotify:
        url = f"gotify://127.0.0.1:{gotify.port}/AbcdefghijKLMNO"
        alice = scenario.post.user("alice", {"label": "Gotify", "channel": "chat", "address": url})
        scenario.post.page(scenario.post.alert(), "alice")
        scenario.post.go()
        assert scenario.post.states() == [("Gotify", "sent", "Chat and push services")]
        assert json.loads(gotify.requests[0].body)["title"] == "🔴 P1 Critical: Acme: VPN down"
        # Her own server is away, which says nothing of anybody else's.
        gotify.answering = lambda _: Response(503)
        scenario.post.page(scenario.post.alert("Disk full"), "alice")
        for second in (10, 20, 60):
            scenario.post.go(second)
        assert scenario.post.deliveries()[-1].attempts == 3
        assert not ProviderHealth.objects.filter(failures__gt=0).exists()
    contact_method = ContactMethod.objects.get(user=alice)
    stored = " ".join(
        str(list(rows.objects.values())) for rows in (ContactMethod, Notification, Delivery, AuditEntry, AlertEvent)
    )
    assert "AbcdefghijKLMNO" not in stored
    # What is shown may come back as it is, and stays what it was.
    hidden = {"label": "Gotify", "channel": "chat", "address": "gotify://•••", "wait": "1m"}
    people.save_contact_method(alice, hidden, existing=contact_method, actor=ACTOR, now=scenario.post.now)
    contact_method.refresh_from_db()
    assert contact_method.address.startswith("sealed:gotify:")
    with pytest.raises(Rejected, match="Enter the complete address"):
        people.save_contact_method(alice, {**hidden, "label": "Other"}, actor=ACTOR, now=scenario.post.now)
