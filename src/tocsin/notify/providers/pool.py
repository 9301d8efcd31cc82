"""The pool of open providers in their order. Reloads when the configuration changes.

Besides the database rows it has the SMTP server of the environment and the built-in providers. Both come after the
configured ones.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from django.utils.text import slugify

from tocsin.core.config import config_version, environment, secret_bundle, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary, TocsinError
from tocsin.notify import provider_settings
from tocsin.notify.integrations.mail_replies import answers_to
from tocsin.notify.integrations.smtp import account_of_url
from tocsin.notify.interfaces import ProviderAccount, ProviderKind, ProviderSender
from tocsin.notify.providers import health, recovery
from tocsin.notify.registry import BUILT_IN, CHANNELS, KINDS
from tocsin.notify.text.message_ids import ReplyAddress
from tocsin.notify.text.redaction import ContentLevel
from tocsin.notify.webhooks import WebhookProvider

log = logging.getLogger(__name__)

ENVIRONMENT = "SMTP (environment)"
#: Replaces the provider on a channel without one. Messages are stored and never leave the machine.
SANDBOX = "sandbox"

#: In seconds. The success of a healthy provider is recorded at most this often.
_NOTED = 10.0

#: In seconds, unless a provider overrides it.
RECEIPT_TIMEOUT = 60

#: In seconds. A replaced sender is closed after this delay, when its sends in progress have finished.
_GRACE = 120.0


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

    def masked(self, text: str) -> str:
        """Returns `text` with this provider's secrets masked, in case a server echoed one."""
        for secret in self.secrets:
            text = text.replace(secret, "•••")
        return text

    @property
    def replies(self) -> frozenset[str]:
        """The channels on which replies through this provider reach Tocsin."""
        # A kind with webhooks needs a callback URL; other kinds poll for replies.
        is_deaf = isinstance(self.kind, WebhookProvider) and not self.account.callbacks
        return frozenset() if is_deaf else self.kind.replies

    @property
    def receipts(self) -> frozenset[str]:
        """The channels for which this provider sends delivery receipts."""
        return self.kind.receipts if self.account.callbacks else frozenset()

    @property
    def receipt_timeout(self) -> int:
        """The delivery receipt timeout, in seconds."""
        return int(self.account.settings.get(provider_settings.RECEIPT_TIMEOUT.name) or RECEIPT_TIMEOUT)

    @property
    def per_minute(self) -> int:
        """The rate limit in messages per minute; 0 means none."""
        return int(self.account.settings.get(provider_settings.RATE.name) or 0)

    def carries(self, channel: str, address: str) -> bool:
        """Returns whether this provider delivers to `address`."""
        if channel not in self.channels or not self.kind.accepts(channel, address):
            return False
        return carries_country(self.account.settings, channel, address)


def carries_country(settings: Mapping[str, Any], channel: str, address: str) -> bool:
    """Returns whether a provider with these settings delivers to the country of a phone number; always True for other
    addresses.
    """
    wanted = str(settings.get(provider_settings.PREFIXES.name) or "")
    return (
        channel not in provider_settings.PHONES or not wanted or address.startswith(provider_settings.prefixes(wanted))
    )


class ProviderPool:
    """The configuration as of the version that `refresh` last loaded. One per process; read by many threads."""

    def __init__(self) -> None:
        self._version = -1
        self._carriers: tuple[ActiveProvider, ...] = ()
        self._opened: dict[str, tuple[str, ActiveProvider]] = {}
        self._retired: list[tuple[float, ProviderSender]] = []
        self._lock = threading.Lock()
        #: Providers whose circuit breaker is open. They come last.
        self._passed_over: frozenset[str] = frozenset()
        #: When this process last recorded each provider's success, and the providers that have failed here since.
        self._noted: dict[str, float] = {}
        self._troubled: set[str] = set()
        self.is_bundling = True
        #: Whether text messages contain a reply code.
        self.asks_reply_codes = False
        #: Where users reply to mails, if replies are read.
        self.answers_to: ReplyAddress | None = None
        self._contents: Mapping[str, ContentLevel] = {}
        #: Why a provider cannot be used at all, by name; below, the channels of those providers.
        self.problems: Mapping[str, str] = {}
        self._unusable: Mapping[str, Sequence[str]] = {}

    def refresh(self, connection: Connection) -> None:
        """Reloads if the configuration version has changed."""
        with self._lock:
            version = config_version.current_version(connection)
            if version != self._version:
                self._load(connection)
                self._version = version
            self._passed_over = health.open_circuits(connection)
            self._close_retired()

    def carriers(self, channel: str, address: str) -> tuple[ActiveProvider, ...]:
        """Returns the providers that can deliver to `address`, in order, with open circuit breakers last. If none, the
        sandbox is used.
        """
        return tuple(carrier for carrier in self.all() if carrier.carries(channel, address))

    def has_provider(self, channel: str) -> bool:
        """Returns whether a provider carries the channel; without one, messages go to the sandbox. Built-in providers
        accept only their own address formats and do not count.
        """
        return any(channel in carrier.channels and carrier.kind not in BUILT_IN for carrier in self._carriers)

    def nobody(self, channel: str) -> str:
        """Returns why no provider delivers to an address on this channel, as a sentence. Empty if the channel has no
        provider: its messages go to the sandbox.
        """
        unusable = sorted(name for name, channels in self._unusable.items() if channel in channels)
        if not unusable and not self.has_provider(channel):
            return ""
        label = CHANNELS[channel].label if channel in CHANNELS else channel
        why = f": {', '.join(unusable)} cannot be used" if unusable else ""
        return f"No provider carries {label} to this address{why}."

    def all(self) -> Sequence[ActiveProvider]:
        """Returns all providers in use, in order, with open circuit breakers last."""
        # sorted() is stable.
        return sorted(self._carriers, key=lambda carrier: carrier.name in self._passed_over)

    def content(self, channel: str) -> ContentLevel:
        """Returns how much of an alert the channel's messages may disclose."""
        return self._contents.get(channel, ContentLevel.FULL)

    def get(self, name: str) -> ActiveProvider | None:
        """Returns the provider of that name if it is in use, else None."""
        return next((carrier for carrier in self._carriers if carrier.name == name), None)

    def note(self, connection: Connection, notes: Sequence[health.HealthUpdate]) -> None:
        """Records the results of messages. The continued success of a healthy provider is written only every few
        seconds.
        """
        with self._lock:
            new = [note for note in notes if self._is_news(note)]
            if new and health.record_outcomes(connection, new):
                self._passed_over = health.open_circuits(connection)

    def ask_again(self, now: Callable[[], datetime]) -> None:
        """Probes the providers with an open circuit breaker that are due. Sends no messages."""
        with database.transaction() as connection:
            names = health.due_probes(connection, now())
        for name in names:
            carrier = self.get(name)
            error: str | None = None
            is_passing = True
            if carrier is not None:
                try:
                    carrier.sender.verify()
                except TocsinError as trouble:
                    error, is_passing = carrier.masked(str(trouble)), isinstance(trouble, Temporary)
            # A provider that is no longer in use counts as recovered: nothing may wait for it.
            with database.transaction() as connection:
                asked_at = now()
                awaited = recovery.awaited_channels(connection, carrier.channels if carrier else (), asked_at)
                health.record_probe(connection, name, error, asked_at, is_passing=is_passing, is_awaited=bool(awaited))
                self._passed_over = health.open_circuits(connection)

    def _is_news(self, note: health.HealthUpdate) -> bool:
        if note.error is not None:
            self._troubled.add(note.name)
            return True
        moment = time.monotonic()
        is_known = note.name not in self._troubled and note.name not in self._passed_over
        if is_known and moment - self._noted.get(note.name, -_NOTED) < _NOTED:
            return False
        self._troubled.discard(note.name)
        self._noted[note.name] = moment
        return True

    def close(self) -> None:
        """Closes every sender."""
        with self._lock:
            for _, carrier in self._opened.values():
                carrier.sender.close()
            for _, sender in self._retired:
                sender.close()
            self._opened, self._retired, self._carriers, self._version = {}, [], (), -1

    def _load(self, connection: Connection) -> None:
        found = database.rows(
            connection,
            "SELECT id, name, kind, channels, settings, secrets FROM notify_provider WHERE is_enabled "
            'ORDER BY "order", name',
        )
        problems: dict[str, str] = {}
        opened: dict[str, tuple[str, ActiveProvider]] = {}
        for row in found:
            try:
                opened[row["name"]] = self._open(row)
            except Permanent as error:
                # Leave it out and use the others: one invalid row must not stop the rest.
                problems[row["name"]] = error.detail
                log.error("The provider %s cannot be used: %s", row["name"], error.detail)
        if (account := environment_account()) is not None:
            opened[ENVIRONMENT] = self._opened_once(account, KINDS["smtp"], None, ("email",))
        for built_in in BUILT_IN:
            account = ProviderAccount(built_in.label)
            opened[built_in.label] = self._opened_once(account, built_in, None, built_in.channels)
        for name, (fingerprint, carrier) in self._opened.items():
            if opened.get(name, ("", carrier))[0] != fingerprint:
                self._retired.append((time.monotonic() + _GRACE, carrier.sender))
        self._opened = opened
        self._carriers = tuple(carrier for _, carrier in opened.values())
        self.answers_to = next((place for c in self._carriers if (place := answers_to(c.kind.name, c.account))), None)
        self.problems = problems
        self._unusable = {row["name"]: row["channels"] for row in found if row["name"] in problems}
        settings = settings_store.load(connection)
        self.is_bundling = bool(settings[settings_store.BUNDLE_PAGES.name])
        self.asks_reply_codes = bool(settings[settings_store.SMS_REPLY_CODES.name])
        self._contents = {name: ContentLevel(settings[settings_store.content_name(name)]) for name in CHANNELS}

    def _open(self, row: Mapping[str, Any]) -> tuple[str, ActiveProvider]:
        kind = KINDS.get(row["kind"])
        if kind is None:
            raise Permanent(f"There is no kind of provider {row['kind']!r}.")
        account = account_of(
            row["name"], row["id"], kind, row["settings"], secret_bundle.decrypt_bundle(row["secrets"])
        )
        channels = tuple(channel for channel in row["channels"] if channel in kind.channels)
        return self._opened_once(account, kind, row["id"], channels)

    def _opened_once(
        self, account: ProviderAccount, kind: ProviderKind, row_id: int | None, channels: tuple[str, ...]
    ) -> tuple[str, ActiveProvider]:
        """Returns the open sender if its configuration is unchanged, so that its connections are kept; else opens a new
        one.
        """
        fingerprint = json.dumps(
            [row_id, kind.name, channels, dict(account.settings), dict(account.secrets), account.callbacks],
            sort_keys=True,
            default=str,
        )
        kept = self._opened.get(account.name)
        if kept is not None and kept[0] == fingerprint:
            return kept
        known = {text for secret in account.secrets.values() for text in (secret, quote(secret, safe=""))}
        secrets = tuple(sorted((text for text in known if len(text) >= 4), key=len, reverse=True))
        return fingerprint, ActiveProvider(account.name, row_id, kind, channels, kind.open(account), secrets, account)

    def _close_retired(self) -> None:
        now = time.monotonic()
        for _, sender in [pair for pair in self._retired if pair[0] <= now]:
            sender.close()
        self._retired = [pair for pair in self._retired if pair[0] > now]


def in_order(connection: Connection, channel: str, address: str) -> list[str]:
    """Returns the names of the providers that can deliver to `address`, in order, without opening any: the equivalent
    of `ProviderPool.carriers` for a process that sends nothing.
    """
    late = health.open_circuits(connection)
    found = [
        row["name"]
        for row in database.rows(
            connection,
            "SELECT name, kind, settings FROM notify_provider WHERE is_enabled AND %s = ANY(channels) "
            'ORDER BY "order", name',
            (channel,),
        )
        if (kind := KINDS.get(row["kind"])) is not None
        and channel in kind.channels
        and kind.accepts(channel, address)
        and carries_country(row["settings"], channel, address)
    ]
    if channel == "email" and environment.current().smtp_url is not None:
        found.append(ENVIRONMENT)
    return sorted(found, key=lambda name: name in late)


def account_of(
    name: str, row_id: int | None, kind: ProviderKind, settings: Mapping[str, Any], secrets: Mapping[str, str]
) -> ProviderAccount:
    """Returns a configured provider's account. The installation's sender address is the default for mails."""
    known = dict(settings)
    if not known.get("sender"):
        known["sender"] = environment.current().email_from or ""
    return ProviderAccount(name, known, secrets, callbacks=_callbacks(name, row_id, kind, settings))


def slug(name: str, row_id: int | None) -> str:
    """Returns the provider's part of `/hooks/{provider}/…`."""
    return slugify(name) or str(row_id or "")


def _callbacks(name: str, row_id: int | None, kind: ProviderKind, settings: Mapping[str, Any]) -> str:
    if not isinstance(kind, WebhookProvider):
        return ""
    # Without TOCSIN_BASE_URL, only a server on this network could call back, and a vendor rejects such a URL.
    vendors = next((setting.default for setting in kind.settings if setting.name == "api_base"), "")
    if environment.current().base_url is None and settings.get("api_base", vendors) == vendors:
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
