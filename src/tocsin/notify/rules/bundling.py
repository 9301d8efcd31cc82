"""Which deliveries leave now, alone or together, and which wait a moment to leave together. Pure.

The first message to a person at an address leaves at once. What follows within ten seconds waits until ten seconds
after it, and then leaves as one message: never later than ten seconds after it was due. Where a channel is short, that
message names the first and counts the rest, however many they are; so does what waited because a person wants no more
messages an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.notify.rules.pre_send_check import BUNDLED_LATER, CAPPED, DueDelivery
from tocsin.notify.states import Purpose

WINDOW = timedelta(seconds=10)

BUNDLED = frozenset({Purpose.PAGE, Purpose.ALL_CLEAR})

#: So many at most are one message.
MAX_BUNDLE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class BundleLimit:
    """How many alerts one message of a channel names, and for how many it may stand: those that it does not name, it
    counts."""

    named: int
    together: int


@dataclass(frozen=True, slots=True, order=True)
class BundleKey:
    """Whom and where: what has the same key can leave as one message."""

    recipient: int
    channel: str
    address: str
    purpose: str


@dataclass(frozen=True, slots=True)
class DeliveryBundle:
    """One message: usually about one alert."""

    members: tuple[DueDelivery, ...]
    #: Whether it is a first message: another node may have sent one in this very moment, which the database tells.
    is_first: bool = False
    #: How many of them the message names; the others it counts. 0: all.
    named: int = 0

    @property
    def lead(self) -> DueDelivery:
        return self.members[0]


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """What leaves, and what waits until when. Deliveries in neither wait for the next turn."""

    bundles: tuple[DeliveryBundle, ...]
    waiting: tuple[tuple[DueDelivery, datetime], ...]


def key(due: DueDelivery) -> BundleKey | None:
    """What `due` can be bundled by; None for what always leaves alone."""
    # Of notices those that say under which heading they may stand together.
    is_bundled = due.purpose in BUNDLED or (due.purpose is Purpose.NOTICE and bool(due.data.get("heading")))
    if not is_bundled or due.alert is None or due.problem:
        return None
    return BundleKey(due.user_id or 0, due.channel, due.address, due.purpose)


def has_waited(due: DueDelivery) -> bool:
    """Whether it has waited for others already, or was tried before: it does not wait for others again."""
    return due.waited in (BUNDLED_LATER, CAPPED) or due.provider_name != ""


def most_together(due: DueDelivery, room: Callable[[str], BundleLimit]) -> int:
    """How many deliveries may leave together with `due`."""
    return MAX_BUNDLE_SIZE if due.waited == CAPPED else room(due.channel).together


def arrange(ready: Iterable[DueDelivery], now: datetime, room: Callable[[str], BundleLimit]) -> BundlePlan:
    """Sorts what may be sent into messages. `room` says what fits into one message of a channel."""
    alone: list[DeliveryBundle] = []
    groups: dict[BundleKey, list[DueDelivery]] = {}
    for due in ready:
        found = key(due)
        if found is None:
            alone.append(DeliveryBundle((due,)))
        else:
            groups.setdefault(found, []).append(due)
    bundles, waiting = alone, list[tuple[DueDelivery, datetime]]()
    for group in groups.values():
        group.sort(key=lambda due: (due.due_at, due.id))
        left_at = max((due.left_at for due in group if due.left_at is not None), default=None)
        if any(has_waited(due) for due in group):
            most = room(group[0].channel).named
            members = tuple(group[: max(most_together(due, room) for due in group)])
            bundles.append(DeliveryBundle(members, named=most if len(members) > most else 0))
        elif left_at is None or left_at + WINDOW <= now:
            first, *others = group
            bundles.append(DeliveryBundle((first,), is_first=True))
            waiting += [(due, now + WINDOW) for due in others]
        else:
            # By a clock that was ahead it left later than now.
            waiting += [(due, min(left_at, now) + WINDOW) for due in group]
    return BundlePlan(tuple(bundles), tuple(waiting))
