"""Converts the documents of a PagerDuty account to a configuration and a report. Pure: `now` decides what is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.json_access import JsonObject, without_duplicates
from tocsin.importers.pagerduty import people, policies, schedules, services
from tocsin.importers.pagerduty import reasons as product_reasons
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap
from tocsin.importers.report import ConvertedConfig

_OMITTED_KINDS = {
    "orchestrations": (
        "event orchestrations",
        product_reasons.EVENT_RULES(),
        product_reasons.SET_ROUTES_WHERE_NEEDED(),
    ),
    "rulesets": ("rulesets", product_reasons.ROUTE_EVENTS(), product_reasons.SET_ROUTES()),
    "business_services": ("business services", product_reasons.PAGE_NOBODY(), product_reasons.USE_TAG()),
}


def convert(
    documents: Mapping[str, list[JsonObject]],
    now: datetime,
    existing_users: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences. `with_keys`: integration keys become tokens."""
    builder = ConfigBuilder("PagerDuty", now, existing_users)
    id_map = PagerdutyIdMap(builder)

    def documents_of(kind: str) -> list[JsonObject]:
        return without_duplicates(documents.get(kind, []))

    people.users(id_map, documents_of("users"))
    people.groups(id_map, documents_of("teams"))
    schedules.schedules(id_map, documents_of("schedules"))
    policies.policies(id_map, documents_of("escalation_policies"), documents_of("services"))
    services.services(id_map, documents_of("services"), with_keys=with_keys)
    services.windows(id_map, documents_of("maintenance_windows"))
    for kind, (label, reason, remedy) in _OMITTED_KINDS.items():
        builder.report_kind_omitted(label, documents_of(kind), reason, remedy)
    builder.report_unreadable(documents_of("not_shown"))
    return builder.build()
