"""Converts PagerDuty's services to integrations, one for each integration of a service. Pure."""

from __future__ import annotations

import re
from typing import Any

from tocsin.importers import maintenance
from tocsin.importers.json_access import JsonObject, object_of, objects_of, parse_time, text_of
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap, id_of, owner_group, resolve
from tocsin.importers.report import FindingSeverity

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)
#: Senders of PagerDuty events, whatever their name.
_EVENTS = ("generic_events_api", "events_api_v2", "nagios", "prometheus", "grafana", "alertmanager")
#: For services with a constant urgency: every severity mapped to one priority.
_CONSTANT_URGENCY = {
    "high": {"critical": "critical", "error": "high", "warning": "high", "info": "high"},
    "low": {"critical": "low", "error": "low", "warning": "low", "info": "low"},
}


def services(id_map: PagerdutyIdMap, documents: list[JsonObject], *, with_keys: bool) -> None:
    """Adds every service; integration keys become tokens if requested."""
    for document in documents:
        _service(id_map, document, with_keys=with_keys)


def windows(id_map: PagerdutyIdMap, documents: list[JsonObject]) -> None:
    """Adds upcoming maintenance windows, during which their services open no incidents."""
    for document in documents:
        integration_names = [
            name for service in objects_of(document.get("services")) for name in id_map.services.get(id_of(service), [])
        ]
        window_name = text_of(document, "description", "summary", "id") or "Maintenance"
        maintenance.window(
            id_map.builder,
            window_name,
            parse_time(document.get("start_time")),
            parse_time(document.get("end_time")),
            integration_names,
        )


def _service(id_map: PagerdutyIdMap, document: JsonObject, *, with_keys: bool) -> None:
    source_name = str(document.get("name") or document.get("summary") or "")
    source_integrations = [
        source_integration
        for source_integration in objects_of(document.get("integrations"))
        if source_integration.get("type") or source_integration.get("id")
    ]
    shared_entry = _common(id_map, document, source_name)
    for source_integration in source_integrations or [{}]:
        label = str(source_integration.get("name") or source_integration.get("summary") or "").strip()
        name = id_map.builder.claim_name(
            "integrations", f"{source_name}: {label}" if len(source_integrations) > 1 and label else source_name
        )
        id_map.services.setdefault(id_of(document), []).append(name)
        kind = _kind(source_integration)
        entry: dict[str, Any] = {"name": name, "kind": kind, **shared_entry}
        if kind == "pagerduty":
            entry |= _urgency(id_map, document, name)
        key = source_integration.get("integration_key")
        if with_keys and kind == "pagerduty" and isinstance(key, str) and _TOKEN.fullmatch(key):
            entry["token"] = key
        id_map.builder.add("integrations", entry)
        _report_senders(id_map, name, kind, label or kind)


def _common(id_map: PagerdutyIdMap, document: JsonObject, source_name: str) -> dict[str, Any]:
    """The policy and recipients of the service."""
    group, policy = owner_group(id_map, document), resolve(id_map.policies, document.get("escalation_policy"))
    entry: dict[str, Any] = {"group": group, "recipients": {"groups": [group]} if group else {}}
    if document.get("status") == "disabled":
        entry["mode"] = "disabled"
    if isinstance(document.get("auto_resolve_timeout"), int):
        id_map.builder.report_grouped(
            FindingSeverity.CHANGED,
            "services",
            source_name,
            "do not close alerts by themselves",
            "They resolve incidents after a time in PagerDuty; here only its sender or a person closes an alert.",
        )
    if policy is None:
        id_map.builder.report_to_do(
            f"service {source_name}",
            "has no policy that pages anybody",
            "Its policy there could not be carried over.",
            "Choose one on the Settings tab.",
        )
        return entry | {"anyway": True}
    return entry | {"escalation_policy": policy}


def _kind(source_integration: JsonObject) -> str:
    kind = str(source_integration.get("type") or "").removesuffix("_reference")
    if "email" in kind:
        return "email"
    vendor = str(object_of(source_integration.get("vendor")).get("summary") or "").lower()
    if not kind or any(name in kind or name in vendor for name in _EVENTS):
        return "pagerduty"
    return "api"


def _urgency(id_map: PagerdutyIdMap, document: JsonObject, name: str) -> dict[str, Any]:
    """Converts urgency to priorities: by severity, or one priority for a constant urgency."""
    rule = object_of(document.get("incident_urgency_rule"))
    urgency = str(rule.get("urgency") or "")
    if rule.get("type") == "use_support_hours":
        id_map.builder.report_changed(
            f"integration {name}",
            "has priorities by severity at all hours",
            "Its urgency in PagerDuty differs within and outside of support hours.",
            "Make support hours, and a route for each.",
        )
        return {}
    return {"settings": {"priorities": _CONSTANT_URGENCY[urgency]}} if urgency in _CONSTANT_URGENCY else {}


def _report_senders(id_map: PagerdutyIdMap, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "pagerduty":
            difference, reason = "wait for their senders", "Those still send to PagerDuty."
            remedy = "Change the senders' address to this Tocsin's, and their routing key to the integration's token."
        case "email":
            difference, reason = "wait for mails", "Their senders still write to PagerDuty's address."
            remedy = "Change it to the address on the integration's Guide tab."
        case _:
            difference = f"are general ones here, {source_type[:60]} there"
            reason = "It sends in its own form, which PagerDuty turns into events."
            remedy = "Give it the integration's URL and map its first message; or take a kind of the catalogue."
    id_map.builder.report_grouped(FindingSeverity.TO_DO, "integrations", name, difference, reason, remedy)
