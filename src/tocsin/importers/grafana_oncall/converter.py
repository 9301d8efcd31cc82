"""Converts the documents of a Grafana OnCall instance to a configuration and a report. Pure: `now` decides what is
over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.grafana_oncall import integrations, people, policies, schedules
from tocsin.importers.grafana_oncall import reasons as product_reasons
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap
from tocsin.importers.json_access import JsonObject, without_duplicates
from tocsin.importers.report import ConvertedConfig


def convert(
    documents: Mapping[str, list[JsonObject]],
    now: datetime,
    existing_users: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences. OnCall's keys are too short to be used as tokens."""
    del with_keys
    builder = ConfigBuilder("Grafana OnCall", now, existing_users)
    id_map = GrafanaIdMap(builder)

    def documents_of(kind: str) -> list[JsonObject]:
        return without_duplicates(documents.get(kind, []))

    people.users(id_map, documents_of("users"), documents_of("personal_notification_rules"))
    people.groups(id_map, documents_of("teams"), documents_of("users"))
    schedules.schedules(id_map, documents_of("schedules"), documents_of("on_call_shifts"))
    policies.policies(id_map, documents_of("escalation_chains"), documents_of("escalation_policies"))
    integrations.integrations(id_map, documents_of("integrations"), documents_of("routes"))
    builder.report_kind_omitted(
        "webhooks",
        documents_of("webhooks"),
        product_reasons.CALL_OTHER_SYSTEMS(),
        product_reasons.CREATE_OUTBOUND_INTEGRATIONS(),
    )
    builder.report_unreadable(documents_of("not_shown"))
    return builder.build()
