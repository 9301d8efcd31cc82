"""Decides which deliveries are sent now, alone or bundled, and which wait to be bundled. Pure.

The first message to a recipient's address is sent at once. Messages that follow within ten seconds wait until ten
seconds after it and are then sent as one: never more than ten seconds late. On a channel with short messages, the
bundle names the first alerts and counts the rest, whatever their number. The same applies to messages that waited for
the user's hourly limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.notify.rules.delivery_reasons import BUNDLED_LATER, HOURLY_LIMIT_REACHED
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.states import Purpose

WINDOW = timedelta(seconds=10)

BUNDLED = frozenset({Purpose.PAGE, Purpose.ALL_CLEAR})

#: The maximum number of deliveries in one message.
MAX_BUNDLE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class BundleLimit:
    """The number of alerts that one message of a channel names, and the number it may cover. Alerts that it does not
    name are counted.
    """

    max_named: int
    max_deliveries: int


@dataclass(frozen=True, slots=True, order=True)
class BundleKey:
    """The recipient and address. Deliveries with the same key can be bundled."""

    recipient: int
    channel: str
    address: str
    purpose: str


@dataclass(frozen=True, slots=True)
class DeliveryBundle:
    """One message, usually about one alert."""

    members: tuple[DueDelivery, ...]
    #: Whether it is a first message. Another node may have sent one at the same moment; the database decides.
    is_first: bool = False
    #: The number of alerts that the message names; the others are counted. 0 means all.
    named_count: int = 0

    @property
    def lead(self) -> DueDelivery:
        return self.members[0]


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """What is sent now, and what waits until when. Deliveries in neither wait for the next run."""

    bundles: tuple[DeliveryBundle, ...]
    waiting: tuple[tuple[DueDelivery, datetime], ...]


def key(due: DueDelivery) -> BundleKey | None:
    """Returns the key that `due` is bundled by; None if it is always sent alone."""
    # Notices are bundled only if they have a heading.
    is_bundled = due.purpose in BUNDLED or (due.purpose is Purpose.NOTICE and bool(due.data.get("heading")))
    if not is_bundled or due.alert is None or due.problem:
        return None
    return BundleKey(due.user_id or 0, due.channel, due.address, due.purpose)


def has_waited_for_bundle(due: DueDelivery) -> bool:
    """Returns whether it has already waited to be bundled, or was tried before. It does not wait again."""
    return due.wait_reason.code in (BUNDLED_LATER.code, HOURLY_LIMIT_REACHED.code) or due.provider_name != ""


def max_bundle_size(due: DueDelivery, bundle_limit: Callable[[str], BundleLimit]) -> int:
    """Returns how many deliveries may be bundled with `due`."""
    has_waited_for_limit = due.wait_reason.code == HOURLY_LIMIT_REACHED.code
    return MAX_BUNDLE_SIZE if has_waited_for_limit else bundle_limit(due.channel).max_deliveries


def arrange(ready: Iterable[DueDelivery], now: datetime, bundle_limit: Callable[[str], BundleLimit]) -> BundlePlan:
    """Groups the sendable deliveries into messages. `bundle_limit` returns the limits of a channel."""
    alone: list[DeliveryBundle] = []
    groups: dict[BundleKey, list[DueDelivery]] = {}
    for due in ready:
        bundle_key = key(due)
        if bundle_key is None:
            alone.append(DeliveryBundle((due,)))
        else:
            groups.setdefault(bundle_key, []).append(due)
    bundles, waiting = alone, list[tuple[DueDelivery, datetime]]()
    for group in groups.values():
        group.sort(key=lambda due: (due.due_at, due.id))
        last_sent_at = max((due.last_sent_at for due in group if due.last_sent_at is not None), default=None)
        if any(has_waited_for_bundle(due) for due in group):
            max_named = bundle_limit(group[0].channel).max_named
            members = tuple(group[: max(max_bundle_size(due, bundle_limit) for due in group)])
            bundles.append(DeliveryBundle(members, named_count=max_named if len(members) > max_named else 0))
        elif last_sent_at is None or last_sent_at + WINDOW <= now:
            first, *followers = group
            bundles.append(DeliveryBundle((first,), is_first=True))
            waiting += [(due, now + WINDOW) for due in followers]
        else:
            # After a clock rollback, the last message may have been sent in the future.
            waiting += [(due, min(last_sent_at, now) + WINDOW) for due in group]
    return BundlePlan(tuple(bundles), tuple(waiting))
