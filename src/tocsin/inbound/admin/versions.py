"""Saved versions of an integration's definition: compares two, and restores one as a new version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.inbound.admin import commands, references, specs
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.models import Integration, IntegrationVersion

_NO_SUCH_VERSION = ReasonType("integration.no_such_version", "{integration} has no version {number}.")


@dataclass(frozen=True, slots=True)
class DefinitionChange:
    """One part of a definition that differs between two versions; None: the kind's default."""

    part: str
    before: Any
    after: Any


def find_version(integration: Integration, number: int) -> IntegrationVersion:
    """Returns the integration's version with that number. Raises Rejected("not_found")."""
    version = integration.versions.filter(number=number).first() if number < 2**31 else None
    if version is None:
        raise Rejected("not_found", _NO_SUCH_VERSION(integration=integration.name, number=str(number)))
    return version


def describe_version(version: IntegrationVersion, names: ReferenceNames | None = None) -> dict[str, Any]:
    """Returns a version's definition as in a spec, with names instead of ids."""
    definition: dict[str, Any] = dict(version.definition)
    if "mapping" in definition:
        definition["mapping"] = specs.nest_custom_fields(definition["mapping"])
    if references.has_names(definition):
        definition = references.definition_with_names(definition, names or specs.load_reference_names())
    return {key: definition[key] for key in specs.DEFINITION_KEYS if key in definition}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[DefinitionChange, ...]:
    """Returns the parts in which two definitions, as `describe_version` returns them, differ."""
    return tuple(
        DefinitionChange(key, before.get(key), after.get(key))
        for key in specs.DEFINITION_KEYS
        if before.get(key) != after.get(key)
    )


def restore_version(integration: Integration, number: int, *, actor: AuditActor, now: datetime) -> Integration:
    """Restores an old version's definition by saving it as a new version.

    Raises Rejected("not_found"), or whatever saving raises, for example for a policy of that version that was deleted.
    """
    old_definition = describe_version(find_version(integration, number))
    with config_version.exclusive(integration):
        current_spec = commands.integration_spec(integration)
        spec = {key: part for key, part in current_spec.items() if key not in specs.DEFINITION_KEYS}
        return commands.save_integration({**spec, **old_definition}, existing=integration, actor=actor, now=now)
