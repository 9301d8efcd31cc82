"""Converts PagerDuty's services to integrations, one for each integration of a service. Pure."""

from __future__ import annotations

import re
from typing import Any

from tocsin.importers import maintenance, reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of, parse_time, text_of
from tocsin.importers.pagerduty import reasons as product_reasons
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
            product_reasons.NO_AUTO_CLOSE(),
            product_reasons.AUTO_RESOLVE_THERE(),
        )
    if policy is None:
        id_map.builder.report_to_do(
            product_reasons.SERVICE(service=source_name),
            product_reasons.HAS_NO_POLICY(),
            product_reasons.POLICY_MISSING(),
            product_reasons.CHOOSE_POLICY(),
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
            reasons.INTEGRATION(integration=name),
            product_reasons.PRIORITY_BY_SEVERITY(),
            product_reasons.URGENCY_BY_HOURS(),
            product_reasons.CREATE_SUPPORT_HOURS(),
        )
        return {}
    return {"settings": {"priorities": _CONSTANT_URGENCY[urgency]}} if urgency in _CONSTANT_URGENCY else {}


def _report_senders(id_map: PagerdutyIdMap, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "pagerduty":
            difference, reason = reasons.WAIT_FOR_SENDERS(), product_reasons.STILL_SEND()
            remedy = product_reasons.CHANGE_URL_AND_KEY()
        case "email":
            difference, reason = reasons.WAIT_FOR_EMAILS(), product_reasons.STILL_WRITE()
            remedy = reasons.CHANGE_TO_GUIDE_ADDRESS()
        case _:
            difference = reasons.GENERIC_KIND(kind=source_type[:60])
            reason = product_reasons.OWN_FORMAT()
            remedy = reasons.SET_URL_OR_CHOOSE_KIND()
    id_map.builder.report_grouped(FindingSeverity.TO_DO, "integrations", name, difference, reason, remedy)
