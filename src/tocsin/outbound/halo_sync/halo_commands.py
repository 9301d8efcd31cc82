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
from tocsin.catalogue.kinds import family
from tocsin.core.config import config_version
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import HttpClient
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration
from tocsin.outbound import alert_values
from tocsin.outbound.commands import with_line
from tocsin.outbound.connectors.haloitsm.client import LISTS, HaloClient
from tocsin.outbound.connectors.haloitsm.connector import HaloSender
from tocsin.outbound.connectors.haloitsm.writeback_settings import KIND
from tocsin.outbound.connectors.interfaces import NeedsAttention, RecordedClient
from tocsin.outbound.delivery import ticket_creation
from tocsin.outbound.delivery.integration_pool import ActiveIntegration
from tocsin.outbound.delivery.queue import queue
from tocsin.outbound.halo_sync import poller, webhook_setup
from tocsin.outbound.halo_sync.webhook_monitor import url_hash, was_registered_for
from tocsin.outbound.halo_sync.webhook_setup import DesiredWebhook, WebhookSetupResult
from tocsin.outbound.models import IntegrationStatus, LookUp, OutboundIntegration, Webhook
from tocsin.people.changes import groups
from tocsin.people.changes import users as people
from tocsin.people.models import Group, User

#: How Halo's log is polled for the test webhook: interval in seconds, and number of polls.
_WATCHED, _LOOKS = 0.7, 8


@dataclass(frozen=True, slots=True)
class PermissionCheck:
    """One permission that Tocsin needs; `problem` explains why it is missing, or is ""."""

    what: str
    needed_for: str
    problem: str = ""


def rights(
    integration: OutboundIntegration, now: datetime, *, client: HttpClient | None = None
) -> list[PermissionCheck]:
    """Checks each permission. Raises Temporary or NeedsAttention if nothing works at all."""

    def work(opened: ActiveIntegration, line: RecordedClient) -> list[PermissionCheck]:
        halo = _client(opened)
        halo.forget_token()
        me = halo.me(line, now)
        found = [PermissionCheck(f"Sign in as {me.get('name') or 'an agent'}", "everything")]
        one = {"pageinate": True, "page_no": 1, "page_size": 1}
        found.append(_tried("Read tickets", "reading back", lambda: halo.get(line, "Tickets", now, "read", query=one)))
        found += [
            _tried(f"Read {noun.replace('_', ' ')}s", _NEEDED[noun], partial(halo.items, line, noun, now))
            for noun in LISTS
        ]
        webhooks = partial(halo.get, line, "Webhook", now, "see its webhooks", query={"type": 0})
        found.append(_tried("See webhooks", "setting up the webhook", webhooks))
        return found

    return with_line(_halo(integration), work, now, client)[0]


_NEEDED = {
    "status": "setting a status", "team": "setting a team", "agent": "assigning, and knowing who is who",
    "priority": "priorities", "ticket_type": "making tickets", "outcome": "choosing the note action",
}  # fmt: skip


def refresh(
    integration: OutboundIntegration, actor: AuditActor, now: datetime, *, client: HttpClient | None = None
) -> list[str]:
    """Reads Halo's lists again. Returns the errors of unreadable lists."""
    standing, _ = IntegrationStatus.objects.get_or_create(
        integration=_halo(integration), defaults={"next_poll_at": now}
    )

    def work(opened: ActiveIntegration, line: RecordedClient) -> list[str]:
        return poller.refresh_lists(integration.pk, _client(opened), line, dict(standing.poll_state), now)

    problems = with_line(integration, work, now, client)[0]
    _audited(actor, "refresh", integration, {"problems": problems}, now)
    return problems


def set_up_webhook(
    integration: OutboundIntegration,
    door: Integration,
    actor: AuditActor,
    now: datetime,
    *,
    client: HttpClient | None = None,
) -> WebhookSetupResult:
    """Creates, subscribes, enables and tests the webhook of an inbound integration in Halo; failures are rolled back.

    Raises Rejected("not_possible") for an integration that does not belong to this Halo.
    """
    if door.outbound_id != integration.pk or door.kind not in family(KIND):
        raise Rejected("not_possible", f"{door.name} is not connected with {integration.name}.", "integration")
    known = secrets.credentials_of(door).get("basic")
    basic = (known["username"], known["password"]) if known else None
    before = Webhook.objects.filter(integration=integration, door=door).first()
    wanted = DesiredWebhook(
        secrets.url_of(door), basic, before.number if before else "", partial(was_registered_for, door)
    )

    def wait(attempt: int) -> bool:
        time.sleep(_WATCHED)
        return attempt < _LOOKS

    def work(opened: ActiveIntegration, line: RecordedClient) -> WebhookSetupResult:
        if basic:
            line.hide(basic[1])
        return webhook_setup.set_up(_client(opened), line, now, wanted, wait=wait)

    done = with_line(_halo(integration), work, now, client)[0]
    if done.webhook_id:
        made = {"number": done.webhook_id, "url_hash": url_hash(wanted.url), "set_up_at": now}
        Webhook.objects.update_or_create(integration=integration, door=door, defaults=made)
        IntegrationStatus.objects.filter(pk=integration.pk).update(webhook_problem="")
    _audited(actor, "set_up_webhook", integration, {"integration": door.name, "problem": done.problem}, now)
    return done


def address_changed(door: Integration, now: datetime) -> bool:
    """Schedules an update of the webhook after an inbound integration's URL changed. Returns whether there is a
    webhook."""
    owner = Webhook.objects.filter(door=door, integration=door.outbound_id).select_related("integration").first()
    if owner is None:
        return False
    poll_now(owner.integration, now)
    return True


def poll_now(integration: OutboundIntegration, now: datetime) -> None:
    """Makes the next run of the poller poll this Halo."""
    IntegrationStatus.objects.filter(pk=_halo(integration).pk).update(next_poll_at=now)
    with database.transaction() as connection:
        database.notify(connection, "clock")


def make_ticket(integration: OutboundIntegration, alert_id: int, actor: AuditActor, now: datetime) -> int:
    """Queues the creation of a ticket for an alert from another source. Returns the call's id.

    Raises Rejected("not_found"), or Rejected("not_possible") if the alert has a ticket or one is being created.
    """
    settings = _halo(integration).settings
    with database.transaction() as connection:
        known = alert_values.load_alert_values(connection, [alert_id])
        if alert_id not in known:
            raise Rejected("not_found", f"There is no alert {alert_id}.", "alert")
        if known[alert_id]["source_id"] and _is_from(connection, integration, alert_id):
            raise Rejected("not_possible", f"Alert {alert_id} came from a ticket of {integration.name}.", "alert")
        first = ticket_creation.make(connection, {alert_id: (integration.pk, settings)}, known)
        numbers = queue(connection, list(first.values()), now) or ticket_creation.retry_creation(
            connection, integration.pk, now, alert_ids=[alert_id], asked=True
        )
        if not numbers:
            detail = f"Alert {alert_id} has a ticket in {integration.name}, or one is being made."
            raise Rejected("not_possible", detail, "alert")
    _audited(actor, "make_ticket", integration, {"alert": alert_id}, now)
    return numbers[0]


def _is_from(connection: Connection, integration: OutboundIntegration, alert_id: int) -> bool:
    """Whether the alert came from a ticket of this Halo."""
    found = connection.execute(
        "SELECT 1 FROM alerts_alert a JOIN inbound_integration i ON i.id = a.integration_id "
        "WHERE a.id = %s AND i.outbound_id = %s AND i.kind = ANY(%s)",
        (alert_id, integration.pk, [*family(KIND)]),
    )
    return found.fetchone() is not None


@dataclass(frozen=True, slots=True)
class ImportedAgents:
    """The users and groups created, and the problems with others."""

    users: Sequence[str]
    groups: Sequence[str]
    problems: Sequence[str]


def import_people(
    integration: OutboundIntegration, numbers: Sequence[str], actor: AuditActor, now: datetime
) -> ImportedAgents:
    """Creates users for agents (by id) who are not users yet by e-mail address, and groups for their teams.

    The users become responders with their e-mail address as a contact method, and can sign in once they are invited.
    """
    agents = LookUp.objects.filter(integration=_halo(integration), noun="agent", number__in=list(numbers))
    users: list[str] = []
    problems: list[str] = []
    members: dict[str, list[str]] = {}
    for agent in agents.order_by("name"):
        email = agent.data.get("email", "")
        if not email:
            problems.append(f"{agent.name} has no e-mail address in Halo.")
            continue
        user = User.objects.filter(email__iexact=email).first()
        if user is None:
            try:
                user = people.save_user(_user_spec(agent.name, email), actor=actor, now=now)
            except Rejected as rejected:
                problems.append(f"{agent.name}: {rejected.detail}")
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


def _groups(members: dict[str, list[str]], problems: list[str], actor: AuditActor, now: datetime) -> list[str]:
    made = []
    for team, names in members.items():
        try:
            with config_version.exclusive():
                is_change = _joined(team, names, actor, now)
        except Rejected as rejected:
            problems.append(f"{team}: {rejected.detail}")
        else:
            made += [team] if is_change else []
    return made


def _joined(team: str, names: Sequence[str], actor: AuditActor, now: datetime) -> bool:
    """Adds users to the group of that name and creates it if needed. Returns False if all were members."""
    group = Group.objects.filter(name__iexact=team).first()
    spec: dict[str, Any] = groups.group_spec(group) if group else {"name": team, "members": []}
    present = {str(one["user"]).casefold() for one in spec.get("members", [])}
    wanted = [{"user": name, "roles": ["primary"]} for name in names if name.casefold() not in present]
    if wanted:
        whole = {**spec, "members": [*spec.get("members", []), *wanted]}
        groups.save_group(whole, existing=group, actor=actor, now=now)
    return bool(wanted)


def _tried(what: str, needed_for: str, work: Callable[[], object]) -> PermissionCheck:
    try:
        work()
    except NeedsAttention:
        raise
    except (Temporary, Permanent) as error:
        return PermissionCheck(what, needed_for, str(error))
    return PermissionCheck(what, needed_for)


def _halo(integration: OutboundIntegration) -> OutboundIntegration:
    if integration.kind != "haloitsm":
        raise Rejected("not_possible", f"{integration.name} is no HaloITSM.")
    return integration


def _client(opened: ActiveIntegration) -> HaloClient:
    assert isinstance(opened.sender, HaloSender)
    return opened.sender.client


def _audited(
    actor: AuditActor, verb: str, integration: OutboundIntegration, after: dict[str, object], now: datetime
) -> None:
    audit.record(
        actor, verb, now=now, object_type="outbound_integration", object_id=integration.pk,
        object_name=integration.name, after=after,
    )  # fmt: skip
