"""Commands of a person on a connected Halo, from the web and the API.

Check permissions, refresh lists, import agents and teams, set up the webhook, poll now, and create a ticket. The caller
checks the user's permissions beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.alerts.service import NO_SUCH_ALERT, VisibleAlert
from tocsin.alerts.store import WITH_INTEGRATION
from tocsin.catalogue.kinds import family
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import NeedsAttention
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, ReasonType
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration
from tocsin.outbound.commands import with_recorded_client
from tocsin.outbound.connectors.haloitsm import client as operations
from tocsin.outbound.connectors.haloitsm.client import HaloSession
from tocsin.outbound.connectors.haloitsm.connector import KIND, HaloSender
from tocsin.outbound.connectors.interfaces import RecordedClient
from tocsin.outbound.delivery import queue
from tocsin.outbound.delivery.queue import queue as queue_queue
from tocsin.outbound.delivery.results import ActiveIntegration
from tocsin.outbound.halo_sync import poller, ticket_messages, webhook_setup
from tocsin.outbound.halo_sync.webhook_setup import DesiredWebhook, WebhookSetupResult, is_previous_url, url_hash
from tocsin.outbound.models import IntegrationStatus, LookUp, OutboundIntegration, Webhook
from tocsin.outbound.reasons import TICKET_EXISTS
from tocsin.people.changes import groups
from tocsin.people.changes import users as people
from tocsin.people.models import Group, User

#: How Halo's log is polled for the test webhook: interval in seconds, and number of polls.
_LOG_POLL_SECONDS, _MAX_LOG_POLLS = 0.7, 8

_NOT_CONNECTED = ReasonType("halo.not_connected", "{inbound} is not connected to {integration}.")
_NOT_HALO = ReasonType("halo.not_halo", "{integration} is not a HaloITSM integration.")
_FROM_TICKET = ReasonType("halo.from_ticket", "Alert {alert} came from a ticket of {integration}.")


@dataclass(frozen=True, slots=True)
class PermissionCheck:
    """One permission that Tocsin needs, what for, and why it is missing, if it is."""

    permission: Reason
    purpose: Reason
    problem: Reason = NO_REASON


def check_permissions(
    integration: OutboundIntegration, now: datetime, *, client: HttpClient | None = None
) -> list[PermissionCheck]:
    """Checks each permission. Raises Temporary or NeedsAttention if nothing works at all."""

    def work(active_integration: ActiveIntegration, http_client: RecordedClient) -> list[PermissionCheck]:
        halo = _session(active_integration, http_client, now)
        halo.client.forget_token()
        name = operations.agent_name(halo.current_agent())
        tickets = partial(halo.get, "Tickets", operations.READ_TICKETS(), query=operations.ONE_ROW)
        webhooks = partial(halo.get, "Webhook", operations.LIST_WEBHOOKS(), query={"type": 0})
        lists = [
            (
                ticket_messages.READ_LIST(list=operations.reference_list_name(one)),
                purpose(),
                partial(halo.list_entries, one),
            )
            for one, purpose in _LIST_PURPOSES.items()
        ]
        return [
            PermissionCheck(ticket_messages.SIGN_IN_AS(agent=name), ticket_messages.FOR_EVERYTHING()),
            _check_permission(ticket_messages.READ_TICKETS(), ticket_messages.FOR_POLLING(), tickets),
            *(_check_permission(permission, purpose, request) for permission, purpose, request in lists),
            _check_permission(ticket_messages.SEE_WEBHOOKS(), ticket_messages.FOR_WEBHOOK(), webhooks),
        ]

    return with_recorded_client(_halo(integration), work, now, client)[0]


_LIST_PURPOSES = {
    "status": ticket_messages.FOR_STATUS, "team": ticket_messages.FOR_TEAM, "agent": ticket_messages.FOR_AGENT,
    "priority": ticket_messages.FOR_PRIORITY, "ticket_type": ticket_messages.FOR_TICKET_TYPE,
    "outcome": ticket_messages.FOR_OUTCOME,
}  # fmt: skip


def refresh(
    integration: OutboundIntegration, actor: AuditActor, now: datetime, *, client: HttpClient | None = None
) -> list[Reason]:
    """Reads Halo's lists again. Returns the errors of unreadable lists."""
    status, _ = IntegrationStatus.objects.get_or_create(integration=_halo(integration), defaults={"next_poll_at": now})

    def work(active_integration: ActiveIntegration, http_client: RecordedClient) -> list[Reason]:
        halo = _session(active_integration, http_client, now)
        return poller.refresh_lists(integration.pk, halo, dict(status.poll_state))

    problems = with_recorded_client(integration, work, now, client)[0]
    _audit(actor, "refresh", integration, {"problems": [str(problem) for problem in problems]}, now)
    return problems


def set_up_webhook(
    integration: OutboundIntegration,
    inbound_integration: Integration,
    actor: AuditActor,
    now: datetime,
    *,
    client: HttpClient | None = None,
) -> WebhookSetupResult:
    """Creates, subscribes, enables and tests the webhook of an inbound integration in Halo; failures are rolled back.

    Raises Rejected("not_possible") for an integration that does not belong to this Halo.
    """
    if inbound_integration.outbound_id != integration.pk or inbound_integration.kind not in family(KIND):
        not_connected = _NOT_CONNECTED(inbound=inbound_integration.name, integration=integration.name)
        raise Rejected("not_possible", not_connected, "integration")
    credentials = secrets.credentials_of(inbound_integration).get("basic")
    basic_auth = (credentials["username"], credentials["password"]) if credentials else None
    previous = Webhook.objects.filter(integration=integration, inbound_integration=inbound_integration).first()
    desired = DesiredWebhook(
        secrets.url_of(inbound_integration),
        basic_auth,
        previous.number if previous else "",
        partial(is_previous_url, inbound_integration),
    )

    def wait(attempt: int) -> bool:
        time.sleep(_LOG_POLL_SECONDS)
        return attempt < _MAX_LOG_POLLS

    def work(active_integration: ActiveIntegration, http_client: RecordedClient) -> WebhookSetupResult:
        if basic_auth:
            http_client.mask_secret(basic_auth[1])
        return webhook_setup.set_up(_session(active_integration, http_client, now), desired, wait=wait)

    result = with_recorded_client(_halo(integration), work, now, client)[0]
    if result.webhook_id:
        defaults = {"number": result.webhook_id, "url_hash": url_hash(desired.url), "set_up_at": now}
        Webhook.objects.update_or_create(
            integration=integration, inbound_integration=inbound_integration, defaults=defaults
        )
        IntegrationStatus.objects.filter(pk=integration.pk).update(webhook_problem=NO_REASON)
    after: dict[str, object] = {"integration": inbound_integration.name, "problem": str(result.problem)}
    _audit(actor, "set_up_webhook", integration, after, now)
    return result


def schedule_webhook_update(inbound_integration: Integration, now: datetime) -> bool:
    """Schedules an update of the webhook after an inbound integration's URL changed. Returns whether there is a
    webhook."""
    webhook = (
        Webhook.objects.filter(inbound_integration=inbound_integration, integration=inbound_integration.outbound_id)
        .select_related("integration")
        .first()
    )
    if webhook is None:
        return False
    poll_now(webhook.integration, now)
    return True


def poll_now(integration: OutboundIntegration, now: datetime) -> None:
    """Makes the next run of the poller poll this Halo."""
    IntegrationStatus.objects.filter(pk=_halo(integration).pk).update(next_poll_at=now)
    with database.transaction() as connection:
        database.notify(connection, "clock")


def make_ticket(integration: OutboundIntegration, alert: VisibleAlert, actor: AuditActor, now: datetime) -> int:
    """Queues the creation of a ticket for an alert from another source. Returns the call's id.

    Raises Rejected("not_found"), or Rejected("not_possible") if the alert has a ticket or one is being created.
    """
    settings = _halo(integration).settings
    with database.transaction() as connection:
        values_by_alert = queue.load_alert_values(connection, [alert.id])
        if alert.id not in values_by_alert:
            raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(alert.id)), "alert")
        if values_by_alert[alert.id]["source_id"] and _is_from(connection, integration, alert.id):
            from_ticket = _FROM_TICKET(alert=AlertRef(alert.id), integration=integration.name)
            raise Rejected("not_possible", from_ticket, "alert")
        new_calls = queue.first_creation_calls(connection, {alert.id: (integration.pk, settings)}, values_by_alert)
        call_ids = queue_queue(connection, list(new_calls.values()), now) or queue.retry_creation(
            connection, integration.pk, now, alert_ids=[alert.id], is_requested=True
        )
        if not call_ids:
            ticket_exists = TICKET_EXISTS(alert=AlertRef(alert.id), integration=integration.name)
            raise Rejected("not_possible", ticket_exists, "alert")
    _audit(actor, "make_ticket", integration, {"alert": alert.id}, now)
    return call_ids[0]


def _is_from(connection: Connection, integration: OutboundIntegration, alert_id: int) -> bool:
    """Whether the alert came from a ticket of this Halo."""
    cursor = connection.execute(
        f"SELECT 1 FROM {WITH_INTEGRATION} WHERE a.id = %s AND i.outbound_id = %s AND i.kind = ANY(%s)",
        (alert_id, integration.pk, [*family(KIND)]),
    )
    return cursor.fetchone() is not None


@dataclass(frozen=True, slots=True)
class ImportedAgents:
    """The users and groups created, and the problems with others."""

    users: Sequence[str]
    groups: Sequence[str]
    problems: Sequence[Reason]


def import_people(
    integration: OutboundIntegration, agent_numbers: Sequence[str], actor: AuditActor, now: datetime
) -> ImportedAgents:
    """Creates users for agents (by id) who are not users yet by e-mail address, and groups for their teams.

    The users become responders with their e-mail address as a contact method, and can sign in once they are invited.
    """
    agents = LookUp.objects.filter(integration=_halo(integration), list_name="agent", number__in=list(agent_numbers))
    users: list[str] = []
    problems: list[Reason] = []
    members: dict[str, list[str]] = {}
    for agent in agents.order_by("name"):
        email = agent.data.get("email", "")
        if not email:
            problems.append(ticket_messages.NO_EMAIL(agent=agent.name))
            continue
        user = User.objects.filter(email__iexact=email).first()
        if user is None:
            try:
                user = people.save_user(_user_spec(agent.name, email), actor=actor, now=now)
            except Rejected as rejected:
                problems.append(ticket_messages.NOT_IMPORTED(name=agent.name, problem=rejected.reason))
                continue
            users.append(user.username)
        for team in agent.data.get("teams", ()):
            members.setdefault(team, []).append(user.username)
    return ImportedAgents(users, _groups(members, problems, actor, now), problems)


def _user_spec(name: str, email: str) -> dict[str, object]:
    username = email.partition("@")[0][:100]
    if User.objects.filter(username__iexact=username).exists():
        username = email[:150]
    method = {"label": "Email-Official", "channel": "email", "address": email}
    return {"username": username, "name": name, "email": email, "role": "responder", "contact_methods": [method]}


def _groups(members: dict[str, list[str]], problems: list[Reason], actor: AuditActor, now: datetime) -> list[str]:
    changed_groups = []
    for team, usernames in members.items():
        try:
            with settings_store.exclusive():
                is_changed = _add_members(team, usernames, actor, now)
        except Rejected as rejected:
            problems.append(ticket_messages.NOT_IMPORTED(name=team, problem=rejected.reason))
        else:
            changed_groups += [team] if is_changed else []
    return changed_groups


def _add_members(team: str, usernames: Sequence[str], actor: AuditActor, now: datetime) -> bool:
    """Adds users to the group of that name and creates it if needed. Returns False if all were members."""
    group = Group.objects.filter(name__iexact=team).first()
    spec: dict[str, Any] = groups.group_spec(group) if group else {"name": team, "members": []}
    existing_usernames = {str(member["user"]).casefold() for member in spec.get("members", [])}
    new_members = [
        {"user": username, "roles": ["primary"]}
        for username in usernames
        if username.casefold() not in existing_usernames
    ]
    if new_members:
        updated_spec = {**spec, "members": [*spec.get("members", []), *new_members]}
        groups.save_group(updated_spec, existing=group, actor=actor, now=now)
    return bool(new_members)


def _check_permission(permission: Reason, purpose: Reason, request: Callable[[], object]) -> PermissionCheck:
    try:
        request()
    except NeedsAttention:
        raise
    except (Temporary, Permanent) as error:
        return PermissionCheck(permission, purpose, error.full_reason)
    return PermissionCheck(permission, purpose)


def _halo(integration: OutboundIntegration) -> OutboundIntegration:
    if integration.kind != "haloitsm":
        raise Rejected("not_possible", _NOT_HALO(integration=integration.name))
    return integration


def _session(integration: ActiveIntegration, http_client: RecordedClient, now: datetime) -> HaloSession:
    assert isinstance(integration.sender, HaloSender)
    return integration.sender.client.session(http_client, now)


def _audit(
    actor: AuditActor, action: str, integration: OutboundIntegration, after: dict[str, object], now: datetime
) -> None:
    audit.record(
        actor, action, now=now, object_type="outbound_integration", object_id=integration.pk,
        object_name=integration.name, group_id=integration.group_id, after=after,
    )  # fmt: skip
