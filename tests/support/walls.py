"""Two sides of an installation with boundaries. Every text of a side contains its marker."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.support.company import make_user
from tests.support.people import phones
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.access.roles import UNLIMITED
from tocsin.alerts.commands import Acknowledge, Actor, Close, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert, apply_command, create_manual_alert
from tocsin.alerts.states import ActorKind, EventKind, Priority
from tocsin.calls.models import CallLeg, CallRoute, PhoneCall
from tocsin.calls.routes import CALL_ROUTES
from tocsin.core.config import settings_store
from tocsin.core.ids import uuid7
from tocsin.escalation.commands import save_policy
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.admin.specs import save_client_table
from tocsin.inbound.maintenance_commands import save_window
from tocsin.inbound.models import DelayedAlert, Heartbeat, InboundMessage, Integration
from tocsin.notify.models import Delivery, MailReply, Notification, PushDevice, SandboxMessage
from tocsin.oncall.changes.commands import save_holiday_calendar, save_schedule, save_support_hours
from tocsin.oncall.changes.overrides import save_override
from tocsin.oncall.models import CalendarFeed, HandoverNote, SwapRequest
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.models import AgentMatch, Call, Exchange, LookUp, OutboundIntegration, TicketLink
from tocsin.people.changes import groups
from tocsin.people.changes.out_of_office import save_absence
from tocsin.people.models import ContactMethod, Group, GroupContact, User
from tocsin.workflows.commands import save_workflow
from tocsin.workflows.models import Workflow, WorkflowRun


@dataclass(frozen=True, slots=True)
class Side:
    """A group with its people and everything that belongs to it."""

    marker: str
    manager: User
    responder: User
    observer: User
    group: Group
    integration: Integration
    #: API tokens of the three, by username.
    tokens: dict[str, str]


def enforce_boundaries() -> None:
    """Switches the boundaries on."""
    settings_store.set(settings_store.VISIBILITY, "groups")


def build_side(marker: str, now: datetime) -> Side:
    """Makes one side by the commands of the application, and rows for what only a running system writes."""
    by = {"actor": COMMAND_LINE, "now": now}
    manager = make_user(f"m{marker}", "manager", f"Manager {marker}")
    responder = make_user(f"r{marker}", "responder", f"Responder {marker}")
    observer = make_user(f"o{marker}", "observer", f"Observer {marker}")
    people = (manager, responder, observer)
    for user in people:
        method = ContactMethod.objects.filter(user=user).first()
        if method is None:
            ContactMethod.objects.create(user=user, label=f"Mail {marker}", channel="email", address=user.email)
        PushDevice.objects.create(
            user=user, address=f"push-{user.username}", name=f"Phone {marker}", endpoint_hash=secrets.token_hex(32),
            service="push.example", subscription="x", created_at=now,
        )  # fmt: skip
    members = [
        {"user": manager.username, "roles": ["lead"]},
        {"user": responder.username, "roles": ["primary"]},
        {"user": observer.username, "roles": ["secondary"]},
    ]
    contacts = [{"label": f"List {marker}", "channel": "email", "address": f"{marker}@example.org"}]
    group = groups.save_group(
        {"name": f"Group {marker}", "description": marker, "members": members, "contacts": contacts}, **by
    )
    _on_call(marker, group, people, by, now)
    steps = [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"users": [manager.username], "groups": [group.name]}, "after": "5m"},
    ]
    save_policy({"name": f"Policy {marker}", "group": group.name, "steps": steps}, **by)
    clients = [{"client": f"Client {marker}", "group": group.name, "escalation_policy": f"Policy {marker}"}]
    save_client_table({"name": f"Table {marker}", "group": group.name, "clients": clients}, **by)
    save_outbound({"name": f"Outbound {marker}", "kind": "http", "url": "https://x.example", "group": group.name}, **by)
    integration = save_integration(
        {
            "name": f"Integration {marker}", "kind": "api", "group": group.name,
            "escalation_policy": f"Policy {marker}",
            "recipients": {"users": [responder.username], "groups": [group.name]},
        },
        **by,
    )  # fmt: skip
    beat = save_integration(
        {
            "name": f"Heartbeat {marker}", "kind": "heartbeat", "group": group.name,
            "escalation_policy": f"Policy {marker}", "recipients": {"groups": [group.name]},
        },
        **by,
    )  # fmt: skip
    Heartbeat.objects.create(integration=beat, health="up", last_at=now, due_at=now)
    for start in ("2026-12-01 22:00", "2026-11-01 22:00"):
        window = {"name": f"Window {marker} {start[5:7]}", "group": group.name, "starts": start, "integrations": [
            integration.name], "ends": start.replace("22:00", "23:00")}  # fmt: skip
        save_window(window, **by)
    actions = [{"do": "notify", "users": [responder.username], "groups": [group.name]}]
    for trigger in ("opened", {"on": "manual", "confirm": f"Sure {marker}?"}):
        name = f"Workflow {marker} {trigger if isinstance(trigger, str) else 'button'}"
        save_workflow({"name": name, "group": group.name, "trigger": trigger, "actions": actions}, **by)
    _alerts(marker, group, people, integration, now)
    _calls(marker, group, by, now)
    new_tokens = {
        user.username: tokens.create(user, f"Token {marker}", limits=UNLIMITED, actor=COMMAND_LINE, now=now)
        for user in people
    }
    secret_of = {username: token.secret for username, token in new_tokens.items()}
    return Side(marker, manager, responder, observer, group, integration, secret_of)


def _calls(marker: str, group: Group, by: dict[str, Any], now: datetime) -> None:
    route = {
        "name": f"Route {marker}", "group": group.name, "provider": phones(now).name,
        "numbers": [f"+4144555{CallRoute.objects.count():04}"], "escalation_policy": f"Policy {marker}",
        "schedule": None, "support_hours": f"Hours {marker}", "greeting": f"Welcome to {marker}.",
        "menu": [{"key": 1, "label": f"Label {marker}", "client": f"Client {marker}"}],
    }  # fmt: skip
    CALL_ROUTES.save(route, **by)


def _on_call(marker: str, group: Group, people: tuple[User, ...], by: dict[str, Any], now: datetime) -> None:
    manager, responder, observer = people
    save_holiday_calendar(
        {"name": f"Calendar {marker}", "group": group.name, "days": [{"date": "12-24", "name": f"Feast {marker}"}]},
        **by,
    )
    rotate = {
        "every": "1w", "at": "09:00", "on": "monday", "users": [responder.username, observer.username],
        "roles": ["primary"],
    }  # fmt: skip
    shift = {"name": f"Shift {marker}", "rotate": rotate, "start": "2026-01-05"}
    schedule = save_schedule({"name": f"Schedule {marker}", "group": group.name, "shifts": [shift]}, **by)
    begin, end = now + timedelta(days=1), now + timedelta(days=2)
    span = {"from": begin.isoformat(), "to": end.isoformat()}
    save_override({**span, "schedule": schedule.name, "user": manager.username, "name": f"Override {marker}"}, **by)
    save_absence(responder, {**span, "cover": observer.username, "note": f"Note {marker}"}, **by)
    hours = {
        "name": f"Hours {marker}",
        "group": group.name,
        "windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}],
    }
    save_support_hours(hours, **by)
    SwapRequest.objects.create(
        schedule=schedule, requester=responder, requested_user=observer, starts_at=begin, ends_at=end, created_at=now,
        message=f"Swap {marker}",
    )  # fmt: skip
    HandoverNote.objects.create(
        schedule=schedule, at=now, since=now - timedelta(days=7), outgoing=[responder.pk], incoming=[observer.pk],
        text=f"Handover {marker}", sent_at=now,
    )  # fmt: skip
    CalendarFeed.objects.create(
        owner=responder, kind="group", group=group, token_hash=secrets.token_bytes(32), created_at=now
    )


def _alerts(marker: str, group: Group, people: tuple[User, ...], integration: Integration, now: datetime) -> None:
    manager, responder, _observer = people
    at = now - timedelta(hours=3)
    numbers = [
        open_alert(marker, integration, (group.pk,), at, f"Alert {kind} {marker}") for kind in ("one", "two", "three")
    ]
    actor = Actor(ActorKind.USER, responder.display_name, responder.pk)
    apply_command(
        FoundAlert.by_tocsin(numbers[1]), Acknowledge(actor=actor, note=f"Note {marker}"), now=at + timedelta(minutes=1)
    )
    apply_command(
        FoundAlert.by_tocsin(numbers[2]), Close(actor=actor, note=f"Note {marker}"), now=at + timedelta(minutes=2)
    )
    for number in numbers:
        alert = Alert.objects.get(pk=number)
        _messages(marker, alert, integration, now)
        _notified(marker, alert, people, group, now)
        _automatic(marker, alert, now)
    DelayedAlert.objects.create(
        key_hash=secrets.token_bytes(32), integration=integration, delay_reason="wait", since=now,
        subject=f"Delayed {marker}",
        source_id=f"D{marker}", due_at=now + timedelta(hours=1),
    )  # fmt: skip
    AuditEntry.objects.create(
        at=now, actor=manager, actor_name=f"Actor {marker}", action="update", object_type="integration",
        group_id=group.pk,
        object_id=str(integration.pk), object_name=integration.name, after={"name": marker},
    )  # fmt: skip


def open_alert(
    marker: str, integration: Integration | None, group_ids: tuple[int, ...], at: datetime, subject: str
) -> int:
    """Opens an alert that notifies these groups, and returns its number."""
    columns = {
        "client": f"Client {marker}", "site": f"Site {marker}", "team": f"Team {marker}",
        "requester": f"Caller {marker}",
        "long_text": f"Long {marker}", "short_text": f"Short {marker}", "source_url": f"https://{marker}.example",
        "source_status": f"New {marker}", "source_agent": f"Agent {marker}",
    }  # fmt: skip
    alert = NewAlert(
        0, Priority.CRITICAL, subject, at, source=f"Source {marker}", source_name=f"Source {marker}",
        source_id=f"T{marker}", integration_id=integration.pk if integration else None, columns=columns,
        tags={f"tag{marker}": marker}, custom={f"custom{marker}": marker},
    )  # fmt: skip
    version = integration.policy.current_version_id if integration and integration.policy else None
    paging = PagingConfig(PagingMode.PAGE, version, (), group_ids, f"By the policy {marker}.")
    event = NewEvent(
        0, EventKind.OPENED, at, Actor(ActorKind.INTEGRATION, f"Integration {marker}"), f"Opened {marker}."
    )
    return create_manual_alert(alert, paging, event, now=at)


def _messages(marker: str, alert: Alert, integration: Integration, now: datetime) -> None:
    body = f'{{"subject": "Message {marker}"}}'.encode()
    for status, number in (("Mapped Opened", alert.pk), ("Mapping Failed", None)):
        InboundMessage.objects.create(
            id=uuid7(), integration=integration, received_at=now, status=status, alert_id=number, raw=body,
            subject=f"Message {marker}", source_id=f"T{marker}", version=integration.current_version,
            content_type="application/json",
        )  # fmt: skip


def _notified(marker: str, alert: Alert, people: tuple[User, ...], group: Group, now: datetime) -> None:
    responder = people[1]
    contact = GroupContact.objects.get(group=group)
    for user, contact_of_group in ((responder, None), (None, contact)):
        notification = Notification.objects.create(
            id=uuid7(), alert=alert, user=user, group_contact=contact_of_group, purpose="page", channel="email",
            label=f"Mail {marker}", address=f"{marker}@example.org", created_at=now,
        )  # fmt: skip
        delivery = Delivery.objects.create(
            id=uuid7(), notification=notification, alert=alert, user=user, channel="email", status="sent",
            address=f"{marker}@example.org", purpose="page", queued_at=now, due_at=now, sent_at=now,
        )  # fmt: skip
        SandboxMessage.objects.create(
            delivery=delivery.pk, alert=alert, user=user, channel="email", address=f"{marker}@example.org",
            content={"subject": f"Mail {marker}", "text": marker}, at=now,
        )  # fmt: skip
    MailReply.objects.create(
        mail_hash=secrets.token_hex(32), received_at=now, provider_name="smtp", sender=f"{marker}@example.org",
        subject=f"Re {marker}", alert=alert, user=responder, outcome="acted",
    )  # fmt: skip


def _automatic(marker: str, alert: Alert, now: datetime) -> None:
    outbound = OutboundIntegration.objects.get(name=f"Outbound {marker}")
    call = Call.objects.create(
        integration=outbound, alert=alert, order_key="a", action="call", queued_at=now, due_at=now, status="dead",
        ticket=f"T{marker}", content={"text": marker}, ended_at=now,
    )  # fmt: skip
    Exchange.objects.create(
        integration=outbound, call=call, at=now, method="POST", url=f"https://{marker}.example", request=marker,
        response=marker, status=500,
    )  # fmt: skip
    LookUp.objects.get_or_create(
        integration=outbound, list_name="agents", number=f"{marker}", defaults={"name": marker, "refreshed_at": now}
    )
    TicketLink.objects.create(integration=outbound, alert=alert, ticket=f"T{marker}", made_at=now)
    AgentMatch.objects.get_or_create(integration=outbound, user=User.objects.get(username=f"r{marker}"), number=marker)
    flow = Workflow.objects.filter(name__startswith=f"Workflow {marker}").first()
    assert flow is not None
    for about in (alert, None):
        phone_call = PhoneCall.objects.create(
            route_name=f"Route {marker}",
            group=flow.group,
            provider="Phones",
            external_id=f"CA{marker}{alert.pk}{about is None}",
            caller=f"+{marker}",
            caller_name=f"Caller {marker}",
            state={},
            phase="ended",
            outcome="voicemail",
            started_at=now,
            ended_at=now,
            alert=about,
            recording=f"Said {marker}".encode(),
            recording_seconds=2,
            transcription=f"Said {marker}",
        )
        CallLeg.objects.create(call=phone_call, place=1, user_name=f"Rung {marker}", status="busy", rung_at=now)
    step = {"at": now.isoformat(), "said": f"Said {marker}", "calls": [call.pk]}
    WorkflowRun.objects.create(
        workflow=flow, alert=alert, status="done", created_at=now, ended_at=now, steps=[step], user_name=f"By {marker}"
    )
    EscalationRun.objects.filter(alert=alert).update(error=marker)
