"""Claims due deliveries from the outbox in one transaction: picks them fairly across integrations, checks each against
the current state of its alert and user, and leases those to be sent. A claimed delivery is sent at once, or returns to
the outbox when its lease expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from tocsin.core.db.database import Connection
from tocsin.core.delivery.rate_limit import RateLimit, count_allowed, fair_concurrency
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.dispatch.delivery_queries import LeaseUpdate, SaturatedProviders
from tocsin.notify.pause import CurrentPause
from tocsin.notify.providers import health
from tocsin.notify.providers.pool import SANDBOX, ActiveProvider, ProviderPool
from tocsin.notify.registry import CHANNELS
from tocsin.notify.rules import pre_send_check
from tocsin.notify.rules.delivery_reasons import BUNDLED_LATER, RATE_LIMITED, after_waiting
from tocsin.notify.rules.pre_send_check import MAX_BUNDLE_SIZE, BundleLimit, DeliveryBundle, DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text.message import ContentLevel
from tocsin.notify.text.signed_links import ReplyAddress

type SlaLookup = Callable[[Connection, Sequence[int]], Mapping[int, Mapping[Any, datetime]]]

#: The SLA's moments (`respond_by`, `fix_by`) by alert id. Alerts without one are absent.
SLA_LOOKUPS: Hooks[SlaLookup] = Hooks()

#: How soon a message for a busy provider is claimed again.
RECHECK_AFTER = timedelta(seconds=1)

#: A message that has waited for a busy provider for this long goes by the next one.
MAX_BUSY_WAIT = timedelta(seconds=2)

#: Tests of addresses get this part of a provider's concurrent sends. Anybody may send some to a server that hangs.
_TEST_SHARE = 4

#: A delay for messages that have just begun to wait. It shrinks with their age and is gone after a quarter of an hour.
_BY_AGE = timedelta(seconds=0.1)


@dataclass(frozen=True, slots=True, eq=False)
class DeliveryJob:
    """One message to send, and its provider; `active_provider` None means the sandbox."""

    bundle: DeliveryBundle
    active_provider: ActiveProvider | None
    #: Why it cannot be sent: it fails at once with this reason.
    problem: Reason = NO_REASON
    #: How much of an alert its channel may disclose.
    content_level: ContentLevel = ContentLevel.FULL
    #: For a mail: the Reply-To address, if replies are read.
    reply_address: ReplyAddress | None = None
    #: For a text message: whether it contains a reply code.
    has_reply_codes: bool = False
    #: Whether another provider can take over if this one hangs.
    has_substitute: bool = False

    @property
    def provider(self) -> str:
        """The provider's name; empty if the message cannot be sent and goes to no provider."""
        if self.active_provider is not None:
            return self.active_provider.name
        return "" if self.problem else SANDBOX

    @property
    def ids(self) -> list[UUID]:
        return [due.id for due in self.bundle.members]


#: What takes turns: the messages of one integration on one channel.
type Lane = tuple[int | None, str]


def lane_of(bundle: DeliveryBundle) -> Lane:
    """Returns the lane of a message."""
    return bundle.lead.integration_id, bundle.lead.channel


def _take_turns(bundles: Iterable[DeliveryBundle], recent: Iterable[Lane]) -> list[DeliveryBundle]:
    """Returns the messages in the order in which they get a provider: those of the lane that had the fewest lately
    come first. Otherwise the older storm would get each sender that becomes free.
    """
    counts = Counter(recent)
    turns: list[tuple[int, DeliveryBundle]] = []
    for bundle in bundles:
        lane = lane_of(bundle)
        turns.append((counts[lane], bundle))
        counts[lane] += 1
    # sorted() is stable.
    return [bundle for _, bundle in sorted(turns, key=lambda turn: turn[0])]


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """The result of one claim."""

    jobs: tuple[DeliveryJob, ...]
    #: How many due rows were checked. If there were any, more may be due: each integration gets only its share.
    checked_count: int
    #: Whether no slot is left now, or a provider is at its limit.
    is_full: bool


def claim(
    connection: Connection,
    pool: ProviderPool,
    sends_by_provider: Mapping[str, int],
    latencies: Mapping[str, float],
    *,
    node: str,
    slots: int,
    now: datetime,
    pause: CurrentPause | None,
    max_sends: Mapping[str, int] = MappingProxyType({}),
    recent: Iterable[Lane] = (),
) -> ClaimedBatch:
    """Leases for `node` as many messages as there are free slots. `sends_by_provider` counts the sends in progress by
    provider; `latencies` are the average durations of sends in seconds; `max_sends` limits the concurrent sends of
    single providers further; `recent` are the lanes of the last messages that this process claimed."""
    if pause is not None:
        delivery_queries.record_pause_reason(connection, pause, now)
    limits = {provider.name: provider.per_minute for provider in pool.all() if provider.per_minute}
    rate_limits = health.rate_limits(connection, limits)
    remaining = {name: limit.count_available(now) for name, limit in rate_limits.items()}
    capacity = _ProviderCapacity(pool, sends_by_provider, latencies, max_sends, slots, remaining, now, recent)
    free = slots - sum(sends_by_provider.values())
    saturated = capacity.find_saturated()
    ids = delivery_queries.pick(connection, saturated, free, now, is_paused=pause is not None)
    ready = delivery_queries.check_due(connection, ids, now)
    if pool.is_bundling:
        jobs = _bundled(connection, capacity, ready, now)
    else:
        jobs = capacity.assign_jobs([DeliveryBundle((due,)) for due in ready])
    job_counts = Counter(job.provider for job in jobs)
    charged = {name: limit.charge(job_counts[name], now) for name, limit in rate_limits.items() if job_counts[name]}
    health.store_rate_limits(connection, charged)
    delivery_queries.defer(connection, capacity.plan_deferrals(rate_limits | charged, now))
    delivery_queries.lease(connection, [update for job in jobs for update in _lease_updates(job)], node)
    delivery_queries.note_bundles(connection, _bundles_awaiting_events(jobs), now)
    jobs = _with_sla(connection, jobs)
    return ClaimedBatch(tuple(jobs), len(ids), is_full=len(ids) >= free or capacity.is_any_at_limit)


def _bundled(
    connection: Connection, capacity: _ProviderCapacity, ready: list[DueDelivery], now: datetime
) -> list[DeliveryJob]:
    """Returns the messages to send now, and records the others as waiting to be bundled."""
    ready = ready + delivery_queries.find_bundle_companions(connection, ready, now, _bundle_limit)
    arranged = pre_send_check.arrange(ready, now, _bundle_limit)
    jobs = capacity.assign_jobs(arranged.bundles)
    keys_by_job = {job: bundle_key for job in jobs if (bundle_key := pre_send_check.key(job.bundle.lead)) is not None}
    first_pages = {job: key for job, key in keys_by_job.items() if job.bundle.is_first}
    other_keys = {key for job, key in keys_by_job.items() if job not in first_pages}
    admitted = delivery_queries.apply_limits(connection, first_pages.values(), other_keys, now)
    throttled = [job for job, key in first_pages.items() if key not in admitted]
    waiting = [*arranged.waiting, *((job.bundle.lead, now + pre_send_check.WINDOW) for job in throttled)]
    delivery_queries.defer(connection, [(due, BUNDLED_LATER(), until) for due, until in waiting])
    return [job for job in jobs if job not in throttled]


def _with_sla(connection: Connection, jobs: list[DeliveryJob]) -> list[DeliveryJob]:
    """Adds the SLA's moments to the alerts of pages, which say how much time is left."""
    members = [due for job in jobs for due in job.bundle.members if due.purpose is Purpose.PAGE]
    ids = sorted({due.alert.id for due in members if due.alert is not None})
    moments = {key: one for lookup in SLA_LOOKUPS.of() for key, one in lookup(connection, ids).items()} if ids else {}
    if not moments:
        return jobs

    def dated(due: DueDelivery) -> DueDelivery:
        own = moments.get(due.alert.id) if due.alert is not None else None
        if due.alert is None or own is None:
            return due
        return replace(due, alert=replace(due.alert, respond_by=own.get("respond_by"), fix_by=own.get("fix_by")))

    return [
        replace(job, bundle=replace(job.bundle, members=tuple(dated(due) for due in job.bundle.members)))
        for job in jobs
    ]


def _bundles_awaiting_events(jobs: Iterable[DeliveryJob]) -> dict[UUID, list[UUID]]:
    """Returns the delivery ids of bundled messages that may get a later event (a vendor's webhook or a bounced mail),
    by the notification id that identifies the message.
    """
    return {
        job.bundle.lead.notification_id: job.ids
        for job in jobs
        if job.active_provider is not None
        and len(job.ids) > 1
        and (job.active_provider.account.callback_base_url or job.reply_address is not None)
    }


def _lease_updates(job: DeliveryJob) -> list[LeaseUpdate]:
    row_id = job.active_provider.id if job.active_provider else None
    return [LeaseUpdate(due.id, row_id, job.provider, after_waiting(due.wait_reason)) for due in job.bundle.members]


class _ProviderCapacity:
    """The remaining capacity of each provider, so that a slow provider leaves slots for the others."""

    def __init__(
        self,
        pool: ProviderPool,
        sends_by_provider: Mapping[str, int],
        latencies: Mapping[str, float],
        max_sends: Mapping[str, int],
        slots: int,
        remaining_allowance: Mapping[str, int],
        now: datetime,
        recent: Iterable[Lane],
    ) -> None:
        self._pool = pool
        self._recent = tuple(recent)
        self._sends_by_provider = dict(sends_by_provider)
        self._latencies = latencies
        self._max_sends = max_sends
        self._slots = slots
        self._now = now
        #: The remaining rate limit of each provider that has one.
        self._remaining_allowance = dict(remaining_allowance)
        #: Messages that no provider can take yet, although their channel is not full: their providers have used up the
        #: rate limit, or were at their maximum of concurrent sends before this claim.
        self.deferred: list[DeliveryBundle] = []
        self._at_limit = [
            provider.name for provider in pool.all() if not self._has_capacity(provider.name, self._limit(provider))
        ]

    @property
    def is_any_at_limit(self) -> bool:
        """Whether a provider is at its maximum of concurrent sends: a slot becomes free within moments."""
        return any(name not in self._max_sends for name in self._at_limit)

    def find_saturated(self) -> SaturatedProviders:
        """Returns what cannot be claimed now. For a provider that has used up its rate limit, the next provider is
        used; for a busy one, after `MAX_BUSY_WAIT`.
        """
        providers = self._pool.all()
        used_up = [provider.name for provider in providers if not self._has_allowance(provider.name)]
        saturated_channels: list[str] = []
        busy_channels: list[str] = []
        for channel in sorted({channel for provider in providers for channel in provider.channels}):
            usable = [p for p in providers if channel in p.channels and p.name not in used_up]
            if not usable or usable[0].name in self._at_limit:
                free = (p for p in usable if p.name not in self._at_limit)
                is_busy = any(self._pool.is_substitute(p, usable[0]) for p in free)
                (busy_channels if is_busy else saturated_channels).append(channel)
        names = [*self._at_limit, *used_up]
        return SaturatedProviders(names, saturated_channels, busy_channels, self._now - MAX_BUSY_WAIT)

    def assign_jobs(self, bundles: Iterable[DeliveryBundle]) -> list[DeliveryJob]:
        """Returns the messages that a provider can take now. The others stay in the outbox."""
        turns = _take_turns(bundles, self._recent)
        return [job for bundle in turns if (job := self._assign_job(bundle)) is not None]

    def _assign_job(self, bundle: DeliveryBundle) -> DeliveryJob | None:
        due = bundle.lead
        if due.problem:
            return DeliveryJob(bundle, None, due.problem)
        providers = self._pool.providers_for(due.channel, due.address)
        if not providers and (problem := self._pool.no_provider_reason(due.channel)):
            return DeliveryJob(bundle, None, problem)
        provider = self._choose_provider(providers, due)
        if providers and provider is None:
            self.deferred.append(bundle)
            return None
        name, limit = (provider.name, self._limit(provider)) if provider else (SANDBOX, self._slots)
        is_test = due.purpose is Purpose.TEST
        if not self._has_capacity(name, max(1, limit // _TEST_SHARE) if is_test else limit):
            if is_test or name in self._at_limit:
                self.deferred.append(bundle)
            return None
        self._sends_by_provider[name] = self._sends_by_provider.get(name, 0) + 1
        if name in self._remaining_allowance:
            self._remaining_allowance[name] -= 1
        reply_address = self._pool.reply_address if due.channel == "email" else None
        return DeliveryJob(
            bundle,
            provider,
            content_level=self._pool.content_level(due.channel),
            reply_address=reply_address,
            has_reply_codes=CHANNELS[due.channel].is_text and self._pool.requires_reply_codes,
            has_substitute=provider is not None
            and not due.data.get("provider")
            and any(self._pool.is_substitute(other, provider) for other in providers),
        )

    def plan_deferrals(
        self, rate_limits: Mapping[str, RateLimit], now: datetime
    ) -> list[tuple[DueDelivery, Reason, datetime]]:
        """Returns when to claim each message that no provider can take yet: the time at which it can be sent if the
        integrations take turns, each in the order in which its messages were queued. Until then it neither blocks other
        messages nor is overtaken.
        """
        remaining = dict(rate_limits)
        deferrals = []
        in_order = sorted(self.deferred, key=lambda bundle: bundle.lead.queued_at)
        for bundle in _take_turns(in_order, self._recent):
            at = now + RECHECK_AFTER
            providers = self._pool.providers_for(bundle.lead.channel, bundle.lead.address)
            limited = [
                provider.name
                for provider in _named_or_all(providers, bundle.lead.provider_name)
                if provider.name in remaining
            ]
            if limited and not any(self._has_allowance(name) for name in limited):
                name = min(limited, key=lambda name: remaining[name].next_available_at(now))
                at = remaining[name].next_available_at(now)
                remaining[name] = remaining[name].charge(1, now)
            # Other claims may have assigned the same time to other messages: the one that has waited longest comes
            # first.
            at += max(timedelta(0), _BY_AGE - (at - bundle.lead.queued_at) / 10_000)
            deferrals += [(due, due.wait_reason or RATE_LIMITED(), at) for due in bundle.members]
        return deferrals

    def _choose_provider(self, providers: Sequence[ActiveProvider], due: DueDelivery) -> ActiveProvider | None:
        """Returns the named provider if it still delivers to the address, else the first with rate limit left; None
        without any.

        What a slow provider has no share of senders left for goes by the next one, and so does what has waited for a
        busy one for `MAX_BUSY_WAIT`.
        """
        usable = [p for p in _named_or_all(providers, due.provider_name) if self._has_allowance(p.name)]
        if not usable:
            return None
        first = usable[0]
        if self._has_capacity(first.name, self._fair_limit(first)):
            return first
        substitutes = (p for p in usable if self._pool.is_substitute(p, first))
        next_free = next((p for p in substitutes if self._has_capacity(p.name, self._fair_limit(p))), None)
        if next_free is None:
            return first
        is_slow = self._has_capacity(first.name, self._limit(first))
        # A message that waited for a busy provider was postponed each time.
        has_waited = self._now - due.due_at >= MAX_BUSY_WAIT or due.wait_reason.code == RATE_LIMITED.code
        return next_free if is_slow or has_waited else first

    def _limit(self, provider: ActiveProvider) -> int:
        maximum = provider.kind.max_concurrent_sends
        return min(maximum, self._max_sends.get(provider.name, maximum))

    def _fair_limit(self, provider: ActiveProvider) -> int:
        return fair_concurrency(self._limit(provider), self._latencies.get(provider.name, 0))

    def _has_allowance(self, name: str) -> bool:
        return self._remaining_allowance.get(name, 1) > 0

    def _has_capacity(self, name: str, limit: int) -> bool:
        """Returns whether a provider may have more concurrent sends, at most `limit`."""
        held, free_slots = self._sends_by_provider.get(name, 0), self._slots - sum(self._sends_by_provider.values())
        return held < limit and count_allowed(held, free_slots) > 0


def _named_or_all(providers: Sequence[ActiveProvider], preferred_name: str) -> Sequence[ActiveProvider]:
    """Returns the named provider if it still delivers to the address, else all that do."""
    return [provider for provider in providers if provider.name == preferred_name] or providers


def _bundle_limit(name: str) -> BundleLimit:
    channel = CHANNELS.get(name)
    if channel is None:
        return BundleLimit(1, 1)
    return BundleLimit(channel.bundle_limit, MAX_BUNDLE_SIZE if channel.counts_omitted else channel.bundle_limit)
