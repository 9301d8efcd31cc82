"""Replaying a message from its page."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tocsin.access.roles import Action
from tocsin.core.errors import Rejected
from tocsin.inbound import replay as replays
from tocsin.web.guard import actor, needs, require
from tocsin.web.inbound.views import find
from tocsin.web.request import Request


@require_POST
@needs(Action.TRY_OUT)
def replay(request: Request, message_id: UUID) -> HttpResponse:
    """Has the rules of now decide the message again, as a new row; shows that row."""
    message = find(message_id)
    require(request, Action.TRY_OUT, message.integration.group_id)
    try:
        made = replays.replay(message.pk, request.POST.get("page") == "yes", actor(request), request.now)
    except Rejected as rejected:
        messages.warning(request, rejected.detail)
        return redirect("message", message_id)
    messages.success(request, _("Replayed by the rules of now: this is what became of it."))
    return redirect("message", made.pk)
