"""Maps PagerDuty's ids to names in the new configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, object_of, objects_of


@dataclass(slots=True)
class PagerdutyIdMap:
    """New names by PagerDuty id."""

    draft: ConfigBuilder
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    schedules: dict[str, str] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    #: The integrations of a service.
    services: dict[str, list[str]] = field(default_factory=dict)


def found(known: dict[str, str], reference: object) -> str | None:
    """Resolves a reference."""
    number = object_of(reference).get("id")
    return known.get(number) if isinstance(number, str) else None


def said(reference: object) -> str:
    """The PagerDuty name of a reference, for the report."""
    held = object_of(reference)
    return str(held.get("summary") or held.get("name") or held.get("id") or "somebody")[:100]


def number_of(document: JsonObject) -> str:
    """The id of a document."""
    return str(document.get("id") or "")


def owner(world: PagerdutyIdMap, document: JsonObject) -> str | None:
    """The group of the first known team that owns an object."""
    teams = objects_of(document.get("teams"))
    return next((name for team in teams if (name := found(world.groups, team))), None)
