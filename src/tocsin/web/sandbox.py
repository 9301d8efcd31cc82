"""The sandbox of messages that were not sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils.csp import CSP
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.csp import csp_override
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import Role
from tocsin.alerts import service, store
from tocsin.alerts.commands import AlertState
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.channels import chat
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.inbound import responder_actions
from tocsin.notify.interfaces import CallPrompt, CallState, InboundText, Rendered
from tocsin.notify.models import Delivery, SandboxMessage
from tocsin.notify.providers.pool import CHANNELS, KINDS
from tocsin.notify.states import SANDBOX
from tocsin.notify.text import signed_links
from tocsin.people import addresses
from tocsin.web.http.request import SignedInRequest, find_row, render_view
from tocsin.web.ui import object_list
from tocsin.web.ui.formatting import safe_html
from tocsin.web.ui.forms import channel_name

# ---------- render
# Renders a sandbox message as its channel would show it, with working buttons and keys. It never acts.

#: The keys of a phone in rows. A key with a word works if the call offers it.
KEYPAD = (
    (("1", gettext_lazy("repeat")), ("2", gettext_lazy("list")), ("3", "")),
    (("4", ""), ("5", ""), ("6", gettext_lazy("escalate"))),
    (("7", gettext_lazy("acknowledge")), ("8", gettext_lazy("assign to me")), ("9", gettext_lazy("close"))),
)


def message_contexts(rows: Sequence[SandboxMessage]) -> list[dict[str, Any]]:
    language = get_language() or "en"
    messages_of = {row.pk: Rendered.from_content(row.content, language) for row in rows}
    numbers = {pk: chat.alert_of(rendered) for pk, rendered in messages_of.items()}
    # The messages stay their recipient's, but what has become of an alert is only for those who see it.
    found = service.find_alerts([number for number in numbers.values() if number is not None])
    with database.transaction() as connection:
        alerts = store.load(connection, [alert.id for alert in found])
    return [message_context(row, messages_of[row.pk], alerts.get(numbers[row.pk] or 0)) for row in rows]


def message_context(row: SandboxMessage, rendered: Rendered, alert: AlertState | None) -> dict[str, Any]:
    content = row.content
    link = content.get("link") or ""
    channel = CHANNELS[row.channel]
    script = content.get("script") or {}
    if channel.is_updated and alert is not None:
        rendered = chat.with_state(rendered, alert)
    is_repeated = bool(content.get("repeats"))
    # What its vendor repeats can only be acknowledged there.
    commands = chat.PLAIN_BUTTONS[: 1 if is_repeated else None]
    can_answer = bool(signed_links.token_of(link)) or channel.accepts_code(row.address)
    card = chat.card(rendered, has_answers=channel.layout in ("push", "chat") and can_answer, commands=commands)
    return {
        "row": row,
        "channel": channel_name(row.channel),
        "icon": channel.icon,
        "address": addresses.display_form(row.address),
        "layout": channel.layout,
        "subject": content.get("subject", ""),
        "text": content.get("text", ""),
        "body": safe_html(content.get("text", "")),
        "has_html": bool(content.get("html")),
        "sender": parse_sender(),
        "headers": content.get("headers") or {},
        "links": [(b["label"], b["url"], local_path(b["url"])) for b in content.get("buttons") or []],
        "link": local_path(link),
        "state": card.state,
        "buttons": [(button.command, button.label) for button in card.buttons],
        "adaptive_card": _adaptive_card(row, rendered),
        "is_repeated": is_repeated,
        "spoken": [
            part
            for part in (script.get("greeting"), script.get("message"), script.get("message"), script.get("menu"))
            if part
        ]
        or [content.get("text", "")],
        "language": script.get("language", "en-GB"),
        "keypad": keypad(script.get("keys", "")) if channel.is_call else (),
    }


def _adaptive_card(row: SandboxMessage, rendered: Rendered) -> dict[str, Any] | None:
    """Return the Adaptive Card that the address would get; None if its vendor has none."""
    kinds = (kind for kind in KINDS.values() if row.channel in kind.channels and kind.accepts(row.channel, row.address))
    return next((card for kind in kinds if (card := kind.adaptive_card(rendered)) is not None), None)


def keypad(keys: str) -> list[list[dict[str, Any]]]:
    """Return the keys, each with its word if it works in this call."""
    return [[{"digit": d, "word": word if d in keys else "", "works": d in keys} for d, word in row] for row in KEYPAD]


def parse_sender() -> str:
    return environment.current().email_from or f"Tocsin <tocsin@{urlsplit(environment.current().public_url).hostname}>"


def local_path(url: str) -> str:
    """Return the path of a URL of this installation, or "" for any other URL."""
    base = environment.current().public_url
    return url[len(base) :] or "/" if url.startswith(base) and urlsplit(url).netloc == urlsplit(base).netloc else ""


# ---------- views
# The sandbox: messages that were not sent, rendered as on their channel, with working buttons, keys and replies.
#
# Actions are taken as the message's recipient, of a message to a room as its reader. Only administrators see, and act
# on, messages to other users.

#: A rendered e-mail may contain inline styles only: no scripts, images or forms.
_MAIL_CSP = {
    "default-src": [CSP.NONE],
    "style-src": [CSP.UNSAFE_INLINE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.NONE],
    "frame-ancestors": [CSP.SELF],
}


@require_safe
def sandbox(request: SignedInRequest) -> HttpResponse:
    rows = visible(request)
    channel = request.GET.get("channel", "")
    if channel in CHANNELS:
        rows = rows.filter(channel=channel)
    result = object_list.paginate_by_number(rows, request.GET.get("cursor", ""), size=20)
    context = {
        "rows": message_contexts(result.rows),
        "pagination": result,
        "chosen": channel,
        "channels": [(name, channel_name(name)) for name in CHANNELS],
        "sees_all": request.user.role == Role.ADMIN,
    }
    return render_view(request, "sandbox/sandbox.html", context, partials=("list",))


@csp_override(_MAIL_CSP)
@xframe_options_sameorigin
@require_safe
def mail(request: SignedInRequest, number: int) -> HttpResponse:
    """Serve the HTML of an e-mail, for a separate frame."""
    row = find_row(visible(request), number, "sandbox message")
    html = str(row.content.get("html", ""))
    if not html:
        raise Http404(_("This message has no HTML."))
    # Links open outside the frame.
    return HttpResponse(html.replace("<head>", '<head><base target="_top">', 1))


@require_POST
def act(request: SignedInRequest, number: int) -> HttpResponse:
    """Press a button of a push notification or chat message."""
    row = find_row(visible(request), number, "sandbox message")
    link = str(row.content.get("link", ""))
    # In a room, the one who presses acts.
    alert_id, user_id = signed_links.alert_of(link), request.user.pk
    if alert_id is None or row.user_id is not None:
        try:
            alert_id, user_id = signed_links.verify(signed_links.token_of(link), request.now)
        except Rejected as rejected:
            return _respond(request, row, rejected.reason.localized())
    via = CHANNELS[row.channel].command_channel
    command, text = request.POST.get("command", ""), request.POST.get("text", "")[:2000]
    result = ProviderEventReceiver(SANDBOX, request.now).handle_button(user_id, alert_id, command, via, text)
    return _respond(request, row, result.localized_sentence)


@require_POST
def text(request: SignedInRequest, number: int) -> HttpResponse:
    row = find_row(visible(request), number, "sandbox message")
    if not CHANNELS[row.channel].is_text:
        raise Http404(_("Only text messages can be answered this way."))
    reply_text = request.POST.get("text", "")[:2000]
    # The address may be shared with another user, so the reply counts only as the recipient's.
    response_text = ProviderEventReceiver(SANDBOX, request.now, authenticated_user_id=row.user_id).handle_text(
        InboundText(row.channel, row.address, reply_text)
    )
    return _respond(request, row, response_text or _("Tocsin would not reply to this."))


@require_POST
def key(request: SignedInRequest, number: int) -> HttpResponse:
    """Press a key during a call; without a key, answer the call."""
    row = find_row(visible(request), number, "sandbox message")
    delivery = Delivery.objects.filter(pk=row.delivery).first()
    if not CHANNELS[row.channel].is_call or delivery is None:
        raise Http404(_("Call not found."))
    digit, expected_digit = request.POST.get("digit", "")[:1], request.POST.get("expected_digit", "")[:1]
    call_state = CallState(
        str(delivery.notification_id), number=row.address, digits=digit, pending_digit=expected_digit
    )
    step = responder_actions.continue_call(SANDBOX, call_state, request.now)
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse(_spoken(step))
    spoken_text = " ".join(_spoken(step)["sentences"])
    if step.pending_digit:
        spoken_text = f"{spoken_text} {_('Press the key again here.')}"
        messages.info(request, spoken_text)
        return redirect(f"{_sandbox_url(request)}expected_digit={step.pending_digit}&call={row.pk}#message-{row.pk}")
    messages.info(request, spoken_text)
    return redirect(_back(request, row))


def _spoken(step: CallPrompt) -> dict[str, Any]:
    """Return the next sentences of the call, and the keys that it expects."""
    script = step.script
    parts = [step.speech]
    if script is not None:
        parts += [script.greeting, script.message, script.message, script.menu]
    return {
        "sentences": [part for part in parts if part],
        "keys": script.keys if script is not None else step.pending_digit,
        "expected_digit": step.pending_digit,
        "is_over": script is None and not step.pending_digit,
        "language": step.language,
    }


def _respond(request: SignedInRequest, row: SandboxMessage, sentence: str) -> HttpResponse:
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse({"text": sentence})
    messages.info(request, sentence)
    return redirect(_back(request, row))


def _back(request: SignedInRequest, row: SandboxMessage) -> str:
    return f"{_sandbox_url(request).rstrip('?&')}#message-{row.pk}"


def _sandbox_url(request: SignedInRequest) -> str:
    """Return the sandbox URL with its filter, ready for further parameters."""
    channel = request.POST.get("channel", "")
    return f"/sandbox/?channel={channel}&" if channel in CHANNELS else "/sandbox/?"


def visible(request: SignedInRequest) -> QuerySet[SandboxMessage]:
    """Return the user's own messages, or all messages for an administrator."""
    rows = SandboxMessage.objects.filter(channel__in=CHANNELS).select_related("user", "alert")
    return rows if request.user.role == Role.ADMIN else rows.filter(user=request.user)
