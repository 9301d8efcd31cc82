"""Which deliveries leave now, alone or together, and which wait a moment to leave together. Pure.

The first message to a person at an address leaves at once. What follows within ten seconds waits until ten seconds
after it, and then leaves as one message: never later than ten seconds after it was due. What waited because a person
wants no more messages an hour leaves as one too, however much it is: it names the first, and counts the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.notify.due import BUNDLED_LATER, CAPPED, Due
from tocsin.notify.states import Purpose

WINDOW = timedelta(seconds=10)

BUNDLED = frozenset({Purpose.PAGE, Purpose.ALL_CLEAR})

#: So many that waited for a person's hour are taken together.
MOST_CAPPED = 1000


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Whom and where: what has the same key can leave as one message."""

    recipient: int
    channel: str
    address: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """One message: usually about one alert."""

    members: tuple[Due, ...]
    #: Whether it is a first message: another node may have sent one in this very moment, which the database tells.
    is_first: bool = False
    #: How many of them the message names; the others it counts. 0: all.
    named: int = 0

    @property
    def lead(self) -> Due:
        return self.members[0]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What leaves, and what waits until when. Deliveries in neither wait for the next turn."""

    bundles: tuple[Bundle, ...]
    waiting: tuple[tuple[Due, datetime], ...]


def key(due: Due) -> Key | None:
    """What `due` can be bundled by; None for what always leaves alone."""
    # Of notices those that say under which heading they may stand together.
    is_bundled = due.purpose in BUNDLED or (due.purpose is Purpose.NOTICE and bool(due.data.get("heading")))
    if not is_bundled or due.alert is None or due.problem:
        return None
    return Key(due.user_id or 0, due.channel, due.address, due.purpose)


def has_waited(due: Due) -> bool:
    """Whether it has waited for others already, or was tried before: it does not wait for others again."""
    return due.waited in (BUNDLED_LATER, CAPPED) or due.provider_name != ""


def limit_of(due: Due, limit: Callable[[str], int]) -> int:
    """How many deliveries may leave together with `due`."""
    return MOST_CAPPED if due.waited == CAPPED else limit(due.channel)


def arrange(ready: Iterable[Due], now: datetime, limit: Callable[[str], int]) -> Arrangement:
    """Sorts what may be sent into messages. `limit` says how many alerts a channel names in one message."""
    alone: list[Bundle] = []
    groups: dict[Key, list[Due]] = {}
    for due in ready:
        found = key(due)
        if found is None:
            alone.append(Bundle((due,)))
        else:
            groups.setdefault(found, []).append(due)
    bundles, waiting = alone, list[tuple[Due, datetime]]()
    for group in groups.values():
        group.sort(key=lambda due: (due.due_at, due.id))
        left_at = max((due.left_at for due in group if due.left_at is not None), default=None)
        if any(has_waited(due) for due in group):
            most = limit(group[0].channel)
            together = max(limit_of(due, limit) for due in group)
            bundles.append(Bundle(tuple(group[:together]), named=most if together > most else 0))
        elif left_at is None or left_at + WINDOW <= now:
            first, *others = group
            bundles.append(Bundle((first,), is_first=True))
            waiting += [(due, now + WINDOW) for due in others]
        else:
            waiting += [(due, left_at + WINDOW) for due in group]
    return Arrangement(tuple(bundles), tuple(waiting))
