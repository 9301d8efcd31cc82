"""Swap requests: those awaiting an answer, and accepting, declining or withdrawing one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tocsin.core.errors import Rejected
from tocsin.oncall.changes import swaps as commands
from tocsin.oncall.models import SwapRequest
from tocsin.oncall.states import SwapState
from tocsin.people.models import User
from tocsin.web.http.authorization import actor
from tocsin.web.http.request import SignedInRequest
from tocsin.web.told import told


def asked_of(user: User, now: datetime) -> list[SwapRequest]:
    """Return the unexpired swap requests awaiting the user's answer, earliest first."""
    return list(_waiting(now).filter(asked=user))


def asked_by(user: User, now: datetime) -> list[SwapRequest]:
    """Return the user's own unanswered swap requests, earliest first."""
    return list(_waiting(now).filter(asked_by=user))


@require_POST
def answer(request: SignedInRequest, number: int, verb: str) -> HttpResponse:
    """Accept, decline or withdraw a swap request."""
    swap = commands.rows().filter(pk=number).first()
    if swap is None:
        raise Http404(_("This question is gone."))
    who, act, said = _verb(verb, swap)
    if who != request.user:
        raise PermissionDenied(_("Only %(name)s may do this.") % {"name": who.display_name})
    try:
        act(swap, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, told(rejected.detail))
    else:
        messages.success(request, said)
    return redirect(next_page(request, "my_shifts"))


def next_page(request: SignedInRequest, usual: str) -> str:
    """Return the local URL that the form names in `next`, else `usual`."""
    wanted = request.POST.get("next", "")
    is_here = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()})
    return wanted if wanted.startswith("/") and is_here else usual


type _Act = Callable[..., SwapRequest]


def _verb(verb: str, swap: SwapRequest) -> tuple[User, _Act, str]:
    """Return who may run the verb, the command, and the success message. Raises Http404."""
    match verb:
        case "accept":
            return (
                swap.asked,
                commands.accept,
                _("It is yours. %(name)s is told.") % {"name": swap.asked_by.display_name},
            )
        case "decline":
            return (
                swap.asked,
                commands.decline,
                _("You said no. %(name)s is told.") % {"name": swap.asked_by.display_name},
            )
        case "withdraw":
            return swap.asked_by, commands.withdraw, _("The question is taken back.")
    raise Http404(_("A swap can be accepted, declined or withdrawn."))


def _waiting(now: datetime) -> QuerySet[SwapRequest]:
    return commands.rows().filter(state=SwapState.ASKED, ends_at__gt=now).order_by("starts_at")
