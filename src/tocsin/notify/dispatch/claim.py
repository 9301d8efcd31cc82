"""Claims due deliveries from the outbox in one transaction: picks them fairly across integrations, checks each against
the current state of its alert and user, and leases those to be sent. A claimed delivery is sent at once, or returns to
the outbox when its lease expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.core.db.database import Connection
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.dispatch.delivery_queries import LeaseUpdate, SaturatedProviders
from tocsin.notify.pause import CurrentPause
from tocsin.notify.providers import health
from tocsin.notify.providers.circuit_breaker import RateAllowance
from tocsin.notify.providers.pool import SANDBOX, ActiveProvider, ProviderPool
from tocsin.notify.registry import CHANNELS
from tocsin.notify.rules import bundling
from tocsin.notify.rules.bundling import MAX_BUNDLE_SIZE, BundleLimit, DeliveryBundle
from tocsin.notify.rules.pre_send_check import BUNDLED_LATER, NO_TURN_YET, DueDelivery, after_waiting
from tocsin.notify.text.message_ids import ReplyAddress
from tocsin.notify.text.redaction import ContentLevel

#: How soon a message for a busy provider is claimed again.
RECHECK_AFTER = timedelta(seconds=1)

#: A delay for messages that have just begun to wait. It shrinks with their age and is gone after a quarter of an hour.
_BY_AGE = timedelta(seconds=0.1)


@dataclass(frozen=True, slots=True, eq=False)
class DeliveryJob:
    """One message to send, and its provider; `carrier` None means the sandbox."""

    bundle: DeliveryBundle
    carrier: ActiveProvider | None
    #: Why it cannot be sent: it fails at once with this reason.
    problem: str = ""
    #: How much of an alert its channel may disclose.
    content: ContentLevel = ContentLevel.FULL
    #: For a mail: the Reply-To address, if replies are read.
    answers_to: ReplyAddress | None = None
    #: For a text message: whether it contains a reply code.
    has_reply_codes: bool = False

    @property
    def provider(self) -> str:
        """The provider's name; empty if the message cannot be sent and goes to no provider."""
        if self.carrier is not None:
            return self.carrier.name
        return "" if self.problem else SANDBOX

    @property
    def ids(self) -> list[UUID]:
        return [due.id for due in self.bundle.members]


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """The result of one claim."""

    jobs: tuple[DeliveryJob, ...]
    #: How many due rows were checked. If there were any, more may be due: each integration gets only its share.
    found: int
    #: Whether no slot is left now, or a provider is at its limit.
    is_full: bool


def claim(
    connection: Connection,
    directory: ProviderPool,
    busy: Mapping[str, int],
    *,
    node: str,
    slots: int,
    now: datetime,
    pause: CurrentPause | None,
) -> ClaimedBatch:
    """Leases for `node` as many messages as there are free slots. `busy` counts the sends in progress by provider."""
    if pause is not None:
        delivery_queries.record_pause_reason(connection, pause, now)
    limits = {carrier.name: carrier.per_minute for carrier in directory.all() if carrier.per_minute}
    allowances = health.allowances(connection, limits)
    rooms = _ProviderCapacity(directory, busy, slots, {name: entry.room(now) for name, entry in allowances.items()})
    free = slots - sum(busy.values())
    full = rooms.full()
    ids = delivery_queries.pick(connection, full, free, now, is_paused=pause is not None)
    ready = delivery_queries.check_due(connection, ids, now)
    if directory.is_bundling:
        jobs = _bundled(connection, rooms, ready, now)
    else:
        jobs = rooms.jobs([DeliveryBundle((due,)) for due in ready])
    given = Counter(job.provider for job in jobs)
    used_up = {name: entry.after(given[name], now) for name, entry in allowances.items() if given[name]}
    health.consume_allowance(connection, used_up)
    allowances |= {name: replace(allowances[name], free_at=moment) for name, moment in used_up.items()}
    delivery_queries.wait(connection, rooms.turns(allowances, now))
    delivery_queries.lease(connection, [leased for job in jobs for leased in _leased(job)], node)
    delivery_queries.note_bundles(connection, _told_later(jobs), now)
    return ClaimedBatch(tuple(jobs), len(ids), is_full=len(ids) >= free or rooms.is_crowded)


def _bundled(
    connection: Connection, rooms: _ProviderCapacity, ready: list[DueDelivery], now: datetime
) -> list[DeliveryJob]:
    """Returns the messages to send now, and records the others as waiting to be bundled."""
    ready = ready + delivery_queries.find_bundle_companions(connection, ready, now, _room)
    arranged = bundling.arrange(ready, now, _room)
    jobs = rooms.jobs(arranged.bundles)
    keyed = {job: found for job in jobs if (found := bundling.key(job.bundle.lead)) is not None}
    firsts = {job: key for job, key in keyed.items() if job.bundle.is_first}
    others = {key for job, key in keyed.items() if job not in firsts}
    passed = delivery_queries.apply_limits(connection, firsts.values(), others, now)
    late = [job for job, key in firsts.items() if key not in passed]
    waiting = [*arranged.waiting, *((job.bundle.lead, now + bundling.WINDOW) for job in late)]
    delivery_queries.wait(connection, [(due, BUNDLED_LATER, until) for due, until in waiting])
    return [job for job in jobs if job not in late]


def _told_later(jobs: Iterable[DeliveryJob]) -> dict[UUID, list[UUID]]:
    """Returns the delivery ids of bundled messages that may get a later event (a vendor's webhook or a bounced mail),
    by the notification id that identifies the message.
    """
    return {
        job.bundle.lead.notification_id: job.ids
        for job in jobs
        if job.carrier is not None
        and len(job.ids) > 1
        and (job.carrier.account.callbacks or job.answers_to is not None)
    }


def _leased(job: DeliveryJob) -> list[LeaseUpdate]:
    row_id = job.carrier.id if job.carrier else None
    return [LeaseUpdate(due.id, row_id, job.provider, after_waiting(due.waited)) for due in job.bundle.members]


class _ProviderCapacity:
    """The remaining capacity of each provider, so that a slow provider leaves slots for the others."""

    def __init__(
        self, directory: ProviderPool, busy: Mapping[str, int], slots: int, allowed: Mapping[str, int]
    ) -> None:
        self._directory = directory
        self._busy = dict(busy)
        self._slots = slots
        #: The remaining rate limit of each provider that has one.
        self._allowed = dict(allowed)
        #: Messages that no provider can take yet, although their channel is not full: their providers have used up the
        #: rate limit, or were at their maximum of concurrent sends before this claim.
        self.later: list[DeliveryBundle] = []
        carriers = directory.all()
        self._crowded = [c.name for c in carriers if not self._has_room(c.name, c.kind.parallel)]

    @property
    def is_crowded(self) -> bool:
        """Whether a provider is at its maximum of concurrent sends: a slot becomes free within moments."""
        return bool(self._crowded)

    def full(self) -> SaturatedProviders:
        """Returns what cannot be claimed now. For a provider that has used up its rate limit, the next provider is
        used.
        """
        carriers = self._directory.all()
        used_up = [carrier.name for carrier in carriers if not self._is_allowed(carrier.name)]
        firsts: dict[str, str] = {}
        for carrier in carriers:
            for channel in carrier.channels:
                if carrier.name not in used_up:
                    firsts.setdefault(channel, carrier.name)
        channels = {channel for carrier in carriers for channel in carrier.channels}
        closed = [channel for channel in channels if firsts.get(channel) in (None, *self._crowded)]
        return SaturatedProviders([*self._crowded, *used_up], sorted(closed))

    def jobs(self, bundles: Iterable[DeliveryBundle]) -> list[DeliveryJob]:
        """Returns the messages that a provider can take now. The others stay in the outbox."""
        return [job for bundle in bundles if (job := self._job(bundle)) is not None]

    def _job(self, bundle: DeliveryBundle) -> DeliveryJob | None:
        due = bundle.lead
        if due.problem:
            return DeliveryJob(bundle, None, due.problem)
        carriers = self._directory.carriers(due.channel, due.address)
        if not carriers and (problem := self._directory.nobody(due.channel)):
            return DeliveryJob(bundle, None, problem)
        carrier = self._chosen(carriers, due.provider_name)
        if carriers and carrier is None:
            self.later.append(bundle)
            return None
        name, most = (carrier.name, carrier.kind.parallel) if carrier else (SANDBOX, self._slots)
        if not self._has_room(name, most):
            if name in self._crowded:
                self.later.append(bundle)
            return None
        self._busy[name] = self._busy.get(name, 0) + 1
        if name in self._allowed:
            self._allowed[name] -= 1
        answers_to = self._directory.answers_to if due.channel == "email" else None
        return DeliveryJob(
            bundle,
            carrier,
            content=self._directory.content(due.channel),
            answers_to=answers_to,
            has_reply_codes=due.channel == "sms" and self._directory.asks_reply_codes,
        )

    def turns(self, allowances: Mapping[str, RateAllowance], now: datetime) -> list[tuple[DueDelivery, str, datetime]]:
        """Returns when to claim each message that no provider can take yet: the time at which it can be sent if all are
        sent in the order in which they were queued. Until then it neither blocks other messages nor is overtaken.
        """
        left = dict(allowances)
        found = []
        for bundle in sorted(self.later, key=lambda bundle: bundle.lead.queued_at):
            at = now + RECHECK_AFTER
            carriers = self._directory.carriers(bundle.lead.channel, bundle.lead.address)
            limited = [one.name for one in _named(carriers, bundle.lead.provider_name) if one.name in left]
            if limited and not any(self._is_allowed(name) for name in limited):
                name = min(limited, key=lambda name: left[name].next_room(now))
                at = left[name].next_room(now)
                left[name] = replace(left[name], free_at=left[name].after(1, now))
            # Other claims may have assigned the same time to other messages: the one that has waited longest comes
            # first.
            at += max(timedelta(0), _BY_AGE - (at - bundle.lead.queued_at) / 10_000)
            found += [(due, due.waited or NO_TURN_YET, at) for due in bundle.members]
        return found

    def _chosen(self, carriers: Sequence[ActiveProvider], wanted: str) -> ActiveProvider | None:
        """Returns the named provider if it still delivers to the address, else the first with rate limit left; None
        without any.
        """
        return next((one for one in _named(carriers, wanted) if self._is_allowed(one.name)), None)

    def _is_allowed(self, name: str) -> bool:
        return self._allowed.get(name, 1) > 0

    def _has_room(self, name: str, most: int) -> bool:
        """Returns whether a provider may have more concurrent sends: at most four times the free slots. One provider
        alone gets four fifths of all slots; the more providers are slow, the less each gets (Choudhury and Hahne,
        Dynamic Queue Length Thresholds, 1998).
        """
        left = self._slots - sum(self._busy.values())
        return self._busy.get(name, 0) < min(most, 4 * left)


def _named(carriers: Sequence[ActiveProvider], wanted: str) -> Sequence[ActiveProvider]:
    """Returns the named provider if it still delivers to the address, else all that do."""
    return [carrier for carrier in carriers if carrier.name == wanted] or carriers


def _room(name: str) -> BundleLimit:
    channel = CHANNELS.get(name)
    if channel is None:
        return BundleLimit(1, 1)
    return BundleLimit(channel.bundle_limit, MAX_BUNDLE_SIZE if channel.counts_rest else channel.bundle_limit)
