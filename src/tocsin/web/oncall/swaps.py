"""Swap requests: those awaiting an answer, and accepting, declining or withdrawing one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tocsin.core.errors import Rejected
from tocsin.oncall.changes import swaps as commands
from tocsin.oncall.models import SwapRequest
from tocsin.oncall.states import SwapState
from tocsin.people.models import User
from tocsin.web.http.authorization import actor
from tocsin.web.http.objects import find_row
from tocsin.web.http.request import SignedInRequest, next_url


def requests_received(user: User, now: datetime) -> list[SwapRequest]:
    """Return the unexpired swap requests awaiting the user's answer, earliest first."""
    return list(_waiting(now).filter(requested_user=user))


def requests_sent(user: User, now: datetime) -> list[SwapRequest]:
    """Return the user's own unanswered swap requests, earliest first."""
    return list(_waiting(now).filter(requester=user))


@require_POST
def answer_swap(request: SignedInRequest, number: int, verb: str) -> HttpResponse:
    """Accept, decline or withdraw a swap request."""
    swap = find_row(commands.rows(), number, "swap")
    permitted_user, act, success_text = _verb(verb, swap)
    if permitted_user != request.user:
        raise PermissionDenied(_("Only %(name)s may do this.") % {"name": permitted_user.display_name})
    try:
        act(swap, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    else:
        messages.success(request, success_text)
    return redirect(next_url(request, "my_shifts"))


type _Act = Callable[..., SwapRequest]


def _verb(verb: str, swap: SwapRequest) -> tuple[User, _Act, str]:
    """Return who may run the verb, the command, and the success message. Raises Http404."""
    match verb:
        case "accept":
            return (
                swap.requested_user,
                commands.accept,
                _("Accepted: the shift is yours. %(name)s is notified.") % {"name": swap.requester.display_name},
            )
        case "decline":
            return (
                swap.requested_user,
                commands.decline,
                _("Declined. %(name)s is notified.") % {"name": swap.requester.display_name},
            )
        case "withdraw":
            return swap.requester, commands.withdraw, _("Request withdrawn.")
    raise Http404(_("A swap can be accepted, declined or withdrawn."))


def _waiting(now: datetime) -> QuerySet[SwapRequest]:
    return commands.rows().filter(state=SwapState.PENDING, ends_at__gt=now).order_by("starts_at")
