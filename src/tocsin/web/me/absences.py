"""Out of office: a user's absences and covers. Administrators can edit those of other users."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Role
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.validation.spec_types import write_moment
from tocsin.oncall import loader
from tocsin.oncall.changes import cover_notices
from tocsin.people.changes import out_of_office as commands
from tocsin.people.models import Group, OutOfOffice, User
from tocsin.web.http.authorization import actor
from tocsin.web.http.objects import find_row, requested_user
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.me import shifts
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import MomentField, show_rejection, user_zone


class AbsenceForm(forms.Form):
    """Period of the absence, the default cover, and covers for single groups."""

    begins = MomentField(label=gettext_lazy("From"))
    ends = MomentField(label=gettext_lazy("To"))
    cover = forms.ModelChoiceField(
        User.objects.none(),
        label=gettext_lazy("Covered by"),
        required=False,
        empty_label=gettext_lazy("No cover (you'll still be paged)"),
    )
    note = forms.CharField(label=gettext_lazy("Note"), max_length=200, required=False)

    def __init__(self, *args: Any, away: User, groups: list[Group], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = User.objects.filter(is_active=True).exclude(pk=away.pk).order_by("name", "username")
        self.fields["cover"].queryset = people  # type: ignore[attr-defined]
        # With a single group the default cover is sufficient.
        self.groups = groups if len(groups) > 1 else []
        for group in self.groups:
            self.fields[f"cover-{group.pk}"] = forms.ModelChoiceField(
                people, label=group.name, required=False, empty_label=_("Same as above")
            )

    @property
    def single(self) -> list[Any]:
        """The cover fields of single groups."""
        return [self[f"cover-{group.pk}"] for group in self.groups]

    def spec(self) -> dict[str, Any]:
        """Return the absence in spec form."""
        data = self.cleaned_data
        covers = {group.name: user.username for group in self.groups if (user := data[f"cover-{group.pk}"])}
        spec: dict[str, Any] = {"from": write_moment(data["begins"]), "to": write_moment(data["ends"])}
        if data["cover"]:
            spec["cover"] = data["cover"].username
        return spec | ({"covers": covers} if covers else {}) | ({"note": data["note"]} if data["note"] else {})


@require_http_methods(["GET", "HEAD", "POST"])
def absence(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit an absence."""
    row = _find(request, number) if number is not None else None
    away = row.user if row else requested_user(request)
    form = _form(request, row, away)
    state = None if row is None else partial(commands.absence_spec, row)
    snapshot = FormSnapshot(request, "out_of_office", row.pk if row else "", state, row=row)
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                cover_notices.save_absence(away, form.spec(), existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected, {"from": "begins", "to": "ends", "covers": "cover"})
        else:
            messages.success(request, _("Saved."))
            return _back(request, away)
    begin, end = (row.starts_at, row.ends_at) if row else (None, None)
    uncovered = [
        shift
        for shift in (shifts.shifts_of_user(away, begin, end - begin) if begin and end and end > begin else ())
        if shift.on_call.is_absent
    ]
    context = {
        "absence": row, "away": away, "form": form, "snapshot": snapshot, "uncovered": uncovered,
        "zone": user_zone().key,
    }  # fmt: skip
    return render_view(request, "me/absence.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, describing the effect; then delete the absence."""
    row = _find(request, number)
    if request.method != "POST":
        about = _("%(name)s will be on call as scheduled again, and all covers end.") % {"name": row.user.display_name}
        context = {"object_name": _("this absence"), "consequences": about, "back": ("absence", row.pk)}
        return render_view(request, "parts/delete.html", context)
    cover_notices.delete_absence(row, actor=actor(request), now=request.now)
    messages.success(request, _("Absence deleted. The schedules apply again."))
    return _back(request, row.user)


def _form(request: SignedInRequest, row: OutOfOffice | None, away: User) -> AbsenceForm:
    with database.transaction() as connection:
        groups = list(Group.objects.filter(pk__in=loader.groups_of(connection, [away.pk])).order_by("name"))
    begin: dict[str, Any]
    if row is not None:
        begin = {"begins": row.starts_at, "ends": row.ends_at, "cover": row.cover_id, "note": row.note}
        begin |= {f"cover-{cover.group_id}": cover.user_id for cover in row.covers.all()}
    else:
        tomorrow = request.now.astimezone(user_zone()).replace(hour=8, minute=0, second=0, microsecond=0)
        tomorrow += timedelta(days=1)
        begin = {"begins": tomorrow, "ends": tomorrow + timedelta(days=7)}
    return AbsenceForm(request.POST or None, initial=begin, away=away, groups=groups)


def _find(request: SignedInRequest, number: int) -> OutOfOffice:
    rows = commands.rows()
    return find_row(rows if request.user.role == Role.ADMIN else rows.filter(user=request.user), number, "absence")


def _back(request: SignedInRequest, away: User) -> HttpResponse:
    return redirect("my_shifts") if away == request.user else redirect("user", away.pk)
