"""Routes a phone call of a hotline to a person, a voicemail or a truthful sentence, never into silence. Pure.

`begin` takes a new call, `advance` a call and what happened to it. What a provider has still to do for it follows
from the call alone (`pending`), and so do the documents that the parties hear (`caller_steps`, `ring_steps`): a
repeated callback gets the same answer, and a process that takes a call over after a crash does what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

import msgspec
from msgspec.structs import replace

from tocsin.core.reasons import NO_REASON, Reason, ReasonType

# ---------- settings
# A route as a call needs it. A call keeps its own: a route that is changed or deleted meanwhile ends no call.


class TargetKind(StrEnum):
    """Where a call goes: to people, to voicemail, or to a sentence that ends it."""

    POLICY = "policy"
    SCHEDULE = "schedule"
    GROUP = "group"
    CLIENT = "client"
    VOICEMAIL = "voicemail"
    SENTENCE = "sentence"


class RouteTarget(msgspec.Struct, frozen=True):
    kind: TargetKind
    #: Of a policy, a schedule or a group.
    id: int | None = None
    #: The object's or the client's name, or the sentence.
    text: str = ""


class MenuEntry(msgspec.Struct, frozen=True):
    """What a key of the menu does, and how the menu names it."""

    key: str
    target: RouteTarget
    label: str = ""


class OutsideHours(StrEnum):
    """What a caller gets outside the support hours."""

    SAME = "same"
    VOICEMAIL = "voicemail"
    SENTENCE = "sentence"


class RingOrder(StrEnum):
    IN_ORDER = "in_order"
    ALL_AT_ONCE = "all_at_once"


class AnsweredAlert(StrEnum):
    """The alert about a call that somebody took: it stays open, is closed when the call ends, or there is none."""

    OPEN = "open"
    CLOSED = "closed"
    NONE = "none"


class RouteSettings(msgspec.Struct, frozen=True):
    """What a route says about one call."""

    name: str
    language: str = "en"
    greeting: str = ""
    #: At most nine.
    menu: tuple[MenuEntry, ...] = ()
    #: Whom it rings; None if the menu decides.
    target: RouteTarget | None = None
    outside_hours: OutsideHours = OutsideHours.VOICEMAIL
    outside_sentence: str = ""
    ring_order: RingOrder = RingOrder.IN_ORDER
    rounds: int = 2
    ring_seconds: int = 25
    #: Whether a number rings once in each round, however many levels name it.
    skip_rung: bool = True
    #: Whether the person who is rung sees the caller's number instead of the service's.
    shows_caller: bool = False
    has_voicemail: bool = True
    voicemail_greeting: str = ""
    is_recorded: bool = False
    is_transcribed: bool = False
    #: What becomes of it; the router itself does not read these.
    group_id: int | None = None
    alert_when_answered: AnsweredAlert = AnsweredAlert.OPEN
    priority: str = "high"
    alert_policy_id: int | None = None
    raises_again_at_hours: bool = False
    support_hours_id: int | None = None
    ticket_integration_id: int | None = None
    recording_days: int = 90


# ---------- the call


class Callee(msgspec.Struct, frozen=True):
    """Somebody to ring."""

    user_id: int
    name: str
    number: str
    #: In which capacity, such as "secondary, Service Desk".
    capacity: str = ""


#: The people of one moment: rung together.
type Batch = tuple[Callee, ...]


class CallPhase(StrEnum):
    #: The caller hears the menu.
    MENU = "menu"
    #: It is not decided yet whom to ring: the shell answers with `Planned`.
    PLANNING = "planning"
    RINGING = "ringing"
    TALKING = "talking"
    VOICEMAIL = "voicemail"
    ENDED = "ended"


class LegStatus(StrEnum):
    RINGING = "ringing"
    #: Picked up, and is asked whether to take the call.
    ASKED = "asked"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    BUSY = "busy"
    MACHINE = "machine"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Picked up, but somebody else took the call.
    LATE = "late"


LIVE = frozenset({LegStatus.RINGING, LegStatus.ASKED})


class CallOutcome(StrEnum):
    """How a call ended, or what was decided about it."""

    ANSWERED = "answered"
    MISSED = "missed"
    VOICEMAIL = "voicemail"
    BLOCKED = "blocked"
    #: The caller heard a sentence that the route has for it.
    INFORMED = "informed"


class Cause(StrEnum):
    """Why a call was not taken, or went to voicemail."""

    CALLER_HUNG_UP = "caller_hung_up"
    NOBODY_ON_CALL = "nobody_on_call"
    NOBODY_ANSWERED = "nobody_answered"
    ALL_FAILED = "all_failed"
    OUTSIDE_HOURS = "outside_hours"
    #: By a key of the menu.
    CHOSEN = "chosen"
    NO_CHOICE = "no_choice"
    PROVIDER_SILENT = "provider_silent"
    BLOCKED = "blocked"
    #: A phone that Tocsin rang forwards its calls to the hotline.
    LOOP = "loop"


class CallRing(msgspec.Struct, frozen=True):
    """One ring of one person."""

    number: int
    callee: Callee
    round: int
    status: LegStatus
    rung_at: datetime
    #: When the shell stops waiting for the provider to say what became of it.
    deadline: datetime
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    external_id: str = ""
    reason: Reason = NO_REASON
    #: How often it was asked for a key.
    asked: int = 0
    #: Whether the provider was asked to ring.
    is_requested: bool = False
    #: Whether the provider's call has ended.
    is_over: bool = False
    #: The document that the provider has for it; empty if none but the first.
    document: str = ""

    @property
    def is_live(self) -> bool:
        return self.status in LIVE


class CallRecording(msgspec.Struct, frozen=True):
    url: str
    seconds: int
    #: Whether the shell has it, or knows why it cannot have it.
    is_done: bool = False


class RoutedCall(msgspec.Struct, frozen=True):
    """A call in progress, or how it ended."""

    settings: RouteSettings
    external_id: str
    #: The caller's number; empty if it is withheld.
    caller: str
    #: Who calls, as far as is known, such as "Jane Doe, Acme".
    caller_name: str
    called: str
    phase: CallPhase
    started_at: datetime
    #: When the phase ends by itself.
    deadline: datetime
    menu_tries: int = 0
    target: RouteTarget | None = None
    #: Who is rung next, with the number of the round.
    queue: tuple[tuple[int, Batch], ...] = ()
    rings: tuple[CallRing, ...] = ()
    outcome: CallOutcome | None = None
    cause: Cause | None = None
    #: The number of the ring that was accepted.
    winner: int | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    recording: CallRecording | None = None
    transcription: str = ""
    #: Whether the caller has spoken to the voicemail, and hears thanks.
    has_spoken: bool = False
    is_caller_gone: bool = False
    #: The document that the provider has for the caller.
    document: str = ""

    @property
    def accepted(self) -> CallRing | None:
        return next((ring for ring in self.rings if ring.number == self.winner), None)

    @property
    def who(self) -> str:
        """The caller as people read it: the name if it is known, else the number; empty for neither."""
        return (
            f"{self.caller_name} ({self.caller})"
            if self.caller_name and self.caller
            else self.caller_name or self.caller
        )


# ---------- events


class CallCame(msgspec.Struct, frozen=True):
    settings: RouteSettings
    external_id: str
    caller: str
    called: str
    caller_name: str = ""
    is_within_hours: bool = True
    is_blocked: bool = False
    #: Whether it comes from a phone that Tocsin itself rang: it would ring the same people again without end.
    is_loop: bool = False


class Planned(msgspec.Struct, frozen=True):
    """Whom to ring, answering `Plan`."""

    batches: tuple[Batch, ...]


class CallerKey(msgspec.Struct, frozen=True):
    """The provider asks what the caller hears next: after a key of the menu, without one, or after the recording.
    `document` is the one that has just ended; a repeat of an earlier request names an earlier one."""

    document: str
    key: str = ""


class CallerHungUp(msgspec.Struct, frozen=True):
    pass


class RingRequested(msgspec.Struct, frozen=True):
    """The provider took the order to ring, or reported the ring itself."""

    number: int
    external_id: str


class RingAnswered(msgspec.Struct, frozen=True):
    number: int
    is_machine: bool = False
    external_id: str = ""


class RingKey(msgspec.Struct, frozen=True):
    """The person who was asked pressed a key, or none in time. `document` as in `CallerKey`."""

    number: int
    document: str
    key: str = ""


class RingEnded(msgspec.Struct, frozen=True):
    """The provider's call to a person has ended, or never began. `status` says how, if nobody had picked up."""

    number: int
    status: LegStatus
    reason: Reason = NO_REASON


class RecordingDone(msgspec.Struct, frozen=True):
    url: str
    seconds: int


class RecordingStored(msgspec.Struct, frozen=True):
    """The shell has the recording, or knows that it cannot have it."""


class Transcribed(msgspec.Struct, frozen=True):
    text: str


class Shown(msgspec.Struct, frozen=True):
    """The provider has the current document of the caller (None) or of a ring."""

    number: int | None = None


class Tick(msgspec.Struct, frozen=True):
    """Time has passed, or a process takes the call over."""


type CallEvent = (
    Planned
    | CallerKey
    | CallerHungUp
    | RingRequested
    | RingAnswered
    | RingKey
    | RingEnded
    | RecordingDone
    | RecordingStored
    | Transcribed
    | Shown
    | Tick
)

MAX_MENU_TRIES = 3
MAX_ASKS = 3
MAX_VOICEMAIL = timedelta(minutes=5)
#: A voicemail that is shorter is a caller who hung up at the tone.
MIN_VOICEMAIL_SECONDS = 1
#: How long a provider may take to report what it must have noticed.
GRACE = timedelta(seconds=10)
#: How long one person may take to hear the question and press a key.
MAX_QUESTION = timedelta(seconds=40)
MAX_MENU = timedelta(minutes=2)
#: How long the recording of somebody who hung up may take.
RECORDING_DELAY = timedelta(minutes=1)
#: Twilio ends a call after four hours, and reports that.
MAX_TALK = timedelta(hours=4, minutes=5)
MAX_TRANSCRIPTION_CHARS = 4_000

ACCEPT_KEY, DECLINE_KEY = "1", "2"

NOT_REPORTED = ReasonType("call.not_reported", "The provider did not say what became of the call.")


def advance(call: RoutedCall, event: CallEvent, now: datetime) -> RoutedCall:
    """Returns the call after the event. What is repeated, late, or about nothing known changes nothing."""
    match event:
        case Planned():
            if call.phase is not CallPhase.PLANNING:
                return call
            return _ring_next(replace(call, queue=_queue(call.settings, event.batches)), now)
        case CallerKey():
            return _caller_key(call, event.key, now) if event.document == document_of(call) else call
        case CallerHungUp():
            return _caller_hung_up(call, now)
        case RingRequested() | RingAnswered() | RingKey() | RingEnded():
            return _on_ring(call, event, now)
        case RecordingDone():
            return _recorded(call, event, now)
        case RecordingStored():
            return replace(call, recording=replace(call.recording, is_done=True)) if call.recording else call
        case Transcribed():
            return replace(call, transcription=call.transcription or event.text[:MAX_TRANSCRIPTION_CHARS])
        case Shown():
            return _shown(call, event.number)
        case Tick():
            return _tick(call, now)
        case _:
            assert_never(event)


def begin(event: CallCame, now: datetime) -> RoutedCall:
    """Returns a call that has just come."""
    settings = event.settings
    call = RoutedCall(
        settings,
        event.external_id,
        event.caller,
        event.caller_name,
        event.called,
        CallPhase.MENU,
        now,
        now + MAX_MENU,
        target=settings.target,
    )
    if event.is_blocked:
        return _end(call, CallOutcome.BLOCKED, Cause.BLOCKED, now)
    if event.is_loop:
        return _to_voicemail(call, Cause.LOOP, now)
    if not event.is_within_hours and settings.outside_hours is OutsideHours.VOICEMAIL:
        return _to_voicemail(call, Cause.OUTSIDE_HOURS, now)
    if not event.is_within_hours and settings.outside_hours is OutsideHours.SENTENCE:
        sentence = RouteTarget(TargetKind.SENTENCE, text=settings.outside_sentence)
        return _end(replace(call, target=sentence), CallOutcome.INFORMED, Cause.OUTSIDE_HOURS, now)
    if settings.menu:
        return call
    return _go_to(call, settings.target, Cause.NOBODY_ON_CALL, now)


def _go_to(call: RoutedCall, target: RouteTarget | None, cause: Cause, now: datetime) -> RoutedCall:
    call = replace(call, target=target)
    if target is None or target.kind is TargetKind.VOICEMAIL:
        return _to_voicemail(call, cause, now)
    if target.kind is TargetKind.SENTENCE:
        return _end(call, CallOutcome.INFORMED, cause, now)
    return replace(call, phase=CallPhase.PLANNING, deadline=now + GRACE)


def _queue(settings: RouteSettings, batches: Sequence[Batch]) -> tuple[tuple[int, Batch], ...]:
    """The batches of all rounds. In one round a number rings once at a time, and once at all with `skip_rung`."""
    rung: set[str] = set()
    chosen: list[Batch] = []
    for batch in batches:
        seen = rung if settings.skip_rung else set[str]()
        people = []
        for callee in batch:
            if callee.number not in seen:
                seen.add(callee.number)
                people.append(callee)
        chosen.append(tuple(people))
    if settings.ring_order is RingOrder.ALL_AT_ONCE:
        together = {callee.number: callee for batch in reversed(chosen) for callee in reversed(batch)}
        chosen = [tuple(reversed(together.values()))]
    else:
        chosen = [(callee,) for batch in chosen for callee in batch]
    return tuple((number, batch) for number in range(1, settings.rounds + 1) for batch in chosen if batch)


def _ring_next(call: RoutedCall, now: datetime) -> RoutedCall:
    """Rings the next people, or gives up."""
    if not call.queue:
        statuses = {ring.status for ring in call.rings}
        cause = Cause.NOBODY_ANSWERED
        if not statuses:
            cause = Cause.NOBODY_ON_CALL
        elif statuses == {LegStatus.FAILED}:
            cause = Cause.ALL_FAILED
        return _to_voicemail(call, cause, now)
    (number, batch), *rest = call.queue
    deadline = now + timedelta(seconds=call.settings.ring_seconds) + GRACE
    rings = tuple(
        CallRing(len(call.rings) + place, callee, number, LegStatus.RINGING, now, deadline)
        for place, callee in enumerate(batch, 1)
    )
    return replace(call, phase=CallPhase.RINGING, queue=tuple(rest), rings=(*call.rings, *rings), deadline=deadline)


def _to_voicemail(call: RoutedCall, cause: Cause, now: datetime) -> RoutedCall:
    if call.is_caller_gone or not call.settings.has_voicemail:
        return _end(call, CallOutcome.MISSED, cause, now)
    call = replace(call, queue=(), cause=cause, phase=CallPhase.VOICEMAIL)
    return replace(call, deadline=now + MAX_VOICEMAIL + RECORDING_DELAY + GRACE)


def _end(call: RoutedCall, outcome: CallOutcome, cause: Cause | None, now: datetime) -> RoutedCall:
    """Ends the call, and stops every ring."""
    rings = tuple(_stop(ring, LegStatus.CANCELLED, now) if ring.is_live else ring for ring in call.rings)
    return replace(
        call, phase=CallPhase.ENDED, queue=(), rings=rings, outcome=call.outcome or outcome, cause=call.cause or cause,
        ended_at=now, deadline=now,
    )  # fmt: skip


def _stop(ring: CallRing, status: LegStatus, now: datetime, reason: Reason = NO_REASON) -> CallRing:
    return replace(ring, status=status, ended_at=now, reason=reason)


def _caller_key(call: RoutedCall, key: str, now: datetime) -> RoutedCall:
    if call.phase is CallPhase.VOICEMAIL:
        # What follows the recording: by then the caller has spoken, or was silent until the provider gave up.
        return replace(call, has_spoken=True)
    if call.phase is not CallPhase.MENU:
        return call
    entry = next((entry for entry in call.settings.menu if entry.key == key), None)
    if entry is not None:
        return _go_to(call, entry.target, Cause.CHOSEN, now)
    if call.menu_tries + 1 < MAX_MENU_TRIES:
        return replace(call, menu_tries=call.menu_tries + 1, deadline=now + MAX_MENU)
    return _go_to(call, call.settings.target, Cause.NO_CHOICE, now)


def _caller_hung_up(call: RoutedCall, now: datetime) -> RoutedCall:
    if call.is_caller_gone:
        return call
    call = replace(call, is_caller_gone=True)
    match call.phase:
        case CallPhase.ENDED:
            return call
        case CallPhase.TALKING:
            return _end(call, CallOutcome.ANSWERED, None, now)
        case CallPhase.VOICEMAIL:
            # The recording comes a moment later.
            return replace(call, deadline=min(call.deadline, now + RECORDING_DELAY))
        case _:
            return _end(call, CallOutcome.MISSED, Cause.CALLER_HUNG_UP, now)


def _recorded(call: RoutedCall, event: RecordingDone, now: datetime) -> RoutedCall:
    if call.recording is not None or call.phase not in (CallPhase.TALKING, CallPhase.VOICEMAIL, CallPhase.ENDED):
        return call
    if event.seconds < MIN_VOICEMAIL_SECONDS or not event.url:
        return _end(call, CallOutcome.MISSED, call.cause, now) if call.phase is CallPhase.VOICEMAIL else call
    call = replace(call, recording=CallRecording(event.url, event.seconds))
    return _end(call, CallOutcome.VOICEMAIL, call.cause, now) if call.phase is CallPhase.VOICEMAIL else call


# ---------- rings


def _on_ring(call: RoutedCall, event: RingRequested | RingAnswered | RingKey | RingEnded, now: datetime) -> RoutedCall:
    ring = next((ring for ring in call.rings if ring.number == event.number), None)
    if ring is None:
        return call
    match event:
        case RingRequested():
            return _with(call, replace(ring, is_requested=True, external_id=ring.external_id or event.external_id))
        case RingAnswered():
            return _ring_answered(call, ring, event, now)
        case RingKey():
            return _ring_key(call, ring, event, now)
        case RingEnded():
            return _ring_ended(call, replace(ring, is_requested=True, is_over=True), event, now)


def _with(call: RoutedCall, ring: CallRing) -> RoutedCall:
    return replace(call, rings=tuple(ring if ring.number == one.number else one for one in call.rings))


def _ring_answered(call: RoutedCall, ring: CallRing, event: RingAnswered, now: datetime) -> RoutedCall:
    ring = replace(ring, is_requested=True, external_id=ring.external_id or event.external_id)
    ring = replace(ring, answered_at=ring.answered_at or now)
    if event.is_machine and ring.is_live:
        return _settle(_with(call, _stop(ring, LegStatus.MACHINE, now)), now)
    if ring.status is LegStatus.RINGING:
        ring = replace(ring, status=LegStatus.ASKED, deadline=now + MAX_QUESTION, asked=1)
    return _with(call, ring)


def _ring_key(call: RoutedCall, ring: CallRing, event: RingKey, now: datetime) -> RoutedCall:
    if ring.status is not LegStatus.ASKED or event.document != document_of_ring(ring):
        return call
    if event.key == ACCEPT_KEY:
        return _accept(call, ring, now)
    if event.key == DECLINE_KEY:
        return _settle(_with(call, _stop(ring, LegStatus.DECLINED, now)), now)
    if ring.asked < MAX_ASKS:
        return _with(call, replace(ring, asked=ring.asked + 1, deadline=now + MAX_QUESTION))
    # A mailbox presses nothing, or noise.
    return _settle(_with(call, _stop(ring, LegStatus.NO_ANSWER, now)), now)


def _accept(call: RoutedCall, winner: CallRing, now: datetime) -> RoutedCall:
    rings = []
    for ring in call.rings:
        if ring.number == winner.number:
            rings.append(_stop(ring, LegStatus.ACCEPTED, now))
        elif ring.is_live:
            rings.append(_stop(ring, LegStatus.LATE if ring.answered_at else LegStatus.CANCELLED, now))
        else:
            rings.append(ring)
    return replace(
        call, phase=CallPhase.TALKING, rings=tuple(rings), queue=(), winner=winner.number, answered_at=now,
        outcome=CallOutcome.ANSWERED, deadline=now + MAX_TALK,
    )  # fmt: skip


def _ring_ended(call: RoutedCall, ring: CallRing, event: RingEnded, now: datetime) -> RoutedCall:
    if ring.is_live:
        # Who hangs up while asked has declined.
        status = LegStatus.DECLINED if ring.answered_at else event.status
        return _settle(_with(call, _stop(ring, status, now, event.reason)), now)
    call = _with(call, ring)
    if ring.number == call.winner and call.phase is CallPhase.TALKING:
        return _end(call, CallOutcome.ANSWERED, None, now)
    return call


def _settle(call: RoutedCall, now: datetime) -> RoutedCall:
    """Rings the next people once nobody is rung any more."""
    if call.phase is CallPhase.RINGING and not any(ring.is_live for ring in call.rings):
        return _ring_next(call, now)
    return call


# ---------- time


def _tick(call: RoutedCall, now: datetime) -> RoutedCall:
    if call.phase is CallPhase.RINGING:
        for ring in call.rings:
            if ring.is_live and ring.deadline <= now:
                call = _with(call, _stop(ring, LegStatus.NO_ANSWER, now, NOT_REPORTED()))
        return _settle(call, now)
    if call.deadline > now:
        return call
    match call.phase:
        case CallPhase.MENU:
            return _caller_key(call, "", now)
        case CallPhase.PLANNING:
            return _to_voicemail(call, Cause.NOBODY_ON_CALL, now)
        case CallPhase.TALKING:
            return _end(call, CallOutcome.ANSWERED, None, now)
        case CallPhase.VOICEMAIL:
            cause = call.cause if call.is_caller_gone else Cause.PROVIDER_SILENT
            return _end(call, CallOutcome.MISSED, cause, now)
        case _:
            return call


def due_at(call: RoutedCall) -> datetime | None:
    """Returns when the call needs a `Tick`; None if it has ended."""
    if call.phase is CallPhase.ENDED:
        return None
    if call.phase is CallPhase.RINGING:
        return min((ring.deadline for ring in call.rings if ring.is_live), default=call.deadline)
    return call.deadline


# ---------- what a provider has to do


@dataclass(frozen=True, slots=True)
class Plan:
    """The shell says whom to ring, in the same transaction."""

    target: RouteTarget


@dataclass(frozen=True, slots=True)
class Ring:
    ring: CallRing


@dataclass(frozen=True, slots=True)
class MoveCaller:
    """The caller hears what is now `caller_steps`."""


@dataclass(frozen=True, slots=True)
class MoveRing:
    """A person who picked up hears what is now `leg_steps`."""

    ring: CallRing


@dataclass(frozen=True, slots=True)
class EndRing:
    ring: CallRing


@dataclass(frozen=True, slots=True)
class FetchRecording:
    recording: CallRecording


type CallCommand = Plan | Ring | MoveCaller | MoveRing | EndRing | FetchRecording


def pending(call: RoutedCall) -> Iterator[CallCommand]:
    """Yields what has still to be done for the call. Each is harmless if it is done twice."""
    if call.phase is CallPhase.PLANNING and call.target is not None:
        yield Plan(call.target)
    if not call.is_caller_gone and call.document != document_of(call):
        yield MoveCaller()
    for ring in call.rings:
        if ring.is_over:
            continue
        if ring.status is LegStatus.RINGING:
            if not ring.is_requested:
                yield Ring(ring)
        elif not ring.external_id:
            continue
        elif ring.answered_at is not None and ring.status in (LegStatus.LATE, LegStatus.CANCELLED):
            if ring.document != document_of_ring(ring):
                yield MoveRing(ring)
        elif ring.status in (LegStatus.CANCELLED, LegStatus.NO_ANSWER, LegStatus.MACHINE) or (
            ring.status is LegStatus.ACCEPTED and call.phase is CallPhase.ENDED
        ):
            yield EndRing(ring)
    if call.recording is not None and not call.recording.is_done:
        yield FetchRecording(call.recording)


def document_of(call: RoutedCall) -> str:
    """Names what the caller should hear now. The caller waits and talks in the same conference."""
    match call.phase:
        case CallPhase.MENU:
            return f"menu {call.menu_tries}"
        case CallPhase.PLANNING | CallPhase.RINGING | CallPhase.TALKING:
            return "conference"
        case CallPhase.VOICEMAIL:
            return "thanks" if call.has_spoken else "voicemail"
        case CallPhase.ENDED:
            return "thanks" if call.has_spoken else "end"
        case _:
            assert_never(call.phase)


def document_of_ring(ring: CallRing) -> str:
    """Names what a person who picked up should hear now."""
    return f"{ring.status} {ring.asked}" if ring.status is LegStatus.ASKED else str(ring.status)


def _shown(call: RoutedCall, number: int | None) -> RoutedCall:
    if number is None:
        return replace(call, document=document_of(call))
    ring = next((ring for ring in call.rings if ring.number == number), None)
    return call if ring is None else _with(call, replace(ring, document=document_of_ring(ring)))
