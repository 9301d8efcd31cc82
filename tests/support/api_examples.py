"""For every API endpoint a working request on an object of a given group."""

from __future__ import annotations

import base64
import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.contrib.sessions.models import Session

from tests.doubles.halo import HaloServer
from tests.doubles.push import Browser
from tests.support.people import phones
from tests.web.api.conftest import Company
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE, record
from tocsin.access.models import AuditEntry
from tocsin.access.roles import UNLIMITED
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.calls.models import PhoneCall
from tocsin.calls.routes import CALL_ROUTES
from tocsin.configure.models import ImportRun, ImportState
from tocsin.core.config import crypto
from tocsin.core.ids import uuid7
from tocsin.core.runtime import clock
from tocsin.escalation.commands import save_policy
from tocsin.identity.commands import save_provider as save_identity_provider
from tocsin.identity.models import BrowserSession, LinkedIdentity
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.admin.specs import save_client_table
from tocsin.inbound.maintenance_commands import save_window
from tocsin.inbound.models import DelayedAlert, InboundMessage, Integration, MaintenanceWindow
from tocsin.notify.inbound import verification
from tocsin.notify.integrations import web_push
from tocsin.notify.models import Delivery, MailReply, Notification, PushDevice, SandboxMessage
from tocsin.notify.notices import CLIENT_REPORTS
from tocsin.notify.providers.commands import save_provider
from tocsin.oncall.calendars import feeds
from tocsin.oncall.changes.commands import save_holiday_calendar, save_schedule, save_support_hours
from tocsin.oncall.changes.overrides import save_override
from tocsin.oncall.changes.swaps import ShiftRange, request_swap
from tocsin.oncall.models import CalendarFeed, FeedKind, HandoverNote, Override, Schedule, SwapRequest
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.models import Call
from tocsin.people.changes.api_tokens import save_service_account
from tocsin.people.changes.out_of_office import save_absence
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, OutOfOffice, User
from tocsin.workflows.commands import save_workflow
from tocsin.workflows.models import WorkflowRun


@dataclass(frozen=True, slots=True)
class ApiObjects:
    """Who asks, and which group owns what is asked for."""

    company: Company
    asker: User
    group: Group | None
    open_alert: Callable[..., int]
    #: Of a server that providers can reach.
    server: str = ""

    @property
    def by(self) -> dict[str, Any]:
        return {"actor": COMMAND_LINE, "now": clock.now()}

    @property
    def owned(self) -> dict[str, str]:
        return {"group": self.group.name} if self.group else {}


type Request = tuple[str, Any]
type Example = Callable[[ApiObjects], Request]


def _name(what: str) -> str:
    return f"{what} {secrets.token_hex(4)}"


def _alert(command: str = "", body: Any = None, *before: str) -> Example:
    """On a fresh alert, after the commands that must come before."""

    def make(world: ApiObjects) -> Request:
        number = world.open_alert()
        from tests.web.api.conftest import Api  # the asker's own client gives the commands that come before

        for earlier in before:
            made = tokens.create(world.company.alice, _name("before"), limits=UNLIMITED, **world.by)
            assert Api(made.secret).post(f"alerts/{number}/{earlier}").status == 200
        if command == "merge":
            return f"alerts/{number}/merge", {"into": world.open_alert()}
        return f"alerts/{number}{'/' if command else ''}{command}", body

    return make


def _undo(world: ApiObjects) -> Request:
    """Somebody's own last command, given by them a moment ago."""
    from tocsin.alerts import service
    from tocsin.alerts.commands import Acknowledge, Actor
    from tocsin.alerts.states import ActorKind

    number = world.open_alert()
    actor = Actor(ActorKind.USER, world.asker.display_name, world.asker.pk)
    service.apply_command(FoundAlert.by_tocsin(number), Acknowledge(actor=actor), now=clock.now())
    return f"alerts/{number}/undo", None


def _integration(world: ApiObjects) -> Integration:
    spec = {"name": _name("door"), "kind": "api", "mode": "dry_run", **world.owned}
    return save_integration(spec, **world.by)


def _on_integration(suffix: str = "", body: Callable[[Integration], Any] = lambda _found: None) -> Example:
    def make(world: ApiObjects) -> Request:
        integration = _integration(world)
        return f"integrations/{integration.pk}{suffix}", body(integration)

    return make


def _message(world: ApiObjects) -> InboundMessage:
    return InboundMessage.objects.create(
        id=uuid7(),
        integration=_integration(world),
        received_at=clock.now(),
        status="Mapping Failed",
        raw=b'{"summary": "VPN down"}',
        content_type="application/json",
    )


def _notification(world: ApiObjects) -> Notification:
    return Notification.objects.create(
        id=uuid7(),
        alert_id=world.open_alert(),
        user=world.company.bob,
        purpose="page",
        channel="email",
        address="bob@example.org",
        created_at=clock.now(),
    )


def _delivery(world: ApiObjects) -> Delivery:
    at = clock.now()
    return Delivery.objects.create(
        id=uuid7(), notification=_notification(world), user=world.company.bob, channel="email",
        address="bob@example.org", purpose="page", queued_at=at, due_at=at,
    )  # fmt: skip


def _sandbox(world: ApiObjects) -> SandboxMessage:
    return SandboxMessage.objects.create(
        delivery=uuid7(), user=world.asker, channel="email", address="a@example.org", content={}, at=clock.now()
    )


def _shows_addresses(world: ApiObjects) -> Request:
    group, _body = _group(world)
    Membership.objects.get_or_create(group_id=int(group.partition("/")[2]), user=world.asker)
    return f"{group}/members/{world.asker.username}/show-addresses", None


def _group(world: ApiObjects) -> Request:
    assert world.group is not None
    return f"groups/{world.group.pk}", None


def _group_contact(world: ApiObjects) -> Request:
    assert world.group is not None
    label = _name("contact")
    GroupContact.objects.create(group=world.group, label=label, channel="email", address="desk@example.org")
    return f"groups/{world.group.pk}/contacts/{label}/test", None


def _policy_spec(world: ApiObjects) -> dict[str, Any]:
    return {"name": _name("policy"), "steps": [{"notify": {"users": ["bob"]}}], **world.owned}


def _on_policy(world: ApiObjects) -> tuple[str, Any]:
    policy = save_policy(_policy_spec(world), **world.by)
    return f"escalation-policies/{policy.pk}/simulate", {"at": "2026-12-25T03:00:00Z", "priority": "critical"}


def _table_spec(world: ApiObjects) -> dict[str, Any]:
    clients = [{"client": "Acme", "escalation_policy": save_policy(_policy_spec(world), **world.by).name}]
    return {"name": _name("table"), "clients": clients, **world.owned}


def _table_import(world: ApiObjects) -> tuple[str, Any]:
    table = save_client_table(_table_spec(world), **world.by)
    return f"client-tables/{table.pk}/import", {"csv": "client,group,policy\n"}


def _window_spec(world: ApiObjects) -> dict[str, Any]:
    times = {"starts": "2020-01-01 00:00", "ends": "2020-12-31 00:00"}
    return {"name": _name("window"), "integrations": [_integration(world).name], **times, **world.owned}


def _window(world: ApiObjects) -> MaintenanceWindow:
    return save_window(_window_spec(world), **world.by)


def _window_end(world: ApiObjects) -> Request:
    spec = _window_spec(world)
    now = clock.now()
    spec |= {
        "starts": f"{now - timedelta(hours=1):%Y-%m-%d %H:%M}",
        "ends": f"{now + timedelta(hours=1):%Y-%m-%d %H:%M}",
    }
    return f"maintenance-windows/{save_window(spec, **world.by).pk}/end", None


def _delayed(suffix: str = "") -> Example:
    def make(world: ApiObjects) -> Request:
        row = DelayedAlert.objects.create(
            key_hash=secrets.token_bytes(32),
            integration=_integration(world),
            delay_reason="wait",
            since=clock.now(),
        )
        return f"delayed-alerts/{row.key_hash.hex()}{suffix}", None

    return make


def _schedule_spec(world: ApiObjects) -> dict[str, Any]:
    assert world.group is not None
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob"], "roles": ["primary"]}
    shift = {"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}
    return {"name": _name("schedule"), "group": world.group.name, "shifts": [shift]}


def _handover(world: ApiObjects) -> tuple[str, None]:
    """The note of a handover of the asker's."""
    schedule, at = save_schedule(_schedule_spec(world), **world.by), clock.now() + timedelta(hours=1)
    note = HandoverNote.objects.create(
        schedule=schedule, at=at, since=at - timedelta(days=7), outgoing=[world.asker.pk], incoming=[]
    )
    return f"schedules/{schedule.pk}/handovers/{note.pk}", None


def _override_spec(world: ApiObjects) -> dict[str, Any]:
    schedule = save_schedule(_schedule_spec(world), **world.by)
    until = (clock.now() + timedelta(days=2)).isoformat()
    return {"schedule": schedule.name, "user": "bob", "from": clock.now().isoformat(), "to": until}


def _take_back(world: ApiObjects) -> tuple[str, None]:
    """An override that the asker made, as taking a shift does."""
    override = save_override(_override_spec(world), **world.by)
    Override.objects.filter(pk=override.pk).update(created_by=world.asker, user=world.asker)
    return f"overrides/{override.pk}/take-back", None


def _shift_of(world: ApiObjects, user: User) -> tuple[Schedule, dict[str, Any]]:
    """A schedule in which the user is on call at any time, and the next two days of it."""
    assert world.group is not None
    days = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "24:00"}
    shift = {"name": "Always", "fixed": {"windows": [days], "users": [user.username]}}
    spec = {"name": _name("schedule"), "group": world.group.name, "shifts": [shift]}
    span = {"from": clock.now().isoformat(), "to": (clock.now() + timedelta(days=2)).isoformat()}
    return save_schedule(spec, **world.by), span


def _take(world: ApiObjects) -> Request:
    schedule, span = _shift_of(world, world.company.nadia)
    return f"schedules/{schedule.pk}/take", {**span, "instead_of": "nadia"}


def _hand_over(world: ApiObjects) -> Request:
    schedule, span = _shift_of(world, world.asker)
    return f"schedules/{schedule.pk}/hand-over", {**span, "user": "nadia"}


def _swap_spec(world: ApiObjects) -> dict[str, Any]:
    schedule, span = _shift_of(world, world.asker)
    other = next(user for user in (world.company.bob, world.company.mia) if user != world.asker)
    return {**span, "schedule": schedule.name, "user": other.username}


def _swap(world: ApiObjects, by: User, of: User) -> SwapRequest:
    schedule, span = _shift_of(world, by)
    Membership.objects.get_or_create(group=schedule.group, user=of)
    stretch = ShiftRange(datetime.fromisoformat(span["from"]), datetime.fromisoformat(span["to"]))
    return request_swap(schedule, stretch, requester=by, requested_user=of, in_return=None, message="", **world.by)


def _command_example(command: str) -> Example:
    def make(world: ApiObjects) -> Request:
        swap = _swap(world, world.company.nadia, world.asker)
        return f"swaps/{swap.pk}/{command}", None

    return make


#: No two call routes have the same number.
_NUMBERS = itertools.count(1)

#: No two absences of a person overlap.
_ABSENCE_DAYS = itertools.count(1)


def _absence_spec(_world: ApiObjects) -> dict[str, Any]:
    begin = clock.now() + timedelta(days=next(_ABSENCE_DAYS))
    return {"from": begin.isoformat(), "to": (begin + timedelta(hours=1)).isoformat()}


def _absence(world: ApiObjects) -> OutOfOffice:
    return save_absence(world.asker, _absence_spec(world), **world.by)


def _feed(world: ApiObjects) -> CalendarFeed:
    CalendarFeed.objects.filter(owner=world.asker).delete()
    return feeds.create_feed(world.asker, FeedKind.PERSON, **world.by).feed


def _feed_spec(world: ApiObjects) -> dict[str, Any]:
    CalendarFeed.objects.filter(owner=world.asker).delete()
    return {"kind": "group", "group": world.company.desk.name}


def _calendar_spec(world: ApiObjects) -> dict[str, Any]:
    return {"name": _name("holidays"), "days": [{"date": "12-24", "name": "Christmas Eve"}], **world.owned}


def _hours_spec(world: ApiObjects) -> dict[str, Any]:
    return {"name": _name("hours"), "windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}], **world.owned}


def _service_account_spec(_world: ApiObjects) -> dict[str, Any]:
    return {"name": _name("bot"), "role": "responder"}


def _integration_spec(world: ApiObjects) -> dict[str, Any]:
    return {"name": _name("door"), "kind": "api", "mode": "dry_run", **world.owned}


def _user_spec(_world: ApiObjects) -> dict[str, Any]:
    name = f"u{secrets.token_hex(4)}"
    return {"username": name, "email": f"{name}@example.org"}


def _user(world: ApiObjects) -> User:
    spec = _user_spec(world)
    return User.objects.create(username=spec["username"], email=spec["email"])


def _method(world: ApiObjects) -> ContactMethod:
    return ContactMethod.objects.create(
        user=world.asker, label=_name("way"), channel="email", address="a@example.org", position=9
    )


def _confirmation(world: ApiObjects) -> Request:
    method = _method(world)
    sent = Notification.objects.get(pk=verification.send_code(method, now=clock.now()))
    return f"contact-methods/{method.pk}/confirm", {"code": crypto.decrypt(sent.data["sealed"])}


def _method_spec(_world: ApiObjects) -> dict[str, Any]:
    return {"label": _name("way"), "channel": "email", "address": "b@example.org"}


def _provider_spec(world: ApiObjects) -> dict[str, Any]:
    return {"name": _name("provider"), "kind": "ntfy", "api_base": world.server}


def _call_route_spec(world: ApiObjects) -> dict[str, Any]:
    policy = save_policy(_policy_spec(world), **world.by).name
    number = f"+41445{next(_NUMBERS):06}"
    route = {"name": _name("route"), "numbers": [number], "provider": phones(clock.now()).name, **world.owned}
    return {**route, "escalation_policy": policy}


def _phone_call(world: ApiObjects) -> int:
    call = PhoneCall.objects.create(
        route_name="Hotline", group=world.group, provider="Phones", external_id=_name("CA"), state={}, phase="ended",
        outcome="voicemail", started_at=clock.now(), recording=b"RIFF", recording_type="audio/wav",
    )  # fmt: skip
    return int(call.pk)


def _client_report_spec(_world: ApiObjects) -> dict[str, Any]:
    return {"client": _name("client"), "address": "service@acme.example"}


def _provider(world: ApiObjects) -> Any:
    return save_provider(_provider_spec(world), **world.by)


def _teams(world: ApiObjects) -> Any:
    ids = {"client_id": "11111111-2222-4333-8444-555555555555", "tenant_id": "tenant", "client_secret": "secret"}
    return save_provider({"name": _name("teams"), "kind": "teams", "channels": ["chat"], **ids}, **world.by)


def _token(world: ApiObjects) -> Request:
    return f"tokens/{tokens.create(world.asker, _name('token'), limits=UNLIMITED, **world.by).token.pk}", None


def _mail_reply(_world: ApiObjects) -> MailReply:
    return MailReply.objects.create(
        mail_hash=secrets.token_hex(32), received_at=clock.now(), provider_name="Mailbox", outcome="acted"
    )


def _device_spec(_world: ApiObjects) -> dict[str, Any]:
    subscription = Browser(f"https://push.example.org/{secrets.token_hex(8)}").subscription()
    return {"name": _name("phone"), "subscription": subscription}


def _device(world: ApiObjects) -> PushDevice:
    spec = _device_spec(world)
    world.asker.push_devices.all().delete()
    return web_push.subscribe(world.asker, spec["subscription"], spec["name"], **world.by)


def _linked_identity(world: ApiObjects) -> LinkedIdentity:
    provider = save_identity_provider(_identity_provider_spec(world), **world.by)
    now = clock.now()
    return LinkedIdentity.objects.create(
        provider=provider, user=world.asker, issuer=provider.issuer, subject="1", created_at=now, signed_in_at=now
    )


def _browser_session(world: ApiObjects) -> BrowserSession:
    now, key = clock.now(), secrets.token_hex(20)
    Session.objects.create(session_key=key, session_data="", expire_date=now + timedelta(days=1))
    return BrowserSession.objects.create(session_key=key, user=world.asker, created_at=now, seen_at=now)


def _entry(world: ApiObjects) -> Request:
    record(COMMAND_LINE, "create", now=clock.now(), group_id=world.group.pk if world.group else None)
    return f"audit-log/{AuditEntry.objects.latest('id').pk}", None


def _at(
    noun: str, make: Callable[[ApiObjects], Any], body: Callable[[ApiObjects], Any] = lambda _world: None
) -> Example:
    return lambda world: (f"{noun}/{make(world).pk}", body(world))


def _user_reset(world: ApiObjects) -> tuple[str, Any]:
    return f"users/{_user(world).pk}/reset-second-factor", None


def _new(noun: str, body: Callable[[ApiObjects], Any]) -> Example:
    return lambda world: (noun, body(world))


def _heartbeat(world: ApiObjects) -> Any:
    spec = {"name": _name("beat"), "kind": "heartbeat", "anyway": True}
    return save_integration(spec, **world.by)


def _listed(noun: str) -> Example:
    return lambda _world: (noun, None)


def _identity_provider_spec(world: ApiObjects) -> dict[str, Any]:
    return {"name": _name("login"), "issuer": "https://sso.example.org", "client_id": "tocsin"}


def _scim_token(world: ApiObjects) -> Request:
    provider = save_identity_provider(_identity_provider_spec(world), **world.by)
    return f"identity-providers/{provider.pk}/scim-token", None


def _configured(noun: str, spec: Callable[[ApiObjects], Any], make: Callable[[ApiObjects], Any]) -> dict[str, Example]:
    """The requests that every configured object has."""
    return {
        f"GET {noun}": _listed(noun),
        f"POST {noun}": _new(noun, spec),
        f"GET {noun}/{{id}}": _at(noun, make),
        f"PUT {noun}/{{id}}": _at(noun, make, spec),
        f"PATCH {noun}/{{id}}": _at(noun, make, lambda world: {"name": _name("changed")}),
        f"DELETE {noun}/{{id}}": _at(noun, make),
        f"GET {noun}/{{id}}/history": lambda world: (f"{noun}/{make(world).pk}/history", None),
    }


@cache
def _halo() -> str:
    """The address of a Halo that answers as long as the tests run."""
    server = HaloServer(sends_webhooks=False)
    server.halo.refused_actions = {"none"}
    server.start()
    return server.url


def _outbound_spec(world: ApiObjects) -> dict[str, Any]:
    return {
        "name": _name("outbound"), "kind": "haloitsm", "base_url": _halo(), "client_id": "tocsin",
        "client_secret": "halo-demo-secret", **world.owned,
    }  # fmt: skip


def _outbound(world: ApiObjects) -> Any:
    return save_outbound(_outbound_spec(world), **world.by)


def _on_outbound(suffix: str, body: Callable[[ApiObjects, Any], Any] = lambda _world, _found: None) -> Example:
    def make(world: ApiObjects) -> Request:
        result = _outbound(world)
        return f"outbound-integrations/{result.pk}{suffix}", body(world, result)

    return make


def _on_call(suffix: str = "") -> Example:
    """On a dead letter."""

    def make(world: ApiObjects) -> Request:
        result = _outbound(world)
        at = clock.now()
        call = Call.objects.create(
            integration=result, order_key="a", action="write", status="dead", queued_at=at, due_at=at
        )
        return f"outbound-integrations/{result.pk}/calls/{call.pk}{suffix}", None

    return make


def _path_of_integration(world: ApiObjects, found: Any) -> dict[str, str]:
    spec = {"name": _name("door"), "kind": "haloitsm", "mode": "dry_run", "outbound": found.name, **world.owned}
    return {"integration": save_integration(spec, **world.by).name}


_OUTBOUND: Mapping[str, Example] = {
    **_configured("outbound-integrations", _outbound_spec, _outbound),
    "POST outbound-integrations/{id}/test": _on_outbound("/test"),
    "GET outbound-integrations/{id}/calls": _on_outbound("/calls"),
    "GET outbound-integrations/{id}/calls/{int:call_id}": _on_call(),
    "POST outbound-integrations/{id}/calls/{int:call_id}/send-again": _on_call("/send-again"),
    "POST outbound-integrations/{id}/calls/send-again": _on_outbound("/calls/send-again"),
    "POST outbound-integrations/{id}/calls/{int:call_id}/drop": _on_call("/drop"),
    "POST outbound-integrations/{id}/call": _on_outbound("/call", lambda world, _found: {"alert": world.open_alert()}),
    "POST outbound-integrations/{id}/preview": _on_outbound(
        "/preview", lambda world, _found: {"alert": world.open_alert(), "event": "acknowledge"}
    ),
    "GET outbound-integrations/{id}/rights": _on_outbound("/rights"),
    "GET outbound-integrations/{id}/lists": _on_outbound("/lists"),
    "POST outbound-integrations/{id}/refresh": _on_outbound("/refresh"),
    "POST outbound-integrations/{id}/set-up-webhook": _on_outbound("/set-up-webhook", _path_of_integration),
    "POST outbound-integrations/{id}/look": _on_outbound("/look"),
    "POST outbound-integrations/{id}/import-people": _on_outbound(
        "/import-people", lambda _world, _found: {"agents": ["7"]}
    ),
}


def _import(suffix: str = "", **fields: Any) -> Example:
    """On an import that somebody began."""

    def make(world: ApiObjects) -> Request:
        ImportRun.objects.all().delete()
        given = {"state": ImportState.READY, "configuration": crypto.encrypt("settings: {}\n"), **fields}
        run = ImportRun.objects.create(
            product="opsgenie",
            source="a file",
            started_by="alice",
            started_at=clock.now(),
            beat_at=clock.now(),
            **given,
        )
        return f"imports/{run.pk}{suffix}", None

    return make


def _workflow_spec(world: ApiObjects) -> dict[str, Any]:
    return {
        "name": _name("workflow"), "trigger": "opened", "actions": [{"do": "notify", "users": ["bob"]}], **world.owned,
    }  # fmt: skip


def _workflow(world: ApiObjects) -> Any:
    return save_workflow(_workflow_spec(world), **world.by)


def _on_workflow(suffix: str, body: Callable[[ApiObjects], Any] = lambda _world: None) -> Example:
    return lambda world: (f"workflows/{_workflow(world).pk}{suffix}", body(world))


def _on_run(suffix: str = "") -> Example:
    """On a run that is stuck."""

    def make(world: ApiObjects) -> Request:
        result = _workflow(world)
        run = WorkflowRun.objects.create(
            workflow=result, alert_id=world.open_alert(), status="stuck", created_at=clock.now(), ended_at=clock.now()
        )
        return f"workflows/{result.pk}/runs/{run.pk}{suffix}", None

    return make


def _export(_world: ApiObjects) -> Request:
    ImportRun.objects.all().delete()
    return "imports", {"product": "opsgenie", "export": base64.b64encode(b'{"teams": [{"name": "Ops"}]}').decode()}


_IMPORTS: Mapping[str, Example] = {
    "GET imports": _listed("imports"),
    "POST imports": _export,
    "GET imports/{int:id}": _import(),
    "GET imports/{int:id}/configuration": _import("/configuration"),
    "POST imports/{int:id}/apply": _import("/apply"),
    "DELETE imports/{int:id}": _import(),
}


def _button(world: ApiObjects) -> Request:
    spec = {"name": _name("button"), "trigger": "manual", "actions": [{"do": "reply", "text": "Pressed"}]}
    return f"alerts/{world.open_alert()}/buttons/{save_workflow(spec, **world.by).pk}", None


def _ticket(world: ApiObjects) -> Request:
    """On an alert from elsewhere, whose integration writes back to a Halo."""
    spec = {"name": _name("door"), "kind": "api", "mode": "dry_run", "outbound": _outbound(world).name, **world.owned}
    number = world.open_alert(integration_id=save_integration(spec, **world.by).pk)
    return f"alerts/{number}/ticket", None


_WORKFLOWS: Mapping[str, Example] = {
    **_configured("workflows", _workflow_spec, _workflow),
    "GET workflows/ready-made": _listed("workflows/ready-made"),
    "POST workflows/test": lambda world: (
        "workflows/test",
        {"alert": world.open_alert(), "workflow": _workflow_spec(world)},
    ),
    "POST workflows/{id}/test": _on_workflow("/test", lambda world: {"alert": world.open_alert()}),
    "POST workflows/{id}/move": _on_workflow("/move", lambda _world: {"by": 1}),
    "GET workflows/{id}/runs": _on_workflow("/runs"),
    "GET workflows/{id}/runs/{int:run_id}": _on_run(),
    "POST workflows/{id}/runs/{int:run_id}/try-again": _on_run("/try-again"),
    "POST workflows/{id}/runs/{int:run_id}/end": _on_run("/end"),
    "GET alerts/{int:id}/buttons": _alert("buttons"),
    "POST alerts/{int:id}/buttons/{button}": _button,
    "POST alerts/{int:id}/ticket": _ticket,
    "GET alerts/{int:id}/workflow-runs": _alert("workflow-runs"),
}


EXAMPLES: Mapping[str, Example] = {
    **_OUTBOUND,
    **_IMPORTS,
    **_WORKFLOWS,
    "GET alerts": _listed("alerts"),
    "GET client-alerts": _listed("client-alerts"),
    "GET client-alerts/{int:id}": lambda world: (f"client-alerts/{world.open_alert()}", None),
    "POST alerts": _new("alerts", lambda _world: {"subject": "VPN down", "recipients": {"users": ["bob"]}}),
    "POST alerts/bulk": lambda world: ("alerts/bulk", {"command": "acknowledge", "alerts": [world.open_alert()]}),
    "POST alerts/preview": lambda _world: (
        "alerts/preview",
        {"subject": "VPN down", "recipients": {"users": ["bob"]}},
    ),
    "GET alerts/{int:id}": _alert(),
    "GET alerts/{int:id}/events": _alert("events"),
    "GET alerts/{int:id}/not-called": _alert("not-called"),
    "POST alerts/{int:id}/acknowledge": _alert("acknowledge"),
    "POST alerts/{int:id}/unacknowledge": _alert("unacknowledge"),
    "POST alerts/{int:id}/assign": _alert("assign", {"user": "bob"}),
    "POST alerts/{int:id}/unassign": _alert("unassign"),
    "POST alerts/{int:id}/escalate": _alert("escalate"),
    "POST alerts/{int:id}/reply": _alert("reply", {"text": "On my way"}),
    "POST alerts/{int:id}/hold": _alert("hold", {"for": "30m"}),
    "POST alerts/{int:id}/resume": _alert("resume"),
    "POST alerts/{int:id}/close": _alert("close"),
    "POST alerts/{int:id}/cancel": _alert("cancel"),
    "POST alerts/{int:id}/reopen": _alert("reopen", None, "close"),
    "POST alerts/{int:id}/merge": _alert("merge"),
    "POST alerts/{int:id}/undo": _undo,
    "GET inbound-messages": _listed("inbound-messages"),
    "GET inbound-messages/{id}": _at("inbound-messages", _message),
    "POST inbound-messages/{id}/replay": lambda world: (
        f"inbound-messages/{_message(world).pk}/replay",
        {"page": False},
    ),
    "POST inbound-messages/replay/several": lambda world: (
        "inbound-messages/replay/several",
        {"ids": [str(_message(world).pk)], "page": False},
    ),
    "GET notifications": _listed("notifications"),
    "GET notifications/{id}": _at("notifications", _notification),
    "GET deliveries": _listed("deliveries"),
    "GET deliveries/{id}": _at("deliveries", _delivery),
    "GET mail-replies": _listed("mail-replies"),
    "GET mail-replies/{int:id}": _at("mail-replies", _mail_reply),
    "GET sandbox-messages": _listed("sandbox-messages"),
    "GET sandbox-messages/{int:id}": _at("sandbox-messages", _sandbox),
    **_configured("integrations", _integration_spec, _integration),
    "GET heartbeats": _listed("heartbeats"),
    "GET heartbeats/{id}": _at("heartbeats", _heartbeat),
    "GET integrations/{id}/preflight": _on_integration("/preflight"),
    "GET integrations/{id}/versions": _on_integration("/versions"),
    "GET integrations/{id}/versions/{int:number}/changes": _on_integration("/versions/1/changes"),
    "POST integrations/{id}/versions/{int:number}/restore": _on_integration("/versions/1/restore"),
    "GET integrations/{id}/statuses": _on_integration("/statuses"),
    "PUT integrations/{id}/statuses": _on_integration("/statuses", lambda _found: {"status": "New", "does": "open"}),
    "POST integrations/{id}/backtest": _on_integration("/backtest", lambda _found: {"filters": None}),
    "POST integrations/{id}/rotate-token": _on_integration("/rotate-token"),
    "POST integrations/{id}/test-mailbox": _on_integration("/test-mailbox"),
    "POST integrations/{id}/send-sample": _on_integration("/send-sample"),
    "POST integrations/{id}/test": _on_integration("/test", lambda _found: {"title": "Disk almost full"}),
    "PUT integrations/{id}": _on_integration(
        "",
        lambda found: {
            "name": found.name,
            "kind": "api",
            "mode": "dry_run",
            "group": found.group.name if found.group else None,
        },
    ),
    **_configured("escalation-policies", _policy_spec, lambda world: save_policy(_policy_spec(world), **world.by)),
    "GET escalation-policies/templates": _listed("escalation-policies/templates"),
    "POST escalation-policies/{id}/simulate": _on_policy,
    **_configured("client-tables", _table_spec, lambda world: save_client_table(_table_spec(world), **world.by)),
    "POST client-tables/{id}/import": _table_import,
    **_configured("maintenance-windows", _window_spec, _window),
    "POST maintenance-windows/preview": lambda _world: (
        "maintenance-windows/preview",
        {"starts": "2026-12-01 22:00", "ends": "2026-12-02 02:00"},
    ),
    "POST maintenance-windows/{id}/end": _window_end,
    "GET delayed-alerts": _listed("delayed-alerts"),
    "POST delayed-alerts/{id}/open": _delayed("/open"),
    "DELETE delayed-alerts/{id}": _delayed(),
    **_configured("users", _user_spec, _user),
    "POST users/invitations": lambda _world: (
        "users/invitations",
        {"invitations": [{"email": f"{secrets.token_hex(4)}@example.org", "groups": ["Service Desk"]}]},
    ),
    "POST users/{id}/reset-second-factor": _user_reset,
    "GET users/{id}/references": lambda world: (f"users/{_user(world).pk}/references", None),
    "POST users/{id}/replace": lambda world: (f"users/{_user(world).pk}/replace", {"by": world.company.alice.username}),
    "PATCH users/{id}": _at("users", _user, lambda _world: {"name": "Somebody"}),
    "GET contact-methods": _listed("contact-methods"),
    "POST contact-methods": _new("contact-methods", _method_spec),
    "GET contact-methods/{int:id}": _at("contact-methods", _method),
    "PUT contact-methods/{int:id}": _at("contact-methods", _method, _method_spec),
    "PATCH contact-methods/{int:id}": _at("contact-methods", _method, lambda _world: {"wait": "3m"}),
    "DELETE contact-methods/{int:id}": _at("contact-methods", _method),
    "POST contact-methods/{int:id}/test": lambda world: (f"contact-methods/{_method(world).pk}/test", None),
    "POST contact-methods/{int:id}/ring": lambda world: (
        f"contact-methods/{_method(world).pk}/ring",
        {"rings_silenced": True},
    ),
    "POST contact-methods/{int:id}/send-code": lambda world: (f"contact-methods/{_method(world).pk}/send-code", None),
    "POST contact-methods/{int:id}/confirm": _confirmation,
    "GET linked-identities": _listed("linked-identities"),
    "GET linked-identities/{int:id}": _at("linked-identities", _linked_identity),
    "DELETE linked-identities/{int:id}": _at("linked-identities", _linked_identity),
    "POST linked-identities/{int:id}/approve": lambda world: (
        f"linked-identities/{_linked_identity(world).pk}/approve",
        None,
    ),
    "GET signed-in-devices": _listed("signed-in-devices"),
    "GET signed-in-devices/{id}": _at("signed-in-devices", _browser_session),
    "DELETE signed-in-devices/{id}": _at("signed-in-devices", _browser_session),
    "GET push-devices": _listed("push-devices"),
    "GET push-devices/key": _listed("push-devices/key"),
    "POST push-devices": _new("push-devices", _device_spec),
    "GET push-devices/{int:id}": _at("push-devices", _device),
    "PATCH push-devices/{int:id}": _at("push-devices", _device, lambda _world: {"name": "Phone"}),
    "DELETE push-devices/{int:id}": _at("push-devices", _device),
    "GET groups": _listed("groups"),
    "POST groups": _new("groups", lambda _world: {"name": _name("group")}),
    "GET groups/{id}": _group,
    "GET groups/{id}/history": lambda world: (f"{_group(world)[0]}/history", None),
    "GET groups/{id}/on-call": lambda world: (f"{_group(world)[0]}/on-call", None),
    "GET groups/{id}/timeline": lambda world: (f"{_group(world)[0]}/timeline", None),
    "GET groups/{id}/coverage": lambda world: (f"{_group(world)[0]}/coverage", None),
    "PUT groups/{id}": lambda world: (
        _group(world)[0],
        {
            "name": world.group.name if world.group else "",
            "members": [{"user": "mia"}, {"user": "bob", "roles": ["primary"]}],
        },
    ),
    "PATCH groups/{id}": lambda world: (_group(world)[0], {"description": "Who answers"}),
    "DELETE groups/{id}": _group,
    "POST groups/{id}/contacts/{label}/test": _group_contact,
    "POST groups/{id}/announcements/preview": lambda world: (
        f"{_group(world)[0]}/announcements/preview",
        {"announcements": [{"topics": ["on_call"]}]},
    ),
    "POST groups/{id}/members/{username}/show-addresses": _shows_addresses,
    **_configured("schedules", _schedule_spec, lambda world: save_schedule(_schedule_spec(world), **world.by)),
    **_configured("overrides", _override_spec, lambda world: save_override(_override_spec(world), **world.by)),
    "GET schedules/{id}/imports": lambda world: (
        f"schedules/{save_schedule(_schedule_spec(world), **world.by).pk}/imports",
        None,
    ),
    "POST groups/{id}/timeline": lambda world: (f"{_group(world)[0]}/timeline", _schedule_spec(world)),
    "GET schedules/{id}/handovers": lambda world: (_handover(world)[0].rpartition("/")[0], None),
    "GET schedules/{id}/handovers/{int:note_id}": _handover,
    "PUT schedules/{id}/handovers/{int:note_id}": lambda world: (_handover(world)[0], {"text": "The backup fails."}),
    "POST schedules/{id}/handovers/{int:note_id}/send": lambda world: (f"{_handover(world)[0]}/send", None),
    "POST overrides/{int:id}/take-back": _take_back,
    "POST schedules/{id}/take": _take,
    "POST schedules/{id}/hand-over": _hand_over,
    "GET swaps": _listed("swaps"),
    "POST swaps": _new("swaps", _swap_spec),
    "GET swaps/{int:id}": _at("swaps", lambda world: _swap(world, world.company.nadia, world.asker)),
    "POST swaps/{int:id}/accept": _command_example("accept"),
    "POST swaps/{int:id}/decline": _command_example("decline"),
    "POST swaps/{int:id}/withdraw": lambda world: (
        f"swaps/{_swap(world, world.asker, world.company.nadia).pk}/withdraw",
        None,
    ),
    "GET out-of-office": _listed("out-of-office"),
    "POST out-of-office": _new("out-of-office", _absence_spec),
    "GET out-of-office/{int:id}": _at("out-of-office", _absence),
    "PUT out-of-office/{int:id}": _at("out-of-office", _absence, _absence_spec),
    "PATCH out-of-office/{int:id}": _at("out-of-office", _absence, lambda _world: {"note": "Away"}),
    "DELETE out-of-office/{int:id}": _at("out-of-office", _absence),
    "GET preferences": _listed("preferences"),
    "PATCH preferences": lambda _world: ("preferences", {"theme": "dark"}),
    "GET notification-rules": _listed("notification-rules"),
    "PUT notification-rules": _new("notification-rules", lambda _world: {"notification_rules": {"most_per_hour": 20}}),
    "GET reminders": _listed("reminders"),
    "GET calendar-feeds": _listed("calendar-feeds"),
    "POST calendar-feeds": _new("calendar-feeds", _feed_spec),
    "GET calendar-feeds/{int:id}": _at("calendar-feeds", _feed),
    "POST calendar-feeds/{int:id}/rotate": lambda world: (f"calendar-feeds/{_feed(world).pk}/rotate", None),
    "DELETE calendar-feeds/{int:id}": _at("calendar-feeds", _feed),
    "PUT reminders": _new("reminders", lambda _world: {"reminders": [{"before": "1h"}]}),
    **_configured(
        "holiday-calendars", _calendar_spec, lambda world: save_holiday_calendar(_calendar_spec(world), **world.by)
    ),
    **_configured("support-hours", _hours_spec, lambda world: save_support_hours(_hours_spec(world), **world.by)),
    **_configured(
        "service-accounts",
        _service_account_spec,
        lambda world: save_service_account(_service_account_spec(world), **world.by),
    ),
    **_configured("providers", _provider_spec, _provider),
    "GET calls": _listed("calls"),
    "GET calls/figures": _listed("calls/figures"),
    "GET calls/{id}": lambda world: (f"calls/{_phone_call(world)}", None),
    "GET calls/{id}/recording": lambda world: (f"calls/{_phone_call(world)}/recording", None),
    "DELETE calls/{id}/recording": lambda world: (f"calls/{_phone_call(world)}/recording", None),
    **_configured("call-routes", _call_route_spec, lambda world: CALL_ROUTES.save(_call_route_spec(world), **world.by)),
    "POST call-routes/{id}/test-call": lambda world: (
        f"call-routes/{CALL_ROUTES.save(_call_route_spec(world), **world.by).pk}/test-call",
        None,
    ),
    **_configured(
        "client-reports",
        _client_report_spec,
        lambda world: CLIENT_REPORTS.save(_client_report_spec(world), **world.by),
    ),
    "PATCH client-reports/{id}": _at(
        "client-reports", lambda world: CLIENT_REPORTS.save(_client_report_spec(world), **world.by), _client_report_spec
    ),
    "GET reports/client-month": lambda _world: ("reports/client-month?client=Acme&month=2026-11", None),
    **_configured(
        "identity-providers",
        _identity_provider_spec,
        lambda world: save_identity_provider(_identity_provider_spec(world), **world.by),
    ),
    "POST identity-providers/{id}/scim-token": _scim_token,
    "DELETE identity-providers/{id}/scim-token": _scim_token,
    "GET providers/{id}/package": lambda world: (f"providers/{_teams(world).pk}/package", None),
    "GET providers/{id}/health": lambda world: (f"providers/{_provider(world).pk}/health", None),
    "POST providers/{id}/test": lambda world: (f"providers/{_provider(world).pk}/test", None),
    "POST providers/{id}/send-test": lambda world: (
        f"providers/{_provider(world).pk}/send-test",
        {"channel": "ntfy", "address": "somewhere"},
    ),
    "GET pause": _listed("pause"),
    "PUT pause": _new("pause", lambda _world: {"reason": "Moving", "for": "1h"}),
    "DELETE pause": _listed("pause"),
    "GET tokens": _listed("tokens"),
    "POST tokens": _new("tokens", lambda _world: {"name": _name("token")}),
    "GET tokens/{int:id}": _token,
    "DELETE tokens/{int:id}": _token,
    "GET settings": _listed("settings"),
    "PATCH settings": _new("settings", lambda _world: {"message_retention_days": 30}),
    "GET audit-log": _listed("audit-log"),
    "GET audit-log/export": _listed("audit-log/export?format=csv"),
    "GET audit-log/forwarding": _listed("audit-log/forwarding"),
    "GET audit-log/{int:id}": _entry,
    "GET on-call/calendar": _listed("on-call/calendar?from=2026-12-01T00:00:00Z"),
    "GET reports/fairness": _listed("reports/fairness?months=2&role=primary"),
    "GET reports/response-times": _listed("reports/response-times?by=client"),
    "GET reports/sla": _listed("reports/sla?by=client"),
    "GET reports/sla-breaches": _listed("reports/sla-breaches"),
    "GET reports/noise": _listed("reports/noise"),
    "GET reports/interruptions": _listed("reports/interruptions"),
    "GET readiness": _listed("readiness"),
    "GET readiness/tonight": _listed("readiness/tonight"),
    "GET system/doctor": _listed("system/doctor"),
    "GET system/nodes": _listed("system/nodes"),
    "GET system/last-backup": _listed("system/last-backup"),
    "PUT system/last-backup": _new("system/last-backup", lambda _world: {"location": "s3://backups/tocsin"}),
    "GET system/preflight": _listed("system/preflight?at=2026-12-25T03:00:00Z"),
}

#: A new group is nobody's own yet: only administrators make one.
NEVER_OWN = frozenset({"POST groups"})

#: Everybody who may ask gets what is theirs, instead of a refusal.
NARROWED = frozenset({"GET audit-log", "GET audit-log/export"})

#: Here something else answers at the public URL, which is told once somebody may ask.
ANSWERED_ELSEWHERE = {
    "POST outbound-integrations/{id}/preview": (409, "not_possible", "alert"),
    "POST call-routes/{id}/test-call": (400, "invalid"),
    "POST integrations/{id}/send-sample": (502, "needs_attention"),
    "POST integrations/{id}/test-mailbox": (400, "no_mailbox", "imap.mailbox"),
}

#: Objects that need a group, so that there is none without an owner.
ALWAYS_OWNED = frozenset({"groups", "schedules", "overrides", "contact-methods"})

__all__ = ["ALWAYS_OWNED", "ANSWERED_ELSEWHERE", "EXAMPLES", "NARROWED", "NEVER_OWN", "Alert", "ApiObjects", "Example"]
