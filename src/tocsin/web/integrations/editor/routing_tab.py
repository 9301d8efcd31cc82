"""The Routing tab: the ordered routes, and the integration's noise reduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.inbound.config.noise_settings import KEYS as NOISE_KEYS
from tocsin.web.integrations.editor import condition_form, route_form, suppression_form
from tocsin.web.integrations.editor.condition_form import ComparisonRow, ConditionGroup
from tocsin.web.integrations.editor.editor_tab import EditorTab
from tocsin.web.integrations.editor.rules_tab import field_labels

#: The target of a click that adds a route.
NEW_ROUTE = "new"

#: The window of a grouping that a report suggests.
_GROUPING_WINDOW = "30m"


class RoutingTab(EditorTab):
    """The ordered routes, and the delay, grouping and limits that apply to all of them."""

    keys = ("routes", *NOISE_KEYS)

    def __init__(self, kind: IntegrationKind) -> None:
        super().__init__(kind)
        self.routes: tuple[route_form.RouteRow, ...] = ()
        self.suppression = suppression_form.SuppressionFields({})

    def load(self, parts: Mapping[str, Any]) -> None:
        self.routes = route_form.rows_of(parts.get("routes"))
        self.suppression = suppression_form.rows_of(parts)

    def read(self, post: QueryDict) -> None:
        self.routes = route_form.read(post)
        self.suppression = suppression_form.read(post)

    def prefill(self, query: QueryDict) -> bool:
        group_by = query.get("group_by", "").replace("\x00", "")[:500]
        if not group_by:
            return False
        grouping = {"grouping.within": _GROUPING_WINDOW, **self.suppression.texts, "grouping.by": group_by}
        self.suppression = suppression_form.SuppressionFields(grouping)
        return True

    def apply_action(self, action: Sequence[str]) -> str:
        match action:
            case ["route", number, row_action] if number.isdecimal() and len(number) < 5:
                self.routes = route_form.change(self.routes, int(number), row_action)
                return _("Route removed") if row_action == "remove" else ""
            case ["cond", row, row_action]:
                route_number, path = self._condition_row(row)
                if route_number is not None:
                    when = condition_form.change(self.routes[route_number].when, path, row_action)
                    self.routes = route_form.with_when(self.routes, route_number, when)
                    return _("Condition removed") if row_action == "remove" else ""
        return ""

    def pick(self, path: str, comparison: ComparisonRow) -> str:
        number, row_path = self._condition_row(self.target)
        if number is None:
            self.routes = route_form.change(self.routes, 0, "add")
            number = len(self.routes) - 1
            self.target = f"routes.{number}"
        when = condition_form.with_comparison(self.routes[number].when, row_path, comparison)
        self.routes = route_form.with_when(self.routes, number, when)
        condition = condition_form.describe_rows(ConditionGroup((comparison,)), field_labels())
        return f"{self._label(number)}: {condition}"

    def targets(self) -> list[tuple[str, str]]:
        numbered = [(f"routes.{number}", self._label(number)) for number in range(len(self.routes))]
        return [*numbered, (NEW_ROUTE, _("New route"))]

    def _label(self, number: int) -> str:
        return self.routes[number].name or _("Route %(number)s") % {"number": number + 1}

    def _condition_row(self, row: str) -> tuple[int | None, tuple[int, ...]]:
        """Split a row path: "routes.1.when.0.2" → (1, (0, 2)). The number is None if there is no such route."""
        match row.split("."):
            case ["routes", number, *path] if number.isdecimal() and int(number[:5]) < len(self.routes):
                return int(number), tuple(int(step) for step in path if step.isdecimal() and len(step) < 5)
        return None, ()

    def numbered(self) -> list[tuple[int, str, route_form.RouteRow]]:
        """Return (number from 0, row path, route) of every route."""
        return [(number, f"routes.{number}", route) for number, route in enumerate(self.routes)]

    def every_comparison(self) -> list[str]:
        """Return the paths of all comparison rows."""
        groups = ((f"{row}.when", route.when) for _, row, route in self.numbered())
        return [path for row, when in groups for path in condition_form.comparison_paths(when, row)]

    def sentences(self) -> list[tuple[str, route_form.RouteRow]]:
        """Return (row path, route) of every route, for its sentence."""
        return [(row, route) for _, row, route in self.numbered()]

    def _parts(self) -> dict[str, Any]:
        for part in NOISE_KEYS:
            self.places.rows[part] = f"suppression.{part}"
        routes = route_form.routes_of(self.routes, self.places, is_final=self.is_final)
        return {"routes": routes, **suppression_form.parts_of(self.suppression)}
