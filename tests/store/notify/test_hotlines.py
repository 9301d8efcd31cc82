"""Calls to a hotline by every vendor that carries them: real HTTP both ways, with a scripted router."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from tests.doubles.http import Request, Response, http_double
from tests.doubles.phone_exchange import MP3, Line
from tests.support.outbox_harness import allow_loopback, provider
from tests.support.provider_servers import HOTLINE_DOUBLES
from tests.support.provider_servers.interface import HotlineDouble
from tests.support.webhook_server import hook_server
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.notify.event_receiver import HOTLINES
from tocsin.notify.integrations import twiml
from tocsin.notify.interfaces import (
    CallCarrier,
    CallStep,
    Gather,
    HangUp,
    HotlineEvent,
    HotlineEventKind,
    Join,
    LiveState,
    Park,
    Record,
    Say,
)
from tocsin.notify.models import Provider
from tocsin.notify.providers import pool
from tocsin.notify.providers.pool import KINDS

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
HOOKS = f"{BASE}/hooks/vendor"
CALLER = "+41443334455"
ALICE = "+41790000001"
BOB = "+41790000002"
PARK = Park("call-1", Say("We are still trying to reach somebody."), name="park")
ASK = Gather((Say("A call for Acme. Press 1 to take it."),), name="ask")
_K = HotlineEventKind


@dataclass
class Hotline:
    """A vendor, what it reports, and how the scripted router answers each kind of event."""

    vendor: HotlineDouble
    carrier: CallCarrier
    row: Provider
    events: list[HotlineEvent] = field(default_factory=list)
    answers: dict[HotlineEventKind, Sequence[CallStep]] = field(
        default_factory=lambda: {_K.CAME: (Say("Welcome."), PARK), _K.ANSWERED: (ASK,), _K.KEY: (Join("call-1"),)}
    )

    def handle(self, name: str, event: HotlineEvent, now: datetime) -> Sequence[CallStep]:
        assert name == "Vendor"
        self.events.append(event)
        return self.answers.get(event.kind, ())

    def kinds(self, leg: str = "") -> list[HotlineEventKind]:
        return [event.kind for event in self.events if event.leg == leg]

    def last(self, kind: HotlineEventKind) -> HotlineEvent:
        return [event for event in self.events if event.kind is kind][-1]

    def call(self, caller: str = CALLER, **more: str) -> Line:
        return self.vendor.exchange.call_in(f"{HOOKS}/call", caller, self.vendor.hotline, **more)

    def ring(self, number: str, leg: str) -> Line:
        self.carrier.ring(number, leg, caller_id=self.vendor.hotline)
        self.vendor.exchange.settle()
        return self.vendor.exchange.lines[-1]


@pytest.fixture(params=sorted(HOTLINE_DOUBLES))
def hotline(request: pytest.FixtureRequest, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hotline]:
    allow_loopback(monkeypatch, base_url=BASE)
    monkeypatch.setattr(clock, "now", lambda: now)
    with HOTLINE_DOUBLES[request.param]() as vendor, hook_server() as server, HOTLINES.restored(empty=True):
        monkeypatch.setattr(vendor, "now", now.timestamp, raising=False)
        vendor.server = server
        row = provider("Vendor", request.param, ["voice"], secrets=dict(vendor.secrets), **vendor.settings)
        kind = KINDS[request.param]
        account = pool.account_of("Vendor", row.pk, kind, row.settings, vendor.secrets)
        carrier = kind.open_calls(account)
        hotline = Hotline(vendor, carrier, row)
        HOTLINES.register(hotline.handle)
        yield hotline
        carrier.close()


def test_kinds_that_carry_calls_have_a_double() -> None:
    assert {name for name, kind in KINDS.items() if kind.carries_calls} == set(HOTLINE_DOUBLES)


def test_person_who_presses_the_key_is_joined_with_the_caller(hotline: Hotline) -> None:
    caller = hotline.call()
    assert caller.heard() == "Welcome. We are still trying to reach somebody."
    assert caller.played[0].startswith(f"{BASE}/static/")
    came = hotline.last(_K.CAME)
    assert (came.caller, came.number, came.external_id) == (CALLER, hotline.vendor.hotline, caller.sid)
    alice, bob = hotline.ring(ALICE, "leg-1"), hotline.ring(BOB, "leg-2")
    assert (alice.number, alice.caller, bob.number) == (ALICE, hotline.vendor.hotline, BOB)
    alice.rings()
    alice.pick_up()
    assert alice.heard() == "A call for Acme. Press 1 to take it."
    alice.press("1")
    assert hotline.vendor.exchange.talks(caller, alice)
    key = hotline.last(_K.KEY)
    assert (key.leg, key.digits, key.step, key.external_id) == ("leg-1", "1", "ask", alice.sid)
    hotline.carrier.hang_up(bob.sid)
    hotline.vendor.exchange.settle()
    assert hotline.vendor.exchange.ringing() == []
    assert hotline.kinds("leg-2") == [_K.RINGING, _K.NO_ANSWER]
    alice.hang_up()
    assert not caller.is_live, "the conference ends with either"
    ended = hotline.last(_K.ENDED)
    assert (ended.external_id, ended.step) == (caller.sid, "park")


def test_caller_who_hangs_up_while_waiting_is_reported(hotline: Hotline) -> None:
    caller = hotline.call()
    caller.hang_up()
    assert hotline.kinds() == [_K.CAME, _K.LEFT, _K.HUNG_UP]
    assert hotline.carrier.live_state(caller.sid) is LiveState.ENDED
    assert not hotline.carrier.move(caller.sid, [HangUp()])
    hotline.carrier.hang_up(caller.sid)
    hotline.carrier.hang_up("unknown")


def test_waiting_caller_is_moved_to_voicemail(hotline: Hotline) -> None:
    caller = hotline.call()
    caller.heard()
    assert hotline.carrier.live_state(caller.sid) is LiveState.CONNECTED
    hotline.answers[_K.ENDED] = (Say("Thank you."), HangUp())
    assert hotline.carrier.move(caller.sid, [Say("Leave a message."), Record(120, is_transcribed=True, name="voice")])
    hotline.vendor.exchange.settle()
    assert caller.heard() == "Leave a message."
    caller.speak(12)
    assert caller.heard() == "Thank you."
    assert hotline.last(_K.ENDED).step == "voice"
    recorded = hotline.last(_K.RECORDED)
    assert (recorded.external_id, recorded.recording_seconds) == (caller.sid, 12)
    assert hotline.last(_K.TRANSCRIBED).transcription == "The VPN is down."
    recording = hotline.carrier.fetch_recording(recorded.recording_url, recorded.recording_id)
    assert recording == (MP3, "audio/mpeg")
    hotline.carrier.delete_recording(recorded.recording_id)
    hotline.carrier.delete_recording(recorded.recording_id)
    assert hotline.vendor.recordings == {}


@pytest.mark.parametrize("seconds", [0, 7])
def test_hang_up_ends_a_voicemail(hotline: Hotline, seconds: int) -> None:
    hotline.answers[_K.CAME] = (Say("Leave a message."), Record(1800))
    caller = hotline.call()
    caller.speak(seconds, hangs_up=True)
    assert set(hotline.kinds()) == {_K.CAME, _K.HUNG_UP, _K.RECORDED if seconds else _K.NOT_RECORDED}


def test_silence_at_the_tone_goes_on(hotline: Hotline) -> None:
    hotline.answers |= {_K.CAME: (Record(60, name="voice"),), _K.ENDED: (Say("Nothing was recorded."), HangUp())}
    caller = hotline.call()
    caller.speak(0)
    assert caller.heard() == "Nothing was recorded."
    assert hotline.last(_K.ENDED).step == "voice"


def test_missing_key_asks_for_the_next_steps(hotline: Hotline) -> None:
    hotline.answers |= {_K.CAME: (Gather((Say("Press 1."),), name="menu"),), _K.KEY: (Say("Goodbye."), HangUp())}
    caller = hotline.call()
    caller.presses_nothing()
    assert (hotline.last(_K.KEY).digits, hotline.last(_K.KEY).step) == ("", "menu")
    assert caller.heard() == "Press 1. Goodbye."


@pytest.mark.parametrize(
    ("status", "more", "kind"),
    [
        ("busy", {}, _K.BUSY),
        ("busy", {"SipResponseCode": "603"}, _K.DECLINED),
        ("busy", {"SipHangupCause": "603"}, _K.DECLINED),
        ("no-answer", {}, _K.NO_ANSWER),
        ("canceled", {}, _K.NO_ANSWER),
        ("failed", {"SipResponseCode": "480"}, _K.NO_ANSWER),
        ("failed", {"SipResponseCode": "404"}, _K.FAILED),
        ("failed", {}, _K.FAILED),
        ("completed", {}, _K.HUNG_UP),
    ],
)
def test_phone_that_is_not_picked_up_says_why(
    hotline: Hotline, status: str, more: dict[str, str], kind: HotlineEventKind
) -> None:
    alice = hotline.ring(ALICE, "leg-1")
    alice.fails(status, **more)
    assert hotline.kinds("leg-1") == [_K.RINGING, kind]
    assert bool(hotline.last(kind).reason) == (kind not in (_K.DECLINED, _K.HUNG_UP))


def test_machine_is_reported_beside_the_question(hotline: Hotline) -> None:
    alice = hotline.ring(ALICE, "leg-1")
    alice.pick_up()
    alice.is_machine()
    assert hotline.kinds("leg-1")[-2:] == [_K.ANSWERED, _K.MACHINE]
    hotline.vendor.exchange.report_machine(alice, "human")
    assert hotline.kinds("leg-1")[-1] is _K.MACHINE, "a person is nothing new"


def test_vendor_that_repeats_its_requests_gets_the_same_answer(hotline: Hotline) -> None:
    caller = hotline.call()
    first = hotline.vendor.exchange.repeat(0)
    assert first == hotline.vendor.exchange.repeat(0)
    assert first[0] == 200
    assert [event for event in hotline.events if event.kind is _K.CAME] == [hotline.events[0]] * 3
    assert caller.is_live


def test_forged_request_changes_nothing(hotline: Hotline) -> None:
    hotline.call()
    hotline.events.clear()
    secrets = {"token": "another", "now": lambda: 0.0}
    for name, value in secrets.items():
        if hasattr(hotline.vendor, name):
            setattr(hotline.vendor, name, value)
    fields = {"CallSid": "CA1", "From": CALLER, "To": hotline.vendor.hotline, "CallStatus": "ringing"}
    for endpoint in ("call", "call-key", "call-status", "call-wait", "call-recording", "call-fallback"):
        assert hotline.vendor.post_form(f"{HOOKS}/{endpoint}", fields)[0] == 403
    assert hotline.events == []


def test_unknown_url_of_a_hotline_is_refused(hotline: Hotline) -> None:
    assert hotline.vendor.post_form(f"{HOOKS}/call-nothing", {"CallSid": "CA1"})[0] == 404


@pytest.mark.parametrize("number", ["", "anonymous", "+266696687", "+8656696", "sip:jane@example.org", "Restricted"])
def test_withheld_number_is_none(hotline: Hotline, number: str) -> None:
    hotline.call(number)
    assert hotline.last(_K.CAME).caller == ""


def test_number_without_route_says_so(hotline: Hotline) -> None:
    hotline.answers.clear()
    caller = hotline.call()
    assert caller.heard() == "This number is not in use. Goodbye."
    assert not caller.is_live


def test_caller_id_that_the_vendor_refuses_is_replaced(hotline: Hotline) -> None:
    hotline.carrier.ring(ALICE, "leg-1", caller_id="+41443339999")
    (alice,) = hotline.vendor.exchange.ringing()
    assert alice.caller == hotline.vendor.settings["from_number"]


def test_callers_number_is_shown_where_the_vendor_allows_it(hotline: Hotline) -> None:
    hotline.call()
    token = hotline.last(_K.CAME).caller_token
    hotline.carrier.ring(ALICE, "leg-1", caller_id=CALLER, caller_token=token)
    (alice,) = hotline.vendor.exchange.ringing()
    assert alice.caller == (CALLER if token else hotline.vendor.settings["from_number"])


def test_call_whose_id_only_its_events_say_is_known_by_its_leg(hotline: Hotline) -> None:
    if not hasattr(hotline.vendor, "tells_sid"):
        pytest.skip("It answers with the id.")
    hotline.vendor.tells_sid = False
    assert hotline.carrier.ring(ALICE, "leg-1") == ""
    hotline.vendor.exchange.settle()
    (alice,) = hotline.vendor.exchange.ringing()
    assert (hotline.last(_K.RINGING).leg, hotline.last(_K.RINGING).external_id) == ("leg-1", alice.sid)


def test_vendor_that_is_down_raises_and_keeps_nothing(hotline: Hotline) -> None:
    hotline.vendor.is_down = True
    for request in (
        lambda: hotline.carrier.ring(ALICE, "leg-1"),
        lambda: hotline.carrier.move("CA1", [HangUp()]),
        lambda: hotline.carrier.hang_up("CA1"),
        lambda: hotline.carrier.live_state("CA1"),
        lambda: hotline.carrier.fetch_recording(f"{hotline.vendor.settings['api_base']}/recording"),
    ):
        with pytest.raises(Temporary):
            request()
    assert hotline.vendor.exchange.lines == []


def test_test_call_makes_its_recipient_the_caller(hotline: Hotline) -> None:
    hotline.carrier.call_in(ALICE, hotline.vendor.hotline)
    (alice,) = hotline.vendor.exchange.ringing()
    alice.pick_up()
    came = hotline.last(_K.CAME)
    assert (came.is_test, came.caller, came.number) == (True, ALICE, hotline.vendor.hotline)
    assert alice.heard().startswith("Welcome.")
    alice.hang_up()
    assert hotline.kinds()[-1] is _K.HUNG_UP


# ---------- recordings


def _recorded(hotline: Hotline) -> HotlineEvent:
    hotline.answers[_K.CAME] = (Record(60),)
    hotline.call().speak(5)
    return hotline.last(_K.RECORDED)


def test_recording_whose_url_has_expired_is_fetched_by_id(hotline: Hotline) -> None:
    recorded = _recorded(hotline)
    getattr(hotline.vendor, "media_urls", set()).clear()
    assert hotline.carrier.fetch_recording(recorded.recording_url, recorded.recording_id)[0] == MP3


def test_recording_elsewhere_is_not_fetched(hotline: Hotline) -> None:
    with http_double() as other:
        for url in (f"{other.url}/a.mp3", "http://media.twilio.com/a", "https://twilio.com.example.org/a", "file:///a"):
            with pytest.raises(Permanent) as caught:
                hotline.carrier.fetch_recording(url)
            assert caught.value.reason.code == "provider.recording_elsewhere"
        assert other.requests == []


def test_recording_that_redirects_elsewhere_is_not_fetched(hotline: Hotline) -> None:
    recorded = _recorded(hotline)
    with http_double() as other:
        answering = hotline.vendor.http.answering

        def redirects(request: Request) -> Response:
            if request.path.partition("?")[0].endswith(".mp3"):
                return Response(302, b"", {"Location": f"{other.url}/a"})
            return answering(request)

        hotline.vendor.http.answering = redirects
        with pytest.raises(Permanent):
            hotline.carrier.fetch_recording(recorded.recording_url)
        assert other.requests == []


def test_recording_that_is_too_large_or_none_is_refused(hotline: Hotline, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = _recorded(hotline)
    monkeypatch.setattr(twiml, "MAX_RECORDING_BYTES", len(MP3) - 1)
    with pytest.raises(Permanent) as caught:
        hotline.carrier.fetch_recording(recorded.recording_url)
    assert caught.value.reason.code == "provider.recording_too_large"
    hotline.vendor.recordings[recorded.recording_id] = b"<html>Sign in</html>"
    with pytest.raises(Permanent) as caught:
        hotline.carrier.fetch_recording(recorded.recording_url)
    assert caught.value.reason.code == "provider.no_recording"
    hotline.vendor.recordings.clear()
    with pytest.raises((Permanent, Temporary)):
        hotline.carrier.fetch_recording(recorded.recording_url, recorded.recording_id)


# ---------- without Tocsin


def test_fallback_document_takes_a_message_that_is_reported_later(hotline: Hotline) -> None:
    document = pool.build_package(hotline.row).decode()
    exchange = hotline.vendor.exchange
    caller = Line(exchange, "CA-missed", hotline.vendor.hotline, CALLER, is_inbound=True, status="in-progress")
    exchange.lines.append(caller)
    caller.run(document)
    assert caller.heard().startswith("No one can be reached at this number right now.")
    caller.speak(20)
    assert caller.heard() == "Thank you. Your message was recorded."
    assert [event.kind for event in hotline.events] == [_K.ENDED, _K.RECORDED]
    assert {event.external_id for event in hotline.events} == {"CA-missed"}
    assert hotline.events[0].caller == CALLER


def test_provider_shows_the_urls_of_a_hotline(hotline: Hotline) -> None:
    urls = {endpoint.name: url for endpoint, url in pool.webhook_urls(hotline.row)}
    assert (urls["call"], urls["call-status"]) == (f"{HOOKS}/call", f"{HOOKS}/call-status")
