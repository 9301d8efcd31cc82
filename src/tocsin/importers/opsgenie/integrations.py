"""Converts Opsgenie's integrations and heartbeats, with their team's routing rules as routes. Pure."""

from __future__ import annotations

import re
from typing import Any

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.opsgenie.id_map import OpsgenieIdMap, found, in_order, keys, open_windows
from tocsin.importers.opsgenie.policies import by_schedule, default_notify
from tocsin.importers.report import FindingSeverity
from tocsin.inbound.expressions.conditions import compile_condition
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.oncall.calculation import weekly_windows

#: Senders that use Opsgenie's Alert API directly, so that only the URL changes.
_SPEAKS_OPSGENIE = frozenset({"api", "prometheus", "grafana", "alertmanager", "oec", "marid", "terraform", "thanos"})
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


def heartbeats(world: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every heartbeat under its own name: senders also ping /v2/heartbeats/NAME/ping here."""
    for heartbeat in documents:
        name = world.draft.name("integrations", heartbeat.get("name"))
        unit = _UNITS.get(str(heartbeat.get("intervalUnit") or "minutes").lower(), "m")
        interval = heartbeat.get("interval")
        entry: dict[str, Any] = {"name": name, "kind": "heartbeat"}
        if isinstance(interval, int) and 0 < interval < 100_000:
            entry["settings"] = {"interval": f"{interval}{unit}"}
        if heartbeat.get("enabled") is False:
            entry["mode"] = "disabled"
        world.draft.add("integrations", entry | _reach(world, object_of(heartbeat.get("ownerTeam")), name))
        world.draft.together(
            FindingSeverity.TO_DO,
            "heartbeats",
            name,
            "wait for their first ping",
            "Their senders still ping Opsgenie.",
            "Change the address of each to this Tocsin's, and its key to the heartbeat's token.",
        )


def integrations(world: OpsgenieIdMap, documents: list[JsonObject], *, with_keys: bool) -> None:
    """Adds every integration that receives alerts; its key becomes the token if known and requested."""
    for document in documents:
        wanted, kind_there = str(document.get("name") or ""), str(document.get("type") or "API")
        plain = re.sub(r"[^a-z0-9]", "", kind_there.lower())
        if plain in _OUTGOING:
            world.draft.together(
                FindingSeverity.LEFT_OUT,
                "integrations",
                f"{wanted} ({kind_there})",
                "are not here",
                "They send from Opsgenie to another system.",
                "Connect that system under Outbound integrations, Providers or Chat.",
            )
            continue
        name = world.draft.name("integrations", wanted)
        world.integrations |= dict.fromkeys(keys(document, "name"), name)
        kind = "opsgenie" if plain in _SPEAKS_OPSGENIE else "email" if plain.endswith("email") else "api"
        entry: dict[str, Any] = {"name": name, "kind": kind}
        if document.get("enabled") is False:
            entry["mode"] = "disabled"
        key = document.get("apiKey")
        if with_keys and isinstance(key, str) and _TOKEN.fullmatch(key):
            entry["token"] = key
        team = _owner(world, document, name)
        world.draft.add("integrations", entry | _reach(world, team, name) | _routes(world, team, kind, name))
        _tell_senders(world, name, kind, kind_there)


def _tell_senders(world: OpsgenieIdMap, name: str, kind: str, kind_there: str) -> None:
    match kind:
        case "opsgenie":
            what, why = "wait for their senders", "Those still send to Opsgenie."
            remedy = "Change the senders' address to this Tocsin's, and their API key to the integration's token."
        case "email":
            what, why = "wait for mails", "Their senders still write to Opsgenie's address."
            remedy = "Change it to the address on the integration's Guide tab."
        case _:
            what = f"are general ones here, {kind_there} there"
            why = f"{kind_there} sends in its own form, to an address of its own in Opsgenie."
            remedy = "Give it the integration's URL and map its first message; or take a kind of the catalogue."
    world.draft.together(FindingSeverity.TO_DO, "integrations", name, what, why, remedy)


def _owner(world: OpsgenieIdMap, document: JsonObject, name: str) -> JsonObject:
    """The team an integration belongs to."""
    owner = object_of(document.get("ownerTeam")) or {"id": document.get("teamId")}
    team = found(world.teams, owner)
    if team is not None:
        return team
    responders = objects_of(document.get("responders")) or objects_of(document.get("recipients"))
    for responder in responders:
        if str(responder.get("type")).lower() == "team" and (team := found(world.teams, responder)):
            return team
    if responders:
        world.draft.change(
            f"integration {name}",
            "notifies nobody yet",
            "Its responders there are no team.",
            "Choose a policy and recipients on its Settings tab.",
        )
    return {}


def _reach(world: OpsgenieIdMap, owner: JsonObject, name: str) -> dict[str, Any]:
    """The policy and recipients of that team's integrations."""
    team = found(world.teams, owner)
    group = world.group(owner)
    policy = _policy(world, default_notify(team)) if team else None
    if group is None or policy is None:
        world.draft.together(
            FindingSeverity.TO_DO,
            "integrations",
            name,
            "have no policy that pages anybody",
            "No team owns them there, or the team's default rule notifies nobody.",
            "Choose a policy and recipients on the Settings tab.",
        )
        return {"group": group, "anyway": True, "recipients": {"groups": [group]} if group else {}}
    return {"group": group, "escalation_policy": policy, "recipients": {"groups": [group]}}


def _policy(world: OpsgenieIdMap, notify: JsonObject) -> str | None:
    match notify.get("type"):
        case "escalation":
            return found(world.policies, notify)
        case "schedule":
            schedule = found(world.schedules, notify)
            return by_schedule(world, schedule) if schedule else None
    return None


def _routes(world: OpsgenieIdMap, team: JsonObject, kind: str, name: str) -> dict[str, Any]:
    """The team's routing rules in order, without the default rule."""
    rules = in_order(rule for rule in objects_of(team.get("routing_rules")) if not rule.get("isDefault"))
    routes = []
    for rule in rules:
        subject = f"integration {name}: routing rule {rule.get('name') or rule.get('id')}"
        try:
            routes.append(_route(world, team, rule, kind))
        except _NotConvertible as problem:
            world.draft.leave_out(subject, "is no route here", str(problem), "Add a route on the Routing tab.")
    return {"routes": routes}


class _NotConvertible(Exception):
    """The rule has no equivalent; the message explains why."""


def _route(world: OpsgenieIdMap, team: JsonObject, rule: JsonObject, kind: str) -> dict[str, Any]:
    route: dict[str, Any] = {"name": str(rule.get("name") or "Routing rule").replace("\0", "")[:100]}
    condition = _condition(object_of(rule.get("criteria")), kind)
    if condition:
        route["when"] = condition
    if rule.get("timeRestriction"):
        route["during"] = _hours(world, team, rule)
    notify = object_of(rule.get("notify"))
    if str(notify.get("type") or "none") == "none":
        return route | {"action": "record"}
    policy = _policy(world, notify)
    if policy is None:
        raise _NotConvertible("What it notifies could not be carried over.")
    return route | {"escalation_policy": policy}


def _hours(world: OpsgenieIdMap, team: JsonObject, rule: JsonObject) -> str:
    try:
        opened = open_windows(rule.get("timeRestriction"))
    except ValueError:
        raise _NotConvertible("Its time restriction cannot be read.") from None
    if not opened:
        opened = (weekly_windows.WeeklyWindow(frozenset(range(7)), 0, weekly_windows.MINUTES_A_DAY),)
    group = world.group(team)
    wanted = f"{group}: {rule.get('name') or 'routing rule'}"
    written = weekly_windows.write(opened)
    key = f"{team.get('id')} {rule.get('id') or rule.get('name')}"
    if key not in world.hours:
        world.hours[key] = world.draft.name("support_hours", wanted)
        zone = world.draft.zone(rule.get("timezone"), f"support hours {world.hours[key]}")
        world.draft.add(
            "support_hours", {"name": world.hours[key], "group": group, "time_zone": zone, "windows": written}
        )
    return world.hours[key]


def _condition(criteria: JsonObject, kind: str) -> dict[str, Any]:
    how = str(criteria.get("type") or "match-all")
    if how == "match-all":
        return {}
    found = [_leaf(one, kind) for one in objects_of(criteria.get("conditions"))]
    if not found:
        return {}
    whole = {"any" if how == "match-any-condition" else "all": found}
    try:
        compile_condition(whole, "when", _known_fields(kind))
    except Rejected as problem:
        raise _NotConvertible(f"Its condition cannot be used here: {problem.detail}") from None
    return whole


def _known_fields(kind: str) -> set[str]:
    mapping = load_kinds()[kind].mapping
    tags = mapping.get("tags")
    return {*FIELDS, *mapping, *(tags if isinstance(tags, dict) else ())}


def _leaf(one: JsonObject, kind: str) -> dict[str, Any]:
    there, operation = str(one.get("field") or ""), str(one.get("operation") or "")
    value = one.get("expectedValue")
    if there in ("details", "extra-properties", "extraProperties"):
        key = str(one.get("key") or (value if operation == "contains-key" else "") or "")
        if kind != "opsgenie":
            raise _NotConvertible("It asks for extra properties, which messages of this integration do not have.")
        if not key:
            raise _NotConvertible("It asks for extra properties without naming one.")
        field = f"^details^{key.replace('^', '^^')}"
    elif there in _FIELDS:
        field = _FIELDS[there]
    else:
        raise _NotConvertible(f"It asks for {there[:60] or 'nothing'}, which messages here do not have.")
    if kind != "opsgenie" and (field.startswith("^") or field not in _known_fields(kind)):
        raise _NotConvertible(f"It asks for {there[:60]}, which messages of this integration do not have.")
    if there == "priority" and operation in ("greater-than", "less-than"):
        raise _NotConvertible("It compares priorities.")
    leaf: dict[str, Any] = {"field": field}
    match operation:
        case "contains-key":
            leaf["operator"] = "exists"
        case "is-empty":
            leaf |= {"operator": "exists", "not": not one.get("not")}
        case "matches":
            leaf |= {"operator": "matches", "value": f"^(?:{value})$"}
        case _ if operation in _OPERATORS:
            leaf |= {"operator": _OPERATORS[operation], "value": value}
        case _:
            raise _NotConvertible(f"It asks by {operation[:60] or 'nothing'}, which there is not here.")
    if one.get("not") and operation != "is-empty":
        leaf["not"] = True
    if leaf.get("not") is False:
        del leaf["not"]
    return leaf
