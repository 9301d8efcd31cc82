"""Template tags of the rule editor: lookups by row path, element ids and text area heights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tocsin.web.integrations import condition_form, editor_tab
from tocsin.web.integrations.condition_form import ComparisonRow, ConditionGroup, ConditionNode
from tocsin.web.integrations.editor_tab import RuleMode, RuleRow

register = template.Library()


@register.filter
def lookup(mapping: Mapping[str, object], row: str) -> object:
    """Return the value for a row path, or None."""
    return mapping.get(row)


@register.filter
def has_row(mapping: Mapping[str, object], row: str) -> bool:
    return row in mapping


@register.filter
def element_id(row: str) -> str:
    """Return a row path as part of an element id."""
    return row.replace(".", "-")


@register.filter
def lines(text: str) -> int:
    """Return the number of lines that a text area needs to show the text, from 1 to 8."""
    return min(max(text.count("\n") + 1 + sum(len(line) // 46 for line in text.split("\n")), 1), 8)


@register.filter
def join_row(row: str, number: int) -> str:
    """Return the path of a nested row: "open.0" and 1 give "open.0.1"."""
    return f"{row}.{number}"


@register.filter
def node_kind(node: ConditionNode) -> str:
    """Return the kind of a condition row: "comparison", "group" or "yaml"."""
    match node:
        case ComparisonRow():
            return "comparison"
        case ConditionGroup():
            return "group"
        case _:
            return "yaml"


@register.simple_tag
def options(choices: Iterable[str | tuple[str, str]], current: str) -> SafeString:
    """Render the options of a select. A current value that is no longer offered stays selected, so that saving the form
    does not discard it."""
    labels = dict((choice, choice) if isinstance(choice, str) else choice for choice in choices)
    if current:
        labels.setdefault(current, _("%(name)s (unknown)") % {"name": current})
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((value, SafeString(" selected" if value == current else ""), label) for value, label in labels.items()),
    )


@register.simple_tag
def row_errors(errors: Mapping[str, list[str]], row: str, name: str) -> SafeString:
    """Render the errors of one field of a row, if any."""
    texts = errors.get(f"{row}.{name}")
    return format_html('<p class="errors" role="alert">{}</p>', " ".join(texts)) if texts else SafeString()


@register.filter
def sentence(row: RuleRow | editor_tab.RouteRow, fields: Iterable[tuple[str, str]]) -> str:
    """Describe a rule or route in a sentence, such as "Open an alert when status contains New"."""
    labels = dict(fields)
    if isinstance(row, editor_tab.RouteRow):
        return editor_tab.describe_route(row, labels)
    match row.mode:
        case RuleMode.DEFAULT:
            when = row.default
        case RuleMode.ALWAYS:
            when = "always"
        case RuleMode.NEVER:
            when = "never"
        case RuleMode.WHEN:
            when = condition_form.describe_rows(row.when, labels)
    if row.name == "filters":
        if when in ("always", "never"):
            return _("Every alert opens.") if when == "always" else _("No alert opens.")
        return _("An alert opens only when %(when)s.") % {"when": when}
    if when in ("always", "never"):
        return f"{row.label}: {_('always') if when == 'always' else _('never')}."
    return _("%(what)s when %(when)s.") % {"what": row.label, "when": when}
