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

from tocsin.access.audit import AuditActor
from tocsin.catalogue.desks import Desk, ticket_kinds
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.delivery.circuit_breaker import NeedsAttention
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import NO_REASON, Reason, ReasonType
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration
from tocsin.outbound import commands
from tocsin.outbound.commands import audit_command, with_recorded_client
from tocsin.outbound.connectors.desk import DeskSender
from tocsin.outbound.connectors.haloitsm import client as operations
from tocsin.outbound.connectors.haloitsm.client import HaloSession
from tocsin.outbound.connectors.haloitsm.connector import KIND, HaloSender
from tocsin.outbound.connectors.interfaces import RecordedClient
from tocsin.outbound.connectors.tickets import list_label
from tocsin.outbound.delivery.results import KINDS, ActiveIntegration
from tocsin.outbound.halo_sync import poller, ticket_messages, webhook_setup
from tocsin.outbound.halo_sync.webhook_setup import DesiredWebhook, WebhookSetupResult, is_previous_url, url_hash
from tocsin.outbound.models import IntegrationStatus, LookUp, OutboundIntegration, Webhook
from tocsin.people.changes import groups
from tocsin.people.changes import users as people
from tocsin.people.models import Group, User

#: How Halo's log is polled for the test webhook: interval in seconds, and number of polls.
_LOG_POLL_SECONDS, _MAX_LOG_POLLS = 0.7, 8

_NOT_CONNECTED = ReasonType("halo.not_connected", "{inbound} is not connected to {integration}.")
_NO_WEBHOOK_API = ReasonType(
    "desk.no_webhook_api", "{desk} has no API for webhooks: set it up manually, as the guide says."
)
_WEBHOOK_CREATED = ReasonType("desk.webhook_created", "Created the webhook “{name}” in {desk}.")
_NOT_HALO = ReasonType("halo.not_halo", "{integration} is not a HaloITSM integration.")


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
                ticket_messages.READ_LIST(list=list_label(one)),
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
    """Reads the lists of a ticket system again. Returns the errors of unreadable lists."""
    if KINDS[integration.kind].desk is not None:
        problems = commands.read_lists(integration, now, client=client)
        audit_command(actor, "refresh", integration, {"problems": [str(problem) for problem in problems]}, now)
        return problems
    status, _ = IntegrationStatus.objects.get_or_create(integration=_halo(integration), defaults={"next_poll_at": now})

    def work(active_integration: ActiveIntegration, http_client: RecordedClient) -> list[Reason]:
        halo = _session(active_integration, http_client, now)
        return poller.refresh_lists(integration.pk, halo, dict(status.poll_state))

    problems = with_recorded_client(integration, work, now, client)[0]
    audit_command(actor, "refresh", integration, {"problems": [str(problem) for problem in problems]}, now)
    return problems


def set_up_webhook(
    integration: OutboundIntegration,
    inbound_integration: Integration,
    actor: AuditActor,
    now: datetime,
    *,
    client: HttpClient | None = None,
) -> WebhookSetupResult:
    """Creates the webhook of an inbound integration; in Halo it is also tested, and failures are rolled back.

    Raises Rejected("not_possible") for an integration that does not belong to this ticket system.
    """
    kinds = ticket_kinds(integration.kind)
    if inbound_integration.outbound_id != integration.pk or inbound_integration.kind not in kinds:
        not_connected = _NOT_CONNECTED(inbound=inbound_integration.name, integration=integration.name)
        raise Rejected("not_possible", not_connected, "integration")
    if (desk := KINDS[integration.kind].desk) is not None:
        return _set_up_desk_webhook(integration, desk, inbound_integration, actor, now, client)
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
    audit_command(actor, "set_up_webhook", integration, after, now)
    return result


def _set_up_desk_webhook(
    integration: OutboundIntegration,
    desk: Desk,
    inbound_integration: Integration,
    actor: AuditActor,
    now: datetime,
    client: HttpClient | None,
) -> WebhookSetupResult:
    """Creates the webhook by the steps of the system's file."""
    if not desk.spec.webhook:
        raise Rejected("not_possible", _NO_WEBHOOK_API(desk=desk.label))
    url, name = secrets.url_of(inbound_integration), f"Tocsin: {inbound_integration.name}"

    def work(active_integration: ActiveIntegration, http_client: RecordedClient) -> None:
        assert isinstance(active_integration.sender, DeskSender)
        active_integration.sender.set_up_webhook(http_client, now, url, name)

    with_recorded_client(integration, work, now, client)
    defaults = {"number": "", "url_hash": url_hash(url), "set_up_at": now}
    Webhook.objects.update_or_create(
        integration=integration, inbound_integration=inbound_integration, defaults=defaults
    )
    audit_command(actor, "set_up_webhook", integration, {"integration": inbound_integration.name}, now)
    return WebhookSetupResult([_WEBHOOK_CREATED(desk=desk.label, name=name)])


def schedule_webhook_update(inbound_integration: Integration, now: datetime) -> bool:
    """Schedules an update of the webhook after an inbound integration's URL changed. Returns whether there is a
    webhook."""
    webhook = (
        Webhook.objects.filter(inbound_integration=inbound_integration, integration=inbound_integration.outbound_id)
        .select_related("integration")
        .first()
    )
    if webhook is None or webhook.integration.kind != KIND:
        return False
    poll_now(webhook.integration, now)
    return True


def poll_now(integration: OutboundIntegration, now: datetime) -> None:
    """Makes the next run of the poller poll this ticket system."""
    IntegrationStatus.objects.filter(pk=_with_tickets(integration).pk).update(next_poll_at=now)
    with database.transaction() as connection:
        database.notify(connection, "clock")


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
    agents = LookUp.objects.filter(
        integration=_with_tickets(integration), list_name="agent", number__in=list(agent_numbers)
    )
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


def _with_tickets(integration: OutboundIntegration) -> OutboundIntegration:
    return integration if ticket_kinds(integration.kind) else _halo(integration)


def _halo(integration: OutboundIntegration) -> OutboundIntegration:
    if integration.kind != "haloitsm":
        raise Rejected("not_possible", _NOT_HALO(integration=integration.name))
    return integration


def _session(integration: ActiveIntegration, http_client: RecordedClient, now: datetime) -> HaloSession:
    assert isinstance(integration.sender, HaloSender)
    return integration.sender.client.session(http_client, now)
