"""The user's notification rules: contact methods per priority, quiet hours, hourly limit, and a preview of their
effect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from tocsin.alerts.states import Priority
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.enqueue import queue
from tocsin.notify.rules.notification_rules import USER_RULES, plan_pages
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.people.notification_rules import MAX_MESSAGES_PER_HOUR, MAX_QUIET_HOURS
from tocsin.web.http.authorization import actor
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.policies.step_forms import DAYS
from tocsin.web.ui.choices import PRIORITIES, channel_name
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import each, errors_beside, in_picker, show_rejection
from tocsin.web.ui.notification_rule_forms import NotificationRuleFormSet, initial_way, ways

#: The part of the user's spec that the form changes.
RULES = "notification_rules"


class MessageLimitForm(forms.Form):
    """Maximum number of messages per hour."""

    most_per_hour = forms.IntegerField(
        label=gettext_lazy("Messages an hour at one address, at most"),
        min_value=0,
        max_value=MAX_MESSAGES_PER_HOUR,
        required=False,
        help_text=gettext_lazy(
            "Empty: as many as there are. What is beyond leaves as one message when the hour is over; critical alerts "
            "always leave at once."
        ),
    )


class QuietHoursForm(forms.Form):
    """One row of quiet hours. A row without times is empty and ignored."""

    begins = forms.CharField(label=gettext_lazy("From"), max_length=5, required=False)
    ends = forms.CharField(label=gettext_lazy("To"), max_length=5, required=False)
    let_through = forms.ChoiceField(
        label=gettext_lazy("Comes all the same"),
        choices=[(Priority.CRITICAL, gettext_lazy("critical")), (Priority.HIGH, gettext_lazy("high and above")),
                 (Priority.MEDIUM, gettext_lazy("medium and above"))],
        initial=Priority.HIGH,
        required=False,
    )  # fmt: skip
    days = forms.MultipleChoiceField(
        label=gettext_lazy("On"),
        choices=DAYS,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None: every day."),
    )
    methods = forms.MultipleChoiceField(
        label=gettext_lazy("For"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None: every way."),
    )

    def __init__(self, *args: Any, labels: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["methods"].choices = [(label, label) for label in labels]  # type: ignore[attr-defined]
        for name in ("begins", "ends"):
            self.fields[name].widget.input_type = "time"

    def spec(self) -> dict[str, Any] | None:
        """Return the row in spec form, or None if it is empty."""
        data = self.cleaned_data
        if not data.get("begins") and not data.get("ends"):
            return None
        found = {
            "from": data["begins"], "to": data["ends"], "days": list(data["days"]), "methods": list(data["methods"]),
            "let_through": data["let_through"] or None,
        }  # fmt: skip
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class NotificationPreview:
    """When a page of one priority would be sent by which contact methods, relative to now."""

    priority: Priority
    #: (channel, label, delay such as "2:00" or a time of day)
    ways: tuple[tuple[str, str, str], ...]


def reached_now(user: User, now: datetime) -> list[NotificationPreview]:
    """Return the planned pages per priority if the user were paged as the first one now."""
    with database.transaction() as connection:
        person = queue.people_of(connection, {user.pk}).get(user.pk)
    if person is None:
        return []
    found = []
    for priority in Priority:
        pages = sorted(plan_pages(person, USER_RULES, priority, now), key=lambda leave: leave.at)
        shown = ((channel_name(leave.method.channel), leave.method.label, _when(leave.at, now)) for leave in pages)
        found.append(NotificationPreview(priority, tuple(shown)))
    return found


def _when(at: datetime, now: datetime) -> str:
    """Format a delay as "2:00", or as the time of day from one hour on (for example the end of quiet hours)."""
    minutes, seconds = divmod(int((at - now).total_seconds()), 60)
    if at - now >= timedelta(hours=1):
        return timezone.localtime(at).strftime("%H:%M")
    return f"{minutes}:{seconds:02}"


@require_http_methods(["GET", "HEAD", "POST"])
def notification_rules(request: SignedInRequest) -> HttpResponse:
    """Edit the rules as rows, one list per priority."""
    held = request.user.notification_rules
    labels = list(request.user.contact_methods.values_list("label", flat=True))
    data = request.POST if request.method == "POST" else None
    rows = {priority: _ways(data, priority, held.get("by_priority", {}), labels) for priority in Priority}
    quiet = _quiet(data, held.get("quiet_hours", []), labels)
    limit = MessageLimitForm(data, initial={"most_per_hour": held.get("most_per_hour")})
    seen, is_refused = FormSnapshot(request, "user", request.user.pk, lambda: _held(request.user), keys=(RULES,)), False
    if data is not None and limit.is_valid() and quiet.is_valid() and all(one.is_valid() for one in rows.values()):
        spec = {
            "by_priority": {
                str(priority): [{"method": way, **row.spec()} for way, row in one.chosen()]
                for priority, one in rows.items()
                if one.chosen()
            },
            "quiet_hours": [found for row in quiet.forms if (found := row.spec()) is not None],
            "most_per_hour": limit.cleaned_data["most_per_hour"] or 0,
        }
        rejected = _save(request, spec, seen)
        if rejected is None:
            messages.success(request, _("Saved."))
            return redirect("me")
        is_refused = True
        _show(rejected, rows, quiet.forms, limit)
    failed = is_refused or (data is not None and not (limit.is_valid() and quiet.is_valid()))
    context = {
        "lists": [(priority, said, rows[priority]) for priority, said in PRIORITIES],
        "quiet": quiet,
        "limit": limit,
        "reached": reached_now(request.user, request.now),
        "has_methods": bool(labels),
        "seen": seen,
    }
    return page(request, "me/rules.html", context, status=422 if failed else 200)


def _held(user: User) -> dict[str, Any]:
    return {RULES: User.objects.get(pk=user.pk).notification_rules}


def _save(request: SignedInRequest, rules: Mapping[str, Any], seen: FormSnapshot) -> Rejected | None:
    """Save the rules. Return the rejection, or None on success."""
    try:
        with seen.unchanged():
            users.save_notification_rules(request.user, rules, actor=actor(request), now=request.now)
    except Rejected as rejected:
        return rejected
    return None


#: Path of a problem in a rule → form field of its row.
_FIELDS = {"method": "way", "wait": "wait", "repeat.times": "times", "repeat": "every", "from": "begins", "to": "ends"}


def _show(
    rejected: Rejected,
    rows: Mapping[Priority, NotificationRuleFormSet],
    quiet: Sequence[QuietHoursForm],
    limit: MessageLimitForm,
) -> None:
    """Show each problem at its row and field; a problem without a row appears above the form."""
    hours = [row for row in quiet if row.spec() is not None]
    lists = {f"by_priority.{priority}": [row for _way, row in one.chosen()] for priority, one in rows.items()}
    for problem in each(rejected):
        found = re.fullmatch(r"notification_rules\.([a-z_.]+)\[(\d+)\]\.?(.*)", problem.field or "")
        listed: Sequence[forms.Form] = hours if found and found[1] == "quiet_hours" else ()
        listed = lists.get(found[1], listed) if found else ()
        if found is None or int(found[2]) >= len(listed):
            show_rejection(limit, problem, {"notification_rules.most_per_hour": "most_per_hour"})
            continue
        row = listed[int(found[2])]
        field = next(
            (name for place, name in _FIELDS.items() if found[3].startswith(place)), found[3].partition("[")[0]
        )
        row.add_error(field if field in row.fields else None, errors_beside(problem))


def _ways(data: Any, priority: Priority, held: Mapping[str, Any], labels: list[str]) -> NotificationRuleFormSet:
    begin = [initial_way(rule["method"], rule) for rule in held.get(priority, [])]
    return ways(data, begin, str(priority), [(label, label) for label in labels])


def _quiet(data: Any, held: list[dict[str, Any]], labels: list[str]) -> Any:
    kind = forms.formset_factory(QuietHoursForm, extra=1, max_num=MAX_QUIET_HOURS, absolute_max=MAX_QUIET_HOURS)
    begin = [{**one, "begins": one.get("from", ""), "ends": in_picker(one.get("to", ""))} for one in held]
    return kind(data, initial=begin, prefix="quiet", form_kwargs={"labels": labels})
