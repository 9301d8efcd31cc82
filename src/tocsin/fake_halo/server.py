"""The fake Halo as a threaded HTTP server on loopback: API, web page, and a thread that sends webhooks."""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tocsin.fake_halo.state import API_AGENT, DESK_AGENT, EVENTS, UNASSIGNED, FakeHalo, FakeHaloError, FakeHaloEvent

# ---------- hooks
# The fake Halo's webhooks: subscriptions, payload types, batching, the delivery log and redelivery. The transport
# function is replaceable.


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


# ---------- api
# The fake Halo's REST API as a function from request to response, without sockets.


_EVENT_LOOKUP_ID = 64
_TOKEN_LIFETIME = 3600

#: Right of the application that a request needs, by the first part of its path.
_RIGHTS = {"Webhook": "webhooks", "Notification": "webhooks", "WebhookEvent": "webhooks"}


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """Status, body (JSON, text or none) and headers."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeHaloApi:
    """The API of one Halo. `fault` may respond in its place; `limit` is the rate limit (requests, seconds)."""

    halo: FakeHalo
    hooks: WebhookSender
    fault: Callable[[str, str], FakeResponse | None] = lambda method, path: None
    limit: tuple[int, float] | None = None
    retry_after: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    _recent: list[datetime] = field(default_factory=list)

    def handle(self, method: str, path: str, query: Mapping[str, str], body: Any, token: str) -> FakeResponse:
        """Handle one request."""
        with self.halo.lock:
            self.requests.append((method, path))
            reply = self.fault(method, path)
            if reply is None:
                try:
                    reply = self._dispatch(method, path, query, body, token)
                except FakeHaloError as error:
                    reply = FakeResponse(error.status, error.body, error.headers)
            date_header = {"Date": format_datetime(self.halo.now(), usegmt=True)}
            return FakeResponse(reply.status, reply.body, {**date_header, **reply.headers})

    def _dispatch(self, method: str, path: str, query: Mapping[str, str], body: Any, token: str) -> FakeResponse:
        if path == "/auth/token" and method == "POST":
            return self._token(query, body)
        if path == "/api/authinfo":
            return FakeResponse(200, {"auth_url": "/auth", "tenant_id": self.halo.tenant})
        expires_at = self.halo.tokens.get(token)
        if expires_at is None or expires_at <= self.halo.now():
            raise FakeHaloError(401)
        self._check_rate_limit()
        resource, _, object_id = path.removeprefix("/api/").partition("/")
        required_right = _RIGHTS.get(resource) or (("read:tickets" if method == "GET" else "edit:tickets") if resource
        in
                                       ("Tickets", "Actions") else resource)  # fmt: skip
        if required_right in self.halo.missing_rights:
            raise FakeHaloError(403)
        if method == "POST" and not isinstance(body, list):
            raise FakeHaloError(400, {"Message": "The body must be an array."})
        return self._route(method, resource, object_id, query, body)

    def _token(self, query: Mapping[str, str], form: Any) -> FakeResponse:
        halo = self.halo
        if halo.tenant and query.get("tenant") != halo.tenant:
            raise FakeHaloError(400, {"error": "invalid_client", "error_description": "Tenant not found."})
        if (form.get("client_id"), form.get("client_secret")) != (halo.client_id, halo.client_secret):
            description = "The specified client credentials are invalid."
            raise FakeHaloError(400, {"error": "invalid_client", "error_description": description})
        if any(scope not in halo.scopes for scope in form.get("scope", "all").split()):
            raise FakeHaloError(400, {"error": "invalid_scope", "error_description": "..."})
        token = secrets.token_hex(12)
        halo.tokens[token] = halo.now() + timedelta(seconds=_TOKEN_LIFETIME)
        payload = {
            "scope": form.get("scope"),
            "token_type": "Bearer",  # nosec B105 # a word of OAuth's
            "access_token": token,
            "expires_in": _TOKEN_LIFETIME,
            "refresh_token": None,  # nosec B105
            "id_token": None,  # nosec B105
        }
        return FakeResponse(200, payload)

    def _check_rate_limit(self) -> None:
        if self.limit is None:
            return
        max_requests, seconds = self.limit
        now = self.halo.now()
        self._recent = [at for at in self._recent if now - at < timedelta(seconds=seconds)]
        if len(self._recent) >= max_requests:
            delay = timedelta(seconds=seconds) - (now - self._recent[0])
            headers = {"Retry-After": str(max(1, round(delay.total_seconds())))} if self.retry_after else {}
            raise FakeHaloError(429, None, headers)
        self._recent.append(now)

    def _route(self, method: str, resource: str, object_id: str, query: Mapping[str, str], body: Any) -> FakeResponse:
        halo = self.halo
        if resource == "Agent" and object_id == "me":
            return FakeResponse(200, next(row for row in halo.lists["Agent"] if row["id"] == API_AGENT))
        if resource == "Lookup":
            rows = [{"id": ticket_id, "name": name.title()} for name, ticket_id in EVENTS.items()]
            return FakeResponse(200, rows if query.get("lookupid") == str(_EVENT_LOOKUP_ID) else [])
        if resource in halo.lists:
            rows = halo.lists[resource]
            is_wrapped = resource in ("Client", "Site", "Users")
            return FakeResponse(200, {"record_count": len(rows), resource.lower(): rows} if is_wrapped else rows)
        match (method, resource):
            case ("GET", "Tickets"):
                return FakeResponse(200, self._ticket(object_id, query) if object_id else self._tickets(query))
            case ("POST", "Tickets"):
                return FakeResponse(201, [self._write_ticket(item) for item in body][-1])
            case ("GET", "Actions"):
                ticket_id = int(query.get("ticket_id") or 0)
                halo.find_visible(ticket_id)
                rows = [item for item in halo.actions if item["ticket_id"] == ticket_id]
                return FakeResponse(200, {"ticket_id": ticket_id, "record_count": len(rows), "actions": rows})
            case ("POST", "Actions"):
                halo.writes += [("Actions", item) for item in body]
                return FakeResponse(201, [halo.add_action(item, API_AGENT, "Tocsin") for item in body][-1])
            case (_, "Webhook"):
                return self._webhook(method, object_id, body)
            case (_, "Notification"):
                return self._notification(method, object_id, query, body)
            case ("GET", "WebhookEvent"):
                rows = [item for item in halo.deliveries if item["webhook_id"] == query.get("webhook_id")]
                return FakeResponse(200, {"record_count": len(rows), "events": rows[-50:]})
        raise FakeHaloError(404)

    def _ticket(self, ticket_id: str, query: Mapping[str, str]) -> dict[str, Any]:
        ticket = self.halo.find_visible(int(ticket_id))
        return self.halo.with_linked_objects(ticket) if query.get("includedetails") == "true" else dict(ticket)

    def _tickets(self, query: Mapping[str, str]) -> dict[str, Any]:
        since = query.get("lastupdatefromdate", "")
        matches = [
            t for n, t in sorted(self.halo.tickets.items()) if n not in self.halo.hidden and t["last_update"] >= since
        ]
        if query.get("orderdesc") == "true":
            matches.reverse()
        page_number, size = int(query.get("page_no", 1)), min(int(query.get("page_size", 50)), 100)
        page_rows = matches[(page_number - 1) * size : page_number * size]
        return {
            "page_no": page_number,
            "page_size": size,
            "record_count": len(matches),
            "tickets": [dict(t) for t in page_rows],
        }

    def _write_ticket(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.halo.writes.append(("Tickets", dict(body)))
        if body.get("id"):
            return dict(self.halo.change_ticket(int(body["id"]), body, API_AGENT))
        return dict(self.halo.create_ticket(body, API_AGENT))

    def _webhook(self, method: str, webhook_id: str, body: Any) -> FakeResponse:
        hooks = self.halo.webhooks
        if method == "GET":
            if not webhook_id:
                return FakeResponse(200, list(hooks.values()))
            if webhook_id not in hooks:
                raise FakeHaloError(404)
            return FakeResponse(200, hooks[webhook_id])
        if method == "DELETE":
            if hooks.pop(webhook_id, None) is None:
                raise FakeHaloError(404)
            return FakeResponse(200, {})
        fields = dict(body[0])
        if fields.get("_test"):
            hook = hooks[fields["id"]]
            ticket = next(iter(self.halo.tickets.values()), None)
            self.hooks.pending.append((hook["id"], {
                "id": str(uuid.uuid4()), "webhook_id": hook["id"], "event": "test",
                "message": "This is a test.", "timestamp": self.halo.now().isoformat(),
                **({"object_id": ticket["id"]} if ticket else {}),
            }))  # fmt: skip
            return FakeResponse(201, hook)
        # Events in the posted webhook are ignored, as the real Halo does.
        fields.pop("events", None)
        saved_id = fields.get("id") or str(uuid.uuid4())
        hook = {**hooks.get(saved_id, {}), **fields, "id": saved_id}
        if not str(hook.get("url", "")).startswith(("http://", "https://")):
            raise FakeHaloError(400, {"Message": "Please enter a valid URL"})
        hooks[saved_id] = hook
        return FakeResponse(201, hook)

    def _notification(self, method: str, notification_id: str, query: Mapping[str, str], body: Any) -> FakeResponse:
        rows = self.halo.notifications
        if method == "GET":
            webhook_id = query.get("webhook_id")
            return FakeResponse(200, [row for row in rows.values() if webhook_id in (None, row["webhook_id"])])
        if method == "DELETE":
            if rows.pop(int(notification_id), None) is None:
                raise FakeHaloError(404)
            return FakeResponse(200, {})
        notification = {**body[0], "id": self.halo.next_id()}
        rows[notification["id"]] = notification
        return FakeResponse(201, notification)


# ---------- ui
# The fake Halo's only web page, in plain HTML: create, take and close tickets, to show the sync in both directions.


_MAX_TICKETS = 20

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f6fa;color:#182433}
main{max-width:960px;margin:0 auto;padding:24px 16px}h1{font-size:24px;margin:0 0 4px}p{margin:0 0 16px;color:#5b6573}
.card{background:#fff;border:1px solid #dce1e7;border-radius:6px;padding:16px;margin:0 0 16px}
label{display:block;font-weight:600;margin:0 0 4px}
input,select{font:inherit;padding:8px;border:1px solid #8a94a3;border-radius:4px;width:100%;box-sizing:border-box}
.row{display:grid;gap:12px;grid-template-columns:1fr 160px auto;align-items:end}
button{font:inherit;padding:8px 14px;border:1px solid #8a94a3;border-radius:4px;background:#fff;cursor:pointer}
button.main{background:#1f5fbf;border-color:#1f5fbf;color:#fff}.acts{display:flex;gap:8px;flex-wrap:wrap;margin-top:8px}
form{display:inline}
.acts form{display:flex;gap:8px}.acts input{width:220px}
.soft{color:#5b6573}.note{border-left:3px solid #dce1e7;padding-left:8px;margin:6px 0}
@media(max-width:600px){.row{grid-template-columns:1fr}}
@media(prefers-color-scheme:dark){body{background:#151f2c;color:#dce1e7}p,.soft{color:#a3adba}
.card{background:#1b2635;border-color:#2c3a4c}input,select,button{background:#151f2c;color:inherit;border-color:#5b6b80}
button.main{background:#3b82f6;border-color:#3b82f6;color:#fff}.note{border-color:#2c3a4c}}
"""


def page(halo: FakeHalo, problem: str = "") -> str:
    """Return the page with the current tickets."""
    with halo.lock:
        tickets = "".join(_ticket(halo, number) for number in sorted(halo.tickets, reverse=True)[:_MAX_TICKETS])
    priorities = "".join(f"<option value={number}>{name}</option>" for number, name in
                         ((1, "Critical"), (2, "High"), (3, "Medium"), (4, "Low")))  # fmt: skip
    warning = f'<p role="alert"><strong>{escape(problem)}</strong></p>' if problem else ""
    empty = '<div class="card soft">No ticket yet. Log one: Tocsin opens an alert and pages Alice.</div>'
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A small Halo</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style><main><h1>A small Halo</h1>"
        "<p>It stands in for HaloITSM in the demo. You are Sam Service, an agent.</p>"
        f'{warning}<form class="card row" method="post" action="/desk/log"><div><label for="s">Summary</label>'
        '<input id="s" name="summary" value="VPN down: Zürich, 40 users" required></div>'
        f'<div><label for="p">Priority</label><select id="p" name="priority">{priorities}</select></div>'
        f'<button class="main">Log a ticket</button></form>{tickets or empty}'
        '<p class="soft"><a href="/">Refresh</a> to see what Tocsin wrote.</p></main></html>'
    )


def _ticket(halo: FakeHalo, ticket_id: int) -> str:
    ticket = halo.tickets[ticket_id]
    status = halo.find_name("Status", ticket["status_id"])
    agent = halo.find_name("Agent", ticket["agent_id"])
    notes = "".join(
        f'<div class="note"><strong>{escape(str(action["who"]))}</strong> '
        "<span "
        f'class="soft">{escape(action["datetime"][11:16])}{" · private" if action["hiddenfromuser"] else ""}</span><br>'
        f"{action['note_html'] or escape(str(action['note'] or ''))}</div>"
        for action in halo.actions
        if action["ticket_id"] == ticket_id
    )
    actions = (
        [("open", "Open it again")]
        if ticket["status_id"] == 9
        else [("take", "Take it"), ("release", "Give it back"), ("close", "Close it")]
    )
    buttons = "".join(
        f'<form method="post" action="/desk/{verb}"><input type="hidden" name="ticket" value="{ticket_id}">'
        f"<button>{label}</button></form>"
        for verb, label in actions
    )
    return (
        f'<section class="card"><strong>{ticket_id} · {escape(ticket["summary"])}</strong><div class="soft">'
        f"{escape(status)} · {escape(agent)} · "
        f"{escape(halo.find_name('Priority', ticket['priority_id'], 'priorityid'))}"
        f'</div>{notes}<div class="acts">{buttons}<form method="post" action="/desk/note">'
        f'<input type="hidden" name="ticket" value="{ticket_id}"><input name="note" aria-label="Note on {ticket_id}" '
        f'placeholder="A note"> <button>Write</button></form></div></section>'
    )


def act(halo: FakeHalo, verb: str, form: Mapping[str, str]) -> str:
    """Run a button's action; return an error message, or ""."""
    ticket_id = int(form["ticket"]) if form.get("ticket", "").isdecimal() else 0
    try:
        match verb:
            case "log":
                priority = int(form["priority"]) if form.get("priority", "").isdecimal() else 3
                halo.create_ticket({"summary": form.get("summary", "")[:200], "priority_id": priority}, DESK_AGENT)
            case "take":
                halo.change_ticket(ticket_id, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
            case "release":
                halo.change_ticket(ticket_id, {"agent_id": UNASSIGNED}, DESK_AGENT)
            case "close":
                if halo.find_visible(ticket_id)["agent_id"] == UNASSIGNED:
                    halo.change_ticket(ticket_id, {"agent_id": DESK_AGENT}, DESK_AGENT)
                halo.change_ticket(ticket_id, {"status_id": 9}, DESK_AGENT)
            case "open":
                halo.change_ticket(ticket_id, {"status_id": 1}, DESK_AGENT)
            case "note":
                if form.get("note", "").strip():
                    halo.add_action({"ticket_id": ticket_id, "outcome": "Private Note", "note": form["note"][:2000],
                              "hiddenfromuser": True}, DESK_AGENT)  # fmt: skip
    except FakeHaloError as error:
        return str(error.body or f"Halo refuses that ({error.status}).")
    return ""


_MAX_BODY_BYTES = 5 * 1024 * 1024


class HaloServer:
    """The server. `halo` is its state, `api` its API with injectable faults, `hooks` its webhooks.

    After `start`, pending webhooks are sent automatically unless `sends_webhooks` is False; then `hooks.run()` sends
    them.
    """

    def __init__(
        self,
        halo: FakeHalo | None = None,
        *,
        port: int = 0,
        sends_webhooks: bool = True,
        deliver: DeliverWebhook | None = None,
    ):
        self.halo = halo or FakeHalo()
        self.hooks = WebhookSender(self.halo, deliver)
        self.api = FakeHaloApi(self.halo, self.hooks)
        #: Delay of each response, in seconds.
        self.response_delay = 0.0
        self._sends_webhooks = sends_webhooks
        self._stopped = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Start serving."""
        self._threads = [threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)]
        if self._sends_webhooks:
            self._threads.append(threading.Thread(target=self._send, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join(5)

    def _send(self) -> None:
        while not self._stopped.wait(0.05):
            self.hooks.run()


@contextmanager
def running(halo: FakeHalo | None = None, **options: Any) -> Iterator[HaloServer]:
    """Run a server within the `with` block."""
    server = HaloServer(halo, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _handler(server: HaloServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/favicon.ico":
                self._write(204, b"", "image/x-icon")
            elif path == "/":
                self._write(200, page(server.halo).encode(), "text/html; charset=utf-8")
            else:
                self._answer()

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith("/desk/"):
                form = dict(parse_qsl(self._body().decode("utf-8", "replace")))
                problem = act(server.halo, path.removeprefix("/desk/"), form)
                if problem:
                    self._write(409, page(server.halo, problem).encode(), "text/html; charset=utf-8")
                else:
                    self._write(303, b"", "text/plain", {"Location": "/"})
            else:
                self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _body(self) -> bytes:
            return self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _MAX_BODY_BYTES))

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            raw = self._body()
            if server.response_delay:
                time.sleep(server.response_delay)
            try:
                is_form = "form" in self.headers.get("Content-Type", "")
                body: Any = dict(parse_qsl(raw.decode())) if is_form else json.loads(raw) if raw else None
            except ValueError:
                body = None
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            reply = server.api.handle(self.command, parts.path, dict(parse_qsl(parts.query)), body, token)
            self._reply(reply)

        def _reply(self, reply: FakeResponse) -> None:
            if reply.body is None:
                content, kind = b"", "application/json"
            elif isinstance(reply.body, bytes):
                content, kind = reply.body, "text/html"
            else:
                content, kind = json.dumps(reply.body).encode(), "application/json"
            self._write(reply.status, content, kind, reply.headers)

        def _write(self, status: int, content: bytes, kind: str, headers: Any = None) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    return Handler


# ---------- demo
# The fake Halo of the demo: on its own port, with one ticket and with Tocsin's webhook configured.


#: The preferred port.
PORT = 8687


def start() -> HaloServer:
    """Return a fake Halo server. Its ticket numbers start beyond those of earlier runs of the demo."""
    halo = FakeHalo()
    ticket = {
        "summary": "VPN down: Zürich, 40 users",
        "details": "VPN gateway zrh-vpn-01 does not answer.",
        "priority_id": 1,
    }
    # Old enough that the poll for changed tickets does not find the ticket before the curl command sends it.
    a_week_ago = (halo.now() - timedelta(days=7)).replace(tzinfo=None).isoformat(timespec="milliseconds")
    halo.create_ticket(
        ticket | dict.fromkeys(("dateoccurred", "last_update", "lastactiondate"), a_week_ago), agent_id=5
    )
    halo._next_ticket = 30_000 + int(time.time()) % 1_000_000
    try:
        server = HaloServer(halo, port=PORT)
    except OSError:
        server = HaloServer(halo)
    server.start()
    return server


def send_to(server: HaloServer, url: str) -> None:
    """Configure the webhook: every event, with linked objects, to `url`."""
    hook = {"id": "demo", "name": "Tocsin", "url": url, "type": 0, "active": True, "payload_type": FULL_LINKED}
    with server.halo.lock:
        server.halo.webhooks["demo"] = hook
        for event_number in EVENTS.values():
            server.halo.notifications[event_number] = {
                "id": event_number,
                "webhook_id": "demo",
                "eventno": event_number,
            }
