"""The start and stop conditions in a workflow's form, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_term
from tocsin.web.integrations.editor import condition_form
from tocsin.web.integrations.editor.condition_form import ConditionGroup, ErrorPlaces
from tocsin.web.ui.forms import field_error_text
from tocsin.workflows.run.context import LABELS

NAMES = ("start", "stop")


def fields() -> list[tuple[str, str]]:
    """Return (name, label) of the available fields."""
    return [(name, local_term(label)) for name, label in LABELS.items()]


@dataclass(slots=True)
class WorkflowConditions:
    """Both conditions while a form is edited."""

    rows: dict[str, ConditionGroup] = field(default_factory=dict)
    places: ErrorPlaces = field(default_factory=ErrorPlaces)
    #: Errors by row.
    errors: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> WorkflowConditions:
        """Return the conditions of a spec."""
        return cls({name: condition_form.rows_of(spec.get(name)) for name in NAMES})

    @classmethod
    def posted(cls, post: Mapping[str, Any]) -> WorkflowConditions:
        """Return the posted conditions. Raises Rejected for too many rows."""
        return cls({name: condition_form.read(post, name) for name in NAMES})

    def apply_button(self, button: str) -> bool:
        """Apply a button such as "cond:start.0:remove". Return False if it does not belong to the conditions."""
        kind, _colon, target = button.partition(":")
        row, _colon, action = target.partition(":")
        name, *path = row.split(".")
        if kind != "cond" or name not in self.rows or not all(part.isdecimal() and len(part) < 4 for part in path):
            return False
        self.rows[name] = condition_form.change(self.rows[name], [int(part) for part in path], action)
        return True

    def spec(self) -> dict[str, object]:
        """Return the conditions in spec form. Raises Rejected for invalid YAML in a row."""
        return {name: condition_form.condition_of(self.rows[name], name, name, self.places) for name in NAMES}

    def add_problem(self, problem: Rejected) -> bool:
        """Show a problem beside its row. Return False if it does not belong to the conditions."""
        path = problem.field or ""
        name = path.split(".")[0].split("[")[0]
        if name not in NAMES:
            return False
        row = self.places.row(path) or name
        self.errors.setdefault(row, []).append(field_error_text(problem))
        return True

    @property
    def context(self) -> dict[str, Any]:
        """The template context of the rows."""
        return {
            "start": self.rows["start"],
            "stop": self.rows["stop"],
            "words": condition_form.operator_choices(),
            "fields": fields(),
            "draft": {"tab": {"errors": self.errors}, "matches": {"results": {}}},
        }
