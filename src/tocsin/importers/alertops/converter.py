"""Converts the documents of an AlertOps account to a configuration and a report. Pure: `now` decides what is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.importers import reasons
from tocsin.importers.alertops import integrations, people, policies, schedules
from tocsin.importers.alertops import reasons as product_reasons
from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import ConvertedConfig


def convert(
    documents: Mapping[str, list[JsonObject]],
    now: datetime,
    existing_users: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences.

    AlertOps has one key for all integrations, so none is used as a token.
    """
    del with_keys
    builder = ConfigBuilder("AlertOps", now, existing_users)

    def documents_of(kind: str) -> list[JsonObject]:
        return list(documents.get(kind, []))

    users = people.users(builder, documents_of("users"))
    groups = people.groups(builder, documents_of("groups"), users)
    schedules.schedules(builder, documents_of("groups"), groups, users)
    policy_names = policies.policies(builder, documents_of("escalation_policies"))
    integrations.integrations(builder, documents_of("integrations"), groups, users, policy_names)
    builder.report_kind_omitted(
        "workflows", documents_of("workflows"), product_reasons.WORKFLOWS_NOT_IMPORTED(), product_reasons.CREATE_THEM()
    )
    builder.report_to_do(
        product_reasons.OUT_OF_OFFICE(),
        reasons.NOT_READ(),
        product_reasons.API_UNDOCUMENTED(),
        product_reasons.ENTER_ABSENCES(),
    )
    builder.report_unreadable(documents_of("not_shown"))
    return builder.build()
