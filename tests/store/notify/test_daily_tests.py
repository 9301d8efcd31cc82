"""Daily tests of providers: a text and a call to an administrator, who answers them, by real HTTP both ways."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.doubles.twilio import TwilioDouble, twilio_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, outbox_harness, provider
from tests.support.people import ACTOR
from tests.support.webhook_server import hook_server
from tocsin.core.db import database as db
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.notify import notices
from tocsin.notify.models import Delivery, Provider
from tocsin.notify.notices import DailyTest, due_daily_test
from tocsin.notify.providers import commands
from tocsin.notify.states import DeliveryState
from tocsin.operate.self_check import run_self_check
from tocsin.people.models import User

BASE = "https://tocsin.example.org"
ALICE = "+41790000001"
METHODS = (
    {"label": "SMS", "channel": "sms", "address": ALICE},
    {"label": "Phone", "channel": "voice", "address": ALICE},
)
ZURICH = ZoneInfo("Europe/Zurich")


class Scenario:
    """One provider with a daily test that is due in a minute, and its administrator."""

    def __init__(self, post: OutboxHarness, vendor: TwilioDouble) -> None:
        self.post, self.vendor = post, vendor
        post.user("alice", *METHODS, role="admin")
        at = f"{post.now + timedelta(minutes=1):%H:%M}"
        settings = {**vendor.settings, "daily_test_at": at, "daily_test_user": "alice"}
        self.row = provider("Twilio", "twilio", ["sms", "voice"], secrets={"auth_token": vendor.token}, **settings)

    def go(self, seconds: float) -> None:
        self.post.seconds = seconds
        notices.queue_daily_tests(self.post.now)
        self.post.go(seconds)

    def hear(self, text: str, sid: str) -> str:
        return str(self.vendor.text(f"{BASE}/hooks/twilio/sms", ALICE, text, sid))

    def tests(self) -> dict[str, DailyTest]:
        with db.transaction() as connection:
            return {one.channel: one for one in notices.daily_tests(connection, self.post.now)}

    def problems(self) -> list[str]:
        with db.transaction() as connection:
            found = run_self_check(connection, self.post.now)
        return sorted(one.id for one in found if one.id.startswith("daily_test"))


@pytest.fixture
def scenario(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    allow_loopback(monkeypatch, base_url=BASE)
    with outbox_harness(now.replace(second=0, microsecond=0)) as post, twilio_double("token-one") as vendor:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        with hook_server() as server:
            vendor.server = server
            yield Scenario(post, vendor)


def test_text_and_call_leave_once_a_day(scenario: Scenario) -> None:
    scenario.go(0)
    assert Delivery.objects.count() == 0
    for seconds in (60, 61, 600, 3600, 80_000):
        scenario.go(seconds)
    assert sorted(Delivery.objects.values_list("channel", flat=True)) == ["sms", "voice"]
    scenario.go(60 + 86_400)
    assert Delivery.objects.count() == 4


def test_answered_is_green_and_delivered_is_not(scenario: Scenario) -> None:
    scenario.go(60)
    assert scenario.problems() == []
    (message,) = scenario.vendor.messages
    assert message["Body"].endswith("Reply OK.")
    assert "the daily test is answered" in scenario.hear("OK", "SM-1")
    text = scenario.tests()["sms"]
    assert (text.state, text.answered_at) == (DeliveryState.ANSWERED, scenario.post.now)
    Delivery.objects.filter(channel="voice").update(status="delivered", receipt="delivered")
    scenario.go(60 + 3600)
    assert scenario.tests()["voice"].state is DeliveryState.DELIVERED
    assert scenario.problems() == ["daily_test:Twilio:voice"]


def test_key_of_the_call_answers_its_test(scenario: Scenario) -> None:
    scenario.go(60)
    (call,) = scenario.vendor.calls
    spoken = scenario.vendor.pick_up(call)
    assert "Press 5 to confirm." in spoken.text
    assert not scenario.tests()["voice"].is_answered
    assert "You pressed 5" in scenario.vendor.press(call, spoken, "5").text
    test = scenario.tests()["voice"]
    assert (test.state, test.answered_at) == (DeliveryState.ANSWERED, scenario.post.now)


def test_new_test_does_not_end_an_open_problem(scenario: Scenario) -> None:
    scenario.go(60)
    scenario.go(60 + 86_400)
    assert scenario.problems() == ["daily_test:Twilio:sms", "daily_test:Twilio:voice"]
    scenario.hear("OK", "SM-1")
    assert scenario.problems() == ["daily_test:Twilio:voice"]


def test_answer_to_an_alert_still_reaches_it(scenario: Scenario) -> None:
    scenario.go(60)
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    scenario.post.go()
    assert f"alert {alert}" in scenario.hear("ack", "SM-2")
    assert scenario.tests()["sms"].is_answered


def test_outage_skips_a_late_test_and_says_so(scenario: Scenario) -> None:
    scenario.go(60)
    Delivery.objects.update(status="delivered", receipt="answered")
    scenario.go(60 + 86_400 + 7_201)
    assert Delivery.objects.count() == 2
    assert len(scenario.problems()) == 2


def test_administrator_who_left_is_a_problem(scenario: Scenario) -> None:
    User.objects.filter(username="alice").update(is_active=False)
    scenario.go(60)
    assert Delivery.objects.count() == 0
    assert scenario.problems() == ["daily_test:Twilio:sms"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"daily_test_at": "25:00"}, "daily_test_at"),
        ({"daily_test_at": "7.30"}, "daily_test_at"),
        ({"daily_test_user": ""}, "daily_test_user"),
        ({"daily_test_at": ""}, "daily_test_at"),
        ({"daily_test_user": "nobody"}, "daily_test_user"),
        ({"daily_test_user": "bob"}, "daily_test_user"),
    ],
)
def test_bad_setting_names_its_field(scenario: Scenario, changes: dict[str, str], field: str) -> None:
    scenario.post.user("bob", *METHODS)
    spec = commands.provider_spec(scenario.row) | changes
    with pytest.raises(Rejected) as rejected:
        commands.save_provider(spec, existing=Provider.objects.get(), actor=ACTOR, now=scenario.post.now)
    assert field in (rejected.value.field, *rejected.value.fields)


def test_skipped_and_repeated_hours_have_one_due_moment() -> None:
    spring = datetime(2026, 3, 29, 12, tzinfo=UTC)
    autumn = datetime(2026, 10, 25, 12, tzinfo=UTC)
    assert due_daily_test("02:30", ZURICH, spring) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert due_daily_test("02:30", ZURICH, autumn) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert due_daily_test("23:30", ZURICH, spring) == datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
