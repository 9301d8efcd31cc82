"""Many rows of every kind, for tests that lists use a constant number of queries."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.sessions.models import Session

from tests.support.people import phones
from tests.web.api.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.calls.models import CallRoute
from tocsin.calls.routes import CALL_ROUTES
from tocsin.core.ids import uuid7
from tocsin.core.runtime import clock
from tocsin.escalation.commands import save_policy
from tocsin.escalation.models import EscalationRun, Policy
from tocsin.identity.commands import save_provider as save_identity_provider
from tocsin.identity.models import BrowserSession, LinkedIdentity
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.admin.specs import save_client_table
from tocsin.inbound.maintenance_commands import save_window
from tocsin.inbound.models import Heartbeat, InboundMessage, Integration
from tocsin.notify.models import Delivery, Notification, SandboxMessage
from tocsin.notify.notices import CLIENT_REPORTS
from tocsin.notify.providers.commands import save_provider
from tocsin.oncall.changes.commands import save_holiday_calendar, save_schedule, save_support_hours
from tocsin.oncall.changes.overrides import save_override
from tocsin.oncall.models import Schedule, SwapRequest
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.models import Call, OutboundIntegration
from tocsin.people.changes.api_tokens import save_service_account
from tocsin.people.changes.out_of_office import save_absence
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, User
from tocsin.workflows.commands import save_workflow
from tocsin.workflows.models import Workflow, WorkflowRun

LISTS = (
    "alerts",
    "alerts/1/events",
    "notifications",
    "deliveries",
    "users",
    "contact-methods",
    "groups",
    "tokens",
    "audit-log",
    "sandbox-messages",
    "inbound-messages",
    "outbound-integrations",
    "integrations",
    "integrations/Door/versions",
    "heartbeats",
    "escalation-policies",
    "client-tables",
    "maintenance-windows",
    "schedules",
    "support-hours",
    "overrides",
    "swaps",
    "out-of-office",
    "holiday-calendars",
    "providers",
    "call-routes",
    "client-reports",
    "identity-providers",
    "linked-identities",
    "signed-in-devices",
    "workflows",
    "workflows/Flow/runs",
)

FOR_ADMINISTRATORS = frozenset(
    {
        "audit-log",
        "tokens",
        "sandbox-messages",
        "providers",
        "client-reports",
        "identity-providers",
        "linked-identities",
        "signed-in-devices",
    }
)

#: One for the token, one for the visibility, two for the groups of its user, and the rows with what hangs on them. For
#: integrations that is six tables of names; for alerts who is on call, what the policies say and whether paging is
#: paused.
MAX_STATEMENTS = {"alerts": 31, "call-routes": 11, "integrations": 13, "integrations/Door/versions": 14}


def fill(company: Company, number: int) -> None:
    """Adds `number` rows to every list, each with everything that a row can have hanging on it."""
    for _ in range(number):
        name = secrets.token_hex(6)
        user, group, contact = _people(company, name)
        integration = _configuration(company, name, user, group)
        alert = Alert.objects.create(
            subject=name, opened_at=company.now, last_message_at=company.now, owner=user, integration=integration
        )
        for who in (user, company.bob):
            Acknowledgement.objects.create(alert=alert, user=who, at=company.now)
        first = Alert.objects.order_by("id").first()
        AlertEvent.objects.create(alert=first, at=company.now, kind="replied", actor=user, actor_name=name)
        version = Policy.objects.order_by("-id")[0].current_version
        EscalationRun.objects.create(
            alert=alert, version=version, status="active", mode="page", due_at=company.now + timedelta(minutes=5),
            started_at=company.now, recipient_users=[user.pk], recipient_groups=[group.pk],
        )  # fmt: skip
        InboundMessage.objects.create(
            id=uuid7(), integration=integration, received_at=company.now, status="Mapped Opened", alert=alert, raw=b"{}"
        )
        _sent(company, alert, user, contact)


def _people(company: Company, name: str) -> tuple[User, Group, GroupContact]:
    user = User.objects.create(username=f"u{name}", email=f"{name}@example.org")
    for position in range(2):
        ContactMethod.objects.create(user=user, label=f"way {position}", channel="email", address=user.email)
    group = Group.objects.create(name=f"g{name}")
    Membership.objects.create(group=group, user=user, roles=["primary"])
    contact = GroupContact.objects.create(group=group, label="list", channel="email", address="list@example.org")
    ApiToken.objects.create(
        user=user,
        name="t",
        hash=secrets.token_bytes(32),
        prefix="abc",
        scope="read",
        created_at=company.now,
        expires_at=company.now + timedelta(days=365),
    )
    provider = {"name": f"i{name}", "issuer": "https://sso.example.org", "client_id": "tocsin"}
    saved = save_identity_provider(provider, actor=COMMAND_LINE, now=company.now)
    LinkedIdentity.objects.create(
        provider=saved, user=user, issuer="i", subject=name, created_at=company.now, signed_in_at=company.now
    )
    key, ends = secrets.token_hex(20), clock.now() + timedelta(days=1)
    Session.objects.create(session_key=key, session_data="", expire_date=ends)
    BrowserSession.objects.create(session_key=key, user=user, created_at=company.now, seen_at=company.now)
    save_service_account({"name": f"a{name}"}, actor=COMMAND_LINE, now=company.now)
    report = {"client": f"c{name}", "address": "service@acme.example"}
    CLIENT_REPORTS.save(report, actor=COMMAND_LINE, now=company.now)
    AuditEntry.objects.create(at=company.now, actor=user, actor_name=name, action="create")
    return user, group, contact


def _configuration(company: Company, name: str, user: User, group: Group) -> Integration:
    by = {"actor": COMMAND_LINE, "now": company.now}
    steps = [
        {"notify": {"users": [user.username]}},
        {"notify": {"roles": ["primary"], "groups": [group.name]}, "after": "5m"},
    ]
    save_policy({"name": f"p{name}", "group": group.name, "steps": steps}, **by)
    clients = [{"client": "Acme", "group": group.name, "escalation_policy": f"p{name}"}]
    window = {"name": f"w{name}", "group": group.name, "starts": "2026-12-01 22:00", "ends": "2026-12-02 02:00"}
    save_window(window, **by)
    save_client_table({"name": f"c{name}", "group": group.name, "clients": clients}, **by)
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": [user.username], "roles": ["primary"]}
    shift = {"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}
    _on_call(company, name, user, save_schedule({"name": f"s{name}", "group": group.name, "shifts": [shift]}, **by))
    hours = {"name": f"h{name}", "group": group.name, "windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]}
    save_support_hours(hours, **by)
    save_provider({"name": f"n{name}", "kind": "ntfy", "token": "tk_secret"}, **by)
    save_outbound({"name": f"o{name}", "kind": "http", "url": "https://x.example", "group": group.name}, **by)
    number = f"+4144555{CallRoute.objects.count():04}"
    route = {"name": f"r{name}", "numbers": [number], "provider": phones(company.now).name, "group": group.name}
    CALL_ROUTES.save({**route, "escalation_policy": f"p{name}"}, **by)
    _workflows(company, name, user, group)
    integration = Integration.objects.filter(name="Door").first()
    spec = {
        "kind": "api",
        "group": group.name,
        "escalation_policy": f"p{name}",
        "recipients": {"users": [user.username], "groups": [group.name]},
        "routes": [{"name": name, "action": "record"}],
        "credentials": {"basic": {"username": "u", "password": "p"}},
    }
    beat = save_integration({"name": f"b{name}", "kind": "heartbeat", "anyway": True}, **by)
    Heartbeat.objects.create(integration=beat, health="up", last_at=company.now, due_at=company.now)
    save_integration({**spec, "name": "Door", "group": company.desk.name}, existing=integration, **by)
    return save_integration({**spec, "name": f"i{name}"}, **by)


def _workflows(company: Company, name: str, user: User, group: Group) -> None:
    by = {"actor": COMMAND_LINE, "now": company.now}
    actions = [
        {"do": "notify", "users": [user.username], "groups": [group.name]},
        {"do": "start_policy", "policy": f"p{name}"},
        {"do": "call", "outbound": f"o{name}"},
    ]
    save_workflow({"name": f"w{name}", "group": group.name, "trigger": "opened", "actions": actions}, **by)
    flow = Workflow.objects.filter(name="Flow").first()
    spec = {"name": "Flow", "trigger": "opened", "actions": [{"do": "close"}]}
    flow = flow or save_workflow(spec, **by)
    pager = OutboundIntegration.objects.get(name=f"o{name}")
    at = company.now
    call = Call.objects.create(integration=pager, order_key="a", action="call", queued_at=at, due_at=at)
    steps = [{"at": at.isoformat(), "said": "Called.", "calls": [call.pk]}]
    WorkflowRun.objects.create(workflow=flow, alert_id=1, status="done", created_at=at, steps=steps)


def _on_call(company: Company, name: str, user: User, schedule: Schedule) -> None:
    by = {"actor": COMMAND_LINE, "now": company.now}
    begin, end = company.now + timedelta(days=1), company.now + timedelta(days=2)
    span = {"from": begin.isoformat(), "to": end.isoformat()}
    save_override({**span, "schedule": schedule.name, "user": "bob", "instead_of": user.username}, **by)
    save_absence(user, {**span, "cover": "bob", "covers": {schedule.group.name: "mia"}}, **by)
    save_holiday_calendar({"name": f"c{name}", "days": [{"date": "12-24", "name": name}]}, **by)
    SwapRequest.objects.create(
        schedule=schedule,
        requester=user,
        requested_user=company.bob,
        starts_at=begin,
        ends_at=end,
        created_at=company.now,
    )


def _sent(company: Company, alert: Alert, user: User, contact: GroupContact) -> None:
    notification = Notification.objects.create(
        id=uuid7(), alert=alert, user=user, group_contact=contact, purpose="page", channel="email",
        address="a@example.org", created_at=company.now,
    )  # fmt: skip
    delivery = Delivery.objects.create(
        id=uuid7(), notification=notification, alert=alert, user=user, channel="email", address="a@example.org",
        purpose="page", queued_at=company.now, due_at=company.now,
    )  # fmt: skip
    SandboxMessage.objects.create(
        delivery=delivery.pk, alert=alert, user=user, channel="email", address="a@example.org", content={},
        at=company.now,
    )  # fmt: skip
