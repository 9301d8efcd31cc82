"""The pool of open providers in their order. Reloads when the configuration changes.

Besides the database rows it has the SMTP server of the environment and the built-in providers. Both come after the
configured ones.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from importlib import import_module
from inspect import getmembers, isabstract, isclass
from pkgutil import iter_modules
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from django.utils.text import slugify

from tocsin.core.config import crypto, environment, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.job_pool import LivePool
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import NO_REASON, Reason, Term, Text, joined, replace_texts
from tocsin.notify import channels, integrations, interfaces
from tocsin.notify.integrations.mail_replies import parse_reply_address
from tocsin.notify.integrations.smtp import account_of_url
from tocsin.notify.interfaces import CHANNELS as CHANNELS  # filled below, so read from here
from tocsin.notify.interfaces import (
    Channel,
    ChatPlace,
    ProviderAccount,
    ProviderKind,
    ProviderSender,
    Quota,
    WebhookEndpoint,
    WebhookProvider,
)
from tocsin.notify.models import Provider, ProviderHealth
from tocsin.notify.providers import health
from tocsin.notify.rules.page_planner import RETRIED_UNKNOWN
from tocsin.notify.text.render import ContentLevel
from tocsin.notify.text.signed_links import ReplyAddress

# ---------- what there is
# All channels and provider kinds. A new one is a class in a module of `channels` or `integrations`.


def _find(parent: type) -> Iterator[Any]:
    """Yields an object of each class in these two folders that inherits from `parent`."""
    for package in (channels, integrations):
        for entry in iter_modules(package.__path__):
            module = import_module(f"{package.__name__}.{entry.name}")
            for _name, found in getmembers(module, isclass):
                if issubclass(found, parent) and found.__module__ == module.__name__ and not isabstract(found):
                    yield found()


def _quietness(kind: ProviderKind) -> tuple[int, str]:
    return min((CHANNELS[name].quietness for name in kind.channels), default=99), kind.label.lower()


for _channel in sorted(_find(Channel), key=lambda one: (one.quietness, one.name)):
    CHANNELS[_channel.name] = _channel
    settings_store.declare_content(_channel.name, _channel.label)

_ALL_KINDS = sorted(_find(ProviderKind), key=_quietness)

#: Always available.
BUILT_IN: tuple[ProviderKind, ...] = tuple(kind for kind in _ALL_KINDS if kind.is_built_in)

#: By name, those of the quietest channel first.
KINDS: Mapping[str, ProviderKind] = {kind.name: kind for kind in _ALL_KINDS if not kind.is_built_in}


_UNKNOWN_CHANNEL = Text('Unknown channel "{name}". Choose one of: {channels}.')


def channel(name: str) -> Channel:
    """Returns the channel of that name. Raises Rejected("unknown_channel")."""
    try:
        return CHANNELS[name]
    except KeyError:
        reason = _UNKNOWN_CHANNEL(name=name, channels=", ".join(CHANNELS))
        raise Rejected("unknown_channel", reason, "channel") from None


def address_problem(name: str, address: str) -> Reason | None:
    """Returns why `address` is invalid on that channel; None if it is valid."""
    try:
        channel(name).normalize_address(address)
    except Rejected as problem:
        return problem.reason
    return None


def quietest_channel(names: set[str]) -> str:
    """Returns the quietest of the named channels. An unknown channel counts as the loudest."""
    return min(names, key=lambda name: (CHANNELS[name].quietness if name in CHANNELS else 99, name))


# ---------- recovery
# Releases messages that wait for a provider as soon as it recovers.
#
# A message waits once an attempt has failed (`late_since`). Only those rows are in the index that every statement here
# uses. Runs inside the caller's transaction and sends nothing.


#: The maximum number of messages that one statement releases.
MAX_RELEASED = 10_000

_CHANNELS = """
SELECT c.channel FROM unnest(%s::text[]) AS c(channel)
WHERE EXISTS (SELECT FROM notify_delivery d
              WHERE d.status = 'queued' AND d.late_since IS NOT NULL AND d.channel = c.channel AND d.due_at > %s)
"""


def awaited_channels(connection: Connection, channels: Collection[str], now: datetime) -> frozenset[str]:
    """Returns those of `channels` on which messages wait for a provider to recover. A message that another provider
    takes over at once does not wait.
    """
    if not channels:
        return frozenset()
    return frozenset(row[0] for row in connection.execute(_CHANNELS, (sorted(channels), now)).fetchall())


_ADDRESSES = """
SELECT DISTINCT channel, address FROM notify_delivery
WHERE status = 'queued' AND late_since IS NOT NULL AND channel = ANY(%s)
"""
# A provider that knows no such address is not tried again. A row locked by another transaction is being
# recorded there; that transaction releases it if the attempt was made before the provider recovered. A provider that
# passes probes may still die after taking a message. So a message whose last outcome is unknown is not repeated early,
# until the provider has sent another one, unless it did not answer probes either before it recovered.
_RELEASE = """
UPDATE notify_delivery SET due_at = %(now)s, provider_name = %(name)s WHERE id IN (
  SELECT d.id FROM unnest(%(channels)s::text[], %(addresses)s::text[]) AS k(channel, address)
  JOIN notify_delivery d ON d.channel = k.channel AND d.address = k.address
    AND d.status = 'queued' AND d.late_since IS NOT NULL
  WHERE (d.due_at > %(now)s OR d.provider_name <> %(name)s)
    AND (%(ids)s::uuid[] IS NULL OR d.id = ANY(%(ids)s))
    AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.notification_id = d.notification_id
                    AND o.provider_name = %(name)s AND o.is_final)
    AND (d.reason->>'code' IS DISTINCT FROM %(unknown)s OR %(ids)s::uuid[] IS NOT NULL OR EXISTS (
         SELECT FROM notify_providerhealth h WHERE h.name = %(name)s AND (h.failures = 0 OR h.is_unresponsive)))
  ORDER BY d.id LIMIT %(most)s FOR NO KEY UPDATE OF d SKIP LOCKED)
"""


def release(connection: Connection, provider: ActiveProvider, now: datetime, ids: Sequence[UUID] | None = None) -> int:
    """Makes every waiting message that the recovered `provider` can deliver due now, restricted to `ids` if given.
    Returns their number; if it is `MAX_RELEASED`, there may be more. They are bundled like every message that was tried
    before.
    """
    waiting = connection.execute(_ADDRESSES, (list(provider.channels),)).fetchall()
    deliverable = [(channel, address) for channel, address in waiting if provider.delivers_to(channel, address)]
    if not deliverable:
        return 0
    channels, addresses = database.columns(deliverable)
    parameters = {
        "now": now, "name": provider.name, "channels": channels, "addresses": addresses,
        "ids": None if ids is None else list(ids), "most": MAX_RELEASED, "unknown": RETRIED_UNKNOWN.code,
    }  # fmt: skip
    return connection.execute(_RELEASE, parameters).rowcount


log = logging.getLogger(__name__)

ENVIRONMENT = "SMTP (default)"

#: In seconds. The success of a healthy provider is recorded at most this often.
_SUCCESS_RECORD_INTERVAL = 10.0

#: In seconds, unless a provider overrides it.
RECEIPT_TIMEOUT = 60

UNKNOWN_KIND = Text("Unknown provider type: {kind}.")
_NOT_CARRIED = Text("No {channel} provider delivers to this address.")
_UNUSABLE = Text("{providers} cannot be used.")


@dataclass(frozen=True, slots=True)
class ActiveProvider:
    """One open provider."""

    name: str
    #: The row's id; None for the environment's and built-in providers.
    id: int | None
    kind: ProviderKind
    channels: tuple[str, ...]
    sender: ProviderSender
    secrets: tuple[str, ...] = field(default=(), repr=False)
    account: ProviderAccount = field(default=ProviderAccount(""), repr=False)

    def mask_secrets(self, text: str) -> str:
        """Returns `text` with this provider's secrets masked, in case a server echoed one."""
        for secret in self.secrets:
            text = text.replace(secret, "•••")
        return text

    def mask_secrets_in(self, reason: Reason) -> Reason:
        """Returns the reason with this provider's secrets masked."""
        return replace_texts(reason, self.mask_secrets)

    @property
    def reply_channels(self) -> frozenset[str]:
        """The channels on which replies through this provider reach Tocsin."""
        # A kind that needs webhooks needs a callback URL; other kinds poll for replies.
        is_called_back = isinstance(self.kind, WebhookProvider) and self.kind.needs_callbacks
        lacks_callback_url = is_called_back and not self.account.callback_base_url
        return frozenset() if lacks_callback_url else self.kind.reply_channels

    @property
    def receipt_channels(self) -> frozenset[str]:
        """The channels for which this provider sends delivery receipts."""
        return self.kind.receipt_channels if self.account.callback_base_url else frozenset()

    @property
    def receipt_timeout(self) -> int:
        """The delivery receipt timeout, in seconds."""
        return int(self.account.settings.get(interfaces.RECEIPT_TIMEOUT.name) or RECEIPT_TIMEOUT)

    @property
    def quota(self) -> Quota | None:
        """The vendor's quota, as its last answer to this process said."""
        quota: Quota | None = getattr(self.sender, "quota", None)
        return quota

    @property
    def per_minute(self) -> int:
        """The rate limit in messages per minute; 0 means none."""
        return int(self.account.settings.get(interfaces.RATE.name) or 0)

    def delivers_to(self, channel: str, address: str) -> bool:
        """Returns whether this provider delivers to `address`."""
        if channel not in self.channels or not self.kind.accepts(channel, address):
            return False
        return carries_country(self.account.settings, channel, address)


def carries_country(settings: Mapping[str, Any], channel: str, address: str) -> bool:
    """Returns whether a provider with these settings delivers to the country of an address, if it is a number."""
    prefixes_text = str(settings.get(interfaces.PREFIXES.name) or "")
    is_restricted = prefixes_text and channel in interfaces.phones()
    return not is_restricted or address.startswith(interfaces.prefixes(prefixes_text))


class ProviderPool(LivePool[str, ActiveProvider]):
    """The open providers by name."""

    def __init__(self) -> None:
        super().__init__()
        self._providers: tuple[ActiveProvider, ...] = ()
        #: Providers whose circuit breaker is open. They come last.
        self._open_circuits: frozenset[str] = frozenset()
        #: When this process last recorded each provider's success, and the providers that have failed here since.
        self._success_recorded_at: dict[str, float] = {}
        self._failing: set[str] = set()
        self.is_bundling = True
        #: Whether text messages contain a reply code.
        self.requires_reply_codes = False
        #: Where users reply to mails, if replies are read.
        self.reply_address: ReplyAddress | None = None
        self._content_levels: Mapping[str, ContentLevel] = {}
        #: Why a provider cannot be used at all, by name; below, the channels of those providers.
        self.problems: Mapping[str, Reason] = {}
        self._unusable: Mapping[str, Sequence[str]] = {}

    def refresh(self, connection: Connection) -> None:
        """Reloads if the configuration version has changed."""
        super().refresh(connection)
        with self._lock:
            self._open_circuits = health.open_circuits(connection)

    def providers_for(self, channel: str, address: str) -> tuple[ActiveProvider, ...]:
        """Returns the providers that can deliver to `address`, in order; without any, the sandbox keeps it."""
        return tuple(provider for provider in self.all() if provider.delivers_to(channel, address))

    def has_provider(self, channel: str) -> bool:
        """Returns whether a provider carries the channel; without one, messages go to the sandbox. Built-in providers
        accept only their own address formats and do not count.
        """
        return any(channel in provider.channels and provider.kind not in BUILT_IN for provider in self._providers)

    def no_provider_reason(self, channel: str) -> Reason:
        """Returns why no provider delivers to an address on this channel. Empty if the channel has no provider: its
        messages go to the sandbox.
        """
        unusable = sorted(name for name, channels in self._unusable.items() if channel in channels)
        if not unusable and not self.has_provider(channel):
            return NO_REASON
        not_carried = _NOT_CARRIED(channel=Term(CHANNELS[channel].label if channel in CHANNELS else channel))
        return joined(not_carried, _UNUSABLE(providers=tuple(unusable)) if unusable else NO_REASON, separator=" ")

    def all(self) -> Sequence[ActiveProvider]:
        """Returns all providers in use, in order, with open circuit breakers last."""
        # sorted() is stable.
        return sorted(self._providers, key=lambda provider: provider.name in self._open_circuits)

    def is_substitute(self, other: ActiveProvider, provider: ActiveProvider) -> bool:
        """Returns whether `other` can replace `provider`: its circuit breaker is closed, or both are open."""
        return other is not provider and (other.name not in self._open_circuits or provider.name in self._open_circuits)

    def content_level(self, channel: str) -> ContentLevel:
        """Returns how much of an alert the channel's messages may disclose."""
        return self._content_levels.get(channel, ContentLevel.FULL)

    def get(self, name: str) -> ActiveProvider | None:
        """Returns the provider of that name if it is in use, else None."""
        return next((provider for provider in self._providers if provider.name == name), None)

    def record_outcomes(self, connection: Connection, updates: Sequence[health.HealthUpdate]) -> None:
        """Records results. The continued success of a healthy provider is written only every few seconds."""
        with self._lock:
            recordable = [update for update in updates if self._should_record(update)]
            if recordable and health.record_outcomes(connection, recordable):
                self._open_circuits = health.open_circuits(connection)

    def probe_due(self, now: Callable[[], datetime]) -> None:
        """Probes the providers with an open circuit breaker that are due. Sends no messages."""
        with database.transaction() as connection:
            names = health.due_probes(connection, now())
        for name in names:
            provider = self.get(name)
            error: Reason | None = None
            is_transient = True
            # A provider that is no longer in use counts as recovered: nothing may wait for it.
            if provider is not None:
                try:
                    provider.sender.verify()
                except (Temporary, Permanent) as problem:
                    error = provider.mask_secrets_in(problem.full_reason)
                    is_transient = isinstance(problem, Temporary)
            with database.transaction() as connection:
                probed_at = now()
                awaited = awaited_channels(connection, provider.channels if provider else (), probed_at)
                health.record_probe(
                    connection, name, error, probed_at, is_transient=is_transient, is_awaited=bool(awaited)
                )
                self._open_circuits = health.open_circuits(connection)

    def _should_record(self, update: health.HealthUpdate) -> bool:
        if update.error is not None:
            self._failing.add(update.name)
            return True
        moment, name = time.monotonic(), update.name
        recorded_at = self._success_recorded_at.get(name, -_SUCCESS_RECORD_INTERVAL)
        is_healthy = name not in self._failing and name not in self._open_circuits
        if is_healthy and moment - recorded_at < _SUCCESS_RECORD_INTERVAL:
            return False
        self._failing.discard(name)
        self._success_recorded_at[name] = moment
        return True

    def close(self) -> None:
        """Closes every sender."""
        super().close()
        self._providers = ()

    def _load(self, connection: Connection) -> None:
        rows = database.rows(
            connection,
            "SELECT id, name, kind, channels, settings, secrets FROM notify_provider WHERE is_enabled "
            'ORDER BY "order", name',
        )
        problems: dict[str, Reason] = {}
        for row in rows:
            try:
                if (kind := KINDS.get(row["kind"])) is None:
                    raise Permanent(UNKNOWN_KIND(kind=row["kind"]))
                secrets = crypto.decrypt_bundle(row["secrets"])
                account = account_of(row["name"], row["id"], kind, row["settings"], secrets)
                channels = tuple(channel for channel in row["channels"] if channel in kind.channels)
                self._open_account(account, kind, row["id"], channels)
            except Permanent as error:
                # Leave it out and use the others: one invalid row must not stop the rest.
                problems[row["name"]] = error.reason
                log.error("The provider %s cannot be used: %s", row["name"], error.detail)
        settings_store.follow(connection)
        if (mail_account := environment_account()) is not None:
            self._open_account(mail_account, KINDS["smtp"], None, ("email",))
        for built_in in BUILT_IN:
            self._open_account(ProviderAccount(built_in.label), built_in, None, built_in.channels)
        self._providers = tuple(provider for _, provider in self._loading.values())
        self.reply_address = next(
            (reply_address for c in self._providers if (reply_address := parse_reply_address(c.kind.name, c.account))),
            None,
        )
        self.problems = problems
        self._unusable = {row["name"]: row["channels"] for row in rows if row["name"] in problems}
        settings = settings_store.load(connection)
        self.is_bundling = bool(settings[settings_store.BUNDLE_PAGES.name])
        self.requires_reply_codes = bool(settings[settings_store.SMS_REPLY_CODES.name])
        self._content_levels = {name: ContentLevel(settings[settings_store.content_name(name)]) for name in CHANNELS}

    def _open_account(
        self, account: ProviderAccount, kind: ProviderKind, row_id: int | None, channels: tuple[str, ...]
    ) -> None:
        def open_provider() -> ActiveProvider:
            variants = {text for secret in account.secrets.values() for text in (secret, quote(secret, safe=""))}
            secrets = tuple(sorted((text for text in variants if len(text) >= 4), key=len, reverse=True))
            return ActiveProvider(account.name, row_id, kind, channels, kind.open(account), secrets, account)

        self._reuse_or_open(
            account.name,
            [row_id, kind.name, channels, dict(account.settings), dict(account.secrets), account.callback_base_url],
            open_provider,
        )

    def _close_item(self, item: ActiveProvider) -> None:
        item.sender.close()


_CONFIGURED = 'SELECT name, kind, channels, settings FROM notify_provider WHERE is_enabled ORDER BY "order", name'


def _delivers(row: Mapping[str, Any], channel: str, address: str) -> bool:
    """Returns whether the provider of a row delivers to the address, without opening it."""
    kind = KINDS.get(row["kind"])
    if kind is None or channel not in kind.channels or channel not in row["channels"]:
        return False
    return kind.accepts(channel, address) and carries_country(row["settings"], channel, address)


def in_order(connection: Connection, channel: str, address: str) -> list[str]:
    """Returns the names of the providers that can deliver to `address`, in order, without opening any: the equivalent
    of `ProviderPool.providers_for` for a process that sends nothing.
    """
    open_circuits = health.open_circuits(connection)
    names = [row["name"] for row in database.rows(connection, _CONFIGURED) if _delivers(row, channel, address)]
    if channel == "email" and environment.current().smtp_url is not None:
        names.append(ENVIRONMENT)
    return sorted(names, key=lambda name: name in open_circuits)


def built_in_for(channel: str, address: str) -> list[str]:
    """Returns the names of the built-in providers that deliver to `address`."""
    return [kind.label for kind in BUILT_IN if channel in kind.channels and kind.accepts(channel, address)]


def provider_lookup(connection: Connection) -> Callable[[str, str], bool]:
    """Returns a function that says whether any enabled provider delivers to an address on a channel."""
    rows = database.rows(connection, _CONFIGURED)
    has_environment = environment.current().smtp_url is not None

    def has_provider(channel: str, address: str) -> bool:
        return (
            (has_environment and channel == "email")
            or any(channel in kind.channels and kind.accepts(channel, address) for kind in BUILT_IN)
            or any(_delivers(row, channel, address) for row in rows)
        )

    return has_provider


def account_of(
    name: str, row_id: int | None, kind: ProviderKind, settings: Mapping[str, Any], secrets: Mapping[str, str]
) -> ProviderAccount:
    """Returns a configured provider's account. The installation's sender address is the default for mails."""
    merged = dict(settings)
    if not merged.get("sender"):
        merged["sender"] = environment.current().email_from or ""
    return ProviderAccount(
        name,
        merged,
        secrets,
        callback_base_url=_callback_base_url(name, row_id, kind, settings),
        find_place=_find_place,
    )


def _find_place(bot: str, address: str) -> ChatPlace | None:
    query = "SELECT service_url, conversation FROM notify_chatconversation WHERE bot = %s AND address = %s"
    with database.transaction() as connection:
        row = connection.execute(query, (bot, address)).fetchone()
    return ChatPlace(*row) if row else None


def slug(name: str, row_id: int | None) -> str:
    """Returns the provider's part of `/hooks/{provider}/…`."""
    return slugify(name) or str(row_id or "")


def _callback_base_url(name: str, row_id: int | None, kind: ProviderKind, settings: Mapping[str, Any]) -> str:
    if not isinstance(kind, WebhookProvider):
        return ""
    # Without a public URL, only a server on this network could call back, and a vendor rejects such a URL.
    vendor_url = next((setting.default for setting in kind.settings if setting.name == "api_base"), "")
    if environment.current().base_url is None and settings.get("api_base", vendor_url) == vendor_url:
        return ""
    return f"{environment.current().public_url}/hooks/{slug(name, row_id)}"


def environment_account() -> ProviderAccount | None:
    """Returns the account of the SMTP server from the environment, or None."""
    settings = environment.current()
    if settings.smtp_url is None:
        return None
    user = urlsplit(settings.smtp_url).username or ""
    default = "" if "@" in user or "%40" in user else f"tocsin@{urlsplit(settings.public_url).hostname}"
    return account_of_url(ENVIRONMENT, settings.smtp_url, settings.email_from or default)


# ---------- status
# The status of providers for the web interface and the API: circuit breaker, last error, callback URLs. Reads only,
# over Django's connection.


class ProviderState(StrEnum):
    """The health of a provider."""

    #: No message has been sent through it yet.
    UNUSED = "unused"
    #: It worked, but so long ago that nothing is known of it today.
    UNKNOWN = "unknown"
    WORKS = "works"
    #: The last message failed; the circuit breaker is still closed.
    FAILING = "failing"
    #: The circuit breaker is open: other providers are used first until it recovers.
    CIRCUIT_OPEN = "passed_over"


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """The status of one provider."""

    state: ProviderState = ProviderState.UNUSED
    worked_at: datetime | None = None
    failed_at: datetime | None = None
    #: The last error, if the provider fails.
    error: Reason = NO_REASON
    since: datetime | None = None
    #: When the provider is probed again.
    retry_at: datetime | None = None
    #: The vendor's quota, if it reports one.
    quota: Quota | None = None


#: A provider counts as working for this long after its last success.
KNOWN_FOR = timedelta(days=30)


def statuses(now: datetime) -> dict[str, ProviderStatus]:
    """Returns the status at `now` by provider name. A provider that is absent was never used."""
    found = {}
    for row in ProviderHealth.objects.all():
        error = NO_REASON
        if row.is_open or row.failures:
            state, error = ProviderState.CIRCUIT_OPEN if row.is_open else ProviderState.FAILING, row.error
        else:
            state = ProviderState.UNUSED
            if row.worked_at is not None:
                state = ProviderState.WORKS if row.worked_at > now - KNOWN_FOR else ProviderState.UNKNOWN
        quota = None
        if row.quota_limit is not None and row.quota_left is not None and row.quota_resets_at is not None:
            quota = Quota(row.quota_limit, row.quota_left, row.quota_resets_at)
        found[row.name] = ProviderStatus(state, row.worked_at, row.failed_at, error, row.opened_at, row.retry_at, quota)
    return found


def in_use() -> list[str]:
    """Returns the names of all providers in use: configured, from the environment, and built in."""
    configured = Provider.objects.filter(is_enabled=True).values_list("name", flat=True)
    from_environment = [ENVIRONMENT] if environment.current().smtp_url is not None else []
    return [*configured, *from_environment, *(kind.label for kind in BUILT_IN)]


def webhook_urls(provider: Provider) -> list[tuple[WebhookEndpoint, str]]:
    """Returns the endpoints to enter in the vendor's console with their URLs; none without a public address."""
    kind, base_url = KINDS.get(provider.kind), _callback_base_url_of(provider)
    endpoints = kind.webhook_endpoints if isinstance(kind, WebhookProvider) and base_url else ()
    return [(endpoint, f"{base_url}/{endpoint.name}") for endpoint in endpoints]


def build_package(provider: Provider) -> bytes:
    """Returns the file that an administrator uploads at the vendor's; empty for a kind without one."""
    kind = KINDS.get(provider.kind)
    if kind is None or not kind.package_name:
        return b""
    account = account_of(provider.name, provider.pk, kind, provider.settings, {})
    return kind.build_package(account, environment.current().public_url)


def lacks_callback_url(provider: Provider) -> bool:
    """Returns whether the vendor's webhooks cannot reach this machine because no public URL is set."""
    kind = KINDS.get(provider.kind)
    return isinstance(kind, WebhookProvider) and kind.needs_callbacks and not _callback_base_url_of(provider)


def _callback_base_url_of(provider: Provider) -> str:
    kind = KINDS.get(provider.kind)
    return "" if kind is None else _callback_base_url(provider.name, provider.pk, kind, provider.settings)


def sender_numbers() -> list[str]:
    """Returns the phone numbers that the enabled providers send texts and calls from."""
    numbers = [
        str(provider.settings.get("from_number") or "")
        for provider in Provider.objects.filter(is_enabled=True)
        if interfaces.phones().intersection(provider.channels)
    ]
    return list(dict.fromkeys(number for number in numbers if number.lstrip("+").replace(" ", "").isdigit()))


def contact_card(name: str) -> str:
    """Returns a vCard (RFC 2426) with the sending numbers. A phone that has the contact as a favourite lets its calls
    through Do Not Disturb.
    """
    escaped = name.replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;")
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:{escaped};;;;", f"FN:{escaped}", f"ORG:{escaped}"]
    lines += [f"TEL;TYPE=CELL,VOICE:{number.replace(' ', '')}" for number in sender_numbers()]
    return "\r\n".join([*lines, "NOTE:Pages from Tocsin. Mark this contact as a favourite.", "END:VCARD", ""])
