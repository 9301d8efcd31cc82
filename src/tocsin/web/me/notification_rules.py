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
from tocsin.notify.enqueue.recipients import load_recipients
from tocsin.notify.rules.notification_rules import USER_RULES, plan_pages
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.people.notification_rules import MAX_MESSAGES_PER_HOUR, MAX_QUIET_HOURS
from tocsin.web.http.authorization import actor
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.policies.step_forms import DAYS
from tocsin.web.ui.choices import PRIORITIES, channel_name
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import field_error_text, picker_time, problems_of, set_choices, show_rejection
from tocsin.web.ui.notification_rule_forms import NotificationRuleFormSet, initial_rule, rule_formset

#: The part of the user's spec that the form changes.
RULES = "notification_rules"


class MessageLimitForm(forms.Form):
    """Maximum number of messages per hour."""

    most_per_hour = forms.IntegerField(
        label=gettext_lazy("Maximum messages per hour and address"),
        min_value=0,
        max_value=MAX_MESSAGES_PER_HOUR,
        required=False,
        help_text=gettext_lazy(
            "Leave empty for no limit. Messages over the limit are combined into one at the end of the "
            "hour. Critical alerts are always sent immediately."
        ),
    )


class QuietHoursForm(forms.Form):
    """One row of quiet hours. An empty row is ignored."""

    begins = forms.CharField(label=gettext_lazy("From"), max_length=5, required=False)
    ends = forms.CharField(label=gettext_lazy("To"), max_length=5, required=False)
    let_through = forms.ChoiceField(
        label=gettext_lazy("Overrides quiet hours"),
        choices=[(Priority.CRITICAL, gettext_lazy("critical")), (Priority.HIGH, gettext_lazy("high and above")),
                 (Priority.MEDIUM, gettext_lazy("medium and above"))],
        initial=Priority.HIGH,
        required=False,
    )  # fmt: skip
    days = forms.MultipleChoiceField(
        label=gettext_lazy("Days"),
        choices=DAYS,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Select none for every day."),
    )
    methods = forms.MultipleChoiceField(
        label=gettext_lazy("Contact methods"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Select none for all contact methods."),
    )

    def __init__(self, *args: Any, labels: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "methods", [(label, label) for label in labels])
        for name in ("begins", "ends"):
            self.fields[name].widget.input_type = "time"

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        if any(data.get(name) for name in ("days", "methods")) and not (data.get("begins") or data.get("ends")):
            self.add_error("begins", _("Enter a start and an end time."))
        return data

    def spec(self) -> dict[str, Any] | None:
        """Return the row in spec form, or None if it is empty."""
        data = self.cleaned_data
        if not data.get("begins") and not data.get("ends"):
            return None
        values = {
            "from": data["begins"], "to": data["ends"], "days": list(data["days"]), "methods": list(data["methods"]),
            "let_through": data["let_through"] or None,
        }  # fmt: skip
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class NotificationPreview:
    """When a page of one priority would be sent by which contact methods, relative to now."""

    priority: Priority
    #: (channel, label, delay such as "2:00" or a time of day)
    methods: tuple[tuple[str, str, str], ...]


def notification_previews(user: User, now: datetime) -> list[NotificationPreview]:
    """Return the planned pages per priority if the user were paged as the first one now."""
    with database.transaction() as connection:
        person = load_recipients(connection, {user.pk}).get(user.pk)
    if person is None:
        return []
    previews = []
    for priority in Priority:
        pages = sorted(plan_pages(person, USER_RULES, priority, now), key=lambda planned_page: planned_page.at)
        methods = (
            (channel_name(planned_page.method.channel), planned_page.method.label, _delay_text(planned_page.at, now))
            for planned_page in pages
        )
        previews.append(NotificationPreview(priority, tuple(methods)))
    return previews


def _delay_text(at: datetime, now: datetime) -> str:
    """Format a delay as "2:00", or as the time of day from one hour on (for example the end of quiet hours)."""
    minutes, seconds = divmod(int((at - now).total_seconds()), 60)
    if at - now >= timedelta(hours=1):
        return timezone.localtime(at).strftime("%H:%M")
    return f"{minutes}:{seconds:02}"


@require_http_methods(["GET", "HEAD", "POST"])
def notification_rules(request: SignedInRequest) -> HttpResponse:
    """Edit the rules as rows, one list per priority."""
    stored_rules = request.user.notification_rules
    labels = list(request.user.contact_methods.values_list("label", flat=True))
    data = request.POST if request.method == "POST" else None
    rows = {
        priority: _rule_formset(data, priority, stored_rules.get("by_priority", {}), labels) for priority in Priority
    }
    quiet = _quiet(data, stored_rules.get("quiet_hours", []), labels)
    limit = MessageLimitForm(data, initial={"most_per_hour": stored_rules.get("most_per_hour")})
    snapshot = FormSnapshot(request, "user", request.user.pk, lambda: _stored_spec(request.user), keys=(RULES,))
    # Validate all, so that all problems are shown at once.
    if data is not None and all(part.is_valid() for part in (limit, quiet, *rows.values())):
        spec = {
            "by_priority": {
                str(priority): [{"method": method, **row.spec()} for method, row in formset.filled_rows()]
                for priority, formset in rows.items()
                if formset.filled_rows()
            },
            "quiet_hours": [quiet_spec for row in quiet.forms if (quiet_spec := row.spec()) is not None],
            "most_per_hour": limit.cleaned_data["most_per_hour"] or 0,
        }
        rejected = _save(request, spec, snapshot)
        if rejected is None:
            messages.success(request, _("Saved."))
            return redirect("me")
        _show_errors(rejected, rows, quiet.forms, limit)
    context = {
        "lists": [(priority, label, rows[priority]) for priority, label in PRIORITIES],
        "quiet": quiet,
        "limit": limit,
        "previews": notification_previews(request.user, request.now),
        "has_methods": bool(labels),
        "snapshot": snapshot,
    }
    return render_view(request, "me/rules.html", context, status=200 if data is None else 422)


def _stored_spec(user: User) -> dict[str, Any]:
    return {RULES: User.objects.get(pk=user.pk).notification_rules}


def _save(request: SignedInRequest, rules: Mapping[str, Any], snapshot: FormSnapshot) -> Rejected | None:
    """Save the rules. Return the rejection, or None on success."""
    try:
        with snapshot.unchanged():
            users.save_notification_rules(request.user, rules, actor=actor(request), now=request.now)
    except Rejected as rejected:
        return rejected
    return None


#: Path of a problem in a rule → form field of its row.
_FIELDS = {
    "method": "method",
    "wait": "wait",
    "repeat.times": "times",
    "repeat": "every",
    "from": "begins",
    "to": "ends",
}


def _show_errors(
    rejected: Rejected,
    rows: Mapping[Priority, NotificationRuleFormSet],
    quiet: Sequence[QuietHoursForm],
    limit: MessageLimitForm,
) -> None:
    """Show each problem at its row and field; a problem without a row appears above the form."""
    hours = [row for row in quiet if row.spec() is not None]
    lists = {
        f"by_priority.{priority}": [row for _method, row in formset.filled_rows()] for priority, formset in rows.items()
    }
    for problem in problems_of(rejected):
        match = re.fullmatch(r"notification_rules\.([a-z_.]+)\[(\d+)\]\.?(.*)", problem.field or "")
        target_forms: Sequence[forms.Form] = hours if match and match[1] == "quiet_hours" else ()
        target_forms = lists.get(match[1], target_forms) if match else ()
        if match is None or int(match[2]) >= len(target_forms):
            show_rejection(limit, problem, {"notification_rules.most_per_hour": "most_per_hour"})
            continue
        row = target_forms[int(match[2])]
        field = next((name for path, name in _FIELDS.items() if match[3].startswith(path)), match[3].partition("[")[0])
        row.add_error(field if field in row.fields else None, field_error_text(problem))


def _rule_formset(
    data: Any, priority: Priority, stored_rules: Mapping[str, Any], labels: list[str]
) -> NotificationRuleFormSet:
    begin = [initial_rule(rule["method"], rule) for rule in stored_rules.get(priority, [])]
    return rule_formset(data, begin, str(priority), [(label, label) for label in labels])


def _quiet(data: Any, stored_hours: list[dict[str, Any]], labels: list[str]) -> Any:
    formset_class = forms.formset_factory(
        QuietHoursForm, extra=0, max_num=MAX_QUIET_HOURS, absolute_max=2 * MAX_QUIET_HOURS, validate_max=True
    )
    begin = [
        {**entry, "begins": entry.get("from", ""), "ends": picker_time(entry.get("to", ""))} for entry in stored_hours
    ]
    return formset_class(data, initial=begin, prefix="quiet", form_kwargs={"labels": labels})
