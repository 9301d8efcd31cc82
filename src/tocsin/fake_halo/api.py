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

_LOOKUP_OF_EVENTS = 64
_TOKEN_LASTS = 3600

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

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any, token: str) -> FakeResponse:
        """Handle one request."""
        with self.halo.lock:
            self.requests.append((method, path))
            reply = self.fault(method, path)
            if reply is None:
                try:
                    reply = self._answer(method, path, query, body, token)
                except FakeHaloError as refused:
                    reply = FakeResponse(refused.status, refused.body, refused.headers)
            dated = {"Date": format_datetime(self.halo.now(), usegmt=True)}
            return FakeResponse(reply.status, reply.body, {**dated, **reply.headers})

    def _answer(self, method: str, path: str, query: Mapping[str, str], body: Any, token: str) -> FakeResponse:
        if path == "/auth/token" and method == "POST":
            return self._token(query, body)
        if path == "/api/authinfo":
            return FakeResponse(200, {"auth_url": "/auth", "tenant_id": self.halo.tenant})
        until = self.halo.tokens.get(token)
        if until is None or until <= self.halo.now():
            raise FakeHaloError(401)
        self._count()
        noun, _, rest = path.removeprefix("/api/").partition("/")
        needed = _RIGHTS.get(noun) or (("read:tickets" if method == "GET" else "edit:tickets") if noun in
                                       ("Tickets", "Actions") else noun)  # fmt: skip
        if needed in self.halo.lacking:
            raise FakeHaloError(403)
        if method == "POST" and not isinstance(body, list):
            raise FakeHaloError(400, {"Message": "The body must be an array."})
        return self._routed(method, noun, rest, query, body)

    def _token(self, query: Mapping[str, str], form: Any) -> FakeResponse:
        halo = self.halo
        if halo.tenant and query.get("tenant") != halo.tenant:
            raise FakeHaloError(400, {"error": "invalid_client", "error_description": "Tenant not found."})
        if (form.get("client_id"), form.get("client_secret")) != (halo.client_id, halo.client_secret):
            described = "The specified client credentials are invalid."
            raise FakeHaloError(400, {"error": "invalid_client", "error_description": described})
        if any(scope not in halo.scopes for scope in form.get("scope", "all").split()):
            raise FakeHaloError(400, {"error": "invalid_scope", "error_description": "..."})
        token = secrets.token_hex(12)
        halo.tokens[token] = halo.now() + timedelta(seconds=_TOKEN_LASTS)
        answer = {
            "scope": form.get("scope"),
            "token_type": "Bearer",  # nosec B105 # a word of OAuth's
            "access_token": token,
            "expires_in": _TOKEN_LASTS,
            "refresh_token": None,  # nosec B105
            "id_token": None,  # nosec B105
        }
        return FakeResponse(200, answer)

    def _count(self) -> None:
        if self.limit is None:
            return
        most, seconds = self.limit
        now = self.halo.now()
        self._recent = [at for at in self._recent if now - at < timedelta(seconds=seconds)]
        if len(self._recent) >= most:
            wait = timedelta(seconds=seconds) - (now - self._recent[0])
            headers = {"Retry-After": str(max(1, round(wait.total_seconds())))} if self.retry_after else {}
            raise FakeHaloError(429, None, headers)
        self._recent.append(now)

    def _routed(self, method: str, noun: str, rest: str, query: Mapping[str, str], body: Any) -> FakeResponse:
        halo = self.halo
        if noun == "Agent" and rest == "me":
            return FakeResponse(200, next(row for row in halo.lists["Agent"] if row["id"] == API_AGENT))
        if noun == "Lookup":
            rows = [{"id": number, "name": name.title()} for name, number in EVENTS.items()]
            return FakeResponse(200, rows if query.get("lookupid") == str(_LOOKUP_OF_EVENTS) else [])
        if noun in halo.lists:
            rows = halo.lists[noun]
            is_wrapped = noun in ("Client", "Site", "Users")
            return FakeResponse(200, {"record_count": len(rows), noun.lower(): rows} if is_wrapped else rows)
        match (method, noun):
            case ("GET", "Tickets"):
                return FakeResponse(200, self._ticket(rest, query) if rest else self._tickets(query))
            case ("POST", "Tickets"):
                return FakeResponse(201, [self._write_ticket(one) for one in body][-1])
            case ("GET", "Actions"):
                number = int(query.get("ticket_id") or 0)
                halo.visible(number)
                rows = [one for one in halo.actions if one["ticket_id"] == number]
                return FakeResponse(200, {"ticket_id": number, "record_count": len(rows), "actions": rows})
            case ("POST", "Actions"):
                halo.writes += [("Actions", one) for one in body]
                return FakeResponse(201, [halo.act(one, API_AGENT, "Tocsin") for one in body][-1])
            case (_, "Webhook"):
                return self._webhook(method, rest, body)
            case (_, "Notification"):
                return self._notification(method, rest, query, body)
            case ("GET", "WebhookEvent"):
                rows = [one for one in halo.deliveries if one["webhook_id"] == query.get("webhook_id")]
                return FakeResponse(200, {"record_count": len(rows), "events": rows[-50:]})
        raise FakeHaloError(404)

    def _ticket(self, rest: str, query: Mapping[str, str]) -> dict[str, Any]:
        ticket = self.halo.visible(int(rest))
        return self.halo.linked(ticket) if query.get("includedetails") == "true" else dict(ticket)

    def _tickets(self, query: Mapping[str, str]) -> dict[str, Any]:
        since = query.get("lastupdatefromdate", "")
        found = [
            t for n, t in sorted(self.halo.tickets.items()) if n not in self.halo.hidden and t["last_update"] >= since
        ]
        if query.get("orderdesc") == "true":
            found.reverse()
        number, size = int(query.get("page_no", 1)), min(int(query.get("page_size", 50)), 100)
        shown = found[(number - 1) * size : number * size]
        return {"page_no": number, "page_size": size, "record_count": len(found), "tickets": [dict(t) for t in shown]}

    def _write_ticket(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.halo.writes.append(("Tickets", dict(body)))
        if body.get("id"):
            return dict(self.halo.change(int(body["id"]), body, API_AGENT))
        return dict(self.halo.log(body, API_AGENT))

    def _webhook(self, method: str, rest: str, body: Any) -> FakeResponse:
        hooks = self.halo.webhooks
        if method == "GET":
            if not rest:
                return FakeResponse(200, list(hooks.values()))
            if rest not in hooks:
                raise FakeHaloError(404)
            return FakeResponse(200, hooks[rest])
        if method == "DELETE":
            if hooks.pop(rest, None) is None:
                raise FakeHaloError(404)
            return FakeResponse(200, {})
        given = dict(body[0])
        if given.get("_test"):
            hook = hooks[given["id"]]
            ticket = next(iter(self.halo.tickets.values()), None)
            self.hooks.waiting.append((hook["id"], {
                "id": str(uuid.uuid4()), "webhook_id": hook["id"], "event": "test",
                "message": "This is a test.", "timestamp": self.halo.now().isoformat(),
                **({"object_id": ticket["id"]} if ticket else {}),
            }))  # fmt: skip
            return FakeResponse(201, hook)
        # Events in the posted webhook are ignored, as the real Halo does.
        given.pop("events", None)
        number = given.get("id") or str(uuid.uuid4())
        hook = {**hooks.get(number, {}), **given, "id": number}
        if not str(hook.get("url", "")).startswith(("http://", "https://")):
            raise FakeHaloError(400, {"Message": "Please enter a valid URL"})
        hooks[number] = hook
        return FakeResponse(201, hook)

    def _notification(self, method: str, rest: str, query: Mapping[str, str], body: Any) -> FakeResponse:
        rows = self.halo.notifications
        if method == "GET":
            wanted = query.get("webhook_id")
            return FakeResponse(200, [row for row in rows.values() if wanted in (None, row["webhook_id"])])
        if method == "DELETE":
            if rows.pop(int(rest), None) is None:
                raise FakeHaloError(404)
            return FakeResponse(200, {})
        given = {**body[0], "id": self.halo.number()}
        rows[given["id"]] = given
        return FakeResponse(201, given)
