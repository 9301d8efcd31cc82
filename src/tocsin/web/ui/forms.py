"""What forms share: rejections from a command land beside their field, and fields that several forms have."""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django import forms
from django.forms.utils import flatatt
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from tocsin.core.errors import Rejected, RejectedAll
from tocsin.oncall.calculation import weekly_windows
from tocsin.web.told import told


def show_rejection(
    form: forms.BaseForm,
    rejected: Rejected,
    places: Mapping[str, str] | None = None,
    *,
    said: Collection[str] = (),
) -> None:
    """Puts each problem beside the field that its place names; `places` maps a place's beginning to another field.

    Fields that are `said` have their sentence already, and get no other.
    """
    for problem in each(rejected):
        place = problem.field or ""
        field = _field(form, place, places or {})
        if field in said:
            continue
        text = beside(problem) if field else told(problem.detail)
        inside = place.removeprefix(field or "").lstrip(".")
        if inside and field and isinstance(form.fields[field], CodeField):
            # One field holds a whole text: its place says where in it.
            text = f"{inside}: {text}"
        form.add_error(field, text)


def beside(problem: Rejected) -> str:
    """What is wrong, in the reader's language, for whoever sees the place: the sentence begins with it otherwise."""
    text = problem.detail.removeprefix(f"{problem.field}: ")
    return told(text if text == problem.detail else text[:1].upper() + text[1:])


def each(rejected: Rejected) -> tuple[Rejected, ...]:
    """Every problem of a rejection."""
    return rejected.problems if isinstance(rejected, RejectedAll) else (rejected,)


def _field(form: forms.BaseForm, place: str, places: Mapping[str, str]) -> str | None:
    for beginning, field in places.items():
        if place == beginning or place.startswith((f"{beginning}.", f"{beginning}[")):
            return field
    first = place.split(".")[0].split("[")[0]
    return first if first in form.fields else None


def typed(form: forms.BaseForm) -> dict[str, Any]:
    """What stands in a form, for another to begin with."""
    return {name: form[name].value() for name in form.fields}


def readable(form: forms.BaseForm) -> dict[str, Any]:
    """What a bound form says, as far as it can be read: a field with something wrong in it is as if left empty."""
    return {name: form.cleaned_data.get(name, field.to_python(None)) for name, field in form.fields.items()}


@cache
def zones() -> list[tuple[str, str]]:
    """Every time zone that has a place, by name; UTC first."""
    named = sorted(zone for zone in zoneinfo.available_timezones() if "/" in zone and not zone.startswith("Etc/"))
    return [("UTC", "UTC"), *((zone, zone.replace("_", " ")) for zone in named)]


@cache
def _zone_options() -> str:
    return "".join(f'<option value="{escape(zone)}">{escape(name)}</option>' for zone, name in zones())


class ZoneSelect(forms.Select):
    """All 600 time zones. They are written at once: a form with several would take a third of a second otherwise.

    `unset`: what stands first, for no zone.
    """

    def __init__(self, attrs: dict[str, Any] | None = None, *, unset: Any = "") -> None:
        super().__init__(attrs)
        self.unset = unset

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """The choice, with the zone that is chosen."""
        attributes = flatatt({"name": name, "class": "form-select", **self.build_attrs(self.attrs, attrs)})
        chosen = f'<option value="{escape("" if value is None else str(value))}"'
        options = _zone_options().replace(f"{chosen}>", f"{chosen} selected>", 1)
        unset = f'<option value="">{escape(self.unset)}</option>' if self.unset else ""
        return SafeString(f"<select{attributes}>{unset}{options}</select>")


class ZoneField(forms.ChoiceField):
    """A choice among all time zones."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("label", _("Time zone"))
        super().__init__(choices=zones, widget=ZoneSelect(), **options)


def offer_own_zone(form: forms.Form, name: str = "time_zone") -> None:
    """Has a form for something new offer the browser's own time zone in place of UTC.

    Never where a zone is stored: UTC that somebody chose would be another zone at the next change of anything else.
    """
    if not form.is_bound:
        form.fields[name].widget.attrs["data-zones"] = True


class DurationField(forms.CharField):
    """A span as people write it, such as 5m or 1h30m; checked by the command that takes it."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", 20)
        super().__init__(**options)


def in_picker(clock: str) -> str:
    """A time of day as a browser's picker takes it, in which the end of a day is 00:00."""
    return "00:00" if clock == "24:00" else clock


class CodeField(forms.CharField):
    """Text whose spaces matter, in a typewriter's letters."""

    def __init__(self, *, rows: int = 14, **options: Any) -> None:
        attributes = {"class": "form-control code", "rows": rows, "spellcheck": "false", "autocapitalize": "off"}
        super().__init__(widget=forms.Textarea(attrs=attributes), strip=False, **options)


class MomentField(forms.Field):
    """A moment as a local time of whoever reads, with the browser's own picker; in UTC when it is read.

    A time that clocks skip is that much later, and of one that comes twice the first is meant, as everywhere.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.DateTimeInput(attrs={"type": "datetime-local"}), **options)

    def prepare_value(self, value: Any) -> Any:
        """What stands in the picker."""
        return timezone.localtime(value).strftime("%Y-%m-%dT%H:%M") if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> Any:
        """The moment, or None where nothing is given."""
        text = str(value or "").strip()[:40]
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            found = None
        if found is None or not 1970 < found.year < 2200:
            raise forms.ValidationError(_("This is not a date and time."))
        return weekly_windows.instant(found, reader_zone()) if found.tzinfo is None else found.astimezone(UTC)


def reader_zone() -> zoneinfo.ZoneInfo:
    """The time zone of whoever reads."""
    found = timezone.get_current_timezone()
    return found if isinstance(found, zoneinfo.ZoneInfo) else zoneinfo.ZoneInfo("UTC")
