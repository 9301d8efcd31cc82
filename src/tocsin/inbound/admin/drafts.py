"""An integration as it would be with other mapping, rules, filters, routes or key: compiled as the live one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocsin.catalogue.kinds import IntegrationKind, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import commands, specs
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_reader
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.config.routes import RouteReference
from tocsin.inbound.models import Integration


def door_of(integration: Integration) -> CompiledIntegration:
    """The live door, as it decides now. Raises Rejected ("not_possible") where it cannot decide."""
    doors = registry.shared()
    doors.refresh()
    try:
        door = doors.door(integration.pk)
    except UnknownIntegration:
        raise Rejected("not_possible", f"{integration.name} was deleted.") from None
    return door


def parts_of(integration: Integration, names: ReferenceNames | None = None) -> dict[str, Any]:
    """What the integration sets for itself now, part by part, as people write it."""
    spec = commands.integration_spec(integration, names)
    return {key: spec[key] for key in specs.DEFINITION_KEYS if key in spec}


def drafted(
    integration: Integration, parts: Mapping[str, Any], names: ReferenceNames | None = None
) -> CompiledIntegration:
    """The door with those parts; what `parts` does not name stays as it is now, and an empty part is the kind's.

    Raises Rejected, or RejectedAll, naming each place as saving would, and `not_possible` for a kind that is unknown.
    """
    known = names or specs.names()
    kind = kind_of(integration)
    stored = specs.definition_of(kind, {**parts_of(integration, known), **parts}, integration.settings, known)
    return with_definition(door_of(integration), integration, stored, known)


def with_definition(
    door: CompiledIntegration, integration: Integration, stored: Mapping[str, Any], names: ReferenceNames
) -> CompiledIntegration:
    """The door by a definition as versions keep it. Raises Rejected where that does not compile here."""
    hours: dict[RouteReference, str] = dict(names.hours.items())
    definition = IntegrationDefinition(**{"settings": integration.settings, **stored})
    reader = compile_reader(kind_of(integration), definition, hours)
    return replace(door, reader=reader, version_id=None, problem=None)


def kind_of(integration: Integration) -> IntegrationKind:
    """Its kind. Raises Rejected ("not_possible") where this version does not know it."""
    kind = load_kinds().get(integration.kind)
    if kind is None:
        raise Rejected("not_possible", f"This version of Tocsin does not know the kind {integration.kind}.")
    return kind
