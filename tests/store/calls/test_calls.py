"""Calls to a hotline with the real router, every vendor's double and a worker that may die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.doubles.phone_exchange import MP3, Line
from tests.support.outbox_harness import allow_loopback, provider
from tests.support.people import ACTOR
from tests.support.provider_servers import HOTLINE_DOUBLES
from tests.support.provider_servers.interface import HotlineDouble
from tests.support.webhook_server import hook_server
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.calls import service
from tocsin.calls.models import CallLeg, CallRoute, PhoneCall
from tocsin.calls.routes import CALL_ROUTES
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.inbound.admin.specs import save_client_table
from tocsin.notify.event_receiver import HOTLINES
from tocsin.notify.interfaces import CallCarrier
from tocsin.notify.providers import pool
from tocsin.notify.providers.pool import KINDS
from tocsin.operate.tasks import delete_expired
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.models import Call
from tocsin.people.changes.users import delete_user
from tocsin.people.models import User

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
CALLER = "+41443334455"
PHONES = {"alice": "+41790000001", "bob": "+41790000002", "carol": "+41790000003"}

YAML = "\n".join(
    [
        "users:",
        "  - {username: admin, email: admin@example.org, role: admin}",
        *(
            f"  - {{username: {name}, name: {name.title()}, email: {name}@example.org, contact_methods: "
            f"[{{label: Phone, channel: voice, address: '{number}'}}]}}"
            for name, number in PHONES.items()
        ),
        "groups:",
        "  - {name: Desk, members: [{user: alice, roles: [primary]}, {user: bob, roles: [secondary]},",
        "     {user: carol, roles: [lead]}]}",
        "  - {name: Empty}",
        "escalation_policies:",
        "  - {name: Standard, steps: [{notify: {roles: [primary]}, after: 0m}, {notify: {roles: [secondary]},",
        "     after: 5m}]}",
        "support_hours:",
        "  - {name: Office, time_zone: UTC, windows: [{days: [mon, tue, wed, thu, fri], from: '08:00', to: '18:00'}]}",
    ]
)


@dataclass
class Hotline:
    """A vendor with its callers, and a worker of Tocsin."""

    vendor: HotlineDouble
    carrier: CallCarrier
    at: datetime
    #: What kills the worker: called before each request to the vendor.
    before: Callable[[], None] = field(default=lambda: None)

    def now(self) -> datetime:
        return self.at

    def route(self, **keys: object) -> CallRoute:
        base = {"name": "Hotline", "group": "Desk", "numbers": [self.vendor.hotline], "provider": "Vendor", "rounds": 1}
        existing = CallRoute.objects.first()
        return CALL_ROUTES.save({**base, **keys}, existing=existing, actor=ACTOR, now=self.at)

    def call(self, caller: str = CALLER) -> Line:
        line = self.vendor.exchange.call_in(f"{BASE}/hooks/vendor/call", caller, self.vendor.hotline)
        self.work()
        return line

    def find_carrier(self, name: str) -> CallCarrier | None:
        self.before()
        return self.carrier if name == "Vendor" else None

    def work(self, after: timedelta = timedelta()) -> None:
        """Time passes, and a worker does what is due."""
        self.at += after
        for _ in range(10):
            claimed = service.claim(self.at)
            for call_id in claimed:
                service.carry_out(call_id, self.find_carrier, self.now)
            self.vendor.exchange.settle()
            if not claimed:
                return

    def rung(self) -> list[str]:
        return [line.number for line in self.vendor.exchange.ringing()]

    def line(self, name: str) -> Line:
        return next(line for line in reversed(self.vendor.exchange.lines) if line.number == PHONES[name])

    def answer(self, name: str, key: str = "1") -> Line:
        line = self.line(name)
        line.pick_up()
        line.press(key)
        self.work()
        return line


@pytest.fixture(params=sorted(HOTLINE_DOUBLES))
def hotline(request: pytest.FixtureRequest, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hotline]:
    allow_loopback(monkeypatch, base_url=BASE)
    plan.apply(config_files.collect([yaml_loader.parse(YAML, "t.yaml", Path())]), prune=False, now=now)
    with HOTLINE_DOUBLES[request.param]() as vendor, hook_server() as server, HOTLINES.restored(empty=True):
        monkeypatch.setattr(vendor, "now", now.timestamp, raising=False)
        vendor.server = server
        row = provider("Vendor", request.param, ["voice"], secrets=dict(vendor.secrets), **vendor.settings)
        kind = KINDS[request.param]
        carrier = kind.open_calls(pool.account_of("Vendor", row.pk, kind, row.settings, vendor.secrets))
        hotline = Hotline(vendor, carrier, now)
        monkeypatch.setattr(clock, "now", hotline.now)
        monkeypatch.setattr(vendor, "now", lambda: hotline.at.timestamp(), raising=False)
        HOTLINES.register(service.handle_hotline)
        hotline.route()
        yield hotline
        carrier.close()


def statuses() -> list[str]:
    return list(CallLeg.objects.values_list("status", flat=True))


def timeline() -> list[str]:
    return [str(event.reason) for event in AlertEvent.objects.order_by("id")]


def test_first_who_accepts_talks_and_the_others_stop(hotline: Hotline) -> None:
    hotline.route(ring_order="all_at_once")
    caller = hotline.call()
    assert sorted(hotline.rung()) == sorted(PHONES.values())
    bob = hotline.answer("bob")
    assert hotline.vendor.exchange.talks(caller, bob)
    assert hotline.rung() == []
    assert statuses() == ["cancelled", "accepted", "cancelled"]
    alert = Alert.objects.get()
    assert (alert.status, alert.owner, alert.requester_phone) == ("assigned", User.objects.get(username="bob"), CALLER)
    assert alert.group_ids == [CallRoute.objects.get().group_id]
    hotline.at += timedelta(minutes=4)
    bob.hang_up()
    hotline.work()
    call = PhoneCall.objects.get()
    assert (call.outcome, call.phase, call.answered_by, call.due_at) == ("answered", "ended", alert.owner, None)
    assert "Bob was rung and took the call" in timeline()
    assert "The call ended after 4 minutes" in timeline()


def test_declined_busy_and_machine_ring_the_next_at_once(hotline: Hotline) -> None:
    caller = hotline.call()
    assert hotline.rung() == [PHONES["alice"]]
    hotline.answer("alice", "2")
    assert hotline.rung() == [PHONES["bob"]]
    hotline.line("bob").fails("busy")
    hotline.work()
    assert hotline.rung() == [PHONES["carol"]]
    hotline.line("carol").pick_up()
    hotline.line("carol").is_machine()
    hotline.work()
    assert statuses() == ["declined", "busy", "machine"]
    assert caller.doing == "record"
    assert "Please leave a message" in caller.heard()


def test_voicemail_becomes_an_alert_with_the_recording(hotline: Hotline) -> None:
    hotline.route(group="Empty", escalation_policy="Standard", recipient_group="Desk", alert_policy="Standard")
    hotline.route(ring_seconds=10, escalation_policy="Standard")
    caller = hotline.call()
    hotline.work(timedelta(minutes=1))
    hotline.work(timedelta(minutes=1))
    assert hotline.rung() == []
    caller.speak(42)
    hotline.work()
    assert "Thank you." in caller.heard()
    call, alert = PhoneCall.objects.get(), Alert.objects.get()
    assert (call.outcome, bytes(call.recording or b""), call.recording_seconds) == ("voicemail", MP3, 42)
    assert call.recording_type == "audio/mpeg"
    assert call.alert == alert
    assert alert.subject == f"Voicemail from {CALLER}"
    assert "The call has a recording of 42 seconds" in timeline()
    assert hotline.vendor.recordings == {}, "the vendor keeps no copy"


def test_caller_who_hangs_up_while_it_rings_is_missed(hotline: Hotline) -> None:
    hotline.route(ring_order="all_at_once", escalation_policy="Standard")
    caller = hotline.call()
    caller.hang_up()
    hotline.work()
    assert hotline.rung() == []
    assert set(statuses()) == {"cancelled"}
    alert = Alert.objects.get()
    assert alert.subject == f"Missed call from {CALLER}"
    assert alert.status == "open"
    assert any("the caller hung up" in text for text in timeline())


def test_hang_up_is_noticed_without_the_call_status_url(hotline: Hotline) -> None:
    """Only the number's own URL reports it as such; the conference says that the caller has left."""
    hotline.route(ring_order="all_at_once", escalation_policy="Standard")
    caller = hotline.call()
    hotline.work()
    assert hotline.rung()
    caller.status_callback = ""
    caller.hang_up()
    hotline.work()
    assert hotline.rung() == []
    assert PhoneCall.objects.get().outcome == "missed"


def test_nobody_on_call_is_said_and_an_alert(hotline: Hotline) -> None:
    hotline.route(group="Empty", voicemail=False)
    caller = hotline.call()
    assert "No one is on call at the moment." in caller.heard()
    assert not caller.is_live
    assert PhoneCall.objects.get().cause == "nobody_on_call"
    assert Alert.objects.count() == 1


def test_vendor_that_is_down_ends_in_voicemail_later(hotline: Hotline) -> None:
    hotline.vendor.is_down = True
    caller = hotline.call()
    for _ in PHONES:
        hotline.work(timedelta(seconds=10))
    assert set(statuses()) == {"failed"}
    assert CallLeg.objects.exclude(reason={}).count() == 3
    assert caller.doing == "conference"
    hotline.vendor.is_down = False
    hotline.work(service.RETRY)
    assert caller.doing == "record"
    assert PhoneCall.objects.get().cause == "all_failed"


def test_worker_killed_while_three_phones_ring_loses_nothing(hotline: Hotline) -> None:
    hotline.route(ring_order="all_at_once")

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    hotline.before = die
    with pytest.raises(Killed):
        hotline.call()
    assert hotline.rung() == [], "it died between COMMIT and the first request"
    hotline.before = lambda: None
    hotline.work()
    assert hotline.rung() == [], "its lease holds"
    hotline.work(service.LEASE)
    assert sorted(hotline.rung()) == sorted(PHONES.values())
    hotline.before = die
    hotline.line("alice").pick_up()
    hotline.line("alice").press("1")
    with pytest.raises(Killed):
        hotline.work()
    assert len(hotline.rung()) == 2
    hotline.before = lambda: None
    hotline.work(service.LEASE)
    assert hotline.rung() == []
    assert len(hotline.vendor.exchange.lines) == 4, "nobody was rung twice"


def test_repeated_reports_change_nothing(hotline: Hotline) -> None:
    hotline.vendor.exchange.repeats_reports = True
    hotline.call()
    alice = hotline.answer("alice")
    before = PhoneCall.objects.values().get(), list(CallLeg.objects.values()), timeline()
    for number in range(len(hotline.vendor.exchange.posted)):
        assert hotline.vendor.exchange.repeat(number)[0] in (200, 204)
    hotline.work()
    assert (PhoneCall.objects.values().get(), list(CallLeg.objects.values()), timeline()) == before
    assert alice.is_live


def test_recording_that_has_died_is_said_on_the_alert(hotline: Hotline) -> None:
    hotline.route(group="Empty")
    caller = hotline.call()
    hotline.vendor.recordings.clear()
    caller.speak(5)
    hotline.vendor.recordings.clear()
    hotline.work()
    call = PhoneCall.objects.get()
    for _ in range(10):
        hotline.work(timedelta(minutes=2))
    call.refresh_from_db()
    assert (call.outcome, call.recording) == ("voicemail", None)
    assert Alert.objects.get().subject == f"Voicemail from {CALLER}"


def test_route_that_is_deleted_meanwhile_ends_no_call(hotline: Hotline) -> None:
    caller = hotline.call()
    CallRoute.objects.all().delete()
    alice = hotline.answer("alice")
    assert hotline.vendor.exchange.talks(caller, alice)
    assert PhoneCall.objects.get().route_name == "Hotline"


def test_call_of_an_own_number_rings_nobody(hotline: Hotline) -> None:
    hotline.call()
    forwarded = hotline.call(PHONES["alice"])
    assert forwarded.doing == "record"
    assert PhoneCall.objects.order_by("-id")[0].cause == "loop"


def test_blocked_caller_opens_no_alert(hotline: Hotline) -> None:
    hotline.route(blocked=[CALLER])
    caller = hotline.call()
    assert not caller.is_live
    assert (PhoneCall.objects.get().outcome, Alert.objects.count()) == ("blocked", 0)


def test_alert_outside_the_hours_pages_again_when_they_begin(hotline: Hotline, now: datetime) -> None:
    hotline.at = now.replace(hour=3) + timedelta(days=(7 - now.weekday()) % 7)
    hotline.route(support_hours="Office", raise_again_at_hours=True, escalation_policy="Standard")
    caller = hotline.call()
    assert "We are closed at the moment." in caller.heard()
    caller.speak(9)
    hotline.work()
    hotline.work(timedelta(hours=4))
    assert "The support hours began, and no one has answered the alert" not in timeline()
    hotline.work(timedelta(hours=1))
    assert timeline().count("The support hours began, and no one has answered the alert") == 1
    hotline.work(timedelta(hours=24))
    assert timeline().count("The support hours began, and no one has answered the alert") == 1


def test_recording_is_deleted_after_the_route_s_days(hotline: Hotline) -> None:
    hotline.route(group="Empty", recording_days=3)
    hotline.call().speak(9)
    hotline.work()
    delete_expired(hotline.at + timedelta(days=2))
    assert PhoneCall.objects.get().recording is not None
    delete_expired(hotline.at + timedelta(days=4))
    assert PhoneCall.objects.get().recording is None


def test_deleted_person_leaves_no_number(hotline: Hotline) -> None:
    hotline.call().hang_up()
    hotline.work()
    with database.transaction() as connection:
        connection.execute("UPDATE people_membership SET roles = '{}'")
    delete_user(User.objects.get(username="alice"), actor=ACTOR, now=hotline.at)
    assert PHONES["alice"] not in str(list(CallLeg.objects.values()))
    assert PHONES["alice"] not in str(PhoneCall.objects.values("state").get())


def test_client_tables_know_whose_number_calls(hotline: Hotline) -> None:
    clients = [
        {"client": "Acme", "group": "Desk", "numbers": ["+4144*"]},
        {"client": "Initech", "group": "Desk", "numbers": ["+41 44 333 44*"]},
    ]
    save_client_table({"name": "Customers", "clients": clients}, actor=ACTOR, now=hotline.at)
    hotline.call()
    alice = hotline.line("alice")
    alice.pick_up()
    assert "call from Initech" in alice.heard()
    alice.press("1")
    assert Alert.objects.get().client == "Initech"


def test_missed_call_becomes_a_ticket_once(hotline: Hotline) -> None:
    desk = {
        "name": "Halo",
        "kind": "haloitsm",
        "base_url": "https://halo.example.org",
        "client_id": "x",
        "client_secret": "y",
    }
    save_outbound(desk, actor=ACTOR, now=hotline.at)
    hotline.route(ticket_integration="Halo")
    hotline.call().hang_up()
    hotline.work()
    (queued,) = Call.objects.all()
    assert (queued.action, queued.alert) == ("create", Alert.objects.get())
