"""The report page, and its figures as CSV."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.core.validation import csv_text
from tocsin.people.models import User
from tocsin.web.templatetags.reports import short_span


def test_empty_report_is_explained(company: Company, browser_of: Callable[[User], Client]) -> None:
    client = browser_of(company.observer)
    page = client.get("/reports/?days=7&by=client").content.decode()
    assert "No alerts in this period" in page
    assert "No night pages in this period" in page


def test_a_file_is_safe_to_open_in_a_spreadsheet(
    company: Company, browser_of: Callable[[User], Client], open_alert: Callable[..., int]
) -> None:
    open_alert("VPN down", client="=HYPERLINK(1)")
    client = browser_of(company.observer)
    page = client.get("/reports/?by=client").content.decode()
    assert "=HYPERLINK(1)" in page
    answer = client.get("/reports/alerts.csv?by=client&days=90")
    assert answer["Content-Disposition"] == 'attachment; filename="tocsin-alerts-by-client-90-days.csv"'
    text = answer.content.decode()
    assert text.splitlines()[1] == "'=HYPERLINK(1),1,0,,,0,,,0,,"
    header, row = csv_text.read(text)
    assert header[:4] == ["client", "alerts", "acknowledged_count", "acknowledged_median_seconds"]
    assert row[:2] == ["=HYPERLINK(1)", "1"]
    assert client.get("/reports/nights.csv").content.decode() == "user,name,alerts,at_night,nights\n"


@pytest.mark.parametrize("query", ["?days=8&by=colour", "?days=%00&by=", "?days=-1"])
def test_unknown_report_parameters_show_the_default_report(
    company: Company, browser_of: Callable[[User], Client], query: str
) -> None:
    page = browser_of(company.observer).get(f"/reports/{query}").content.decode()
    assert 'aria-current="page">30 days' in page


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=29), "29 s"),
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
