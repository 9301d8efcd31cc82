"""Routes a phone call of a hotline to a person, a voicemail or a truthful sentence, never into silence. Pure.

`begin` takes a new call, `advance` a call and what happened to it. What a provider has still to do for it follows
from the call alone (`pending`), and so do the documents that the parties hear (`caller_steps`, `ring_steps`): a
repeated callback gets the same answer, and a process that takes a call over after a crash does what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from tocsin.calls.states import (
    LIVE,
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
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, reason_as_json
from tocsin.notify.interfaces import CallStep, Gather, HangUp, Join, Park, Record, Say
from tocsin.notify.text.formatting import spoken_phrase, voice_of

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
    #: Why it ended so, as `reason_as_json` writes it.
    reason: Mapping[str, Any] = msgspec.field(default_factory=dict)
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
    #: At the provider.
    id: str = ""
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
    client: str
    #: What the provider needs to show the caller's number to those who are rung.
    caller_token: str
    is_test: bool
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
    client: str = ""
    caller_token: str = ""
    is_test: bool = False
    is_within_hours: bool = True
    #: Whether the provider's own document took it, while Tocsin did not answer.
    is_unreachable: bool = False
    #: Whether it comes from a phone that Tocsin itself rang: it would ring the same people again without end.
    is_loop: bool = False


class Planned(msgspec.Struct, frozen=True):
    """Whom to ring, answering `Plan`; for a client also whose people these are."""

    batches: tuple[Batch, ...]
    target: RouteTarget | None = None


class CallerKey(msgspec.Struct, frozen=True):
    """The caller pressed a key of the menu, or none in time. `document` is the one that has just ended: a repeat of an
    earlier request names an earlier one. Empty if the provider does not say."""

    document: str
    key: str = ""


class CallerBack(msgspec.Struct, frozen=True):
    """The caller is back from the conference or the recording. `document` as in `CallerKey`."""

    document: str


class CallerKnown(msgspec.Struct, frozen=True):
    """Who calls, as the service desk knows."""

    name: str
    client: str = ""


class CallerHungUp(msgspec.Struct, frozen=True):
    pass


class CallerLeft(msgspec.Struct, frozen=True):
    """The caller has left the conference: hung up, unless they were moved out of it."""


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
    """The provider has a recording, or none worth having: then `seconds` is 0."""

    url: str
    seconds: int
    id: str = ""


class RecordingStored(msgspec.Struct, frozen=True):
    """The shell has the recording, or knows that it cannot have it."""


class Transcribed(msgspec.Struct, frozen=True):
    text: str


class Shown(msgspec.Struct, frozen=True):
    """The provider has this document of the caller (None) or of a ring."""

    document: str
    number: int | None = None


class Tick(msgspec.Struct, frozen=True):
    """Time has passed, or a process takes the call over."""


type CallEvent = (
    Planned
    | CallerKey
    | CallerBack
    | CallerKnown
    | CallerHungUp
    | CallerLeft
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
            client = call.target.text if call.target and call.target.kind is TargetKind.CLIENT else call.client
            queue = _queue(call.settings, event.batches)
            return _ring_next(replace(call, queue=queue, target=event.target or call.target, client=client), now)
        case CallerKey():
            return _caller_key(call, event.key, now) if event.document in ("", document_of(call)) else call
        case CallerBack():
            return _caller_back(call, now) if event.document in ("", document_of(call)) else call
        case CallerKnown():
            return replace(call, caller_name=call.caller_name or event.name, client=call.client or event.client)
        case CallerHungUp():
            return _caller_hung_up(call, now)
        case CallerLeft():
            return _caller_hung_up(call, now) if document_of(call) == CONFERENCE else call
        case RingRequested() | RingAnswered() | RingKey() | RingEnded():
            return _on_ring(call, event, now)
        case RecordingDone():
            return _recorded(call, event, now)
        case RecordingStored():
            return replace(call, recording=replace(call.recording, is_done=True)) if call.recording else call
        case Transcribed():
            return replace(call, transcription=call.transcription or event.text[:MAX_TRANSCRIPTION_CHARS])
        case Shown():
            return _shown(call, event)
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
        event.client,
        event.caller_token,
        event.is_test,
        CallPhase.MENU,
        now,
        now + MAX_MENU,
        target=settings.target,
    )
    if event.caller and event.caller in settings.blocked:
        return _end(call, CallOutcome.BLOCKED, Cause.BLOCKED, now)
    if event.is_unreachable:
        return _to_voicemail(call, Cause.UNREACHABLE, now)
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
    return replace(ring, status=status, ended_at=now, reason=reason_as_json(reason))


def _caller_key(call: RoutedCall, key: str, now: datetime) -> RoutedCall:
    if call.phase is not CallPhase.MENU:
        return call
    entry = next((entry for entry in call.settings.menu if entry.key == key), None)
    if entry is not None:
        target = RouteTarget(TargetKind(entry.action), entry.target, entry.text)
        return _go_to(call, target, Cause.CHOSEN, now)
    if call.menu_tries + 1 < MAX_MENU_TRIES:
        return replace(call, menu_tries=call.menu_tries + 1, deadline=now + MAX_MENU)
    return _go_to(call, call.settings.target, Cause.NO_CHOICE, now)


def _caller_back(call: RoutedCall, now: datetime) -> RoutedCall:
    match call.phase:
        case CallPhase.VOICEMAIL:
            # The caller has spoken, or was silent until the provider gave up.
            return replace(call, has_spoken=True)
        case CallPhase.TALKING:
            # The person has left the conference.
            return _end(call, CallOutcome.ANSWERED, None, now)
        case _:
            return call


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
    call = replace(call, recording=CallRecording(event.url, event.seconds, event.id))
    return _end(call, CallOutcome.VOICEMAIL, call.cause, now) if call.phase is CallPhase.VOICEMAIL else call


# ---------- rings


def _on_ring(call: RoutedCall, event: RingRequested | RingAnswered | RingKey | RingEnded, now: datetime) -> RoutedCall:
    ring = next((ring for ring in call.rings if ring.number == event.number), None)
    if ring is None:
        return call
    match event:
        case RingRequested():
            return _with(call, _requested(call, ring, event.external_id, now))
        case RingAnswered():
            return _ring_answered(call, ring, event, now)
        case RingKey():
            return _ring_key(call, ring, event, now)
        case RingEnded():
            return _ring_ended(call, replace(ring, is_requested=True, is_over=True), event, now)


def _requested(call: RoutedCall, ring: CallRing, external_id: str, now: datetime) -> CallRing:
    """The ring after the order. Without the provider's id it is unknown whether the phone rings, and a report must say
    so soon."""
    deadline = ring.deadline
    if not external_id and not ring.external_id:
        deadline = min(deadline, now + GRACE)
    elif ring.status is LegStatus.RINGING and not ring.external_id:
        deadline = now + timedelta(seconds=call.settings.ring_seconds) + GRACE
    return replace(ring, is_requested=True, external_id=ring.external_id or external_id, deadline=deadline)


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
    if ring.status is not LegStatus.ASKED or event.document not in ("", document_of_ring(ring)):
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
                status = LegStatus.NO_ANSWER if ring.external_id else LegStatus.FAILED
                call = _with(call, _stop(ring, status, now, NOT_REPORTED()))
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


#: The document in which the caller waits and talks.
CONFERENCE = "conference"


def document_of(call: RoutedCall) -> str:
    """Names what the caller should hear now. The caller waits and talks in the same conference."""
    match call.phase:
        case CallPhase.MENU:
            return f"menu {call.menu_tries}"
        case CallPhase.PLANNING | CallPhase.RINGING | CallPhase.TALKING:
            return CONFERENCE
        case CallPhase.VOICEMAIL:
            return "thanks" if call.has_spoken else "voicemail"
        case CallPhase.ENDED:
            return "thanks" if call.has_spoken else "end"
        case _:
            assert_never(call.phase)


def document_of_ring(ring: CallRing) -> str:
    """Names what a person who picked up should hear now."""
    return f"{ring.status} {ring.asked}" if ring.status is LegStatus.ASKED else str(ring.status)


def _shown(call: RoutedCall, event: Shown) -> RoutedCall:
    if event.number is None:
        return replace(call, document=event.document)
    ring = next((ring for ring in call.rings if ring.number == event.number), None)
    return call if ring is None else _with(call, replace(ring, document=event.document))


# ---------- what the parties hear


def caller_steps(call: RoutedCall, *, is_first: bool = False) -> tuple[CallStep, ...]:
    """Returns what the caller hears now: at first, after the greeting."""
    language, name = call.settings.language, document_of(call)
    greeting = _say(language, *_greeting(call)) if is_first else ()
    match call.phase:
        case CallPhase.MENU:
            keys = [_offer(entry, language) for entry in call.settings.menu]
            return (Gather((*greeting, *_say(language, *keys)), name=name),)
        case CallPhase.PLANNING | CallPhase.RINGING | CallPhase.TALKING:
            waiting = spoken_phrase("phone call", "We are calling the people on duty. Please hold the line.", language)
            park = Park(conference_of(call), Say(waiting, voice_of(language)), call.settings.is_recorded, name)
            return (*greeting, park)
        case CallPhase.VOICEMAIL if not call.has_spoken:
            intro = _say(language, call.settings.voicemail_greeting or _voicemail_greeting(call))
            seconds = int(MAX_VOICEMAIL.total_seconds())
            return (*greeting, *intro, Record(seconds, call.settings.is_transcribed, name))
        case _:
            return (*_say(language, _last_words(call)), HangUp())


def ring_steps(call: RoutedCall, ring: CallRing) -> tuple[CallStep, ...]:
    """Returns what a person who picked up hears now."""
    language = call.settings.language
    match ring.status:
        case LegStatus.ASKED:
            question = spoken_phrase(
                "phone call",
                "Tocsin. {route}: call from {caller}. Press 1 to take it, 2 to decline.",
                language,
                route=call.settings.name,
                caller=_spoken_caller(call, language),
            )
            return (Gather(_say(language, question), name=document_of_ring(ring)),)
        case LegStatus.ACCEPTED if call.phase is CallPhase.TALKING:
            return (Join(conference_of(call), document_of_ring(ring)),)
        case LegStatus.LATE if call.accepted is not None:
            words = spoken_phrase(
                "phone call", "{name} has taken the call. Goodbye.", language, name=call.accepted.callee.name
            )
        case LegStatus.CANCELLED | LegStatus.ACCEPTED:
            words = spoken_phrase("phone call", "The caller has hung up. Goodbye.", language)
        case _:
            words = spoken_phrase("phone call", "Goodbye.", language)
    return (*_say(language, words), HangUp())


def conference_of(call: RoutedCall) -> str:
    """Returns the name of the conference in which the caller waits."""
    return f"tocsin-{call.external_id}"


def _say(language: str, *texts: str) -> tuple[Say, ...]:
    return tuple(Say(text, voice_of(language)) for text in texts if text)


def _offer(entry: MenuEntry, language: str) -> str:
    if name := entry.label or (entry.text if entry.action is MenuAction.CLIENT else ""):
        return spoken_phrase("phone call", "For {name}, press {key}.", language, name=name, key=entry.key)
    if entry.action is MenuAction.VOICEMAIL:
        return spoken_phrase("phone call", "To leave a message, press {key}.", language, key=entry.key)
    return spoken_phrase("phone call", "Press {key}.", language, key=entry.key)


def _greeting(call: RoutedCall) -> Iterator[str]:
    language = call.settings.language
    yield call.settings.greeting or spoken_phrase("phone call", "{name}.", language, name=call.settings.name)
    if call.settings.is_recorded:
        yield spoken_phrase("phone call", "This call is recorded.", language)


def _spoken_caller(call: RoutedCall, language: str) -> str:
    # Digit by digit: a voice would read a sum of billions.
    number = " ".join(call.caller)
    known = ", ".join(part for part in (call.caller_name, call.client) if part)
    return known or number or spoken_phrase("phone call", "a withheld number", language)


def _voicemail_greeting(call: RoutedCall) -> str:
    language = call.settings.language
    leave = spoken_phrase(
        "phone call", "Please leave a message after the tone, and press the hash key when you are done.", language
    )
    match call.cause:
        case Cause.OUTSIDE_HOURS:
            why = spoken_phrase("phone call", "We are closed at the moment.", language)
        case Cause.CHOSEN:
            why = ""
        case Cause.NOBODY_ON_CALL:
            why = spoken_phrase("phone call", "No one is on call at the moment.", language)
        case _:
            why = spoken_phrase("phone call", "We could not reach anyone.", language)
    return f"{why} {leave}".strip()


def _last_words(call: RoutedCall) -> str:
    language = call.settings.language
    goodbye = spoken_phrase("phone call", "Goodbye.", language)
    match call.outcome:
        case CallOutcome.INFORMED if call.target is not None and call.target.text:
            return call.target.text
        case CallOutcome.BLOCKED:
            words = spoken_phrase("phone call", "This number does not take your call.", language)
        case CallOutcome.ANSWERED:
            words = spoken_phrase("phone call", "The call has ended.", language)
        case CallOutcome.VOICEMAIL:
            words = spoken_phrase("phone call", "Thank you. Your message is passed on.", language)
        case _ if call.has_spoken:
            words = spoken_phrase("phone call", "Thank you.", language)
        case CallOutcome.INFORMED:
            words = spoken_phrase("phone call", "No one is available at the moment.", language)
        case _ if call.cause is Cause.NOBODY_ON_CALL:
            words = spoken_phrase("phone call", "No one is on call at the moment. Your call is noted.", language)
        case _:
            words = spoken_phrase("phone call", "We could not reach anyone. Your call is noted.", language)
    return f"{words} {goodbye}"
