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
from django.db.models import Count, QuerySet
from django.db.models.functions import Lower
from django.utils import timezone

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.alerts.service import NO_SUCH_ALERT, VisibleAlert
from tocsin.alerts.store import WITH_INTEGRATION
from tocsin.catalogue.desks import ticket_kinds
from tocsin.core.config import crypto, settings_store
from tocsin.core.config.crypto import ENTER_SECRET_AGAIN, has_different_origin, is_different_origin
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import NeedsAttention
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import NO_REASON, AlertRef, Person, Reason, joined, sentence
from tocsin.core.validation.inputs import NO_SUCH_USER, REQUIRED
from tocsin.core.validation.spec import SpecErrors
from tocsin.outbound import reasons, redaction, states
from tocsin.outbound.connectors import tickets
from tocsin.outbound.connectors.desk import DeskSender
from tocsin.outbound.connectors.interfaces import OutboundSpec, RecordedClient
from tocsin.outbound.connectors.tickets import ReferenceEntry
from tocsin.outbound.delivery import queue, results
from tocsin.outbound.delivery.queue import TOPIC
from tocsin.outbound.delivery.results import KINDS
from tocsin.outbound.models import AgentMatch, Call, IntegrationStatus, LookUp, OutboundIntegration
from tocsin.outbound.states import ENDED, CallStatus, OutboundEvent
from tocsin.people.models import User, find_group, names_check


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
    return spec | _decrypted_settings(integration, crypto.decrypt_bundle(integration.secrets)) if with_secrets else spec


def outbound_state(integration: OutboundIntegration) -> dict[str, Any]:
    """The spec with all readable secrets: for detecting changes, never for display."""
    return outbound_spec(integration) | _decrypted_settings(
        integration, crypto.decrypt_bundle_or_empty(integration.secrets)
    )


def _decrypted_settings(integration: OutboundIntegration, stored: Mapping[str, str]) -> dict[str, Any]:
    """The secrets by name, and the settings stored with them."""
    settings, secrets = redaction.reveal({}, stored, _hidden(integration))
    return settings | secrets


def _hidden(integration: OutboundIntegration | None) -> tuple[str, ...]:
    kind = KINDS.get(integration.kind) if integration else None
    return kind.secret_settings if kind else ()


def secrets_set(integration: OutboundIntegration) -> frozenset[str]:
    """The names of the stored secrets, for forms that show only whether a secret is set."""
    return frozenset(crypto.decrypt_bundle_or_empty(integration.secrets)) - set(_hidden(integration))


def save_outbound(
    spec: Mapping[str, object], *, existing: OutboundIntegration | None = None, actor: AuditActor, now: datetime
) -> OutboundIntegration:
    """Creates an outbound integration, or updates `existing` to the spec, and retries everything that was blocked.

    A secret missing from the spec is kept. An empty one is deleted, or rejected if the connector requires it. Raises
    Rejected with the field of each problem.
    """
    with boundary.command():
        settings_store.lock()
        stored = crypto.decrypt_bundle_or_empty(existing.secrets) if existing else {}
        previous_settings, previous_secrets = redaction.reveal(
            existing.settings if existing else {}, stored, _hidden(existing)
        )
        complete_spec, masked_keys = redaction.keep_stored(spec, previous_settings, _hidden(existing))
        kind = KINDS.get(str(spec.get("kind", "")).strip())
        matches: list[tuple[User, str]] = []

        def check(parsed: OutboundSpec, errors: SpecErrors) -> None:
            names_check(OutboundIntegration, existing)(parsed, errors)
            if kind is None:
                errors.add("kind", sentence("unknown type; use one of {kinds}.", kinds=", ".join(sorted(KINDS))))
                return
            if existing is not None and existing.kind != kind.name:
                errors.add("kind", sentence("can't be changed; create a new outbound integration for another type."))
            matches.extend(_match_agents(parsed.agents_by_user, errors))
            settings = parsed.settings()
            # A user who may change the address must not be able to send stored secrets to a server of their own.
            if existing and has_different_origin(previous_settings, settings):
                for key in sorted(previous_secrets.keys() - parsed.given_keys):
                    errors.add(key, ENTER_SECRET_AGAIN(), "missing")
            url = settings.get("url")
            if url and "headers" in masked_keys and is_different_origin(str(previous_settings.get("url")), url):
                errors.add("headers", ENTER_SECRET_AGAIN(), "missing")
            for key in parsed.required_secrets():
                if not (getattr(parsed, key) if key in parsed.given_keys else previous_secrets.get(key)):
                    errors.add(key, REQUIRED(), "missing")

        if kind is None:
            complete_spec = {key: value for key, value in complete_spec.items() if key in OutboundSpec.common_keys}
        parsed = (kind.spec if kind else OutboundSpec).read(complete_spec, check=check)
        assert kind is not None, "an unknown kind is rejected"
        settings = parsed.settings()
        new_secrets = {key: getattr(parsed, key) for key in kind.secret_names if key in parsed.given_keys}
        secrets = {key: text for key, text in {**previous_secrets, **new_secrets}.items() if text}
        previous_spec = outbound_spec(existing) if existing else None
        integration = existing or OutboundIntegration(created_at=now)
        integration.name, integration.kind, integration.is_enabled = parsed.name, kind.name, parsed.is_enabled
        integration.group = find_group(parsed.group)
        integration.settings, hidden = redaction.hide(settings, kind.secret_settings)
        secrets |= hidden
        changed_secrets = sorted(key for key in {*stored, *secrets} if stored.get(key) != secrets.get(key))
        if changed_secrets or existing is None:
            integration.secrets = crypto.encrypt_bundle(secrets)
        integration.save()
        integration.matches.all().delete()
        AgentMatch.objects.bulk_create(
            AgentMatch(integration=integration, user=user, number=agent_number) for user, agent_number in matches
        )
        IntegrationStatus.objects.get_or_create(integration=integration, defaults={"next_poll_at": now})
        if audit.record_config_audit(
            "outbound_integration",
            integration,
            previous_spec,
            outbound_spec(integration),
            actor=actor,
            now=now,
            secrets=changed_secrets,
        ):
            _retry_waiting_calls(integration.pk, now)
    return integration


def verify_outbound(integration: OutboundIntegration, now: datetime, *, client: HttpClient | None = None) -> Reason:
    """Checks address and credentials without changing anything at the remote system. Returns what was found.

    Raises Temporary or Permanent with an explanation. Holds no transaction. A success ends a block.
    """
    message, _http_client = with_recorded_client(
        integration,
        lambda active_integration, http_client: active_integration.sender.verify(http_client, now),
        now,
        client,
    )
    with boundary.command():
        _retry_waiting_calls(integration.pk, now)
    if KINDS[integration.kind].desk is None:
        return message
    problems = read_lists(integration, now, client=client)
    counts = dict(LookUp.objects.filter(integration=integration).values_list("list_name").annotate(Count("pk")))
    read = tuple(
        reasons.DESK_LIST(list=tickets.list_label(name), count=count) for name, count in sorted(counts.items())
    )
    found = (reasons.DESK_VERIFIED_LISTS(entries=read),) if read else ()
    return joined(message, *found, *problems, separator=" ")


def call_once(integration: OutboundIntegration, alert: VisibleAlert, actor: AuditActor, now: datetime) -> int:
    """Queues the templated call for an alert on a user's request. Returns the call's id."""
    with database.transaction() as connection:
        call_ids = queue.call_for_alerts(
            connection,
            integration.pk,
            [alert.id],
            now,
            reason=reasons.CALL_SENT_BY(integration=integration.name, user=actor.name),
        )
    if not call_ids:
        raise Rejected(
            "not_found",
            sentence("Alert {alert} not found, or calls can't be made for it.", alert=AlertRef(alert.id)),
            "alert",
        )
    return call_ids[0]


def read_lists(integration: OutboundIntegration, now: datetime, *, client: HttpClient | None = None) -> list[Reason]:
    """Reads the lists of a ticket system that a file describes. Returns the errors of unreadable lists."""

    def work(
        active: results.ActiveIntegration, http_client: RecordedClient
    ) -> tuple[dict[str, list[ReferenceEntry]], list[Reason]]:
        assert isinstance(active.sender, DeskSender)
        return active.sender.read_lists(http_client, now)

    (lists, problems), _client = with_recorded_client(integration, work, now, client)
    store_lists(integration.pk, lists, now)
    return problems


def store_lists(integration_id: int, lists: Mapping[str, Sequence[ReferenceEntry]], now: datetime) -> None:
    """Stores the lists that were read, and updates the inbound integrations."""
    with database.transaction() as connection:
        if tickets.store(connection, integration_id, lists, now):
            # A missing type or priority may exist now.
            queue.retry_creation(connection, integration_id, now)
    tickets.publish_to_inbound(OutboundIntegration.objects.get(pk=integration_id), now)


def make_ticket(integration: OutboundIntegration, alert: VisibleAlert, actor: AuditActor, now: datetime) -> int:
    """Queues the creation of a ticket for an alert from another source. Returns the call's id.

    Raises Rejected("not_found"), or Rejected("not_possible") if the alert has a ticket or one is being created.
    """
    settings = integration.settings
    with database.transaction() as connection:
        values_by_alert = queue.load_alert_values(connection, [alert.id])
        if alert.id not in values_by_alert:
            raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(alert.id)), "alert")
        if values_by_alert[alert.id]["source_id"] and _is_from(connection, integration, alert.id):
            from_ticket = sentence(
                "Alert {alert} came from a ticket of {integration}.",
                alert=AlertRef(alert.id), integration=integration.name,
            )  # fmt: skip
            raise Rejected("not_possible", from_ticket, "alert")
        new_calls = queue.first_creation_calls(connection, {alert.id: (integration.pk, settings)}, values_by_alert)
        call_ids = queue.queue(connection, list(new_calls.values()), now) or queue.retry_creation(
            connection, integration.pk, now, alert_ids=[alert.id], is_requested=True
        )
        if not call_ids:
            ticket_exists = reasons.TICKET_EXISTS(alert=AlertRef(alert.id), integration=integration.name)
            raise Rejected("not_possible", ticket_exists, "alert")
    audit_command(actor, "make_ticket", integration, {"alert": alert.id}, now)
    return call_ids[0]


def _is_from(connection: Connection, integration: OutboundIntegration, alert_id: int) -> bool:
    """Whether the alert came from a ticket of this system."""
    cursor = connection.execute(
        f"SELECT 1 FROM {WITH_INTEGRATION} WHERE a.id = %s AND i.outbound_id = %s AND i.kind = ANY(%s)",
        (alert_id, integration.pk, [*ticket_kinds(integration.kind)]),
    )
    return cursor.fetchone() is not None


def audit_command(
    actor: AuditActor, action: str, integration: OutboundIntegration, after: dict[str, object], now: datetime
) -> None:
    """Records a person's command on an integration."""
    audit.record(
        actor, action, now=now, object_type="outbound_integration", object_id=integration.pk,
        object_name=integration.name, group_id=integration.group_id, after=after,
    )  # fmt: skip


def with_recorded_client[T](
    integration: OutboundIntegration,
    operation: Callable[[results.ActiveIntegration, RecordedClient], T],
    now: datetime,
    client: HttpClient | None = None,
    *,
    is_dry_run: bool = False,
) -> tuple[T, RecordedClient]:
    """Runs `operation` with an open integration outside the outbox. Always logs the requests, even if it fails."""
    raw_client = client or HttpClient()
    active_integration = results.open_integration(
        {
            "id": integration.pk,
            "name": integration.name,
            "kind": integration.kind,
            "settings": integration.settings,
            "secrets": integration.secrets,
        },
        raw_client,
    )
    http_client = RecordedClient(raw_client, timezone.now, active_integration.secrets, is_dry_run=is_dry_run)
    try:
        return operation(active_integration, http_client), http_client
    except NeedsAttention as error:
        IntegrationStatus.objects.filter(pk=integration.pk).update(
            problem=http_client.mask_reason(error.full_reason),
            problem_at=now,
            blocked_until=now + states.BLOCKED_INTERVAL,
        )
        raise
    finally:
        if client is None:
            raw_client.close()
        if http_client.exchanges:
            with database.transaction() as connection:
                results.store_exchange(
                    connection, [(integration.pk, None, exchange) for exchange in http_client.exchanges]
                )


def send_again(call: Call, *, actor: AuditActor, now: datetime) -> None:
    """Queues a failed or dropped call again, with the current settings.

    Raises Rejected for calls in any other state, and for creating a ticket that already exists.
    """
    if call.status not in ENDED:
        raise Rejected("not_possible", sentence("Only a call that failed or was dropped can be sent again."))
    if call.action == "create":
        if not _recreate_tickets(call.integration_id, [call.alert_id], now):
            if call.alert_id is None:
                raise Rejected("not_possible", sentence("Its alert no longer exists."))
            ticket_exists = reasons.TICKET_EXISTS(alert=AlertRef(call.alert_id), integration=call.integration.name)
            raise Rejected("not_possible", ticket_exists)
    elif not _queue_again(Call.objects.filter(pk=call.pk, status__in=ENDED), now):
        raise Rejected("not_possible", sentence("It is already being resent."))
    _audit_call_command(actor, "send_again", call, now)


def send_all_again(integration: OutboundIntegration, *, actor: AuditActor, now: datetime) -> int:
    """Sends every dead letter of an integration again, oldest first. Returns their number."""
    dead_letters = Call.objects.filter(integration=integration, status=CallStatus.DEAD)
    alert_ids = list(dead_letters.filter(action="create").values_list("alert_id", flat=True))
    # Tickets first: writes to them wait behind.
    count_before = dead_letters.count()
    if alert_ids:
        _recreate_tickets(integration.pk, alert_ids, now)
    _queue_again(dead_letters.exclude(action="create"), now)
    count = count_before - dead_letters.count()
    if count:
        audit.record(
            actor, "send_again", now=now, object_type="outbound_integration", object_id=integration.pk,
            object_name=integration.name, group_id=integration.group_id, after={"calls": count},
        )  # fmt: skip
    return count


def _recreate_tickets(integration_id: int, alert_ids: Sequence[int | None], now: datetime) -> int:
    """Creates the alerts' tickets again and sends the writes that waited for them. Returns the number of calls."""
    with database.transaction() as connection:
        existing_ids = [alert_id for alert_id in alert_ids if alert_id is not None]
        return len(queue.retry_creation(connection, integration_id, now, alert_ids=existing_ids, is_requested=True))


def _queue_again(calls: QuerySet[Call], now: datetime) -> int:
    with boundary.command():
        rows = list(calls.select_for_update(no_key=True, of=("self",)).select_related("integration").order_by("pk"))
        for row in rows:
            row.content = _refresh_content(row)
            row.status, row.attempts, row.result = CallStatus.QUEUED, 0, NO_REASON
            row.due_at, row.queued_at, row.ended_at = now, now, None
        fields = ["content", "status", "attempts", "result", "due_at", "queued_at", "ended_at"]
        Call.objects.bulk_update(rows, fields, batch_size=500)
        if rows:
            _wake()
    return len(rows)


def _refresh_content(call: Call) -> dict[str, Any]:
    """A call's content with the current settings of its event, so that a renamed status is not sent."""
    event = call.content.get("event")
    if call.action != "write" or event not in set(OutboundEvent):
        return dict(call.content)
    writeback = tickets.get_writeback(call.integration.settings, OutboundEvent(event))
    current = {"status": writeback.status, "team": writeback.team, "priority": writeback.priority}
    unchanged = {key: value for key, value in call.content.items() if key not in current}
    return unchanged | {key: text for key, text in current.items() if key in call.content and text}


def drop(call: Call, *, actor: AuditActor, now: datetime) -> None:
    """Drops a failed or queued call. Raises Rejected while it is being sent."""
    with boundary.command():
        dropped_count = Call.objects.filter(pk=call.pk, status__in=[CallStatus.DEAD, CallStatus.QUEUED]).update(
            status=CallStatus.DROPPED,
            ended_at=now,
            result=reasons.DROPPED_BY(user=Person(actor.name, actor.user_id)),
        )
        if not dropped_count:
            raise Rejected("not_possible", sentence("It was sent, or is being sent."))
        _audit_call_command(actor, "drop", call, now)
        _wake()


def _audit_call_command(actor: AuditActor, action: str, call: Call, now: datetime) -> None:
    audit.record(
        actor, action, now=now, object_type="outbound_call", object_id=call.pk, object_name=str(call.description),
        group_id=call.integration.group_id,
    )  # fmt: skip


def _retry_waiting_calls(integration_id: int, now: datetime) -> None:
    """Retries blocked and waiting calls immediately, because a person has acted."""
    IntegrationStatus.objects.filter(pk=integration_id).update(
        problem=NO_REASON, problem_at=None, blocked_until=None, failures=0, open_until=None,
        not_before=None, last_transient_error=NO_REASON, last_transient_error_at=None,
        poll_error=NO_REASON, next_poll_at=now,
    )  # fmt: skip
    Call.objects.filter(integration=integration_id, status=CallStatus.QUEUED, due_at__gt=now).update(due_at=now)
    # After the commit, to see the new settings.
    transaction.on_commit(partial(_retry_ticket_creation, integration_id, now))
    _wake()


def _retry_ticket_creation(integration_id: int, now: datetime) -> None:
    with database.transaction() as connection:
        queue.retry_creation(connection, integration_id, now)


def _wake() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", (database.CHANNEL, f"{TOPIC} outbound-log clock"))


def _match_agents(agents: Mapping[str, str], errors: SpecErrors) -> list[tuple[User, str]]:
    """The users who were matched with agents by hand."""
    usernames = {username.casefold() for username in agents}
    with boundary.as_viewer():
        users = User.objects.annotate(folded=Lower("username")).filter(folded__in=usernames)
        users_by_name: dict[str, User] = {user.username.casefold(): user for user in users}
    matches: list[tuple[User, str]] = []
    for username, agent_number in agents.items():
        user = users_by_name.get(username.casefold())
        if user is None:
            errors.add("agents", NO_SUCH_USER(name=username), "not_found")
        elif not agent_number.isdecimal():
            errors.add("agents", sentence("{user}: enter the agent's number in Halo.", user=username))
        elif any(user == other for other, _ in matches):
            errors.add("agents", sentence('lists the user "{user}" twice.', user=user.username))
        else:
            matches.append((user, agent_number))
    return matches
