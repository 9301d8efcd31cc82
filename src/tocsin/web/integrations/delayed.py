"""The buttons beside an alert that waits: open it now, or let it go."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tocsin.access.roles import Action
from tocsin.core.errors import Rejected
from tocsin.inbound.shaping import delayed
from tocsin.web.guard import actor, needs, require
from tocsin.web.request import Request


@require_POST
@needs(Action.TRY_OUT)
def act(request: Request, key: str, verb: str) -> HttpResponse:
    """Does it, and goes back to the integration."""
    try:
        row = delayed.find(key)
        require(request, Action.TRY_OUT, row.integration.group_id)
        if verb == "open":
            delayed.open_now(row, actor=actor(request), now=request.now)
            messages.success(request, _("It opens now."))
        else:
            delayed.drop(row, actor=actor(request), now=request.now)
            messages.success(request, _("It is let go: no alert opens for it."))
    except Rejected as rejected:
        messages.error(request, rejected.detail)
        return redirect("inbound_log")
    return redirect("integration", row.integration_id)
