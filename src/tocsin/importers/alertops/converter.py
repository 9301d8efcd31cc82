"""Converts the documents of an AlertOps account to a configuration and a report. Pure: `now` decides what is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.importers.alertops import integrations, people, policies, schedules
from tocsin.importers.config_builder import ConfigBuilder, ExistingUser
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import ConvertedConfig


def translate(
    documents: Mapping[str, list[JsonObject]],
    now: datetime,
    known: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences.

    AlertOps has one key for all integrations, so none is used as a token.
    """
    del with_keys
    draft = ConfigBuilder("AlertOps", now, known)

    def of(kind: str) -> list[JsonObject]:
        return list(documents.get(kind, []))

    users = people.users(draft, of("users"))
    groups = people.groups(draft, of("groups"), users)
    schedules.schedules(draft, of("groups"), groups, users)
    named = policies.policies(draft, of("escalation_policies"))
    integrations.integrations(draft, of("integrations"), groups, users, named)
    draft.not_carried("workflows", of("workflows"), "Workflows are not carried over.", "Make them here.")
    draft.to_do(
        "out of office", "is not read", "Its form in the API is not documented.", "Enter who is away, and who covers."
    )
    draft.not_read(of("not_shown"))
    return draft.translation()
