"""Converts the documents of a PagerDuty account to a configuration and a report. Pure: `now` decides what is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.json_access import JsonObject, each_once
from tocsin.importers.pagerduty import people, policies, schedules, services
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap
from tocsin.importers.report import ConvertedConfig

_NOT_CARRIED = {
    "orchestrations": (
        "event orchestrations",
        "Rules there change and route events before a service has them; here each integration has its own.",
        "Set routes and filters on the integrations that need them.",
    ),
    "rulesets": ("rulesets", "They route events to services there.", "Set routes and filters on the integrations."),
    "business_services": ("business services", "They page nobody.", "A tag may take their place."),
}


def translate(
    documents: Mapping[str, list[JsonObject]],
    now: datetime,
    known: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences. `with_keys`: integration keys become tokens."""
    draft = ConfigBuilder("PagerDuty", now, known)
    world = PagerdutyIdMap(draft)

    def of(kind: str) -> list[JsonObject]:
        return each_once(documents.get(kind, []))

    people.users(world, of("users"))
    people.groups(world, of("teams"))
    schedules.schedules(world, of("schedules"))
    policies.policies(world, of("escalation_policies"), of("services"))
    services.services(world, of("services"), with_keys=with_keys)
    services.windows(world, of("maintenance_windows"))
    for kind, (what, why, remedy) in _NOT_CARRIED.items():
        draft.not_carried(what, of(kind), why, remedy)
    draft.not_read(of("not_shown"))
    return draft.translation()
