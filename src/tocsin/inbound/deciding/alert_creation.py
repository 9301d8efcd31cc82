"""Builds the alert that a message opens: columns, priority, paging configuration and first event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.alerts.change_handlers import PagingConfig, PagingMode
from tocsin.alerts.commands import Actor, NewEvent
from tocsin.alerts.new_alert import AlertCreation, NewAlert
from tocsin.alerts.states import ActorKind, CommandChannel, EventKind, Priority
from tocsin.inbound.config.client_routing import compile_client_routing
from tocsin.inbound.config.compiled_integration import CompiledIntegration, PolicyEntry
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.routes import RouteAction, RouteChoice, RouteReference
from tocsin.inbound.deciding.state import MessageContext
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.expressions.fields import FIELDS, text_of

#: Alert columns by the mapped field that fills them.
COLUMNS: Mapping[str, str] = {
    "source_status": "source_status",
    "subject": "subject",
    "priority": "source_priority",
    "agent": "source_agent",
    "source_url": "source_url",
    "client": "client",
    "site": "site",
    "team": "team",
    "requester": "requester",
    "requester_phone": "requester_phone",
    "short_text": "short_text",
    "long_text": "long_text",
}

#: Mapped fields that are stored elsewhere or only used to decide; all others become custom fields.
_NOT_CUSTOM = frozenset(COLUMNS) | {
    "source_id",
    "source_name",
    "source_time",
    "delivery_id",
    "dedup_key",
    "event",
    "recipient_users",
    "recipient_groups",
    "assignee",
    "attachments",
}

_CUSTOM = tuple(name for name in FIELDS if name not in _NOT_CUSTOM)


def columns_of(door: CompiledIntegration, reading: NormalizedEvent) -> dict[str, str]:
    """Returns the alert columns that the message contains, by column name."""
    values = reading.mapped.values
    columns = {column: value for name, column in COLUMNS.items() if type(value := values.get(name)) is str and value}
    if "source_agent" in columns and door.reader.kind.follows_agent:
        # Store the name of the Tocsin user, so that the previous assignee is known when the ticket is reassigned.
        columns["source_agent"] = door.agent(reading).text
    if "long_text" not in columns and type(details := values.get("details")) is str:
        columns["long_text"] = details
    return columns


def custom_of(reading: NormalizedEvent) -> dict[str, str]:
    """Returns the mapped values without a column: the kind's further fields and the integration's custom fields."""
    values = reading.mapped.values
    custom: dict[str, str] = {}
    for name in _CUSTOM:
        value = values.get(name)
        if value is None or (name == "details" and _says_the_same(value, values.get("long_text"))):
            continue
        text = value if type(value) is str else text_of(value)
        if text:
            custom[name] = text
    if reading.mapped.custom:
        custom.update(reading.mapped.custom)
    if files := reading.mapped.attachments():
        custom["attachments"] = "\n".join(file.url for file in files)
    return custom


def _says_the_same(details: object, long_text: object) -> bool:
    """Returns whether the details are already in the alert's long text, complete or truncated."""
    if type(long_text) is not str:
        return True  # without a long text, `columns_of` uses the details as the long text
    return type(details) is str and details.startswith(long_text.removesuffix("…"))


def priority_of(reading: NormalizedEvent) -> Priority | None:
    """Returns the message's own priority if it is one of Tocsin's four."""
    text = reading.mapped.values.get("priority")
    return _PRIORITIES.get(text) if type(text) is str else None


_PRIORITIES = {priority.value: priority for priority in Priority}


def default_priority(door: CompiledIntegration, route: RouteChoice) -> Priority:
    """Returns the priority of an alert if neither its message nor its route sets one."""
    policy = policy_for(door, route)
    return policy.default_priority if policy is not None else Priority.HIGH


def why_it_pages(
    door: CompiledIntegration, arrival: MessageContext, reading: NormalizedEvent, now: datetime
) -> tuple[PagingConfig, RouteChoice]:
    """Returns a new alert's paging configuration (or why nobody is paged), and the route taken."""
    route = compile_client_routing(door, reading.route(lambda reference: door.in_hours(reference, now)), reading)
    if arrival.test_user_id is not None:
        return for_test(arrival.test_user_id), route
    policy = policy_for(door, route)
    users = _users(door, route, reading)
    groups = _groups(door, route, reading)
    mode, reason = _mode(door, arrival, route, policy)
    version = policy.version_id if policy is not None else None
    return PagingConfig(mode, version, users, groups, reason), route


def for_test(user_id: int) -> PagingConfig:
    """Returns the paging configuration of a sample's alert: only the user who sent the sample is paged."""
    return PagingConfig(PagingMode.PAGE, None, (user_id,), (), "a test: it pages only who sent it")


def policy_for(door: CompiledIntegration, route: RouteChoice) -> PolicyEntry | None:
    """Returns the route's policy, else the integration's own."""
    directory = door.directory
    named = route.policy
    if named is None:
        found = door.policy_id
    else:
        found = named if isinstance(named, int) else directory.policy_ids.get(named.casefold())
    return directory.policies.get(found) if found is not None else None


def _mode(
    door: CompiledIntegration, arrival: MessageContext, route: RouteChoice, policy: PolicyEntry | None
) -> tuple[PagingMode, str]:
    by = f"policy {policy.name}" if policy is not None else "no policy"
    if not arrival.may_page:
        return PagingMode.RECORD, "a replay that only records: nobody is paged"
    if route.action is RouteAction.RECORD:
        return PagingMode.RECORD, f"{route.reason}: only recorded, nobody is paged"
    if door.mode is IntegrationMode.DRY_RUN:
        return PagingMode.DRY_RUN, f"{door.name} is in dry-run mode; {by}, {route.reason}"
    return PagingMode.PAGE, f"{by}, {route.reason}"


def users_of(door: CompiledIntegration, route: RouteChoice) -> tuple[int, ...]:
    """Returns the users whom the route pages, else the integration's own recipients."""
    if route.users is None:
        return door.recipient_users
    return tuple(_ids(route.users, {name: found[0] for name, found in door.directory.users.items()}))


def groups_of(door: CompiledIntegration, route: RouteChoice) -> tuple[int, ...]:
    """Returns the groups in which the route looks up roles, else the integration's own."""
    return door.recipient_groups if route.groups is None else tuple(_ids(route.groups, door.directory.groups))


def _users(door: CompiledIntegration, route: RouteChoice, reading: NormalizedEvent) -> tuple[int, ...]:
    own = users_of(door, route)
    users = door.directory.users
    named = reading.mapped.names("recipient_users")
    found = [users[name.casefold()][0] for name in named if name.casefold() in users] if named else []
    return tuple(dict.fromkeys((*own, *found))) if found else own


def _groups(door: CompiledIntegration, route: RouteChoice, reading: NormalizedEvent) -> tuple[int, ...]:
    own = groups_of(door, route)
    groups = door.directory.groups
    named = reading.mapped.names("recipient_groups")
    found = [groups[name.casefold()] for name in named if name.casefold() in groups] if named else []
    return tuple(dict.fromkeys((*own, *found))) if found else own


def _ids(references: tuple[RouteReference, ...], names: Mapping[str, int]) -> list[int]:
    found = [one if isinstance(one, int) else names.get(one.casefold()) for one in references]
    return [number for number in found if number is not None]


def open_alert(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    number: int,
    key_hash: bytes,
    previous_alert_id: int | None,
    paging: PagingConfig,
    route: RouteChoice,
    now: datetime,
) -> AlertCreation:
    """Returns a new alert with its row, paging configuration and first event."""
    priority = priority_of(reading) or _PRIORITIES.get(route.priority or "") or default_priority(door, route)
    columns = columns_of(door, reading)
    subject = columns.get("subject") or _subject(door, reading)
    alert = NewAlert(
        id=number,
        priority=priority,
        subject=subject,
        opened_at=now,
        key_hash=key_hash,
        source=door.source,
        source_name=reading.source_name,
        source_id=reading.source_id or "",
        columns=columns,
        tags=reading.mapped.tags,
        custom=custom_of(reading),
        integration_id=door.id,
        previous_alert_id=previous_alert_id,
        last_message_at=arrival.received_at,
        dry_run=paging.mode is PagingMode.DRY_RUN,
        is_test=arrival.test_user_id is not None,
    )
    reason = f"Opened by {door.shown_source}: {reading.verdict.reason}; {paging.reason}."
    data: dict[str, object] = {"message_id": str(arrival.message_id)}
    if previous_alert_id is not None:
        data["previous_alert"] = previous_alert_id
    event = NewEvent(
        number,
        EventKind.OPENED,
        now,
        Actor(ActorKind.INTEGRATION, door.shown_source),
        reason,
        CommandChannel.INBOUND,
        data,
    )
    return AlertCreation(alert, paging, event)


def _subject(door: CompiledIntegration, reading: NormalizedEvent) -> str:
    """Returns a subject for an alert whose message has none."""
    if reading.source_id:
        return f"{door.reader.kind.label} {reading.source_id}"
    return f"A message from {door.shown_source}"
