"""Monitors the webhooks in Halo: reports those that are deleted, disabled or silent, and updates outdated URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from tocsin.core.db import database
from tocsin.core.errors import Permanent
from tocsin.core.ids import token_hash
from tocsin.inbound.admin import secrets
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.models import Integration
from tocsin.outbound.connectors.haloitsm.client import HaloClient, whole
from tocsin.outbound.connectors.interfaces import NeedsAttention, RecordedClient
from tocsin.outbound.halo_sync import ticket_messages, webhook_setup
from tocsin.outbound.models import Webhook

#: A webhook is silent after this many polls with unreported changes and no message by webhook in between.
_MISSED = 2
#: How many of an integration's last messages are searched for one that came by webhook.
_LAST = 50

_SILENT = (
    "Changes are found by reconciliation that no webhook told of: look at its deliveries, events and "
    "conditions in Halo."
)


class WebhookPoll(Protocol):
    """The poll during which webhooks are checked."""

    integration_id: int
    client: HaloClient
    line: RecordedClient
    poll_state: dict[str, Any]
    doors: Sequence[CompiledIntegration]
    now: datetime
    found_by: dict[int, int]


def url_hash(url: str) -> bytes:
    """The stored form of a URL, which is secret."""
    return hashlib.sha256(url.encode()).digest()


def was_registered_for(door: Integration, url: str) -> bool:
    """Whether a URL contains the integration's previous token."""
    token = url.rpartition("/")[2]
    return bool(door.old_token_hash and token and bytes(door.old_token_hash) == token_hash(token))


def problems(look: WebhookPoll) -> str:
    """Why webhooks deliver nothing, as sentences, or "". With several integrations, each sentence names its own."""
    rows = Webhook.objects.filter(integration=look.integration_id).select_related("door").order_by("pk")
    known = {row.door_id: row for row in rows}
    before: Mapping[str, Any] = look.poll_state.get("missed") or {}
    missed: dict[str, Any] = {}
    said = []
    for door in look.doors:
        state = _missed(look, door, before.get(str(door.id)) or {})
        if state:
            missed[str(door.id)] = state
        row = known.get(door.id)
        text = _of(look, row) if row is not None else ""
        if not text and state.get("times", 0) >= _MISSED:
            text = _SILENT
        if text:
            said.append(f"{door.name}: {text}" if len(look.doors) > 1 else text)
    look.poll_state["missed"] = missed
    return " ".join(said)


def _missed(look: WebhookPoll, door: CompiledIntegration, before: Mapping[str, Any]) -> dict[str, Any]:
    """Consecutive polls with changes that no webhook reported, and since when; a message by webhook resets the
    count."""
    times, since = int(before.get("times", 0)), before.get("since")
    if times and _has_come(door.id, datetime.fromisoformat(str(since))):
        times = 0
    if look.found_by.get(door.id):
        return {"times": times + 1, "since": since if times else look.now.isoformat()}
    return {"times": times, "since": since} if times else {}


def _has_come(door_id: int, since: datetime) -> bool:
    """Whether a message has come by webhook since then."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT bool_or(m.received_at > %s AND NOT m.headers ? %s) FROM (SELECT received_at, headers "
            "FROM inbound_inboundmessage WHERE integration_id = %s ORDER BY id DESC LIMIT %s) AS m",
            (since, next(iter(ticket_messages.HEADERS)), door_id, _LAST),
        ).fetchone()
    return bool(found and found[0])


def _of(look: WebhookPoll, row: Webhook) -> str:
    """What is wrong with one webhook, after updating its URL if needed."""
    try:
        hook = look.client.get(look.line, f"Webhook/{row.number}", look.now, "see whether its webhook is on")
    except NeedsAttention:
        raise
    except Permanent as error:
        # Without permission to read the webhook, its deliveries still show whether it works.
        return "The webhook is not in Halo any more: set it up again." if "(404)" in str(error) else ""
    if not isinstance(hook, Mapping):
        return ""
    url, there = secrets.url_of(row.door), str(hook.get("url") or "")
    if there == url:
        _keep(row, url)
    elif bytes(row.url_hash) == url_hash(there) or was_registered_for(row.door, there):
        try:
            webhook_setup.change_address(look.client, look.line, look.now, row.number, url)
        except NeedsAttention:
            raise
        except Permanent as error:
            return f"The webhook in Halo still has the old address, and cannot be given the new one: {error}"
        _keep(row, url)
    if not hook.get("active", True):
        last = whole(hook.get("last_status"))
        said = f" Its last delivery was answered {last}." if last and last != "200" else ""
        return f"Halo has switched the webhook off.{said} Set it up again, or switch it on in Halo."
    return ""


def _keep(row: Webhook, url: str) -> None:
    if bytes(row.url_hash) != url_hash(url):
        Webhook.objects.filter(pk=row.pk).update(url_hash=url_hash(url))
