"""The fake Halo's webhooks: subscriptions, payload types, batching, the delivery log and redelivery. The transport
function is replaceable."""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tocsin.fake_halo.state import EVENTS, FakeHalo, FakeHaloEvent

#: (webhook, body) → status and text of the response. Raises OSError if the connection fails.
type DeliverWebhook = Callable[[Mapping[str, Any], bytes], tuple[int, str]]

#: Halo's numbers of the payload types: full with linked objects, full, small, event only, template.
FULL_LINKED, FULL, SMALL, EVENT_ONLY, CUSTOM = 1, 0, 2, 3, 4

_SMALL = ("id", "summary", "client_name", "site_name", "user_name", "team", "agent_id", "priority_id")


@dataclass
class WebhookSender:
    """Sends the events of one Halo. `run` delivers the pending ones; the server calls it in a separate thread."""

    halo: FakeHalo
    deliver: DeliverWebhook | None = None
    #: Whether an event is lost, to simulate unreliable webhooks.
    should_lose: Callable[[FakeHaloEvent], bool] = lambda happened: False
    #: Pending messages: (webhook id, payload).
    pending: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.halo.listeners.append(self._enqueue)

    def _enqueue(self, event: FakeHaloEvent) -> None:
        if self.should_lose(event):
            return
        for webhook_id, webhook in self.halo.webhooks.items():
            if not webhook.get("active"):
                continue
            event_number = EVENTS[event.event]
            subscribed = next((n for n in self.halo.notifications.values()
                               if n["webhook_id"] == webhook_id and n["eventno"] == event_number), None)  # fmt: skip
            if subscribed is not None:
                self.pending.append((webhook_id, self.payload(webhook, event, subscribed["id"])))

    def payload(self, webhook: Mapping[str, Any], event: FakeHaloEvent, notification: int) -> dict[str, Any]:
        """Return one message in the webhook's payload type."""
        ticket = self.halo.tickets[event.ticket]
        envelope: dict[str, Any] = {
            "id": str(uuid.uuid4()), "webhook_id": webhook["id"], "notification_id": notification,
            "escmsg_id": str(uuid.uuid4()), "event": event.event,
            "message": f"{event.event.capitalize()}. Ticket ID: {event.ticket:07d}.",
            "object_id": event.ticket, "agent_id": event.agent_id,
            "timestamp": event.at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z",
        }  # fmt: skip
        match webhook.get("payload_type", FULL_LINKED):
            case 3:
                return envelope
            case 2:
                return {**envelope, "ticket": {key: ticket[key] for key in _SMALL}}
            case 0:
                return {**envelope, "ticket": dict(ticket)}
            case 4:
                return self._custom(webhook, ticket)
            case _:
                return {**envelope, "ticket": self.halo.with_linked_objects(ticket)}

    def _custom(self, webhook: Mapping[str, Any], ticket: Mapping[str, Any]) -> dict[str, Any]:
        linked = self.halo.with_linked_objects(ticket)

        def resolve(match: re.Match[str]) -> str:
            current: Any = linked
            for key in match.group(1).split("^")[1:]:
                current = current.get(key, "") if isinstance(current, Mapping) else ""
            return json.dumps(current)

        rendered: dict[str, Any] = json.loads(re.sub(r"<<(ticket[\w^]*)>>", resolve, webhook["custom_payload"]))
        return rendered

    def run(self) -> int:
        """Deliver the pending messages and return the number of requests sent."""
        with self.halo.lock:
            pending, self.pending = self.pending, []
        batches: list[tuple[str, list[dict[str, Any]]]] = []
        for webhook_id, body in pending:
            batch_method = self.halo.webhooks.get(webhook_id, {}).get("batch_method")
            last_batch = next((b for w, b in reversed(batches) if w == webhook_id), None)
            if (
                batch_method
                and last_batch is not None
                and (batch_method == 3 or last_batch[0].get("event") == body.get("event"))
            ):
                last_batch.append(body)
            else:
                batches.append((webhook_id, [body]))
        for webhook_id, bodies in batches:
            webhook = self.halo.webhooks.get(webhook_id)
            if webhook is not None and webhook.get("active"):
                self.send(webhook, bodies if webhook.get("batch_method") else bodies[0])
        return len(batches)

    def send(self, webhook: Mapping[str, Any], body: object) -> None:
        """Send one request and record it in the delivery log. A webhook that fails too often is disabled, if so
        configured."""
        content = json.dumps(body, ensure_ascii=False).encode()
        started_at = time.monotonic()
        status, text, error = 0, "", ""
        try:
            status, text = (self.deliver or post)(webhook, content)
        except OSError as problem:
            error = str(problem)
        with self.halo.lock:
            first_message = body[0] if isinstance(body, list) else body
            self.halo.deliveries.append(
                {
                    "id": str(uuid.uuid4()), "webhook_id": webhook["id"], "timestamp": self.halo.local_time(),
                    "status": 1 if 200 <= status < 300 else 2, "duration": int((time.monotonic() - started_at) * 1000),
                    "requestbody": content.decode(), "responsestatus": status, "responsebody": text, "error": error,
                    "entity_id": first_message.get("object_id") if isinstance(first_message, Mapping) else None,
                }
            )  # fmt: skip
            stored = self.halo.webhooks.get(str(webhook["id"]))
            if stored is not None:
                failed = 0 if 200 <= status < 300 else stored.get("failed", 0) + 1
                limit = stored.get("auto_disable_attempts") or 0
                stored |= {"failed": failed, "last_status": status}
                if limit and failed >= limit:
                    stored["active"] = False

    def send_again(self, delivery_id: str) -> None:
        """Redeliver an entry of the log: the same body with the same delivery id."""
        row = next(entry for entry in self.halo.deliveries if entry["id"] == delivery_id)
        self.send(self.halo.webhooks[row["webhook_id"]], json.loads(row["requestbody"]))


def post(webhook: Mapping[str, Any], content: bytes) -> tuple[int, str]:
    """Post a body to the webhook's URL."""
    request = urllib.request.Request(str(webhook["url"]), content, {"Content-Type": "application/json"})  # noqa: S310
    if webhook.get("basic_username"):
        pair = f"{webhook['basic_username']}:{webhook.get('basic_password', '')}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status, response.read(2000).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(2000).decode("utf-8", "replace")
