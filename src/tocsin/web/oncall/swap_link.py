"""The signed link in the mail of a swap request: accept or decline it without signing in.

A GET never changes anything, so link scanners are harmless. A POST acts as the user for whom the link was signed, once:
an answered request stays as it is.
"""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.notify.text import signed_links
from tocsin.notify.text.signed_links import LinkSubject
from tocsin.oncall.changes import swaps as commands
from tocsin.oncall.models import SwapRequest
from tocsin.oncall.states import SwapState
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import address_of, moment_of

_ANSWERS = {"accept": commands.accept, "decline": commands.decline}


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def swap_link(request: HttpRequest, token: str) -> HttpResponse:
    """Render the request with both answers, or give the posted one."""
    now = moment_of(request)
    try:
        swap_id, user_id = signed_links.verify(token, now, LinkSubject.SWAP)
    except Rejected as rejected:
        return _invalid(request, rejected.reason.localized())
    swap = commands.rows().filter(pk=swap_id, requested_user_id=user_id, requested_user__is_active=True).first()
    if swap is None:
        return _invalid(request, _("The request or the user no longer exists."))
    with timezone.override(zone(swap.requested_user.time_zone)):
        if request.method == "POST":
            _answer(request, swap)
            return redirect("swap_link", token)
        context = {
            "swap": swap,
            "person": swap.requested_user,
            "is_waiting": swap.state == SwapState.PENDING and swap.ends_at > now,
            "is_declining": request.GET.get("answer") == "decline",
        }
        return render(request, "oncall/swap_link.html", context)


def _answer(request: HttpRequest, swap: SwapRequest) -> None:
    act = _ANSWERS.get(request.POST.get("answer", ""))
    if act is None:
        messages.warning(request, _("Choose one of the buttons."))
        return
    user = swap.requested_user
    try:
        actor = AuditActor.from_user(user, "email", address_of(request), limits=None)
        act(swap, actor=actor, now=moment_of(request))
    except Rejected as rejected:
        messages.warning(request, rejected.reason.localized())


def _invalid(request: HttpRequest, reason: str) -> HttpResponse:
    return render(request, "oncall/swap_link_expired.html", {"reason": reason}, status=410)
