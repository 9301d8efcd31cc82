"""Actions on a delayed alert: open it now, or drop it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import delayed_alerts
from tocsin.web.http.authorization import actor, require, requires
from tocsin.web.http.request import SignedInRequest


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def act(request: SignedInRequest, key: str, verb: str) -> HttpResponse:
    """Run the action and redirect to the integration."""
    try:
        row = delayed_alerts.find(key)
        require(request, Permission.TEST_INTEGRATIONS, row.integration.group_id)
        if verb == "open":
            delayed_alerts.open_now(row, actor=actor(request), now=request.now)
            messages.success(request, _("It opens now."))
        else:
            delayed_alerts.drop(row, actor=actor(request), now=request.now)
            messages.success(request, _("It is let go: no alert opens for it."))
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
        return redirect("inbound_log")
    return redirect("integration", row.integration_id)
