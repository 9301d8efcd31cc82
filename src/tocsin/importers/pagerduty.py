"""PagerDuty: read through its REST API v2 (https://developer.pagerduty.com/api-reference/) and converted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason, Text, sentence, translatable
from tocsin.core.validation import inputs
from tocsin.escalation.policy import MAX_POLICY_REPEATS
from tocsin.importers import people, reasons, rotation_converter
from tocsin.importers.api_reader import MAX_LIST_PAGES, ApiReader
from tocsin.importers.config_builder import (
    ConfigBuilder,
    FindingSeverity,
    JsonObject,
    Product,
    converter,
    id_of,
    object_of,
    objects_of,
    parse_time,
    text_of,
)
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation, why_unsupported
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow

# ---------- reasons
# Reasons of imports from PagerDuty.


CREATE_KEY = Text(
    "Create one under Integrations → API Access Keys, read-only. An account in the EU is at https://api.eu.pagerduty.com."
)
NO_APP = Text("are no longer reached by PagerDuty's app")
ROUND_ROBIN_THERE = Text("PagerDuty assigns each incident to the next in turn; a step in Tocsin does not.")
LAYER_RESTRICTION_UNREADABLE = Text("One of its restrictions cannot be read.")
SERVICE = Text("service {service}")
CHANGE_URL_AND_KEY = Text("Change the senders' URL to Tocsin's, and their routing key to the integration's token.")
OWN_FORMAT = Text("It sends in its own format, which PagerDuty converts to events.")
STILL_SEND = Text("Those still send to PagerDuty.")
STILL_WRITE = Text("Their senders still write to PagerDuty's address.")


# ---------- client
# Reads a PagerDuty account through its REST API v2: documents as in the API, with nested objects.


_PAGE = 100
#: How far ahead overrides are read, in ranges that the API answers completely.
_AHEAD = timedelta(days=360)
_RANGE = timedelta(days=90)

#: Objects that are read only to report that they cannot be converted: their path, which is also the response's key.
_REPORT_ONLY = {
    "orchestrations": "event_orchestrations",
    "rulesets": "rulesets",
    "business_services": "business_services",
}


def fetch(source: ApiReader, now: datetime) -> dict[str, list[JsonObject]]:
    """All documents that are converted. Users, schedules and policies must be readable."""
    users = list(_all(source, "users", [("include[]", "contact_methods"), ("include[]", "notification_rules")]))

    def read_optional(path: str, query: list[tuple[str, str]] | None = None) -> list[JsonObject]:
        return source.optional(path, _all(source, path, query))

    documents: dict[str, list[JsonObject]] = {
        "users": users,
        "teams": [{**team, "members": read_optional(f"teams/{_id(team)}/members")} for team in read_optional("teams")],
        "schedules": [_schedule(source, item, now) for item in _all(source, "schedules")],
        "escalation_policies": list(_all(source, "escalation_policies")),
        "services": read_optional("services", [("include[]", "integrations")]),
        # Ongoing or future.
        "maintenance_windows": read_optional("maintenance_windows", [("filter", "open")]),
    }
    for name, path in _REPORT_ONLY.items():
        page = object_of(source.get_or_none(path))
        documents[name] = next((objects_of(value) for value in page.values() if isinstance(value, list)), [])
    return documents


def _schedule(source: ApiReader, schedule: JsonObject, now: datetime) -> JsonObject:
    source.progress(sentence("Read schedule {schedule}", schedule=str(schedule.get("name"))))
    details = object_of(object_of(source.get(f"schedules/{_id(schedule)}")).get("schedule"))
    overrides: dict[Any, JsonObject] = {}
    since = now
    while since < now + _AHEAD:
        query = {"since": since.isoformat(timespec="seconds"), "until": (since + _RANGE).isoformat(timespec="seconds")}
        page = object_of(source.get_or_none(f"schedules/{_id(schedule)}/overrides", **query))
        for override in objects_of(page.get("overrides")):
            overrides.setdefault(override.get("id") or str(override), override)
        since += _RANGE
    return {**schedule, **details, "overrides": list(overrides.values())}


def _all(source: ApiReader, path: str, query: list[tuple[str, str]] | None = None) -> Iterator[JsonObject]:
    """All objects of a list, page by page; `more` tells whether there is another page."""
    key = path.rsplit("/", 1)[-1]
    offset = 0
    for _ in range(MAX_LIST_PAGES):
        parameters = urlencode([*(query or []), ("limit", str(_PAGE)), ("offset", str(offset))])
        page = object_of(source.get(f"{path}?{parameters}"))
        objects = objects_of(page.get(key))
        yield from objects
        offset += len(objects)
        source.progress(reasons.READ_OBJECTS(total=offset, kind=key.replace("_", " ")))
        if not page.get("more") or not objects:
            return


def _id(document: JsonObject) -> str:
    return quote(str(document.get("id", "")), safe="")


# ---------- references


def reference_label(reference: object) -> str:
    """The PagerDuty name of a reference, for the report."""
    document = object_of(reference)
    return str(document.get("summary") or document.get("name") or document.get("id") or "somebody")[:100]


def owner_group(builder: ConfigBuilder, document: JsonObject) -> str | None:
    """The group of the first known team that owns an object."""
    teams = objects_of(document.get("teams"))
    return next((name for team in teams if (name := builder.groups.get(id_of(team)))), None)


# ---------- people
# Converts PagerDuty's users with contact methods and notification rules, and its teams as groups. Pure.


_ROLES = {
    "owner": "admin",
    "admin": "admin",
    "user": "manager",
    "limited_user": "responder",
    "restricted_access": "responder",
    "observer": "observer",
    "read_only_user": "observer",
    "read_only_limited_user": "observer",
}
_CHANNELS = {"email_contact_method": "email", "phone_contact_method": "voice", "sms_contact_method": "sms"}
_PUSH = "push_notification_contact_method"


def users(builder: ConfigBuilder) -> None:
    """Adds every user with an e-mail address."""
    people.add_all(
        builder,
        builder.documents("users"),
        "name",
        keys=lambda user: [id_of(user)],
        email_of=lambda user: text_of(user, "email"),
        person=lambda user, username: _person(builder, user, username),
    )


def groups(builder: ConfigBuilder, documents: list[JsonObject]) -> None:
    """Adds the teams; a team's observers are not members, because nobody should page them."""
    for team in documents:
        builder.groups[id_of(team)] = builder.claim_name("groups", team.get("name"))
    for team in documents:
        members: list[dict[str, Any]] = []
        for member in objects_of(team.get("members")):
            username, role = builder.users.get(id_of(member.get("user"))), str(member.get("role") or "")
            if username and role != "observer" and username not in [item["user"] for item in members]:
                members.append({"user": username, "roles": ["lead"] if role == "manager" else []})
        description = str(team.get("description") or "")[:2000].replace("\0", "")
        builder.add("groups", {"name": builder.groups[id_of(team)], "description": description, "members": members})


def _person(builder: ConfigBuilder, user: JsonObject, username: str) -> ImportedUser:
    role = str(user.get("role") or "")
    methods_by_id: dict[str, ImportedContactMethod] = {}
    for method in objects_of(user.get("contact_methods")):
        kind = str(method.get("type") or "").removesuffix("_reference")
        address = str(method.get("address") or "")
        if kind in _CHANNELS:
            country = "" if "email" in kind or address.startswith("+") else str(method.get("country_code") or "")
            # PagerDuty blacklists a method after repeated delivery failures.
            is_enabled = not method.get("blacklisted") and method.get("enabled") is not False
            imported = ImportedContactMethod(_CHANNELS[kind], f"{country}{address}", is_enabled=is_enabled)
            methods_by_id[id_of(method)] = imported
        elif kind == _PUSH:
            people.report_push(builder, username, NO_APP())
    has_rules = False
    for rule in objects_of(user.get("notification_rules")):
        if rule.get("type") not in (None, "assignment_notification_rule", "assignment_notification_rule_reference"):
            continue
        has_rules = True
        if (contact_method := methods_by_id.get(id_of(rule.get("contact_method")))) is not None:
            is_low = rule.get("urgency") == "low"
            delays = contact_method.low_priority_delays if is_low else contact_method.delays
            delays.append(_minutes(rule.get("start_delay_in_minutes")))
    return ImportedUser(
        email=text_of(user, "email"),
        name=str(user.get("name") or ""),
        role=_ROLES.get(role, "responder"),
        time_zone=str(user.get("time_zone") or ""),
        contact_methods=list(methods_by_id.values()),
        has_rules=has_rules,
    )


# ---------- policies
# Converts PagerDuty's escalation policies. A rule's delay is the time before the next rule. Pure.
#
# See https://support.pagerduty.com/main/docs/escalation-policies: after the last rule's delay the policy starts over,
# `num_loops` times.


def policies(builder: ConfigBuilder, documents: list[JsonObject], services: list[JsonObject]) -> None:
    """Adds every policy that notifies somebody. The acknowledgement timeout comes from the services that use it."""
    for document in documents:
        using = [item for item in services if id_of(item.get("escalation_policy")) == id_of(document)]
        _policy(builder, document, using)


def _policy(builder: ConfigBuilder, document: JsonObject, services: list[JsonObject]) -> None:
    source_name = str(document.get("name") or "")
    subject = reasons.POLICY(policy=source_name)
    steps: list[dict[str, Any]] = []
    elapsed = previous = delay = timedelta()
    first_delay: timedelta | None = None
    for position, rule in enumerate(objects_of(document.get("escalation_rules")), 1):
        elapsed += delay
        delay = _minutes(rule.get("escalation_delay_in_minutes"))
        notify = _notify_targets(builder, rule, sentence("{policy}: level {level}", policy=subject, level=position))
        if notify:
            steps.append({"notify": notify, "after": inputs.write_duration(elapsed - previous)})
            previous = elapsed
            first_delay = elapsed if first_delay is None else first_delay
    nobody = sentence("None of its levels notifies an imported user.")
    name = builder.claim_policy(source_name, subject, steps, nobody)
    if name is None:
        return
    # Skipped levels at the end still add to the delay after the last step.
    end = elapsed + delay - previous or timedelta(minutes=5)
    entry: dict[str, Any] = {
        "name": name,
        "group": owner_group(builder, document),
        "acknowledge": _acknowledge(builder, services, subject),
        "end_after": inputs.write_duration(end),
    }
    loops = document.get("num_loops")
    if isinstance(loops, int) and loops > 0:
        entry["repeat"] = {
            "times": min(loops, MAX_POLICY_REPEATS),
            "every": inputs.write_duration(end + (first_delay or timedelta())),
        }
    builder.add("escalation_policies", entry | {"steps": steps})
    builder.policies[id_of(document)] = name


def _notify_targets(builder: ConfigBuilder, rule: JsonObject, subject: Reason) -> dict[str, list[str]]:
    notify: dict[str, list[str]] = {}
    for target in objects_of(rule.get("targets")):
        kind = str(target.get("type") or "").removesuffix("_reference")
        key, names = ("schedules", builder.schedules) if kind == "schedule" else ("users", builder.users)
        name = names.get(id_of(target))
        if name is None:
            builder.report_omitted(
                subject,
                reasons.DOES_NOT_NOTIFY_KIND(kind=kind or "somebody", target=reference_label(target)),
                reasons.UNKNOWN_HERE(),
                sentence("Add the users to the step."),
            )
        elif name not in notify.get(key, []):
            notify.setdefault(key, []).append(name)
    strategy = object_of(rule.get("escalation_rule_assignment_strategy")).get("type")
    if strategy == "round_robin" and sum(map(len, notify.values())) > 1:
        builder.report_changed(
            subject, sentence("notifies everyone at once"), ROUND_ROBIN_THERE(), reasons.USE_ROTATION()
        )
    return notify


def _acknowledge(builder: ConfigBuilder, services: Iterable[JsonObject], subject: Reason) -> dict[str, str]:
    """The shortest acknowledgement timeout of the services; empty if they have none, which means 30 minutes."""
    timeouts = [service.get("acknowledgement_timeout") for service in services]
    valid_timeouts = {seconds for seconds in timeouts if isinstance(seconds, int) and 0 < seconds < 10**8}
    if None in timeouts and timeouts:
        builder.report_changed(
            subject,
            sentence("asks again after an acknowledgement"),
            sentence("Some of its services have no acknowledgement timeout; in Tocsin every acknowledgement has one."),
            reasons.EXTEND_TIMEOUT(),
        )
    if len(valid_timeouts) > 1:
        builder.report_changed(
            subject,
            sentence("has the shortest acknowledgement timeout of its services"),
            sentence("In Tocsin the policy has it."),
        )
    return {"timeout": inputs.write_duration(timedelta(seconds=min(valid_timeouts)))} if valid_timeouts else {}


def _minutes(value: object) -> timedelta:
    return timedelta(minutes=value) if isinstance(value, int) and 0 < value < 100_000 else timedelta()


# ---------- schedules
# Converts PagerDuty's schedules: layers, the higher taking precedence over the lower, and overrides over all. Pure.
#
# See https://support.pagerduty.com/main/docs/schedule-basics. The API lists the highest layer first. A layer's turns
# count from `rotation_virtual_start`; it is active from `start` to `end` and within its restrictions.


def _add_schedule(builder: ConfigBuilder, document: JsonObject) -> None:
    source_name = str(document.get("name") or "")
    zone_name = builder.resolve_zone(document.get("time_zone"), reasons.SCHEDULE(schedule=source_name))
    zone = ZoneInfo(zone_name)
    layers = objects_of(document.get("schedule_layers"))
    shifts: list[dict[str, Any]] = []
    users: list[str] = []
    for layer_number, layer in enumerate(reversed(layers), 1):
        subject = sentence(
            "schedule {schedule}: {layer}",
            schedule=source_name,
            layer=str(layer.get("name") or f"layer {layer_number}"),
        )
        try:
            rotation = _convert_layer(builder, layer, layer_number, zone, subject)
            shifts += rotation_converter.shifts(rotation, builder.now.astimezone(zone).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError) as problem:
            builder.report_omitted(subject, reasons.NOT_IN_SCHEDULE(), why_unsupported(problem), reasons.ADD_SHIFT())
            continue
        users += [user for user in rotation.slots if user and user not in users]
    overrides = [
        entry for item in objects_of(document.get("overrides")) for entry in _override(builder, item, source_name)
    ]
    nobody = sentence("None of its layers has users, or they are over.")
    entry = {"time_zone": zone_name, "shifts": shifts, "overrides": overrides}
    if added := builder.add_schedule(source_name, owner_group(builder, document), users, nobody, entry):
        builder.schedules[id_of(document)] = added[0]


def _convert_layer(
    builder: ConfigBuilder, layer: JsonObject, layer_number: int, zone: ZoneInfo, subject: Reason
) -> ConvertedRotation:
    rotation_start, length = parse_time(layer.get("rotation_virtual_start")), layer.get("rotation_turn_length_seconds")
    start, end = parse_time(layer.get("start")), parse_time(layer.get("end"))
    if rotation_start is None or not isinstance(length, int) or not 0 < length < 10**9:
        raise UnsupportedRotation(sentence("Its rotation cannot be read."))
    if length % 60:
        raise UnsupportedRotation(sentence("Its turns are not whole minutes."))
    slots = []
    for entry in objects_of(layer.get("users")):
        reference = entry.get("user", entry)
        user = builder.users.get(id_of(reference))
        if user is None:
            builder.report_omitted(
                subject,
                sentence("the rotation of {name} has no user", name=reference_label(reference)),
                reasons.NOT_A_USER(),
                reasons.EDIT_SHIFT(),
            )
        slots.append(user)
    return ConvertedRotation(
        name=f"{' '.join(str(layer.get('name') or 'Layer').split())[:60]} ({layer_number})".replace("\0", ""),
        slots=tuple(slots),
        first_handoff=_local(rotation_start, zone),
        interval=timedelta(seconds=length),
        windows=_windows(layer),
        begin=_local(start, zone) if start is not None else None,
        end=_local(end, zone) if end is not None else None,
        layer=layer_number,
    )


def _windows(layer: JsonObject) -> tuple[WeeklyWindow, ...]:
    windows: list[WeeklyWindow] = []
    for restriction in objects_of(layer.get("restrictions")):
        hour, minute = (int(part) for part in str(restriction.get("start_time_of_day")).split(":")[:2])
        start, length = hour * 60 + minute, restriction.get("duration_seconds")
        if not isinstance(length, int) or length <= 0 or not 0 <= start < weekly_windows.MINUTES_A_DAY:
            raise UnsupportedRotation(LAYER_RESTRICTION_UNREADABLE())
        if restriction.get("type") == "daily_restriction":
            daily_windows = rotation_converter.daily(start, length // 60)
            if not daily_windows:
                return ()
            windows += daily_windows
        else:
            day = restriction.get("start_day_of_week")
            if not isinstance(day, int) or not 1 <= day <= 7:
                raise UnsupportedRotation(LAYER_RESTRICTION_UNREADABLE())
            windows.append(rotation_converter.window(day - 1, start, max(1, length // 60)))
    return rotation_converter.combine(windows)


def _override(builder: ConfigBuilder, document: JsonObject, schedule_name: str) -> list[dict[str, Any]]:
    span = builder.upcoming(document.get("start"), document.get("end"))
    user = builder.users.get(id_of(document.get("user")))
    if span is not None and user is None:
        builder.report_omitted(
            reasons.SCHEDULE_OVERRIDE(schedule=schedule_name),
            reasons.OVERRIDE_NOT_IMPORTED(start=span["from"], end=span["to"]),
            sentence("{user} is not a user in Tocsin.", user=reference_label(document.get("user"))),
            reasons.ENTER_OVERRIDE(),
        )
    return [{"user": user, **span}] if span is not None and user is not None else []


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)


# ---------- services
# Converts PagerDuty's services to integrations, one for each integration of a service. Pure.


_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)
#: Senders of PagerDuty events, whatever their name.
_EVENTS = ("generic_events_api", "events_api_v2", "nagios", "prometheus", "grafana", "alertmanager")
#: For services with a constant urgency: every severity mapped to one priority.
_CONSTANT_URGENCY = {
    "high": {"critical": "critical", "error": "high", "warning": "high", "info": "high"},
    "low": {"critical": "low", "error": "low", "warning": "low", "info": "low"},
}


def _service(builder: ConfigBuilder, document: JsonObject) -> list[str]:
    """Adds a service; returns the names of its integrations."""
    source_name = str(document.get("name") or document.get("summary") or "")
    documents = [item for item in objects_of(document.get("integrations")) if item.get("type") or item.get("id")]
    shared_entry = _common(builder, document, source_name)
    names = []
    for source_integration in documents or [{}]:
        label = str(source_integration.get("name") or source_integration.get("summary") or "").strip()
        requested = f"{source_name}: {label}" if len(documents) > 1 and label else source_name
        name = builder.claim_name("integrations", requested)
        names.append(name)
        kind = _kind(source_integration)
        entry: dict[str, Any] = {"name": name, "kind": kind, **shared_entry}
        if kind == "pagerduty":
            entry |= _urgency(builder, document, name)
        key = source_integration.get("integration_key")
        if builder.with_keys and kind == "pagerduty" and isinstance(key, str) and _TOKEN.fullmatch(key):
            entry["token"] = key
        builder.add("integrations", entry)
        _report_senders(builder, name, kind, label or kind)
    return names


def _common(builder: ConfigBuilder, document: JsonObject, source_name: str) -> dict[str, Any]:
    """The policy and recipients of the service."""
    group, policy = owner_group(builder, document), builder.policies.get(id_of(document.get("escalation_policy")))
    entry: dict[str, Any] = {"group": group, "recipients": {"groups": [group]} if group else {}}
    if document.get("status") == "disabled":
        entry["mode"] = "disabled"
    if isinstance(document.get("auto_resolve_timeout"), int):
        builder.report_grouped(
            FindingSeverity.CHANGED,
            "services",
            source_name,
            sentence("do not close alerts automatically"),
            sentence(
                "They resolve incidents after a time in PagerDuty; in Tocsin only the sender or a user closes an alert."
            ),
        )
    if policy is None:
        builder.report_to_do(
            SERVICE(service=source_name),
            sentence("has no policy that pages anybody"),
            sentence("Its policy could not be imported."),
            sentence("Choose one on the Settings tab."),
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


def _urgency(builder: ConfigBuilder, document: JsonObject, name: str) -> dict[str, Any]:
    """Converts urgency to priorities: by severity, or one priority for a constant urgency."""
    rule = object_of(document.get("incident_urgency_rule"))
    urgency = str(rule.get("urgency") or "")
    if rule.get("type") == "use_support_hours":
        builder.report_changed(
            reasons.INTEGRATION(integration=name),
            sentence("has priorities by severity at all hours"),
            sentence("Its urgency in PagerDuty differs within and outside of support hours."),
            sentence("Create support hours, and a route for each."),
        )
        return {}
    return {"settings": {"priorities": _CONSTANT_URGENCY[urgency]}} if urgency in _CONSTANT_URGENCY else {}


def _report_senders(builder: ConfigBuilder, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "pagerduty":
            builder.report_senders(name, reasons.WAIT_FOR_SENDERS(), STILL_SEND(), CHANGE_URL_AND_KEY())
        case "email":
            remedy = reasons.CHANGE_TO_GUIDE_ADDRESS()
            builder.report_senders(name, reasons.WAIT_FOR_EMAILS(), STILL_WRITE(), remedy)
        case _:
            general = reasons.GENERIC_KIND(kind=source_type[:60])
            builder.report_senders(name, general, OWN_FORMAT(), reasons.SET_URL_OR_CHOOSE_KIND())


# ---------- product


_OMITTED_KINDS = {
    "orchestrations": (
        "event orchestrations",
        sentence(
            "Rules in PagerDuty change and route events before a service gets them; in Tocsin each integration has "
            "its own."
        ),
        sentence("Set routes and filters on the integrations that need them."),
    ),
    "rulesets": (
        "rulesets",
        sentence("They route events to services in PagerDuty."),
        sentence("Set routes and filters on the integrations."),
    ),
    "business_services": ("business services", sentence("They page no one."), sentence("A tag may replace them.")),
}


def _convert(builder: ConfigBuilder) -> None:
    users(builder)
    groups(builder, builder.documents("teams"))
    for document in builder.documents("schedules"):
        _add_schedule(builder, document)
    policies(builder, builder.documents("escalation_policies"), builder.documents("services"))
    names = {id_of(document): _service(builder, document) for document in builder.documents("services")}
    # Upcoming maintenance windows, during which their services open no incidents.
    for document in builder.documents("maintenance_windows"):
        affected = [name for item in objects_of(document.get("services")) for name in names.get(id_of(item), [])]
        window_name = text_of(document, "description", "summary", "id") or "Maintenance"
        people.window(builder, window_name, document.get("start_time"), document.get("end_time"), affected)
    for kind, (label, reason, remedy) in _OMITTED_KINDS.items():
        builder.report_kind_omitted(kind, label, reason, remedy)


convert = converter("PagerDuty", ConfigBuilder, _convert)

PRODUCT = Product(
    name="pagerduty",
    title="PagerDuty",
    base="https://api.pagerduty.com",
    key_variable="PAGERDUTY_API_KEY",
    key_location=translatable("Integrations → API Access Keys, read-only"),
    key_help=CREATE_KEY(),
    headers=lambda key: {
        "Authorization": f"Token token={key}",
        "Accept": "application/vnd.pagerduty+json;version=2",
    },
    fetch=fetch,
    convert=convert,
)
