"""Converts OnCall's integrations with the chain of their default route; conditions of other routes are reported.
Pure."""

from __future__ import annotations

from typing import Any

from tocsin.importers import reasons
from tocsin.importers.grafana_oncall import reasons as product_reasons
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
            reasons.HAVE_NO_POLICY(),
            product_reasons.NO_DEFAULT_CHAIN(),
            reasons.CHOOSE_POLICY_AND_RECIPIENTS(),
        )
    builder.add("integrations", entry)
    for route in routes:
        if not route.get("is_the_last_route") and id_of(route) != id_of(object_of(document.get("default_route"))):
            pattern = " ".join(str(route.get("routing_regex") or "").split())[:200]
            target = id_map.policies.get(str(route.get("escalation_chain_id") or ""), "no policy")
            builder.report_omitted(
                product_reasons.ROUTE_TO(integration=name, target=target),
                product_reasons.ROUTE_NOT_IMPORTED(pattern=pattern),
                product_reasons.TEMPLATE_ROUTE(),
                reasons.ADD_ROUTE(),
            )
    _report_senders(id_map, name, kind, source_type)


def _report_senders(id_map: GrafanaIdMap, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "email":
            difference, remedy = reasons.WAIT_FOR_EMAILS(), reasons.CHANGE_TO_GUIDE_ADDRESS()
            reason = product_reasons.STILL_WRITE()
        case "api":
            difference, remedy = (
                reasons.GENERIC_KIND(kind=source_type[:60]),
                product_reasons.SET_URL_AND_MAP(),
            )
            reason = product_reasons.OWN_TEMPLATE()
        case _:
            difference, remedy = (
                reasons.WAIT_FOR_SENDERS(),
                product_reasons.CHANGE_URL(),
            )
            reason = product_reasons.STILL_SEND()
    id_map.builder.report_grouped(FindingSeverity.TO_DO, "integrations", name, difference, reason, remedy)
