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


def error_words(body: bytes) -> str:
    """The text of a body of any shape, on one line and without markup; "" when empty."""
    text = body.decode("utf-8", "replace").strip()
    if not text:
        return ""
    try:
        return _line(_of(json.loads(text)))
    except ValueError:
        return _line(re.sub(r"<[^>]*>", " ", text))


def _of(payload: object) -> str:
    match payload:
        case str():
            return payload
        case list():
            return "; ".join(filter(None, (_of(item) for item in payload[:5])))
        case Mapping():
            named = {str(key).casefold(): value for key, value in payload.items()}
            if "error" in named and isinstance(named["error"], str):
                described = _of(named.get("error_description") or "")
                return f"{named['error']}: {described}" if described and described != "..." else named["error"]
            for key in ("message", "error_description", "detail", "title"):
                if isinstance(named.get(key), str) and named[key]:
                    return str(named[key])
            # Errors by field: {"[0].outcome_id": ["Could not convert …"]}.
            return "; ".join(
                f"{re.sub(r'^\[\d+\]\.', '', str(key))}: {_of(value)}" for key, value in list(payload.items())[:5]
            )
        case None:
            return ""
        case _:
            return str(payload)


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_ERROR_CHARS]


def code_of(body: bytes) -> str:
    """The OAuth error code of a token response, or ""."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("error", "")) if isinstance(found, Mapping) else ""


def token_error(answer: EgressResponse, base: str, scopes: list[str], bad: list[str]) -> TocsinError:
    """The error for a failed token request. `bad` are the scopes that were rejected one by one."""
    code, said = code_of(answer.body), error_words(answer.body)
    if answer.status == 429:
        return Throttled("Halo asks for patience (429).", answer.retry_after)
    if answer.status >= 500 or answer.status == 408:
        return Temporary(f"Halo answers {answer.status} when asked for a token.", answer.retry_after)
    if is_page(answer):
        return html_page_error(answer, "for a token", is_write=False)
    match code:
        case "invalid_client" | "unauthorized_client":
            return NeedsAttention(
                "Halo does not accept the client id and secret.",
                "Copy both again from the application in Halo (Configuration, Integrations, Halo API): the secret is "
                "shown only once, so make a new one if it is lost or has expired.",
            )
        case "invalid_scope":
            named = ", ".join(bad or scopes)
            return NeedsAttention(
                f"Halo does not know or grant the scope {named}; one that it does not know fails the whole request.",
                "Take it out, or use the scope all, and give the application that permission in Halo.",
            )
        case "invalid_grant":
            return NeedsAttention(
                "Halo does not let this application sign in.",
                "The application needs the method Client ID and Secret (Services), and an agent to log in as who is "
                "active.",
            )
    if answer.status == 404:
        return NeedsAttention(
            f"There is no Halo at {base}: it answers 404 to a request for a token.",
            "Check the address; on shared hosting, the tenant too.",
        )
    text = f" It said: {said}" if said else ""
    return NeedsAttention(
        f"Halo refuses to give a token ({answer.status}).{text}", "Check address, tenant, client id and secret."
    )


def response_error(answer: EgressResponse, doing: str, *, is_write: bool, ticket: str = "") -> TocsinError:
    """The error for a failed request. `doing` completes a sentence, such as "write a note"."""
    said = error_words(answer.body)
    quoted = f" Halo said: {_ended(said)}" if said else ""
    match answer.status:
        case 429:
            return Throttled("Halo asks for patience: too many requests (429).", answer.retry_after)
        case 502 | 504 if is_write:
            return OutcomeUnknown(f"Halo did not say in time whether it could {doing} ({answer.status}).")
        case status if status >= 500 or status == 408:
            return Temporary(f"Halo could not {doing} now ({status}).{quoted}", answer.retry_after)
        case 404 if ticket:
            return not_found_error(answer, ticket, quoted)
        case 401 | 403 if ticket and _NO_RECORD.search(said):
            return not_found_error(answer, ticket, quoted)
        case 401 if ticket and said and not _NO_ENTRY.search(said) and not _NO_ACCESS.search(said):
            # One hidden ticket must not block all others.
            return not_found_error(answer, ticket, quoted)
        case 401 | 403 if _NO_ACCESS.search(said):
            return _of_text(answer, said, doing)
        case 401:
            return NeedsAttention(
                f"Halo refuses Tocsin's token when asked to {doing} (401).{quoted}",
                "Look whether the application in Halo is active, and whether its agent may log in.",
            )
        case 403:
            return Permanent(
                f"Halo does not let Tocsin {doing} ({answer.status}).{quoted or ' It does not say why.'}",
                "The application's permissions or its agent's role lack the right; after a change, press Test.",
            )
        case 404:
            return Permanent(f"Halo knows nothing there when asked to {doing} (404).{quoted}")
    return _of_text(answer, said, doing)


def is_page(answer: EgressResponse) -> bool:
    """Whether a 2xx response is HTML: a proxy's sign-in form, or a notice that Halo is unavailable."""
    said = answer.headers.get("content-type", "").lower().startswith("text/html")
    return 200 <= answer.status < 300 and (said or answer.body.lstrip()[:1] == b"<")


def html_page_error(answer: EgressResponse, doing: str, *, is_write: bool) -> TocsinError:
    """The error for an HTML response, which is retried. `doing` completes a sentence, such as "to write a note"."""
    named = _TITLE.search(answer.body.decode("utf-8", "replace"))
    title = _line(unescape(named[1]))[:100] if named is not None else ""
    detail = (
        f"Halo answered with a web page when asked {doing} ({answer.status}){_ended(f': {title}' if title else '')} "
        "A sign-in page or a proxy may stand in between; check the address if it stays so."
    )
    return (OutcomeUnknown if is_write else Temporary)(detail, answer.retry_after)


def is_refusal(found: object) -> bool:
    """Whether a 2xx response contains a text or an error instead of the written object."""
    if isinstance(found, str):
        return bool(found.strip())
    if not isinstance(found, Mapping) or "id" in found:
        return False
    return any(str(key).casefold() in ("error", "errors", "message") and value for key, value in found.items())


def refusal_error(answer: EgressResponse, doing: str) -> TocsinError:
    """The error for a request that failed despite its 2xx status."""
    return _of_text(answer, error_words(answer.body), doing)


def not_found_error(answer: EgressResponse, ticket: str, quoted: str = "") -> TicketNotFound:
    """The error for a ticket that does not exist for Tocsin; `quoted` is Halo's own message."""
    return TicketNotFound(
        f"Halo shows no ticket {ticket} to Tocsin ({answer.status}): it was deleted, or Tocsin's agent may not see "
        f"it.{quoted}",
        "If it is there, let the agent see tickets of its team and others'.",
    )


def _of_text(answer: EgressResponse, said: str, doing: str) -> TocsinError:
    if _ASSIGN_FIRST.search(said):
        return AgentRequired("Halo closes no ticket that has no agent.", "Give it one, or let Tocsin assign it.")
    if _NO_ACCESS.search(said):
        return NoteRejected(
            f"Halo does not let Tocsin's agent use the action of its notes. Halo said: {_ended(said)}",
            "Choose another note action, or allow this one in the agent's role.",
        )
    if _NO_OUTCOME.search(said):
        return NoteRejected(
            "Halo wants an action for the note, and does not know the one that is set.", "Choose another note action."
        )
    text = said or "nothing"
    return Permanent(f"Halo refused to {doing} ({answer.status}). It said: {text}")


def _ended(said: str) -> str:
    """Halo's message, terminated so that another sentence can follow."""
    return said if said.endswith((".", "!", "?", "…")) else f"{said}."
