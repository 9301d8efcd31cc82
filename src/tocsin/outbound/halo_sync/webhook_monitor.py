"""Monitors the webhooks in Halo: reports those that are deleted, disabled or silent, and updates outdated URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from tocsin.core.db import database
from tocsin.core.delivery.failure import NeedsAttention
from tocsin.core.errors import Permanent
from tocsin.core.ids import token_hash
from tocsin.core.reasons import NO_REASON, Reason, joined
from tocsin.inbound.admin import secrets
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.models import Integration
from tocsin.outbound.connectors.haloitsm import reasons as operations
from tocsin.outbound.connectors.haloitsm.client import HaloClient, id_text
from tocsin.outbound.connectors.haloitsm.errors import ObjectNotFound
from tocsin.outbound.connectors.interfaces import RecordedClient
from tocsin.outbound.halo_sync import reasons, ticket_messages, webhook_setup
from tocsin.outbound.models import Webhook

#: A webhook is silent after this many polls with unreported changes and no message by webhook in between.
_MAX_MISSED_POLLS = 2
#: How many of an integration's last messages are searched for one that came by webhook.
_MAX_SEARCHED_MESSAGES = 50


class WebhookPoll(Protocol):
    """The poll during which webhooks are checked."""

    integration_id: int
    client: HaloClient
    http_client: RecordedClient
    poll_state: dict[str, Any]
    inbound_integrations: Sequence[CompiledIntegration]
    now: datetime
    ingested_by_integration: dict[int, int]


def url_hash(url: str) -> bytes:
    """The stored form of a URL, which is secret."""
    return hashlib.sha256(url.encode()).digest()


def is_previous_url(integration: Integration, url: str) -> bool:
    """Whether a URL contains the integration's previous token."""
    token = url.rpartition("/")[2]
    return bool(integration.old_token_hash and token and bytes(integration.old_token_hash) == token_hash(token))


def find_webhook_problems(poll: WebhookPoll) -> Reason:
    """Why webhooks deliver nothing, if so. With several integrations, each reason names its own."""
    rows = Webhook.objects.filter(integration=poll.integration_id).select_related("inbound_integration").order_by("pk")
    webhooks = {row.inbound_integration_id: row for row in rows}
    previous: Mapping[str, Any] = poll.poll_state.get("missed") or {}
    missed_counts: dict[str, Any] = {}
    problems: list[Reason] = []
    for integration in poll.inbound_integrations:
        state = _count_missed(poll, integration, previous.get(str(integration.id)) or {})
        if state:
            missed_counts[str(integration.id)] = state
        row = webhooks.get(integration.id)
        problem = _check_webhook(poll, row) if row is not None else NO_REASON
        if not problem and state.get("times", 0) >= _MAX_MISSED_POLLS:
            problem = reasons.WEBHOOK_SILENT()
        if problem and len(poll.inbound_integrations) > 1:
            problem = reasons.WEBHOOK_OF(integration=integration.name, problem=problem)
        problems.append(problem)
    poll.poll_state["missed"] = missed_counts
    return joined(*problems, separator=" ")


def _count_missed(poll: WebhookPoll, integration: CompiledIntegration, previous: Mapping[str, Any]) -> dict[str, Any]:
    """Consecutive polls with changes that no webhook reported, and since when; a message by webhook resets the
    count."""
    count, since = int(previous.get("times", 0)), previous.get("since")
    if count and _has_webhook_message(integration.id, datetime.fromisoformat(str(since))):
        count = 0
    if poll.ingested_by_integration.get(integration.id):
        return {"times": count + 1, "since": since if count else poll.now.isoformat()}
    return {"times": count, "since": since} if count else {}


def _has_webhook_message(integration_id: int, since: datetime) -> bool:
    """Whether a message has come by webhook since then."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT bool_or(m.received_at > %s AND NOT m.headers ? %s) FROM (SELECT received_at, headers "
            "FROM inbound_inboundmessage WHERE integration_id = %s ORDER BY id DESC LIMIT %s) AS m",
            (since, next(iter(ticket_messages.HEADERS)), integration_id, _MAX_SEARCHED_MESSAGES),
        ).fetchone()
    return bool(row and row[0])


def _check_webhook(poll: WebhookPoll, row: Webhook) -> Reason:
    """What is wrong with one webhook, after updating its URL if needed."""
    try:
        hook = poll.client.get(poll.http_client, f"Webhook/{row.number}", poll.now, operations.CHECK_WEBHOOK())
    except NeedsAttention:
        raise
    except ObjectNotFound:
        return reasons.WEBHOOK_DELETED()
    except Permanent:
        # Without permission to read the webhook, its deliveries still show whether it works.
        return NO_REASON
    if not isinstance(hook, Mapping):
        return NO_REASON
    url, remote_url = secrets.url_of(row.inbound_integration), str(hook.get("url") or "")
    if remote_url == url:
        _store_url_hash(row, url)
    elif bytes(row.url_hash) == url_hash(remote_url) or is_previous_url(row.inbound_integration, remote_url):
        try:
            webhook_setup.change_address(poll.client, poll.http_client, poll.now, row.number, url)
        except NeedsAttention:
            raise
        except Permanent as error:
            return reasons.WEBHOOK_OUTDATED(problem=error.full_reason)
        _store_url_hash(row, url)
    if not hook.get("active", True):
        last_status = id_text(hook.get("last_status"))
        is_failed = last_status and last_status != "200"
        last_delivery = reasons.LAST_DELIVERY(status=last_status) if is_failed else NO_REASON
        return joined(reasons.WEBHOOK_DISABLED(), last_delivery, reasons.ENABLE_WEBHOOK(), separator=" ")
    return NO_REASON


def _store_url_hash(row: Webhook, url: str) -> None:
    if bytes(row.url_hash) != url_hash(url):
        Webhook.objects.filter(pk=row.pk).update(url_hash=url_hash(url))
