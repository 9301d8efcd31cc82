"""Time zone names of other products."""

from __future__ import annotations

import pytest

from tocsin.core.validation.inputs import is_zone
from tocsin.importers import config_builder


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        ("Europe/Zurich", "Europe/Zurich"),
        ("(UTC-06:00) Central Time (US & Canada)", "America/Chicago"),
        ("(GMT+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna", "Europe/Berlin"),
        ("Eastern Time (US & Canada)", "America/New_York"),
        ("Mars/Olympus", None),
        ("../etc/passwd", None),
        ("", None),
    ],
)
def test_time_zone_is_recognized_by_canonical_and_other_names(message: str, meant: str | None) -> None:
    assert config_builder.zone(message) == meant


def test_every_zone_that_a_name_leads_to_is_one() -> None:
    assert [zone for zone in config_builder._ZONES.values() if not is_zone(zone)] == []
