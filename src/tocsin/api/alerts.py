"""Endpoints of alerts, alert commands and the pause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field, model_validator

from tocsin.access.roles import Permission
from tocsin.alerts import service, store
from tocsin.alerts.commands import (
    COMMAND_CLASSES,
    Acknowledge,
    Assign,
    BaseCommand,
    Cancel,
    Close,
    Command,
    Escalate,
    Hold,
    Reopen,
    Reply,
    Resume,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.alerts.service import VisibleAlert, find_alert
from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus, CommandKind, EventKind, Priority
from tocsin.alerts.store import StormBy
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Moment,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    UtcDatetime,
    actor_of,
    after_cursor,
    caller,
    cursor_of,
    forbidden,
    narrowed,
    page,
    via_of,
)
from tocsin.api.framework.simulation_schemas import SimulatedRunResponse
from tocsin.core.db import database
from tocsin.core.db.queries import SearchableText
from tocsin.core.errors import Rejected
from tocsin.core.reasons import show_reason
from tocsin.core.validation import inputs
from tocsin.escalation import explain
from tocsin.escalation.commands import ManualAlert, open_alert
from tocsin.escalation.explain import next_steps
from tocsin.escalation.models import Policy
from tocsin.inbound.fields import CUSTOM_LENGTH, FIELDS, MAX_CUSTOM, MAX_TAGS, TAG_LENGTH
from tocsin.people.models import User
from tocsin.reports.alert_reports import PUBLIC_EVENTS, public_timeline
from tocsin.resources import registry, visibility
from tocsin.resources.resource import find_named
from tocsin.simulate import chain
from tocsin.simulate.escalation import preview

# ---------- alerts
# Alerts: list, detail and timeline. `alert_creation` opens alerts, `alert_commands` acts on them.


routes = AuthorizedRouter("alerts")

#: Omitted from lists, because each can be as long as an e-mail.
_LONG = ("long_text",)

_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


class NextStepSchema(BaseModel):
    """The next escalation step, and its time."""

    at: datetime
    summary: ReasonSchema


class StormSchema(BaseModel):
    """Active alerts of one integration and state that look alike, each opened within ten minutes of another."""

    by: StormBy = Field(description="What they share: the subject except for numbers, or the host.")
    name: str = Field(description="The subject with `#` for each number, or the host.")
    clients: list[str]
    alerts: list[int] = Field(description="Their ids, newest first; at most 500.")


class AlertSummary(BaseModel):
    """An alert as in lists. Users, groups and integrations are given by name."""

    id: int
    status: AlertStatus
    acknowledged: bool
    priority: Priority
    subject: str
    source: str
    source_name: str
    source_id: str
    source_url: str
    source_status: str
    client: str
    count: int
    owner: str | None = Field(description="The user's name, or the name outside that has it.")
    awaits_acceptance: bool = Field(
        description="Whether someone else assigned it to the owner, who was paged and has not accepted yet."
    )
    acknowledged_by: list[str]
    opened_at: datetime
    last_message_at: datetime
    closed_at: datetime | None
    hold_until: datetime | None
    merged_into: int | None
    integration: str | None
    tags: dict[str, str]
    custom: dict[str, str]
    next_step: NextStepSchema | None
    dry_run: bool
    test: bool
    storm: StormSchema | None = Field(
        default=None,
        description="With `group=storm`: the storm that this alert, its most urgent, stands for.",
    )


class AlertDetail(AlertSummary):
    """One alert with its texts and the details from its source."""

    short_text: str
    long_text: str
    source_priority: str
    source_agent: str
    site: str
    team: str
    requester: str
    requester_phone: str
    previous_alert: int | None = Field(description="The closed alert of the same problem that came before this one.")


class AlertEventSchema(BaseModel):
    """One entry of an alert's timeline."""

    id: int
    at: datetime
    kind: str
    actor: str
    actor_kind: str
    via: str
    reason: ReasonSchema | None
    data: dict[str, Any]


class AlertFilters(PaginationQuery):
    status: list[AlertStatus] = Field(default=[], description="One or several: `status=open&status=assigned`.")
    acknowledged: bool | None = None
    priority: list[Priority] = []
    source: str | None = None
    source_name: str | None = None
    source_id: str | None = None
    source_status: str | None = None
    client: str | None = None
    subject: str | None = Field(default=None, description="A part of the subject, ignoring case.")
    owner: str | None = Field(default=None, description="A user's name, or a name outside.")
    acknowledged_by: str | None = None
    integration: str | None = None
    opened_after: Moment | None = None
    opened_before: Moment | None = None
    dry_run: bool | None = None
    test: bool | None = None
    group: Literal["storm"] | None = Field(
        default=None,
        description="`storm`: active alerts only, and one item for five or more that look alike. `limit` counts items. "
        "A storm can go on in the next page.",
    )


class EventFilters(PaginationQuery):
    kind: EventKind | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[AlertSummary], summary="Alerts, newest first")
def list_alerts(request: HttpRequest, query: Query[AlertFilters]) -> dict[str, Any]:
    rows = filtered(Alert.objects.defer(*_LONG).select_related("owner", "integration"), query)
    now = caller(request).now
    if query.group == "storm":
        return _storms(rows, query, now)
    return page(rows, query, lambda alerts: _summaries(alerts, now), newest_first=True)


def _storms(rows: Sequence[QuerySet[Alert]], query: AlertFilters, now: datetime) -> dict[str, Any]:
    # One part a state: the index of active alerts is ordered by number within each.
    active = [part.filter(status=status) for part in rows for status in sorted(ACTIVE)]
    entries, last = store.first_entries(after_cursor(active, query, newest_first=True), query.limit)
    leads = Alert.objects.defer(*_LONG).select_related("owner", "integration").in_bulk([lead.pk for lead, _ in entries])
    shown = [(leads[lead.pk], storm) for lead, storm in entries if lead.pk in leads]
    items = [
        summary | {"storm": show(StormSchema, storm, alerts=storm.ids) if storm else None}
        for summary, (_lead, storm) in zip(_summaries([lead for lead, _ in shown], now), shown, strict=True)
    ]
    return {"items": items, "next": cursor_of(last)}


@routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=AlertDetail, summary="One alert")
def get_alert(request: HttpRequest, id: Number) -> dict[str, Any]:
    return show_detail(find_alert(id).row, caller(request).now)


@routes.get(
    "/{int:id}/events",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[AlertEventSchema],
    summary="Its timeline, oldest first",
)
def list_events(request: HttpRequest, id: Number, query: Query[EventFilters]) -> dict[str, Any]:
    rows = narrowed(AlertEvent.objects.filter(alert=find_alert(id).row), query, "kind")
    return page(rows, query, lambda events: [_show_event(event) for event in events])


class NotCalledSchema(BaseModel):
    """A user who was not paged about the alert, and why."""

    user: str
    name: str
    why: list[ReasonSchema]


class NotCalledResponse(BaseModel):
    items: list[NotCalledSchema]


@routes.get(
    "/{int:id}/not-called",
    Permission.VIEW_ALERTS,
    answers=NotCalledResponse,
    summary="Who was not called about it, and why",
)
def list_not_called(request: HttpRequest, id: Number) -> dict[str, Any]:
    with database.transaction() as connection:
        people = explain.explain_for_alert(connection, find_alert(id))
    items = [
        {"user": person.username, "name": person.name, "why": [show_reason(reason) for reason in person.reasons]}
        for person in people
    ]
    return {"items": items}


def require_response(principal: Principal, number: int) -> VisibleAlert:
    """Return the alert on which the caller acts. Raises Rejected: `not_found`, or `forbidden`."""
    alert = find_alert(number)
    if not principal.viewer.may_respond(visibility.groups_of_alert(alert.row)):
        raise forbidden(principal, Permission.RESPOND)
    return alert


def _summaries(alerts: Sequence[Alert], now: datetime) -> list[dict[str, Any]]:
    """Return alerts as in lists, with a constant number of SQL statements."""
    alert_ids = [alert.pk for alert in alerts]
    acknowledged = _acknowledged(alert_ids)
    with database.transaction() as connection:
        next_actions = next_steps(connection, alert_ids, now)
        questions = store.open_questions(connection, alert_ids)
    awaiting = {alert_id for alert_id, question in questions.items() if question.awaits_acceptance}
    return [
        show(
            AlertSummary,
            alert,
            test=alert.is_test,
            acknowledged=alert.pk in acknowledged,
            acknowledged_by=acknowledged.get(alert.pk, []),
            awaits_acceptance=alert.pk in awaiting,
            owner=alert.owner.username if alert.owner else alert.owner_name or None,
            integration=alert.integration.name if alert.integration else None,
            merged_into=alert.merged_into_id,
            next_step=show(NextStepSchema, next_actions[alert.pk]) if next_actions.get(alert.pk) else None,
            storm=None,
        )
        for alert in alerts
    ]


def show_detail(alert: Alert, now: datetime) -> dict[str, Any]:
    """Return one alert with all its texts."""
    (summary,) = _summaries([alert], now)
    return show(AlertDetail, alert, **summary, previous_alert=alert.previous_alert_id)


def _acknowledged(alert_ids: Sequence[int]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    rows = Acknowledgement.objects.filter(alert__in=alert_ids).order_by("at", "id")
    for alert_id, name in rows.values_list("alert_id", "user__username"):
        names.setdefault(alert_id, []).append(name)
    return names


def _show_event(event: AlertEvent) -> dict[str, Any]:
    # The state that an undo restores is internal.
    data = {name: value for name, value in event.data.items() if name != "before"}
    return show(AlertEventSchema, event, actor=event.actor_name, data=data)


def filtered(rows: QuerySet[Alert], query: AlertFilters) -> list[QuerySet[Alert]]:
    """Return the requested alerts, as the parts of a `core.db.queries.QueryUnion`."""
    rows = _filtered_by_people(_filtered_by_columns(rows, query), query)
    filters, indexed_filters = Q(), Q()
    for name in ("source_id", "client"):
        if (text := getattr(query, name)) is not None:
            filters &= Q(**{name: text})
            indexed_filters &= Q(**{f"texts__{name}": SearchableText(text), name: text})
    if query.subject is not None:
        filters &= Q(subject__icontains=query.subject)
        indexed_filters &= Q(texts__subject__contains=SearchableText(query.subject))
    if not filters and not query.priority:
        return [rows]
    active, inactive = rows.filter(status__in=sorted(ACTIVE)), rows.filter(status__in=sorted(INACTIVE))
    return [
        store.filter_active(active, filters),
        *store.filter_inactive(inactive, filters, indexed_filters),
    ]


def _filtered_by_columns(rows: QuerySet[Alert], query: AlertFilters) -> QuerySet[Alert]:
    equal = ("source", "source_name", "source_status", "dry_run", "integration")
    rows = narrowed(rows, query, *equal, test="is_test", status="status__in", priority="priority__in")
    after, before = query.opened_after, query.opened_before
    if after is None and before is None:
        return rows
    with database.connection() as connection:
        if after is not None:
            rows = rows.filter(opened_at__gte=after, pk__gte=store.first_id_opened_since(connection, after))
        if before is not None:
            # `first_opened` allows one hour for alerts that overtook each other; the upper bound needs that hour twice.
            upper_bound = min(before, _LATEST) + timedelta(hours=2)
            rows = rows.filter(opened_at__lt=before, pk__lt=store.first_id_opened_since(connection, upper_bound))
    return rows


def _filtered_by_people(rows: QuerySet[Alert], query: AlertFilters) -> QuerySet[Alert]:
    if query.owner is not None:
        external_owner = Q(owner__isnull=True, owner_name__iexact=query.owner)
        rows = rows.filter(Q(owner__username__iexact=query.owner) | external_owner)
    if query.acknowledged is not None:
        has_acknowledgement = Exists(Acknowledgement.objects.filter(alert=OuterRef("pk")))
        rows = rows.filter(has_acknowledgement if query.acknowledged else ~has_acknowledgement)
    if query.acknowledged_by is not None:
        user = registry.USERS.resolve(query.acknowledged_by, "acknowledged_by")
        rows = rows.filter(acknowledgements__user=user)
    return rows


# ---------- alert commands
# Alert commands: one endpoint per command, all implemented by `alerts.service.act`.


class CommandBody(Schema):
    """Fields that every command accepts. An empty body is sufficient."""

    model_config = {"extra": "forbid", "str_strip_whitespace": True}

    note: str = Field(default="", max_length=2000, description="The reason, shown on the timeline.")
    seen_at: UtcDatetime | None = Field(
        default=None,
        description="When you saw the alert. Assigning is refused if it was assigned since then.",
    )


_EMPTY = CommandBody()


class AssignBody(CommandBody):
    """Assign the alert to a Tocsin user, or by `name` to someone without an account."""

    user: str | None = Field(default=None, description="A user's name or number.")
    name: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _require_one_of(self) -> Self:
        if (self.user is None) == (self.name is None):
            raise ValueError("give either user or name")
        return self


class ReplyBody(CommandBody):
    text: str = Field(min_length=1, max_length=20_000)


class HoldBody(CommandBody):
    """Snooze the alert until a time, or for a duration such as `30m`."""

    until: UtcDatetime | None = None
    span: str | None = Field(default=None, alias="for", max_length=20, examples=["30m", "1h30m"])

    @model_validator(mode="after")
    def _require_one_of(self) -> Self:
        if (self.until is None) == (self.span is None):
            raise ValueError("give either until or for")
        return self


class MergeBody(CommandBody):
    into: Number = Field(description="The number of the alert that stays.")


class CommandResponse(AlertDetail):
    """The alert after the command, and the result of the command."""

    answer: ReasonSchema = Field(description="The result in a sentence.")
    changed: bool = Field(description="False if the alert was in that state already.")


_SUMMARIES = {
    CommandKind.ACKNOWLEDGE: "Acknowledge the alert. Escalation stops, pauses or continues, as its policy says",
    CommandKind.UNACKNOWLEDGE: "Remove your acknowledgement. Escalation continues",
    CommandKind.UNASSIGN: "Unassign the alert. It is open again, and escalation restarts",
    CommandKind.ESCALATE: "Escalate to the next step now",
    CommandKind.RESUME: "End the snooze now. Escalation continues",
    CommandKind.CLOSE: "Close the alert. Paging stops",
    CommandKind.CANCEL: "Close the alert as a false alarm",
    CommandKind.REOPEN: "Reopen a closed alert within 24 hours, unless a newer alert has its dedup key",
    CommandKind.UNDO: "Undo your last command, within a minute",
}

type _SimpleCommand = type[Acknowledge | Unacknowledge | Unassign | Escalate | Resume | Close | Cancel | Reopen | Undo]


def _post(kind: CommandKind, summary: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return routes.post(
        f"/{{int:id}}/{kind}",
        Permission.RESPOND,
        answers=CommandResponse,
        summary=summary,
        operation_id=f"alerts_{kind}",
    )


def _add_plain(kind: CommandKind, command_class: _SimpleCommand) -> None:
    """Add the endpoint of a command that has no fields of its own."""

    @_post(kind, _SUMMARIES[kind])
    def give(request: HttpRequest, id: Number, body: CommandBody = _EMPTY) -> dict[str, Any]:
        return _act(id, command_class(**_common(body, caller(request))), caller(request))


for _kind, _class in COMMAND_CLASSES.items():
    if _kind in _SUMMARIES:
        _add_plain(_kind, _class)  # type: ignore[arg-type] # commands with fields have endpoints below


@_post(CommandKind.ASSIGN, "Assign the alert to a user, or to a person outside Tocsin")
def assign(request: HttpRequest, id: Number, body: AssignBody) -> dict[str, Any]:
    principal = caller(request)
    if body.name is not None:
        return _act(id, Assign(**_common(body, principal), name=body.name), principal)
    user = _active_user(body.user or "", "user")
    return _act(id, Assign(**_common(body, principal), name=user.display_name, user_id=user.pk), principal)


@_post(CommandKind.REPLY, "Add a note to the timeline")
def reply(request: HttpRequest, id: Number, body: ReplyBody) -> dict[str, Any]:
    return _act(id, Reply(**_common(body, caller(request)), text=body.text), caller(request))


@_post(CommandKind.HOLD, "Snooze the alert: pause escalation until a time")
def hold(request: HttpRequest, id: Number, body: HoldBody) -> dict[str, Any]:
    principal = caller(request)
    until = body.until or principal.now + inputs.parse_duration(body.span, "for")
    return _act(id, Hold(**_common(body, principal), until=until), principal)


@_post(CommandKind.MERGE, "Merge the alert into another one, which stays open")
def merge(request: HttpRequest, id: Number, body: MergeBody) -> dict[str, Any]:
    principal = caller(request)
    find_alert(id)
    try:
        into = find_alert(body.into)
        return _act(id, service.merge_into(into, BaseCommand(**_common(body, principal))), principal)
    except Rejected as error:
        if error.code == "not_found":
            raise Rejected("invalid", error.reason, "into") from error
        raise


class BulkBody(CommandBody):
    """One command for several alerts, such as those of a storm. A hold needs `for` or `until`."""

    command: Literal["acknowledge", "assign", "hold", "close", "undo"] = Field(
        description="`assign` assigns the alerts to you."
    )
    alerts: list[Number] = Field(min_length=1, max_length=store.MAX_STORM_ALERTS)
    until: UtcDatetime | None = None
    span: str | None = Field(default=None, alias="for", max_length=20, examples=["30m", "1h30m"])

    @model_validator(mode="after")
    def _require_end(self) -> Self:
        if (self.command == "hold") != ((self.until is None) != (self.span is None)):
            raise ValueError("give either until or for with hold, and neither otherwise")
        return self


class BulkItem(BaseModel):
    """What the command did to one alert."""

    id: int
    answer: ReasonSchema = Field(description="The result in a sentence, or why it was refused.")
    changed: bool
    error: str | None = Field(description="The code of the refusal, such as `not_found`.")


class BulkResponse(BaseModel):
    items: list[BulkItem]


@routes.post("/bulk", Permission.RESPOND, answers=BulkResponse, summary="Give one command for several alerts")
def bulk(request: HttpRequest, body: BulkBody) -> dict[str, Any]:
    """Each alert is changed by itself: a refusal stops no other. The items have the order of `alerts`."""
    principal = caller(request)
    common = _common(body, principal)
    command: Command
    match body.command:
        case "assign":
            command = Assign(**common, name=principal.user.display_name, user_id=principal.user.pk)
        case "hold":
            until = body.until or principal.now + inputs.parse_duration(body.span, "for")
            command = Hold(**common, until=until)
        case simple:
            command = _BULK[simple](**common)

    def act(number: int) -> dict[str, Any]:
        try:
            outcome = service.apply_command(require_response(principal, number), command, now=principal.now)
        except Rejected as refusal:
            return {"id": number, "answer": show_reason(refusal.reason), "changed": False, "error": refusal.code}
        return {"id": number, "answer": show_reason(outcome.answer), "changed": outcome.is_change, "error": None}

    return {"items": [act(number) for number in dict.fromkeys(body.alerts)]}


_BULK: dict[str, _SimpleCommand] = {"acknowledge": Acknowledge, "close": Close, "undo": Undo}


def _active_user(name: str, field: str) -> User:
    rows = User.objects.filter(is_active=True)
    return find_named(rows, name, label="active user", field=field, name_column="username")


def _common(body: CommandBody, principal: Principal) -> dict[str, Any]:
    return {"actor": actor_of(principal), "via": via_of(principal), "note": body.note, "seen_at": body.seen_at}


def _act(number: int, command: Command, principal: Principal) -> dict[str, Any]:
    outcome = service.apply_command(require_response(principal, number), command, now=principal.now)
    return {
        **show_detail(find_alert(number).row, principal.now),
        "answer": show_reason(outcome.answer),
        "changed": outcome.is_change,
    }


# ---------- alert creation
# Opening an alert manually. The body names the recipients; the timeline records who opened the alert and why.


def _max_length(field: str) -> int:
    return FIELDS[field].length


class RecipientsBody(Schema):
    """Users who are paged when the first step fires, and groups in which the policy's roles are resolved."""

    model_config = {"extra": "forbid"}

    users: list[str] = Field(default=[], max_length=50)
    groups: list[str] = Field(default=[], max_length=50)


class NewAlertBody(Schema):
    """An alert that is opened manually. Without a policy and without recipient users no one is paged."""

    model_config = {"extra": "forbid", "str_strip_whitespace": True}

    subject: str = Field(min_length=1, max_length=_max_length("subject"))
    priority: Priority | None = Field(default=None, description="Else the policy's default, else high.")
    short_text: str = Field(default="", max_length=_max_length("short_text"), description="For SMS and voice.")
    long_text: str = Field(default="", max_length=_max_length("long_text"), description="For email.")
    source_url: str = Field(default="", max_length=_max_length("source_url"), pattern=r"^(https?://\S+)?$")
    client: str = Field(default="", max_length=_max_length("client"))
    site: str = Field(default="", max_length=_max_length("site"))
    requester: str = Field(default="", max_length=_max_length("requester"))
    requester_phone: str = Field(default="", max_length=_max_length("requester_phone"))
    tags: dict[str, str] = Field(default={}, max_length=MAX_TAGS)
    custom: dict[str, str] = Field(default={}, max_length=MAX_CUSTOM)
    escalation_policy: str | None = Field(default=None, description="A policy's name or number.")
    recipients: RecipientsBody = RecipientsBody()
    note: str = Field(default="", max_length=2000)


EXAMPLE = {
    "subject": "VPN down at Acme",
    "priority": "critical",
    "escalation_policy": "Standard",
    "recipients": {"groups": ["Service Desk"]},
}


@routes.post(
    "",
    Permission.RESPOND,
    status=201,
    answers=AlertDetail,
    summary="Create an alert",
    example=EXAMPLE,
)
def create_alert(request: HttpRequest, body: NewAlertBody) -> dict[str, Any]:
    principal = caller(request)
    alert_id = open_alert(
        _manual_alert(body),
        actor=actor_of(principal),
        username=principal.user.username,
        via=via_of(principal),
        now=principal.now,
    )
    return show_detail(find_alert(alert_id).row, principal.now)


@routes.post(
    "/preview",
    Permission.RESPOND,
    answers=SimulatedRunResponse,
    summary="Whom a new alert would page: a dry run",
    example=EXAMPLE,
)
def preview_alert(request: HttpRequest, body: NewAlertBody) -> dict[str, Any]:
    """Nothing is stored or sent. `pages` contains every page with its minutes after the opening, `timeline` the entries
    that the alert's timeline would have, and `notes` further remarks."""
    principal = caller(request)
    return chain.run_as_json(preview(_manual_alert(body), principal.now), principal.viewer.address)


def _manual_alert(body: NewAlertBody) -> ManualAlert:
    users = tuple(_active_user(name, f"recipients.users[{n}]").pk for n, name in enumerate(body.recipients.users))
    groups = tuple(
        registry.GROUPS.resolve(name, f"recipients.groups[{n}]").pk for n, name in enumerate(body.recipients.groups)
    )
    return ManualAlert(
        subject=body.subject,
        priority=body.priority,
        policy=_policy(body),
        user_ids=users,
        group_ids=groups,
        columns={name: getattr(body, name) for name in _COLUMNS},
        tags={name: text[:TAG_LENGTH] for name, text in body.tags.items()},
        custom={name: text[:CUSTOM_LENGTH] for name, text in body.custom.items()},
        note=body.note,
    )


_COLUMNS = ("short_text", "long_text", "source_url", "client", "site", "requester", "requester_phone")


def _policy(body: NewAlertBody) -> Policy | None:
    if body.escalation_policy is None:
        return None
    rows = Policy.objects.select_related("current_version")
    return find_named(rows, body.escalation_policy, label="escalation policy", field="escalation_policy")


# ---------- client alerts
# Alerts as client observers see them: without anything internal. Other users may look at them too.


client_alerts_routes = AuthorizedRouter("client-alerts")


class ClientAlertSchema(BaseModel):
    """An alert, without anything internal."""

    id: int
    status: AlertStatus
    priority: Priority
    subject: str
    client: str
    opened_at: datetime
    closed_at: datetime | None


class PublicEventSchema(BaseModel):
    """What happened, and when."""

    at: datetime
    kind: EventKind


class ClientAlertDetail(ClientAlertSchema):
    """An alert with its timeline, without names, texts and reasons."""

    timeline: list[PublicEventSchema]


class ClientAlertFilters(PaginationQuery):
    closed: bool = Field(default=False, description="The history instead of the active alerts.")


@client_alerts_routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[ClientAlertSchema],
    public=True,
    summary="Alerts as client observers see them, newest first",
)
def list_client_alerts(request: HttpRequest, query: Query[ClientAlertFilters]) -> dict[str, Any]:
    rows = Alert.objects.filter(status__in=sorted(INACTIVE if query.closed else ACTIVE))
    return page(rows, query, lambda alerts: [show(ClientAlertSchema, alert) for alert in alerts], newest_first=True)


@client_alerts_routes.get(
    "/{int:id}",
    Permission.VIEW_ALERTS,
    answers=ClientAlertDetail,
    public=True,
    summary="One alert as client observers see it, with its timeline",
)
def show_client_alert(request: HttpRequest, id: Number) -> dict[str, Any]:
    alert = find_alert(id).row
    events = AlertEvent.objects.filter(alert=alert, kind__in=list(PUBLIC_EVENTS)).order_by("at", "pk")
    timeline = public_timeline(events.values_list("at", "kind"))
    return show(ClientAlertDetail, alert, timeline=[show(PublicEventSchema, event) for event in timeline])
