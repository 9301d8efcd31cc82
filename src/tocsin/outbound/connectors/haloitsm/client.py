"""A client for Halo's REST API: cached token, array bodies, pagination, and responses in varying shapes.

Knows nothing of alerts and holds no database connection.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tocsin.core.delivery.circuit_breaker import NeedsAttention, Throttled
from tocsin.core.errors import Permanent, Rejected, Temporary, TocsinError
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Text, joined, sentence
from tocsin.core.validation.inputs import AT_PATH
from tocsin.outbound.connectors.interfaces import IntegrationAccount, RecordedClient
from tocsin.outbound.connectors.tickets import list_label

# ---------- reasons
# Reasons of the HaloITSM connector: its errors and what to do about them, and what was written to a ticket.


# Operations. Each completes a sentence such as "Halo could not {operation} now".
READ_LIST = Text("read the list of {list}")
READ_TICKETS = Text("read tickets")
READ_TICKET = Text("read ticket {ticket}")
READ_ACTIONS = Text("read the actions of ticket {ticket}")
READ_OWN_AGENT = Text("read which agent it signs in as")
ISSUE_TOKEN = Text("issue a token")
WRITE_NOTE = Text("write a note")
CREATE_TICKET = Text("create a ticket")
UPDATE_TICKET = Text("update the ticket")
CHANGE_STATUS = Text("change the status")
ASSIGN_TICKET = Text("assign the ticket")
LIST_WEBHOOKS = Text("list its webhooks")
LIST_WEBHOOKS_BY_SCOPE = Text("list its webhooks (the scope admin:webhooks)")
CHECK_WEBHOOK = Text("read whether its webhook is enabled")
CREATE_WEBHOOK = Text("create a webhook")
DELETE_WEBHOOK = Text("delete the webhook")
READ_WEBHOOK = Text("read the webhook back")
ENABLE_WEBHOOK = Text("enable the webhook")
RESTORE_WEBHOOK = Text("restore the webhook")
CHANGE_WEBHOOK_URL = Text("change the URL of its webhook")
LIST_EVENTS = Text("read its list of events")
LIST_NOTIFICATIONS = Text("list its notifications")
SUBSCRIBE = Text("subscribe the webhook to {event}")
UNSUBSCRIBE = Text("remove the event")
SEND_TEST = Text("send its test")
LIST_DELIVERIES = Text("read its log of deliveries")

# Errors, each with what to do about it.
RATE_LIMITED = ReasonType("halo.rate_limited", "Halo is rate-limiting Tocsin: too many requests (429).")
TOKEN_UNAVAILABLE = ReasonType("halo.token_unavailable", "Halo returned {status} for the token request.")
CREDENTIALS_REJECTED = ReasonType("halo.credentials_rejected", "Halo rejected the client ID and secret.")
COPY_CREDENTIALS = ReasonType(
    "halo.copy_credentials",
    "Copy both again from the application in Halo (Configuration, Integrations, Halo API). The secret is shown only "
    "once: create a new one if it is lost or has expired.",
)
SCOPE_REJECTED = ReasonType(
    "halo.scope_rejected",
    "Halo does not recognize or grant the scope {scopes}; a single unknown scope fails the whole request.",
)
REMOVE_SCOPE = ReasonType(
    "halo.remove_scope", "Remove it, or use the scope all, and give the application that permission in Halo."
)
SIGN_IN_REJECTED = ReasonType("halo.sign_in_rejected", "Halo does not permit this application to sign in.")
CONFIGURE_SIGN_IN = ReasonType(
    "halo.configure_sign_in",
    "The application needs the method Client ID and Secret (Services), and an active agent to log in as.",
)
NOT_AT_ADDRESS = ReasonType("halo.not_at_address", "No Halo found at {address}: the token request returns 404.")
CHECK_ADDRESS = ReasonType("halo.check_address", "Check the URL and, on shared hosting, the tenant.")
TOKEN_REFUSED = ReasonType("halo.token_refused", "Halo refused to issue a token ({status}).")
CHECK_ACCOUNT = ReasonType("halo.check_account", "Check address, tenant, client ID and secret.")
SAID = ReasonType("halo.said", "Halo's response: {message}")
OUTCOME_UNKNOWN = ReasonType(
    "halo.outcome_unknown", "Halo timed out, so it is unknown whether it could {operation} ({status})."
)
UNAVAILABLE = ReasonType("halo.unavailable", "Halo is temporarily unable to {operation} ({status}).")
TOKEN_NOT_ACCEPTED = ReasonType(
    "halo.token_not_accepted", "Halo rejected Tocsin's token when asked to {operation} (401)."
)
CHECK_APPLICATION = ReasonType(
    "halo.check_application", "Check whether the application in Halo is active, and whether its agent may log in."
)
FORBIDDEN = ReasonType("halo.forbidden", "Halo does not permit Tocsin to {operation} ({status}).")
NO_EXPLANATION = ReasonType("halo.no_explanation", "No reason given.")
CHECK_PERMISSIONS = ReasonType(
    "halo.check_permissions",
    "The application's permissions or its agent's role lack the permission; after a change, press Test.",
)
NOT_FOUND = ReasonType("halo.not_found", "Halo found nothing when asked to {operation} (404).")
WEB_PAGE = ReasonType("halo.web_page", "Halo answered with a web page when asked to {operation} ({status}).")
WEB_PAGE_TITLED = ReasonType(
    "halo.web_page_titled", "Halo answered with a web page when asked to {operation} ({status}): {title}"
)
PROXY_BETWEEN = ReasonType(
    "halo.proxy_between", "A sign-in page or a proxy may be in between; check the address if this persists."
)
NOT_JSON = ReasonType("halo.not_json", "Halo did not answer with JSON when asked to {operation}: {message}")
CHECK_FOR_PROXY = ReasonType("halo.check_for_proxy", "Check the address: a sign-in page or a proxy may be in between.")
NOT_A_TICKET = ReasonType("halo.not_a_ticket", "Halo returned unexpected data instead of ticket {ticket}.")
TICKET_NOT_FOUND = ReasonType(
    "halo.ticket_not_found",
    "Ticket {ticket} is not visible to Tocsin ({status}): it was deleted, or Tocsin's agent has no access to it.",
)
SHOW_TICKETS = ReasonType(
    "halo.show_tickets", "If the ticket exists, give the agent access to the tickets of its own and other teams."
)
AGENT_REQUIRED = ReasonType("halo.agent_required", "Halo doesn't close tickets without an agent.")
ASSIGN_AGENT = ReasonType("halo.assign_agent", "Assign the ticket, or let Tocsin assign it.")
OWN_AGENT_UNKNOWN = ReasonType(
    "halo.own_agent_unknown", "Halo doesn't close tickets without an agent, and does not report Tocsin's own agent."
)
NOTE_FORBIDDEN = ReasonType(
    "halo.note_forbidden", "Halo does not permit Tocsin's agent to use the action for its notes."
)
ALLOW_NOTE_ACTION = ReasonType(
    "halo.allow_note_action", "Choose another note action, or allow this one in the agent's role."
)
NOTE_ACTION_UNKNOWN = ReasonType(
    "halo.note_action_unknown", "Halo requires a note action, and the configured one does not exist."
)
CHOOSE_NOTE_ACTION = ReasonType("halo.choose_note_action", "Choose another note action.")
REFUSED = ReasonType("halo.refused", "Halo rejected the request to {operation} ({status}).")
NO_TICKET_NUMBER = ReasonType("halo.no_ticket_number", "Halo did not return the number of the ticket that it created.")

# What was done.
SIGNED_IN = ReasonType(
    "halo.signed_in",
    "Signed in to {address} as {agent}; {count} ticket and {statuses} statuses can be read.",
    "Signed in to {address} as {agent}; {count} tickets and {statuses} statuses can be read.",
)
AGENT_ASSIGNED_TO_CLOSE = ReasonType(
    "halo.agent_assigned_to_close",
    "Assigned the ticket to {agent}, because Halo doesn't close tickets without an agent",
)


# ---------- address
# Normalizes HaloITSM addresses in every form in which users paste them. Pure.


_INVALID_ADDRESS = ReasonType("halo.invalid_address", "must be your Halo URL, such as https://acme.haloitsm.com")

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?", re.IGNORECASE)
#: Path parts that come along when the address is copied from the browser or from Halo's API page.
_TAILS = re.compile(
    r"/(api|auth|ticket|tickets|agent|portal|config|home|login|token|swagger|apidoc)(/.*)?$", re.IGNORECASE
)


def clean_address(text: str) -> tuple[str, str]:
    """Returns the base address and the tenant it names, or "".

    `acme.haloitsm.com/api/`, `https://acme.haloitsm.com/auth/token?tenant=acme` and
    `https://acme.haloitsm.com/tickets?…` all become https://acme.haloitsm.com. Raises Rejected("invalid") for an
    invalid address.
    """
    cleaned = text.strip().strip("<>\"'")
    parts = urlsplit(cleaned if "://" in cleaned else f"https://{cleaned}")
    if parts.scheme.lower() not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
        raise Rejected("invalid", AT_PATH(path="base_url", problem=_INVALID_ADDRESS()), "base_url")
    path = _TAILS.sub("", parts.path.rstrip("/")).rstrip("/")
    tenant = parse_qs(parts.query).get("tenant", [""])[0]
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{path}", tenant


# ---------- errors
# Maps every form of Halo error to one clear reason and what to do about it. Pure.


_MAX_ERROR_CHARS = 300

#: Halo's message when a ticket without an agent is closed (a bare JSON string, with this grammar).
_ASSIGN_FIRST = re.compile(r"please assign this ticket|must be assigned|assign.{0,40}before clos", re.IGNORECASE)
_NO_ACCESS = re.compile(r"do(es)? not have access to this action", re.IGNORECASE)
#: Halo's messages for a ticket that does not exist or is hidden; the wording varies.
_NO_RECORD = re.compile(
    r"restricted|deleted|(record|ticket)s? .{0,20}not (found|exist)|no (such|longer|record|ticket)", re.IGNORECASE
)
#: Messages about the caller rather than the ticket.
_NO_ENTRY = re.compile(r"authori[sz]|token|log ?in|sign ?in|application", re.IGNORECASE)
_NO_OUTCOME = re.compile(r"outcome must be entered", re.IGNORECASE)


_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class AgentRequired(Permanent):
    """Halo requires an agent on the ticket before it can be closed."""


class NoteRejected(Permanent):
    """The role of Tocsin's agent does not allow the action used for notes."""


class ObjectNotFound(Permanent):
    """Halo has no such object (404)."""


class TicketNotFound(Permanent):
    """The ticket does not exist, or Tocsin's agent may not see it. `is_deleted`: Halo answered 404."""

    def __init__(self, reason: Reason, remedy: Reason, *, is_deleted: bool) -> None:
        super().__init__(reason, remedy)
        self.is_deleted = is_deleted


def error_text(body: bytes) -> str:
    """The text of a body of any shape, on one line and without markup; "" when empty."""
    text = body.decode("utf-8", "replace").strip()
    if not text:
        return ""
    try:
        return _single_line(_payload_text(json.loads(text)))
    except ValueError:
        return _single_line(re.sub(r"<[^>]*>", " ", text))


def _payload_text(payload: object) -> str:
    match payload:
        case str():
            return payload
        case list():
            return "; ".join(filter(None, (_payload_text(item) for item in payload[:5])))
        case Mapping():
            fields = {str(key).casefold(): value for key, value in payload.items()}
            if "error" in fields and isinstance(fields["error"], str):
                description = _payload_text(fields.get("error_description") or "")
                return f"{fields['error']}: {description}" if description and description != "..." else fields["error"]
            for key in ("message", "error_description", "detail", "title"):
                if isinstance(fields.get(key), str) and fields[key]:
                    return str(fields[key])
            # Errors by field: {"[0].outcome_id": ["Could not convert …"]}.
            return "; ".join(
                f"{re.sub(r'^\[\d+\]\.', '', str(key))}: {_payload_text(value)}"
                for key, value in list(payload.items())[:5]
            )
        case None:
            return ""
        case _:
            return str(payload)


def _single_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_ERROR_CHARS]


def oauth_error_code(body: bytes) -> str:
    """The OAuth error code of a token response, or ""."""
    try:
        payload = json.loads(body)
    except ValueError:
        return ""
    return str(payload.get("error", "")) if isinstance(payload, Mapping) else ""


def token_error(response: EgressResponse, base: str, scopes: list[str], rejected_scopes: list[str]) -> TocsinError:
    """The error for a failed token request. `rejected_scopes` are the scopes that were rejected one by one."""
    code, message = oauth_error_code(response.body), error_text(response.body)
    if response.status == 429:
        return Throttled(RATE_LIMITED(), response.retry_after)
    if response.status >= 500 or response.status == 408:
        return Temporary(TOKEN_UNAVAILABLE(status=response.status), response.retry_after)
    if is_html_page(response):
        return html_page_error(response, ISSUE_TOKEN(), is_write=False)
    match code:
        case "invalid_client" | "unauthorized_client":
            return NeedsAttention(CREDENTIALS_REJECTED(), COPY_CREDENTIALS())
        case "invalid_scope":
            return NeedsAttention(SCOPE_REJECTED(scopes=tuple(rejected_scopes or scopes)), REMOVE_SCOPE())
        case "invalid_grant":
            return NeedsAttention(SIGN_IN_REJECTED(), CONFIGURE_SIGN_IN())
    if response.status == 404:
        return NeedsAttention(NOT_AT_ADDRESS(address=base), CHECK_ADDRESS())
    return NeedsAttention(_with_quote(TOKEN_REFUSED(status=response.status), _quote(message)), CHECK_ACCOUNT())


def response_error(response: EgressResponse, operation: Reason, *, is_write: bool, ticket: str = "") -> TocsinError:
    """The error for a failed request. `operation` completes a sentence, such as "write a note"."""
    message = error_text(response.body)
    quote = _quote(message)
    match response.status:
        case 429:
            return Throttled(RATE_LIMITED(), response.retry_after)
        case 502 | 504 if is_write:
            return OutcomeUnknown(OUTCOME_UNKNOWN(operation=operation, status=response.status))
        case status if status >= 500 or status == 408:
            unavailable = UNAVAILABLE(operation=operation, status=status)
            return Temporary(_with_quote(unavailable, quote), response.retry_after)
        case 404 if ticket:
            return not_found_error(response, ticket, quote)
        case 401 | 403 if ticket and _NO_RECORD.search(message):
            return not_found_error(response, ticket, quote)
        case 401 if ticket and message and not _NO_ENTRY.search(message) and not _NO_ACCESS.search(message):
            # One hidden ticket must not block all others.
            return not_found_error(response, ticket, quote)
        case 401 | 403 if _NO_ACCESS.search(message):
            return _error_from_text(response, message, operation)
        case 401:
            return NeedsAttention(_with_quote(TOKEN_NOT_ACCEPTED(operation=operation), quote), CHECK_APPLICATION())
        case 403:
            forbidden = FORBIDDEN(operation=operation, status=response.status)
            return Permanent(_with_quote(forbidden, quote or NO_EXPLANATION()), CHECK_PERMISSIONS())
        case 404:
            return ObjectNotFound(_with_quote(NOT_FOUND(operation=operation), quote))
    return _error_from_text(response, message, operation)


def is_html_page(response: EgressResponse) -> bool:
    """Whether a 2xx response is HTML: a proxy's sign-in form, or a notice that Halo is unavailable."""
    is_html = response.headers.get("content-type", "").lower().startswith("text/html")
    return 200 <= response.status < 300 and (is_html or response.body.lstrip()[:1] == b"<")


def html_page_error(response: EgressResponse, operation: Reason, *, is_write: bool) -> TocsinError:
    """The error for an HTML response, which is retried. `operation` completes a sentence, such as "write a note"."""
    title_match = _TITLE.search(response.body.decode("utf-8", "replace"))
    title = _single_line(unescape(title_match[1]))[:100] if title_match is not None else ""
    page = WEB_PAGE(operation=operation, status=response.status)
    if title:
        page = WEB_PAGE_TITLED(operation=operation, status=response.status, title=_end_sentence(title))
    reason = joined(page, PROXY_BETWEEN(), separator=" ")
    return (OutcomeUnknown if is_write else Temporary)(reason, response.retry_after)


def is_refusal(payload: object) -> bool:
    """Whether a 2xx response contains a text or an error instead of the written object."""
    if isinstance(payload, str):
        return bool(payload.strip())
    if not isinstance(payload, Mapping) or "id" in payload:
        return False
    return any(str(key).casefold() in ("error", "errors", "message") and value for key, value in payload.items())


def not_found_error(response: EgressResponse, ticket: str, quote: Reason = NO_REASON) -> TicketNotFound:
    """The error for a ticket that does not exist for Tocsin; `quote` is Halo's own message."""
    return TicketNotFound(
        _with_quote(TICKET_NOT_FOUND(ticket=ticket, status=response.status), quote),
        SHOW_TICKETS(),
        is_deleted=response.status == 404,
    )


def _error_from_text(response: EgressResponse, message: str, operation: Reason) -> TocsinError:
    if _ASSIGN_FIRST.search(message):
        return AgentRequired(AGENT_REQUIRED(), ASSIGN_AGENT())
    if _NO_ACCESS.search(message):
        return NoteRejected(_with_quote(NOTE_FORBIDDEN(), _quote(message)), ALLOW_NOTE_ACTION())
    if _NO_OUTCOME.search(message):
        return NoteRejected(NOTE_ACTION_UNKNOWN(), CHOOSE_NOTE_ACTION())
    return Permanent(
        _with_quote(REFUSED(operation=operation, status=response.status), _quote(message) or NO_EXPLANATION())
    )


def _quote(message: str) -> Reason:
    """Halo's own message, if there is one."""
    return SAID(message=_end_sentence(message)) if message else NO_REASON


def _with_quote(reason: Reason, quote: Reason) -> Reason:
    return joined(reason, quote, separator=" ")


def _end_sentence(message: str) -> str:
    """Halo's message, terminated so that another sentence can follow."""
    return message if message.endswith((".", "!", "?", "…")) else f"{message}."


#: Tickets per page.
PAGE_SIZE = 50
#: The query for the shortest page.
ONE_ROW: Mapping[str, object] = {"pageinate": True, "page_no": 1, "page_size": 1}
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
    """One Halo account as one API application, with its token. Thread-safe: each call has its own session."""

    account: IntegrationAccount
    _token: _HaloToken | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base(self) -> str:
        return str(self.account.settings["base_url"])

    def session(self, http_client: RecordedClient, now: datetime) -> HaloSession:
        return HaloSession(self, http_client, now)

    def forget_token(self, used_token: str = "") -> None:  # nosec B107 # any token
        """Drops the cached token, so that the next request gets a new one; permissions are fixed when a token is
        issued.

        With `used_token`, the token is dropped only if no other thread has replaced it yet.
        """
        with self._lock:
            if not used_token or (self._token is not None and self._token.text == used_token):
                self._token = None

    def current_token(self, http_client: RecordedClient, now: datetime) -> str:
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
                raise token_error(response, self.base, [], []) from None
        scopes, rejected = scope.split(), []
        if oauth_error_code(response.body) == "invalid_scope" and len(scopes) > 1:
            rejected = [single for single in scopes if self._request_token(http_client, single).status != 200]
        raise token_error(response, self.base, scopes, rejected)

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


@dataclass(frozen=True, slots=True)
class HaloSession:
    """The requests of one call to Halo. Raises the errors of `response_error`."""

    client: HaloClient
    http_client: RecordedClient
    now: datetime

    def get(self, path: str, operation: Reason, *, ticket: str = "", query: Query | None = None) -> Any:
        """Returns the JSON response."""
        return self.get_dated(path, operation, ticket=ticket, query=query)[0]

    def get_dated(
        self, path: str, operation: Reason, *, ticket: str = "", query: Query | None = None
    ) -> tuple[Any, datetime]:
        """Like `get`, with the time of the response by Halo's clock (the Date header; `now` without one)."""
        texts = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in (query or {}).items()
        }
        response = self._request("GET", f"{path}?{urlencode(texts)}" if texts else path)
        if response.status != 200:
            raise self._request_error(response, operation, ticket, is_write=False)
        return _json(response, operation, is_write=False), _response_date(response, self.now)

    def post(self, path: str, body: Mapping[str, object], operation: Reason, ticket: str = "") -> Any:
        """Posts one object, in an array as Halo requires. Returns the object in the response."""
        response = self._request("POST", path, json.dumps([body], ensure_ascii=False).encode())
        if response.status not in (200, 201):
            raise self._request_error(response, operation, ticket, is_write=True)
        payload = _json(response, operation, is_write=True)
        written_object = payload[-1] if isinstance(payload, list) and payload else payload
        if path in ("Actions", "Tickets") and is_refusal(written_object):
            raise _error_from_text(response, error_text(response.body), operation)
        return written_object

    def delete(self, path: str, operation: Reason) -> None:
        """Deletes an object. An object that no longer exists is not an error."""
        response = self._request("DELETE", path)
        if response.status not in (200, 201, 202, 204, 404):
            raise response_error(response, operation, is_write=True)
        if is_html_page(response):
            raise html_page_error(response, operation, is_write=True)

    def list_entries(self, list_name: str) -> list[dict[str, Any]]:
        """One of Halo's lists in full, whether the response is a bare array or wrapped in an object."""
        return extract_rows(self.get(LISTS[list_name], READ_LIST(list=list_label(list_name))))

    def iter_ticket_pages(self, query: Query, first_page: int = 1) -> Iterator[tuple[list[dict[str, Any]], datetime]]:
        """Yields tickets page by page, starting with page `first_page`, each page with the time of Halo's response."""
        for page_number in range(first_page, first_page + MAX_LIST_PAGES):
            page = {"pageinate": True, "page_no": page_number, "page_size": PAGE_SIZE, **query}
            payload, responded_at = self.get_dated("Tickets", READ_TICKETS(), query=page)
            rows = extract_rows(payload)
            yield rows, responded_at
            if len(rows) < PAGE_SIZE:
                return

    def get_ticket(self, ticket_id: str) -> tuple[dict[str, Any], datetime]:
        """One ticket with all details. Raises TicketNotFound if Halo does not show it."""
        reading = READ_TICKET(ticket=ticket_id)
        ticket, responded_at = self.get_dated(
            f"Tickets/{ticket_id}", reading, ticket=ticket_id, query={"includedetails": True}
        )
        if not isinstance(ticket, dict):
            raise Permanent(NOT_A_TICKET(ticket=ticket_id))
        return ticket, responded_at

    def list_actions(self, ticket_id: str) -> list[dict[str, Any]]:
        """The actions on a ticket, without Halo's system actions."""
        query = {"ticket_id": ticket_id, "excludesys": True}
        return extract_rows(self.get("Actions", READ_ACTIONS(ticket=ticket_id), ticket=ticket_id, query=query))

    def current_agent(self) -> dict[str, Any]:
        """The agent as which Tocsin is signed in."""
        agent = self.get("Agent/me", READ_OWN_AGENT())
        return agent if isinstance(agent, dict) else {}

    def _request(self, method: str, path: str, content: bytes = b"") -> EgressResponse:
        token = self.client.current_token(self.http_client, self.now)
        response = self._request_once(method, path, content, token)
        if response.status == 401:
            # The token may have ended early. A 401 with a fresh token is final.
            self.client.forget_token(token)
            token = self.client.current_token(self.http_client, self.now)
            response = self._request_once(method, path, content, token)
        return response

    def _request_once(self, method: str, path: str, content: bytes, token: str) -> EgressResponse:
        self.http_client.mask_secret(token)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "Tocsin"}
        if content:
            headers["Content-Type"] = "application/json"
        url = f"{self.client.base}/api/{path}"
        return self.http_client.request(method, url, headers=headers, content=content, max_bytes=MAX_RESPONSE_BYTES)

    def _request_error(
        self, response: EgressResponse, operation: Reason, ticket: str, *, is_write: bool
    ) -> TocsinError:
        """The error for a failed request.

        On a 401 with an empty body, checks whether Halo rejects Tocsin or just hides this ticket: a hidden ticket must
        not block all others.
        """
        is_empty_401 = ticket and response.status == 401 and not error_text(response.body)
        if is_empty_401 and self._request("GET", "Agent/me").status == 200:
            return not_found_error(response, ticket)
        return response_error(response, operation, is_write=is_write, ticket=ticket)


def extract_rows(payload: object) -> list[dict[str, Any]]:
    """The objects of a list, whether bare or wrapped: {"record_count": 1, "tickets": [...]}."""
    if isinstance(payload, dict):
        payload = next((value for value in payload.values() if isinstance(value, list)), [])
    return [row for row in payload if isinstance(row, dict)] if isinstance(payload, list) else []


def agent_name(agent: Mapping[str, Any]) -> str | Reason:
    """An agent's name, for readers."""
    return str(agent["name"]) if agent.get("name") else sentence("an agent without a name")


def id_text(value: object) -> str:
    """An id as text: 7, "7" and 7.0 all become "7"; "" for none."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _json(response: EgressResponse, operation: Reason, *, is_write: bool) -> Any:
    if is_html_page(response):
        raise html_page_error(response, operation, is_write=is_write)
    if not response.body.strip():
        return {}
    try:
        return json.loads(response.body)
    except ValueError:
        not_json = NOT_JSON(operation=operation, message=error_text(response.body)[:100])
        raise Permanent(not_json, CHECK_FOR_PROXY()) from None


def _response_date(response: EgressResponse, now: datetime) -> datetime:
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).astimezone(UTC)
    except (ValueError, TypeError):
        return now
