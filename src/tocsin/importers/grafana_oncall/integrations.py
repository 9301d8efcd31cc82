"""Converts OnCall's integrations with the chain of their default route; conditions of other routes are reported.
Pure."""

from __future__ import annotations

from typing import Any

from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, number_of
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
_BY_HAND = frozenset({"direct_paging", "manual", "maintenance"})


def integrations(world: GrafanaIdMap, documents: list[JsonObject], routes: list[JsonObject]) -> None:
    """Adds every integration that receives alerts."""
    for document in documents:
        there = str(document.get("type") or "webhook").lower()
        if there not in _BY_HAND:
            own = [route for route in routes if route.get("integration_id") == document.get("id")]
            _integration(world, document, there, own)


def _integration(world: GrafanaIdMap, document: JsonObject, there: str, routes: list[JsonObject]) -> None:
    draft = world.draft
    name = draft.name("integrations", document.get("name"))
    kind = _KINDS.get(there, "api")
    group = world.group(document)
    entry: dict[str, Any] = {"name": name, "kind": kind, "group": group}
    entry["recipients"] = {"groups": [group]} if group else {}
    last = next((route for route in routes if route.get("is_the_last_route")), {})
    chain = object_of(document.get("default_route")).get("escalation_chain_id") or last.get("escalation_chain_id")
    policy = world.policies.get(str(chain or ""))
    if policy is not None:
        entry["escalation_policy"] = policy
    else:
        entry["anyway"] = True
        draft.together(
            FindingSeverity.TO_DO,
            "integrations",
            name,
            "have no policy that pages anybody",
            "Their default route there has no chain, or one that could not be carried over.",
            "Choose a policy and recipients on the Settings tab.",
        )
    draft.add("integrations", entry)
    for route in routes:
        if not route.get("is_the_last_route") and number_of(route) != number_of(
            object_of(document.get("default_route"))
        ):
            asks = " ".join(str(route.get("routing_regex") or "").split())[:200]
            leads = world.policies.get(str(route.get("escalation_chain_id") or ""), "no policy")
            draft.leave_out(
                f"integration {name}: route to {leads}",
                f"is not here ({asks})",
                "It asks by a template or a pattern over the whole message; a route here asks by fields.",
                "Add a route on the Routing tab.",
            )
    _tell_senders(world, name, kind, there)


def _tell_senders(world: GrafanaIdMap, name: str, kind: str, there: str) -> None:
    match kind:
        case "email":
            what, remedy = "wait for mails", "Change it to the address on the integration's Guide tab."
            why = "Their senders still write to OnCall's address."
        case "api":
            what, remedy = (
                f"are general ones here, {there[:60]} there",
                "Give senders its URL, and map the first message.",
            )
            why = "OnCall reads this format by a template of its own."
        case _:
            what, remedy = "wait for their senders", "Change the address that they send to to the integration's URL."
            why = "Those still send to OnCall."
    world.draft.together(FindingSeverity.TO_DO, "integrations", name, what, why, remedy)
