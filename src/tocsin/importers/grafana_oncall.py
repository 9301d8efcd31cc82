"""Grafana OnCall: read through its HTTP API (https://grafana.com/docs/oncall/latest/oncall-api-reference/) and
converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import NO_REASON, Reason, Text, sentence, translatable
from tocsin.core.validation import inputs
from tocsin.importers import people, reasons, rotation_converter
from tocsin.importers.api_reader import MAX_LIST_PAGES, ApiReader
from tocsin.importers.config_builder import (
    ConfigBuilder,
    FindingSeverity,
    JsonObject,
    Product,
    clean_name,
    converter,
    id_of,
    object_of,
    objects_of,
    parse_local_time,
    unique_name,
)
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation, why_unsupported
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.changes.specs import MAX_LAYERS, MAX_WEEKS

# ---------- reasons
# Reasons of imports from Grafana OnCall.


CREATE_KEY = Text("Create one in OnCall under Settings → API tokens; the API's address is there too.")
STILL_WRITE = Text("Their senders still write to OnCall's address.")
STILL_SEND = Text("Those still send to OnCall.")
CALLS_WEBHOOK = Text("It calls a webhook.")
CREATE_OUTBOUND_INTEGRATION = Text("Create an outbound integration.")
NOT_IN_POLICY = Text("not in the policy")
CHAIN = Text("chain {chain}")
ROUND_ROBIN_THERE = Text("OnCall takes the next in turn for each alert; a step in Tocsin does not.")


# ---------- client
# Reads a Grafana OnCall instance through its HTTP API: documents as in the API.


#: Required and optional lists, by their names in the API.
_REQUIRED = ("users", "schedules", "on_call_shifts", "escalation_chains", "escalation_policies")
_OPTIONAL = ("teams", "integrations", "routes", "personal_notification_rules", "webhooks")


def fetch(source: ApiReader, now: datetime) -> dict[str, list[JsonObject]]:
    """All documents that are converted."""
    del now  # shifts are always read completely
    documents: dict[str, list[JsonObject]] = {kind: list(_all(source, kind)) for kind in _REQUIRED}
    return documents | {kind: source.optional(kind, _all(source, kind)) for kind in _OPTIONAL}


def _all(source: ApiReader, kind: str) -> Iterator[JsonObject]:
    """All objects of a list, by page number, because `next` may use another host name for the server."""
    count = 0
    for page_number in range(1, MAX_LIST_PAGES + 1):
        page = object_of(source.get(f"{kind}/", page=page_number))
        objects = objects_of(page.get("results"))
        yield from objects
        count += len(objects)
        source.progress(reasons.READ_OBJECTS(total=count, kind=kind.replace("_", " ")))
        if not page.get("next") or not objects:
            return


# ---------- references


def known_usernames(builder: ConfigBuilder, ids: object) -> list[str]:
    """The usernames for a list of ids, without duplicates and unknown users."""
    items = [item for item in ids if isinstance(item, str)] if isinstance(ids, list) else []
    return list(dict.fromkeys(builder.users[item] for item in items if item in builder.users))


def team_group(builder: ConfigBuilder, document: JsonObject) -> str | None:
    """The group for an object's team."""
    return builder.groups.get(str(document.get("team_id") or ""))


def _number(document: JsonObject, name: str) -> int:
    value = document.get(name)
    return int(value) if isinstance(value, int | float) and 0 <= value < 10**8 else 0


# ---------- shifts
# Converts OnCall's shifts by their recurrence rules: single events, recurrent events and rolling users. Pure.
#
# See https://grafana.com/docs/oncall/latest/oncall-api-reference/on_call_shifts/. `start` is local time in the shift's
# zone. Rolling users take turns by the rule's periods (hours, days, weeks), `interval` periods each; within a week,
# each day of `by_day` is an occurrence for the users who have that week. `until` limits when occurrences begin.


_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WEEK = timedelta(weeks=1)
_DAY = timedelta(days=1)
_PERIODS = {"hourly": timedelta(hours=1), "daily": _DAY, "weekly": _WEEK}


@dataclass(frozen=True, slots=True)
class GrafanaShift:
    """An OnCall shift with local times in its zone.

    `rotation` are the users of each turn, in order; a recurring shift without rolling users has a single turn.
    """

    name: str
    layer: int
    start: datetime
    duration: timedelta
    rotation: tuple[tuple[str, ...], ...]
    #: None: a single occurrence.
    frequency: str | None = None
    interval: int = 1
    #: 0 is Monday.
    by_day: tuple[int, ...] = ()
    week_start: int = 0
    until: datetime | None = None
    #: No occurrence begins earlier.
    begin: datetime | None = None


def read(document: JsonObject, name: str, layer: int, rotation: tuple[tuple[str, ...], ...]) -> GrafanaShift:
    """Parses a document. Raises UnsupportedRotation."""
    start, duration = _parse_local(document.get("start")), document.get("duration")
    if start is None or not isinstance(duration, int) or not 60 <= duration < 10**8:
        raise UnsupportedRotation(sentence("Its start or duration cannot be read."))
    if document.get("by_month") or document.get("by_monthday"):
        raise UnsupportedRotation(sentence("It is for some months or days of the month only."))
    interval = document.get("interval") or 1
    days = document.get("by_day") or []
    if not isinstance(interval, int) or not 1 <= interval < 10_000 or not set(days) <= set(_DAYS):
        raise UnsupportedRotation(sentence("Its rule cannot be read."))
    is_single_occurrence = document.get("type") in ("single_event", "override")
    return GrafanaShift(
        name=name,
        layer=layer,
        start=start,
        duration=timedelta(seconds=duration // 60 * 60),
        rotation=rotation,
        frequency=None if is_single_occurrence else str(document.get("frequency") or ""),
        interval=interval,
        by_day=tuple(sorted(_DAYS.index(day) for day in days)),
        week_start=_DAYS.index(document["week_start"]) if document.get("week_start") in _DAYS else 0,
        until=_parse_local(document.get("until")),
        begin=_parse_local(document.get("rotation_start")),
    )


def shifts(event: GrafanaShift, now: datetime) -> list[dict[str, Any]]:
    """The shifts as in YAML; none if the shift is over at the local time `now` or has no users.

    Raises UnsupportedRotation.
    """
    if not any(event.rotation):
        return []
    if event.frequency is None:
        end = event.start + event.duration
        return [_fixed_shift(event, event.name, event.rotation[0], event.start, None, None)] if end > now else []
    period = _PERIODS.get(event.frequency)
    if period is None:
        raise UnsupportedRotation(
            sentence(
                "It recurs by an unsupported rule: {frequency}.",
                frequency=event.frequency or "by a rule that cannot be read",
            )
        )
    if event.until is not None and (event.until < event.start or event.until + event.duration <= now):
        return []
    recurrence = event.interval * period
    if event.duration >= recurrence and not event.by_day:
        if event.duration > recurrence and len(event.rotation) > 1:
            raise UnsupportedRotation(sentence("Its turns overlap."))
        return _without_gaps(event, recurrence, now)
    if event.frequency == "hourly":
        raise UnsupportedRotation(sentence("It recurs by the hour, with gaps."))
    if len(event.rotation) == 1 and event.duration <= _DAY and recurrence in (_WEEK, _DAY):
        return _in_windows(event, recurrence, now)
    return _occurrences(event, recurrence, now)


def _in_windows(event: GrafanaShift, recurrence: timedelta, now: datetime) -> list[dict[str, Any]]:
    """A shift with the same users on the same weekdays."""
    first_occurrences = [_not_before(occurrence, event.begin, 1) for _, occurrence in _first_week(event, recurrence)]
    minutes = event.duration // timedelta(minutes=1)
    windows = [rotation_converter.window(at.weekday(), at.hour * 60 + at.minute, minutes) for at in first_occurrences]
    bounds = {"start": _format_time(min(first_occurrences))}
    if event.until is not None:
        until = event.until
        ends = [at + (until - at) // _WEEK * _WEEK + event.duration for at in first_occurrences if at <= until]
        if not ends or max(ends) <= now:
            return []
        bounds["end"] = _format_time(max(ends))
    pattern = {
        "windows": weekly_windows.write(rotation_converter.combine(windows)),
        "users": list(event.rotation[0]),
        "roles": ["primary"],
    }
    layer = {"layer": event.layer} if event.layer != 1 else {}
    return [{"name": event.name, **layer, "fixed": pattern, **bounds}]


def _first_week(event: GrafanaShift, recurrence: timedelta) -> list[tuple[tuple[str, ...], datetime]]:
    """The first occurrence on each weekday that has one."""
    if recurrence == _DAY and not event.by_day:
        return [(event.rotation[0], event.start + day * _DAY) for day in range(7)]
    return _first_occurrences(event, recurrence)


def _without_gaps(event: GrafanaShift, recurrence: timedelta, now: datetime) -> list[dict[str, Any]]:
    """Turns without gaps become a rotation; users who share a turn become parallel rotations."""
    max_members = max(len(members) for members in event.rotation)
    converted = []
    for index in range(max_members):
        slots = tuple(members[index] if index < len(members) else None for members in event.rotation)
        name = event.name if index == 0 else f"{event.name[:90]}, beside {index}"
        end = _last_end(event, recurrence) if event.until is not None else None
        converted += rotation_converter.shifts(
            ConvertedRotation(name, slots, event.start, recurrence, (), event.begin, end, event.layer), now
        )
    return converted


def _last_end(event: GrafanaShift, recurrence: timedelta) -> datetime:
    """The end of the last occurrence that begins by `until`."""
    assert event.until is not None
    elapsed = max(0, (event.until - event.start) // recurrence)
    return event.start + elapsed * recurrence + event.duration


def _occurrences(event: GrafanaShift, recurrence: timedelta, now: datetime) -> list[dict[str, Any]]:
    """Each occurrence as a fixed shift that recurs after everybody's turn."""
    first_occurrences = list(_first_occurrences(event, recurrence))
    cycle = recurrence * len(event.rotation)
    weeks = next((n for n in range(1, MAX_WEEKS + 1) if (n * _WEEK) % cycle == timedelta()), None)
    if weeks is None:
        raise UnsupportedRotation(sentence("Its rotation repeats after more than a year."))
    repetitions = range((weeks * _WEEK) // cycle)
    occurrences = [
        (users, occurrence + position * cycle)
        for position in repetitions
        for users, occurrence in first_occurrences
        if users
    ]
    if event.duration > weeks * _WEEK or len(occurrences) > rotation_converter.MAX_SEGMENTS:
        raise UnsupportedRotation(reasons.TOO_MANY_OCCURRENCES(spans=len(occurrences), weeks=weeks))
    converted = []
    for position, (users, occurrence) in enumerate(occurrences, 1):
        name = event.name if len(occurrences) == 1 else f"{event.name[:90]}, {position}"
        begins = _not_before(occurrence, event.begin, weeks)
        end = None
        if event.until is not None:
            if begins > event.until:
                continue
            end = begins + (event.until - begins) // (weeks * _WEEK) * (weeks * _WEEK) + event.duration
            if end <= now:
                continue
        converted.append(_fixed_shift(event, name, users, begins, f"{weeks}w", end))
    return converted


def _first_occurrences(event: GrafanaShift, recurrence: timedelta) -> list[tuple[tuple[str, ...], datetime]]:
    """The occurrences of everybody's first turn."""
    if event.frequency == "daily":
        if event.by_day and set(event.by_day) != set(range(7)):
            if event.interval > 1 or len(event.rotation) > 1:
                raise UnsupportedRotation(sentence("Its daily turns are on some days of the week only."))
            return _in_week(event, event.rotation[0], event.start)
        return [(users, event.start + index * recurrence) for index, users in enumerate(event.rotation)]
    occurrences = []
    for index, users in enumerate(event.rotation):
        # The first turn begins on the day of `start`, later ones with their week.
        monday = event.start - ((event.start.weekday() - event.week_start) % 7) * _DAY
        occurrences += _in_week(
            event, users, event.start if index == 0 else monday + index * recurrence, index * recurrence
        )
    return occurrences


def _in_week(
    event: GrafanaShift, users: tuple[str, ...], since: datetime, offset: timedelta = timedelta()
) -> list[tuple[tuple[str, ...], datetime]]:
    """The days of one turn's week. Days before the start come with the next turn of the same users."""
    first_day = event.start - ((event.start.weekday() - event.week_start) % 7) * _DAY + offset
    cycle = event.interval * len(event.rotation) * _WEEK if event.frequency == "weekly" else _WEEK
    occurrences = []
    for day in event.by_day or (event.start.weekday(),):
        at = first_day + ((day - event.week_start) % 7) * _DAY
        occurrences.append((users, at if at >= since else at + cycle))
    return occurrences


def _not_before(occurrence: datetime, begin: datetime | None, weeks: int) -> datetime:
    """The first occurrence at or after `begin`."""
    if begin is None or occurrence >= begin:
        return occurrence
    return occurrence + -((occurrence - begin) // (weeks * _WEEK)) * weeks * _WEEK


def _fixed_shift(
    event: GrafanaShift, name: str, users: tuple[str, ...], begin: datetime, every: str | None, end: datetime | None
) -> dict[str, Any]:
    fixed: dict[str, Any] = {"from": _format_time(begin), "to": _format_time(begin + event.duration)}
    if every is not None:
        fixed["every"] = every
    shift: dict[str, Any] = {"name": name}
    if event.layer != 1:
        shift["layer"] = event.layer
    shift["fixed"] = {**fixed, "users": list(users), "roles": ["primary"]}
    return shift | ({"end": _format_time(end)} if end is not None else {})


def _parse_local(value: object) -> datetime | None:
    """A local time in the API's format, such as `2026-01-05T09:00:00`, truncated to the minute."""
    at = parse_local_time(value)
    return at.replace(tzinfo=None, second=0, microsecond=0) if at is not None else None


def _format_time(at: datetime) -> str:
    return at.isoformat(timespec="minutes")


# ---------- people
# Converts OnCall's users with notification rules, and its teams as groups. Its API has no phone numbers. Pure.


_ROLES = {"admin": "admin", "viewer": "observer"}


def users(builder: ConfigBuilder) -> None:
    """Adds every user with an e-mail address."""
    rules = [rule for rule in builder.documents("personal_notification_rules") if not rule.get("important")]
    people.add_all(
        builder,
        builder.documents("users"),
        "username",
        keys=lambda user: [id_of(user)],
        email_of=_email,
        person=lambda user, username: _person(
            builder, user, [rule for rule in rules if rule.get("user_id") == user.get("id")], username
        ),
    )


def _email(user: JsonObject) -> str:
    return str(user.get("email") or "").strip()


def groups(builder: ConfigBuilder, documents: list[JsonObject], users: list[JsonObject]) -> None:
    """Adds the teams with their members, as listed in the users' documents."""
    for team in documents:
        name = builder.claim_name("groups", team.get("name"))
        builder.groups[id_of(team)] = name
        member_ids = [
            id_of(user) for user in users if isinstance(user.get("teams"), list) and id_of(team) in user["teams"]
        ]
        members = [{"user": username, "roles": []} for username in known_usernames(builder, member_ids)]
        builder.add("groups", {"name": name, "members": members})


def _person(builder: ConfigBuilder, user: JsonObject, rules: list[JsonObject], username: str) -> ImportedUser:
    contact_method = ImportedContactMethod("email", _email(user))
    delay = timedelta()
    unsupported = set()
    for rule in sorted(rules, key=lambda item: _number(item, "position")):
        kind = str(rule.get("type") or "")
        if kind == "wait":
            delay += timedelta(seconds=_number(rule, "duration"))
        elif kind == "notify_by_email":
            contact_method.delays.append(delay)
        else:
            unsupported.add(kind)
    if unsupported:
        builder.report_grouped(
            FindingSeverity.TO_DO,
            "users",
            username,
            reasons.FEWER_METHODS(),
            sentence("OnCall's API shows no phone numbers, chat accounts or devices."),
            sentence("Each user adds their number and chats under Me, and enables push under Me → Devices."),
        )
    return ImportedUser(
        email=_email(user),
        name=str(user.get("name") or user.get("username") or ""),
        role=_ROLES.get(str(user.get("role") or "").lower(), "responder"),
        time_zone=str(user.get("timezone") or ""),
        contact_methods=[contact_method],
        has_rules=bool(contact_method.delays),
    )


# ---------- policies
# Converts OnCall's escalation chains to policies; wait steps become the delays of the following steps. Pure.


#: OnCall repeats a chain exactly this often.
_REPEATS = 5
_MINUTE = timedelta(minutes=1)

#: Steps without an equivalent: the reason and the remedy.
_UNSUPPORTED: Mapping[str, tuple[Reason, Reason]] = {
    "notify_if_time_from_to": (
        sentence("OnCall waits until a time of day; steps in Tocsin run when they are due."),
        sentence("Add a route for support hours to the integration if nights should be quiet."),
    ),
    "notify_if_num_alerts_in_window": (
        sentence("OnCall waits for more alerts."),
        sentence("Delay or group alerts on the integration instead."),
    ),
    "trigger_webhook": (CALLS_WEBHOOK(), CREATE_OUTBOUND_INTEGRATION()),
    "trigger_action": (CALLS_WEBHOOK(), CREATE_OUTBOUND_INTEGRATION()),
    "resolve": (sentence("It closes the alert; Tocsin never closes an unanswered alert automatically."), NO_REASON),
    "notify_user_group": (
        sentence("It notifies a user group of Slack."),
        sentence("Create a group, and notify all its members."),
    ),
    "notify_whole_channel": (
        sentence("It notifies a channel of Slack."),
        sentence("Add the channel as a group contact, and notify that."),
    ),
    "declare_incident": (sentence("It declares an incident in Grafana."), CREATE_OUTBOUND_INTEGRATION()),
}


def policies(builder: ConfigBuilder, chains: list[JsonObject], source_steps: list[JsonObject]) -> None:
    """Adds every chain that notifies somebody."""
    for chain in chains:
        chain_steps = [item for item in source_steps if item.get("escalation_chain_id") == chain.get("id")]
        _policy(builder, chain, sorted(chain_steps, key=lambda item: _number(item, "position")))


def _policy(builder: ConfigBuilder, chain: JsonObject, source_steps: list[JsonObject]) -> None:
    chain_name = str(chain.get("name") or "")
    steps: list[dict[str, Any]] = []
    elapsed = previous = timedelta()
    first_delay: timedelta | None = None
    repeat_delay: timedelta | None = None
    for position, source_step in enumerate(source_steps, 1):
        kind = str(source_step.get("type") or "")
        subject = sentence("chain {chain}: step {step}", chain=chain_name, step=position)
        if kind == "wait":
            elapsed += timedelta(seconds=_number(source_step, "duration"))
        elif kind == "repeat_escalation":
            repeat_delay = elapsed
            break
        elif notify := _notify_targets(builder, source_step, kind, subject):
            steps.append({"notify": notify, "after": inputs.write_duration(elapsed - previous)})
            previous, first_delay = elapsed, elapsed if first_delay is None else first_delay
            if source_step.get("important"):
                builder.report_grouped(
                    FindingSeverity.CHANGED,
                    "chains",
                    chain_name,
                    sentence("page by each user's usual notification rules"),
                    sentence("Their steps are important in OnCall, and use each user's important rules."),
                    sentence("Set contact methods on the steps, or notification rules by priority."),
                )
    nobody = sentence("None of its steps notifies an imported user.")
    name = builder.claim_policy(chain_name, CHAIN(chain=chain_name), steps, nobody)
    if name is None:
        return
    entry: dict[str, Any] = {"name": name, "group": team_group(builder, chain)}
    if repeat_delay is not None:
        interval = max(_MINUTE, repeat_delay - previous + (first_delay or timedelta()))
        entry["repeat"] = {"times": _REPEATS, "every": inputs.write_duration(interval)}
    builder.report_ack_timeout("chains", chain_name)
    builder.add("escalation_policies", entry | {"steps": steps})
    builder.policies[id_of(chain)] = name


def _notify_targets(builder: ConfigBuilder, source_step: JsonObject, kind: str, subject: Reason) -> dict[str, Any]:
    users: list[str] = []
    match kind:
        case "notify_persons":
            users = known_usernames(builder, source_step.get("persons_to_notify"))
        case "notify_person_next_each_time":
            users = known_usernames(builder, source_step.get("persons_to_notify_next_each_time"))
            together = sentence("notifies all of them at once")
            builder.report_changed(subject, together, ROUND_ROBIN_THERE(), reasons.USE_ROTATION())
        case "notify_on_call_from_schedule":
            schedule = builder.schedules.get(str(source_step.get("notify_on_call_from_schedule") or ""))
            if schedule is not None:
                return {"schedules": [schedule]}
        case "notify_team_members":
            team = source_step.get("notify_to_team_members") or source_step.get("team_to_notify") or ""
            if (group := builder.groups.get(str(team))) is not None:
                return {"groups": [group], "everybody": True}
        case _:
            unknown = sentence("Tocsin has no equivalent of {kind}.", kind=kind[:60] or "it")
            builder.report_omitted(subject, NOT_IN_POLICY(), *_UNSUPPORTED.get(kind, (unknown, NO_REASON)))
            return {}
    if users:
        return {"users": users}
    missing, remedy = sentence("Its targets were not imported."), sentence("Add the users to the policy.")
    builder.report_omitted(subject, NOT_IN_POLICY(), missing, remedy)
    return {}


# ---------- schedules
# Converts OnCall's schedules: shifts by id, each with a level; overrides, and imported calendars. Pure.


_MAX_LEVEL = MAX_LAYERS - 2


def schedules(builder: ConfigBuilder, documents: list[JsonObject], all_shifts: list[JsonObject]) -> None:
    """Adds every schedule with at least one user."""
    shifts_by_id = {id_of(shift): shift for shift in all_shifts}
    for document in documents:
        ids = document.get("shifts")
        ids = [item for item in ids if isinstance(item, str)] if isinstance(ids, list) else []
        _schedule(builder, document, [shifts_by_id[item] for item in ids if item in shifts_by_id])


def _schedule(builder: ConfigBuilder, document: JsonObject, source_shifts: list[JsonObject]) -> None:
    source_name = str(document.get("name") or "")
    zone = builder.resolve_zone(document.get("time_zone"), reasons.SCHEDULE(schedule=source_name))
    entries: list[dict[str, Any]] = []
    users: list[str] = []
    names: set[str] = set()
    for shift in source_shifts:
        subject = sentence(
            "schedule {schedule}: shift {shift}", schedule=source_name, shift=str(shift.get("name") or id_of(shift))
        )
        rotation = _rotation_members(builder, shift, subject)
        shift_zone = builder.resolve_zone(shift.get("time_zone"), subject, zone)
        layer = _layer(shift)
        try:
            event = read(shift, unique_name(clean_name(shift.get("name"), "Shift"), names), layer, rotation)
            converted = shifts(event, builder.now.astimezone(ZoneInfo(shift_zone)).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError, TypeError) as problem:
            builder.report_omitted(subject, reasons.NOT_IN_SCHEDULE(), why_unsupported(problem), reasons.ADD_SHIFT())
            continue
        own_zone = {"time_zone": shift_zone} if shift_zone != zone else {}
        entries += [entry | own_zone for entry in converted]
        users += [user for members in rotation for user in members if user not in users]
    entries += _calendars(document, names)
    nobody = sentence("None of its shifts has users, or they are over.")
    entry = {"time_zone": zone, "shifts": entries}
    if added := builder.add_schedule(source_name, team_group(builder, document), users, nobody, entry):
        builder.schedules[id_of(document)] = added[0]


def _rotation_members(builder: ConfigBuilder, shift: JsonObject, subject: Reason) -> tuple[tuple[str, ...], ...]:
    """The users who take turns, several per turn, starting with the first."""
    rolling_users = shift.get("rolling_users")
    if not isinstance(rolling_users, list) or not rolling_users:
        rolling_users = [shift.get("users")]
    start_index = shift.get("start_rotation_from_user_index")
    start_index = start_index % len(rolling_users) if isinstance(start_index, int) else 0
    rotation = []
    for source_ids in rolling_users[start_index:] + rolling_users[:start_index]:
        usernames = known_usernames(builder, source_ids)
        if isinstance(source_ids, list) and len(usernames) < len(set(map(str, source_ids))):
            builder.report_omitted(
                subject,
                sentence("has fewer users in a turn"),
                sentence("Someone in it is not a user in Tocsin."),
                sentence("Add the missing users."),
            )
        rotation.append(tuple(usernames))
    return tuple(rotation)


def _layer(shift: JsonObject) -> int:
    """Levels start at 0; an override takes precedence over all of them."""
    if shift.get("type") == "override":
        return MAX_LAYERS
    level = shift.get("level")
    return min(level, _MAX_LEVEL) + 1 if isinstance(level, int) and level >= 0 else 1


def _calendars(document: JsonObject, names: set[str]) -> list[dict[str, Any]]:
    """Calendars that OnCall imports: Tocsin imports them too, and matches users by name or e-mail address."""
    entries = []
    for key, label, layer in (("ical_url_primary", "Calendar", 1), ("ical_url_overrides", "Overrides", MAX_LAYERS)):
        url = document.get(key)
        if isinstance(url, str) and url.startswith(("http://", "https://", "webcal://")) and len(url) <= 2000:
            shift: dict[str, Any] = {"name": unique_name(label, names)}
            shift |= {"layer": layer} if layer != 1 else {}
            entries.append({**shift, "calendar": {"url": url, "roles": ["primary"]}})
    return entries


# ---------- integrations
# Converts OnCall's integrations with the chain of their default route; conditions of other routes are reported.
# Pure.


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


def integrations(builder: ConfigBuilder, documents: list[JsonObject], routes: list[JsonObject]) -> None:
    """Adds every integration that receives alerts."""
    for document in documents:
        source_type = str(document.get("type") or "webhook").lower()
        if source_type not in _MANUAL_TYPES:
            own_routes = [route for route in routes if route.get("integration_id") == document.get("id")]
            _integration(builder, document, source_type, own_routes)


def _integration(builder: ConfigBuilder, document: JsonObject, source_type: str, routes: list[JsonObject]) -> None:
    name = builder.claim_name("integrations", document.get("name"))
    kind = _KINDS.get(source_type, "api")
    group = team_group(builder, document)
    entry: dict[str, Any] = {"name": name, "kind": kind, "group": group}
    entry["recipients"] = {"groups": [group]} if group else {}
    last_route = next((route for route in routes if route.get("is_the_last_route")), {})
    chain = object_of(document.get("default_route")).get("escalation_chain_id") or last_route.get("escalation_chain_id")
    policy = builder.policies.get(str(chain or ""))
    if policy is not None:
        entry["escalation_policy"] = policy
    else:
        entry["anyway"] = True
        builder.report_no_policy(
            name, sentence("Their default route in OnCall has no chain, or one that could not be imported.")
        )
    builder.add("integrations", entry)
    for route in routes:
        if not route.get("is_the_last_route") and id_of(route) != id_of(object_of(document.get("default_route"))):
            pattern = " ".join(str(route.get("routing_regex") or "").split())[:200]
            target = builder.policies.get(str(route.get("escalation_chain_id") or ""), "no policy")
            builder.report_omitted(
                sentence("integration {integration}: route to {target}", integration=name, target=target),
                sentence("not imported ({pattern})", pattern=pattern),
                sentence(
                    "It matches a template or a pattern over the whole message; a route in Tocsin matches fields."
                ),
                reasons.ADD_ROUTE(),
            )
    _report_senders(builder, name, kind, source_type)


def _report_senders(builder: ConfigBuilder, name: str, kind: str, source_type: str) -> None:
    match kind:
        case "email":
            remedy = reasons.CHANGE_TO_GUIDE_ADDRESS()
            builder.report_senders(name, reasons.WAIT_FOR_EMAILS(), STILL_WRITE(), remedy)
        case "api":
            builder.report_senders(
                name,
                reasons.GENERIC_KIND(kind=source_type[:60]),
                sentence("OnCall reads this format by its own template."),
                sentence("Set its URL in the senders, and map the first message."),
            )
        case _:
            remedy = sentence("Change their URL to the integration's webhook URL.")
            builder.report_senders(name, reasons.WAIT_FOR_SENDERS(), STILL_SEND(), remedy)


# ---------- product


def _convert(builder: ConfigBuilder) -> None:
    users(builder)
    groups(builder, builder.documents("teams"), builder.documents("users"))
    schedules(builder, builder.documents("schedules"), builder.documents("on_call_shifts"))
    policies(builder, builder.documents("escalation_chains"), builder.documents("escalation_policies"))
    integrations(builder, builder.documents("integrations"), builder.documents("routes"))
    reason, remedy = sentence("They call other systems."), sentence("Create outbound integrations.")
    builder.report_kind_omitted("webhooks", "webhooks", reason, remedy)


#: OnCall's keys are too short to be used as tokens.
convert = converter("Grafana OnCall", ConfigBuilder, _convert)

PRODUCT = Product(
    name="grafana-oncall",
    title="Grafana OnCall",
    base="",
    api_path="/api/v1",
    key_variable="GRAFANA_ONCALL_API_KEY",
    key_location=translatable("Settings → API tokens"),
    key_help=CREATE_KEY(),
    headers=lambda key: {"Authorization": key},
    fetch=fetch,
    convert=convert,
)
