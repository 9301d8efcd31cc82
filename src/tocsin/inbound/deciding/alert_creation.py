"""Builds the alert that a message opens: columns, priority, paging configuration and first event. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from tocsin.alerts.commands import AlertCreation, NewAlert, PagingConfig, PagingMode, PagingStart
from tocsin.alerts.states import AlertStatus, EventKind, Priority
from tocsin.core.reasons import NO_REASON, Reason, as_reason, joined
from tocsin.inbound.config.compiled_integration import CompiledIntegration, PolicyEntry, apply_client_table
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import Delay, DelayKind, RouteAction, RouteChoice, RouteReference
from tocsin.inbound.deciding import state as reasons
from tocsin.inbound.deciding.state import ActiveAlert, MessageContext
from tocsin.inbound.enums import IntegrationMode, WindowAction
from tocsin.inbound.fields import FIELDS, text_of
from tocsin.inbound.maintenance import matching_window

_NO_POLICY = reasons.NO_POLICY()

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


def columns_of(integration: CompiledIntegration, event: NormalizedEvent) -> dict[str, str]:
    """Returns the alert columns that the message contains, by column name."""
    values = event.mapped.values
    columns = {column: value for name, column in COLUMNS.items() if type(value := values.get(name)) is str and value}
    if "source_agent" in columns and integration.normalizer.kind.assigns_source_agent:
        # Store the name of the Tocsin user, so that the previous assignee is known when the ticket is reassigned.
        columns["source_agent"] = integration.ticket_agent(event).text
    if "long_text" not in columns and type(details := values.get("details")) is str:
        columns["long_text"] = details
    return columns


def custom_of(event: NormalizedEvent) -> dict[str, str]:
    """Returns the mapped values without a column: the kind's further fields and the integration's custom fields."""
    values = event.mapped.values
    custom: dict[str, str] = {}
    for name in _CUSTOM:
        value = values.get(name)
        if value is None or (name == "details" and _is_in_long_text(value, values.get("long_text"))):
            continue
        text = value if type(value) is str else text_of(value)
        if text:
            custom[name] = text
    if event.mapped.custom:
        custom.update(event.mapped.custom)
    if files := event.mapped.attachments():
        custom["attachments"] = "\n".join(file.url for file in files)
    return custom


def _is_in_long_text(details: object, long_text: object) -> bool:
    """Returns whether the details are already in the alert's long text, complete or truncated."""
    if type(long_text) is not str:
        return True  # without a long text, `columns_of` uses the details as the long text
    return type(details) is str and details.startswith(long_text.removesuffix("…"))


def priority_of(event: NormalizedEvent) -> Priority | None:
    """Returns the message's own priority if it is one of Tocsin's four."""
    text = event.mapped.values.get("priority")
    return _PRIORITIES.get(text) if type(text) is str else None


_PRIORITIES = {priority.value: priority for priority in Priority}


def default_priority(integration: CompiledIntegration, route: RouteChoice) -> Priority:
    """Returns the priority of an alert if neither its message nor its route sets one."""
    policy = policy_for(integration, route)
    return policy.default_priority if policy is not None else Priority.HIGH


def build_paging_config(context: MessageContext, event: NormalizedEvent) -> tuple[PagingConfig, RouteChoice]:
    """Returns a new alert's paging configuration (or why nobody is paged), and the route taken."""
    integration, now = context.integration, context.now
    route = event.choose_route(lambda reference: integration.in_hours(reference, now))
    if route.client_table is not None:
        route = apply_client_table(integration, route, event)
    if context.test_user_id is not None:
        return build_test_paging_config(context.test_user_id), route
    policy = policy_for(integration, route)
    users = users_of(integration, route, event.mapped.names("recipient_users"))
    groups = groups_of(integration, route, event.mapped.names("recipient_groups"))
    mode, reason = _mode(context, route, policy)
    version = policy.version_id if policy is not None else None
    return PagingConfig(mode, version, users, groups, reason), route


def build_test_paging_config(user_id: int) -> PagingConfig:
    """Returns the paging configuration of a sample's alert: only the user who sent the sample is paged."""
    return PagingConfig(PagingMode.PAGE, None, (user_id,), (), reasons.TEST_ONLY())


def policy_for(integration: CompiledIntegration, route: RouteChoice) -> PolicyEntry | None:
    """Returns the route's policy, else the integration's own."""
    directory = integration.directory
    reference = route.policy
    if reference is None:
        policy_id = integration.policy_id
    else:
        policy_id = reference if isinstance(reference, int) else directory.policy_ids.get(reference.casefold())
    return directory.policies.get(policy_id) if policy_id is not None else None


def _mode(context: MessageContext, route: RouteChoice, policy: PolicyEntry | None) -> tuple[PagingMode, Reason]:
    integration = context.integration
    if not context.may_page:
        return PagingMode.LOG_ONLY, reasons.LOG_ONLY_REPLAY()
    if route.action is RouteAction.LOG_ONLY:
        return PagingMode.LOG_ONLY, reasons.LOG_ONLY_ROUTE(route=route.reason)
    paging = joined(describe_policy(policy), route.reason, separator=", ")
    if integration.mode is IntegrationMode.DRY_RUN:
        return PagingMode.DRY_RUN, reasons.DRY_RUN(integration=integration.name, paging=paging)
    return PagingMode.PAGE, paging


def describe_policy(policy: PolicyEntry | None) -> Reason:
    return reasons.POLICY(policy=policy.name) if policy is not None else _NO_POLICY


def users_of(integration: CompiledIntegration, route: RouteChoice, names: Iterable[str] = ()) -> tuple[int, ...]:
    """Returns the users whom the route pages, else the integration's own recipients; and the known ones of `names`."""
    ids = {name: user_id for name, (user_id, _) in integration.directory.users.items()} if route.users or names else {}
    return _recipients(integration.recipient_users, route.users, names, ids)


def groups_of(integration: CompiledIntegration, route: RouteChoice, names: Iterable[str] = ()) -> tuple[int, ...]:
    """Returns the groups in which the route looks up roles, in the same way."""
    return _recipients(integration.recipient_groups, route.groups, names, integration.directory.groups)


def _recipients(
    own_ids: tuple[int, ...],
    references: tuple[RouteReference, ...] | None,
    names: Iterable[str],
    ids: Mapping[str, int],
) -> tuple[int, ...]:
    chosen: Iterable[int | None] = own_ids
    if references is not None:
        chosen = (item if isinstance(item, int) else ids.get(item.casefold()) for item in references)
    found = (*chosen, *(ids.get(name.casefold()) for name in names))
    return tuple(dict.fromkeys(object_id for object_id in found if object_id is not None))


def create_alert(
    context: MessageContext,
    event: NormalizedEvent,
    paging: PagingConfig,
    route: RouteChoice,
    remarks: Reason = NO_REASON,
) -> AlertCreation:
    """Returns a new alert with its row, paging configuration and first event. `remarks` are those of noise
    reduction."""
    integration = context.integration
    priority = priority_of(event) or _PRIORITIES.get(route.priority or "") or default_priority(integration, route)
    columns = columns_of(integration, event)
    subject = columns.get("subject") or (
        f"{integration.normalizer.kind.label} {event.source_id}"
        if event.source_id
        else f"A message from {integration.display_source}"
    )
    why = joined(event.rule_match.reason, as_reason(paging.reason), remarks)
    reason = reasons.ALERT_OPENED(source=integration.display_source, why=why)
    creation = build_creation(context, paging, priority, subject, columns, reason)
    alert = replace(
        creation.alert,
        source_name=event.source_name,
        source_id=event.source_id or "",
        tags=event.mapped.tags,
        custom=custom_of(event),
    )
    return replace(creation, alert=alert)


def build_creation(
    context: MessageContext,
    paging: PagingConfig,
    priority: Priority,
    subject: str,
    columns: Mapping[str, str],
    reason: Reason,
) -> AlertCreation:
    """Returns a new alert with what any message gives it. `reason`: why it opened."""
    integration, alert_id, previous_id = context.integration, context.new_alert_id, context.key_state.last_alert_id
    alert = NewAlert(
        id=alert_id,
        priority=priority,
        subject=subject,
        opened_at=context.now,
        key_hash=context.key_hash,
        source=integration.source,
        columns=columns,
        integration_id=integration.id,
        previous_alert_id=previous_id,
        last_message_at=context.received_at,
        dry_run=paging.mode is PagingMode.DRY_RUN,
        is_test=context.test_user_id is not None,
    )
    data: dict[str, object] = {"message_id": str(context.message_id)}
    if previous_id is not None:
        data["previous_alert"] = previous_id
    return AlertCreation(alert, paging, context.timeline_event(alert_id, EventKind.OPENED, reason, data))


# ---------- start paging
# Decides whether an active alert that has paged nobody starts paging when another opening message arrives. Pure.
# An alert that was only recorded or a dry run holds its key. Were messages merely counted on it, nobody would hear of
# its problem any more, whatever the rules have come to say since.


class PagingChange(Struct, frozen=True):
    """The remark on the message, and the paging configuration to start with; without `paging_start`, nobody is
    paged."""

    remark: Reason
    paging: PagingConfig | None = None
    paging_start: PagingStart | None = None


def start_paging(context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert) -> PagingChange | None:
    """Applies the current rules as if this message opened the alert. A delay with an end counts from the alert's
    opening; one that waits for other alerts does not apply.

    Returns None if the alert pages already, or if this message would open nothing that pages.
    """
    if active_alert.is_paging or not context.may_page or active_alert.state.status is AlertStatus.MERGED:
        return None
    filter_match = event.check_filters()
    if not filter_match.is_true:
        return PagingChange(reasons.COUNTED_ONLY(why=reasons.FILTERED(why=filter_match.reason)))
    paging, route = build_paging_config(context, event)
    if paging.mode is not PagingMode.PAGE:
        return None
    suppression, until, when = _find_restriction(context, event, route, paging, active_alert.state.opened_at)
    if suppression:
        return PagingChange(reasons.COUNTED_ONLY(why=suppression))
    source = context.integration.display_source
    start_reason = reasons.PAGING_STARTED(source=source, paging=as_reason(paging.reason))
    remark = reasons.STARTS_PAGING(when=when or reasons.FROM_NOW_ON())
    return PagingChange(remark, paging, PagingStart(start_reason, until, when))


def _find_restriction(
    context: MessageContext, event: NormalizedEvent, route: RouteChoice, paging: PagingConfig, since: datetime
) -> tuple[Reason, datetime | None, Reason]:
    """Returns what keeps an alert that is active since `since`, and has paged nobody, from paging: for good, or until a
    time, which the last reason tells as the end of a sentence.

    Delays that count alerts, and rate limits, do not apply: they decide how many alerts exist, and this one does.
    """
    integration, now = context.integration, context.now
    unrestricted = (NO_REASON, None, NO_REASON)
    if not integration.has_noise_reduction:
        return unrestricted
    groups = paging.recipient_groups
    window_match = matching_window(integration.windows, event.payload, event.mapped, groups, now)
    if window_match is not None:
        window, end = window_match
        if window.action is WindowAction.SUPPRESS:
            return reasons.IN_MAINTENANCE(window=window.name, until=end), None, NO_REASON
        return NO_REASON, end, reasons.AFTER_MAINTENANCE(window=window.name)
    delay = delay_of(context, route)
    if delay is None:
        return unrestricted
    until = None
    if delay.kind is DelayKind.WAIT:
        until = since + delay.duration
    elif delay.kind is DelayKind.HOURS and delay.hours is not None:
        until = integration.next_hours(delay.hours, now)
    return (NO_REASON, until, delay.describe()) if until is not None and until > now else unrestricted


def delay_of(context: MessageContext, route: RouteChoice) -> Delay | None:
    """Returns the delay of the route, else that of the integration; none for a replay."""
    noise_settings = context.integration.normalizer.noise_settings
    if noise_settings is None or context.replay_of is not None:
        return None
    return route.delay if route.has_delay else noise_settings.delay
