"""What a call route says, as the router takes it, and the states of a call. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tocsin.alerts.states import Priority
from tocsin.core.reasons import translatable


class OutsideHours(StrEnum):
    """What a caller gets outside the support hours."""

    SAME = "same"
    VOICEMAIL = "voicemail"
    SENTENCE = "sentence"


class RingOrder(StrEnum):
    """Whether people are rung one after another, or all at once."""

    IN_ORDER = "in_order"
    ALL_AT_ONCE = "all_at_once"


class CallerId(StrEnum):
    """Whose number the person who is rung sees. The service's number can be let through Do Not Disturb."""

    SERVICE = "service"
    CALLER = "caller"


class AnsweredAlert(StrEnum):
    """What becomes of a call that someone accepted."""

    OPEN = "open"
    CLOSED = "closed"
    NONE = "none"


class MenuAction(StrEnum):
    """What a key of the menu chooses."""

    GROUP = translatable("group")
    POLICY = translatable("policy")
    CLIENT = translatable("client")
    VOICEMAIL = translatable("voicemail")
    SENTENCE = translatable("sentence")


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """One key of the menu."""

    #: "1" to "9".
    key: str
    action: MenuAction
    #: What the caller hears after "for"; "" if the menu's own name is used.
    label: str = ""
    #: The id of a group or policy.
    target: int | None = None
    #: The name of a client, or a sentence.
    text: str = ""


class TargetKind(StrEnum):
    """Where a call goes: to people, to voicemail, or to a sentence that ends it."""

    POLICY = "policy"
    SCHEDULE = "schedule"
    GROUP = "group"
    CLIENT = "client"
    VOICEMAIL = "voicemail"
    SENTENCE = "sentence"


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """Whom a call reaches, or what the caller hears."""

    kind: TargetKind
    #: Of a policy, a schedule or a group.
    id: int | None = None
    #: The name of a client, or a sentence.
    text: str = ""


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """What a call needs of its route. A call keeps its own: a route that is changed or deleted meanwhile ends none."""

    name: str
    language: str = "en"
    greeting: str = ""
    menu: tuple[MenuEntry, ...] = ()
    outside_hours: OutsideHours = OutsideHours.VOICEMAIL
    outside_sentence: str = ""
    ring_order: RingOrder = RingOrder.IN_ORDER
    rounds: int = 1
    ring_seconds: int = 25
    #: Whether a number that was rung in this call is not rung again.
    skip_rung: bool = False
    caller_id: CallerId = CallerId.SERVICE
    blocked: frozenset[str] = frozenset()
    has_voicemail: bool = True
    voicemail_greeting: str = ""
    is_recorded: bool = False
    is_transcribed: bool = False
    alert_when_answered: AnsweredAlert = AnsweredAlert.OPEN
    priority: Priority = Priority.HIGH
    is_enabled: bool = True
    numbers: tuple[str, ...] = ()
    #: Whom it rings without a menu; None if only the menu decides.
    target: RouteTarget | None = None
    #: Whose people on call a policy's roles are, and whose members see the call.
    group_id: int | None = None
    support_hours_id: int | None = None
    raises_again_at_hours: bool = False
    alert_policy_id: int | None = None
    ticket_integration_id: int | None = None
    recording_days: int = 90


# ---------- a call


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
    #: Tocsin did not answer the provider, whose own document took the call.
    UNREACHABLE = "unreachable"
    BLOCKED = "blocked"
    #: A phone that Tocsin rang forwards its calls to the hotline.
    LOOP = "loop"


LIVE = frozenset({LegStatus.RINGING, LegStatus.ASKED})
