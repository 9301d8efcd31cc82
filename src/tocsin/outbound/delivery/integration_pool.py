"""The open outbound integrations of a process, reloaded when the configuration changes."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tocsin.core.config import config_version, secret_bundle
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import Reason
from tocsin.outbound import hidden_settings
from tocsin.outbound.connectors.interfaces import ConnectorKind, IntegrationAccount, IntegrationSender
from tocsin.outbound.connectors.registry import KINDS
from tocsin.outbound.reasons import UNKNOWN_KIND

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActiveIntegration:
    """One open integration."""

    account: IntegrationAccount
    kind: ConnectorKind
    sender: IntegrationSender

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(self.account.secrets.values())


@dataclass(slots=True)
class IntegrationPool:
    """A pool read by many threads; its snapshot is replaced as a whole."""

    client: HttpClient = field(default_factory=HttpClient)
    #: Why an integration cannot be used, by id.
    problems: Mapping[int, Reason] = field(default_factory=dict)
    _active: Mapping[int, ActiveIntegration] = field(default_factory=dict)
    _fingerprints: dict[int, str] = field(default_factory=dict)
    _version: int = -1
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self, connection: Connection) -> None:
        """Reloads the pool if the configuration changed."""
        with self._lock:
            version = config_version.current_version(connection)
            if version != self._version:
                self._load(connection)
                self._version = version

    def get(self, integration_id: int) -> ActiveIntegration | None:
        """The integration with that id, or None if it is disabled or unusable."""
        return self._active.get(integration_id)

    def all(self) -> Mapping[int, ActiveIntegration]:
        """All usable integrations, by id."""
        return self._active

    def close(self) -> None:
        """Closes every connection."""
        self.client.close()

    def _load(self, connection: Connection) -> None:
        active: dict[int, ActiveIntegration] = {}
        problems: dict[int, Reason] = {}
        fingerprints: dict[int, str] = {}
        for row in database.rows(
            connection, "SELECT id, name, kind, settings, secrets FROM outbound_outboundintegration WHERE is_enabled"
        ):
            integration_id = row["id"]
            fingerprint = json.dumps(
                [row["name"], row["kind"], row["settings"], row["secrets"]], sort_keys=True, default=str
            )
            fingerprints[integration_id] = fingerprint
            if self._fingerprints.get(integration_id) == fingerprint and integration_id in self._active:
                # Unchanged integrations keep their sender, and so their token.
                active[integration_id] = self._active[integration_id]
                continue
            try:
                active[integration_id] = open_integration(row, self.client)
            except Permanent as error:
                problems[integration_id] = error.full_reason
                log.error("The outbound integration %s cannot be used: %s", row["name"], error)
        self._active, self.problems, self._fingerprints = active, problems, fingerprints


def open_integration(row: Mapping[str, Any], client: HttpClient) -> ActiveIntegration:
    """Opens an integration from its row. Raises Permanent if it cannot be used."""
    kind = KINDS.get(row["kind"])
    if kind is None:
        raise Permanent(UNKNOWN_KIND(kind=row["kind"]))
    settings, secrets = hidden_settings.reveal(
        row["settings"], secret_bundle.decrypt_bundle(row["secrets"]), kind.secret_settings
    )
    account = IntegrationAccount(row["id"], row["name"], settings, secrets)
    return ActiveIntegration(account, kind, kind.open_sender(account, client))
