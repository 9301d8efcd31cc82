"""Takes deliveries that are due out of the outbox, in one transaction: picks them fairly, checks each against its alert
and person as they are now, and leases what is to be sent. What it returns is sent at once, or comes back by itself."""

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

#: What waits for a provider that has much on its way is looked at again so much later.
RECHECK_AFTER = timedelta(seconds=1)

#: By so much later comes what has just begun to wait; nothing of it is left after a quarter of an hour.
_BY_AGE = timedelta(seconds=0.1)


@dataclass(frozen=True, slots=True, eq=False)
class DeliveryJob:
    """One message to send, and by whom; `carrier` None: the sandbox."""

    bundle: DeliveryBundle
    carrier: ActiveProvider | None
    #: Why nobody can send it: it fails at once, with this reason.
    problem: str = ""
    #: What its channel may say of an alert.
    content: ContentLevel = ContentLevel.FULL
    #: Of a mail: where people answer it to, if anywhere.
    answers_to: ReplyAddress | None = None
    #: Of a text message: whether it says the code with which people answer.
    has_reply_codes: bool = False

    @property
    def provider(self) -> str:
        """Its name; empty where it is handed to nobody, since nobody can send it."""
        if self.carrier is not None:
            return self.carrier.name
        return "" if self.problem else SANDBOX

    @property
    def ids(self) -> list[UUID]:
        return [due.id for due in self.bundle.members]


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """What a turn took."""

    jobs: tuple[DeliveryJob, ...]
    #: How many rows were due and looked at. More may be due when there were any: each integration has its share.
    found: int
    #: Whether there is room for no more now, or a provider can be given no more.
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
    """Leases for `node` as many messages as there is room for; `busy` counts what is on its way, by provider."""
    if pause is not None:
        delivery_queries.explain(connection, pause, now)
    limits = {carrier.name: carrier.per_minute for carrier in directory.all() if carrier.per_minute}
    allowances = health.allowances(connection, limits)
    rooms = _ProviderCapacity(directory, busy, slots, {name: entry.room(now) for name, entry in allowances.items()})
    free = slots - sum(busy.values())
    full = rooms.full()
    ids = delivery_queries.pick(connection, full, free, now, is_paused=pause is not None)
    ready = delivery_queries.checked(connection, ids, now)
    if directory.is_bundling:
        jobs = _bundled(connection, rooms, ready, now)
    else:
        jobs = rooms.jobs([DeliveryBundle((due,)) for due in ready])
    given = Counter(job.provider for job in jobs)
    used_up = {name: entry.after(given[name], now) for name, entry in allowances.items() if given[name]}
    health.use_up(connection, used_up)
    allowances |= {name: replace(allowances[name], free_at=moment) for name, moment in used_up.items()}
    delivery_queries.wait(connection, rooms.turns(allowances, now))
    delivery_queries.lease(connection, [leased for job in jobs for leased in _leased(job)], node)
    delivery_queries.note_bundles(connection, _told_later(jobs), now)
    return ClaimedBatch(tuple(jobs), len(ids), is_full=len(ids) >= free or rooms.is_crowded)


def _bundled(
    connection: Connection, rooms: _ProviderCapacity, ready: list[DueDelivery], now: datetime
) -> list[DeliveryJob]:
    """The messages that leave now; what waits for others is written down as waiting."""
    ready = ready + delivery_queries.companions(connection, ready, now, _room)
    arranged = bundling.arrange(ready, now, _room)
    jobs = rooms.jobs(arranged.bundles)
    keyed = {job: found for job in jobs if (found := bundling.key(job.bundle.lead)) is not None}
    firsts = {job: key for job, key in keyed.items() if job.bundle.is_first}
    others = {key for job, key in keyed.items() if job not in firsts}
    passed = delivery_queries.through_the_gate(connection, firsts.values(), others, now)
    late = [job for job, key in firsts.items() if key not in passed]
    waiting = [*arranged.waiting, *((job.bundle.lead, now + bundling.WINDOW) for job in late)]
    delivery_queries.wait(connection, [(due, BUNDLED_LATER, until) for due, until in waiting])
    return [job for job in jobs if job not in late]


def _told_later(jobs: Iterable[DeliveryJob]) -> dict[UUID, list[UUID]]:
    """The deliveries of messages about several alerts of which is told later (by a vendor that calls back, or a mail
    that comes back), by the id that they are known by."""
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
    """How much each provider may still be given, so that one that hangs leaves room for the others."""

    def __init__(
        self, directory: ProviderPool, busy: Mapping[str, int], slots: int, allowed: Mapping[str, int]
    ) -> None:
        self._directory = directory
        self._busy = dict(busy)
        self._slots = slots
        #: What those with a limit a minute may be given now.
        self._allowed = dict(allowed)
        #: Messages that nobody may take yet, although there is room for their channel: those who carry there have used
        #: up their minute, or had as much on its way as they may before this turn.
        self.later: list[DeliveryBundle] = []
        carriers = directory.all()
        self._crowded = [c.name for c in carriers if not self._has_room(c.name, c.kind.parallel)]

    @property
    def is_crowded(self) -> bool:
        """Whether a provider has as much on its way as it may: there is room again within moments."""
        return bool(self._crowded)

    def full(self) -> SaturatedProviders:
        """What can be given out no more. One that has used up its minute is passed over for the next."""
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
        """The messages that somebody can take now; the others stay where they are."""
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
        """When each message that nobody may take yet is looked at again: at the moment at which it may leave if all
        leave in the order in which they came. So it keeps nothing else from being looked at, nor is it overtaken."""
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
            # Others were told of the same moment in other turns: whoever has waited longest comes first then.
            at += max(timedelta(0), _BY_AGE - (at - bundle.lead.queued_at) / 10_000)
            found += [(due, due.waited or NO_TURN_YET, at) for due in bundle.members]
        return found

    def _chosen(self, carriers: Sequence[ActiveProvider], wanted: str) -> ActiveProvider | None:
        """The provider that was named, where it still carries there; else the first that has not used up its minute."""
        return next((one for one in _named(carriers, wanted) if self._is_allowed(one.name)), None)

    def _is_allowed(self, name: str) -> bool:
        return self._allowed.get(name, 1) > 0

    def _has_room(self, name: str, most: int) -> bool:
        """A provider may have four times as much on its way as is left for all: alone four fifths, and the more of them
        hang, the less each (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998)."""
        left = self._slots - sum(self._busy.values())
        return self._busy.get(name, 0) < min(most, 4 * left)


def _named(carriers: Sequence[ActiveProvider], wanted: str) -> Sequence[ActiveProvider]:
    """The provider that was named, where it still carries there; else all that do."""
    return [carrier for carrier in carriers if carrier.name == wanted] or carriers


def _room(name: str) -> BundleLimit:
    channel = CHANNELS.get(name)
    if channel is None:
        return BundleLimit(1, 1)
    return BundleLimit(channel.bundle_limit, MAX_BUNDLE_SIZE if channel.counts_rest else channel.bundle_limit)
