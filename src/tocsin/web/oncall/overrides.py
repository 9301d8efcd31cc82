"""One override: its creator, period and effect. Managers can edit and delete it; both users of a swap or cover can
delete it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.core.validation.spec_types import write_moment
from tocsin.oncall.changes import overrides as commands
from tocsin.oncall.changes import swaps
from tocsin.people.models import User
from tocsin.resources.registry import OVERRIDES
from tocsin.web.http.authorization import actor, may, require
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui.choices import ROLES
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import MomentField, set_choices, show_rejection, user_zone


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
    form = OverrideForm(request.POST or None, initial=begin, shifts=commands.shift_names(row.schedule))
    snapshot = FormSnapshot.of(request, OVERRIDES, row)
    if request.method == "POST":
        require(request, Permission.MANAGE_TEAMS, group)
        if form.is_valid():
            try:
                with snapshot.unchanged():
                    spec = form.spec(row.schedule.name)
                    commands.save_override(spec, existing=row, actor=actor(request), now=request.now)
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
        "may_remove": may_change or swaps.may_undo(row, request.user),
        "is_over": row.ends_at <= request.now,
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/override.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, then delete the override, after which the schedule applies again."""
    row = find_object(OVERRIDES, number)
    if not swaps.may_undo(row, request.user):
        require(request, Permission.MANAGE_TEAMS, row.schedule.group)
    if request.method == "POST":
        commands.delete_override(row, actor=actor(request), now=request.now)
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
