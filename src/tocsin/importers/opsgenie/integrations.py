"""Converts Opsgenie's integrations and heartbeats, with their team's routing rules as routes. Pure."""

from __future__ import annotations

import re
from typing import Any

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.importers import reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.opsgenie import reasons as product_reasons
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, keys, open_windows, resolve, sort_by_order
from tocsin.importers.opsgenie.policies import by_schedule, default_notify
from tocsin.importers.report import FindingSeverity
from tocsin.inbound.expressions.conditions import compile_condition
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.oncall.calculation import weekly_windows

#: Senders that use Opsgenie's Alert API directly, so that only the URL changes.
_OPSGENIE_SENDERS = frozenset({"api", "prometheus", "grafana", "alertmanager", "oec", "marid", "terraform", "thanos"})
#: Integrations to which Opsgenie only sends.
_OUTGOING = frozenset(
    (
        *(
            "slack",
            "slackapp",
            "microsoftteams",
            "msteams",
            "msteamsv2",
            "mattermost",
            "flowdock",
            "hipchat",
            "campfire",
        ),
        *("zoom", "googlechat", "ringcentralglip", "xmpp", "twilio", "webhook", "statuspage"),
        *("jira", "jiracloud", "jiraservicedesk", "servicenow", "servicenowv3", "zendesk"),
    )
)
#: Opsgenie's fields as named in the kind `opsgenie`.
_FIELDS = {
    "message": "subject",
    "alias": "source_id",
    "description": "long_text",
    "source": "sent_by",
    "entity": "component_name",
    "tags": "labels",
    "priority": "severity",
    "teams": "recipient_groups",
    "recipients": "recipient_groups",
    "responders": "recipient_groups",
    "actions": "^actions",
}
_OPERATORS = {
    "contains": "contains",
    "starts-with": "starts with",
    "ends-with": "ends with",
    "equals": "equals",
    "equals-ignore-whitespace": "equals",
    "greater-than": "greater than",
    "less-than": "less than",
}
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)
_UNITS = {"minutes": "m", "hours": "h", "days": "d", "weeks": "w"}


def heartbeats(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every heartbeat under its own name: senders also ping /v2/heartbeats/NAME/ping here."""
    for heartbeat in documents:
        name = id_map.builder.claim_name("integrations", heartbeat.get("name"))
        unit = _UNITS.get(str(heartbeat.get("intervalUnit") or "minutes").lower(), "m")
        interval = heartbeat.get("interval")
        entry: dict[str, Any] = {"name": name, "kind": "heartbeat"}
        if isinstance(interval, int) and 0 < interval < 100_000:
            entry["settings"] = {"interval": f"{interval}{unit}"}
        if heartbeat.get("enabled") is False:
            entry["mode"] = "disabled"
        id_map.builder.add("integrations", entry | _recipients(id_map, object_of(heartbeat.get("ownerTeam")), name))
        id_map.builder.report_grouped(
            FindingSeverity.TO_DO,
            "heartbeats",
            name,
            product_reasons.WAIT_FOR_PING(),
            product_reasons.STILL_PING(),
            product_reasons.CHANGE_PING_URL(),
        )


def integrations(id_map: OpsgenieIdMap, documents: list[JsonObject], *, with_keys: bool) -> None:
    """Adds every integration that receives alerts; its key becomes the token if known and requested."""
    for document in documents:
        source_name, source_type = str(document.get("name") or ""), str(document.get("type") or "API")
        normalized_type = re.sub(r"[^a-z0-9]", "", source_type.lower())
        if normalized_type in _OUTGOING:
            id_map.builder.report_grouped(
                FindingSeverity.OMITTED,
                "integrations",
                f"{source_name} ({source_type})",
                reasons.NOT_IMPORTED(),
                product_reasons.OUTGOING(),
                product_reasons.CONNECT_SYSTEM(),
            )
            continue
        name = id_map.builder.claim_name("integrations", source_name)
        id_map.integrations |= dict.fromkeys(keys(document, "name"), name)
        kind = (
            "opsgenie"
            if normalized_type in _OPSGENIE_SENDERS
            else "email"
            if normalized_type.endswith("email")
            else "api"
        )
        entry: dict[str, Any] = {"name": name, "kind": kind}
        if document.get("enabled") is False:
            entry["mode"] = "disabled"
        key = document.get("apiKey")
        if with_keys and isinstance(key, str) and _TOKEN.fullmatch(key):
            entry["token"] = key
        team = _owner(id_map, document, name)
        id_map.builder.add("integrations", entry | _recipients(id_map, team, name) | _routes(id_map, team, kind, name))
        _report_senders(id_map, name, kind, source_type)


def _report_senders(id_map: OpsgenieIdMap, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "opsgenie":
            difference, reason = reasons.WAIT_FOR_SENDERS(), product_reasons.STILL_SEND()
            remedy = product_reasons.CHANGE_URL_AND_KEY()
        case "email":
            difference, reason = reasons.WAIT_FOR_EMAILS(), product_reasons.STILL_WRITE()
            remedy = reasons.CHANGE_TO_GUIDE_ADDRESS()
        case _:
            difference = reasons.GENERIC_KIND(kind=source_type)
            reason = product_reasons.OWN_FORMAT(kind=source_type)
            remedy = reasons.SET_URL_OR_CHOOSE_KIND()
    id_map.builder.report_grouped(FindingSeverity.TO_DO, "integrations", name, difference, reason, remedy)


def _owner(id_map: OpsgenieIdMap, document: JsonObject, name: str) -> JsonObject:
    """The team an integration belongs to."""
    owner = object_of(document.get("ownerTeam")) or {"id": document.get("teamId")}
    team = resolve(id_map.teams, owner)
    if team is not None:
        return team
    responders = objects_of(document.get("responders")) or objects_of(document.get("recipients"))
    for responder in responders:
        if str(responder.get("type")).lower() == "team" and (team := resolve(id_map.teams, responder)):
            return team
    if responders:
        id_map.builder.report_changed(
            reasons.INTEGRATION(integration=name),
            product_reasons.NOTIFIES_NOBODY(),
            product_reasons.RESPONDERS_NOT_A_TEAM(),
            reasons.CHOOSE_POLICY_AND_RECIPIENTS(),
        )
    return {}


def _recipients(id_map: OpsgenieIdMap, owner: JsonObject, name: str) -> dict[str, Any]:
    """The policy and recipients of that team's integrations."""
    team = resolve(id_map.teams, owner)
    group = id_map.find_group(owner)
    policy = _policy(id_map, default_notify(team)) if team else None
    if group is None or policy is None:
        id_map.builder.report_grouped(
            FindingSeverity.TO_DO,
            "integrations",
            name,
            reasons.HAVE_NO_POLICY(),
            product_reasons.NO_OWNING_TEAM(),
            reasons.CHOOSE_POLICY_AND_RECIPIENTS(),
        )
        return {"group": group, "anyway": True, "recipients": {"groups": [group]} if group else {}}
    return {"group": group, "escalation_policy": policy, "recipients": {"groups": [group]}}


def _policy(id_map: OpsgenieIdMap, notify: JsonObject) -> str | None:
    match notify.get("type"):
        case "escalation":
            return resolve(id_map.policies, notify)
        case "schedule":
            schedule = resolve(id_map.schedules, notify)
            return by_schedule(id_map, schedule) if schedule else None
    return None


def _routes(id_map: OpsgenieIdMap, team: JsonObject, kind: str, name: str) -> dict[str, Any]:
    """The team's routing rules in order, without the default rule."""
    rules = sort_by_order(rule for rule in objects_of(team.get("routing_rules")) if not rule.get("isDefault"))
    routes = []
    for rule in rules:
        subject = product_reasons.ROUTING_RULE(integration=name, rule=str(rule.get("name") or rule.get("id")))
        try:
            routes.append(_route(id_map, team, rule, kind))
        except _NotConvertible as problem:
            id_map.builder.report_omitted(subject, reasons.NOT_IMPORTED(), problem.reason, reasons.ADD_ROUTE())
    return {"routes": routes}


class _NotConvertible(Exception):
    """The rule has no equivalent; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _route(id_map: OpsgenieIdMap, team: JsonObject, rule: JsonObject, kind: str) -> dict[str, Any]:
    route: dict[str, Any] = {"name": str(rule.get("name") or "Routing rule").replace("\0", "")[:100]}
    condition = _condition(object_of(rule.get("criteria")), kind)
    if condition:
        route["when"] = condition
    if rule.get("timeRestriction"):
        route["during"] = _support_hours(id_map, team, rule)
    notify = object_of(rule.get("notify"))
    if str(notify.get("type") or "none") == "none":
        return route | {"action": "record"}
    policy = _policy(id_map, notify)
    if policy is None:
        raise _NotConvertible(product_reasons.TARGET_MISSING())
    return route | {"escalation_policy": policy}


def _support_hours(id_map: OpsgenieIdMap, team: JsonObject, rule: JsonObject) -> str:
    try:
        windows = open_windows(rule.get("timeRestriction"))
    except ValueError:
        raise _NotConvertible(product_reasons.RESTRICTION_UNREADABLE()) from None
    if not windows:
        windows = (weekly_windows.WeeklyWindow(frozenset(range(7)), 0, weekly_windows.MINUTES_A_DAY),)
    group = id_map.find_group(team)
    requested_name = f"{group}: {rule.get('name') or 'routing rule'}"
    windows_spec = weekly_windows.write(windows)
    key = f"{team.get('id')} {rule.get('id') or rule.get('name')}"
    if key not in id_map.support_hours:
        id_map.support_hours[key] = id_map.builder.claim_name("support_hours", requested_name)
        zone = id_map.builder.resolve_zone(
            rule.get("timezone"), product_reasons.SUPPORT_HOURS(support_hours=id_map.support_hours[key])
        )
        id_map.builder.add(
            "support_hours",
            {"name": id_map.support_hours[key], "group": group, "time_zone": zone, "windows": windows_spec},
        )
    return id_map.support_hours[key]


def _condition(criteria: JsonObject, kind: str) -> dict[str, Any]:
    match_type = str(criteria.get("type") or "match-all")
    if match_type == "match-all":
        return {}
    leaves = [_leaf(item, kind) for item in objects_of(criteria.get("conditions"))]
    if not leaves:
        return {}
    condition = {"any" if match_type == "match-any-condition" else "all": leaves}
    try:
        compile_condition(condition, "when", _known_fields(kind))
    except Rejected as problem:
        raise _NotConvertible(product_reasons.CONDITION_UNUSABLE(problem=problem.reason)) from None
    return condition


def _known_fields(kind: str) -> set[str]:
    mapping = load_kinds()[kind].mapping
    tags = mapping.get("tags")
    return {*FIELDS, *mapping, *(tags if isinstance(tags, dict) else ())}


def _leaf(condition: JsonObject, kind: str) -> dict[str, Any]:
    source_field, operation = str(condition.get("field") or ""), str(condition.get("operation") or "")
    value = condition.get("expectedValue")
    if source_field in ("details", "extra-properties", "extraProperties"):
        key = str(condition.get("key") or (value if operation == "contains-key" else "") or "")
        if kind != "opsgenie":
            raise _NotConvertible(product_reasons.NO_EXTRA_PROPERTIES())
        if not key:
            raise _NotConvertible(product_reasons.UNNAMED_PROPERTY())
        field = f"^details^{key.replace('^', '^^')}"
    elif source_field in _FIELDS:
        field = _FIELDS[source_field]
    else:
        raise _NotConvertible(product_reasons.FIELD_UNKNOWN(field=source_field[:60] or "nothing"))
    if kind != "opsgenie" and (field.startswith("^") or field not in _known_fields(kind)):
        raise _NotConvertible(product_reasons.FIELD_UNKNOWN_TO_KIND(field=source_field[:60]))
    if source_field == "priority" and operation in ("greater-than", "less-than"):
        raise _NotConvertible(product_reasons.COMPARES_PRIORITIES())
    leaf: dict[str, Any] = {"field": field}
    match operation:
        case "contains-key":
            leaf["operator"] = "exists"
        case "is-empty":
            leaf |= {"operator": "exists", "not": not condition.get("not")}
        case "matches":
            leaf |= {"operator": "matches", "value": f"^(?:{value})$"}
        case _ if operation in _OPERATORS:
            leaf |= {"operator": _OPERATORS[operation], "value": value}
        case _:
            raise _NotConvertible(product_reasons.OPERATION_UNKNOWN(operation=operation[:60] or "nothing"))
    if condition.get("not") and operation != "is-empty":
        leaf["not"] = True
    if leaf.get("not") is False:
        del leaf["not"]
    return leaf
