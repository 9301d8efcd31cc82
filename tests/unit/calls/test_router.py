"""The promise of call routing, tried on random calls: a caller ends with a person, a voicemail or a sentence."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tocsin.calls import router
from tocsin.calls.router import (
    Batch,
    CallCame,
    Callee,
    CallerBack,
    CallerHungUp,
    CallerKey,
    CallEvent,
    EndRing,
    FetchRecording,
    MoveCaller,
    MoveRing,
    Plan,
    Planned,
    RecordingDone,
    RecordingStored,
    Ring,
    RingAnswered,
    RingEnded,
    RingKey,
    RingRequested,
    RoutedCall,
    Shown,
    Tick,
    Transcribed,
    advance,
    begin,
    due_at,
    pending,
)
from tocsin.calls.states import (
    CallOutcome,
    CallPhase,
    Cause,
    LegStatus,
    MenuAction,
    MenuEntry,
    OutsideHours,
    RingOrder,
    RouteSettings,
    RouteTarget,
    TargetKind,
)
from tocsin.notify.interfaces import Gather, HangUp, Join

NOW = datetime(2026, 12, 3, 2, 0, tzinfo=UTC)
PEOPLE = [Callee(number, f"Person {number}", f"+4179000000{number}") for number in range(1, 7)]
SCHEDULE = RouteTarget(TargetKind.SCHEDULE, 1)


def came(**values: Any) -> CallCame:
    names = {field.name for field in fields(RouteSettings)} & values.keys()
    default: dict[str, Any] = {"name": "Hotline", "target": SCHEDULE, "rounds": 2, "skip_rung": True}
    settings = RouteSettings(**{**default, **{name: values.pop(name) for name in names}})
    return CallCame(settings, "CA1", "+41431234567", "+41440000000", **values)


THREE: tuple[Batch, ...] = ((PEOPLE[0],), (PEOPLE[1],), (PEOPLE[2],))


def after(came: CallCame, *events: CallEvent, people: tuple[Batch, ...] = THREE) -> RoutedCall:
    """The call after these events, each a second after the one before, and whom a plan rings."""
    call, now = advance(begin(came, NOW), Planned(people), NOW), NOW
    for event in events:
        now += timedelta(seconds=1)
        call = advance(advance(call, event, now), Planned(people), now)
    return call


def statuses(call: RoutedCall) -> list[str]:
    return [str(ring.status) for ring in call.rings]


# ---------- bad input


def test_withheld_number_rings_people_too() -> None:
    call = after(replace(came(), caller=""))
    assert statuses(call) == ["ringing"]
    assert call.who == ""


def test_noise_in_the_menu_ends_at_the_route_target() -> None:
    entry = MenuEntry("1", MenuAction.VOICEMAIL)
    keys = [CallerKey(f"menu {number}", key) for number, key in enumerate(("#", "", "99"))]
    call = after(came(menu=(entry,)), *keys)
    assert (call.phase, len(call.rings)) == (CallPhase.RINGING, 1)


def test_menu_without_a_key_ends_in_voicemail() -> None:
    entry = MenuEntry("1", MenuAction.GROUP, target=7)
    call = after(came(menu=(entry,), target=None), *(CallerKey(f"menu {number}") for number in range(3)))
    assert (call.phase, call.cause) == (CallPhase.VOICEMAIL, Cause.NO_CHOICE)


def test_repeated_menu_key_does_not_end_the_voicemail() -> None:
    entry = MenuEntry("4", MenuAction.VOICEMAIL)
    key = CallerKey("menu 0", "4")
    call = after(came(menu=(entry,)), key, key)
    assert (call.phase, call.has_spoken) == (CallPhase.VOICEMAIL, False)


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ((), CallOutcome.MISSED),
        ((RingAnswered(1),), CallOutcome.MISSED),
        ((RingAnswered(1), RingKey(1, "asked 1", "1")), CallOutcome.ANSWERED),
        (
            (RingEnded(1, LegStatus.BUSY), RingEnded(2, LegStatus.BUSY), RingEnded(3, LegStatus.BUSY)),
            CallOutcome.MISSED,
        ),
    ],
)
def test_hang_up_in_each_state_stops_every_ring(events: tuple[CallEvent, ...], outcome: CallOutcome) -> None:
    call = after(came(rounds=1), *events, CallerHungUp())
    call = advance(call, Tick(), NOW + timedelta(minutes=3))
    assert (call.phase, call.outcome) == (CallPhase.ENDED, outcome)
    assert not any(ring.is_live for ring in call.rings)
    assert not [command for command in pending(call) if isinstance(command, MoveCaller | Ring)]


def test_hang_up_while_the_menu_speaks_is_missed() -> None:
    call = after(came(menu=(MenuEntry("1", MenuAction.GROUP, target=7),)), CallerHungUp())
    assert (call.outcome, call.cause) == (CallOutcome.MISSED, Cause.CALLER_HUNG_UP)


@pytest.mark.parametrize(("seconds", "outcome"), [(0, CallOutcome.MISSED), (1800, CallOutcome.VOICEMAIL)])
def test_voicemail_of_no_length_and_of_half_an_hour(seconds: int, outcome: CallOutcome) -> None:
    call = after(came(), RecordingDone("https://vendor/r1", seconds), people=())
    assert (call.outcome, call.cause) == (outcome, Cause.NOBODY_ON_CALL)


def test_late_recording_is_kept_and_the_outcome_stays() -> None:
    call = after(came(), CallerHungUp(), people=())
    call = advance(call, Tick(), NOW + timedelta(minutes=9))
    late = advance(call, RecordingDone("https://vendor/r1", 12), NOW + timedelta(minutes=10))
    assert late.outcome is CallOutcome.MISSED
    assert [type(command) for command in pending(late)] == [FetchRecording]


def test_nobody_on_call_goes_to_voicemail_or_is_told() -> None:
    assert after(came(), people=()).phase is CallPhase.VOICEMAIL
    call = after(came(has_voicemail=False), people=())
    assert (call.phase, call.outcome, call.cause) == (CallPhase.ENDED, CallOutcome.MISSED, Cause.NOBODY_ON_CALL)
    assert MoveCaller() in pending(call)


def test_every_phone_failing_goes_to_voicemail_with_that_cause() -> None:
    call = after(came(rounds=1), *(RingEnded(number, LegStatus.FAILED) for number in (1, 2, 3)))
    assert (call.phase, call.cause) == (CallPhase.VOICEMAIL, Cause.ALL_FAILED)


def test_silent_provider_ends_the_call_truthfully() -> None:
    call, now = after(came(rounds=1), people=((PEOPLE[0],),)), NOW
    for _ in range(10):
        now += timedelta(minutes=10)
        call = advance(call, Tick(), now)
    assert (call.phase, call.cause) == (CallPhase.ENDED, Cause.ALL_FAILED)
    assert statuses(call) == ["failed"]


def test_second_acceptance_hears_who_has_it() -> None:
    both = ((PEOPLE[0],), (PEOPLE[1],))
    answered = (RingRequested(1, "L1"), RingRequested(2, "L2"), RingAnswered(1), RingAnswered(2))
    pressed = (RingKey(2, "asked 1", "1"), RingKey(1, "asked 1", "1"))
    call = after(came(ring_order=RingOrder.ALL_AT_ONCE), *answered, *pressed, people=both)
    assert statuses(call) == ["late", "accepted"]
    assert call.accepted is not None
    assert call.accepted.callee == PEOPLE[1]
    assert [type(command) for command in pending(call)] == [MoveCaller, MoveRing]


def test_forged_and_late_reports_change_nothing() -> None:
    call = after(came(), RingAnswered(1), RingKey(1, "asked 1", "1"), CallerHungUp())
    forged = (RingAnswered(9), RingKey(1, "asked 1", "1"), RingEnded(9, LegStatus.BUSY), CallerKey("menu 0", "1"),
              CallerHungUp(), Planned(THREE), RecordingDone("", 5))  # fmt: skip
    for event in forged:
        assert advance(call, event, NOW + timedelta(minutes=1)) == call


def test_call_from_a_rung_phone_does_not_ring_again() -> None:
    call = after(came(is_loop=True))
    assert (call.phase, call.cause, call.rings) == (CallPhase.VOICEMAIL, Cause.LOOP, ())


def test_blocked_caller_hears_a_sentence_and_rings_nobody() -> None:
    call = after(came(blocked=frozenset(["+41431234567"])))
    assert (call.outcome, call.rings) == (CallOutcome.BLOCKED, ())


def test_number_rings_once_a_round() -> None:
    twice = (((PEOPLE[0],)), (PEOPLE[1], PEOPLE[0]))
    call = after(came(rounds=1), *(RingEnded(number, LegStatus.BUSY) for number in (1, 2, 3)), people=twice)
    assert [ring.callee.user_id for ring in call.rings] == [1, 2]
    call = after(came(rounds=1, skip_rung=False), *(RingEnded(n, LegStatus.BUSY) for n in (1, 2, 3)), people=twice)
    assert [ring.callee.user_id for ring in call.rings] == [1, 2, 1]


@pytest.mark.parametrize("outside", list(OutsideHours))
def test_outside_hours_has_its_own_branch(outside: OutsideHours) -> None:
    phase = {"same": "ringing", "voicemail": "voicemail", "sentence": "ended"}[outside]
    assert after(came(outside_hours=outside, is_within_hours=False)).phase == phase


# ---------- the promise


@dataclass
class World:
    """A provider, the people and a shell that crashes: random, from a seed."""

    rng: random.Random
    call: RoutedCall
    people: tuple[Batch, ...]
    now: datetime = NOW
    #: What the provider does for each ring: `ringing`, `up` (picked up) or `over`.
    legs: dict[int, str] = field(default_factory=dict)
    joined: set[int] = field(default_factory=set)
    #: What the caller hears.
    heard: str = ""
    is_caller_gone: bool = False
    seen: list[CallEvent] = field(default_factory=list)

    def happen(self, event: CallEvent) -> None:
        if not isinstance(event, Shown | RecordingStored):
            self.seen.append(event)
        before = self.call
        self.call = advance(before, event, self.now)
        again = advance(self.call, event, self.now)
        assert again == self.call, f"a repeat of {event} changed the call"
        assert before.outcome in (None, self.call.outcome)
        assert due_at(self.call) is not None or self.call.phase is CallPhase.ENDED
        for command in pending(self.call):
            if isinstance(command, Plan):
                self.happen(Planned(self.people))

    def answer_caller(self, event: CallEvent) -> None:
        """A request of the caller's own leg: the answer is what the caller hears next."""
        self.happen(event)
        if not self.is_caller_gone:
            assert router.caller_steps(self.call)
            self.heard = router.document_of(self.call)
            self.happen(Shown(self.heard))

    def answer_ring(self, event: RingAnswered | RingKey) -> None:
        self.happen(event)
        ring = next((ring for ring in self.call.rings if ring.number == event.number), None)
        if ring is None or self.legs.get(ring.number) != "up":
            return
        self.happen(Shown(router.document_of_ring(ring), ring.number))
        self.hear(ring.number, router.document_of_ring(ring))

    def hear(self, number: int, document: str) -> None:
        ring = next(ring for ring in self.call.rings if ring.number == number)
        last = router.ring_steps(self.call, ring)[-1]
        assert isinstance(last, Gather | Join | HangUp)
        assert isinstance(last, Gather) == document.startswith("asked")
        if isinstance(last, Join):
            self.joined.add(number)
        elif not document.startswith("asked"):
            self.legs[number] = "over"

    def work(self, *, is_reliable: bool) -> None:
        """The shell after COMMIT: it does what is pending, unless it dies before, or the provider refuses."""
        for command in list(pending(self.call)):
            if not is_reliable and self.rng.random() < 0.25:
                return
            refuses = not is_reliable and self.rng.random() < 0.2
            match command:
                case Ring(ring):
                    assert self.call.phase is CallPhase.RINGING
                    if refuses:
                        self.happen(RingEnded(ring.number, LegStatus.FAILED))
                        continue
                    self.legs.setdefault(ring.number, "ringing")
                    if is_reliable or self.rng.random() > 0.1:
                        self.happen(RingRequested(ring.number, f"L{ring.number}"))
                case MoveCaller() if not refuses:
                    self.heard = router.document_of(self.call)
                    self.happen(Shown(self.heard))
                case MoveRing(ring) if not refuses:
                    self.happen(Shown(router.document_of_ring(ring), ring.number))
                    self.hear(ring.number, router.document_of_ring(ring))
                case EndRing(ring) if not refuses:
                    self.legs[ring.number] = "over"
                    self.happen(RingEnded(ring.number, ring.status))
                case FetchRecording():
                    self.happen(RecordingStored())
                case _:
                    pass

    def act(self) -> None:
        """Something happens in the world."""
        self.now += timedelta(seconds=self.rng.choice([0, 0, 0, 1, 1, 2, 5, 40]))
        number = self.rng.choice([*[leg for leg, state in self.legs.items() if state != "over"], *self.legs, 99])
        state, choice = self.legs.get(number), self.rng.randrange(14)
        ring = next((ring for ring in self.call.rings if ring.number == number), None)
        document = router.document_of_ring(ring) if ring else "asked 1"
        if choice <= 2 and state == "ringing":
            self.legs[number] = "up"
            self.answer_ring(RingAnswered(number, self.rng.random() < 0.2, f"L{number}"))
        elif choice <= 4 and state == "up":
            self.answer_ring(RingKey(number, document, self.rng.choice(["1", "1", "2", "", "7"])))
        elif choice == 5 and state is not None:
            self.legs[number] = "over"
            status = self.rng.choice([LegStatus.BUSY, LegStatus.NO_ANSWER, LegStatus.DECLINED, LegStatus.FAILED])
            self.happen(RingEnded(number, status))
        elif choice == 6 and self.rng.random() < 0.2:
            self.is_caller_gone = True
            self.happen(CallerHungUp())
        elif choice == 7 and not self.is_caller_gone and self.heard:
            back = CallerBack(self.heard), CallerKey(self.heard, self.rng.choice(["", "1", "4", "5", "#"]))
            self.answer_caller(back[self.heard.startswith("menu")])
        elif choice == 8 and self.call.phase is CallPhase.VOICEMAIL:
            self.happen(RecordingDone("https://vendor/r", self.rng.choice([0, 5, 1800])))
        elif choice == 9:
            self.happen(Transcribed("The door is open."))
        elif choice == 10 and self.rng.random() < 0.5:
            self.happen(RingAnswered(99))
        elif choice == 11:
            self.happen(self.rng.choice(self.seen or [Tick()]))
        else:
            self.happen(Tick())
        if self.rng.random() < 0.8:
            self.work(is_reliable=False)

    def check(self) -> None:
        call = self.call
        assert len(self.joined) <= 1
        assert len([ring for ring in call.rings if ring.status is LegStatus.ACCEPTED]) <= 1
        if call.phase in (CallPhase.TALKING, CallPhase.ENDED, CallPhase.VOICEMAIL):
            assert not any(ring.is_live for ring in call.rings)
        if call.phase is CallPhase.RINGING:
            assert any(ring.is_live for ring in call.rings)
        assert len(call.rings) <= call.settings.rounds * len(PEOPLE) * 2


def flow(seed: int) -> None:
    rng = random.Random(seed)
    actions = list(MenuAction)
    keys = range(1, rng.choice([1, 1, 1, 6]))
    menu = tuple(MenuEntry(str(key), rng.choice(actions), target=1, text="text") for key in keys)
    event = came(
        menu=menu,
        target=rng.choice([SCHEDULE, SCHEDULE, SCHEDULE, None]),
        outside_hours=rng.choice(list(OutsideHours)),
        ring_order=rng.choice(list(RingOrder)),
        rounds=rng.randint(1, 5),
        skip_rung=rng.random() < 0.5,
        has_voicemail=rng.random() < 0.7,
        is_within_hours=rng.random() < 0.9,
        blocked=frozenset(["+41431234567"] if rng.random() < 0.05 else []),
        is_loop=rng.random() < 0.05,
    )
    people = tuple(tuple(rng.sample(PEOPLE, rng.randint(0, 3))) for _ in range(rng.randint(0, 4)))
    world = World(rng, begin(event, NOW), people)
    # The provider may ask twice for the first document.
    world.answer_caller(Tick())
    for _ in range(rng.randint(0, 60)):
        world.act()
        world.check()
    # From now on nothing crashes and nobody presses anything: the call ends by itself.
    for _ in range(200):
        world.work(is_reliable=True)
        world.check()
        call = world.call
        # Never silence: the provider has the current document.
        assert world.is_caller_gone or world.heard == router.document_of(call)
        if call.phase is CallPhase.ENDED:
            break
        world.now = max(world.now, due_at(call) or world.now) + timedelta(seconds=1)
        world.happen(Tick())
    world.work(is_reliable=True)
    call = world.call
    assert call.phase is CallPhase.ENDED
    assert call.outcome is not None
    assert not list(pending(call))
    # Nobody is rung after the end. A ring whose order was never confirmed ends by its own timeout.
    known = {ring.number for ring in call.rings if ring.external_id}
    assert not [number for number, state in world.legs.items() if number in known and state == "ringing"]
    assert (call.outcome is CallOutcome.ANSWERED) == (call.winner is not None)


@pytest.mark.parametrize("start", [0])
def test_random_calls_keep_the_promise(start: int) -> None:
    for seed in range(start, start + 200):
        flow(seed)


@pytest.mark.long
def test_ten_thousand_random_calls_keep_the_promise() -> None:
    for seed in range(10_000):
        flow(seed)
