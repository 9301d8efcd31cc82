"""Converts Opsgenie's maintenances, which disable integrations for a time. Pure.

See https://docs.opsgenie.com/docs/maintenance-api.
"""

from __future__ import annotations

from tocsin.importers import maintenance
from tocsin.importers.json_access import JsonObject, moment, object_of, objects_of, text_of
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, found


def windows(world: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds upcoming maintenances; those that enable or disable policies have no equivalent."""
    for document in documents:
        if str(document.get("status")).lower() in ("past", "cancelled"):
            continue
        wanted = text_of(document, "description", "name", "id") or "Maintenance"
        time = object_of(document.get("time"))
        of: list[str] = []
        policies = 0
        for rule in objects_of(document.get("rules")):
            entity = object_of(rule.get("entity"))
            if str(entity.get("type")).lower() != "integration":
                policies += 1
            elif (name := found(world.integrations, entity)) is not None:
                of.append(name)
        if policies and of:
            world.draft.change(
                f"maintenance {wanted}",
                "is about its integrations only",
                "It switches policies on or off in Opsgenie as well.",
            )
        maintenance.window(world.draft, wanted, moment(time.get("startDate")), moment(time.get("endDate")), of)
