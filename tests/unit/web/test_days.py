"""A day is written as the reader's language writes it."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from django.utils import timezone, translation

from tocsin.web.oncall import shift_words


@pytest.mark.parametrize(("language", "said"), [("en", "Mon 30 Nov"), ("de", "Mo, 30. Nov")])
def test_a_day_of_duty_has_the_dot_that_german_wants(language: str, said: str) -> None:
    with translation.override(language), timezone.override("Europe/Zurich"):
        assert shift_words.day(date(2026, 11, 30)) == said
        end = datetime(2026, 12, 7, 8, tzinfo=UTC)
        assert shift_words.between(datetime(2026, 11, 30, 8, tzinfo=UTC), end).startswith(f"{said} 09:00 – Mo")
