"""Converts the documents of a Grafana OnCall instance to a configuration and a report. Pure: `now` decides what is
over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.grafana_oncall import integrations, people, policies, schedules
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap
from tocsin.importers.json_access import JsonObject, each_once
from tocsin.importers.report import ConvertedConfig


def translate(
    documents: Mapping[str, list[JsonObject]],
    now: datetime,
    known: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences. OnCall's keys are too short to be used as tokens."""
    del with_keys
    draft = ConfigBuilder("Grafana OnCall", now, known)
    world = GrafanaIdMap(draft)

    def of(kind: str) -> list[JsonObject]:
        return each_once(documents.get(kind, []))

    people.users(world, of("users"), of("personal_notification_rules"))
    people.groups(world, of("teams"), of("users"))
    schedules.schedules(world, of("schedules"), of("on_call_shifts"))
    policies.policies(world, of("escalation_chains"), of("escalation_policies"))
    integrations.integrations(world, of("integrations"), of("routes"))
    draft.not_carried("webhooks", of("webhooks"), "They call other systems.", "Make outbound integrations.")
    draft.not_read(of("not_shown"))
    return draft.translation()
