"""Opsgenie: read through its REST API (https://docs.opsgenie.com/docs/api-overview) or from its configuration backup,
and converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason
from tocsin.core.validation.spec import write_moment
from tocsin.importers import opsgenie_integrations as product_reasons
from tocsin.importers import people, reasons, rotation_converter
from tocsin.importers.config_builder import (
    ConfigBuilder,
    ConvertedConfig,
    ExistingUser,
    FindingSeverity,
    JsonObject,
    object_of,
    objects_of,
    parse_time,
    text_of,
    without_duplicates,
)
from tocsin.importers.opsgenie_integrations import (
    OpsgenieIdMap,
    keys,
    open_windows,
    parse_duration,
    resolve,
    sort_by_order,
)
from tocsin.importers.people import ImportedContactMethod, ImportedUser
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation, why_unsupported

# ---------- people
# Converts Opsgenie's users with contacts, notification rules and forwardings, and its teams as groups. Pure.


_ROLES = {"owner": "admin", "admin": "admin", "user": "responder", "stakeholder": "observer", "observer": "observer"}
_CHANNELS = {"email": "email", "sms": "sms", "voice": "voice"}


def users(id_map: OpsgenieIdMap, documents: list[JsonObject], forwardings: list[JsonObject]) -> None:
    """Adds every user whose username is an e-mail address; others cannot be converted."""
    for user in documents:
        email = str(user.get("username") or "").strip()
        if "@" not in email:
            id_map.builder.report_omitted(
                reasons.USER(user=str(email or user.get("id"))), reasons.NOT_IMPORTED(), reasons.NO_EMAIL()
            )
            continue
        name = id_map.builder.claim_username(email)
        for key in keys(user, "username"):
            id_map.users[key] = name
    for user in documents:
        username = id_map.find_user(user)
        if username:
            people.add(id_map.builder, _person(id_map, user, username, forwardings), username)


def groups(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds the teams; their administrators become managers. Primary on-call users come from the schedules."""
    for team in documents:
        name = id_map.builder.claim_name("groups", team.get("name"))
        for key in keys(team, "name"):
            id_map.groups[key], id_map.teams[key] = name, team
    for team in documents:
        members: list[dict[str, Any]] = []
        for member in objects_of(team.get("members")):
            username = id_map.find_user(member.get("user"))
            if username and username not in [item["user"] for item in members]:
                roles = ["manager"] if str(member.get("role")).lower() == "admin" else []
                members.append({"user": username, "roles": roles})
        id_map.builder.add(
            "groups",
            {
                "name": id_map.find_group(team),
                "description": str(team.get("description") or "")[:2000].replace("\0", ""),
                "members": members,
            },
        )


def _person(id_map: OpsgenieIdMap, user: JsonObject, username: str, forwardings: list[JsonObject]) -> ImportedUser:
    role = str(object_of(user.get("role")).get("name") or object_of(user.get("role")).get("id") or "User")
    mapped_role = _ROLES.get(role.lower())
    if mapped_role is None:
        id_map.builder.report_changed(
            reasons.USER(user=username),
            product_reasons.IS_RESPONDER(),
            product_reasons.ROLE_UNKNOWN(role=role[:60]),
            product_reasons.SET_ROLE(),
        )
    rules = objects_of(user.get("notification_rules"))
    contact_methods = _contact_methods(id_map, user, username)
    has_rules = _apply_rules(id_map, rules, contact_methods, username)
    return ImportedUser(
        email=str(user["username"]).strip(),
        name=str(user.get("fullName") or ""),
        role=mapped_role or "responder",
        time_zone=str(user.get("timeZone") or user.get("timezone") or ""),
        contact_methods=contact_methods,
        has_rules=has_rules,
        is_active=not user.get("blocked"),
        out_of_office=_absences(id_map, user, forwardings),
    )


def _contact_methods(id_map: OpsgenieIdMap, user: JsonObject, username: str) -> list[ImportedContactMethod]:
    contact_methods: list[ImportedContactMethod] = []
    for contact in objects_of(user.get("contacts")):
        method = str(contact.get("method") or contact.get("contactMethod") or "").lower()
        address = str(contact.get("to") or "")
        if method in _CHANNELS:
            enabled = object_of(contact.get("status")).get("enabled", contact.get("enabled", True))
            contact_methods.append(ImportedContactMethod(_CHANNELS[method], address, is_enabled=enabled is not False))
        elif method:
            id_map.builder.report_grouped(
                FindingSeverity.TO_DO,
                "users",
                username,
                product_reasons.NO_APP(),
                reasons.PUSH_NEEDS_DEVICE(),
                reasons.ENABLE_PUSH(),
            )
    return contact_methods


def _apply_rules(
    id_map: OpsgenieIdMap, rules: list[JsonObject], contact_methods: list[ImportedContactMethod], username: str
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
        contact_method = next(
            (
                item
                for item in contact_methods
                if item.channel == _CHANNELS.get(method) and _is_same_address(item.address, to)
            ),
            None,
        )
        if contact_method is not None:
            contact_method.delays.append(parse_duration(step.get("sendAfter")))
    other_count = len(creation_rules) - 1
    if other_count or not _matches_all(rule) or object_of(rule.get("repeat")).get("enabled"):
        id_map.builder.report_grouped(
            FindingSeverity.CHANGED,
            "users",
            username,
            product_reasons.ONE_SET_OF_RULES(),
            product_reasons.RULES_THERE(),
            product_reasons.SET_RULES_BY_PRIORITY(),
        )
    return True


def _matches_all(rule: JsonObject) -> bool:
    criteria = object_of(rule.get("criteria"))
    return str(criteria.get("type") or "match-all") == "match-all" and not rule.get("timeRestriction")


def _is_same_address(address: str, other_address: str) -> bool:
    if "@" in address:
        return address.casefold() == other_address.casefold()
    return [c for c in address if c.isdigit()] == [c for c in other_address if c.isdigit()]


def _absences(id_map: OpsgenieIdMap, user: JsonObject, forwardings: list[JsonObject]) -> list[dict[str, Any]]:
    """Current and future forwardings of this user's alerts, as absences with cover."""
    absences = []
    username = id_map.find_user(user)
    for rule in forwardings:
        since, until = parse_time(rule.get("startDate")), parse_time(rule.get("endDate"))
        cover = id_map.find_user(rule.get("toUser"))
        if id_map.find_user(rule.get("fromUser")) != username or username is None:
            continue
        if since is None or until is None or until <= id_map.builder.now or until <= since or cover in (None, username):
            continue
        bounds = {"from": write_moment(since), "to": write_moment(until)}
        absences.append({**bounds, "cover": cover, "note": people.forwarded(id_map.builder)})
    return _without_overlaps(id_map, str(username), sorted(absences, key=lambda entry: str(entry["from"])))


def _without_overlaps(id_map: OpsgenieIdMap, username: str, absences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that do not overlap an earlier one."""
    accepted: list[dict[str, Any]] = []
    for entry in absences:
        if accepted and entry["from"] < accepted[-1]["to"]:
            id_map.builder.report_omitted(
                reasons.USER(user=username),
                reasons.NO_COVER(start=entry["from"], end=entry["to"], cover=entry["cover"]),
                product_reasons.ABSENCES_OVERLAP(),
                reasons.ENTER_ABSENCE(),
            )
        else:
            accepted.append(entry)
    return accepted


# ---------- schedules
# Converts Opsgenie's schedules: parallel rotations with restrictions, and overrides of all or some rotations. Pure.
#
# See https://support.atlassian.com/opsgenie/docs/manage-on-call-schedules-and-rotations/. Rotations count from their
# start, handoffs also occur outside restricted times, and an overriding user is on call for the whole override.


_UNITS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}


def schedules(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
    """Adds every schedule with at least one user; one without a team gets its own group."""
    for document in documents:
        _schedule(id_map, document)


def _schedule(id_map: OpsgenieIdMap, document: JsonObject) -> None:
    builder, source_name = id_map.builder, str(document.get("name") or "")
    references = list(keys(document, "name"))
    id_map.schedules |= dict.fromkeys(references, None)
    if document.get("enabled") is False:
        id_map.disabled_schedules.update(references)
        builder.report_omitted(
            reasons.SCHEDULE(schedule=source_name), reasons.NOT_IMPORTED(), product_reasons.DISABLED_THERE()
        )
        return
    zone_name = builder.resolve_zone(document.get("timezone"), reasons.SCHEDULE(schedule=source_name))
    rotations = _Rotations(id_map, source_name, ZoneInfo(zone_name))
    for rotation in objects_of(document.get("rotations")):
        rotations.add(rotation)
    if not rotations.shifts:
        builder.report_omitted(
            reasons.SCHEDULE(schedule=source_name),
            reasons.NOT_IMPORTED(),
            product_reasons.NO_ROTATION_WITH_USERS(),
            reasons.CREATE_SCHEDULE(),
        )
        return
    name = builder.claim_name("schedules", source_name)
    group = resolve(id_map.groups, document.get("ownerTeam")) or builder.add_schedule_group(
        source_name, name, rotations.users
    )
    overrides = [entry for item in objects_of(document.get("overrides")) for entry in rotations.override(item)]
    builder.add(
        "schedules",
        {"name": name, "group": group, "time_zone": zone_name, "shifts": rotations.shifts, "overrides": overrides},
    )
    id_map.schedules |= dict.fromkeys(references, name)
    id_map.group_by_schedule[name] = group


class _Rotations:
    """The rotations of one schedule during its conversion."""

    def __init__(self, id_map: OpsgenieIdMap, schedule: str, zone: ZoneInfo) -> None:
        self.id_map, self.builder, self.schedule, self.zone = id_map, id_map.builder, schedule, zone
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
        subject = product_reasons.SCHEDULE_ROTATION(
            schedule=self.schedule, rotation=str(rotation.get("name") or self._count + 1)
        )
        self._count += 1
        try:
            converted = self._convert_rotation(rotation, subject)
            shifts = rotation_converter.shifts(converted, self.builder.now.astimezone(self.zone).replace(tzinfo=None))
        except (UnsupportedRotation, ValueError) as problem:
            self.builder.report_omitted(
                subject,
                reasons.NOT_IN_SCHEDULE(),
                why_unsupported(problem),
                reasons.ADD_SHIFT(),
            )
            return
        if shifts and converted.interval % timedelta(days=1):
            self.builder.report_changed(
                subject,
                product_reasons.LOCAL_HANDOFFS(),
                product_reasons.NOT_WHOLE_DAYS(),
            )
        self.shifts += shifts
        self.users += [user for user in converted.slots if user and user not in self.users]
        for key in keys(rotation, "name"):
            self._shift_names_by_key[key] = [shift["name"] for shift in shifts]
            if converted.windows or None in converted.slots:
                self._with_gaps.add(key)

    def override(self, document: JsonObject) -> list[dict[str, Any]]:
        """A current or future override: one for the whole schedule, or one per shift of its rotations."""
        since, until = parse_time(document.get("startDate")), parse_time(document.get("endDate"))
        if since is None or until is None or until <= self.builder.now or until <= since:
            return []
        user = self.id_map.find_user(document.get("user"))
        alias = str(document.get("alias") or "")
        subject = reasons.SCHEDULE_OVERRIDE(schedule=self.schedule)
        if alias:
            subject = product_reasons.NAMED_OVERRIDE(schedule=self.schedule, override=alias)
        if user is None:
            self.builder.report_omitted(
                subject,
                reasons.OVERRIDE_NOT_IMPORTED(start=write_moment(since), end=write_moment(until)),
                product_reasons.OVERRIDE_FOR_NOBODY(),
                reasons.ENTER_OVERRIDE(),
            )
            return []
        if user not in self.users:
            self.users.append(user)
        entry = {"user": user, "from": write_moment(since), "to": write_moment(until)}
        rotation_references = objects_of(document.get("rotations"))
        if not rotation_references or len(rotation_references) >= self._count:
            return [entry]
        if any(key in self._with_gaps for item in rotation_references for key in keys(item, "name")):
            self.builder.report_changed(
                subject,
                product_reasons.OVERRIDE_WITHIN_ROTATION(start=write_moment(since), end=write_moment(until)),
                product_reasons.OVERRIDE_OF_RESTRICTED(),
                product_reasons.OVERRIDE_SCHEDULE(user=user),
            )
        shifts = [name for item in rotation_references for name in resolve(self._shift_names_by_key, item) or []]
        return [{**entry, "shift": name} for name in dict.fromkeys(shifts)]

    def _convert_rotation(self, rotation: JsonObject, subject: Reason) -> ConvertedRotation:
        unit = _UNITS.get(str(rotation.get("type")).lower())
        start = parse_time(rotation.get("startDate"))
        length = rotation.get("length") or 1
        if unit is None or start is None or not isinstance(length, int) or not 0 < length < 10_000:
            raise UnsupportedRotation(product_reasons.ROTATION_UNREADABLE())
        end = parse_time(rotation.get("endDate"))
        return ConvertedRotation(
            name=self._unique_shift_name(str(rotation.get("name") or f"Rotation {self._count}")),
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
        user = self.id_map.find_user(participant) if kind == "user" else None
        if user is None:
            label = participant.get("username") or participant.get("name") or participant.get("id")
            reason = reasons.NOT_A_USER() if kind == "user" else product_reasons.SHIFT_HAS_USERS()
            self.builder.report_omitted(
                subject, product_reasons.EMPTY_TURN_OF_KIND(kind=kind, name=str(label)), reason, reasons.EDIT_SHIFT()
            )
        return user

    def _local(self, at: datetime) -> datetime:
        return at.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0)

    def _unique_shift_name(self, requested: str) -> str:
        name = " ".join(requested.replace("\0", "").split())[:80] or f"Rotation {self._count}"
        unique, suffix = name, 1
        while unique.casefold() in self._names:
            suffix += 1
            unique = f"{name} ({suffix})"
        self._names.add(unique.casefold())
        return unique


# ---------- maintenance
# Converts Opsgenie's maintenances, which disable integrations for a time. Pure.
#
# See https://docs.opsgenie.com/docs/maintenance-api.


def windows(id_map: OpsgenieIdMap, documents: list[JsonObject]) -> None:
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
            elif (name := resolve(id_map.integrations, entity)) is not None:
                integration_names.append(name)
        if policy_count and integration_names:
            id_map.builder.report_changed(
                reasons.MAINTENANCE(window=window_name),
                product_reasons.INTEGRATIONS_ONLY(),
                product_reasons.SWITCHES_POLICIES(),
            )
        people.window(
            id_map.builder,
            window_name,
            parse_time(time.get("startDate")),
            parse_time(time.get("endDate")),
            integration_names,
        )


# ---------- converter
# Converts the documents of an Opsgenie account to a configuration and a report. Pure: `now` decides what is over.


_OMITTED_KINDS = {
    "alert_policies": (
        "alert and notification policies",
        product_reasons.GLOBAL_RULES(),
        product_reasons.SET_ON_INTEGRATIONS(),
    ),
    "services": ("services", product_reasons.NO_INCIDENTS(), product_reasons.USE_TAGS()),
}


def convert(
    documents: Mapping[str, list[dict[str, Any]]],
    now: datetime,
    existing_users: Mapping[str, ExistingUser] | None = None,
    *,
    with_keys: bool = False,
) -> ConvertedConfig:
    """The configuration for `apply`, and the differences. `with_keys`: API keys in the documents become tokens."""
    builder = ConfigBuilder("Opsgenie", now, existing_users)
    id_map = OpsgenieIdMap(builder)

    def documents_of(kind: str) -> list[dict[str, Any]]:
        return without_duplicates(documents.get(kind, []))

    users(id_map, documents_of("users"), documents_of("forwardings"))
    groups(id_map, documents_of("teams"))
    schedules(id_map, documents_of("schedules"))
    product_reasons.policies(id_map, documents_of("escalations"))
    # Heartbeats first: their names are part of senders' URLs and must not change.
    product_reasons.heartbeats(id_map, documents_of("heartbeats"))
    product_reasons.integrations(id_map, documents_of("integrations"), with_keys=with_keys)
    windows(id_map, documents_of("maintenances"))
    for kind, (label, reason, remedy) in _OMITTED_KINDS.items():
        builder.report_kind_omitted(label, documents_of(kind), reason, remedy)
    builder.report_unreadable(documents_of("not_shown"))
    return builder.build()
