"""A client for Halo's REST API: cached token, array bodies, pagination, and responses in varying shapes.

Knows nothing of alerts and holds no database connection.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from tocsin.core.errors import Permanent, TocsinError
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import Reason
from tocsin.outbound.connectors.haloitsm import errors, reasons
from tocsin.outbound.connectors.interfaces import IntegrationAccount, RecordedClient

#: Tickets per page.
PAGE_SIZE = 50
#: The maximum number of pages per poll; the next poll reads further pages.
MAX_LIST_PAGES = 40
#: Lists and complete tickets can be long.
MAX_RESPONSE_BYTES = 8 * 1024 * 1024

#: The API path of each list.
LISTS: Mapping[str, str] = {
    "status": "Status",
    "team": "Team",
    "agent": "Agent",
    "priority": "Priority",
    "ticket_type": "TicketType",
    "outcome": "Outcome",
}


type Query = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _HaloToken:
    text: str
    until: datetime


@dataclass(slots=True)
class HaloClient:
    """One Halo account as one API application. Thread-safe: each caller passes its own recorded client."""

    account: IntegrationAccount
    _token: _HaloToken | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base(self) -> str:
        return str(self.account.settings["base_url"])

    def get(
        self,
        http_client: RecordedClient,
        path: str,
        now: datetime,
        operation: Reason,
        *,
        ticket: str = "",
        query: Query | None = None,
    ) -> Any:
        """Returns the JSON response. Raises the errors of `errors.of_answer`."""
        return self.get_dated(http_client, path, now, operation, ticket=ticket, query=query)[0]

    def get_dated(
        self,
        http_client: RecordedClient,
        path: str,
        now: datetime,
        operation: Reason,
        *,
        ticket: str = "",
        query: Query | None = None,
    ) -> tuple[Any, datetime]:
        """Like `get`, with the time of the response by Halo's clock (the Date header; `now` without one)."""
        query_string = f"?{urlencode({name: _query_value(value) for name, value in query.items()})}" if query else ""
        response = self._request(http_client, "GET", f"{self.base}/api/{path}{query_string}", b"", now)
        if response.status != 200:
            raise self._request_error(http_client, response, now, operation, ticket, is_write=False)
        return _json(response, operation, is_write=False), _response_date(response, now)

    def post(
        self,
        http_client: RecordedClient,
        path: str,
        body: Mapping[str, object],
        now: datetime,
        operation: Reason,
        ticket: str = "",
    ) -> Any:
        """Posts one object, in an array as Halo requires. Returns the object in the response. Raises as `get`."""
        content = json.dumps([body], ensure_ascii=False).encode()
        response = self._request(http_client, "POST", f"{self.base}/api/{path}", content, now)
        if response.status not in (200, 201):
            raise self._request_error(http_client, response, now, operation, ticket, is_write=True)
        payload = _json(response, operation, is_write=True)
        written_object = payload[-1] if isinstance(payload, list) and payload else payload
        if path in ("Actions", "Tickets") and errors.is_refusal(written_object):
            raise errors.refusal_error(response, operation)
        return written_object

    def delete(self, http_client: RecordedClient, path: str, now: datetime, operation: Reason) -> None:
        """Deletes an object. An object that no longer exists is not an error."""
        response = self._request(http_client, "DELETE", f"{self.base}/api/{path}", b"", now)
        if response.status not in (200, 201, 202, 204, 404):
            raise errors.response_error(response, operation, is_write=True)
        if errors.is_html_page(response):
            raise errors.html_page_error(response, operation, is_write=True)

    def list_entries(self, http_client: RecordedClient, list_name: str, now: datetime) -> list[dict[str, Any]]:
        """One of Halo's lists in full, whether the response is a bare array or wrapped in an object."""
        payload = self.get(http_client, LISTS[list_name], now, reasons.READ_LIST(list=reasons.list_name(list_name)))
        return extract_rows(payload)

    def iter_ticket_pages(
        self, http_client: RecordedClient, now: datetime, query: Query, first_page: int = 1
    ) -> Iterator[tuple[list[dict[str, Any]], datetime]]:
        """Yields tickets page by page, starting with page `first_page`, each page with the time of Halo's response."""
        for page_number in range(first_page, first_page + MAX_LIST_PAGES):
            payload, responded_at = self.get_dated(
                http_client,
                "Tickets",
                now,
                reasons.READ_TICKETS(),
                query={"pageinate": True, "page_no": page_number, "page_size": PAGE_SIZE, **query},
            )
            rows = extract_rows(payload)
            yield rows, responded_at
            if len(rows) < PAGE_SIZE:
                return

    def get_ticket(self, http_client: RecordedClient, ticket_id: str, now: datetime) -> tuple[dict[str, Any], datetime]:
        """One ticket with all details. Raises TicketNotFound if Halo does not show it."""
        ticket, responded_at = self.get_dated(
            http_client,
            f"Tickets/{ticket_id}",
            now,
            reasons.READ_TICKET(ticket=ticket_id),
            ticket=ticket_id,
            query={"includedetails": True},
        )
        if not isinstance(ticket, dict):
            raise Permanent(reasons.NOT_A_TICKET(ticket=ticket_id))
        return ticket, responded_at

    def list_actions(self, http_client: RecordedClient, ticket_id: str, now: datetime) -> list[dict[str, Any]]:
        """The actions on a ticket, without Halo's system actions."""
        payload = self.get(
            http_client, "Actions", now, reasons.READ_ACTIONS(ticket=ticket_id), ticket=ticket_id,
            query={"ticket_id": ticket_id, "excludesys": True},
        )  # fmt: skip
        return extract_rows(payload)

    def current_agent(self, http_client: RecordedClient, now: datetime) -> dict[str, Any]:
        """The agent as which Tocsin is signed in."""
        agent = self.get(http_client, "Agent/me", now, reasons.READ_OWN_AGENT())
        return agent if isinstance(agent, dict) else {}

    def forget_token(self, used_token: str = "") -> None:  # nosec B107 # any token
        """Drops the cached token, so that the next request gets a new one; permissions are fixed when a token is
        issued.

        With `used_token`, the token is dropped only if no other thread has replaced it yet.
        """
        with self._lock:
            if not used_token or (self._token is not None and self._token.text == used_token):
                self._token = None

    def _request(
        self, http_client: RecordedClient, method: str, url: str, content: bytes, now: datetime
    ) -> EgressResponse:
        token = self._current_token(http_client, now)
        response = self._request_once(http_client, method, url, content, token)
        if response.status == 401:
            # The token may have ended early. A 401 with a fresh token is final.
            self.forget_token(token)
            response = self._request_once(http_client, method, url, content, self._current_token(http_client, now))
        return response

    def _request_error(
        self,
        http_client: RecordedClient,
        response: EgressResponse,
        now: datetime,
        operation: Reason,
        ticket: str,
        *,
        is_write: bool,
    ) -> TocsinError:
        """The error for a failed request.

        On a 401 with an empty body, checks whether Halo rejects Tocsin or just hides this ticket: a hidden ticket must
        not block all others.
        """
        if ticket and response.status == 401 and not errors.error_text(response.body):
            agent_response = self._request(http_client, "GET", f"{self.base}/api/Agent/me", b"", now)
            if agent_response.status == 200:
                return errors.not_found_error(response, ticket)
        return errors.response_error(response, operation, is_write=is_write, ticket=ticket)

    def _request_once(
        self, http_client: RecordedClient, method: str, url: str, content: bytes, token: str
    ) -> EgressResponse:
        http_client.mask_secret(token)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "Tocsin"}
        if content:
            headers["Content-Type"] = "application/json"
        return http_client.request(method, url, headers=headers, content=content, max_bytes=MAX_RESPONSE_BYTES)

    def _current_token(self, http_client: RecordedClient, now: datetime) -> str:
        with self._lock:
            if self._token is None or self._token.until <= now:
                self._token = self._fetch_token(http_client, now)
            return self._token.text

    def _fetch_token(self, http_client: RecordedClient, now: datetime) -> _HaloToken:
        scope = str(self.account.settings.get("scope", "all"))
        response = self._request_token(http_client, scope)
        if response.status == 200:
            try:
                payload = json.loads(response.body)
                lifetime = int(payload.get("expires_in") or 3600)
                return _HaloToken(str(payload["access_token"]), now + timedelta(seconds=max(30, lifetime - 60)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise errors.token_error(response, self.base, [], []) from None
        scopes = scope.split()
        rejected_scopes: list[str] = []
        if errors.oauth_error_code(response.body) == "invalid_scope" and len(scopes) > 1:
            rejected_scopes = [
                single_scope for single_scope in scopes if self._request_token(http_client, single_scope).status != 200
            ]
        raise errors.token_error(response, self.base, scopes, rejected_scopes)

    def _request_token(self, http_client: RecordedClient, scope: str) -> EgressResponse:
        settings = self.account.settings
        tenant = f"?{urlencode({'tenant': settings['tenant']})}" if settings.get("tenant") else ""
        fields = {
            "grant_type": "client_credentials",
            "client_id": settings.get("client_id", ""),
            "client_secret": self.account.secrets.get("client_secret", ""),
            "scope": scope,
        }
        return http_client.request(
            "POST",
            f"{self.base}/auth/token{tenant}",
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            content=urlencode(fields).encode(),
            logged_body=f"(client id and secret) scope={scope}",
        )


def extract_rows(payload: object) -> list[dict[str, Any]]:
    """The objects of a list, whether bare or wrapped: {"record_count": 1, "tickets": [...]}."""
    if isinstance(payload, dict):
        payload = next((value for value in payload.values() if isinstance(value, list)), [])
    return [row for row in payload if isinstance(row, dict)] if isinstance(payload, list) else []


def id_text(value: object) -> str:
    """An id as text: 7, "7" and 7.0 all become "7"; "" for none."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _query_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(response: EgressResponse, operation: Reason, *, is_write: bool) -> Any:
    if errors.is_html_page(response):
        raise errors.html_page_error(response, operation, is_write=is_write)
    if not response.body.strip():
        return {}
    try:
        return json.loads(response.body)
    except ValueError:
        raise Permanent(
            reasons.NOT_JSON(operation=operation, message=errors.error_text(response.body)[:100]),
            reasons.CHECK_FOR_PROXY(),
        ) from None


def _response_date(response: EgressResponse, now: datetime) -> datetime:
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).astimezone(UTC)
    except (ValueError, TypeError):
        return now
