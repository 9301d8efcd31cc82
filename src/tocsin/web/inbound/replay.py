"""Replays one message or several from the log. Several are replayed only after a confirmation with their number."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tocsin.access.roles import Permission
from tocsin.core.db import query_union
from tocsin.core.errors import Rejected
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.inspect import replay as replays
from tocsin.inbound.models import InboundMessage
from tocsin.web.http.authorization import actor, require, requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.inbound.views import filter_messages, find


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def replay(request: SignedInRequest, message_id: UUID) -> HttpResponse:
    """Process the message again with the current rules, as a new message, and show that one."""
    message = find(message_id)
    require(request, Permission.TEST_INTEGRATIONS, message.integration.group_id)
    try:
        replayed = replays.replay(message.pk, request.POST.get("page") == "yes", actor(request), request.now)
    except Rejected as rejected:
        messages.warning(request, rejected.reason.localized())
        return redirect("message", message_id)
    messages.success(request, _("Replayed by the rules of now: this is what became of it."))
    return redirect("message", replayed.pk)


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def replay_many(request: SignedInRequest) -> HttpResponse:
    """Show how many messages would be replayed, their integrations and period; with `sure`, replay them, oldest
    first."""
    rows = _selected_messages(request)
    for integration in {row.integration_id: row.integration for row in rows}.values():
        require(request, Permission.TEST_INTEGRATIONS, integration.group_id)
    if not rows:
        messages.warning(request, _("Choose at least one message."))
        return redirect("inbound_log")
    if "sure" not in request.POST:
        return render_view(request, "inbound/replay.html", _confirmation_context(rows, request))
    page_choice = request.POST.get("page")
    try:
        counted = replays.replay_many(
            [row.pk for row in rows], {"yes": True, "no": False}.get(str(page_choice)), actor(request), request.now
        )
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
        return redirect("inbound_log")
    summary = ", ".join(f"{number} {status}" for status, number in counted.items())
    skipped = len(rows) - counted.total()
    messages.success(request, _("Replayed by the rules of now: %(said)s.") % {"said": summary or _("none")})
    if skipped:
        messages.warning(
            request, _("%(number)d could not be replayed: their integration cannot decide.") % {"number": skipped}
        )
    return redirect("inbound_log")


def _selected_messages(request: SignedInRequest) -> list[InboundMessage]:
    """Return the selected messages, or with `all` the newest ones that match the log's filters."""
    stored = InboundMessage.objects.select_related("integration").defer("raw", "headers", "verdict")
    if "all" in request.POST:
        decided = [rows.exclude(status=MessageStatus.PENDING) for rows in filter_messages(request.POST)]
        return query_union.first(decided, replays.MAX_REPLAYED_MESSAGES)
    ids = []
    for text in request.POST.getlist("message")[: replays.MAX_REPLAYED_MESSAGES + 1]:
        try:
            ids.append(UUID(str(text)))
        except ValueError:
            continue
    return list(stored.filter(pk__in=ids).exclude(status=MessageStatus.PENDING).order_by("-pk"))


def _confirmation_context(rows: list[InboundMessage], request: SignedInRequest) -> dict[str, Any]:
    by_integration = Counter(row.integration.name for row in rows)
    return {
        "rows": rows,
        "number": len(rows),
        "by_integration": by_integration.most_common(),
        "old": sum(request.now - row.received_at > replays.LOG_ONLY_AFTER for row in rows),
        "first": rows[-1].received_at,
        "last": rows[0].received_at,
        "is_all": "all" in request.POST,
        "most": replays.MAX_REPLAYED_MESSAGES,
    }
