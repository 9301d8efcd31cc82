"""Holidays: the public ones of a country or region, and custom days. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache

from tocsin.core.reasons import Reason, ReasonType

_UNKNOWN_COUNTRY = ReasonType(
    "holiday.unknown_country",
    '"{country}" is not a country with known holidays; write two letters, such as CH, or list days.',
)
_UNKNOWN_REGION = ReasonType(
    "holiday.unknown_region", '"{region}" is not a region of {country} with its own holidays; known: {regions}.'
)
_NO_REGIONS = ReasonType(
    "holiday.no_regions", '"{region}" is not a region of {country} with its own holidays; the country has none.'
)


@dataclass(frozen=True, slots=True)
class CustomHoliday:
    """A custom day. Without a year it recurs every year."""

    month: int
    day: int
    name: str
    year: int | None = None


@dataclass(frozen=True, slots=True)
class HolidayDays:
    """A holiday calendar."""

    name: str
    country: str = ""
    region: str = ""
    custom_days: tuple[CustomHoliday, ...] = ()
    _years: dict[int, Mapping[date, str]] = field(default_factory=dict, compare=False, repr=False)

    def holiday_on(self, day: date) -> str | None:
        """Returns the name of the holiday on `day`, or None."""
        year = self._years.get(day.year)
        if year is None:
            year = self._years[day.year] = self._in_year(day.year)
        return year.get(day)

    def _in_year(self, year: int) -> Mapping[date, str]:
        days = dict(public_holidays(self.country, self.region, year)) if self.country else {}
        for custom in self.custom_days:
            if custom.year in (None, year):
                try:
                    days[date(year, custom.month, custom.day)] = custom.name
                except ValueError:  # 29 February, in a year without one
                    continue
        return days


def load(name: str, country: str, region: str, days: Sequence[Mapping[str, str]]) -> HolidayDays:
    """Returns the calendar from its stored form."""
    return HolidayDays(name, country, region, tuple(parse_custom_day(entry["date"], entry["name"]) for entry in days))


def parse_custom_day(text: str, name: str) -> CustomHoliday:
    """Parses `2026-12-24`, or `12-24` for every year. Raises ValueError."""
    if len(text) == len("12-24"):
        parsed = date.fromisoformat(f"2000-{text}")  # a leap year
        return CustomHoliday(parsed.month, parsed.day, name)
    parsed = date.fromisoformat(text)
    return CustomHoliday(parsed.month, parsed.day, name, parsed.year)


@cache
def public_holidays(country: str, region: str, year: int) -> Mapping[date, str]:
    """Returns the public holidays of a country (ISO 3166-1) or region (ISO 3166-2) in one year, by day.

    Raises ValueError for a country or region that the `holidays` package does not know.
    """
    # Imported here, because it takes 50 MB, which installations without holidays do not need.
    import holidays

    try:
        public_days = holidays.country_holidays(country, subdiv=region or None, years=year, expand=False)
    except NotImplementedError as error:
        raise ValueError(str(error)) from None
    return dict(public_days)


@cache
def countries() -> tuple[tuple[str, str], ...]:
    """Returns every country with known holidays, as code and English name, by name."""
    from holidays.registry import COUNTRIES  # as above

    names = ((entry[1], re.sub(r"(?<=[a-z])(?=[A-Z])", " ", entry[0])) for entry in COUNTRIES.values())
    return tuple(sorted(names, key=lambda one: one[1]))


def regions(country: str) -> tuple[str, ...]:
    """Returns the regions of a country with holidays of their own; none for an unknown country."""
    import holidays  # as above

    return tuple(holidays.list_supported_countries().get(country, ()))


def find_problem(country: str, region: str) -> tuple[str, Reason] | None:
    """Returns the invalid field, `country` or `region`, with the reason; None if both are valid."""
    import holidays  # as above

    regions_by_country = holidays.list_supported_countries()
    if country not in regions_by_country:
        return "country", _UNKNOWN_COUNTRY(country=country)
    if region and region not in regions_by_country[country]:
        regions = tuple(regions_by_country[country])
        if not regions:
            return "region", _NO_REGIONS(region=region, country=country)
        return "region", _UNKNOWN_REGION(region=region, country=country, regions=regions)
    return None
