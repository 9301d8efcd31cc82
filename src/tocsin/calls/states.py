"""What a call route says, as the router takes it, and the states of a call. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """What the router knows of a call route. Whom it rings is a plan of its own."""

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
    numbers: tuple[str, ...] = field(default=())
