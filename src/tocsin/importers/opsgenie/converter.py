"""Converts the documents of an Opsgenie account to a configuration and a report. Pure: `now` decides what is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.json_access import each_once
from tocsin.importers.opsgenie import integrations, maintenance, people, policies, schedules
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap
from tocsin.importers.report import ConvertedConfig

_NOT_CARRIED = {
    "alert_policies": (
        "alert and notification policies",
        "Rules there change, delay or close alerts of every integration; here each integration has its own.",
        "Set filters, routes and mapping on the integrations that need them.",
    ),
    "services": ("services", "Incidents and services are not part of Tocsin.", "Tags and routes may take their place."),
}


def translate(
    documents: Mapping[str, list[dict[str, Any]]],
    now: datetime,
    known: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences. `with_keys`: API keys in the documents become tokens."""
    draft = ConfigBuilder("Opsgenie", now, known)
    world = OpsgenieIdMap(draft)

    def of(kind: str) -> list[dict[str, Any]]:
        return each_once(documents.get(kind, []))

    people.users(world, of("users"), of("forwardings"))
    people.groups(world, of("teams"))
    schedules.schedules(world, of("schedules"))
    policies.policies(world, of("escalations"))
    # Heartbeats first: their names are part of senders' URLs and must not change.
    integrations.heartbeats(world, of("heartbeats"))
    integrations.integrations(world, of("integrations"), with_keys=with_keys)
    maintenance.windows(world, of("maintenances"))
    for kind, (what, why, remedy) in _NOT_CARRIED.items():
        draft.not_carried(what, of(kind), why, remedy)
    draft.not_read(of("not_shown"))
    return draft.translation()
