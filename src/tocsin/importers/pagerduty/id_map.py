"""Maps PagerDuty's ids to names in the new configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, object_of, objects_of


@dataclass(slots=True)
class PagerdutyIdMap:
    """New names by PagerDuty id."""

    builder: ConfigBuilder
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    schedules: dict[str, str] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    #: The integrations of a service.
    services: dict[str, list[str]] = field(default_factory=dict)


def resolve(names: dict[str, str], reference: object) -> str | None:
    """Resolves a reference."""
    document_id = object_of(reference).get("id")
    return names.get(document_id) if isinstance(document_id, str) else None


def reference_label(reference: object) -> str:
    """The PagerDuty name of a reference, for the report."""
    document = object_of(reference)
    return str(document.get("summary") or document.get("name") or document.get("id") or "somebody")[:100]


def id_of(document: JsonObject) -> str:
    """The id of a document."""
    return str(document.get("id") or "")


def owner_group(id_map: PagerdutyIdMap, document: JsonObject) -> str | None:
    """The group of the first known team that owns an object."""
    teams = objects_of(document.get("teams"))
    return next((name for team in teams if (name := resolve(id_map.groups, team))), None)
