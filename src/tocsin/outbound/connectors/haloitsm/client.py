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
from tocsin.outbound.connectors.haloitsm import errors
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
        line: RecordedClient,
        path: str,
        now: datetime,
        doing: str,
        *,
        ticket: str = "",
        query: Query | None = None,
    ) -> Any:
        """Returns the JSON response. Raises the errors of `errors.of_answer`."""
        return self.get_dated(line, path, now, doing, ticket=ticket, query=query)[0]

    def get_dated(
        self,
        line: RecordedClient,
        path: str,
        now: datetime,
        doing: str,
        *,
        ticket: str = "",
        query: Query | None = None,
    ) -> tuple[Any, datetime]:
        """Like `get`, with the time of the response by Halo's clock (the Date header; `now` without one)."""
        asked = f"?{urlencode({name: _said(value) for name, value in query.items()})}" if query else ""
        answer = self._request(line, "GET", f"{self.base}/api/{path}{asked}", b"", now)
        if answer.status != 200:
            raise self._problem(line, answer, now, doing, ticket, is_write=False)
        return _json(answer, doing, is_write=False), _date(answer, now)

    def post(
        self, line: RecordedClient, path: str, body: Mapping[str, object], now: datetime, doing: str, ticket: str = ""
    ) -> Any:
        """Posts one object, in an array as Halo requires. Returns the object in the response. Raises as `get`."""
        content = json.dumps([body], ensure_ascii=False).encode()
        answer = self._request(line, "POST", f"{self.base}/api/{path}", content, now)
        if answer.status not in (200, 201):
            raise self._problem(line, answer, now, doing, ticket, is_write=True)
        found = _json(answer, doing, is_write=True)
        one = found[-1] if isinstance(found, list) and found else found
        if path in ("Actions", "Tickets") and errors.is_refusal(one):
            raise errors.refusal_error(answer, doing)
        return one

    def delete(self, line: RecordedClient, path: str, now: datetime, doing: str) -> None:
        """Deletes an object. An object that no longer exists is not an error."""
        answer = self._request(line, "DELETE", f"{self.base}/api/{path}", b"", now)
        if answer.status not in (200, 201, 202, 204, 404):
            raise errors.response_error(answer, doing, is_write=True)
        if errors.is_page(answer):
            raise errors.html_page_error(answer, f"to {doing}", is_write=True)

    def items(self, line: RecordedClient, noun: str, now: datetime) -> list[dict[str, Any]]:
        """One of Halo's lists in full, whether the response is a bare array or wrapped in an object."""
        found = self.get(line, LISTS[noun], now, f"read the list of {noun.replace('_', ' ')}s")
        return rows_of(found)

    def pages(
        self, line: RecordedClient, now: datetime, query: Query, first: int = 1
    ) -> Iterator[tuple[list[dict[str, Any]], datetime]]:
        """Yields tickets page by page, starting with page `first`, each page with the time of Halo's response."""
        for number in range(first, first + MAX_LIST_PAGES):
            found, at = self.get_dated(
                line,
                "Tickets",
                now,
                "read tickets",
                query={"pageinate": True, "page_no": number, "page_size": PAGE_SIZE, **query},
            )
            rows = rows_of(found)
            yield rows, at
            if len(rows) < PAGE_SIZE:
                return

    def ticket(self, line: RecordedClient, number: str, now: datetime) -> tuple[dict[str, Any], datetime]:
        """One ticket with all details. Raises TicketNotFound if Halo does not show it."""
        found, at = self.get_dated(
            line, f"Tickets/{number}", now, f"read ticket {number}", ticket=number, query={"includedetails": True}
        )
        if not isinstance(found, dict):
            raise Permanent(f"Halo answered something else than ticket {number}.")
        return found, at

    def actions(self, line: RecordedClient, number: str, now: datetime) -> list[dict[str, Any]]:
        """The actions on a ticket, without Halo's system actions."""
        found = self.get(
            line, "Actions", now, f"read what was done on ticket {number}", ticket=number,
            query={"ticket_id": number, "excludesys": True},
        )  # fmt: skip
        return rows_of(found)

    def me(self, line: RecordedClient, now: datetime) -> dict[str, Any]:
        """The agent as which Tocsin is signed in."""
        found = self.get(line, "Agent/me", now, "see which agent it is")
        return found if isinstance(found, dict) else {}

    def forget_token(self, used: str = "") -> None:
        """Drops the cached token, so that the next request gets a new one; permissions are fixed when a token is
        issued.

        With `used`, the token is dropped only if no other thread has replaced it yet.
        """
        with self._lock:
            if not used or (self._token is not None and self._token.text == used):
                self._token = None

    def _request(self, line: RecordedClient, method: str, url: str, content: bytes, now: datetime) -> EgressResponse:
        token = self._current(line, now)
        answer = self._once(line, method, url, content, token)
        if answer.status == 401:
            # The token may have ended early. A 401 with a fresh token is final.
            self.forget_token(token)
            answer = self._once(line, method, url, content, self._current(line, now))
        return answer

    def _problem(
        self, line: RecordedClient, answer: EgressResponse, now: datetime, doing: str, ticket: str, *, is_write: bool
    ) -> TocsinError:
        """The error for a failed request.

        On a 401 with an empty body, checks whether Halo rejects Tocsin or just hides this ticket: a hidden ticket must
        not block all others.
        """
        if ticket and answer.status == 401 and not errors.error_words(answer.body):
            me = self._request(line, "GET", f"{self.base}/api/Agent/me", b"", now)
            if me.status == 200:
                return errors.not_found_error(answer, ticket)
        return errors.response_error(answer, doing, is_write=is_write, ticket=ticket)

    def _once(self, line: RecordedClient, method: str, url: str, content: bytes, token: str) -> EgressResponse:
        line.hide(token)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "Tocsin"}
        if content:
            headers["Content-Type"] = "application/json"
        return line.request(method, url, headers=headers, content=content, most_bytes=MAX_RESPONSE_BYTES)

    def _current(self, line: RecordedClient, now: datetime) -> str:
        with self._lock:
            if self._token is None or self._token.until <= now:
                self._token = self._fetch(line, now)
            return self._token.text

    def _fetch(self, line: RecordedClient, now: datetime) -> _HaloToken:
        scope = str(self.account.settings.get("scope", "all"))
        answer = self._ask_for_token(line, scope)
        if answer.status == 200:
            try:
                found = json.loads(answer.body)
                lasts = int(found.get("expires_in") or 3600)
                return _HaloToken(str(found["access_token"]), now + timedelta(seconds=max(30, lasts - 60)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise errors.token_error(answer, self.base, [], []) from None
        scopes = scope.split()
        bad: list[str] = []
        if errors.code_of(answer.body) == "invalid_scope" and len(scopes) > 1:
            bad = [one for one in scopes if self._ask_for_token(line, one).status != 200]
        raise errors.token_error(answer, self.base, scopes, bad)

    def _ask_for_token(self, line: RecordedClient, scope: str) -> EgressResponse:
        settings = self.account.settings
        tenant = f"?{urlencode({'tenant': settings['tenant']})}" if settings.get("tenant") else ""
        fields = {
            "grant_type": "client_credentials",
            "client_id": settings.get("client_id", ""),
            "client_secret": self.account.secrets.get("client_secret", ""),
            "scope": scope,
        }
        return line.request(
            "POST",
            f"{self.base}/auth/token{tenant}",
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            content=urlencode(fields).encode(),
            shown=f"(client id and secret) scope={scope}",
        )


def rows_of(found: object) -> list[dict[str, Any]]:
    """The objects of a list, whether bare or wrapped: {"record_count": 1, "tickets": [...]}."""
    if isinstance(found, dict):
        found = next((value for value in found.values() if isinstance(value, list)), [])
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def whole(value: object) -> str:
    """An id as text: 7, "7" and 7.0 all become "7"; "" for none."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(answer: EgressResponse, doing: str, *, is_write: bool) -> Any:
    if errors.is_page(answer):
        raise errors.html_page_error(answer, f"to {doing}", is_write=is_write)
    if not answer.body.strip():
        return {}
    try:
        return json.loads(answer.body)
    except ValueError:
        raise Permanent(
            f"Halo answered something else than JSON when asked to {doing}: {errors.error_words(answer.body)[:100]}",
            "Check the address: a sign-in page or a proxy may stand in between.",
        ) from None


def _date(answer: EgressResponse, now: datetime) -> datetime:
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).astimezone(UTC)
    except (ValueError, TypeError):
        return now
