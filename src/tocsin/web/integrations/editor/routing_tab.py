"""The Routing tab: the ordered routes, and the integration's noise reduction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.http import QueryDict

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.inbound.config.noise_settings import KEYS as NOISE_KEYS
from tocsin.web.integrations.editor import condition_form, route_form, suppression_form
from tocsin.web.integrations.editor.editor_tab import EditorTab

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

    def apply_action(self, action: Sequence[str]) -> None:
        match action:
            case ["route", number, row_action] if number.isdecimal() and len(number) < 5:
                self.routes = route_form.change(self.routes, int(number), row_action)
            case ["cond", row, row_action]:
                self._act_on_condition(row.split("."), row_action)

    def _act_on_condition(self, row: Iterable[str], row_action: str) -> None:
        match list(row):
            case ["routes", number, "when", *path] if number.isdecimal() and int(number[:5]) < len(self.routes):
                route = self.routes[int(number)]
                steps = tuple(int(step) for step in path if step.isdecimal() and len(step) < 5)
                when = condition_form.change(route.when, steps, row_action)
                self.routes = route_form.with_when(self.routes, int(number), when)

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
