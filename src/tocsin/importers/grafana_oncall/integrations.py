"""Converts OnCall's integrations with the chain of their default route; conditions of other routes are reported.
Pure."""

from __future__ import annotations

from typing import Any

from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, id_of
from tocsin.importers.json_access import JsonObject, object_of
from tocsin.importers.report import FindingSeverity

_KINDS = {
    "alertmanager": "alertmanager",
    "legacy_alertmanager": "alertmanager",
    "grafana": "grafana",
    "grafana_alerting": "grafana",
    "legacy_grafana_alerting": "grafana",
    "inbound_email": "email",
    "heartbeat": "heartbeat",
}
#: Types without an equivalent: in Tocsin, manual alerts need no integration.
_MANUAL_TYPES = frozenset({"direct_paging", "manual", "maintenance"})


def integrations(id_map: GrafanaIdMap, documents: list[JsonObject], routes: list[JsonObject]) -> None:
    """Adds every integration that receives alerts."""
    for document in documents:
        source_type = str(document.get("type") or "webhook").lower()
        if source_type not in _MANUAL_TYPES:
            own_routes = [route for route in routes if route.get("integration_id") == document.get("id")]
            _integration(id_map, document, source_type, own_routes)


def _integration(id_map: GrafanaIdMap, document: JsonObject, source_type: str, routes: list[JsonObject]) -> None:
    builder = id_map.builder
    name = builder.claim_name("integrations", document.get("name"))
    kind = _KINDS.get(source_type, "api")
    group = id_map.group(document)
    entry: dict[str, Any] = {"name": name, "kind": kind, "group": group}
    entry["recipients"] = {"groups": [group]} if group else {}
    last_route = next((route for route in routes if route.get("is_the_last_route")), {})
    chain = object_of(document.get("default_route")).get("escalation_chain_id") or last_route.get("escalation_chain_id")
    policy = id_map.policies.get(str(chain or ""))
    if policy is not None:
        entry["escalation_policy"] = policy
    else:
        entry["anyway"] = True
        builder.report_grouped(
            FindingSeverity.TO_DO,
            "integrations",
            name,
            "have no policy that pages anybody",
            "Their default route there has no chain, or one that could not be carried over.",
            "Choose a policy and recipients on the Settings tab.",
        )
    builder.add("integrations", entry)
    for route in routes:
        if not route.get("is_the_last_route") and id_of(route) != id_of(object_of(document.get("default_route"))):
            pattern = " ".join(str(route.get("routing_regex") or "").split())[:200]
            target = id_map.policies.get(str(route.get("escalation_chain_id") or ""), "no policy")
            builder.report_omitted(
                f"integration {name}: route to {target}",
                f"is not here ({pattern})",
                "It asks by a template or a pattern over the whole message; a route here asks by fields.",
                "Add a route on the Routing tab.",
            )
    _report_senders(id_map, name, kind, source_type)


def _report_senders(id_map: GrafanaIdMap, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "email":
            difference, remedy = "wait for mails", "Change it to the address on the integration's Guide tab."
            reason = "Their senders still write to OnCall's address."
        case "api":
            difference, remedy = (
                f"are general ones here, {source_type[:60]} there",
                "Give senders its URL, and map the first message.",
            )
            reason = "OnCall reads this format by a template of its own."
        case _:
            difference, remedy = (
                "wait for their senders",
                "Change the address that they send to to the integration's URL.",
            )
            reason = "Those still send to OnCall."
    id_map.builder.report_grouped(FindingSeverity.TO_DO, "integrations", name, difference, reason, remedy)
