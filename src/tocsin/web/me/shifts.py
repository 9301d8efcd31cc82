"""The user's own shifts, absences, swap requests, shift reminders and calendar feeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.models import CalendarFeed
from tocsin.oncall.states import FeedKind
from tocsin.people.changes import out_of_office, reminder_rules
from tocsin.people.models import User
from tocsin.web.http.authorization import actor
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.oncall import swaps
from tocsin.web.ui.forms import DurationField, each, errors_beside, reader_zone

LOOK_AHEAD = timedelta(days=60)
MAX_SHIFTS = 40


@dataclass(frozen=True, slots=True)
class MyShift:
    """A period in which the user is on call.

    `url` is the reassign form, or empty if the period follows from the group's member order.
    """

    group_id: int
    group: str
    turn: OnCall
    url: str
    is_now: bool


class ReminderForm(forms.Form):
    """One shift reminder. An empty form is ignored."""

    before = DurationField(label=gettext_lazy("So long before"), required=False)
    by = forms.ChoiceField(label=gettext_lazy("By"), required=False)

    def __init__(self, *args: Any, labels: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["by"].choices = [("", _("a mail")), *((label, label) for label in labels)]  # type: ignore[attr-defined]
        self.fields["before"].widget.attrs["placeholder"] = "1h"


@require_http_methods(["GET", "HEAD", "POST"])
def my_shifts(request: SignedInRequest) -> HttpResponse:
    """Render the user's shifts; save the shift reminders."""
    user = request.user
    rows = _reminders(request)
    problems: list[str] = []
    if request.method == "POST" and rows.is_valid():
        problems = _save_reminders(request, rows)
        if not problems:
            messages.success(request, _("Saved."))
            return redirect("my_shifts")
    feeds = list(CalendarFeed.objects.filter(owner=user).select_related("group", "schedule"))
    context = {
        "shifts": of_user(user, request.now)[:MAX_SHIFTS],
        "absences": out_of_office.current(user, request.now),
        "asked_of_me": swaps.asked_of(user, request.now),
        "asked_by_me": swaps.asked_by(user, request.now),
        "reminders": rows,
        "problems": problems,
        "feed": next((feed for feed in feeds if feed.kind == FeedKind.PERSON), None),
        "feeds": [feed for feed in feeds if feed.kind != FeedKind.PERSON],
        "zone": reader_zone().key,
    }
    return page(request, "me/shifts.html", context, status=422 if problems else 200)


def of_user(user: User, now: datetime, ahead: timedelta = LOOK_AHEAD) -> list[MyShift]:
    """Return when the user is on call from now on, earliest first: by shift, override, cover or member order."""
    with database.transaction() as connection:
        plans = loader.plans(connection, loader.groups_of(connection, [user.pk]), now)
    found = [
        MyShift(plan.id, plan.name, turn, _url(plan.id, turn, now), turn.since is None or turn.since <= now)
        for plan in plans.values()
        for turn in final_schedule.timeline(plan, now, now + ahead).segments
        if turn.user_id == user.pk
    ]
    return sorted(found, key=lambda one: (one.turn.since or now, one.group, one.turn.role))


def _url(group_id: int, turn: OnCall, now: datetime) -> str:
    if not turn.schedule:
        return ""
    fields = {
        "role": str(turn.role),
        "user": str(turn.user_id),
        "schedule": turn.schedule,
        "from": max(turn.since or now, now).isoformat(),
        "to": (turn.until or now + LOOK_AHEAD).isoformat(),
    }
    return f"{reverse('stand_in', args=[group_id])}?{urlencode(fields)}"


def _reminders(request: SignedInRequest) -> Any:
    labels = list(request.user.contact_methods.values_list("label", flat=True))
    kind = forms.formset_factory(
        ReminderForm,
        extra=reminder_rules.MAX_REMINDERS,
        max_num=reminder_rules.MAX_REMINDERS,
        absolute_max=reminder_rules.MAX_REMINDERS,
    )
    data = request.POST if request.method == "POST" else None
    return kind(data, initial=request.user.reminders, prefix="reminders", form_kwargs={"labels": labels})


def _save_reminders(request: SignedInRequest, rows: Iterable[ReminderForm]) -> list[str]:
    """Save the reminders and return the problems in words; empty on success. A row's problem also appears beside it."""
    kept = [row for row in rows if row.cleaned_data.get("before")]
    wanted = [
        {"before": row.cleaned_data["before"], **({"by": row.cleaned_data["by"]} if row.cleaned_data["by"] else {})}
        for row in kept
    ]
    try:
        reminder_rules.replace_all(request.user, wanted, actor=actor(request), now=request.now)
    except Rejected as rejected:
        return [_shown(problem, kept) for problem in each(rejected)]
    return []


def _shown(problem: Rejected, rows: Sequence[ReminderForm]) -> str:
    place = problem.field or ""
    index, _end, field = place.removeprefix("reminders[").partition("].")
    if index.isdecimal() and int(index) < len(rows):
        rows[int(index)].add_error(field if field in ("before", "by") else None, errors_beside(problem))
    return errors_beside(problem)
