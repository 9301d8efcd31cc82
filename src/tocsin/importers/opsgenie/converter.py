"""Converts the documents of an Opsgenie account to a configuration and a report. Pure: `now` decides what is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.json_access import without_duplicates
from tocsin.importers.opsgenie import integrations, maintenance, people, policies, schedules
from tocsin.importers.opsgenie import reasons as product_reasons
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap
from tocsin.importers.report import ConvertedConfig

_OMITTED_KINDS = {
    "alert_policies": (
        "alert and notification policies",
        product_reasons.GLOBAL_RULES(),
        product_reasons.SET_ON_INTEGRATIONS(),
    ),
    "services": ("services", product_reasons.NO_INCIDENTS(), product_reasons.USE_TAGS()),
}


def convert(
    documents: Mapping[str, list[dict[str, Any]]],
    now: datetime,
    existing_users: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences. `with_keys`: API keys in the documents become tokens."""
    builder = ConfigBuilder("Opsgenie", now, existing_users)
    id_map = OpsgenieIdMap(builder)

    def documents_of(kind: str) -> list[dict[str, Any]]:
        return without_duplicates(documents.get(kind, []))

    people.users(id_map, documents_of("users"), documents_of("forwardings"))
    people.groups(id_map, documents_of("teams"))
    schedules.schedules(id_map, documents_of("schedules"))
    policies.policies(id_map, documents_of("escalations"))
    # Heartbeats first: their names are part of senders' URLs and must not change.
    integrations.heartbeats(id_map, documents_of("heartbeats"))
    integrations.integrations(id_map, documents_of("integrations"), with_keys=with_keys)
    maintenance.windows(id_map, documents_of("maintenances"))
    for kind, (label, reason, remedy) in _OMITTED_KINDS.items():
        builder.report_kind_omitted(label, documents_of(kind), reason, remedy)
    builder.report_unreadable(documents_of("not_shown"))
    return builder.build()
