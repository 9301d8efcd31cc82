"""What shaping knows beside a key: the opening that waits, the alert it joined, and what is counted. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct, field

from tocsin.alerts.states import Priority
from tocsin.inbound.enums import MessageStatus

if TYPE_CHECKING:
    from tocsin.inbound.deciding.state import LiveAlert


class Wait(StrEnum):
    """For what an opening waits."""

    WAIT = "wait"
    COUNT = "count"
    EVERY = "every"
    HOURS = "hours"
    MAINTENANCE = "maintenance"
    FLAPPING = "flapping"


class Delayed(Struct, frozen=True):
    """An alert that would be open, and waits. It opens at `due_at`; None: when others come."""

    wait: Wait
    since: datetime
    due_at: datetime | None
    #: The rest of "it opens …", or "it waits for …": a sentence without its end.
    why: str
    #: When its open messages came; the newest, where they are many.
    opens: tuple[datetime, ...] = ()
    #: All of its messages, updates too.
    messages: int = 1
    priority: Priority | None = None
    #: The tally with whose others it waits.
    scope: bytes | None = None
    #: Enough of them came: it opens when it is due. Otherwise, where it waits to be enough, it is over then.
    is_released: bool = False
    window_id: int | None = None
    subject: str = ""
    source_id: str = ""


class Role(StrEnum):
    """What a key is to the alert that it shares with others."""

    FIRST = "first"  # the alert says what this one says
    MEMBER = "member"
    CHILD = "child"  # of the alert's own key: its end never closes the alert


class Tally(Struct, frozen=True):
    """What is counted for a scope: the alert that is joined, until when, tokens that are left, and recent openings."""

    alert_id: int | None = None
    until: datetime | None = None
    tokens: float | None = None
    at: datetime | None = None
    times: tuple[datetime, ...] = ()
    #: How many other keys wait in it.
    waiting: int = 0


NOTHING = Tally()


class Settled(Struct, frozen=True):
    """What becomes of the messages that waited before this one."""

    status: MessageStatus
    reason: str
    alert_id: int | None = None


class Join(Struct, frozen=True):
    """A key whose messages count on an alert from now on; `role` None: no more."""

    alert_id: int
    role: Role | None
    subject: str = ""
    source_id: str = ""


class Shaped(Struct, frozen=True):
    """What a decision changes beside its key."""

    tallies: Mapping[bytes, Tally] = field(default_factory=dict)
    settled: Settled | None = None
    join: Join | None = None
    #: Shared alerts after it, by id.
    lives: Mapping[int, LiveAlert] = field(default_factory=dict)
    #: Scopes whose waiting openings are due now.
    released: tuple[bytes, ...] = ()


class Standing(Struct, frozen=True):
    """What a decision may ask beside its key. `lives` has the alerts of tallies that are live,
    and those that one which is to be joined is merged into."""

    tallies: Mapping[bytes, Tally] = field(default_factory=dict)
    lives: Mapping[int, LiveAlert] = field(default_factory=dict)
    #: The live alert that the message names as its parent.
    parent: LiveAlert | None = None

    def tally(self, scope: bytes | None) -> Tally:
        return self.tallies.get(scope, NOTHING) if scope is not None else NOTHING

    def live(self, tally: Tally) -> LiveAlert | None:
        """The tally's alert, if it is live."""
        return self.lives.get(tally.alert_id) if tally.alert_id is not None else None


ALONE = Standing()


class Scopes(Struct, frozen=True):
    """The hashes that a message which may open locks beside its key; None: not counted."""

    group: bytes | None = None
    limit: bytes | None = None
    flapping: bytes | None = None
    #: For delays per alert, and for those of the whole integration.
    alert: bytes | None = None
    integration: bytes | None = None
    #: The dedup key of its parent.
    parent: bytes | None = None

    @property
    def tallies(self) -> tuple[bytes, ...]:
        found = (self.group, self.limit, self.flapping, self.alert, self.integration)
        return tuple(one for one in found if one is not None)

    @property
    def all(self) -> tuple[bytes, ...]:
        return self.tallies if self.parent is None else (*self.tallies, self.parent)


#: Of a message that counts on nothing.
UNCOUNTED = Scopes()
