"""Interface of the editor tabs: converts parts of an integration's definition to form rows and back, with errors per
row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.http import QueryDict

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.web.integrations.editor.condition_form import ComparisonRow, ErrorPlaces
from tocsin.web.ui.forms import field_error_text, problems_of


class EditorTab(ABC):
    """The rows of one tab, and the errors per row."""

    #: The parts of the definition that the tab edits.
    keys: ClassVar[tuple[str, ...]]

    def __init__(self, kind: IntegrationKind) -> None:
        self.kind = kind
        #: Whether the form is being saved. Only then an incomplete row is an error; otherwise it is ignored.
        self.is_final = False
        self.places = ErrorPlaces()
        self.errors: dict[str, list[str]] = {}
        #: Errors that belong to no row.
        self.problems: list[str] = []
        #: The row that a click on a payload value fills, or adds a condition to: the one chosen last.
        self.target = ""

    @abstractmethod
    def load(self, parts: Mapping[str, Any]) -> None:
        """Load the rows from parts in spec form. Raises Rejected if a part has the wrong shape."""

    @abstractmethod
    def read(self, post: QueryDict) -> None:
        """Load the rows from a posted form. Raises Rejected for too many rows."""

    def prefill(self, query: QueryDict) -> bool:
        """Fill in what a link suggests, and return whether it did. Only Save stores it."""
        return False

    @abstractmethod
    def apply_action(self, action: Sequence[str]) -> str:
        """Apply a button that changes rows. Return what it changed, if that can be undone, else "".

        Unknown buttons are ignored.
        """

    @abstractmethod
    def pick(self, path: str, comparison: ComparisonRow) -> str:
        """Apply a click on the payload value at `path`, which `comparison` compares with. Return what it changed."""

    @abstractmethod
    def targets(self) -> list[tuple[str, str]]:
        """Return (row, label) of the rows that a click on a payload value can change."""

    def selected_target(self) -> str:
        """Return the row of `targets` that contains the row chosen last."""
        rows = [row for row, _label in self.targets() if self.target == row or self.target.startswith(f"{row}.")]
        return rows[0] if rows else ""

    @abstractmethod
    def _parts(self) -> dict[str, Any]: ...

    def parts(self) -> dict[str, Any] | None:
        """Return the parts of the rows. If a row is invalid, record the error beside it and return None."""
        try:
            return self._parts()
        except Rejected as rejected:
            self.add_errors(rejected)
            return None

    def add_errors(self, rejected: Rejected) -> None:
        """Record each problem beside its row."""
        for problem in problems_of(rejected):
            place = problem.field or ""
            row = self.row_of(place)
            text = field_error_text(problem) if row else _capitalized(problem.reason.localized())
            (self.errors.setdefault(row, []) if row else self.problems).append(text)

    def row_of(self, place: str) -> str | None:
        """Return the row of a path in the definition, or None."""
        return self.places.row(place)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
