"""The Mapping tab: alert fields, tags, custom fields and the dedup key template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.locale_format import local_term
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import rejected_at
from tocsin.inbound.expressions.fields import FIELDS, TAGS
from tocsin.web.integrations.editor import field_form
from tocsin.web.integrations.editor.condition_form import ComparisonRow
from tocsin.web.integrations.editor.editor_tab import EditorTab
from tocsin.web.integrations.editor.field_form import FieldEntry, ValueOrigin

_DUPLICATE_NAME = ReasonType("mapping.duplicate_row", "duplicate field name")
_NO_NAME = ReasonType("mapping.row_without_name", "enter a name")
_NOT_A_MAPPING = ReasonType("mapping.not_an_object", "must map fields to value sources")

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
            name: field_form.entry_of(mapping.get(name), is_set=name in mapping) for name in (*FIELDS, *mapping)
            if name not in ("tags", "custom")
        }  # fmt: skip
        tags, custom = (_mapping(mapping.get(name), f"mapping.{name}") for name in ("tags", "custom"))
        self.tags = [(str(name), field_form.entry_of(entry)) for name, entry in tags.items()]
        self.custom = [(str(name), field_form.entry_of(entry)) for name, entry in custom.items()]
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
                mapping[name] = field_form.with_table(self.kind.mapping.get(name), entry, f"mapping.{name}")
            elif entry.origin is not ValueOrigin.DEFAULT and (self.is_final or not entry.is_incomplete):
                mapping[name] = field_form.definition_of(entry, f"mapping.{name}")
        for group, prefix, rows in (("tags", "t", self.tags), ("custom", "c", self.custom)):
            entries: dict[str, Any] = {}
            for number, (name, entry) in enumerate(rows):
                if entry.is_incomplete and not (name.strip() and self.is_final):
                    continue
                self.places.rows[f"mapping.{group}.{name}"] = f"{prefix}-{number}"
                if not name.strip() or name.strip() in entries:
                    field_place = f"mapping.{group}.{name}"
                    problem = _DUPLICATE_NAME() if name.strip() else _NO_NAME()
                    raise rejected_at(field_place, problem, "invalid_mapping")
                if entry.origin is not ValueOrigin.DEFAULT:
                    entries[name.strip()] = field_form.definition_of(entry, f"mapping.{group}.{name}")
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
            [(name, field_form.describe_mapping(definition)) for name, definition in defaults.items()]
            if isinstance(defaults, Mapping)
            else []
        )

    def _row(self, name: str) -> FieldRow:
        default = field_form.describe_mapping(self.kind.mapping[name]) if name in self.kind.mapping else ""
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
