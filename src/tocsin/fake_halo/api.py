"""The fake Halo's REST API as a function from request to response, without sockets."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from tocsin.fake_halo.hooks import WebhookSender
from tocsin.fake_halo.state import API_AGENT, EVENTS, FakeHalo, FakeHaloError

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
