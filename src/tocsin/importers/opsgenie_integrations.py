"""Reasons of imports from Opsgenie."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.validation import field_errors
from tocsin.escalation.policy import MAX_POLICY_REPEATS, MAX_STEPS
from tocsin.importers import reasons, rotation_converter
from tocsin.importers.config_builder import ConfigBuilder, FindingSeverity, JsonObject, object_of, objects_of
from tocsin.inbound.conditions import compile_condition
from tocsin.inbound.fields import FIELDS
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow

CREATE_KEY = Text(
    "Create one under Settings → API key management, with Read and Configuration access. An account in the EU is at https://api.eu.opsgenie.com."
)
GLOBAL_RULES = Text(
    "Rules in Opsgenie change, delay or close alerts of every integration; in Tocsin each integration has its own."
)
SET_ON_INTEGRATIONS = Text("Set filters, routes and mapping on the integrations that need them.")
NO_INCIDENTS = Text("Incidents and services are not part of Tocsin.")
USE_TAGS = Text("Tags and routes may replace them.")
EXPORT_UNREADABLE = Text("This export cannot be read: {problem}")
EXPORT_EMPTY = Text(
    "it has no users, teams or schedules. Provide a ZIP of the folder OpsGenieBackups, or JSON with the keys users, "
    "teams and schedules."
)
TOO_MANY_FILES = Text("it contains more than {limit} files.")
NOT_AN_OBJECT = Text("it is JSON, but not an object with users, teams and schedules.")
ZIP_UNREADABLE = Text("it is a ZIP file that cannot be opened.")
EXPORT_TOO_LARGE = Text("it contains more than {size} MiB.")
FILE_NOT_UTF8 = Text("{file}: is not UTF-8.")
FILE_TOO_DEEP = Text("{file}: is nested too deeply.")
FILE_NOT_JSON = Text("{file}: is not JSON: {problem}.")
FILE_NOT_UNPACKED = Text("{file}: cannot be unpacked.")
CHANGE_URL_AND_KEY = Text("Change the senders' URL to Tocsin's, and their API key to the integration's token.")
OWN_FORMAT = Text("{kind} sends in its own format, to its own address in Opsgenie.")
SUPPORT_HOURS = Text("support hours {support_hours}")
STILL_SEND = Text("Those still send to Opsgenie.")
STILL_WRITE = Text("Their senders still write to Opsgenie's address.")
INTEGRATIONS_ONLY = Text("applies to its integrations only")
SWITCHES_POLICIES = Text("It enables or disables policies in Opsgenie too.")
IS_RESPONDER = Text("is a responder")
ROLE_UNKNOWN = Text("Tocsin does not know Opsgenie's custom role {role}.")
SET_ROLE = Text("Set their role.")
ONE_SET_OF_RULES = Text("have one set of rules for every alert")
RULES_THERE = Text("Their rules in Opsgenie repeat, or differ by conditions or time of day.")
SET_RULES_BY_PRIORITY = Text("They set rules by priority, and quiet hours, under Me → Notification rules.")
ABSENCES_OVERLAP = Text("It overlaps another absence of the user.")
NO_APP = Text("are no longer reached by Opsgenie's app")
NOTIFIES_GROUP = Text("notifies everyone in {group}")
SCHEDULE_ROTATION = Text("schedule {schedule}: rotation {rotation}")
DISABLED_THERE = Text("It is disabled in Opsgenie.")
NO_ROTATION_WITH_USERS = Text("None of its rotations has users, or they are over.")
LOCAL_HANDOFFS = Text("hands off at the same local time all year")
NOT_WHOLE_DAYS = Text("Its turns are not whole days, and may move by an hour when clocks change.")
OVERRIDE_FOR_NOBODY = Text("It has no user, or one who is not a user in Tocsin.")
OVERRIDE_WITHIN_ROTATION = Text("from {start} to {end} applies while its rotation is on call")
OVERRIDE_OF_RESTRICTED = Text(
    "It is for a rotation with restrictions: in Opsgenie it applies all the time, in Tocsin it replaces the user on "
    "call."
)
OVERRIDE_SCHEDULE = Text("Override the whole schedule if {user} should be on call in between too.")
ROTATION_UNREADABLE = Text("Its type, length or start cannot be read.")
SHIFT_HAS_USERS = Text("A shift in Tocsin has users, no team and no escalation.")
EMPTY_TURN_OF_KIND = Text("the rotation of {kind} {name} has no user")
NAMED_OVERRIDE = Text("schedule {schedule}: override {override}")


# ---------- id map
# Maps Opsgenie's ids and names to new names, and parses its durations and time restrictions. Pure.


_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}


@dataclass(slots=True)
class OpsgenieIdMap:
    """New names by Opsgenie id and by Opsgenie name."""

    builder: ConfigBuilder
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    #: None: the schedule was not converted, because it is empty.
    schedules: dict[str, str | None] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    #: Policies for single schedules, created for routes that refer to one.
    policy_by_schedule: dict[str, str] = field(default_factory=dict)
    teams: dict[str, JsonObject] = field(default_factory=dict)
    #: The group of a schedule, by the schedule's new name.
    group_by_schedule: dict[str, str] = field(default_factory=dict)
    #: Schedules disabled in Opsgenie.
    disabled_schedules: set[str] = field(default_factory=set)
    escalations: dict[str, JsonObject] = field(default_factory=dict)
    integrations: dict[str, str] = field(default_factory=dict)
    #: Support hours created for routing rules.
    support_hours: dict[str, str] = field(default_factory=dict)

    def find_user(self, reference: object) -> str | None:
        """The username for a reference."""
        document = object_of(reference)
        return _lookup(self.users, document.get("id"), document.get("username"), document.get("name"))

    def find_group(self, reference: object) -> str | None:
        """The group for a reference to a team."""
        document = object_of(reference)
        return _lookup(self.groups, document.get("id"), document.get("name"))


def keys(document: JsonObject, *names: str) -> Iterable[str]:
    """The keys by which a document can be referenced."""
    return [str(document[name]).casefold() for name in ("id", *names) if document.get(name)]


def sort_by_order(documents: Iterable[JsonObject]) -> list[JsonObject]:
    """Sorted by `sort_key`."""

    def sort_key(document: JsonObject) -> int:
        position = document.get("order")
        return position if isinstance(position, int) else 0

    return sorted(documents, key=sort_key)


def resolve[T](names: dict[str, T], reference: object) -> T | None:
    """Resolves a reference by id or name."""
    document = object_of(reference)
    return _lookup(names, document.get("id"), document.get("name"))


def parse_duration(value: object) -> timedelta:
    """Parses `{"timeAmount": 5, "timeUnit": "minutes"}`; the default unit is minutes."""
    document = object_of(value)
    amount = document.get("timeAmount", 0)
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < 1_000_000:
        return timedelta()
    return timedelta(seconds=round(amount * _UNITS.get(str(document.get("timeUnit", "minutes")).lower(), 60)))


def open_windows(restriction: object) -> tuple[WeeklyWindow, ...]:
    """The windows of a `timeRestriction`; empty if there is none. Raises ValueError if it is invalid.

    `time-of-day` applies to every day; `weekday-and-time-of-day` is one span from the start day's time to the end
    day's.
    """
    document = object_of(restriction)
    restrictions = objects_of(document.get("restrictions")) or [object_of(document.get("restriction"))]
    restrictions = [item for item in restrictions if item]
    if not restrictions:
        return ()
    if str(document.get("type")) == "time-of-day":
        windows: list[WeeklyWindow] = []
        for item in restrictions:
            start, end = _minute(item, "start"), _minute(item, "end")
            daily_windows = rotation_converter.daily(
                start % weekly_windows.MINUTES_A_DAY,
                (end - start) % weekly_windows.MINUTES_A_DAY or weekly_windows.MINUTES_A_DAY,
            )
            if not daily_windows:
                return ()
            windows += daily_windows
        return rotation_converter.combine(windows)
    return rotation_converter.combine([_weekday_window(item) for item in restrictions])


def _weekday_window(restriction: JsonObject) -> WeeklyWindow:
    start_day, end_day = (
        weekly_windows.parse_weekday(str(restriction.get("startDay"))).number,
        weekly_windows.parse_weekday(str(restriction.get("endDay"))).number,
    )
    start, end = _minute(restriction, "start"), _minute(restriction, "end")
    length = ((end_day - start_day) * weekly_windows.MINUTES_A_DAY + end - start) % weekly_windows.MINUTES_A_WEEK
    return rotation_converter.window(start_day, start, length or weekly_windows.MINUTES_A_WEEK)


def _minute(restriction: JsonObject, prefix: str) -> int:
    try:
        hour, minute = int(restriction.get(f"{prefix}Hour") or 0), int(restriction.get(f"{prefix}Min") or 0)
    except (TypeError, OverflowError):
        raise ValueError("has a time that is none") from None
    if not (0 <= hour <= 24 and 0 <= minute < 60):
        raise ValueError("has a time that is none")
    return hour * 60 + minute


def _lookup[T](names: dict[str, T], *references: object) -> T | None:
    for candidate in references:
        if candidate and str(candidate).casefold() in names:
            return names[str(candidate).casefold()]
    return None


# ---------- policies
# Converts Opsgenie's escalations. Its delays count from the alert's creation, Tocsin's from the previous step. Pure.
#
# See https://docs.opsgenie.com/docs/escalation-api: a rule fires after its delay if the alert is not acknowledged, or
# not closed, by then; `repeat` starts over this many minutes after the last rule.


_NOT_CLOSED = "if-not-closed"
type NotifyRule = dict[str, Any]


def policies(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every escalation that notifies somebody."""
    for document in documents:
        for key in keys(document, "name"):
            id_map.escalations[key] = document
    for document in documents:
        _policy(id_map, document)


def by_schedule(id_map: OpsgenieIdMap, schedule: str) -> str:
    """The policy that pages the on-call users of a schedule; created on first use."""
    if schedule not in id_map.policy_by_schedule:
        name = id_map.builder.claim_name("escalation_policies", f"On call by {schedule}")
        id_map.policy_by_schedule[schedule] = name
        id_map.builder.add(
            "escalation_policies",
            {
                "name": name,
                "group": id_map.group_by_schedule.get(schedule),
                "steps": [{"notify": {"schedules": [schedule]}, "after": "0m"}],
            },
        )
    return id_map.policy_by_schedule[schedule]


def _policy(id_map: OpsgenieIdMap, document: JsonObject) -> None:
    source_name = str(document.get("name") or "")
    subject = sentence("escalation {escalation}", escalation=source_name)
    rules = sorted(objects_of(document.get("rules")), key=lambda rule: parse_duration(rule.get("delay")))
    has_unclosed = any(rule.get("condition") == _NOT_CLOSED for rule in rules)
    steps: list[dict[str, Any]] = []
    previous = timedelta()
    for position, rule in enumerate(rules, 1):
        notify = _notify_targets(id_map, rule, sentence("{policy}: rule {rule}", policy=subject, rule=position))
        if notify is None:
            continue
        at = parse_duration(rule.get("delay"))
        step: dict[str, Any] = {"notify": notify, "after": field_errors.write(at - previous)}
        if has_unclosed and rule.get("condition") != _NOT_CLOSED:
            step["only_until_acknowledged"] = True
        steps.append(step)
        previous = at
    if not steps:
        id_map.builder.report_omitted(
            subject,
            reasons.NOT_IMPORTED(),
            sentence("None of its rules notifies an imported user."),
            reasons.CREATE_POLICY(),
        )
        return
    if len(steps) > MAX_STEPS:
        id_map.builder.report_omitted(subject, reasons.TOO_MANY_STEPS(count=MAX_STEPS), reasons.STEP_LIMIT())
    name = id_map.builder.claim_name("escalation_policies", source_name)
    entry: dict[str, Any] = {"name": name, "group": resolve(id_map.groups, document.get("ownerTeam"))}
    if has_unclosed:
        entry["acknowledge"] = {"effect": "continue"}
    else:
        id_map.builder.report_ack_timeout("escalations", source_name)
    repeat = _repeat(id_map, document, subject, parse_duration(rules[0].get("delay")))
    id_map.builder.add("escalation_policies", entry | {"repeat": repeat, "steps": steps[:MAX_STEPS]})
    for key in keys(document, "name"):
        id_map.policies[key] = name


def _repeat(id_map: OpsgenieIdMap, document: JsonObject, subject: Reason, first_delay: timedelta) -> dict[str, Any]:
    repeat = object_of(document.get("repeat"))
    count, wait_minutes = repeat.get("count"), repeat.get("waitInterval")
    if repeat.get("closeAlertAfterAll"):
        id_map.builder.report_changed(
            subject,
            sentence("leaves the alert open when it is exhausted"),
            sentence("Opsgenie closes it after all repeats; Tocsin never closes an unanswered alert automatically."),
        )
    if (
        not isinstance(count, int)
        or not isinstance(wait_minutes, int)
        or not 0 < count < 10_000
        or not 0 < wait_minutes < 100_000
    ):
        return {}
    # In each repetition the first rule's delay applies again, while Tocsin's passes begin with their first step.
    interval = timedelta(minutes=wait_minutes) + first_delay
    return {"times": min(count, MAX_POLICY_REPEATS), "every": field_errors.write(interval)}


def _notify_targets(id_map: OpsgenieIdMap, rule: JsonObject, subject: Reason) -> NotifyRule | None:
    recipient = object_of(rule.get("recipient"))
    kind, notify_type = str(recipient.get("type") or "").lower(), str(rule.get("notifyType") or "default").lower()
    match kind:
        case "user":
            user = id_map.find_user(recipient)
            if user is not None:
                return {"users": [user]}
        case "schedule":
            return _by_schedule(id_map, recipient, notify_type, subject)
        case "team":
            team = resolve(id_map.teams, recipient)
            if team is not None:
                return _by_team(id_map, team, notify_type, subject)
    recipient_name = recipient.get("name") or recipient.get("username") or recipient.get("id") or "nobody"
    id_map.builder.report_omitted(
        subject, reasons.DOES_NOT_NOTIFY_KIND(kind=kind or "somebody", target=recipient_name), reasons.UNKNOWN_HERE()
    )
    return None


def _by_schedule(id_map: OpsgenieIdMap, recipient: JsonObject, notify_type: str, subject: Reason) -> NotifyRule | None:
    references = list(keys(recipient, "name"))
    if any(key in id_map.disabled_schedules for key in references):
        id_map.builder.report_omitted(
            subject,
            reasons.DOES_NOT_NOTIFY(target=str(recipient.get("name"))),
            sentence("The schedule is disabled in Opsgenie."),
        )
        return None
    name = resolve(id_map.schedules, recipient)
    if name is None:
        id_map.builder.report_omitted(
            subject,
            reasons.DOES_NOT_NOTIFY(target=str(recipient.get("name") or "a schedule")),
            sentence("The schedule could not be imported."),
            sentence("Create the schedule, and add it to the policy."),
        )
        return None
    if notify_type == "previous":
        return {"previous_on_call": True, "groups": [id_map.group_by_schedule[name]]}
    if notify_type == "next":
        id_map.builder.report_changed(
            subject,
            sentence("notifies who is on call in {schedule}, not who is next", schedule=name),
            sentence("A step in Tocsin knows who is and was on call, not who is next."),
            sentence("Choose a second schedule or a user instead."),
        )
    if notify_type == "all":
        return {"groups": [id_map.group_by_schedule[name]], "everybody": True}
    return {"schedules": [name]}


def _by_team(id_map: OpsgenieIdMap, team: JsonObject, notify_type: str, subject: Reason) -> NotifyRule:
    group = id_map.find_group(team)
    everybody: NotifyRule = {"groups": [group], "everybody": True}
    members = objects_of(team.get("members"))
    match notify_type:
        case "admins" if any(str(member.get("role")).lower() == "admin" for member in members):
            return {"groups": [group], "roles": ["manager"]}
        case "users":
            regular_members = [member for member in members if str(member.get("role")).lower() != "admin"]
            users = [name for member in regular_members if (name := id_map.find_user(member.get("user")))]
            if users:
                return {"users": list(dict.fromkeys(users))}
        case "random":
            id_map.builder.report_changed(
                subject, NOTIFIES_GROUP(group=str(group)), sentence("A step in Tocsin does not choose at random.")
            )
            return everybody
        case "all":
            return everybody
        case _:
            schedule = _first_schedule(id_map, default_notify(team))
            if schedule is not None:
                id_map.builder.report_changed(
                    subject,
                    sentence("notifies who is on call in {schedule}", schedule=schedule),
                    sentence(
                        "Opsgenie notifies the team {group} by its own routing rules; a step in Tocsin is one step.",
                        group=str(group),
                    ),
                    sentence("Add the team's further steps if you want them in Tocsin too."),
                )
                return {"schedules": [schedule]}
    id_map.builder.report_changed(
        subject, NOTIFIES_GROUP(group=str(group)), sentence("Nothing narrower could be imported.")
    )
    return everybody


def default_notify(team: JsonObject) -> JsonObject:
    """The target of the team's default routing rule; an empty object if there is none."""
    rules = objects_of(team.get("routing_rules"))
    rule = next((item for item in rules if item.get("isDefault")), rules[-1] if rules else {})
    return object_of(rule.get("notify"))


def _first_schedule(id_map: OpsgenieIdMap, notify: JsonObject) -> str | None:
    """The schedule that a routing rule notifies, directly or first in its escalation."""
    if notify.get("type") == "schedule":
        return resolve(id_map.schedules, notify)
    escalation = resolve(id_map.escalations, notify) if notify.get("type") == "escalation" else None
    for rule in objects_of(object_of(escalation).get("rules")):
        recipient = object_of(rule.get("recipient"))
        if recipient.get("type") == "schedule" and (name := resolve(id_map.schedules, recipient)):
            return name
    return None


# ---------- integrations
# Converts Opsgenie's integrations and heartbeats, with their team's routing rules as routes. Pure.


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
_INTEGRATIONS_UNITS = {"minutes": "m", "hours": "h", "days": "d", "weeks": "w"}


def heartbeats(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every heartbeat under its own name: senders also ping /v2/heartbeats/NAME/ping here."""
    for heartbeat in documents:
        name = id_map.builder.claim_name("integrations", heartbeat.get("name"))
        unit = _INTEGRATIONS_UNITS.get(str(heartbeat.get("intervalUnit") or "minutes").lower(), "m")
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
            sentence("wait for their first ping"),
            sentence("Their senders still ping Opsgenie."),
            sentence("Change their URL to Tocsin's, and their key to the heartbeat's token."),
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
                sentence("They send from Opsgenie to another system."),
                sentence("Connect that system under Outbound integrations, Providers or Chat."),
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
            difference, reason = reasons.WAIT_FOR_SENDERS(), STILL_SEND()
            remedy = CHANGE_URL_AND_KEY()
        case "email":
            difference, reason = reasons.WAIT_FOR_EMAILS(), STILL_WRITE()
            remedy = reasons.CHANGE_TO_GUIDE_ADDRESS()
        case _:
            difference = reasons.GENERIC_KIND(kind=source_type)
            reason = OWN_FORMAT(kind=source_type)
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
            sentence("notifies no one yet"),
            sentence("Its responders in Opsgenie are not a team."),
            reasons.CHOOSE_POLICY_AND_RECIPIENTS(),
        )
    return {}


def _recipients(id_map: OpsgenieIdMap, owner: JsonObject, name: str) -> dict[str, Any]:
    """The policy and recipients of that team's integrations."""
    team = resolve(id_map.teams, owner)
    group = id_map.find_group(owner)
    policy = _policy_integrations(id_map, default_notify(team)) if team else None
    if group is None or policy is None:
        id_map.builder.report_grouped(
            FindingSeverity.TO_DO,
            "integrations",
            name,
            reasons.HAVE_NO_POLICY(),
            sentence("No team owns them in Opsgenie, or the team's default rule notifies no one."),
            reasons.CHOOSE_POLICY_AND_RECIPIENTS(),
        )
        return {"group": group, "anyway": True, "recipients": {"groups": [group]} if group else {}}
    return {"group": group, "escalation_policy": policy, "recipients": {"groups": [group]}}


def _policy_integrations(id_map: OpsgenieIdMap, notify: JsonObject) -> str | None:
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
        subject = sentence(
            "integration {integration}: routing rule {rule}",
            integration=name,
            rule=str(rule.get("name") or rule.get("id")),
        )
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
    policy = _policy_integrations(id_map, notify)
    if policy is None:
        raise _NotConvertible(sentence("Its target could not be imported."))
    return route | {"escalation_policy": policy}


def _support_hours(id_map: OpsgenieIdMap, team: JsonObject, rule: JsonObject) -> str:
    try:
        windows = open_windows(rule.get("timeRestriction"))
    except ValueError:
        raise _NotConvertible(sentence("Its time restriction cannot be read.")) from None
    if not windows:
        windows = (weekly_windows.WeeklyWindow(frozenset(range(7)), 0, weekly_windows.MINUTES_A_DAY),)
    group = id_map.find_group(team)
    requested_name = f"{group}: {rule.get('name') or 'routing rule'}"
    windows_spec = weekly_windows.write(windows)
    key = f"{team.get('id')} {rule.get('id') or rule.get('name')}"
    if key not in id_map.support_hours:
        id_map.support_hours[key] = id_map.builder.claim_name("support_hours", requested_name)
        zone = id_map.builder.resolve_zone(rule.get("timezone"), SUPPORT_HOURS(support_hours=id_map.support_hours[key]))
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
        raise _NotConvertible(
            sentence("Its condition cannot be used in Tocsin: {problem}", problem=problem.reason)
        ) from None
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
            raise _NotConvertible(
                sentence("It checks extra properties, which messages of this integration do not have.")
            )
        if not key:
            raise _NotConvertible(sentence("It checks extra properties without naming one."))
        field = f"^details^{key.replace('^', '^^')}"
    elif source_field in _FIELDS:
        field = _FIELDS[source_field]
    else:
        raise _NotConvertible(
            sentence("It checks {field}, which messages in Tocsin do not have.", field=source_field[:60] or "nothing")
        )
    if kind != "opsgenie" and (field.startswith("^") or field not in _known_fields(kind)):
        raise _NotConvertible(
            sentence("It checks {field}, which messages of this integration do not have.", field=source_field[:60])
        )
    if source_field == "priority" and operation in ("greater-than", "less-than"):
        raise _NotConvertible(sentence("It compares priorities."))
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
            raise _NotConvertible(
                sentence(
                    "It uses the operation {operation}, which Tocsin does not have.",
                    operation=operation[:60] or "nothing",
                )
            )
    if condition.get("not") and operation != "is-empty":
        leaf["not"] = True
    if leaf.get("not") is False:
        del leaf["not"]
    return leaf
