"""Maps OnCall's ids to names in the new configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject


@dataclass(slots=True)
class GrafanaIdMap:
    """New names by OnCall id."""

    builder: ConfigBuilder
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    schedules: dict[str, str] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)

    def known_usernames(self, ids: object) -> list[str]:
        """The usernames for a list of ids, without duplicates and unknown users."""
        items = ids if isinstance(ids, list) else []
        return list(dict.fromkeys(self.users[item] for item in items if isinstance(item, str) and item in self.users))

    def group(self, document: JsonObject) -> str | None:
        """The group for an object's team."""
        return self.groups.get(str(document.get("team_id") or ""))


def id_of(document: JsonObject) -> str:
    """The id of a document."""
    return str(document.get("id") or "")
