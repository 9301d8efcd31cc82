"""Converts Opsgenie's maintenances, which disable integrations for a time. Pure.

See https://docs.opsgenie.com/docs/maintenance-api.
"""

from __future__ import annotations

from tocsin.importers import maintenance, reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of, parse_time, text_of
from tocsin.importers.opsgenie import reasons as product_reasons
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, resolve


def windows(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds upcoming maintenances; those that enable or disable policies have no equivalent."""
    for document in documents:
        if str(document.get("status")).lower() in ("past", "cancelled"):
            continue
        window_name = text_of(document, "description", "name", "id") or "Maintenance"
        time = object_of(document.get("time"))
        integration_names: list[str] = []
        policy_count = 0
        for rule in objects_of(document.get("rules")):
            entity = object_of(rule.get("entity"))
            if str(entity.get("type")).lower() != "integration":
                policy_count += 1
            elif (name := resolve(id_map.integrations, entity)) is not None:
                integration_names.append(name)
        if policy_count and integration_names:
            id_map.builder.report_changed(
                reasons.MAINTENANCE(window=window_name),
                product_reasons.INTEGRATIONS_ONLY(),
                product_reasons.SWITCHES_POLICIES(),
            )
        maintenance.window(
            id_map.builder,
            window_name,
            parse_time(time.get("startDate")),
            parse_time(time.get("endDate")),
            integration_names,
        )
