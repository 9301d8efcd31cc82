"""On-call fairness: how much each user is on call and paged, by month, with the difference from an even share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.validation import csv_text
from tocsin.oncall.calculation import month_calendar
from tocsin.oncall.calculation.workload import OnCallTime
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group
from tocsin.reports import fairness
from tocsin.reports.fairness import FairnessFilter, MonthlyLoad, PersonalLoad
from tocsin.web.http.request import SignedInRequest, render_view

#: Selectable numbers of months, the last of which is the selected one.
MONTH_COUNTS = (1, 3, 6, 12)
_KINDS = ("total", "night", "weekend", "holiday")
#: Columns of the CSV file, named as in the API.
_COLUMNS = (
    "month", "user", "name", *(f"{kind}_{part}" for kind in _KINDS for part in ("hours", "difference")),
    "pages", "night_pages", "pages_difference",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FairnessQuery:
    """The query string of the report."""

    month: date
    count: int
    role: MemberRole | None
    group: Group | None
    groups: Sequence[Group]

    @property
    def months(self) -> list[date]:
        return fairness.months_until(self.month, self.count)


@require_safe
def report(request: SignedInRequest) -> HttpResponse:
    """Render the load of each user in the selected months, in total and by month."""
    query = _parse_query(request)
    months = _load(request, query)
    people = fairness.total_load(months)
    context = {
        "query": query,
        "month": query.month,
        "earlier": fairness.months_until(query.month, 2)[0],
        "later": month_calendar.next_month(query.month),
        "first_month": query.months[0],
        "counts": MONTH_COUNTS,
        "roles": list(MemberRole),
        "people": people,
        "longest": max((person.time.total for person in people), default=None),
        "months": months if query.count > 1 else (),
        "rows_by_month": [(person, _hours_by_month(person, months)) for person in people],
        "night": settings_store.night_hours(),
        "time_zone": request.user.time_zone,
    }
    return render_view(request, "reports/fairness.html", context)


@require_safe
def report_csv(request: SignedInRequest) -> HttpResponse:
    """Download the load by user and month as CSV, in hours."""
    query = _parse_query(request)
    lines = [_line(month.month, person) for month in _load(request, query) for person in month.people]
    response = HttpResponse(csv_text.write([_COLUMNS, *lines]), content_type="text/csv; charset=utf-8")
    name = f"tocsin-fairness-{query.month:%Y-%m}-{query.count}-months.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _load(request: SignedInRequest, query: FairnessQuery) -> list[MonthlyLoad]:
    selected = FairnessFilter(query.group.pk if query.group else None, query.role)
    night = settings_store.night_hours()
    with database.transaction() as connection:
        return fairness.load_fairness(connection, query.months, ZoneInfo(request.user.time_zone), night, selected)


def _parse_query(request: SignedInRequest) -> FairnessQuery:
    """Parse the query string. Unknown values fall back to the defaults."""
    try:
        month = month_calendar.parse_month(request.GET.get("month", ""))
    except Rejected:
        month = request.now.astimezone(ZoneInfo(request.user.time_zone)).date().replace(day=1)
    groups = list(Group.objects.filter(schedules__isnull=False).distinct().order_by("name"))
    return FairnessQuery(
        month,
        next((count for count in MONTH_COUNTS if str(count) == request.GET.get("months")), 1),
        next((role for role in MemberRole if role == request.GET.get("role")), None),
        next((group for group in groups if str(group.pk) == request.GET.get("group")), None),
        groups,
    )


def _hours_by_month(person: PersonalLoad, months: Iterable[MonthlyLoad]) -> list[PersonalLoad | None]:
    return [next((one for one in month.people if one.username == person.username), None) for month in months]


def _line(month: date, person: PersonalLoad) -> list[object]:
    return [
        f"{month:%Y-%m}",
        person.username,
        person.name,
        *(
            value
            for own, difference in zip(_hours(person.time), _hours(person.difference), strict=True)
            for value in (own, difference)
        ),
        person.pages,
        person.night_pages,
        round(person.pages_difference, 2),
    ]


def _hours(time: OnCallTime) -> list[float]:
    return [round(getattr(time, kind).total_seconds() / 3600, 2) for kind in _KINDS]
