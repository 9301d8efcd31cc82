"""Shared form code: mapping rejections to fields, and fields that several forms use."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.apps import apps
from django.contrib import messages
from django.db.models import Model, QuerySet
from django.forms.renderers import TemplatesSetting
from django.forms.utils import flatatt
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic.fields import FieldInfo

from tocsin.access.roles import MemberRole
from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason, local_term
from tocsin.core.validation.inputs import AT_PATH
from tocsin.core.validation.spec import InForm, Reference, Spec
from tocsin.escalation.models import Policy
from tocsin.notify.providers.pool import CHANNELS
from tocsin.oncall.calculation import weekly_windows
from tocsin.people import addresses
from tocsin.people.models import Group, User
from tocsin.people.notification_rules import MAX_RULES

# ---------- choices
# Choices shared by several forms: priorities, group roles, channels, rules.


PRIORITIES = [
    (Priority.CRITICAL, _("Critical")),
    (Priority.HIGH, _("High")),
    (Priority.MEDIUM, _("Medium")),
    (Priority.LOW, _("Low")),
]


def channel_name(channel: str) -> str:
    """Return the translated display name of a channel."""
    return local_term(CHANNELS[channel].label) if channel in CHANNELS else channel


def trace_label(name: str) -> str:
    """Return the label of a rule, or of another mechanism in a message's trace."""
    labels = {
        "cancel": gettext("Close as false alarm"),
        "close": gettext("Close the alert"),
        "open": gettext("Open an alert"),
        "update": gettext("Update the alert"),
        "filters": gettext("Filters"),
        "veto": gettext("Veto"),
        "maintenance": gettext("Maintenance"),
        "flapping": gettext("Flapping"),
        "delay": gettext("Delay"),
        "parent": gettext("Parent"),
        "group": gettext("Group"),
        "flood": gettext("Alert storm"),
        "gate": gettext("Noise reduction"),
    }
    return labels.get(name, name)


def channel_choices() -> list[tuple[str, str]]:
    """Return (channel, label) for every channel that a contact method can use."""
    return [(name, channel_name(name)) for name in addresses.channels()]


ROLES = [
    (MemberRole.PRIMARY, _("primary")),
    (MemberRole.SECONDARY, _("secondary")),
    (MemberRole.LEAD, _("lead")),
]


def show_rejection(
    form: forms.BaseForm,
    rejected: Rejected,
    places: Mapping[str, str] | None = None,
    *,
    rows: Mapping[str, Sequence[forms.BaseForm]] | None = None,
    row_places: Mapping[str, str] | None = None,
) -> None:
    """Add each problem of a rejection to the form, at the field that the problem's path names.

    `places` maps path prefixes to form fields with another name. A problem of a list, such as `steps[1].after`, is
    added to the form of that row: `rows` has the forms of each list, and `row_places` their fields. A field that had
    an error before gets no second.
    """
    if rejected.code == "reaches_nobody" and "anyway" in form.fields:
        form.fields["anyway"].widget = forms.CheckboxInput()
    shown_forms = [form, *(row for list_of_rows in (rows or {}).values() for row in list_of_rows)]
    fields_with_errors = {shown_form: set(shown_form.errors) for shown_form in shown_forms}
    for problem in problems_of(rejected):
        path, target, target_places = problem.field or "", form, places or {}
        match = re.fullmatch(r"([\w.]+)\[(\d+)\]\.?(.*)", path)
        list_of_rows = (rows or {}).get(match[1], ()) if match else ()
        is_row = match is not None and int(match[2]) < len(list_of_rows)
        if match is not None and is_row:
            path, target, target_places = match[3], list_of_rows[int(match[2])], row_places or {}
        field = _field(target, path, target_places)
        if field in fields_with_errors[target]:
            continue
        text = field_error_text(problem) if field or is_row else problem.reason.localized()
        inner_path = path.removeprefix(field or "").lstrip(".")
        if inner_path and field and isinstance(target.fields[field], CodeField):
            # The field contains a whole document, so the error names the path inside it.
            text = f"{inner_path}: {text}"
        target.add_error(field, text)


class rejections_shown:  # a context manager, used as a function
    """Ends the block at a rejection, and shows that at the fields of a form, or to the user as a message."""

    def __init__(self, where: forms.BaseForm | HttpRequest, places: Mapping[str, str] | None = None) -> None:
        self._where, self._places = where, places

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Rejected):
            return False
        if isinstance(self._where, HttpRequest):
            messages.error(self._where, error.reason.localized())
        else:
            show_rejection(self._where, error, self._places)
        return True


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
    return next((name for name in (path, first) if name in form.fields), None)


def typed(form: forms.BaseForm) -> dict[str, Any]:
    """Return the form's current values by field name, to prefill another form."""
    return {name: form[name].value() for name in form.fields}


def chosen_labels(form: forms.BaseForm, name: str) -> list[str]:
    """Return the labels of a field's chosen options, as entered."""
    value, field = form[name].value(), form.fields[name]
    chosen = set(map(str, value if isinstance(value, list | tuple) else [value] if value else ()))
    if not chosen:
        return []
    options = (one for group in field.choices for one in _options(*group))  # type: ignore[attr-defined]
    return [str(label) for key, label in options if str(key) in chosen]


def _options(value: Any, label: Any) -> list[tuple[Any, Any]]:
    """Return the options of a group of options, or the option itself."""
    return list(label) if isinstance(label, list | tuple) else [(value, label)]


def valid_values(form: forms.BaseForm) -> dict[str, Any]:
    """Return a bound form's values. A field with an error counts as empty."""
    return {name: form.cleaned_data.get(name, field.to_python(None)) for name, field in form.fields.items()}


def values_at(spec: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a spec by form field, from the paths in `places`. Those that it does not have are left
    out."""
    values: dict[str, Any] = {}
    for path, field in places.items():
        value: Any = spec
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            values.setdefault(field, value)
    return values


def active_users() -> QuerySet[User]:
    """Return the users whom a form offers."""
    return User.objects.filter(is_active=True).order_by("name", "username")


def checkboxes(label: Any, source: Any = (), **options: Any) -> Any:
    """Return a field of check boxes, which may all be empty: of choices, or of the rows of a query."""
    options = {"label": label, "required": False, "widget": forms.CheckboxSelectMultiple, **options}
    if isinstance(source, QuerySet):
        return forms.ModelMultipleChoiceField(source, **options)
    return forms.MultipleChoiceField(choices=source, **options)


def owner_field(help_text: Any = "") -> forms.ModelChoiceField[Group]:
    """Return the field of the group that owns an object."""
    return forms.ModelChoiceField(
        Group.objects.all(),
        label=_("Owned by"),
        required=False,
        empty_label=_("Administrators only"),
        help_text=help_text,
    )


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

    def __init__(self, *, unset: str = "", **options: Any) -> None:
        options.setdefault("label", _("Time zone"))
        super().__init__(choices=zones, widget=ZoneSelect(unset=unset), **options)


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


class RecipientsForm(forms.Form):
    """Whom an alert pages."""

    policy = forms.ModelChoiceField(
        Policy.objects.all(),
        label=_("Escalation policy"),
        required=False,
        empty_label=_("None: page the users below immediately"),
    )
    groups = checkboxes(
        _("Groups"), Group.objects.all(), help_text=_("The policy's on-call roles are resolved in these groups.")
    )
    users = checkboxes(_("Users"), active_users(), help_text=_("Paged when the first step fires."))


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


# ---------- rendering
# Renders Django forms with the interface's own templates: label, help text and errors beside each field.


class FormRenderer(TemplatesSetting):
    """Takes field and widget templates from the project's template directories."""

    form_template_name = "parts/form.html"
    field_template_name = "parts/field.html"


# ---------- forms of flat objects
# Built from the fields of a spec that have a label (`InForm`): widget, limits, initial value, and the spec of what was
# entered. To add a field to an object is to add it to its model and its spec.


class WordsField(forms.Field):
    """Distinct words in one line; the cleaned value is a list."""

    def __init__(self, separator: str, *, is_number: bool = False, **options: Any) -> None:
        super().__init__(widget=forms.TextInput(attrs=_PLAIN), **options)
        self.separator, self.is_number = separator, is_number

    def prepare_value(self, value: Any) -> Any:
        """Return the words in one line."""
        return self.separator.join(map(str, value)) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> list[Any]:
        """Return the words. The command validates them."""
        words = dict.fromkeys(str(value or "").replace(",", " ").split())
        return [int(word) if self.is_number and word.isdecimal() else word for word in words]


class LinesField(forms.Field):
    """A text in each line; the cleaned value is a list."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.Textarea(attrs={"rows": 2, **_PLAIN}), **options)

    def prepare_value(self, value: Any) -> Any:
        """Return the lines."""
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> list[str]:
        """Return the lines that are not empty."""
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]


class PairsField(forms.Field):
    """A name with a value in each line; the cleaned value is a dictionary."""

    def __init__(self, sign: str, *, attrs: dict[str, Any], **options: Any) -> None:
        super().__init__(widget=forms.Textarea(attrs=attrs), **options)
        self.sign = sign

    def prepare_value(self, value: Any) -> Any:
        """Return the lines."""
        return "\n".join(map(self.sign.join, value.items())) if isinstance(value, Mapping) else value

    def to_python(self, value: Any) -> dict[str, str]:
        """Return the pairs. Raises ValidationError, naming the line."""
        pairs = {}
        for line in filter(str.strip, str(value or "").splitlines()):
            name, _sign, text = (part.strip() for part in line.partition(self.sign.strip()))
            if not name or not text:
                example = f"{gettext('name')}{self.sign}{gettext('value')}"
                raise forms.ValidationError(
                    _("“%(line)s” is not valid. Use %(example)s.") % {"line": line[:60], "example": example}
                )
            pairs[name] = text
        return pairs


_PLAIN = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}
_CODE = {"class": "form-control code", "rows": 3, "spellcheck": "false", "autocapitalize": "off"}

#: The widgets that `InForm` may name, besides those of `_spec_field`.
_WIDGETS: Mapping[str, forms.Widget] = {
    "plain": forms.TextInput(attrs=_PLAIN),
    "url": forms.TextInput(attrs={"inputmode": "url", "autocapitalize": "none", "spellcheck": "false"}),
    "moment": forms.DateTimeInput(attrs={"type": "datetime-local"}),
    "date": forms.DateInput(attrs={"type": "date"}),
    "time": forms.TimeInput(attrs={"type": "time"}),
    "long text": forms.Textarea(attrs={"rows": 3}),
    "radio": forms.RadioSelect(),
    "checkboxes": forms.CheckboxSelectMultiple(),
}


class SpecForm(forms.Form):
    """The form of a flat object. Its fields are those of the spec; a subclass may declare one with another widget,
    such as `end_policy` for `end.policy`.

    `current` is the object's spec, or what a new one begins with, and keeps what the form does not show.
    `stored_secrets` are the secrets that there are, `without` the fields that do not apply.
    """

    template_name = "parts/spec_form.html"
    #: The order of fields, those of one row together. All others follow in the order of the spec.
    layout: ClassVar[Sequence[str]] = ()
    #: Declared fields that the page's template places.
    placed: ClassVar[Collection[str]] = ()

    def __init__(
        self,
        data: Any = None,
        files: Any = None,
        *,
        spec_type: type[Spec],
        current: Mapping[str, Any],
        stored_secrets: Collection[str] = (),
        without: Collection[str] = (),
    ) -> None:
        super().__init__(data, files)
        self.current = current
        declared = {key: field for key, field in self.fields.items() if key not in without}
        self.fields, self.shown = {}, dict[str, InForm]()
        for key, (shown, info, schema, is_required) in sorted(
            _spec_fields(spec_type).items(), key=lambda item: item[1][0].is_last
        ):
            if key in without:
                continue
            common: dict[str, Any] = {
                "label": local_term(shown.label),
                "help_text": local_term(shown.help),
                "required": shown.is_required or is_required,
            }
            if schema.get("writeOnly") and key in stored_secrets:
                stored = gettext("Saved. Leave empty to keep the current value.")
                common |= {"help_text": f"{stored} {common['help_text']}".strip(), "required": False}
            field = declared.pop(key.replace(".", "_"), None) or _spec_field(shown, info, schema, common)
            for name, value in common.items():
                setattr(field, name, value)
            self.fields[key], self.shown[key] = field, shown
            field.initial = schema.get("default")
            self.initial[key] = _initial(field, _at(current, key, field.initial))
        self.fields |= declared
        self.order_fields(" ".join(self.layout).split())

    def rows(self) -> list[list[forms.BoundField]]:
        """Return the fields without a section, those of one row together."""
        placed = {*self.placed, *(key for key, shown in self.shown.items() if shown.section)}
        free = {key: self[key] for key in self.fields if key not in placed}
        rows = [[free.pop(key) for key in row.split() if key in free] for row in self.layout]
        return [*filter(None, rows), *([field] for field in free.values())]

    def sections(self) -> dict[str, list[forms.BoundField]]:
        """Return the fields of each section."""
        sections: dict[str, list[forms.BoundField]] = {}
        for key, shown in self.shown.items():
            sections.setdefault(shown.section, []).append(self[key])
        return sections

    def spec(self) -> dict[str, Any]:
        """Return the object in spec form. An empty or blank secret keeps the stored one, a field with an error counts
        as empty. May raise Rejected."""
        spec = dict(self.current)
        data = valid_values(self)
        for key in self.shown:
            value = _written(data[key])
            if isinstance(self.fields[key].widget, forms.PasswordInput):
                spec |= {key: value} if value and value.strip() else {}
                continue
            whole, _point, part = key.partition(".")
            spec[whole] = {**(spec.get(whole) or {}), part: value} if part else value
        return spec

    def show(self, rejected: Rejected) -> None:
        """Show each problem of a rejection at its field."""
        show_rejection(self, rejected)


@cache
def _spec_fields(spec_type: type[Spec]) -> dict[str, tuple[InForm, FieldInfo, dict[str, Any], bool]]:
    """Return the fields that a form shows by key, with their JSON schema and whether they are required; those of an
    object inside by "claims.email"."""
    schema = spec_type.json_schema()
    found: dict[str, tuple[InForm, FieldInfo, dict[str, Any], bool]] = {}
    for name, info in spec_type.model_fields.items():
        key = info.alias or name
        if isinstance(info.annotation, type) and issubclass(info.annotation, Spec):
            found |= {f"{key}.{inner}": field for inner, field in _spec_fields(info.annotation).items()}
        for shown in info.metadata:
            if isinstance(shown, InForm):
                found[key] = shown, info, schema["properties"][key], key in schema.get("required", ())
    return found


def _spec_field(shown: InForm, info: FieldInfo, schema: Mapping[str, Any], common: dict[str, Any]) -> forms.Field:
    items = schema.get("items", {})
    reference = next((marker.kind for marker in info.metadata if isinstance(marker, Reference)), "")
    widget: dict[str, Any] = {"widget": _WIDGETS[shown.widget]} if shown.widget in _WIDGETS else {}
    if reference or shown.widget == "group":
        rows = apps.get_model(reference or Group._meta.label).objects.all()
        if items:
            return forms.ModelMultipleChoiceField(rows, **widget, **common)
        return forms.ModelChoiceField(rows, empty_label=local_term(shown.empty), **common)
    if "enum" in schema or "enum" in items:
        labels = shown.choices or {}
        choices = [(value, local_term(labels.get(value, value))) for value in schema.get("enum") or items["enum"]]
        if items:
            return forms.MultipleChoiceField(choices=choices, widget=forms.CheckboxSelectMultiple, **common)
        return forms.ChoiceField(choices=choices, **widget, **common)
    match shown.widget, schema.get("type"):
        case "zone", _:
            return ZoneField(unset=local_term(shown.empty), **common)
        case ("code" | "long code") as name, _:
            return CodeField(rows=4 if name == "code" else 8, max_length=schema.get("maxLength"), **common)
        case ("words" | "spaced words") as name, _:
            return WordsField(", " if name == "words" else " ", **common)
        case "lines", _:
            return LinesField(**common)
        case "numbers", _:
            return WordsField(", ", is_number=True, **common)
        case "headers", _:
            return PairsField(": ", attrs=_CODE, **common)
        case "pairs", _:
            return PairsField(" = ", attrs=_CODE, **common)
        case _, "boolean":
            return forms.BooleanField(**{**common, "required": False})
        case _, "integer":
            return forms.IntegerField(min_value=schema["minimum"], max_value=schema["maximum"], **common)
    limit = schema.get("maxLength")
    if schema.get("writeOnly"):
        password = forms.PasswordInput(attrs={"autocomplete": "off"})
        return forms.CharField(max_length=limit, strip=False, widget=password, **common)
    return forms.CharField(max_length=limit, **widget, **common)


def _at(spec: Mapping[str, Any], key: str, default: object) -> Any:
    """Return what a spec has at a key, which may be one of an object inside."""
    whole, _point, part = key.partition(".")
    return (spec.get(whole) or {}).get(part, default) if part else spec.get(key, default)


def _initial(field: forms.Field, value: Any) -> Any:
    """Return a field's value for one of a spec, which names other objects."""
    if not isinstance(field, forms.ModelChoiceField) or not value:
        return value
    assert field.queryset is not None
    rows = field.queryset.filter(name__in=[value] if isinstance(value, str) else value)
    return rows.first() if isinstance(value, str) else rows


def _written(value: Any) -> Any:
    """Return a cleaned value as in a spec; what is empty is absent."""
    if isinstance(value, QuerySet):
        return [row.name for row in value] or None
    if isinstance(value, Model):
        return value.name  # type: ignore[attr-defined] # only objects with a name are referred to
    return None if value in ("", [], {}) else value


# ---------- notification rule forms
# Formset for notification rules: contact method, delay after the step, and repetitions.
#
# Used for a user's notification rules and for escalation steps that override them.


type ChoiceList = Sequence[tuple[Any, Any]]


class NotificationRuleForm(forms.Form):
    """One row. An empty row is ignored."""

    method = forms.ChoiceField(label=_("Contact method"), required=False)
    wait = DurationField(label=_("Delay"), required=False)
    times = forms.IntegerField(label=_("Repeats"), min_value=0, max_value=100, required=False)
    every = DurationField(label=_("Interval"), required=False)

    def __init__(self, *args: Any, choices: ChoiceList = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "method", [("", "–"), *choices])
        for name, placeholder in (("wait", "0m"), ("times", "0"), ("every", "5m")):
            self.fields[name].widget.attrs["placeholder"] = placeholder

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        if not data.get("method") and any(data.get(name) for name in ("wait", "times", "every")):
            self.add_error("method", _("Choose a contact method."))
        if data.get("every") and data.get("times", 0) is None:
            self.add_error("times", _("Enter how many times it repeats."))
        return data

    def spec(self) -> dict[str, Any]:
        """Return the row as a rule spec, without its contact method."""
        data = self.cleaned_data
        rule: dict[str, Any] = {"wait": data["wait"]} if data["wait"] else {}
        if data["times"]:
            rule["repeat"] = {"times": data["times"], "every": data["every"] or None}
        return rule


class NotificationRuleFormSet(FormSet[NotificationRuleForm]):
    """The rows in order."""

    def filled_rows(self) -> list[tuple[str, NotificationRuleForm]]:
        """Return (contact method, form) of the rows that are not empty."""
        return [(form.cleaned_data["method"], form) for form in self.forms if form.cleaned_data.get("method")]


def rule_formset(
    data: Any, initial: Iterable[Mapping[str, Any]], prefix: str, choices: ChoiceList
) -> NotificationRuleFormSet:
    """Return the formset of the rules."""
    made = formset_class(
        NotificationRuleForm,
        NotificationRuleFormSet,
        max_num=MAX_RULES,
        absolute_max=2 * MAX_RULES,
        validate_max=True,
    )
    posted = data
    if data is not None and f"{prefix}-TOTAL_FORMS" not in data:
        posted = {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}  # posted without these rows
    return made(posted, initial=list(initial), prefix=prefix, form_kwargs={"choices": choices})


def initial_rule(method: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a row for a rule in spec form."""
    repeat = rule.get("repeat", {})
    return {
        "method": method,
        "wait": rule.get("wait", ""),
        "times": repeat.get("times") or None,
        "every": repeat.get("every", ""),
    }
