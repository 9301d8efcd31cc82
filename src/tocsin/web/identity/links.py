"""Removes the link of a user to an identity, and approves one that was asked for."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.identity import commands
from tocsin.identity.models import LinkedIdentity
from tocsin.web.http.authorization import actor, may, requires
from tocsin.web.http.objects import find_row
from tocsin.web.http.request import SignedInRequest


@require_POST
@requires(Permission.ADMINISTER)
def approve_link(request: SignedInRequest, number: int) -> HttpResponse:
    """Link the user to the identity that asked for it."""
    link = find_row(LinkedIdentity.objects.select_related("user", "provider"), number, "linked identity")
    commands.approve_link(link, actor=actor(request), now=request.now)
    messages.success(request, _("Link to %(provider)s approved.") % {"provider": link.provider.name})
    return redirect("user", link.user_id)


@require_POST
def remove_link(request: SignedInRequest, number: int) -> HttpResponse:
    """Remove the link, and end the sessions that began by it."""
    rows = LinkedIdentity.objects.select_related("user", "provider")
    if not may(request, Permission.ADMINISTER):
        rows = rows.filter(user=request.user)
    link = find_row(rows, number, "linked identity")
    is_own = link.user_id == request.user.pk
    try:
        commands.remove_link(link, is_own=is_own, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    else:
        messages.success(request, _("Link to %(provider)s removed.") % {"provider": link.provider.name})
    return redirect("me") if is_own else redirect("user", link.user_id)
