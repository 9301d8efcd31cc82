"""What the workbench's templates need: looking up by row, names for elements, and how high a text's field is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django import template
from django.utils.translation import gettext as _

from tocsin.web.integrations.editor import condition_form, route_form
from tocsin.web.integrations.editor.condition_form import ComparisonRow, ConditionGroup, ConditionNode
from tocsin.web.integrations.editor.rules_tab import RuleMode, RuleRow

register = template.Library()


@register.filter
def lookup(found: Mapping[str, object], row: str) -> object:
    """What is known of a row; None for nothing."""
    return found.get(row)


@register.filter
def knows(found: Mapping[str, object], row: str) -> bool:
    """Whether something is known of a row."""
    return row in found


@register.filter
def as_id(row: str) -> str:
    """A row's name as part of an element's id."""
    return row.replace(".", "-")


@register.filter
def lines(text: str) -> int:
    """How many lines a field for that text shows."""
    return min(max(text.count("\n") + 1 + sum(len(line) // 46 for line in text.split("\n")), 1), 8)


@register.filter
def join_row(row: str, number: int) -> str:
    """The row inside a row: "open.0" and 1 give "open.0.1"."""
    return f"{row}.{number}"


@register.filter
def sort_of(node: ConditionNode) -> str:
    """Which of the three sorts of rows it is."""
    match node:
        case ComparisonRow():
            return "leaf"
        case ConditionGroup():
            return "group"
        case _:
            return "yaml"


@register.filter
def sentence(row: RuleRow | route_form.RouteRow, fields: Iterable[tuple[str, str]]) -> str:
    """A rule or route as people say it: "Open an alert when status contains New."."""
    labels = dict(fields)
    if isinstance(row, route_form.RouteRow):
        return route_form.say(row, labels)
    match row.mode:
        case RuleMode.KIND:
            when = row.brings
        case RuleMode.ALWAYS:
            when = "always"
        case RuleMode.NEVER:
            when = "never"
        case RuleMode.WHEN:
            when = condition_form.say_rows(row.when, labels)
    if when in ("always", "never"):
        return f"{row.label}: {_('always') if when == 'always' else _('never')}."
    return _("%(what)s when %(when)s.") % {"what": row.label, "when": when}
