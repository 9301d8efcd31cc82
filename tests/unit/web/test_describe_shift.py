"""Days are written in the reader's language."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from django.template.loader import render_to_string
from django.utils import timezone, translation

from tocsin.web.oncall import shift_forms


@pytest.mark.parametrize(("language", "message"), [("en", "Mon 30 Nov"), ("de", "Mo, 30. Nov")])
def test_a_day_of_duty_has_the_dot_that_german_wants(language: str, message: str) -> None:
    with translation.override(language), timezone.override("Europe/Zurich"):
        assert shift_forms.day(date(2026, 11, 30)) == message
        end = datetime(2026, 12, 7, 8, tzinfo=UTC)
        assert shift_forms.format_period(datetime(2026, 11, 30, 8, tzinfo=UTC), end).startswith(f"{message} 09:00 – Mo")


@pytest.mark.parametrize(("language", "message"), [("en", "Mon 30 Nov 2026"), ("de", "Mo, 30. Nov 2026")])
def test_holidays_are_localized_too(language: str, message: str) -> None:
    with translation.override(language):
        assert message in render_to_string(
            "oncall/holidays_preview.html", {"upcoming": [(date(2026, 11, 30), "Andreas")]}
        )
