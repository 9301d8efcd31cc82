"""The Rules tab: the filters for opening an alert, then when a message closes, opens or updates one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.locale_format import local_term
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import rejected_at
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.web.integrations.editor import condition_form
from tocsin.web.integrations.editor.condition_form import ComparisonRow, ConditionGroup
from tocsin.web.integrations.editor.editor_tab import EditorTab
from tocsin.web.ui.choices import trace_label

_NOT_RULES = ReasonType("rule.not_an_object", "must be an object with {names}")
_NO_CONDITION = ReasonType("rule.no_condition", "add at least one condition")


class RuleMode(StrEnum):
    """How a rule is defined: by the type's default, by rows, or by a constant."""

    DEFAULT = "kind"
    WHEN = "when"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule, or the filters. `default` is the type's default as a sentence."""

    name: str
    label: str
    mode: RuleMode
    when: ConditionGroup
    default: str


class RulesTab(EditorTab):
    """The filters, and the rules that close, open and update an alert."""

    keys = ("rules", "filters")

    def __init__(self, kind: IntegrationKind) -> None:
        super().__init__(kind)
        self.modes: dict[str, RuleMode] = {}
        self.groups: dict[str, ConditionGroup] = {}
        #: Rules without a row (`ignore`, `veto`), preserved unchanged.
        self.other_rules: dict[str, Any] = {}
        self.names = tuple(n for n in ("cancel", "close", "open", "update") if n != "cancel" or "cancel" in kind.rules)
        #: As shown: the filters first, because most changes are made there.
        self.shown_names = ("filters", *self.names)

    def load(self, parts: Mapping[str, Any]) -> None:
        rules = parts.get("rules") or {}
        if not isinstance(rules, Mapping):
            raise rejected_at("rules", _NOT_RULES(names=("open", "close", "update")), "invalid_condition")
        self.other_rules = {name: rule for name, rule in rules.items() if name not in self.names}
        for name in self.names:
            self._load_rule(name, rules.get(name), is_set=name in rules)
        self._load_rule("filters", parts.get("filters"), is_set=parts.get("filters") not in (None, {}))

    def _load_rule(self, name: str, rule: Any, *, is_set: bool) -> None:
        if not is_set:
            self.modes[name], self.groups[name] = RuleMode.DEFAULT, ConditionGroup()
        elif rule in (None, False):
            self.modes[name], self.groups[name] = RuleMode.NEVER, ConditionGroup()
        elif rule in (True, {}):
            self.modes[name], self.groups[name] = RuleMode.ALWAYS, ConditionGroup()
        else:
            self.modes[name], self.groups[name] = RuleMode.WHEN, condition_form.rows_of(rule)

    def read(self, post: QueryDict) -> None:
        for name in self.shown_names:
            mode = str(post.get(f"{name}-mode", "kind"))
            self.modes[name] = RuleMode(mode) if mode in set(RuleMode) else RuleMode.DEFAULT
            self.groups[name] = condition_form.read(post.dict(), name)
            if self.modes[name] is RuleMode.WHEN and not self.groups[name].parts:
                # A new condition starts with the type's default instead of empty.
                self.groups[name] = condition_form.rows_of(self._default_rule(name))
                if not self.groups[name].parts:
                    self.groups[name] = ConditionGroup((ComparisonRow("source_status"),))

    def apply_action(self, action: Sequence[str]) -> str:
        match action:
            case ["cond", row, row_action]:
                name, path = _row(row)
                if name in self.groups:
                    self.groups[name] = condition_form.change(self.groups[name], path, row_action)
                    return _("Condition removed") if row_action == "remove" else ""
        return ""

    def pick(self, path: str, comparison: ComparisonRow) -> str:
        name, row_path = _row(self.target)
        if name not in self.groups:
            self.target = name = self.shown_names[0]
        if self.modes[name] is not RuleMode.WHEN:
            default = condition_form.rows_of(self._default_rule(name))
            is_default = self.modes[name] is RuleMode.DEFAULT and default.parts
            self.groups[name] = ConditionGroup((default,)) if is_default else ConditionGroup()
            self.modes[name], row_path = RuleMode.WHEN, ()
        self.groups[name] = condition_form.with_comparison(self.groups[name], row_path, comparison)
        return f"{self.label(name)}: {condition_form.describe_rows(ConditionGroup((comparison,)), field_labels())}"

    def targets(self) -> list[tuple[str, str]]:
        return [(name, self.label(name)) for name in self.shown_names]

    def _parts(self) -> dict[str, Any]:
        rules: dict[str, Any] = dict(self.other_rules)
        for name in self.names:
            if self.modes[name] is not RuleMode.DEFAULT:
                rules[name] = self._condition(name, f"rules.{name}")
        filters = None if self.modes["filters"] is RuleMode.DEFAULT else self._condition("filters", "filters")
        return {"rules": rules, "filters": filters}

    def _condition(self, name: str, place: str) -> Any:
        self.places.rows.setdefault(place, name)
        match self.modes[name]:
            case RuleMode.ALWAYS:
                return True
            case RuleMode.NEVER | RuleMode.DEFAULT:
                return False
            case RuleMode.WHEN:
                rows = self.groups[name]
                condition = condition_form.condition_of(rows, place, name, self.places, is_final=self.is_final)
                if condition is None:
                    raise rejected_at(place, _NO_CONDITION(), "invalid_condition")
                return condition

    def rows(self) -> list[RuleRow]:
        """Return the filters, then the rules in the order of evaluation."""
        return [
            RuleRow(name, self.label(name), self.modes[name], self.groups[name],
                    condition_form.describe_condition(self._default_rule(name), field_labels()))
            for name in self.shown_names
        ]  # fmt: skip

    def label(self, name: str) -> str:
        """Return what a rule does, or "Filters"."""
        return trace_label(name)

    def every_comparison(self) -> list[str]:
        """Return the paths of all comparison rows."""
        return [row for name, group in self.groups.items() for row in condition_form.comparison_paths(group, name)]

    def sentences(self) -> list[tuple[str, RuleRow]]:
        """Return (row path, rule) of every rule, for its sentence."""
        return [(row.name, row) for row in self.rows()]

    def _default_rule(self, name: str) -> Any:
        if name == "filters":
            return self.kind.filters
        rule = self.kind.rules.get(name)
        return False if rule is None else rule


def field_labels() -> dict[str, str]:
    """Return the label of each alert field."""
    return {name: local_term(FIELDS[name].label) for name in FIELDS}


def _row(row: str) -> tuple[str, tuple[int, ...]]:
    """Split a row path: "open.0.1" → ("open", (0, 1))."""
    name, *path = row.split(".")
    return name, tuple(int(step) for step in path if step.isdecimal() and len(step) < 5)
