"""Converts PagerDuty's services to integrations, one for each integration of a service. Pure."""

from __future__ import annotations

import re
from typing import Any

from tocsin.importers import maintenance
from tocsin.importers.json_access import JsonObject, moment, object_of, objects_of, text_of
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap, found, number_of, owner
from tocsin.importers.report import FindingSeverity

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)
#: Senders of PagerDuty events, whatever their name.
_EVENTS = ("generic_events_api", "events_api_v2", "nagios", "prometheus", "grafana", "alertmanager")
#: For services with a constant urgency: every severity mapped to one priority.
_CONSTANT = {
    "high": {"critical": "critical", "error": "high", "warning": "high", "info": "high"},
    "low": {"critical": "low", "error": "low", "warning": "low", "info": "low"},
}


def services(world: PagerdutyIdMap, documents: list[JsonObject], *, with_keys: bool) -> None:
    """Adds every service; integration keys become tokens if requested."""
    for document in documents:
        _service(world, document, with_keys=with_keys)


def windows(world: PagerdutyIdMap, documents: list[JsonObject]) -> None:
    """Adds upcoming maintenance windows, during which their services open no incidents."""
    for document in documents:
        of = [
            name
            for service in objects_of(document.get("services"))
            for name in world.services.get(number_of(service), [])
        ]
        wanted = text_of(document, "description", "summary", "id") or "Maintenance"
        maintenance.window(
            world.draft, wanted, moment(document.get("start_time")), moment(document.get("end_time")), of
        )


def _service(world: PagerdutyIdMap, document: JsonObject, *, with_keys: bool) -> None:
    wanted = str(document.get("name") or document.get("summary") or "")
    several = [one for one in objects_of(document.get("integrations")) if one.get("type") or one.get("id")]
    common = _common(world, document, wanted)
    for one in several or [{}]:
        own = str(one.get("name") or one.get("summary") or "").strip()
        name = world.draft.name("integrations", f"{wanted}: {own}" if len(several) > 1 and own else wanted)
        world.services.setdefault(number_of(document), []).append(name)
        kind = _kind(one)
        entry: dict[str, Any] = {"name": name, "kind": kind, **common}
        if kind == "pagerduty":
            entry |= _urgency(world, document, name)
        key = one.get("integration_key")
        if with_keys and kind == "pagerduty" and isinstance(key, str) and _TOKEN.fullmatch(key):
            entry["token"] = key
        world.draft.add("integrations", entry)
        _tell_senders(world, name, kind, own or kind)


def _common(world: PagerdutyIdMap, document: JsonObject, wanted: str) -> dict[str, Any]:
    """The policy and recipients of the service."""
    group, policy = owner(world, document), found(world.policies, document.get("escalation_policy"))
    entry: dict[str, Any] = {"group": group, "recipients": {"groups": [group]} if group else {}}
    if document.get("status") == "disabled":
        entry["mode"] = "disabled"
    if isinstance(document.get("auto_resolve_timeout"), int):
        world.draft.together(
            FindingSeverity.CHANGED,
            "services",
            wanted,
            "do not close alerts by themselves",
            "They resolve incidents after a time in PagerDuty; here only its sender or a person closes an alert.",
        )
    if policy is None:
        world.draft.to_do(
            f"service {wanted}",
            "has no policy that pages anybody",
            "Its policy there could not be carried over.",
            "Choose one on the Settings tab.",
        )
        return entry | {"anyway": True}
    return entry | {"escalation_policy": policy}


def _kind(one: JsonObject) -> str:
    kind = str(one.get("type") or "").removesuffix("_reference")
    if "email" in kind:
        return "email"
    vendor = str(object_of(one.get("vendor")).get("summary") or "").lower()
    if not kind or any(name in kind or name in vendor for name in _EVENTS):
        return "pagerduty"
    return "api"


def _urgency(world: PagerdutyIdMap, document: JsonObject, name: str) -> dict[str, Any]:
    """Converts urgency to priorities: by severity, or one priority for a constant urgency."""
    rule = object_of(document.get("incident_urgency_rule"))
    urgency = str(rule.get("urgency") or "")
    if rule.get("type") == "use_support_hours":
        world.draft.change(
            f"integration {name}",
            "has priorities by severity at all hours",
            "Its urgency in PagerDuty differs within and outside of support hours.",
            "Make support hours, and a route for each.",
        )
        return {}
    return {"settings": {"priorities": _CONSTANT[urgency]}} if urgency in _CONSTANT else {}


def _tell_senders(world: PagerdutyIdMap, name: str, kind: str, there: str) -> None:
    match kind:
        case "pagerduty":
            what, why = "wait for their senders", "Those still send to PagerDuty."
            remedy = "Change the senders' address to this Tocsin's, and their routing key to the integration's token."
        case "email":
            what, why = "wait for mails", "Their senders still write to PagerDuty's address."
            remedy = "Change it to the address on the integration's Guide tab."
        case _:
            what = f"are general ones here, {there[:60]} there"
            why = "It sends in its own form, which PagerDuty turns into events."
            remedy = "Give it the integration's URL and map its first message; or take a kind of the catalogue."
    world.draft.together(FindingSeverity.TO_DO, "integrations", name, what, why, remedy)
