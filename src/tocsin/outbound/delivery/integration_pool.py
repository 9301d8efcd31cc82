"""The open outbound integrations of a process, reloaded when the configuration changes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tocsin.core.config import secret_bundle
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.live_pool import LivePool
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


class IntegrationPool(LivePool[int, ActiveIntegration]):
    """The open integrations by id. All of them share one HTTP client."""

    def __init__(self) -> None:
        super().__init__()
        self.client = HttpClient()
        #: Why an integration cannot be used, by id.
        self.problems: Mapping[int, Reason] = {}
        self._active: Mapping[int, ActiveIntegration] = {}

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
        for row in database.rows(
            connection, "SELECT id, name, kind, settings, secrets FROM outbound_outboundintegration WHERE is_enabled"
        ):
            # Unchanged integrations keep their sender, and so their token.
            configuration = [row["name"], row["kind"], row["settings"], row["secrets"]]
            try:
                active[row["id"]] = self._reuse_or_open(
                    row["id"], configuration, partial(open_integration, row, self.client)
                )
            except Permanent as error:
                problems[row["id"]] = error.full_reason
                log.error("The outbound integration %s cannot be used: %s", row["name"], error)
        self._active, self.problems = active, problems

    def _close_item(self, item: ActiveIntegration) -> None:
        """The shared client closes the connections."""


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
