"""Forged form data: invalid part counts, digits and dates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from tests.support.form_data import filled
from tests.web.conftest import Company
from tocsin.people.models import User
from tocsin.workflows.models import Workflow

type BrowserOf = Callable[[User], Client]


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/workflows/new/", "actions"),
        ("/policies/new/", "steps"),
        ("/on-call/schedules/new/", "shifts"),
        ("/on-call/holidays/new/", "days"),
        ("/me/notification-rules/", "quiet"),
    ],
)
def test_formset_with_any_forged_count_reports_errors(
    company: Company, browser_of: BrowserOf, path: str, prefix: str
) -> None:
    admin = browser_of(company.admin)
    path = f"{path}?group={company.desk.pk}" if "schedules" in path else path
    sent = {**filled(admin.get(path).content.decode()), "name": ["Forged"], "time_zone": ["UTC"]}
    assert f"{prefix}-TOTAL_FORMS" in sent
    for count in ("TOTAL", "INITIAL"):
        for given in ("0", "7", "²"):
            answer = admin.post(path, {**sent, f"{prefix}-{count}_FORMS": given})
            assert answer.status_code in (200, 302, 422), (count, given)


def test_forged_unchanged_new_actions_are_processed_as_submitted(company: Company, browser_of: BrowserOf) -> None:
    admin = browser_of(company.admin)
    sent = filled(admin.get("/workflows/new/?from=sla").content.decode())
    assert admin.post("/workflows/new/?from=sla", {**sent, "actions-INITIAL_FORMS": "0"}).status_code == 302
    assert Workflow.objects.count() == 1


@pytest.mark.parametrize("at", ["0001-01-01T00:00", "9999-12-31T23:59"])
def test_a_moment_beyond_the_calendar_is_refused_in_words(company: Company, browser_of: BrowserOf, at: str) -> None:
    admin = browser_of(company.admin)
    halo = f"/integrations/{company.halo.pk}/test/"
    assert admin.get(f"/system/?at={at}").status_code == 200
    assert admin.get(f"/policies/{company.policy.pk}/?at={at}").status_code == 200
    text = admin.post(halo, {"chosen": "pasted", "payload": "{}", "at": at}).content.decode()
    assert "Enter a valid date and time." in text
    assert admin.post("/pause/", {"reason": "x", "until": at}).status_code == 422


def test_digits_that_are_no_number_are_no_number(company: Company, browser_of: BrowserOf) -> None:
    admin = browser_of(company.admin)
    sent = filled(admin.get("/workflows/new/?from=sla").content.decode())
    admin.post("/workflows/new/?from=sla", sent)
    row = Workflow.objects.get()
    assert admin.get(f"/workflows/{row.pk}/?q=²").status_code == 200
    assert admin.post("/workflows/new/", {**sent, "do": "cond:start.²:add"}).status_code in (200, 302, 422)
