"""Sets up the webhook in Halo: create disabled, subscribe, read back, enable, test, and find the test in Halo's log.

A failed step undoes the previous ones in reverse order. An existing webhook is updated in place, even if its URL has
changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from tocsin.core.db import database
from tocsin.core.delivery.circuit_breaker import NeedsAttention
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.ids import token_hash
from tocsin.core.reasons import NO_REASON, Reason, joined
from tocsin.inbound.admin import secrets
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.models import Integration
from tocsin.outbound.connectors.haloitsm import client as operations
from tocsin.outbound.connectors.haloitsm.client import HaloSession, ObjectNotFound, extract_rows, id_text
from tocsin.outbound.halo_sync import ticket_messages
from tocsin.outbound.halo_sync.ticket_messages import Poll
from tocsin.outbound.models import Webhook

#: The events Tocsin subscribes to, in their "All" variant: "Assigned" never fires for a webhook.
EVENTS: tuple[tuple[str, tuple[str, ...], int | None], ...] = (
    ("New Ticket Logged", ("new ticket logged",), 3),
    ("Ticket Status Changed", ("ticket status changed",), 76),
    ("Ticket Closed", ("ticket closed", "closed"), 39),
    ("Ticket Reassigned", ("ticket reassigned", "ticket re-assigned"), None),
    ("Ticket Deleted", ("ticket deleted",), 1072),
    ("Ticket Updated by User", ("ticket updated by user",), 19),
)

#: The longest URL that Halo stores.
_MAX_URL_CHARS = 499

#: Full object with linked objects. The values of Halo's lists are undocumented, so the result is read back.
_PAYLOAD_TYPE = 1


@dataclass(slots=True)
class WebhookSetupResult:
    """The completed steps; if `problem` is set, the last step is where the setup stopped."""

    steps: list[Reason] = field(default_factory=list)
    webhook_id: str = ""
    problem: Reason = NO_REASON
    #: Events that this Halo does not have.
    missing_events: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DesiredWebhook:
    """The webhook to set up: its URL, and how to recognize an existing one."""

    url: str
    #: Username and password required by the URL.
    basic_auth: tuple[str, str] | None = None
    #: The id of the webhook that Tocsin created.
    known_id: str = ""
    #: Whether a URL was a previous one of the same inbound integration.
    is_previous_url: Callable[[str], bool] = lambda url: False

    def find_existing(self, hooks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Finds the webhook among Halo's: by id, by URL, or by a previous URL."""
        matchers: tuple[Callable[[Mapping[str, Any]], bool], ...] = (
            lambda hook: bool(self.known_id) and str(hook.get("id")) == self.known_id,
            lambda hook: hook.get("url") == self.url,
            self.matches_url,
        )
        return next((hook for is_match in matchers for hook in hooks if is_match(hook)), None)

    def matches_url(self, hook: Mapping[str, Any]) -> bool:
        """Whether a webhook posts to a current or previous URL of this inbound integration."""
        url = str(hook.get("url") or "")
        return url == self.url or self.is_previous_url(url)


def set_up(
    halo: HaloSession, desired: DesiredWebhook, *, wait: Callable[[int], bool] = lambda attempt: False
) -> WebhookSetupResult:
    """Creates or updates the webhook.

    `wait` is called between polls of Halo's log with the number of polls so far; it returns False to stop. Never raises
    for errors of Halo: the result contains them. A failed step removes whatever this call created.
    """
    setup = _Setup(halo, desired, wait)
    result = setup.result
    try:
        setup.run()
    except (Temporary, Permanent) as error:
        result.problem = error.full_reason
        is_undone = bool(setup.undo_steps)
        for step in reversed(setup.undo_steps):
            try:
                step()
            except (Temporary, Permanent) as undo_error:
                is_undone = False
                result.steps.append(ticket_messages.UNDO_FAILED(problem=undo_error.full_reason))
        if is_undone:
            result.steps.append(ticket_messages.UNDONE())
        result.webhook_id = ""
    return result


@dataclass(slots=True)
class _Setup:
    """One setup, step by step."""

    halo: HaloSession
    desired: DesiredWebhook
    wait: Callable[[int], bool]
    result: WebhookSetupResult = field(default_factory=WebhookSetupResult)
    undo_steps: list[Callable[[], object]] = field(default_factory=list)

    def run(self) -> None:
        """Raises Temporary or Permanent at the first step that fails."""
        halo, result, url, basic_auth = self.halo, self.result, self.desired.url, self.desired.basic_auth
        if len(url) > _MAX_URL_CHARS:
            raise Permanent(ticket_messages.URL_TOO_LONG(count=_MAX_URL_CHARS), ticket_messages.SHORTEN_BASE_URL())
        hooks = extract_rows(halo.get("Webhook", operations.LIST_WEBHOOKS_BY_SCOPE(), query={"type": 0}))
        existing = self.desired.find_existing(hooks)
        event_numbers = self._load_event_numbers()
        body: dict[str, object] = {
            "name": "Tocsin", "type": 0, "url": url, "method": 0, "content_type": "application/json",
            "authentication_type": 1 if basic_auth else 0, "payload_type": _PAYLOAD_TYPE, "active": False,
            **({"basic_username": basic_auth[0], "basic_password": basic_auth[1]} if basic_auth else {}),
            **({"id": existing["id"]} if existing else {}),
        }  # fmt: skip
        created = halo.post("Webhook", body, operations.CREATE_WEBHOOK())
        result.webhook_id = webhook_id = str(created.get("id") or "")
        if not webhook_id:
            raise Permanent(ticket_messages.NO_WEBHOOK_ID())
        if existing is None:
            result.steps.append(ticket_messages.WEBHOOK_CREATED())
            self.undo_steps.append(partial(halo.delete, f"Webhook/{webhook_id}", operations.DELETE_WEBHOOK()))
        else:
            is_same = existing.get("url") == url
            result.steps.append(ticket_messages.WEBHOOK_FOUND() if is_same else ticket_messages.WEBHOOK_URL_CHANGED())
            # Including whether it was enabled.
            previous = {name: existing[name] for name in (*body, "basic_username") if name in existing}
            self.undo_steps.append(partial(halo.post, "Webhook", previous, operations.RESTORE_WEBHOOK()))
        result.steps += [
            ticket_messages.OTHER_WEBHOOK(webhook=str(hook.get("name") or hook.get("id")))
            for hook in hooks
            if str(hook.get("id")) != webhook_id and self.desired.matches_url(hook)
        ]
        self._subscribe(event_numbers)
        stored = halo.get(f"Webhook/{webhook_id}", operations.READ_WEBHOOK(), query={"includedetails": True})
        if stored.get("url") != url:
            raise Permanent(ticket_messages.URL_NOT_STORED())
        result.steps.append(ticket_messages.WEBHOOK_READ_BACK())
        halo.post("Webhook", {"id": webhook_id, "active": True}, operations.ENABLE_WEBHOOK())
        result.steps.append(ticket_messages.WEBHOOK_ENABLED())
        self._test()

    def _load_event_numbers(self) -> dict[str, int]:
        """The event numbers of this Halo by case-folded name. Empty if the list cannot be read; then the usual ones
        apply."""
        try:
            rows = extract_rows(self.halo.get("Lookup", operations.LIST_EVENTS(), query={"lookupid": 64}))
        except Permanent as error:
            if isinstance(error, NeedsAttention):
                raise
            rows = []
        numbers = {}
        for row in rows:
            name, number = str(row.get("name", "")).casefold(), id_text(row.get("id"))
            variant = name.rpartition("-")[2] if " - " in name else ""
            if number.lstrip("-").isdecimal() and "assigned" not in variant:
                numbers[name.removesuffix("- all").removesuffix("(all)").strip()] = int(number)
        return numbers

    def _subscribe(self, event_numbers: Mapping[str, int]) -> None:
        """Halo drops events posted with the webhook: each needs a notification of its own."""
        query = {"webhook_id": self.result.webhook_id}
        rows = extract_rows(self.halo.get("Notification", operations.LIST_NOTIFICATIONS(), query=query))
        subscribed = {id_text(row.get("eventno")) for row in rows}
        subscribed_names = []
        for name, names, default_number in EVENTS:
            usual = None if event_numbers else default_number
            event = next((event_numbers[known] for known in names if known in event_numbers), usual)
            if event is None:
                self.result.missing_events.append(name)
                continue
            subscribed_names.append(name)
            if str(event) in subscribed:
                continue
            notification: dict[str, object] = {
                **query, "eventno": event, "name": name, "type": -2, "delivery_method": 6, "agent_id": 0,
                "filter_type": 2, "conditions": [], "condition_count": 0, "guid": None,
            }  # fmt: skip
            created = self.halo.post("Notification", notification, operations.SUBSCRIBE(event=name))
            if row := id_text(created.get("id")):
                self.undo_steps.append(partial(self.halo.delete, f"Notification/{row}", operations.UNSUBSCRIBE()))
        self.result.steps.append(ticket_messages.WEBHOOK_SUBSCRIBED(events=tuple(subscribed_names)))
        if self.result.missing_events:
            self.result.steps.append(ticket_messages.EVENTS_MISSING(events=tuple(self.result.missing_events)))

    def _test(self) -> None:
        """Makes Halo send its own test and checks the delivery log, ignoring earlier entries."""
        earlier = [_delivery(row) for row in self._deliveries()]
        self.halo.post("Webhook", {"id": self.result.webhook_id, "_test": True}, operations.SEND_TEST())
        self.result.steps.append(ticket_messages.TEST_REQUESTED())
        attempt = 0
        while not (rows := [row for row in self._deliveries() if _delivery(row) not in earlier]):
            attempt += 1
            if not self.wait(attempt):
                self.result.steps.append(ticket_messages.TEST_NOT_LOGGED())
                return
        entry = rows[-1]
        status = id_text(entry.get("responsestatus"))
        if status.startswith("2"):
            self.result.steps.append(ticket_messages.TEST_ARRIVED(status=status))
            return
        # Halo logs 0 where no response came.
        answer = (
            ticket_messages.TEST_ANSWERED(status=status)
            if status not in ("", "0")
            else ticket_messages.TEST_UNANSWERED()
        )
        problem = str(entry["error"]) if entry.get("error") else answer
        raise Permanent(ticket_messages.TEST_FAILED(problem=problem), ticket_messages.ALLOW_HALO())

    def _deliveries(self) -> list[dict[str, Any]]:
        query = {"webhook_id": self.result.webhook_id, "pageinate": True, "page_size": 50, "page_no": 1}
        rows = extract_rows(self.halo.get("WebhookEvent", operations.LIST_DELIVERIES(), query=query))
        return sorted(rows, key=lambda row: str(row.get("timestamp", "")))


def _delivery(row: dict[str, Any]) -> tuple[str, str]:
    return id_text(row.get("id")), str(row.get("timestamp", ""))


# ---------- webhook monitor
# Monitors the webhooks in Halo: reports those that are deleted, disabled or silent, and updates outdated URLs.


#: A webhook is silent after this many polls with unreported changes and no message by webhook in between.
_MAX_MISSED_POLLS = 2
#: How many of an integration's last messages are searched for one that came by webhook.
_MAX_SEARCHED_MESSAGES = 50


def url_hash(url: str) -> bytes:
    """The stored form of a URL, which is secret."""
    return hashlib.sha256(url.encode()).digest()


def is_previous_url(integration: Integration, url: str) -> bool:
    """Whether a URL contains the integration's previous token."""
    token = url.rpartition("/")[2]
    return bool(integration.old_token_hash and token and bytes(integration.old_token_hash) == token_hash(token))


def find_webhook_problems(poll: Poll) -> Reason:
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
            problem = ticket_messages.WEBHOOK_SILENT()
        if problem and len(poll.inbound_integrations) > 1:
            problem = ticket_messages.WEBHOOK_OF(integration=integration.name, problem=problem)
        problems.append(problem)
    poll.poll_state["missed"] = missed_counts
    return joined(*problems, separator=" ")


def _count_missed(poll: Poll, integration: CompiledIntegration, previous: Mapping[str, Any]) -> dict[str, Any]:
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


def _check_webhook(poll: Poll, row: Webhook) -> Reason:
    """What is wrong with one webhook, after updating its URL if needed."""
    try:
        hook = poll.halo.get(f"Webhook/{row.number}", operations.CHECK_WEBHOOK())
    except NeedsAttention:
        raise
    except ObjectNotFound:
        return ticket_messages.WEBHOOK_DELETED()
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
            poll.halo.post("Webhook", {"id": row.number, "url": url}, operations.CHANGE_WEBHOOK_URL())
        except NeedsAttention:
            raise
        except Permanent as error:
            return ticket_messages.WEBHOOK_OUTDATED(problem=error.full_reason)
        _store_url_hash(row, url)
    if not hook.get("active", True):
        last_status = id_text(hook.get("last_status"))
        is_failed = last_status and last_status != "200"
        last_delivery = ticket_messages.LAST_DELIVERY(status=last_status) if is_failed else NO_REASON
        return joined(
            ticket_messages.WEBHOOK_DISABLED(), last_delivery, ticket_messages.ENABLE_WEBHOOK(), separator=" "
        )
    return NO_REASON


def _store_url_hash(row: Webhook, url: str) -> None:
    if bytes(row.url_hash) != url_hash(url):
        Webhook.objects.filter(pk=row.pk).update(url_hash=url_hash(url))
