"""What a tab of an integration edits: parts of its definition as rows, both ways, with errors beside their row.

A sheet is filled from parts as YAML has them or from a form, acted on by buttons, and gives its parts back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.http import QueryDict

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.web.integrations.editor.condition_form import ErrorPlaces
from tocsin.web.told import told
from tocsin.web.ui.forms import beside, each


class EditorTab(ABC):
    """The rows of one tab, and what is wrong with them by row."""

    #: The parts of a definition that it edits.
    keys: ClassVar[tuple[str, ...]]

    def __init__(self, kind: IntegrationKind) -> None:
        self.kind = kind
        #: Whether it is to be saved: then a row that somebody only began is wrong, and otherwise it is not there yet.
        self.is_final = False
        self.places = ErrorPlaces()
        self.errors: dict[str, list[str]] = {}
        #: What is wrong with no row of its own.
        self.problems: list[str] = []

    @abstractmethod
    def fill(self, parts: Mapping[str, Any]) -> None:
        """Takes the rows from parts as people write them. Raises Rejected for a part of another shape."""

    @abstractmethod
    def read(self, post: QueryDict) -> None:
        """Takes the rows from what a form posts. Raises Rejected for more rows than there may be."""

    @abstractmethod
    def act(self, do: Sequence[str]) -> None:
        """Does what a button says that changes rows; anything else does nothing."""

    @abstractmethod
    def _parts(self) -> dict[str, Any]: ...

    def parts(self) -> dict[str, Any] | None:
        """The parts of the rows; None where a row cannot be read, with what is wrong beside it."""
        try:
            return self._parts()
        except Rejected as rejected:
            self.refuse(rejected)
            return None

    def refuse(self, rejected: Rejected) -> None:
        """Puts each problem beside its row."""
        for problem in each(rejected):
            place = problem.field or ""
            row = self.row_of(place)
            said = beside(problem) if row else told(problem.detail[:1].upper() + problem.detail[1:])
            (self.errors.setdefault(row, []) if row else self.problems).append(said)

    def row_of(self, place: str) -> str | None:
        """The row of a place in the definition."""
        return self.places.row(place)
