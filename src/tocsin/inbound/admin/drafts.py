"""An integration as it would be with other mapping, rules, filters, routes or key: compiled as the live one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocsin.catalogue.kinds import Kind, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import commands, specs
from tocsin.inbound.admin.references import Names
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import Door
from tocsin.inbound.config.normalizer import Definition, compile_reader
from tocsin.inbound.config.registry import UnknownDoor
from tocsin.inbound.config.routes import Reference
from tocsin.inbound.models import Integration


def door_of(integration: Integration) -> Door:
    """The live door, as it decides now. Raises Rejected ("not_possible") where it cannot decide."""
    doors = registry.shared()
    doors.refresh()
    try:
        door = doors.door(integration.pk)
    except UnknownDoor:
        raise Rejected("not_possible", f"{integration.name} was deleted.") from None
    return door


def parts_of(integration: Integration, names: Names | None = None) -> dict[str, Any]:
    """What the integration sets for itself now, part by part, as people write it."""
    spec = commands.integration_spec(integration, names)
    return {key: spec[key] for key in specs.DEFINITION_KEYS if key in spec}


def drafted(integration: Integration, parts: Mapping[str, Any], names: Names | None = None) -> Door:
    """The door with those parts; what `parts` does not name stays as it is now, and an empty part is the kind's.

    Raises Rejected, or RejectedAll, naming each place as saving would, and `not_possible` for a kind that is unknown.
    """
    known = names or specs.names()
    kind = kind_of(integration)
    stored = specs.definition_of(kind, {**parts_of(integration, known), **parts}, integration.settings, known)
    return with_definition(door_of(integration), integration, stored, known)


def with_definition(door: Door, integration: Integration, stored: Mapping[str, Any], names: Names) -> Door:
    """The door by a definition as versions keep it. Raises Rejected where that does not compile here."""
    hours: dict[Reference, str] = dict(names.hours.items())
    definition = Definition(**{"settings": integration.settings, **stored})
    reader = compile_reader(kind_of(integration), definition, hours)
    return replace(door, reader=reader, version_id=None, problem=None)


def kind_of(integration: Integration) -> Kind:
    """Its kind. Raises Rejected ("not_possible") where this version does not know it."""
    kind = load_kinds().get(integration.kind)
    if kind is None:
        raise Rejected("not_possible", f"This version of Tocsin does not know the kind {integration.kind}.")
    return kind
