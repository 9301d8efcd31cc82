"""All compiled integrations of a configuration version; reloaded completely when the version rises."""

from __future__ import annotations

import ipaddress
import json
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from tocsin.alerts.states import Priority
from tocsin.catalogue.kinds import load_kinds
from tocsin.core.config import crypto, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import as_reason, sentence
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.config.compiled_integration import (
    ClientEntry,
    ClientMap,
    CompiledIntegration,
    Credentials,
    PolicyEntry,
    ReferenceDirectory,
)
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.config.rules import UNKNOWN_KIND, RouteReference
from tocsin.inbound.enums import IntegrationMode
from tocsin.oncall import loader
from tocsin.oncall.calculation.weekly_windows import CompiledSupportHours
from tocsin.people.sql import load_people

log = logging.getLogger(__name__)


#: The number of attempts to load a configuration that changes while it is loaded.
_MAX_ATTEMPTS = 5

#: The number of compiled definitions that are kept. Saving one integration compiles no other one again.
_MAX_COMPILED = 500


class UnknownIntegration(LookupError):
    """The integration does not exist any more."""


@dataclass(frozen=True, slots=True)
class TokenLookup:
    """The integration that a token belongs to. `is_expired`: the token was rotated and does not work any more."""

    integration: CompiledIntegration
    is_expired: bool = False


@dataclass(frozen=True, slots=True)
class _Snapshot:
    version: int = -1
    integrations: Mapping[int, CompiledIntegration] = field(default_factory=dict)
    tokens: Mapping[bytes, int] = field(default_factory=dict)
    #: Previous tokens: the integration, and until when they work.
    old_tokens: Mapping[bytes, tuple[int, datetime]] = field(default_factory=dict)


class IntegrationRegistry:
    """The integrations known to this process. Reads take no lock: the snapshot is replaced as a whole."""

    def __init__(self) -> None:
        self._snapshot = _Snapshot()
        self._load_lock = threading.Lock()
        self._expired_counts: Counter[int] = Counter()
        self._count_lock = threading.Lock()

    @property
    def version(self) -> int:
        """The number of the loaded configuration version; -1 before the first."""
        return self._snapshot.version

    def is_older_than(self, version: int) -> bool:
        """Returns whether `version` is newer than the loaded configuration."""
        return self._snapshot.version < version

    def get(self, integration_id: int) -> CompiledIntegration:
        """Returns an integration. Raises UnknownIntegration if it does not exist (any more)."""
        try:
            return self._snapshot.integrations[integration_id]
        except KeyError:
            raise UnknownIntegration(integration_id) from None

    def get_all(self) -> Mapping[int, CompiledIntegration]:
        return self._snapshot.integrations

    def find(self, token_hash: bytes, now: datetime) -> TokenLookup | None:
        """Returns the integration of a current or previous token; None for an unknown token."""
        snapshot = self._snapshot
        integration_id = snapshot.tokens.get(token_hash)
        if integration_id is not None:
            return TokenLookup(snapshot.integrations[integration_id])
        if (previous := snapshot.old_tokens.get(token_hash)) is None:
            return None
        return TokenLookup(snapshot.integrations[previous[0]], is_expired=now >= previous[1])

    def count_expired(self, integration_id: int, requests: int = 1) -> None:
        """Counts requests with an expired token in memory; the expired-token task writes them to the database."""
        with self._count_lock:
            self._expired_counts[integration_id] += requests

    def take_expired(self) -> dict[int, int]:
        """Returns and resets the counts of requests with expired tokens, by integration."""
        with self._count_lock:
            counts, self._expired_counts = self._expired_counts, Counter()
        return dict(counts)

    def refresh(self) -> None:
        """Loads the configuration, on a pooled connection, if it is newer than the loaded one."""
        with database.connection() as connection:
            # Asked every second: a transaction only where there is something to load.
            if self.is_older_than(settings_store.current_version(connection)):
                with connection.transaction():
                    self.load(connection)

    def load(self, connection: Connection) -> None:
        """Loads the complete configuration that the connection's transaction sees."""
        with self._load_lock:
            version = settings_store.current_version(connection)
            if not self.is_older_than(version):
                return
            for _ in range(_MAX_ATTEMPTS):
                snapshot, before = _load(connection, version), version
                # Each statement sees what was committed before it: retry if a configuration was saved in between.
                if (version := settings_store.current_version(connection)) == before:
                    break
            self._snapshot = snapshot
            log.info("Configuration %s is loaded: %s integrations.", version, len(self._snapshot.integrations))


_shared: tuple[str, IntegrationRegistry] | None = None
_shared_lock = threading.Lock()


def shared_registry() -> IntegrationRegistry:
    """Returns the registry shared by the process's views and commands for the current database. `refresh` it first."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != database.url():
            _shared = (database.url(), IntegrationRegistry())
        return _shared[1]


_INTEGRATIONS = """
SELECT i.id, i.group_id, i.name, i.kind, i.source, i.dedup_namespace, i.mode, i.settings, i.policy_id, i.outbound_id,
       i.token_hash, i.old_token_hash, i.old_token_until, i.credentials, i.current_version_id, v.definition,
       ARRAY(SELECT user_id FROM inbound_integration_recipient_users r WHERE r.integration_id = i.id ORDER BY r.id)
           AS users,
       ARRAY(SELECT group_id FROM inbound_integration_recipient_groups r WHERE r.integration_id = i.id ORDER BY r.id)
           AS groups
FROM inbound_integration i LEFT JOIN inbound_integrationversion v ON v.id = i.current_version_id
"""

_POLICIES = """
SELECT p.id, p.name, v.id AS version_id, v.definition ->> 'default_priority' AS default_priority
FROM escalation_policy p JOIN escalation_policyversion v ON v.id = p.current_version_id
"""


def _load(connection: Connection, version: int) -> _Snapshot:
    directory = load_directory(connection)
    hours: dict[RouteReference, str] = {key: item.name for key, item in loader.support_hours(connection).items()}
    integrations: dict[int, CompiledIntegration] = {}
    tokens: dict[bytes, int] = {}
    old_tokens: dict[bytes, tuple[int, datetime]] = {}
    windows = maintenance_windows.load_windows(connection)
    for row in database.rows(connection, _INTEGRATIONS):
        integration = _build_integration(row, directory, hours)
        compiled_windows = (
            window.for_integration(integration.id, row["group_id"], integration.normalizer.mapping.names)
            for window in windows
        )
        integration = replace(integration, windows=tuple(item for item in compiled_windows if item is not None))
        integrations[integration.id] = integration
        tokens[bytes(row["token_hash"])] = integration.id
        if row["old_token_hash"] is not None and row["old_token_until"] is not None:
            old_tokens[bytes(row["old_token_hash"])] = (integration.id, row["old_token_until"])
    return _Snapshot(version, integrations, tokens, old_tokens)


def load_directory(connection: Connection) -> ReferenceDirectory:
    """Loads the objects that messages and routes may refer to."""
    policies = database.rows(connection, _POLICIES)
    users = [user for user in load_people(connection) if user["is_active"]]
    users_by_name: dict[str, tuple[int, str]] = {}
    # E-mail wins over username, username over name: the address tells two users with the same name apart.
    for column in ("name", "username", "email"):
        for user in users:
            if user[column]:
                users_by_name[user[column].casefold()] = (user["id"], user["display_name"])
    hours: dict[RouteReference, CompiledSupportHours] = {}
    for hours_id, item in loader.support_hours(connection).items():
        hours[hours_id] = hours[item.name.casefold()] = item
    return ReferenceDirectory(
        policies={
            row["id"]: PolicyEntry(row["name"], row["version_id"], Priority(row["default_priority"] or Priority.HIGH))
            for row in policies
        },
        users=users_by_name,
        groups={
            row["name"].casefold(): row["id"] for row in database.rows(connection, "SELECT id, name FROM people_group")
        },
        policy_ids={row["name"].casefold(): row["id"] for row in policies},
        hours={reference: item.is_open for reference, item in hours.items()},
        next_hours={reference: item.opens_at for reference, item in hours.items()},
        client_tables=_client_tables(connection),
    )


def _client_tables(connection: Connection) -> dict[RouteReference, ClientMap]:
    tables: dict[RouteReference, ClientMap] = {}
    for row in database.rows(connection, "SELECT id, name, clients FROM inbound_clienttable"):
        entries = {
            item["client"].casefold(): ClientEntry(item.get("group"), item.get("policy"), item["client"])
            for item in row["clients"]
        }
        tables[row["id"]] = tables[row["name"].casefold()] = ClientMap(row["name"], entries)
    return tables


def _compile_row(row: Mapping[str, Any], hours: Mapping[RouteReference, str]) -> tuple[Normalizer, Rejected | None]:
    """Compiles a row's definition. If that fails, returns the kind's defaults and the reason."""
    kind = load_kinds().get(row["kind"])
    try:
        if kind is None:
            raise Rejected("not_compiled", UNKNOWN_KIND(kind=row["kind"]))
        stored = json.dumps((row["definition"] or {}, row["settings"]))
        return _compile(kind.name, stored, frozenset(hours.items())), None
    except Exception as error:  # boundary of one integration: for example a row that a newer version wrote
        problem = error.reason if isinstance(error, Rejected) else as_reason(type(error).__name__)
        log.error("Integration %s cannot be used: %s", row["name"], problem, exc_info=not isinstance(error, Rejected))
        return compile_normalizer(kind or load_kinds()[_FALLBACK_KIND], IntegrationDefinition()), Rejected(
            "not_compiled", sentence("The integration's own configuration cannot be used: {problem}", problem=problem)
        )


@lru_cache(_MAX_COMPILED)
def _compile(kind: str, stored: str, hours: frozenset[tuple[RouteReference, str]]) -> Normalizer:
    """Compiles a definition and its settings, stored as JSON. Raises Rejected, as `compile_normalizer` does."""
    return compile_normalizer(load_kinds()[kind], IntegrationDefinition.from_stored(*json.loads(stored)), dict(hours))


#: Used in place of an unknown kind; no message is parsed with it.
_FALLBACK_KIND = "api"


def _build_integration(
    row: Mapping[str, Any], directory: ReferenceDirectory, hours: Mapping[RouteReference, str]
) -> CompiledIntegration:
    """Builds a row's integration. If it does not compile, only its own messages are stored undecided."""
    normalizer, problem = _compile_row(row, hours)
    kind = normalizer.kind
    return CompiledIntegration(
        id=row["id"],
        name=row["name"],
        source=row["source"] or kind.source or row["name"],
        mode=IntegrationMode(row["mode"]),
        normalizer=normalizer,
        version_id=row["current_version_id"],
        settings={**kind.default_settings, **row["settings"]},
        policy_id=row["policy_id"],
        recipient_users=tuple(row["users"]),
        recipient_groups=tuple(row["groups"]),
        credentials=_credentials(row["name"], row["credentials"]),
        directory=directory,
        outbound_id=row["outbound_id"],
        problem=problem,
        dedup_namespace="" if row["source"] or kind.source else row["dedup_namespace"],
    )


#: Impossible credentials: an integration whose credentials cannot be decrypted refuses every request.
_DENY_ALL = Credentials(header="x-tocsin-shut", header_value="\x00")


def _credentials(name: str, encrypted: str) -> Credentials:
    if not encrypted:
        return Credentials()
    try:
        stored = json.loads(crypto.decrypt(encrypted))
    except Permanent as error:
        log.error("The credentials of integration %s cannot be read: %s", name, error)
        return _DENY_ALL
    basic, header, hmac, imap = (stored.get(kind) or {} for kind in ("basic", "header", "hmac", "imap"))
    return Credentials(
        username=basic.get("username", ""),
        password=basic.get("password", ""),
        header=header.get("name", ""),
        header_value=header.get("value", ""),
        signature_header=hmac.get("header", ""),
        signature_secret=hmac.get("secret", ""),
        timestamp_header=hmac.get("timestamp_header", ""),
        mailbox=imap.get("mailbox", ""),
        mailbox_password=imap.get("password", ""),
        networks=tuple(ipaddress.ip_network(text) for text in stored.get("addresses") or ()),
    )
