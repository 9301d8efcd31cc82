"""Interface of the editor tabs: converts parts of an integration's definition to form rows and back, with errors per
row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar

from django.http import QueryDict
from django.utils.translation import gettext as _

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, local_term, sentence
from tocsin.core.validation.field_errors import rejected_at
from tocsin.inbound.config.rules import KEYS as NOISE_KEYS
from tocsin.inbound.fields import FIELDS, TAGS
from tocsin.web.integrations.editor import condition_form, route_form
from tocsin.web.integrations.editor.condition_form import (
    ComparisonRow,
    ConditionGroup,
    ErrorPlaces,
    FieldEntry,
    ValueOrigin,
)
from tocsin.web.ui.forms import field_error_text, problems_of, trace_label


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


# ---------- mapping tab
# The Mapping tab: alert fields, tags, custom fields and the dedup key template.


_DUPLICATE_NAME = Text("duplicate field name")
_NOT_A_MAPPING = Text("must map fields to value sources")

#: Fields shown first: those that identify an alert.
_PRIMARY_FIELDS = (
    "source_status",
    "source_id",
    "subject",
    "short_text",
    "priority",
    "source_url",
    "client",
    "long_text",
)


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of the form. `default` describes the integration type's default, or is empty."""

    prefix: str
    name: str
    label: str
    entry: FieldEntry
    default: str = ""

    @property
    def target(self) -> str:
        """Identifier under which a click on a payload value fills the row: the field's name, or the row's prefix."""
        return self.prefix.removeprefix("f-")


class MappingTab(EditorTab):
    """Alert fields, tags, custom fields and the dedup key template."""

    keys = ("mapping", "dedup_key")

    def __init__(self, kind: IntegrationKind) -> None:
        super().__init__(kind)
        self.entries: dict[str, FieldEntry] = {}
        self.tags: list[tuple[str, FieldEntry]] = []
        self.custom: list[tuple[str, FieldEntry]] = []
        self.key = ""

    def load(self, parts: Mapping[str, Any]) -> None:
        mapping = _mapping(parts.get("mapping"), "mapping")
        self.entries = {
            name: condition_form.entry_of(mapping.get(name), is_set=name in mapping) for name in (*FIELDS, *mapping)
            if name not in ("tags", "custom")
        }  # fmt: skip
        tags, custom = (_mapping(mapping.get(name), f"mapping.{name}") for name in ("tags", "custom"))
        self.tags = [(str(name), condition_form.entry_of(entry)) for name, entry in tags.items()]
        self.custom = [(str(name), condition_form.entry_of(entry)) for name, entry in custom.items()]
        self.key = str(parts.get("dedup_key") or "")

    def read(self, post: QueryDict) -> None:
        self.entries = {name: _entry(post, f"f-{name}") for name in FIELDS}
        self.tags, self.custom = _named(post, "t"), _named(post, "c")
        self.key = str(post.get("key", "")).replace("\r\n", "\n")

    def apply_action(self, action: Sequence[str]) -> str:
        match action:
            case ["add", "tag"]:
                free = next((name for name in TAGS if name not in dict(self.tags)), "")
                self.tags.append((free, FieldEntry(ValueOrigin.PATHS)))
                self.target = f"t-{len(self.tags) - 1}"
            case ["add", "custom"]:
                self.custom.append(("", FieldEntry(ValueOrigin.PATHS)))
                self.target = f"c-{len(self.custom) - 1}"
            case ["remove", row]:
                rows, number = self._named_row(row)
                if rows:
                    self.target = ""
                    return _("%(name)s removed") % {"name": rows.pop(number)[0] or _("Field")}
        return ""

    def pick(self, path: str, comparison: ComparisonRow) -> str:
        label = dict(self.targets()).get(self.target, "")
        rows, number = self._named_row(self.target)
        if self.target in FIELDS:
            self.entries[self.target] = _with_path(self.entries[self.target], path)
        elif self.target == "key":
            self.key = f"{self.key}<{path}>"
        elif rows:
            name, entry = rows[number]
            rows[number] = name, _with_path(entry, path)
        return f"{label}: {path}" if label else ""

    def _named_row(self, row: str) -> tuple[list[tuple[str, FieldEntry]], int]:
        """Return the tags or custom fields with the index of a row such as "c-0"; an empty list if there is none."""
        prefix, _dash, number = row.partition("-")
        rows = {"t": self.tags, "c": self.custom}.get(prefix, [])
        return (rows, int(number)) if number.isdecimal() and int(number) < len(rows) else ([], 0)

    def _parts(self) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for name, entry in self.entries.items():
            if name in FIELDS:
                self.places.rows[f"mapping.{name}"] = f"f-{name}"
            if entry.origin is ValueOrigin.DEFAULT and entry.table.strip():
                mapping[name] = condition_form.with_table(self.kind.mapping.get(name), entry, f"mapping.{name}")
            elif entry.origin is not ValueOrigin.DEFAULT and (self.is_final or not entry.is_incomplete):
                mapping[name] = condition_form.definition_of(entry, f"mapping.{name}")
        for group, prefix, rows in (("tags", "t", self.tags), ("custom", "c", self.custom)):
            entries: dict[str, Any] = {}
            for number, (name, entry) in enumerate(rows):
                if entry.is_incomplete and not (name.strip() and self.is_final):
                    continue
                self.places.rows[f"mapping.{group}.{name}"] = f"{prefix}-{number}"
                if not name.strip() or name.strip() in entries:
                    field_place = f"mapping.{group}.{name}"
                    problem = _DUPLICATE_NAME() if name.strip() else sentence("enter a name")
                    raise rejected_at(field_place, problem, "invalid_mapping")
                if entry.origin is not ValueOrigin.DEFAULT:
                    entries[name.strip()] = condition_form.definition_of(entry, f"mapping.{group}.{name}")
            if entries:
                mapping[group] = entries
        self.places.rows["dedup_key"] = "key"
        return {"mapping": mapping, "dedup_key": self.key or None}

    def rows(self) -> list[FieldRow]:
        """Return the fields shown first."""
        return [self._row(name) for name in _PRIMARY_FIELDS]

    def other_rows(self) -> list[FieldRow]:
        """Return all other fields."""
        return [self._row(name) for name in FIELDS if name not in _PRIMARY_FIELDS and name != "dedup_key"]

    def tag_rows(self) -> list[FieldRow]:
        """Return the tags that the integration defines."""
        return [FieldRow(f"t-{n}", name, name, entry) for n, (name, entry) in enumerate(self.tags)]

    def custom_rows(self) -> list[FieldRow]:
        """Return the custom fields that the integration defines."""
        return [FieldRow(f"c-{n}", name, name, entry) for n, (name, entry) in enumerate(self.custom)]

    def every_row(self) -> list[FieldRow]:
        """Return all rows, with the dedup key."""
        return [*self.rows(), *self.other_rows(), *self.tag_rows(), *self.custom_rows(), self.key_row()]

    def key_row(self) -> FieldRow:
        """Return the dedup key template as a row."""
        return FieldRow("key", "dedup_key", _("dedup key"), FieldEntry(ValueOrigin.TEMPLATE, self.key))

    def targets(self) -> list[tuple[str, str]]:
        return [(row.target, row.label or _("this field")) for row in self.every_row()]

    def opens_other_rows(self) -> bool:
        """Return whether one of the other fields is set or has an error, so that the section opens."""
        return any(
            row.entry.origin is not ValueOrigin.DEFAULT or row.prefix in self.errors for row in self.other_rows()
        )

    def origin_choices(self) -> list[tuple[str, str]]:
        """Return (origin, label) for the select."""
        return [
            ("", ""),
            (ValueOrigin.PATHS, _("paths, one per line")),
            (ValueOrigin.TEMPLATE, _("template")),
            (ValueOrigin.LITERAL, _("fixed text")),
            (ValueOrigin.NOTHING, _("no value")),
            (ValueOrigin.YAML, _("YAML")),
        ]

    def default_tags(self) -> list[tuple[str, str]]:
        """Return the type's default tags that the integration does not override."""
        return [
            (name, description) for name, description in self.default_entries("tags") if name not in dict(self.tags)
        ]

    def default_custom(self) -> list[tuple[str, str]]:
        """Return the type's default custom fields that the integration does not override."""
        return [
            (name, description) for name, description in self.default_entries("custom") if name not in dict(self.custom)
        ]

    def default_entries(self, group: str) -> list[tuple[str, str]]:
        """Return (name, description) of the type's default tags or custom fields."""
        defaults = self.kind.mapping.get(group)
        return (
            [(name, condition_form.describe_mapping(definition)) for name, definition in defaults.items()]
            if isinstance(defaults, Mapping)
            else []
        )

    def _row(self, name: str) -> FieldRow:
        default = condition_form.describe_mapping(self.kind.mapping[name]) if name in self.kind.mapping else ""
        return FieldRow(
            f"f-{name}", name, local_term(FIELDS[name].label), self.entries.get(name, FieldEntry()), default
        )


def _with_path(entry: FieldEntry, path: str) -> FieldEntry:
    """Return the row after a click on the payload value at `path`."""
    if entry.origin is ValueOrigin.TEMPLATE:
        return replace(entry, text=f"{entry.text}<{path}>")
    if entry.origin is ValueOrigin.PATHS and entry.text.strip():
        return replace(entry, text=f"{entry.text.rstrip()}\n{path}")
    return FieldEntry(ValueOrigin.PATHS, path, entry.table)


def _entry(post: QueryDict, prefix: str) -> FieldEntry:
    text = str(post.get(f"{prefix}-text", "")).replace("\r\n", "\n")
    if not post.get(f"{prefix}-origin") and post.get(f"{prefix}-shown"):
        # The default was chosen instead of what was shown.
        return FieldEntry()
    try:
        origin = ValueOrigin(str(post.get(f"{prefix}-origin", "")))
    except ValueError:
        origin = ValueOrigin.DEFAULT
    if origin is ValueOrigin.DEFAULT and text.strip():
        # Text without a chosen origin: a text that contains a reference is a template, any other text a path.
        origin = ValueOrigin.TEMPLATE if "<" in text else ValueOrigin.PATHS
    return FieldEntry(origin, text, str(post.get(f"{prefix}-table", "")).replace("\r\n", "\n"))


def _named(post: QueryDict, prefix: str) -> list[tuple[str, FieldEntry]]:
    entries: list[tuple[str, FieldEntry]] = []
    while f"{prefix}-{len(entries)}-name" in post and len(entries) < 200:
        row = f"{prefix}-{len(entries)}"
        entries.append((str(post.get(f"{row}-name", "")), _entry(post, row)))
    return entries


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if value in (None, "", []):
        return {}
    if not isinstance(value, Mapping):
        raise rejected_at(place, _NOT_A_MAPPING(), "invalid_mapping")
    return value


# ---------- rules tab
# The Rules tab: the filters for opening an alert, then when a message closes, opens or updates one.


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
            raise rejected_at(
                "rules",
                sentence("must be an object with {names}", names=("open", "close", "update")),
                "invalid_condition",
            )
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
            self.groups[name] = condition_form.read_conditions(post.dict(), name)
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
                    raise rejected_at(place, sentence("add at least one condition"), "invalid_condition")
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


# ---------- routing tab
# The Routing tab: the ordered routes, and the integration's noise reduction.


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
        self.suppression = route_form.SuppressionFields({})

    def load(self, parts: Mapping[str, Any]) -> None:
        self.routes = route_form.route_rows(parts.get("routes"))
        self.suppression = route_form.rows_of(parts)

    def read(self, post: QueryDict) -> None:
        self.routes = route_form.read_routes(post)
        self.suppression = route_form.read(post)

    def prefill(self, query: QueryDict) -> bool:
        group_by = query.get("group_by", "").replace("\x00", "")[:500]
        if not group_by:
            return False
        grouping = {"grouping.within": _GROUPING_WINDOW, **self.suppression.texts, "grouping.by": group_by}
        self.suppression = route_form.SuppressionFields(grouping)
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
        return {"routes": routes, **route_form.parts_of(self.suppression)}
