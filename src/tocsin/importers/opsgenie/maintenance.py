"""Opsgenie's maintenances: the integrations that one switches off, from when until when. Pure.

https://docs.opsgenie.com/docs/maintenance-api
"""

from __future__ import annotations

from tocsin.importers import maintenance
from tocsin.importers.json_access import JsonObject, moment, object_of, objects_of, text_of
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, found


def windows(world: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds what is still to come; a policy that one switches on or off has no window here."""
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
