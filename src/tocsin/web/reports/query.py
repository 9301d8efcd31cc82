"""The query string of the reports: period, filters and grouping, which every report and its files share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from zoneinfo import ZoneInfo

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_date
from tocsin.inbound.models import Integration
from tocsin.people.models import Group
from tocsin.reports.counted_alerts import AlertFilter, GroupBy
from tocsin.reports.period import Bucket, Period
from tocsin.web.http.request import SignedInRequest
from tocsin.web.ui.choices import PRIORITIES
from tocsin.web.ui.forms import DayField, show_rejection

#: Selectable periods in days, including today; then those that are not counted in days.
_DAYS = {"7d": 7, "30d": 30, "90d": 90, "365d": 365}
_LAST_MONTH, _CUSTOM = "last_month", "custom"
_DEFAULT = "30d"

#: Grouping → heading of the table's first column.
GROUPINGS = {
    GroupBy.PERSON: gettext_lazy("Person"),
    GroupBy.GROUP: gettext_lazy("Group"),
    GroupBy.CLIENT: gettext_lazy("Client"),
    GroupBy.INTEGRATION: gettext_lazy("Integration"),
    GroupBy.PRIORITY: gettext_lazy("Priority"),
    GroupBy.SOURCE: gettext_lazy("Source"),
    GroupBy.HOUR: gettext_lazy("Hour"),
}

BUCKETS = {
    Bucket.DAY: gettext_lazy("Day"),
    Bucket.WEEK: gettext_lazy("Week"),
    Bucket.MONTH: gettext_lazy("Month"),
}


class ReportForm(forms.Form):
    """Parses the filters. Those that are unusable are ignored, so that old links keep working."""

    period = forms.ChoiceField(
        label=gettext_lazy("Period"),
        required=False,
        choices=[
            ("7d", gettext_lazy("Last 7 days")),
            ("30d", gettext_lazy("Last 30 days")),
            ("90d", gettext_lazy("Last 90 days")),
            ("365d", gettext_lazy("Last 365 days")),
            (_LAST_MONTH, gettext_lazy("Last month")),
            (_CUSTOM, gettext_lazy("Custom")),
        ],
    )
    since = DayField(label=gettext_lazy("From"), required=False)
    until = DayField(label=gettext_lazy("To"), required=False)
    group = forms.ModelChoiceField(
        Group.objects.order_by("name"), label=gettext_lazy("Group"), required=False, empty_label=gettext_lazy("All")
    )
    client = forms.CharField(label=gettext_lazy("Client"), required=False, max_length=200)
    integration = forms.ModelChoiceField(
        Integration.objects.only("name").order_by("name"),
        label=gettext_lazy("Integration"),
        required=False,
        empty_label=gettext_lazy("All"),
    )
    priority = forms.ChoiceField(
        label=gettext_lazy("Priority"), required=False, choices=[("", gettext_lazy("All")), *PRIORITIES]
    )


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """What a report is about."""

    form: ReportForm
    period: Period
    filters: AlertFilter
    by: GroupBy
    bucket: Bucket

    @property
    def period_label(self) -> str:
        """The selected period in words; the days of a custom one."""
        choice = self.form.cleaned_data.get("period") or _DEFAULT
        if choice == _CUSTOM:
            return f"{local_date(self.period.first_day)} – {local_date(self.period.last_day)}"
        return str(dict(self.form.fields["period"].choices)[choice])  # type: ignore[attr-defined]

    @property
    def filter_count(self) -> int:
        """How many filters are set, the period aside."""
        return sum(bool(self.form.cleaned_data.get(name)) for name in ("group", "client", "integration", "priority"))

    @property
    def file_suffix(self) -> str:
        """The period for a file's name: its first and last day."""
        return f"{self.period.first_day}-{self.period.last_day}"


def parse_query(request: SignedInRequest, default_by: GroupBy = GroupBy.PERSON) -> ReportQuery:
    """Parse the query string. An unusable value falls back to its default; an unusable period is explained in the
    form."""
    form = ReportForm({"period": _DEFAULT} | request.GET.dict())
    form.is_valid()
    values = form.cleaned_data
    period = _period(form, request)
    group, integration, priority = values.get("group"), values.get("integration"), values.get("priority")
    return ReportQuery(
        form,
        period,
        AlertFilter(
            group_id=group.pk if group else None,
            client=values.get("client", ""),
            integration_id=integration.pk if integration else None,
            priority=Priority(priority) if priority else None,
        ),
        choose(GroupBy, request.GET.get("by"), default_by),
        choose(Bucket, request.GET.get("per"), period.bucket),
    )


def choose[E: StrEnum](choices: type[E], text: str | None, default: E) -> E:
    """Return the choice of that name, or the default."""
    return next((choice for choice in choices if choice == text), default)


def _period(form: ReportForm, request: SignedInRequest) -> Period:
    zone = ZoneInfo(request.user.time_zone)
    choice, since, until = (form.cleaned_data.get(name) for name in ("period", "since", "until"))
    if choice == _LAST_MONTH:
        return Period.last_month(request.now, zone)
    if choice == _CUSTOM and isinstance(since, date) and isinstance(until, date) and until < since:
        form.add_error("until", _("The last day must not be before the first."))
    elif choice == _CUSTOM and isinstance(since, date) and isinstance(until, date):
        try:
            return Period.days(since, until, zone)
        except Rejected as rejected:
            show_rejection(form, rejected, {"to": "until"})
    elif choice == _CUSTOM and not form.errors:
        form.add_error("since" if since is None else "until", _("Choose the first and the last day."))
    return Period.last_days(_DAYS.get(choice or "", _DAYS[_DEFAULT]), request.now, zone)
