"""Maps every form of Halo error to one clear sentence and what to do about it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import unescape

from tocsin.core.errors import Permanent, Temporary, TocsinError
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown
from tocsin.outbound.connectors.interfaces import NeedsAttention, Throttled

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


class TicketNotFound(Permanent):
    """The ticket does not exist, or Tocsin's agent may not see it."""


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
        return Throttled("Halo asks for patience (429).", response.retry_after)
    if response.status >= 500 or response.status == 408:
        return Temporary(f"Halo answers {response.status} when asked for a token.", response.retry_after)
    if is_html_page(response):
        return html_page_error(response, "for a token", is_write=False)
    match code:
        case "invalid_client" | "unauthorized_client":
            return NeedsAttention(
                "Halo does not accept the client id and secret.",
                "Copy both again from the application in Halo (Configuration, Integrations, Halo API): the secret is "
                "shown only once, so make a new one if it is lost or has expired.",
            )
        case "invalid_scope":
            scope_names = ", ".join(rejected_scopes or scopes)
            return NeedsAttention(
                f"Halo does not know or grant the scope {scope_names}; one that it does not know fails the "
                "whole request.",
                "Take it out, or use the scope all, and give the application that permission in Halo.",
            )
        case "invalid_grant":
            return NeedsAttention(
                "Halo does not let this application sign in.",
                "The application needs the method Client ID and Secret (Services), and an agent to log in as who is "
                "active.",
            )
    if response.status == 404:
        return NeedsAttention(
            f"There is no Halo at {base}: it answers 404 to a request for a token.",
            "Check the address; on shared hosting, the tenant too.",
        )
    text = f" It said: {message}" if message else ""
    return NeedsAttention(
        f"Halo refuses to give a token ({response.status}).{text}", "Check address, tenant, client id and secret."
    )


def response_error(response: EgressResponse, operation: str, *, is_write: bool, ticket: str = "") -> TocsinError:
    """The error for a failed request. `operation` completes a sentence, such as "write a note"."""
    message = error_text(response.body)
    quote = f" Halo said: {_end_sentence(message)}" if message else ""
    match response.status:
        case 429:
            return Throttled("Halo asks for patience: too many requests (429).", response.retry_after)
        case 502 | 504 if is_write:
            return OutcomeUnknown(f"Halo did not say in time whether it could {operation} ({response.status}).")
        case status if status >= 500 or status == 408:
            return Temporary(f"Halo could not {operation} now ({status}).{quote}", response.retry_after)
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
                f"Halo refuses Tocsin's token when asked to {operation} (401).{quote}",
                "Look whether the application in Halo is active, and whether its agent may log in.",
            )
        case 403:
            return Permanent(
                f"Halo does not let Tocsin {operation} ({response.status}).{quote or ' It does not say why.'}",
                "The application's permissions or its agent's role lack the right; after a change, press Test.",
            )
        case 404:
            return Permanent(f"Halo knows nothing there when asked to {operation} (404).{quote}")
    return _error_from_text(response, message, operation)


def is_html_page(response: EgressResponse) -> bool:
    """Whether a 2xx response is HTML: a proxy's sign-in form, or a notice that Halo is unavailable."""
    is_html = response.headers.get("content-type", "").lower().startswith("text/html")
    return 200 <= response.status < 300 and (is_html or response.body.lstrip()[:1] == b"<")


def html_page_error(response: EgressResponse, operation: str, *, is_write: bool) -> TocsinError:
    """The error for an HTML response, which is retried. `operation` completes a sentence, such as "to write a note"."""
    title_match = _TITLE.search(response.body.decode("utf-8", "replace"))
    title = _single_line(unescape(title_match[1]))[:100] if title_match is not None else ""
    detail = (
        f"Halo answered with a web page when asked {operation} "
        f"({response.status}){_end_sentence(f': {title}' if title else '')} "
        "A sign-in page or a proxy may stand in between; check the address if it stays so."
    )
    return (OutcomeUnknown if is_write else Temporary)(detail, response.retry_after)


def is_refusal(payload: object) -> bool:
    """Whether a 2xx response contains a text or an error instead of the written object."""
    if isinstance(payload, str):
        return bool(payload.strip())
    if not isinstance(payload, Mapping) or "id" in payload:
        return False
    return any(str(key).casefold() in ("error", "errors", "message") and value for key, value in payload.items())


def refusal_error(response: EgressResponse, operation: str) -> TocsinError:
    """The error for a request that failed despite its 2xx status."""
    return _error_from_text(response, error_text(response.body), operation)


def not_found_error(response: EgressResponse, ticket: str, quote: str = "") -> TicketNotFound:
    """The error for a ticket that does not exist for Tocsin; `quote` is Halo's own message."""
    return TicketNotFound(
        f"Halo shows no ticket {ticket} to Tocsin ({response.status}): it was deleted, or Tocsin's agent may not see "
        f"it.{quote}",
        "If it is there, let the agent see tickets of its team and others'.",
    )


def _error_from_text(response: EgressResponse, message: str, operation: str) -> TocsinError:
    if _ASSIGN_FIRST.search(message):
        return AgentRequired("Halo closes no ticket that has no agent.", "Give it one, or let Tocsin assign it.")
    if _NO_ACCESS.search(message):
        return NoteRejected(
            f"Halo does not let Tocsin's agent use the action of its notes. Halo said: {_end_sentence(message)}",
            "Choose another note action, or allow this one in the agent's role.",
        )
    if _NO_OUTCOME.search(message):
        return NoteRejected(
            "Halo wants an action for the note, and does not know the one that is set.", "Choose another note action."
        )
    text = message or "nothing"
    return Permanent(f"Halo refused to {operation} ({response.status}). It said: {text}")


def _end_sentence(message: str) -> str:
    """Halo's message, terminated so that another sentence can follow."""
    return message if message.endswith((".", "!", "?", "…")) else f"{message}."
