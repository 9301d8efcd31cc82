"""Shared form code: mapping rejections to fields, and fields that several forms use."""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from django import forms
from django.forms.utils import flatatt
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.oncall.calculation import weekly_windows


def show_rejection(
    form: forms.BaseForm,
    rejected: Rejected,
    places: Mapping[str, str] | None = None,
    *,
    fields_with_errors: Collection[str] = (),
) -> None:
    """Add each problem of a rejection to the form, at the field that the problem's path names.

    `places` maps path prefixes to form fields with another name. Fields in `fields_with_errors` already have an error
    and get no second.
    """
    for problem in problems_of(rejected):
        path = problem.field or ""
        field = _field(form, path, places or {})
        if field in fields_with_errors:
            continue
        text = field_error_text(problem) if field else problem.reason.localized()
        inner_path = path.removeprefix(field or "").lstrip(".")
        if inner_path and field and isinstance(form.fields[field], CodeField):
            # The field contains a whole document, so the error names the path inside it.
            text = f"{inner_path}: {text}"
        form.add_error(field, text)


def field_error_text(problem: Rejected) -> str:
    """Return the problem in the user's language without its leading path, because it is shown beside the field."""
    text = problem_text(problem)
    return text[:1].upper() + text[1:] if problem.reason.code == AT_PATH.code else text


def problem_text(problem: Rejected) -> str:
    """Return the problem in the user's language without its leading path."""
    if problem.reason.code == AT_PATH.code and isinstance(inner := problem.reason["problem"], Reason):
        return inner.localized()
    return problem.reason.localized()


def problems_of(rejected: Rejected) -> tuple[Rejected, ...]:
    """Return every problem of a rejection."""
    return rejected.problems if isinstance(rejected, RejectedAll) else (rejected,)


def _field(form: forms.BaseForm, path: str, places: Mapping[str, str]) -> str | None:
    for beginning, field in places.items():
        if path == beginning or path.startswith((f"{beginning}.", f"{beginning}[")):
            return field
    first = path.split(".")[0].split("[")[0]
    return first if first in form.fields else None


def typed(form: forms.BaseForm) -> dict[str, Any]:
    """Return the form's current values by field name, to prefill another form."""
    return {name: form[name].value() for name in form.fields}


def valid_values(form: forms.BaseForm) -> dict[str, Any]:
    """Return a bound form's values. A field with an error counts as empty."""
    return {name: form.cleaned_data.get(name, field.to_python(None)) for name, field in form.fields.items()}


@cache
def zones() -> list[tuple[str, str]]:
    """Return (zone, label) of every geographic time zone, sorted by name, with UTC first."""
    named = sorted(zone for zone in zoneinfo.available_timezones() if "/" in zone and not zone.startswith("Etc/"))
    return [("UTC", "UTC"), *((zone, zone.replace("_", " ")) for zone in named)]


@cache
def _zone_options() -> str:
    return "".join(f'<option value="{escape(zone)}">{escape(name)}</option>' for zone, name in zones())


class ZoneSelect(forms.Select):
    """Select for all 600 time zones. Its options are rendered once and cached, because rendering them for a form with
    several zone fields took a third of a second. `unset` is the label of the empty option."""

    def __init__(self, attrs: dict[str, Any] | None = None, *, unset: Any = "") -> None:
        super().__init__(attrs)
        self.unset = unset

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """Render the select with the current zone selected."""
        attributes = flatatt({"name": name, "class": "form-select", **self.build_attrs(self.attrs, attrs)})
        selected_option = f'<option value="{escape("" if value is None else str(value))}"'
        options = _zone_options().replace(f"{selected_option}>", f"{selected_option} selected>", 1)
        unset = f'<option value="">{escape(self.unset)}</option>' if self.unset else ""
        return SafeString(f"<select{attributes}>{unset}{options}</select>")


class ZoneField(forms.ChoiceField):
    """A choice among all time zones."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("label", _("Time zone"))
        super().__init__(choices=zones, widget=ZoneSelect(), **options)


def offer_own_zone(form: forms.Form, name: str = "time_zone") -> None:
    """Make the form of a new object preselect the browser's time zone instead of UTC.

    Never used for a stored zone: a deliberately chosen UTC would change with the next edit of any other field.
    """
    if not form.is_bound:
        form.fields[name].widget.attrs["data-zones"] = True


class DurationField(forms.CharField):
    """A duration such as 5m or 1h30m. The command that receives it validates it."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", 20)
        super().__init__(**options)


def picker_time(clock: str) -> str:
    """Return a time of day for the browser's time picker, which writes 24:00 as 00:00."""
    return "00:00" if clock == "24:00" else clock


class CodeField(forms.CharField):
    """A text area in a monospaced font that preserves whitespace."""

    def __init__(self, *, rows: int = 14, **options: Any) -> None:
        attributes = {"class": "form-control code", "rows": rows, "spellcheck": "false", "autocapitalize": "off"}
        super().__init__(widget=forms.Textarea(attrs=attributes), strip=False, **options)


class MomentField(forms.Field):
    """A date and time in the user's time zone, entered with the browser's picker; the cleaned value is in UTC.

    A time skipped by a clock change moves forward by the gap; of an ambiguous time the first is used, as in schedules.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.DateTimeInput(attrs={"type": "datetime-local"}), **options)

    def prepare_value(self, value: Any) -> Any:
        """Return the value for the picker, in the user's time zone."""
        return timezone.localtime(value).strftime("%Y-%m-%dT%H:%M") if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> Any:
        """Return the moment in UTC, or None if the field is empty. Raises ValidationError."""
        text = str(value or "").strip()[:40]
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or not 1970 < moment.year < 2200:
            raise forms.ValidationError(_("Enter a valid date and time."))
        return weekly_windows.instant(moment, user_zone()) if moment.tzinfo is None else moment.astimezone(UTC)


class DayField(forms.DateField):
    """A day, entered with the browser's picker."""

    def __init__(self, **options: Any) -> None:
        widget = forms.DateInput(attrs={"type": "date", "class": "form-control"}, format="%Y-%m-%d")
        super().__init__(widget=widget, input_formats=["%Y-%m-%d"], **options)

    def to_python(self, value: Any) -> date | None:
        """Return the day, or None if the field is empty. Raises ValidationError."""
        day = super().to_python(value)
        if day is not None and not 1970 < day.year < 2200:
            raise forms.ValidationError(_("Enter a valid date."))
        return day


def user_zone() -> zoneinfo.ZoneInfo:
    """Return the current user's time zone."""
    zone = timezone.get_current_timezone()
    return zone if isinstance(zone, zoneinfo.ZoneInfo) else zoneinfo.ZoneInfo("UTC")


if TYPE_CHECKING:
    FormSet = forms.BaseFormSet
else:

    class FormSet(forms.BaseFormSet):
        """A formset whose type says which forms it has: `FormSet[StepForm]`."""

        def __class_getitem__(cls, _form: object) -> type[FormSet]:
            return cls


class FilledFormSet[F: forms.BaseForm](FormSet[F]):
    """Every posted form counts, because none may be empty; the initial form count is ignored."""

    def _construct_form(self, i: int, **options: Any) -> F:
        return super()._construct_form(i, **{**options, "empty_permitted": False})  # type: ignore[misc, no-any-return]


def formset_class[S: forms.BaseFormSet[Any]](form: type[forms.BaseForm], formset: type[S], **limits: Any) -> type[S]:
    """Return a class of formsets without forms of their own; `limits` are those of Django's `formset_factory`."""
    return forms.formset_factory(form, formset=formset, extra=0, **limits)  # type: ignore[return-value] # a subclass


def set_choices(form: forms.BaseForm, name: str, choices: Iterable[tuple[Any, Any]]) -> None:
    """Set the choices of a form's field."""
    field = form.fields[name]
    assert isinstance(field, forms.ChoiceField)
    field.choices = choices
