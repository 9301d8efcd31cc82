"""The report page, and its figures as CSV."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.validation import inputs
from tocsin.notify.models import ClientReport
from tocsin.oncall.changes.commands import save_schedule
from tocsin.people.models import User
from tocsin.web.templatetags.reports import difference, short_span

REPORTS = ("", "sla/", "noise/", "interruptions/")


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ("", "No alerts in this period"),
        ("sla/", "No alerts with an SLA in this period"),
        ("noise/", "No alerts in this period"),
        ("interruptions/", "No pages in this period"),
    ],
)
def test_empty_report_is_explained(
    company: Company, browser_of: Callable[[User], Client], report: str, text: str
) -> None:
    assert text in browser_of(company.observer).get(f"/reports/{report}?period=7d").content.decode()


def test_a_file_is_safe_to_open_in_a_spreadsheet(
    company: Company, browser_of: Callable[[User], Client], open_alert: Callable[..., int]
) -> None:
    open_alert("VPN down", client="=HYPERLINK(1)")
    client = browser_of(company.observer)
    page = client.get("/reports/?by=client").content.decode()
    assert "=HYPERLINK(1)" in page
    answer = client.get("/reports/response-times.csv?by=client&period=custom&since=2026-01-01&until=2026-12-31")
    assert answer["Content-Disposition"] == (
        'attachment; filename="tocsin-response-times-by-client-2026-01-01-2026-12-31.csv"'
    )
    text = answer.content.decode()
    assert text.splitlines()[1] == "'=HYPERLINK(1),1,0,,,0,,,0,,"
    header, row = inputs.read_csv(text)
    assert header[:4] == ["client", "alerts", "acknowledged_count", "acknowledged_p50_seconds"]
    assert row[:2] == ["=HYPERLINK(1)", "1"]


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("response-times.csv?trend=1&per=week", "week,alerts,acknowledged_count"),
        ("sla.csv", "client,alerts,response_kept"),
        ("sla-breaches.csv", "alert,subject,client,priority,target,due_at,met_at"),
        ("noise.csv", "integration,key,alerts,auto_closed,acknowledged"),
        ("interruptions.csv", "user,name,weekday,hour,alerts"),
        ("nights.csv", "user,name,alerts,at_night,nights"),
    ],
)
def test_every_table_is_a_file(company: Company, browser_of: Callable[[User], Client], name: str, header: str) -> None:
    assert browser_of(company.observer).get(f"/reports/{name}").content.decode().startswith(header)


def test_every_row_of_a_table_has_each_column(
    company: Company, browser_of: Callable[[User], Client], open_alert: Callable[..., int]
) -> None:
    open_alert("VPN down")
    page = browser_of(company.observer).get("/reports/").content.decode()
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert len(tables) == 2
    for table in tables:
        columns, *rows = (len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL))
        assert set(rows) == {columns}


def test_unknown_file_is_not_found(company: Company, browser_of: Callable[[User], Client]) -> None:
    assert browser_of(company.observer).get("/reports/secrets.csv").status_code == 404


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize(
    "query", ["?period=8d&by=colour&per=hour", "?period=%00&by=&group=x&priority=urgent", "?period=-1&group=99"]
)
def test_unknown_report_parameters_show_the_default_report(
    company: Company, browser_of: Callable[[User], Client], report: str, query: str
) -> None:
    assert browser_of(company.observer).get(f"/reports/{report}{query}").status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-11-02&until=2026-11-01", "until"),
        ("since=2024-11-02&until=2026-11-01", "until"),
        ("since=2026-11-02", "until"),
        ("", "since"),
        ("since=yesterday&until=2026-11-01", "since"),
    ],
)
def test_impossible_period_is_explained_beside_its_field(
    company: Company, browser_of: Callable[[User], Client], query: str, field: str
) -> None:
    answer = browser_of(company.observer).get(f"/reports/?period=custom&{query}")
    assert answer.status_code == 200
    assert list(answer.context["form"].errors) == [field]


def test_folded_filters_say_how_many_are_set(company: Company, browser_of: Callable[[User], Client]) -> None:
    browser = browser_of(company.observer)
    text = browser.get(f"/reports/?period=7d&client=Acme&group={company.desk.pk}").content.decode()
    assert 'Filter <span class="soft">Last 7 days</span> <span class="chip">2 active</span>' in text
    custom = browser.get("/reports/?period=custom&since=2026-11-01&until=2026-11-02")
    assert custom.context["query"].filter_count == 0
    assert custom.context["query"].period_label == "Sun 1 Nov 2026 – Mon 2 Nov 2026"


def test_noisy_source_leads_to_a_filled_grouping_rule(
    company: Company, browser_of: Callable[[User], Client], open_alert: Callable[..., int]
) -> None:
    for disk in (1, 2):
        open_alert(f"Disk {disk} is full", client="Acme")
    client = browser_of(company.admin)
    link = f"/integrations/{company.halo.pk}/routing/?group_by=%3Cfield%3Aclient%3E#holding-back"
    assert link in client.get("/reports/noise/").content.decode()
    page = client.get(link.partition("#")[0]).content.decode()
    assert 'name="suppression.grouping.by" value="&lt;field:client&gt;"' in page
    assert 'name="suppression.grouping.within" value="30m"' in page


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=59, milliseconds=600), "1 min"),
        (timedelta(seconds=89), "1 min"),
        (timedelta(minutes=59, seconds=40), "1 h"),
        (timedelta(hours=4, minutes=32), "4 h 32 min"),
        (timedelta(days=2, hours=3, minutes=59), "2 d 3 h"),
        (timedelta(days=2), "2 d"),
        (None, ""),
    ],
)
def test_duration_is_shown_in_two_units_at_most(span: timedelta | None, message: str) -> None:
    assert short_span(span) == message


def test_fairness_shows_each_user_and_exports_them(company: Company, browser_of: Callable[[User], Client]) -> None:
    client = browser_of(company.observer)
    assert "No one is on call by a schedule" in client.get("/reports/fairness/").content.decode()
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob", "alice"]}
    shift = {"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}
    spec = {"name": "Desk 24x7", "group": "Service Desk", "time_zone": "Europe/Zurich", "shifts": [shift]}
    save_schedule(spec, actor=COMMAND_LINE, now=company.now)
    page = client.get("/reports/fairness/?month=2026-11&months=3").content.decode()
    assert "Sep 2026 – Nov 2026" in page
    assert "month=2026-10" in page
    assert "month=2026-12" in page
    answer = client.get("/reports/fairness.csv?month=2026-11&months=3")
    assert answer["Content-Disposition"] == 'attachment; filename="tocsin-fairness-2026-11-3-months.csv"'
    header, *rows = inputs.read_csv(answer.content.decode())
    assert header[:5] == ["month", "user", "name", "total_hours", "total_difference"]
    assert {row[0] for row in rows} == {"2026-09", "2026-10", "2026-11"}
    assert sum(float(row[3]) for row in rows if row[0] == "2026-10") == 31 * 24
    assert client.get("/reports/fairness/?month=x&months=99&role=boss&group=0").status_code == 200


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "±0"), (12.5, "+12.5"), (-3.0, "−3"), (1234.56, "+1,234.6"), (-0.04, "±0")]
)
def test_difference_has_its_sign(value: float, text: str) -> None:
    assert difference(value) == text


def test_a_clients_month_is_two_steps_away(
    company: Company, browser_of: Callable[[User], Client], open_alert: Callable[..., int]
) -> None:
    open_alert("VPN down", client="Acme & Co")
    month = f"{company.now:%Y-%m}"
    client = browser_of(company.observer)
    tab = client.get(f"/reports/client/?month={month}").content.decode()
    link = re.search(r'href="(\?[^"]*client=Acme[^"]*)"', tab)
    assert link is not None
    page = client.get(f"/reports/client/{html.unescape(link[1])}").content.decode()
    assert "VPN down" in page
    assert "Mail monthly" not in page


def test_client_report_names_no_alert_of_another_group(
    company: Company, browser_of: Callable[[User], Client], open_alert: Callable[..., int]
) -> None:
    number = open_alert("Their secret", client="Acme")
    settings_store.set(settings_store.VISIBILITY, "groups")
    url = f"/reports/client/?month={company.now:%Y-%m}"
    assert "Acme" in browser_of(company.admin).get(url).content.decode()
    outsider = browser_of(company.observer)
    assert not Alert.objects.get(pk=number).owner_id
    assert ">Acme<" not in outsider.get(url).content.decode()
    assert "Their secret" not in outsider.get(f"{url}&client=Acme").content.decode()


def test_only_administrators_have_a_clients_month_mailed(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    assert browser_of(company.manager).get("/reports/client/mail/").status_code == 403
    admin = browser_of(company.admin)
    assert 'value="Acme"' in admin.get("/reports/client/mail/new/?client=Acme").content.decode()
    form = {"client": "Acme", "address": "service@acme.example", "language": "de", "enabled": "on"}
    assert admin.post("/reports/client/mail/new/", form).status_code == 302
    report = ClientReport.objects.get()
    assert (report.client, report.address, report.language, report.is_enabled) == (
        "Acme", "service@acme.example", "de", True,
    )  # fmt: skip
    assert "service@acme.example" in admin.get("/reports/client/mail/").content.decode()
