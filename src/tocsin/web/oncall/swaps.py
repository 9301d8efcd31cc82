"""Swap requests: those awaiting an answer, and accepting, declining or withdrawing one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.core.validation.spec import write_moment
from tocsin.notify.text import signed_links
from tocsin.notify.text.signed_links import LinkSubject
from tocsin.oncall.changes import overrides
from tocsin.oncall.changes import swaps as commands
from tocsin.oncall.models import SwapRequest, SwapState
from tocsin.people.models import User
from tocsin.resources.registry import OVERRIDES
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    address_of,
    find_object,
    find_row,
    may,
    moment_of,
    next_url,
    render_view,
    require,
)
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import ROLES, MomentField, set_choices, show_rejection, user_zone


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


# ---------- swap link
# The signed link in the mail of a swap request: accept or decline it without signing in.
#
# A GET never changes anything, so link scanners are harmless. A POST acts as the user for whom the link was signed,
# once: an answered request stays as it is.


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


# ---------- overrides
# One override: its creator, period and effect. Managers can edit and delete it; both users of a swap or cover can
# delete it.


class OverrideForm(forms.Form):
    """All fields of an override."""

    begins = MomentField(label=gettext_lazy("From"))
    ends = MomentField(label=gettext_lazy("To"))
    user = forms.ModelChoiceField(
        User.objects.filter(is_active=True).order_by("name", "username"),
        label=gettext_lazy("Covered by"),
        empty_label="–",
    )
    instead_of = forms.ModelChoiceField(
        User.objects.order_by("name", "username"),
        label=gettext_lazy("Instead of"),
        required=False,
        empty_label=gettext_lazy("Anyone (also fills gaps)"),
    )
    role = forms.ChoiceField(
        label=gettext_lazy("Role"), choices=[("", gettext_lazy("All roles")), *ROLES], required=False
    )
    shift = forms.ChoiceField(label=gettext_lazy("Shift"), required=False)
    name = forms.CharField(label=gettext_lazy("Name"), max_length=100, required=False)

    def __init__(self, *args: Any, shifts: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "shift", [("", _("All shifts")), *((n, n) for n in shifts)])

    def spec(self, schedule: str) -> dict[str, Any]:
        """Return the override in spec form."""
        data = self.cleaned_data
        spec: dict[str, Any] = {
            "schedule": schedule,
            "user": data["user"].username,
            "from": write_moment(data["begins"]),
            "to": write_moment(data["ends"]),
            "instead_of": data["instead_of"].username if data["instead_of"] else None,
        }
        return spec | {key: data[key] for key in ("role", "shift", "name") if data[key]}


@require_http_methods(["GET", "HEAD", "POST"])
def override(request: SignedInRequest, number: int) -> HttpResponse:
    """Render an override, with its form for users who may edit it."""
    row = find_object(OVERRIDES, number)
    group = row.schedule.group
    may_change = may(request, Permission.MANAGE_TEAMS, group)
    begin = {
        "begins": row.starts_at, "ends": row.ends_at, "user": row.user_id, "instead_of": row.instead_of_id,
        "role": row.role, "shift": row.shift, "name": row.name,
    }  # fmt: skip
    form = OverrideForm(request.POST or None, initial=begin, shifts=overrides.shift_names(row.schedule))
    snapshot = FormSnapshot.of(request, OVERRIDES, row)
    if request.method == "POST":
        require(request, Permission.MANAGE_TEAMS, group)
        if form.is_valid():
            try:
                with snapshot.unchanged():
                    spec = form.spec(row.schedule.name)
                    overrides.save_override(spec, existing=row, actor=actor(request), now=request.now)
            except Rejected as rejected:
                show_rejection(form, rejected, {"from": "begins", "to": "ends"})
            else:
                messages.success(request, _("Saved."))
                return redirect("group_schedule", group.pk)
    context = {
        "override": row,
        "snapshot": snapshot,
        "form": form,
        "may_change": may_change,
        "may_remove": may_change or commands.may_undo(row, request.user),
        "is_over": row.ends_at <= request.now,
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/override.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, then delete the override, after which the schedule applies again."""
    row = find_object(OVERRIDES, number)
    if not commands.may_undo(row, request.user):
        require(request, Permission.MANAGE_TEAMS, row.schedule.group)
    if request.method == "POST":
        overrides.delete_override(row, actor=actor(request), now=request.now)
        messages.success(request, _("Override deleted. The schedule applies again."))
        return redirect("group_schedule", row.schedule.group_id)
    context = {
        "object_name": row.name or _("this override"),
        "used_by": [],
        "back": ("override", row.pk),
        "consequences": _(
            "The schedule applies again for this period. If this is part of a swap, delete the other override too."
        ),
    }
    return render_view(request, "parts/delete.html", context)
