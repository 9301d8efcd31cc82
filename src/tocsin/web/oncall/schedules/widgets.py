"""Fields for ordered lists and weekly windows: plain selects and inputs, which a script enhances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from tocsin.web.oncall.schedules.describe_shift import DAYS
from tocsin.web.policies.step_forms import DAYS as DAY_NAMES
from tocsin.web.ui.forms import picker_time

#: Maximum number of items in one field.
MAX_FIELD_ITEMS = 200


class OrderedSelect(forms.Widget):
    """One select per item and empty ones at the end. The order of the selects is the order of the value."""

    template_name = "oncall/widgets/ordered.html"

    def __init__(self, *, min_rows: int, add: Any, attrs: Mapping[str, Any] | None = None) -> None:
        super().__init__(dict(attrs or {}))
        self.options: Sequence[tuple[str, Any]] = ()
        self.min_rows, self.add = min_rows, add

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        """Return the selected keys in order, without empty ones."""
        return [text for text in _list(data, name) if text]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        """An empty order posts nothing, so a missing value means an empty list."""
        return False

    def id_for_label(self, id_: str) -> str:
        """Return the id of the first select."""
        return f"{id_}_0" if id_ else id_

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the template context."""
        context = super().get_context(name, value, attrs)
        selected = list(value or ())
        option_keys = {key for key, _label in self.options}
        # A selected item that is no longer an option stays visible; the command rejects it if it is kept.
        options = [*self.options, *((key, key) for key in dict.fromkeys(selected) if key not in option_keys)]
        rows = [*selected, *[""] * max(1, self.min_rows - len(selected))]
        return context | {"rows": rows, "options": options, "add": self.add}


class OrderedField(forms.Field):
    """An ordered list of keys."""

    widget: OrderedSelect

    def __init__(self, *, min_rows: int = 1, add: Any = "", **options: Any) -> None:
        super().__init__(widget=OrderedSelect(min_rows=min_rows, add=add), **options)

    def to_python(self, value: Any) -> list[str]:
        """Return the keys. The command validates them."""
        return list(value or ())[:MAX_FIELD_ITEMS]


class WeeklyWindowsWidget(forms.Widget):
    """Weekly windows, one per row, with an empty row at the end."""

    template_name = "oncall/widgets/windows.html"

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        """Return the posted rows, without empty ones."""
        rows = []
        for number in range(MAX_FIELD_ITEMS):
            row = {
                "days": [day for day in _list(data, f"{name}-{number}-days") if day in DAYS],
                "begins": data.get(f"{name}-{number}-begins"),
                "until": data.get(f"{name}-{number}-until", ""),
                "ends": data.get(f"{name}-{number}-ends", ""),
            }
            if row["begins"] is None:
                break
            if row["days"] or row["begins"] or row["ends"]:
                rows.append(row)
        return rows

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        """A form without windows posts an empty row, so a value is never omitted."""
        return False

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the template context."""
        context = super().get_context(name, value, attrs)
        blank = {"days": [], "begins": "", "until": "", "ends": ""}
        return context | {"rows": [*(value or ()), blank], "days": DAY_NAMES}


class WeeklyWindowsField(forms.Field):
    """Weekly windows in spec form."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=WeeklyWindowsWidget(), **options)

    def to_python(self, value: Any) -> list[dict[str, Any]]:
        """Return the windows in spec form. An end at midnight becomes 24:00."""
        return [self._window(row) for row in value or ()]

    def prepare_value(self, value: Any) -> Any:
        """Return rows, from windows in spec form or from posted rows."""
        return [row if "begins" in row else _row(row) for row in value or ()]

    def _window(self, row: Mapping[str, Any]) -> dict[str, Any]:
        days, begins, until, ends = row["days"], row["begins"], row["until"], row["ends"]
        if not days:
            raise forms.ValidationError(_("Choose at least one day."))
        if until:
            if len(days) > 1:
                raise forms.ValidationError(_("A window that ends on another day must start on a single day."))
            return {"from": f"{days[0]} {begins or '00:00'}", "to": f"{until} {ends or '00:00'}"}
        return {"days": days, "from": begins or "00:00", "to": "24:00" if ends in ("", "00:00") else ends}


def _row(window: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a window in spec form."""
    if "days" in window:
        return {
            "days": list(window["days"]), "begins": window["from"], "until": "", "ends": picker_time(window["to"]),
        }  # fmt: skip
    (first, begins), (last, ends) = (str(window[key]).split(" ") for key in ("from", "to"))
    return {"days": [first], "begins": begins, "until": last, "ends": ends}


def _list(data: Any, name: str) -> list[str]:
    if hasattr(data, "getlist"):
        return [str(text) for text in data.getlist(name)][:MAX_FIELD_ITEMS]
    value = data.get(name, [])
    return list(value) if isinstance(value, list | tuple) else [value]
