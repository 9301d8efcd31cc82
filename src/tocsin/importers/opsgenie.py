"""Opsgenie: documents of its REST API (https://docs.opsgenie.com/docs/api-overview) or of its configuration backup,
converted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence, translatable
from tocsin.core.validation import inputs
from tocsin.escalation.policy import MAX_POLICY_REPEATS
from tocsin.importers import opsgenie_reader, people, reasons, rotation_converter
from tocsin.importers.config_builder import (
    ConfigBuilder,
    FindingSeverity,
    JsonObject,
    Product,
    clean_name,
    converter,
    object_of,
    objects_of,
    parse_time,
    text_of,
    unique_name,
)
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation, why_unsupported
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


# ---------- references
# Opsgenie's ids and names, durations and time restrictions.


_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}


class OpsgenieBuilder(ConfigBuilder):
    """New names by Opsgenie id and by Opsgenie name, without upper case."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Policies for single schedules, created for routes that refer to one.
        self.policy_by_schedule: dict[str, str] = {}
        self.teams: dict[str, JsonObject] = {}
        #: The group of a schedule, by the schedule's new name.
        self.group_by_schedule: dict[str, str] = {}
        #: Schedules disabled in Opsgenie.
        self.disabled_schedules: set[str] = set()
        self.escalations: dict[str, JsonObject] = {}
        self.integrations: dict[str, str] = {}
        #: Support hours created for routing rules.
        self.support_hours: dict[str, str] = {}

    def find_user(self, reference: object) -> str | None:
        """The username for a reference."""
        document = object_of(reference)
        return _lookup(self.users, document.get("id"), document.get("username"), document.get("name"))

    def find_group(self, reference: object) -> str | None:
        """The group for a reference to a team."""
        return resolve(self.groups, reference)


def keys(document: JsonObject, *names: str) -> Iterable[str]:
    """The keys by which a document can be referenced."""
    return [str(document[name]).casefold() for name in ("id", *names) if document.get(name)]


def sort_by_order(documents: Iterable[JsonObject]) -> list[JsonObject]:
    """Sorted by `order`."""
    return sorted(documents, key=lambda item: item["order"] if isinstance(item.get("order"), int) else 0)


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
    return timedelta(seconds=round(amount * _SECONDS.get(str(document.get("timeUnit", "minutes")).lower(), 60)))


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
        weekly_windows.parse_weekday(str(restriction.get(key))).number for key in ("startDay", "endDay")
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


# ---------- people
# Converts Opsgenie's users with contacts, notification rules and forwardings, and its teams as groups. Pure.


_ROLES = {"owner": "admin", "admin": "admin", "user": "responder", "stakeholder": "observer", "observer": "observer"}
_CHANNELS = ("email", "sms", "voice")


def users(builder: OpsgenieBuilder) -> None:
    """Adds every user whose username is an e-mail address; others cannot be converted."""
    people.add_all(
        builder,
        builder.documents("users"),
        "username",
        keys=lambda user: keys(user, "username"),
        email_of=_email,
        person=lambda user, username: _person(builder, user, username),
    )


def _email(user: JsonObject) -> str:
    return str(user.get("username") or "").strip()


def groups(builder: OpsgenieBuilder, documents: list[JsonObject]) -> None:
    """Adds the teams; their administrators become leads. Primary on-call users come from the schedules."""
    for team in documents:
        name = builder.claim_name("groups", team.get("name"))
        for key in keys(team, "name"):
            builder.groups[key], builder.teams[key] = name, team
    for team in documents:
        members: list[dict[str, Any]] = []
        for member in objects_of(team.get("members")):
            username = builder.find_user(member.get("user"))
            if username and username not in [item["user"] for item in members]:
                roles = ["lead"] if str(member.get("role")).lower() == "admin" else []
                members.append({"user": username, "roles": roles})
        description = str(team.get("description") or "")[:2000].replace("\0", "")
        builder.add("groups", {"name": builder.find_group(team), "description": description, "members": members})


def _person(builder: OpsgenieBuilder, user: JsonObject, username: str) -> ImportedUser:
    role = str(object_of(user.get("role")).get("name") or object_of(user.get("role")).get("id") or "User")
    mapped_role = _ROLES.get(role.lower())
    if mapped_role is None:
        unknown = ROLE_UNKNOWN(role=role[:60])
        builder.report_changed(reasons.USER(user=username), IS_RESPONDER(), unknown, SET_ROLE())
    rules = objects_of(user.get("notification_rules"))
    contact_methods = _contact_methods(builder, user, username)
    has_rules = _apply_rules(builder, rules, contact_methods, username)
    return ImportedUser(
        email=_email(user),
        name=str(user.get("fullName") or ""),
        role=mapped_role or "responder",
        time_zone=str(user.get("timeZone") or user.get("timezone") or ""),
        contact_methods=contact_methods,
        has_rules=has_rules,
        is_active=not user.get("blocked"),
        out_of_office=_absences(builder, username),
    )


def _contact_methods(builder: OpsgenieBuilder, user: JsonObject, username: str) -> list[ImportedContactMethod]:
    contact_methods: list[ImportedContactMethod] = []
    for contact in objects_of(user.get("contacts")):
        method = str(contact.get("method") or contact.get("contactMethod") or "").lower()
        address = str(contact.get("to") or "")
        if method in _CHANNELS:
            enabled = object_of(contact.get("status")).get("enabled", contact.get("enabled", True))
            contact_methods.append(ImportedContactMethod(method, address, is_enabled=enabled is not False))
        elif method:
            people.report_push(builder, username, NO_APP())
    return contact_methods


def _apply_rules(
    builder: OpsgenieBuilder, rules: list[JsonObject], contact_methods: list[ImportedContactMethod], username: str
) -> bool:
    """Adds to the contact methods when the rule for new alerts uses them. Returns False if there is no such rule."""
    creation_rules = sort_by_order(r for r in rules if r.get("actionType") == "create-alert" and r.get("enabled", True))
    if not creation_rules:
        return False
    # The rule without conditions applies to every alert.
    rule = next((item for item in creation_rules if _matches_all(item)), creation_rules[-1])
    steps = [step for step in objects_of(rule.get("steps")) if step.get("enabled", True)]
    if not steps:
        return False
    for step in steps:
        contact = object_of(step.get("contact"))
        method, to = str(contact.get("method") or "").lower(), str(contact.get("to") or "")
        for item in contact_methods:
            if item.channel == method and _is_same_address(item.address, to):
                item.delays.append(parse_duration(step.get("sendAfter")))
                break
    other_count = len(creation_rules) - 1
    if other_count or not _matches_all(rule) or object_of(rule.get("repeat")).get("enabled"):
        builder.report_grouped(
            FindingSeverity.CHANGED, "users", username, ONE_SET_OF_RULES(), RULES_THERE(), SET_RULES_BY_PRIORITY()
        )
    return True


def _matches_all(rule: JsonObject) -> bool:
    criteria = object_of(rule.get("criteria"))
    return str(criteria.get("type") or "match-all") == "match-all" and not rule.get("timeRestriction")


def _is_same_address(address: str, other_address: str) -> bool:
    if "@" in address:
        return address.casefold() == other_address.casefold()
    return [c for c in address if c.isdigit()] == [c for c in other_address if c.isdigit()]


def _absences(builder: OpsgenieBuilder, username: str) -> list[dict[str, Any]]:
    """Current and future forwardings of this user's alerts, as absences with cover."""
    absences = []
    for rule in builder.documents("forwardings"):
        span = builder.upcoming(rule.get("startDate"), rule.get("endDate"))
        cover = builder.find_user(rule.get("toUser"))
        if span and cover not in (None, username) and builder.find_user(rule.get("fromUser")) == username:
            absences.append({**span, "cover": cover, "note": people.forwarded(builder)})
    absences.sort(key=lambda entry: str(entry["from"]))
    return people.without_overlaps(builder, username, [], absences, ABSENCES_OVERLAP())


# ---------- schedules
# Converts Opsgenie's schedules: parallel rotations with restrictions, and overrides of all or some rotations. Pure.
#
# See https://support.atlassian.com/opsgenie/docs/manage-on-call-schedules-and-rotations/. Rotations count from their
# start, handoffs also occur outside restricted times, and an overriding user is on call for the whole override.


_UNITS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}


def _schedule(builder: OpsgenieBuilder, document: JsonObject) -> None:
    """Adds a schedule with at least one user."""
    source_name, references = str(document.get("name") or ""), keys(document, "name")
    if document.get("enabled") is False:
        builder.disabled_schedules.update(references)
        subject = reasons.SCHEDULE(schedule=source_name)
        builder.report_omitted(subject, reasons.NOT_IMPORTED(), DISABLED_THERE())
        return
    zone_name = builder.resolve_zone(document.get("timezone"), reasons.SCHEDULE(schedule=source_name))
    rotations = _Rotations(builder, source_name, ZoneInfo(zone_name))
    for rotation in objects_of(document.get("rotations")):
        rotations.add(rotation)
    overrides = [entry for item in objects_of(document.get("overrides")) for entry in rotations.override(item)]
    group = resolve(builder.groups, document.get("ownerTeam"))
    entry = {"time_zone": zone_name, "shifts": rotations.shifts, "overrides": overrides}
    if added := builder.add_schedule(source_name, group, rotations.users, NO_ROTATION_WITH_USERS(), entry):
        name, builder.group_by_schedule[added[0]] = added
        builder.schedules |= dict.fromkeys(references, name)


class _Rotations:
    """The rotations of one schedule during its conversion."""

    def __init__(self, builder: OpsgenieBuilder, schedule: str, zone: ZoneInfo) -> None:
        self.builder, self.schedule, self.zone = builder, schedule, zone
        self.shifts: list[dict[str, Any]] = []
        self.users: list[str] = []
        self._names: set[str] = set()
        #: The names of a rotation's shifts, by its id and name.
        self._shift_names_by_key: dict[str, list[str]] = {}
        #: Rotations with times when nobody is on call.
        self._with_gaps: set[str] = set()
        self._count = 0

    def add(self, rotation: JsonObject) -> None:
        """Adds a rotation's shifts."""
        self._count += 1
        subject = SCHEDULE_ROTATION(schedule=self.schedule, rotation=str(rotation.get("name") or self._count))
        try:
            converted = self._convert_rotation(rotation, subject)
            shifts = rotation_converter.shifts(converted, self.builder.now.astimezone(self.zone).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError) as problem:
            self.builder.report_omitted(
                subject, reasons.NOT_IN_SCHEDULE(), why_unsupported(problem), reasons.ADD_SHIFT()
            )
            return
        if shifts and converted.interval % timedelta(days=1):
            self.builder.report_changed(subject, LOCAL_HANDOFFS(), NOT_WHOLE_DAYS())
        self.shifts += shifts
        self.users += [user for user in converted.slots if user and user not in self.users]
        for key in keys(rotation, "name"):
            self._shift_names_by_key[key] = [shift["name"] for shift in shifts]
            if converted.windows or None in converted.slots:
                self._with_gaps.add(key)

    def override(self, document: JsonObject) -> list[dict[str, Any]]:
        """A current or future override: one for the whole schedule, or one per shift of its rotations."""
        span = self.builder.upcoming(document.get("startDate"), document.get("endDate"))
        if span is None:
            return []
        user = self.builder.find_user(document.get("user"))
        alias = str(document.get("alias") or "")
        subject = reasons.SCHEDULE_OVERRIDE(schedule=self.schedule)
        if alias:
            subject = NAMED_OVERRIDE(schedule=self.schedule, override=alias)
        if user is None:
            difference = reasons.OVERRIDE_NOT_IMPORTED(start=span["from"], end=span["to"])
            self.builder.report_omitted(subject, difference, OVERRIDE_FOR_NOBODY(), reasons.ENTER_OVERRIDE())
            return []
        entry = {"user": user, **span}
        rotation_references = objects_of(document.get("rotations"))
        if not rotation_references or len(rotation_references) >= self._count:
            return [entry]
        if any(key in self._with_gaps for item in rotation_references for key in keys(item, "name")):
            difference = OVERRIDE_WITHIN_ROTATION(start=span["from"], end=span["to"])
            self.builder.report_changed(subject, difference, OVERRIDE_OF_RESTRICTED(), OVERRIDE_SCHEDULE(user=user))
        shifts = [name for item in rotation_references for name in resolve(self._shift_names_by_key, item) or []]
        return [{**entry, "shift": name} for name in dict.fromkeys(shifts)]

    def _convert_rotation(self, rotation: JsonObject, subject: Reason) -> ConvertedRotation:
        unit = _UNITS.get(str(rotation.get("type")).lower())
        start = parse_time(rotation.get("startDate"))
        length = rotation.get("length") or 1
        if unit is None or start is None or not isinstance(length, int) or not 0 < length < 10_000:
            raise UnsupportedRotation(ROTATION_UNREADABLE())
        end = parse_time(rotation.get("endDate"))
        return ConvertedRotation(
            name=unique_name(clean_name(rotation.get("name"), f"Rotation {self._count}"), self._names),
            slots=tuple(self._slot(participant, subject) for participant in objects_of(rotation.get("participants"))),
            first_handoff=self._local(start),
            interval=unit * length,
            windows=open_windows(rotation.get("timeRestriction")),
            end=self._local(end) if end is not None else None,
        )

    def _slot(self, participant: JsonObject, subject: Reason) -> str | None:
        kind = str(participant.get("type") or "user").lower()
        if kind == "none":
            return None
        user = self.builder.find_user(participant) if kind == "user" else None
        if user is None:
            label = participant.get("username") or participant.get("name") or participant.get("id")
            reason = reasons.NOT_A_USER() if kind == "user" else SHIFT_HAS_USERS()
            self.builder.report_omitted(
                subject, EMPTY_TURN_OF_KIND(kind=kind, name=str(label)), reason, reasons.EDIT_SHIFT()
            )
        return user

    def _local(self, at: datetime) -> datetime:
        return at.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0)


# ---------- policies
# Converts Opsgenie's escalations. Its delays count from the alert's creation, Tocsin's from the previous step. Pure.
#
# See https://docs.opsgenie.com/docs/escalation-api: a rule fires after its delay if the alert is not acknowledged, or
# not closed, by then; `repeat` starts over this many minutes after the last rule.


_NOT_CLOSED = "if-not-closed"


def by_schedule(builder: OpsgenieBuilder, schedule: str) -> str:
    """The policy that pages the on-call users of a schedule; created on first use."""
    if schedule not in builder.policy_by_schedule:
        name = builder.claim_name("escalation_policies", f"On call by {schedule}")
        builder.policy_by_schedule[schedule] = name
        steps = [{"notify": {"schedules": [schedule]}, "after": "0m"}]
        group = builder.group_by_schedule.get(schedule)
        builder.add("escalation_policies", {"name": name, "group": group, "steps": steps})
    return builder.policy_by_schedule[schedule]


def _policy(builder: OpsgenieBuilder, document: JsonObject) -> None:
    source_name = str(document.get("name") or "")
    subject = sentence("escalation {escalation}", escalation=source_name)
    rules = sorted(objects_of(document.get("rules")), key=lambda rule: parse_duration(rule.get("delay")))
    has_unclosed = any(rule.get("condition") == _NOT_CLOSED for rule in rules)
    steps: list[dict[str, Any]] = []
    previous = timedelta()
    for position, rule in enumerate(rules, 1):
        notify = _notify_targets(builder, rule, sentence("{policy}: rule {rule}", policy=subject, rule=position))
        if notify is None:
            continue
        at = parse_duration(rule.get("delay"))
        step: dict[str, Any] = {"notify": notify, "after": inputs.write_duration(at - previous)}
        if has_unclosed and rule.get("condition") != _NOT_CLOSED:
            step["only_until_acknowledged"] = True
        steps.append(step)
        previous = at
    nobody = sentence("None of its rules notifies an imported user.")
    name = builder.claim_policy(source_name, subject, steps, nobody)
    if name is None:
        return
    entry: dict[str, Any] = {"name": name, "group": resolve(builder.groups, document.get("ownerTeam"))}
    if has_unclosed:
        entry["acknowledge"] = {"effect": "continue"}
    else:
        builder.report_ack_timeout("escalations", source_name)
    repeat = _repeat(builder, document, subject, parse_duration(rules[0].get("delay")))
    builder.add("escalation_policies", entry | {"repeat": repeat, "steps": steps})
    builder.policies |= dict.fromkeys(keys(document, "name"), name)


def _repeat(builder: OpsgenieBuilder, document: JsonObject, subject: Reason, first_delay: timedelta) -> dict[str, Any]:
    repeat = object_of(document.get("repeat"))
    count, wait_minutes = repeat.get("count"), repeat.get("waitInterval")
    if repeat.get("closeAlertAfterAll"):
        builder.report_changed(
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
    return {"times": min(count, MAX_POLICY_REPEATS), "every": inputs.write_duration(interval)}


def _notify_targets(builder: OpsgenieBuilder, rule: JsonObject, subject: Reason) -> JsonObject | None:
    recipient = object_of(rule.get("recipient"))
    kind, notify_type = str(recipient.get("type") or "").lower(), str(rule.get("notifyType") or "default").lower()
    match kind:
        case "user":
            user = builder.find_user(recipient)
            if user is not None:
                return {"users": [user]}
        case "schedule":
            return _by_schedule(builder, recipient, notify_type, subject)
        case "team":
            team = resolve(builder.teams, recipient)
            if team is not None:
                return _by_team(builder, team, notify_type, subject)
    recipient_name = recipient.get("name") or recipient.get("username") or recipient.get("id") or "nobody"
    builder.report_omitted(
        subject, reasons.DOES_NOT_NOTIFY_KIND(kind=kind or "somebody", target=recipient_name), reasons.UNKNOWN_HERE()
    )
    return None


def _by_schedule(
    builder: OpsgenieBuilder, recipient: JsonObject, notify_type: str, subject: Reason
) -> JsonObject | None:
    references = list(keys(recipient, "name"))
    if any(key in builder.disabled_schedules for key in references):
        builder.report_omitted(
            subject,
            reasons.DOES_NOT_NOTIFY(target=str(recipient.get("name"))),
            sentence("The schedule is disabled in Opsgenie."),
        )
        return None
    name = resolve(builder.schedules, recipient)
    if name is None:
        builder.report_omitted(
            subject,
            reasons.DOES_NOT_NOTIFY(target=str(recipient.get("name") or "a schedule")),
            sentence("The schedule could not be imported."),
            sentence("Create the schedule, and add it to the policy."),
        )
        return None
    if notify_type == "previous":
        return {"previous_on_call": True, "groups": [builder.group_by_schedule[name]]}
    if notify_type == "next":
        builder.report_changed(
            subject,
            sentence("notifies who is on call in {schedule}, not who is next", schedule=name),
            sentence("A step in Tocsin knows who is and was on call, not who is next."),
            sentence("Choose a second schedule or a user instead."),
        )
    if notify_type == "all":
        return {"groups": [builder.group_by_schedule[name]], "everybody": True}
    return {"schedules": [name]}


def _by_team(builder: OpsgenieBuilder, team: JsonObject, notify_type: str, subject: Reason) -> JsonObject:
    group = builder.find_group(team)
    everybody: JsonObject = {"groups": [group], "everybody": True}
    members = objects_of(team.get("members"))
    match notify_type:
        case "admins" if any(str(member.get("role")).lower() == "admin" for member in members):
            return {"groups": [group], "roles": ["lead"]}
        case "users":
            regular_members = [member for member in members if str(member.get("role")).lower() != "admin"]
            users = [name for member in regular_members if (name := builder.find_user(member.get("user")))]
            if users:
                return {"users": list(dict.fromkeys(users))}
        case "random":
            builder.report_changed(
                subject, NOTIFIES_GROUP(group=str(group)), sentence("A step in Tocsin does not choose at random.")
            )
            return everybody
        case "all":
            return everybody
        case _:
            schedule = _first_schedule(builder, default_notify(team))
            if schedule is not None:
                builder.report_changed(
                    subject,
                    sentence("notifies who is on call in {schedule}", schedule=schedule),
                    sentence(
                        "Opsgenie notifies the team {group} by its own routing rules; a step in Tocsin is one step.",
                        group=str(group),
                    ),
                    sentence("Add the team's further steps if you want them in Tocsin too."),
                )
                return {"schedules": [schedule]}
    builder.report_changed(subject, NOTIFIES_GROUP(group=str(group)), sentence("Nothing narrower could be imported."))
    return everybody


def default_notify(team: JsonObject) -> JsonObject:
    """The target of the team's default routing rule; an empty object if there is none."""
    rules = objects_of(team.get("routing_rules"))
    rule = next((item for item in rules if item.get("isDefault")), rules[-1] if rules else {})
    return object_of(rule.get("notify"))


def _first_schedule(builder: OpsgenieBuilder, notify: JsonObject) -> str | None:
    """The schedule that a routing rule notifies, directly or first in its escalation."""
    if notify.get("type") == "schedule":
        return resolve(builder.schedules, notify)
    escalation = resolve(builder.escalations, notify) if notify.get("type") == "escalation" else None
    for rule in objects_of(object_of(escalation).get("rules")):
        recipient = object_of(rule.get("recipient"))
        if recipient.get("type") == "schedule" and (name := resolve(builder.schedules, recipient)):
            return name
    return None


# ---------- integrations
# Converts Opsgenie's integrations and heartbeats, with their team's routing rules as routes. Pure.


#: Senders that use Opsgenie's Alert API directly, so that only the URL changes.
_OPSGENIE_SENDERS = frozenset({"api", "prometheus", "grafana", "alertmanager", "oec", "marid", "terraform", "thanos"})
#: Integrations to which Opsgenie only sends.
_OUTGOING = frozenset(
    {
        *("slack", "slackapp", "microsoftteams", "msteams", "msteamsv2", "mattermost", "flowdock", "hipchat"),
        *("campfire", "zoom", "googlechat", "ringcentralglip", "xmpp", "twilio", "webhook", "statuspage", "jira"),
        *("jiracloud", "jiraservicedesk", "servicenow", "servicenowv3", "zendesk"),
    }
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
_INTERVAL_UNITS = {"minutes": "m", "hours": "h", "days": "d", "weeks": "w"}


def heartbeats(builder: OpsgenieBuilder, documents: list[JsonObject]) -> None:
    """Adds every heartbeat under its own name: senders also ping /v2/heartbeats/NAME/ping here."""
    for heartbeat in documents:
        name = builder.claim_name("integrations", heartbeat.get("name"))
        unit = _INTERVAL_UNITS.get(str(heartbeat.get("intervalUnit") or "minutes").lower(), "m")
        interval = heartbeat.get("interval")
        entry: dict[str, Any] = {"name": name, "kind": "heartbeat"}
        if isinstance(interval, int) and 0 < interval < 100_000:
            entry["settings"] = {"interval": f"{interval}{unit}"}
        if heartbeat.get("enabled") is False:
            entry["mode"] = "disabled"
        builder.add("integrations", entry | _recipients(builder, object_of(heartbeat.get("ownerTeam")), name))
        builder.report_grouped(
            FindingSeverity.TO_DO,
            "heartbeats",
            name,
            sentence("wait for their first ping"),
            sentence("Their senders still ping Opsgenie."),
            sentence("Change their URL to Tocsin's, and their key to the heartbeat's token."),
        )


def integrations(builder: OpsgenieBuilder, documents: list[JsonObject]) -> None:
    """Adds every integration that receives alerts; its key becomes the token if known and requested."""
    for document in documents:
        source_name, source_type = str(document.get("name") or ""), str(document.get("type") or "API")
        normalized_type = re.sub(r"[^a-z0-9]", "", source_type.lower())
        if normalized_type in _OUTGOING:
            builder.report_grouped(
                FindingSeverity.OMITTED,
                "integrations",
                f"{source_name} ({source_type})",
                reasons.NOT_IMPORTED(),
                sentence("They send from Opsgenie to another system."),
                sentence("Connect that system under Outbound integrations, Providers or Chat."),
            )
            continue
        name = builder.claim_name("integrations", source_name)
        builder.integrations |= dict.fromkeys(keys(document, "name"), name)
        kind = "email" if normalized_type.endswith("email") else "api"
        kind = "opsgenie" if normalized_type in _OPSGENIE_SENDERS else kind
        entry: dict[str, Any] = {"name": name, "kind": kind}
        if document.get("enabled") is False:
            entry["mode"] = "disabled"
        key = document.get("apiKey")
        if builder.with_keys and isinstance(key, str) and _TOKEN.fullmatch(key):
            entry["token"] = key
        team = _owner(builder, document, name)
        builder.add("integrations", entry | _recipients(builder, team, name) | _routes(builder, team, kind, name))
        _report_senders(builder, name, kind, source_type)


def _report_senders(builder: OpsgenieBuilder, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "opsgenie":
            builder.report_senders(name, reasons.WAIT_FOR_SENDERS(), STILL_SEND(), CHANGE_URL_AND_KEY())
        case "email":
            remedy = reasons.CHANGE_TO_GUIDE_ADDRESS()
            builder.report_senders(name, reasons.WAIT_FOR_EMAILS(), STILL_WRITE(), remedy)
        case _:
            general, own = reasons.GENERIC_KIND(kind=source_type), OWN_FORMAT(kind=source_type)
            builder.report_senders(name, general, own, reasons.SET_URL_OR_CHOOSE_KIND())


def _owner(builder: OpsgenieBuilder, document: JsonObject, name: str) -> JsonObject:
    """The team an integration belongs to."""
    owner = object_of(document.get("ownerTeam")) or {"id": document.get("teamId")}
    team = resolve(builder.teams, owner)
    if team is not None:
        return team
    responders = objects_of(document.get("responders")) or objects_of(document.get("recipients"))
    for responder in responders:
        if str(responder.get("type")).lower() == "team" and (team := resolve(builder.teams, responder)):
            return team
    if responders:
        builder.report_changed(
            reasons.INTEGRATION(integration=name),
            sentence("notifies no one yet"),
            sentence("Its responders in Opsgenie are not a team."),
            reasons.CHOOSE_POLICY_AND_RECIPIENTS(),
        )
    return {}


def _recipients(builder: OpsgenieBuilder, owner: JsonObject, name: str) -> dict[str, Any]:
    """The policy and recipients of that team's integrations."""
    team = resolve(builder.teams, owner)
    group = builder.find_group(owner)
    policy = _policy_of(builder, default_notify(team)) if team else None
    if group is None or policy is None:
        builder.report_no_policy(
            name, sentence("No team owns them in Opsgenie, or the team's default rule notifies no one.")
        )
        return {"group": group, "anyway": True, "recipients": {"groups": [group]} if group else {}}
    return {"group": group, "escalation_policy": policy, "recipients": {"groups": [group]}}


def _policy_of(builder: OpsgenieBuilder, notify: JsonObject) -> str | None:
    match notify.get("type"):
        case "escalation":
            return resolve(builder.policies, notify)
        case "schedule":
            schedule = resolve(builder.schedules, notify)
            return by_schedule(builder, schedule) if schedule else None
    return None


def _routes(builder: OpsgenieBuilder, team: JsonObject, kind: str, name: str) -> dict[str, Any]:
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
            routes.append(_route(builder, team, rule, kind))
        except _NotConvertible as problem:
            builder.report_omitted(subject, reasons.NOT_IMPORTED(), problem.reason, reasons.ADD_ROUTE())
    return {"routes": routes}


class _NotConvertible(Exception):
    """The rule has no equivalent; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _route(builder: OpsgenieBuilder, team: JsonObject, rule: JsonObject, kind: str) -> dict[str, Any]:
    route: dict[str, Any] = {"name": str(rule.get("name") or "Routing rule").replace("\0", "")[:100]}
    condition = _condition(object_of(rule.get("criteria")), kind)
    if condition:
        route["when"] = condition
    if rule.get("timeRestriction"):
        route["during"] = _support_hours(builder, team, rule)
    notify = object_of(rule.get("notify"))
    if str(notify.get("type") or "none") == "none":
        return route | {"action": "record"}
    policy = _policy_of(builder, notify)
    if policy is None:
        raise _NotConvertible(sentence("Its target could not be imported."))
    return route | {"escalation_policy": policy}


def _support_hours(builder: OpsgenieBuilder, team: JsonObject, rule: JsonObject) -> str:
    try:
        windows = open_windows(rule.get("timeRestriction"))
    except ValueError:
        raise _NotConvertible(sentence("Its time restriction cannot be read.")) from None
    if not windows:
        windows = (weekly_windows.WeeklyWindow(frozenset(range(7)), 0, weekly_windows.MINUTES_A_DAY),)
    group = builder.find_group(team)
    requested_name = f"{group}: {rule.get('name') or 'routing rule'}"
    windows_spec = weekly_windows.write(windows)
    key = f"{team.get('id')} {rule.get('id') or rule.get('name')}"
    if key not in builder.support_hours:
        builder.support_hours[key] = builder.claim_name("support_hours", requested_name)
        zone = builder.resolve_zone(rule.get("timezone"), SUPPORT_HOURS(support_hours=builder.support_hours[key]))
        builder.add(
            "support_hours",
            {"name": builder.support_hours[key], "group": group, "time_zone": zone, "windows": windows_spec},
        )
    return builder.support_hours[key]


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


# ---------- maintenance
# Converts Opsgenie's maintenances, which disable integrations for a time. Pure.
#
# See https://docs.opsgenie.com/docs/maintenance-api.


def windows(builder: OpsgenieBuilder, documents: list[JsonObject]) -> None:
    """Adds upcoming maintenances; those that enable or disable policies have no equivalent."""
    for document in documents:
        if str(document.get("status")).lower() in ("past", "cancelled"):
            continue
        window_name = text_of(document, "description", "name", "id") or "Maintenance"
        time = object_of(document.get("time"))
        integration_names: list[str] = []
        policy_count = 0
        for rule in objects_of(document.get("rules")):
            entity = object_of(rule.get("entity"))
            if str(entity.get("type")).lower() != "integration":
                policy_count += 1
            elif (name := resolve(builder.integrations, entity)) is not None:
                integration_names.append(name)
        if policy_count and integration_names:
            subject = reasons.MAINTENANCE(window=window_name)
            builder.report_changed(subject, INTEGRATIONS_ONLY(), SWITCHES_POLICIES())
        people.window(builder, window_name, time.get("startDate"), time.get("endDate"), integration_names)


# ---------- product


_OMITTED_KINDS = {
    "alert_policies": (
        "alert and notification policies",
        GLOBAL_RULES(),
        SET_ON_INTEGRATIONS(),
    ),
    "services": ("services", NO_INCIDENTS(), USE_TAGS()),
}


def _convert(builder: OpsgenieBuilder) -> None:
    users(builder)
    groups(builder, builder.documents("teams"))
    for document in builder.documents("schedules"):
        _schedule(builder, document)
    escalations = builder.documents("escalations")
    for document in escalations:
        builder.escalations |= dict.fromkeys(keys(document, "name"), document)
    for document in escalations:
        _policy(builder, document)
    # Heartbeats first: their names are part of senders' URLs and must not change.
    heartbeats(builder, builder.documents("heartbeats"))
    integrations(builder, builder.documents("integrations"))
    windows(builder, builder.documents("maintenances"))
    for kind, (label, reason, remedy) in _OMITTED_KINDS.items():
        builder.report_kind_omitted(kind, label, reason, remedy)


convert = converter("Opsgenie", OpsgenieBuilder, _convert)

PRODUCT = Product(
    name="opsgenie",
    title="Opsgenie",
    base="https://api.opsgenie.com",
    key_variable="OPSGENIE_API_KEY",
    key_location=translatable("Settings → API key management, with Read and Configuration access"),
    key_help=CREATE_KEY(),
    headers=lambda key: {"Authorization": f"GenieKey {key}"},
    fetch=opsgenie_reader.fetch,
    convert=convert,
    read_export=opsgenie_reader.read,
)
