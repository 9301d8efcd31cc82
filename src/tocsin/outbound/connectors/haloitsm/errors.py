"""Maps every form of Halo error to one clear reason and what to do about it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import unescape

from tocsin.core.delivery.failure import NeedsAttention, Throttled
from tocsin.core.errors import Permanent, Temporary, TocsinError
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, joined
from tocsin.outbound.connectors.haloitsm import reasons

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
        return Throttled(reasons.RATE_LIMITED(), response.retry_after)
    if response.status >= 500 or response.status == 408:
        return Temporary(reasons.TOKEN_UNAVAILABLE(status=response.status), response.retry_after)
    if is_html_page(response):
        return html_page_error(response, reasons.ISSUE_TOKEN(), is_write=False)
    match code:
        case "invalid_client" | "unauthorized_client":
            return NeedsAttention(reasons.CREDENTIALS_REJECTED(), reasons.COPY_CREDENTIALS())
        case "invalid_scope":
            return NeedsAttention(
                reasons.SCOPE_REJECTED(scopes=tuple(rejected_scopes or scopes)), reasons.REMOVE_SCOPE()
            )
        case "invalid_grant":
            return NeedsAttention(reasons.SIGN_IN_REJECTED(), reasons.CONFIGURE_SIGN_IN())
    if response.status == 404:
        return NeedsAttention(reasons.NOT_AT_ADDRESS(address=base), reasons.CHECK_ADDRESS())
    return NeedsAttention(
        _with_quote(reasons.TOKEN_REFUSED(status=response.status), _quote(message)), reasons.CHECK_ACCOUNT()
    )


def response_error(response: EgressResponse, operation: Reason, *, is_write: bool, ticket: str = "") -> TocsinError:
    """The error for a failed request. `operation` completes a sentence, such as "write a note"."""
    message = error_text(response.body)
    quote = _quote(message)
    match response.status:
        case 429:
            return Throttled(reasons.RATE_LIMITED(), response.retry_after)
        case 502 | 504 if is_write:
            return OutcomeUnknown(reasons.OUTCOME_UNKNOWN(operation=operation, status=response.status))
        case status if status >= 500 or status == 408:
            unavailable = reasons.UNAVAILABLE(operation=operation, status=status)
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
            return NeedsAttention(
                _with_quote(reasons.TOKEN_NOT_ACCEPTED(operation=operation), quote), reasons.CHECK_APPLICATION()
            )
        case 403:
            forbidden = reasons.FORBIDDEN(operation=operation, status=response.status)
            return Permanent(_with_quote(forbidden, quote or reasons.NO_EXPLANATION()), reasons.CHECK_PERMISSIONS())
        case 404:
            return ObjectNotFound(_with_quote(reasons.NOT_FOUND(operation=operation), quote))
    return _error_from_text(response, message, operation)


def is_html_page(response: EgressResponse) -> bool:
    """Whether a 2xx response is HTML: a proxy's sign-in form, or a notice that Halo is unavailable."""
    is_html = response.headers.get("content-type", "").lower().startswith("text/html")
    return 200 <= response.status < 300 and (is_html or response.body.lstrip()[:1] == b"<")


def html_page_error(response: EgressResponse, operation: Reason, *, is_write: bool) -> TocsinError:
    """The error for an HTML response, which is retried. `operation` completes a sentence, such as "write a note"."""
    title_match = _TITLE.search(response.body.decode("utf-8", "replace"))
    title = _single_line(unescape(title_match[1]))[:100] if title_match is not None else ""
    page = reasons.WEB_PAGE(operation=operation, status=response.status)
    if title:
        page = reasons.WEB_PAGE_TITLED(operation=operation, status=response.status, title=_end_sentence(title))
    reason = joined(page, reasons.PROXY_BETWEEN(), separator=" ")
    return (OutcomeUnknown if is_write else Temporary)(reason, response.retry_after)


def is_refusal(payload: object) -> bool:
    """Whether a 2xx response contains a text or an error instead of the written object."""
    if isinstance(payload, str):
        return bool(payload.strip())
    if not isinstance(payload, Mapping) or "id" in payload:
        return False
    return any(str(key).casefold() in ("error", "errors", "message") and value for key, value in payload.items())


def refusal_error(response: EgressResponse, operation: Reason) -> TocsinError:
    """The error for a request that failed despite its 2xx status."""
    return _error_from_text(response, error_text(response.body), operation)


def not_found_error(response: EgressResponse, ticket: str, quote: Reason = NO_REASON) -> TicketNotFound:
    """The error for a ticket that does not exist for Tocsin; `quote` is Halo's own message."""
    return TicketNotFound(
        _with_quote(reasons.TICKET_NOT_FOUND(ticket=ticket, status=response.status), quote),
        reasons.SHOW_TICKETS(),
        is_deleted=response.status == 404,
    )


def _error_from_text(response: EgressResponse, message: str, operation: Reason) -> TocsinError:
    if _ASSIGN_FIRST.search(message):
        return AgentRequired(reasons.AGENT_REQUIRED(), reasons.ASSIGN_AGENT())
    if _NO_ACCESS.search(message):
        return NoteRejected(_with_quote(reasons.NOTE_FORBIDDEN(), _quote(message)), reasons.ALLOW_NOTE_ACTION())
    if _NO_OUTCOME.search(message):
        return NoteRejected(reasons.NOTE_ACTION_UNKNOWN(), reasons.CHOOSE_NOTE_ACTION())
    return Permanent(
        _with_quote(
            reasons.REFUSED(operation=operation, status=response.status), _quote(message) or reasons.NO_EXPLANATION()
        )
    )


def _quote(message: str) -> Reason:
    """Halo's own message, if there is one."""
    return reasons.SAID(message=_end_sentence(message)) if message else NO_REASON


def _with_quote(reason: Reason, quote: Reason) -> Reason:
    return joined(reason, quote, separator=" ")


def _end_sentence(message: str) -> str:
    """Halo's message, terminated so that another sentence can follow."""
    return message if message.endswith((".", "!", "?", "…")) else f"{message}."
