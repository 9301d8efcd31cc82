"""Which days are holidays: those of a country or region, and days of one's own. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache


@dataclass(frozen=True, slots=True)
class CustomHoliday:
    """A day of one's own; without a year it comes each year."""

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
    own: tuple[CustomHoliday, ...] = ()
    _years: dict[int, Mapping[date, str]] = field(default_factory=dict, compare=False, repr=False)

    def on(self, day: date) -> str | None:
        """The name of the holiday that `day` is, or None."""
        year = self._years.get(day.year)
        if year is None:
            year = self._years[day.year] = self._in_year(day.year)
        return year.get(day)

    def _in_year(self, year: int) -> Mapping[date, str]:
        days = dict(public(self.country, self.region, year)) if self.country else {}
        for own in self.own:
            if own.year in (None, year):
                try:
                    days[date(year, own.month, own.day)] = own.name
                except ValueError:  # 29 February, in a year without one
                    continue
        return days


def load(name: str, country: str, region: str, days: Sequence[Mapping[str, str]]) -> HolidayDays:
    """The calendar from its stored form."""
    return HolidayDays(name, country, region, tuple(own_day(entry["date"], entry["name"]) for entry in days))


def own_day(text: str, name: str) -> CustomHoliday:
    """A day from `2026-12-24`, or `12-24` for each year. Raises ValueError."""
    if len(text) == len("12-24"):
        found = date.fromisoformat(f"2000-{text}")  # a leap year
        return CustomHoliday(found.month, found.day, name)
    found = date.fromisoformat(text)
    return CustomHoliday(found.month, found.day, name, found.year)


@cache
def public(country: str, region: str, year: int) -> Mapping[date, str]:
    """The public holidays of a country (ISO 3166-1) or one of its regions (ISO 3166-2) in one year, by day.

    Raises ValueError for a country or region that the `holidays` package does not know.
    """
    # Imported here: it takes 50 MB, which whoever has no holidays need not pay.
    import holidays

    try:
        found = holidays.country_holidays(country, subdiv=region or None, years=year, expand=False)
    except NotImplementedError as error:
        raise ValueError(str(error)) from None
    return dict(found)


@cache
def countries() -> tuple[tuple[str, str], ...]:
    """Every country with known holidays: its two letters and its name in English, by name."""
    from holidays.registry import COUNTRIES  # as above

    named = ((entry[1], re.sub(r"(?<=[a-z])(?=[A-Z])", " ", entry[0])) for entry in COUNTRIES.values())
    return tuple(sorted(named, key=lambda one: one[1]))


def regions(country: str) -> tuple[str, ...]:
    """The parts of a country with holidays of their own; none where the country is not known."""
    import holidays  # as above

    return tuple(holidays.list_supported_countries().get(country, ()))


def problem(country: str, region: str) -> tuple[str, str] | None:
    """The field, `country` or `region`, that names no place with known holidays, and a sentence; None: all is well."""
    import holidays  # as above

    known = holidays.list_supported_countries()
    if country not in known:
        return (
            "country",
            f'"{country}" is no country with known holidays; write two letters, such as CH, or list days.',
        )
    if region and region not in known[country]:
        listed = ", ".join(known[country]) or "none"
        return "region", f'"{region}" is no region of {country} with holidays of its own; known: {listed}.'
    return None
