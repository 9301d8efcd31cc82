"""Creates, changes and deletes outbound integrations, and handles people's commands on their calls.

Specs are validated by their connector, changes are audited and increment the config version. The caller checks
permissions beforehand. A spec has the shape of YAML and the API: `{name, kind, group, enabled}` plus the connector's
settings. Secrets can be written but not read back. The same goes for a connector's `hidden` settings, shown in part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.utils import timezone

from tocsin.access import audit, config_audit
from tocsin.access.audit import AuditActor
from tocsin.core import object_hooks
from tocsin.core.config import config_version, secret_bundle
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import HttpClient
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.core.validation.server_origin import has_other_origin, is_elsewhere
from tocsin.outbound import hidden_settings, rate_limit
from tocsin.outbound.connectors.haloitsm import writeback_settings
from tocsin.outbound.connectors.interfaces import ConnectorKind, NeedsAttention, RecordedClient
from tocsin.outbound.connectors.registry import KINDS
from tocsin.outbound.delivery import calls, integration_pool, results, ticket_creation
from tocsin.outbound.delivery.queue import TOPIC
from tocsin.outbound.models import AgentMatch, Call, IntegrationStatus, OutboundIntegration
from tocsin.outbound.states import ENDED, CallStatus, OutboundEvent
from tocsin.people.models import User
from tocsin.people.name_lookup import free_name, group_of


def outbound_spec(integration: OutboundIntegration, *, with_secrets: bool = False) -> dict[str, Any]:
    """The integration's spec as in YAML and the API; with secrets only on request."""
    spec: dict[str, Any] = {"name": integration.name, "kind": integration.kind}
    if integration.group:
        spec["group"] = integration.group.name
    if not integration.is_enabled:
        spec["enabled"] = False
    spec |= integration.settings
    if agents := {match.user.username: match.number for match in integration.matches.all()}:
        spec["agents"] = agents
    return spec | _in_clear(integration, secret_bundle.decrypt_bundle(integration.secrets)) if with_secrets else spec


def outbound_state(integration: OutboundIntegration) -> dict[str, Any]:
    """The spec with all readable secrets: for detecting changes, never for display."""
    return outbound_spec(integration) | _in_clear(integration, secret_bundle.is_decryptable(integration.secrets))


def _in_clear(integration: OutboundIntegration, stored: Mapping[str, str]) -> dict[str, Any]:
    """The secrets by name, and the settings stored with them."""
    settings, secrets = hidden_settings.reveal({}, stored, _hidden(integration))
    return settings | secrets


def _hidden(integration: OutboundIntegration | None) -> tuple[str, ...]:
    kind = KINDS.get(integration.kind) if integration else None
    return kind.hidden if kind else ()


def secrets_set(integration: OutboundIntegration) -> frozenset[str]:
    """The names of the stored secrets, for forms that show only whether a secret is set."""
    return frozenset(secret_bundle.is_decryptable(integration.secrets)) - set(_hidden(integration))


def save_outbound(
    spec: Mapping[str, object], *, existing: OutboundIntegration | None = None, actor: AuditActor, now: datetime
) -> OutboundIntegration:
    """Creates an outbound integration, or updates `existing` to the spec, and retries everything that was blocked.

    A secret missing from the spec is kept. An empty one is deleted, or rejected if the connector requires it. Raises
    Rejected with the field of each problem.
    """
    with transaction.atomic():
        config_version.lock()
        stored = secret_bundle.is_decryptable(existing.secrets) if existing else {}
        before_settings, known = hidden_settings.reveal(
            existing.settings if existing else {}, stored, _hidden(existing)
        )
        whole, as_shown = hidden_settings.keep_stored(spec, before_settings, _hidden(existing))
        read = ObjectReader(whole)
        name = free_name(read, OutboundIntegration, existing, "an outbound integration")
        kind, group = _kind(read, existing), group_of(read)
        enabled = read.flag("enabled", True)
        given = {key: read.text(key, longest=4000) for key in kind.secrets if read.has(key)}
        settings = kind.read(read)
        matches = _matches(read, settings.pop("agents", {}))
        if existing and has_other_origin(before_settings, settings):
            # A user who may change the address must not be able to send stored secrets to a server of their own.
            for key in sorted(known.keys() - given.keys()):
                read.refuse(key, "enter the secret again: the address has changed.", "missing")
        if "headers" in as_shown and is_elsewhere(str(before_settings.get("url")), str(settings.get("url"))):
            read.refuse("headers", "enter the secret again: the address has changed.", "missing")
        secrets = {key: text for key, text in {**known, **given}.items() if text}
        for key in kind.needed(settings):
            if key not in secrets:
                read.refuse(key, "is needed.", "missing")
        read.finish()
        before = outbound_spec(existing) if existing else None
        row = existing or OutboundIntegration(created_at=now)
        row.name, row.kind, row.group, row.is_enabled = name, kind.name, group, enabled
        row.settings, hidden = hidden_settings.hide(settings, kind.hidden)
        secrets |= hidden
        changed = sorted(key for key in {*stored, *secrets} if stored.get(key) != secrets.get(key))
        if changed or existing is None:
            row.secrets = secret_bundle.encrypt_bundle(secrets)
        row.save()
        row.matches.all().delete()
        AgentMatch.objects.bulk_create(AgentMatch(integration=row, user=user, number=to) for user, to in matches)
        IntegrationStatus.objects.get_or_create(integration=row, defaults={"next_poll_at": now})
        if config_audit.record(
            "outbound_integration", row, before, outbound_spec(row), actor=actor, now=now, secrets=changed
        ):
            _try_again(row.pk, now)
    return row


def delete_outbound(integration: OutboundIntegration, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an outbound integration with its calls.

    Raises Rejected("in_use") while an inbound integration or a workflow uses it.
    """
    with transaction.atomic():
        config_version.lock()
        users = list(integration.inbound.order_by("name").values_list("name", flat=True)[:5])
        if users:
            detail = f"{integration.name} cannot be deleted: {', '.join(users)} writes back by it. Take it away there."
            raise Rejected("in_use", detail)
        object_hooks.refuse_deletion("outbound", integration.pk, integration.name)
        config_audit.record("outbound_integration", integration, outbound_spec(integration), None, actor=actor, now=now)
        integration.delete()


def verify_outbound(integration: OutboundIntegration, now: datetime, *, client: HttpClient | None = None) -> str:
    """Checks address and credentials without changing anything at the remote system. Returns a sentence.

    Raises Temporary or Permanent with an explanation. Holds no transaction. A success ends a block.
    """
    said, _line = with_line(integration, lambda opened, line: opened.sender.verify(line, now), now, client)
    with transaction.atomic():
        _try_again(integration.pk, now)
    return said


def call_once(integration: OutboundIntegration, alert_id: int, actor: AuditActor, now: datetime) -> int:
    """Queues the templated call for an alert on a user's request. Returns the call's id."""
    with database.transaction() as connection:
        found = calls.call_for_alerts(
            connection, integration.pk, [alert_id], now, reason=f"{integration.name}, sent by {actor.name}"
        )
    if not found:
        raise Rejected("not_found", f"There is no alert {alert_id} that calls can be made for.", "alert")
    return found[0]


def with_line[T](
    integration: OutboundIntegration,
    work: Callable[[integration_pool.ActiveIntegration, RecordedClient], T],
    now: datetime,
    client: HttpClient | None = None,
) -> tuple[T, RecordedClient]:
    """Runs `work` with an open integration outside the outbox. Always logs the requests, even if it fails."""
    own = client or HttpClient()
    opened = integration_pool.open_integrations(
        {
            "id": integration.pk,
            "name": integration.name,
            "kind": integration.kind,
            "settings": integration.settings,
            "secrets": integration.secrets,
        },
        own,
    )
    line = RecordedClient(own, timezone.now, opened.secrets)
    try:
        return work(opened, line), line
    except NeedsAttention as error:
        IntegrationStatus.objects.filter(pk=integration.pk).update(
            problem=line.masked(str(error)), problem_at=now, blocked_until=now + rate_limit.BLOCKED_INTERVAL
        )
        raise
    finally:
        if client is None:
            own.close()
        if line.said:
            with database.transaction() as connection:
                results.store_exchange(connection, [(integration.pk, None, one) for one in line.said])


def send_again(call: Call, *, actor: AuditActor, now: datetime) -> None:
    """Queues a failed or dropped call again, with the current settings.

    Raises Rejected for calls in any other state, and for creating a ticket that already exists.
    """
    if call.status not in ENDED:
        raise Rejected("not_possible", "Only what could not be sent, or was dropped, can be sent again.")
    if call.action == "create":
        if not _make_again(call.integration_id, [call.alert_id], now):
            detail = f"Alert {call.alert_id} has a ticket in {call.integration.name}, or one is being made."
            raise Rejected("not_possible", detail if call.alert_id else "Its alert is gone.")
    elif not _queue_again(Call.objects.filter(pk=call.pk, status__in=ENDED), now):
        raise Rejected("not_possible", "It is being sent again already.")
    _record_verb(actor, "send_again", call, now)


def send_all_again(integration: OutboundIntegration, *, actor: AuditActor, now: datetime) -> int:
    """Sends every dead letter of an integration again, oldest first. Returns their number."""
    dead = Call.objects.filter(integration=integration, status=CallStatus.DEAD)
    alerts = list(dead.filter(action="create").values_list("alert_id", flat=True))
    # Tickets first: writes to them wait behind.
    before = dead.count()
    if alerts:
        _make_again(integration.pk, alerts, now)
    _queue_again(dead.exclude(action="create"), now)
    count = before - dead.count()
    if count:
        audit.record(
            actor, "send_again", now=now, object_type="outbound_integration", object_id=integration.pk,
            object_name=integration.name, after={"calls": count},
        )  # fmt: skip
    return count


def _make_again(integration_id: int, alerts: Sequence[int | None], now: datetime) -> int:
    """Creates the alerts' tickets again and sends the writes that waited for them. Returns the number of calls."""
    with database.transaction() as connection:
        numbers = [number for number in alerts if number is not None]
        return len(ticket_creation.retry_creation(connection, integration_id, now, alert_ids=numbers, asked=True))


def _queue_again(calls: QuerySet[Call], now: datetime) -> int:
    with transaction.atomic():
        rows = list(calls.select_for_update(no_key=True, of=("self",)).select_related("integration").order_by("pk"))
        for row in rows:
            row.content = _as_set_now(row)
            row.status, row.attempts, row.result = CallStatus.QUEUED, 0, ""
            row.due_at, row.queued_at, row.ended_at = now, now, None
        fields = ["content", "status", "attempts", "result", "due_at", "queued_at", "ended_at"]
        Call.objects.bulk_update(rows, fields, batch_size=500)
        if rows:
            _wake()
    return len(rows)


def _as_set_now(call: Call) -> dict[str, Any]:
    """A call's content with the current settings of its event, so that a renamed status is not sent."""
    event = call.content.get("event")
    if call.action != "write" or event not in set(OutboundEvent):
        return dict(call.content)
    wanted = writeback_settings.write_of(call.integration.settings, OutboundEvent(event))
    now = {"status": wanted.status, "team": wanted.team, "priority": wanted.priority}
    kept = {key: value for key, value in call.content.items() if key not in now}
    return kept | {key: text for key, text in now.items() if key in call.content and text}


def drop(call: Call, *, actor: AuditActor, now: datetime) -> None:
    """Drops a failed or queued call. Raises Rejected while it is being sent."""
    with transaction.atomic():
        changed = Call.objects.filter(pk=call.pk, status__in=[CallStatus.DEAD, CallStatus.QUEUED]).update(
            status=CallStatus.DROPPED, ended_at=now, result=f"{actor.name} decided that it is not sent."
        )
        if not changed:
            raise Rejected("not_possible", "It has been sent, or is on its way.")
        _record_verb(actor, "drop", call, now)
        _wake()


def _record_verb(actor: AuditActor, verb: str, call: Call, now: datetime) -> None:
    audit.record(
        actor, verb, now=now, object_type="outbound_call", object_id=call.pk, object_name=call.said,
    )  # fmt: skip


def integrations_using_group(group_id: int) -> list[str]:
    """Labels of the outbound integrations that the group owns, which block its deletion."""
    names = OutboundIntegration.objects.filter(group=group_id).values_list("name", flat=True)
    return [f"outbound integration {name}" for name in names]


def _try_again(number: int, now: datetime) -> None:
    """Retries blocked and waiting calls immediately, because a person has acted."""
    IntegrationStatus.objects.filter(pk=number).update(
        problem="", problem_at=None, blocked_until=None, failures=0, open_until=None, not_before=None,
        last_transient_error="", last_transient_error_at=None, poll_error="", next_poll_at=now,
    )  # fmt: skip
    Call.objects.filter(integration=number, status=CallStatus.QUEUED, due_at__gt=now).update(due_at=now)
    # After the commit, to see the new settings.
    transaction.on_commit(partial(_make_tickets, number, now))
    _wake()


def _make_tickets(number: int, now: datetime) -> None:
    with database.transaction() as connection:
        ticket_creation.retry_creation(connection, number, now)


def _wake() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", (database.CHANNEL, f"{TOPIC} outbound-log clock"))


def _kind(spec: ObjectReader, existing: OutboundIntegration | None) -> ConnectorKind:
    kind = KINDS.get(spec.text("kind", required=True))
    if kind is None:
        if spec.has("kind"):
            spec.refuse("kind", f"there is no such kind; there are {', '.join(sorted(KINDS))}.")
        spec.check()
        raise AssertionError("an unknown kind is refused")
    if existing is not None and existing.kind != kind.name:
        spec.refuse("kind", "stays what it was; make a new outbound integration for another kind.")
    return kind


def _matches(spec: ObjectReader, agents: Mapping[str, str]) -> list[tuple[User, str]]:
    """The users who were matched with agents by hand."""
    wanted = {username.casefold() for username in agents}
    folded = User.objects.annotate(folded=Lower("username")).filter(folded__in=wanted)
    known: dict[str, User] = {user.username.casefold(): user for user in folded}
    found: list[tuple[User, str]] = []
    for username, number in agents.items():
        user = known.get(username.casefold())
        if user is None:
            spec.refuse("agents", f'there is no user "{username}".', "not_found")
        elif not number.isdecimal():
            spec.refuse("agents", f"{username}: give the agent's number in Halo.")
        elif any(user == other for other, _ in found):
            spec.refuse("agents", f'names the user "{user.username}" twice.')
        else:
            found.append((user, number))
    return found
