"""The tabs of the editor: convert parts of an integration's definition to form rows and back, with errors per row."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar

from django.http import QueryDict
from django.utils.translation import gettext as _

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, local_term, sentence
from tocsin.core.validation.inputs import rejected_at
from tocsin.inbound.config.rules import KEYS
from tocsin.inbound.fields import FIELDS, TAGS
from tocsin.web.integrations import condition_form
from tocsin.web.integrations.condition_form import ComparisonRow, ConditionGroup, ErrorPlaces, FieldEntry, ValueOrigin
from tocsin.web.ui.forms import field_error_text, problems_of, trace_label

# ---------- noise reduction
# Converts noise reduction settings (delay, grouping, parent, flapping, flood) to form fields and back: {part: {field:
# text}}. Pure.

_NOT_AN_OBJECT = Text("must be an object with {names}")

#: The fields of each part. Every part is a mapping, except `parent`, which is a text.
NOISE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "delay": ("kind", "wait", "alerts", "within", "every", "until", "per"),
    "grouping": ("by", "within"),
    "parent": ("by",),
    "flapping": ("alerts", "within", "stable"),
    "flood": ("burst", "every"),
}

#: Delay of a route that never waits, whatever the integration's delay.
NO_DELAY = "none"

_NUMBERS = frozenset({"delay.alerts", "flapping.alerts", "flood.burst"})

#: Fields of each kind of delay.
_DELAY_FIELDS: Mapping[str, tuple[str, ...]] = {
    "wait": ("wait",),
    "alerts": ("alerts", "within", "per"),
    "every": ("every", "per"),
    "until": ("until",),
}


def rows_of(parts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the fields of the definition's parts. Raises Rejected if a part has the wrong shape."""
    noise: dict[str, dict[str, str]] = {}
    for part in KEYS:
        value = parts.get(part)
        if value in (None, "", {}, "none"):
            continue
        if part == "parent":
            value = {"by": value}
        if not isinstance(value, Mapping) or not set(value) <= set(NOISE_FIELDS[part]):
            raise rejected_at(part, _NOT_AN_OBJECT(names=tuple(NOISE_FIELDS[part])), "invalid_shaping")
        noise[part] = _texts(value)
        if part == "delay":
            noise[part]["kind"] = next((kind for kind in _DELAY_FIELDS if kind in value), "")
    return noise


def _texts(settings: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(setting) for name, setting in settings.items() if setting is not None}


def _read_fields(post: QueryDict, prefix: str, names: Sequence[str]) -> dict[str, str]:
    return {name: text for name in names if (text := str(post.get(f"{prefix}.{name}", "")).strip())}


def texts_of_delay(delay: object) -> dict[str, str]:
    """Return the field texts of a delay. Empty if it is absent or of a form that the fields cannot show."""
    if delay == NO_DELAY:
        return {"kind": NO_DELAY}
    if isinstance(delay, Mapping):
        for kind, names in _DELAY_FIELDS.items():
            if kind in delay:
                return {"kind": kind, **_texts(delay)} if set(delay) <= set(names) else {}
    return {}


def delay_of(texts: Mapping[str, str]) -> dict[str, Any] | str | None:
    """Return the delay of the field texts, or None if none is chosen. Fields of other kinds of delay are ignored."""
    kind = texts.get("kind", "")
    if kind == NO_DELAY:
        return NO_DELAY
    if kind not in _DELAY_FIELDS:
        return None
    # A kind without its duration: the command rejects it by name, instead of silently dropping it here.
    return _part("delay", texts, _DELAY_FIELDS[kind]) or {kind: ""}


def parts_of(noise: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the parts; None for each that is not set."""
    parts = {part: _part(part, noise.get(part, {}), NOISE_FIELDS[part]) for part in ("grouping", "flapping", "flood")}
    return {"delay": delay_of(noise.get("delay", {})), **parts, "parent": noise.get("parent", {}).get("by") or None}


def _part(part: str, texts: Mapping[str, str], names: Sequence[str]) -> dict[str, Any] | None:
    values = {name: _value(f"{part}.{name}", texts[name]) for name in names if texts.get(name)}
    return values if values.keys() - {"per"} else None


def _value(name: str, text: str) -> Any:
    return int(text) if name in _NUMBERS and text.isascii() and text.isdigit() and len(text) < 7 else text


# ---------- routes
# Converts routes to ordered form rows and back: condition, support hours and where the alert goes. Pure.
#
# Keys that no row shows are preserved.

_NOT_A_LIST = Text("must be a list, each {example}")
_TOO_MANY_ROWS = Text("More than {limit} rows: edit the routes as YAML.")

#: Longer lists are edited as YAML.
MAX_ROUTE_ROWS = 100

#: Value of "no users" or "no groups" in the form. A name has no slash.
NO_ONE = "/"

#: Field of a row that is a text → its key in a route.
_TEXTS = {"name": "name", "policy": "escalation_policy", "client_table": "client_table", "priority": "priority"}

_FORM_KEYS = frozenset({*_TEXTS.values(), "when", "during", "recipients", "action"})

#: Keys of a route → the form field that shows their errors.
_PLACES = {
    "during": "during",
    "escalation_policy": "policy",
    "recipients.users": "users",
    "recipients.groups": "groups",
    "client_table": "client_table",
    "priority": "priority",
    "delay": "delay",
}


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route. An empty text means the integration's own setting."""

    name: str = ""
    when: ConditionGroup = field(default_factory=ConditionGroup)
    #: "in:NAME", "out:NAME" or "".
    during: str = ""
    policy: str = ""
    #: None means the integration's own users or groups.
    users: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    client_table: str = ""
    priority: str = ""
    is_log_only: bool = False
    #: Texts of the delay fields with its `kind`; empty for the integration's own delay.
    delay: Mapping[str, str] = field(default_factory=dict)
    #: Other keys, as JSON.
    other_keys: str = ""


def route_rows(routes: object) -> tuple[RouteRow, ...]:
    """Return the rows of an integration's routes. Raises Rejected if `routes` is not a list of routes."""
    if routes in (None, {}, ""):
        return ()
    if not isinstance(routes, Sequence) or isinstance(routes, str) or not all(isinstance(r, Mapping) for r in routes):
        raise rejected_at("routes", _NOT_A_LIST(example="{when, during, escalation_policy, …}"), "invalid_route")
    return tuple(_row(route) for route in routes)


def routes_of(rows: Sequence[RouteRow], places: ErrorPlaces, *, is_final: bool = True) -> list[dict[str, Any]]:
    """Return the routes of the form rows. Raises Rejected for invalid YAML in a row.

    Unless `is_final`, routes with an empty condition are skipped.
    """
    complete_rows = [
        (f"routes.{n}", row) for n, row in enumerate(rows) if is_final or not condition_form.is_incomplete(row.when)
    ]
    return [_route(row, f"routes[{n}]", name, places, is_final=is_final) for n, (name, row) in enumerate(complete_rows)]


def read_routes(post: QueryDict) -> tuple[RouteRow, ...]:
    """Return the posted rows. Raises Rejected for more than MAX_ROUTE_ROWS rows."""
    rows: list[RouteRow] = []
    while f"routes.{len(rows)}.row" in post:
        rows.append(_read(post, f"routes.{len(rows)}"))
        if len(rows) > MAX_ROUTE_ROWS:
            raise Rejected("invalid_route", _TOO_MANY_ROWS(limit=MAX_ROUTE_ROWS), "routes")
    return tuple(rows)


def change(rows: tuple[RouteRow, ...], number: int, action: str) -> tuple[RouteRow, ...]:
    """Apply a button to the rows: `add`, or `up`, `down`, `remove` and `to-N` for row `number`."""
    if action == "add":
        new = RouteRow(when=ConditionGroup((ComparisonRow(),)))
        return (*rows, new) if len(rows) < MAX_ROUTE_ROWS else rows
    if number >= len(rows):
        return rows
    other_rows = rows[:number] + rows[number + 1 :]
    if action == "remove":
        return other_rows
    targets = {"up": number - 1, "down": number + 1}
    target = targets.get(action, int(action[3:]) if action.startswith("to-") and action[3:].isdecimal() else number)
    target = min(max(target, 0), len(other_rows))
    return (*other_rows[:target], rows[number], *other_rows[target:])


def with_when(rows: tuple[RouteRow, ...], number: int, when: ConditionGroup) -> tuple[RouteRow, ...]:
    """Return the rows with the condition of row `number` replaced."""
    return (*rows[:number], replace(rows[number], when=when), *rows[number + 1 :]) if number < len(rows) else rows


def describe_route(row: RouteRow, labels: Mapping[str, str]) -> str:
    """Describe a route in a sentence, such as "When client equals Globex, outside Office hours: only record"."""
    when = condition_form.describe_rows(row.when, labels)
    parts = [_("Always") if when == "always" else _("When %(condition)s") % {"condition": when}]
    if row.during:
        relation, _colon, name = row.during.partition(":")
        parts.append((_("during %(hours)s") if relation == "in" else _("outside %(hours)s")) % {"hours": name})
    effects = [_("%(priority)s priority") % {"priority": local_term(row.priority)}] if row.priority else []
    if row.is_log_only:
        effects.append(_("log only"))
    else:
        policy_text = _("page using %(policy)s") % {"policy": row.policy}
        effects.append(policy_text if row.policy else _("page using the integration's policy"))
        if row.client_table:
            effects.append(_("by client table %(table)s") % {"table": row.client_table})
        if names := (*(row.groups or ()), *(row.users or ())):
            effects.append(_("to %(names)s") % {"names": ", ".join(names)})
        elif row.groups == row.users == ():
            effects.append(_("to no one"))
    if row.delay.get("kind"):
        effects.append(_describe_delay(row.delay))
    return f"{', '.join(parts)}: {', '.join(effects)}."


def _row(route: Mapping[str, Any]) -> RouteRow:
    recipients = route.get("recipients")
    recipient_names = recipients if isinstance(recipients, Mapping) else {}
    during = route.get("during")
    delay = texts_of_delay(route.get("delay"))
    more = {key: value for key, value in route.items() if key not in _FORM_KEYS and not (key == "delay" and delay)}
    return RouteRow(
        name=str(route.get("name") or ""),
        when=condition_form.rows_of(route.get("when")),
        during=f"out:{during.get('not')}" if isinstance(during, Mapping) else f"in:{during}" if during else "",
        policy=str(route.get("escalation_policy") or ""),
        users=_names(recipient_names.get("users")),
        groups=_names(recipient_names.get("groups")),
        client_table=str(route.get("client_table") or ""),
        priority=str(route.get("priority") or ""),
        is_log_only=route.get("action") == "record",
        delay=delay,
        other_keys=json.dumps(more, ensure_ascii=False, default=str) if more else "",
    )


def _describe_delay(delay: Mapping[str, str]) -> str:
    values = {name: delay.get(name) or "…" for name in ("wait", "alerts", "within", "every", "until")}
    is_shared = delay.get("per") == "integration"
    match delay["kind"]:
        case "wait":
            template = _("after %(wait)s, unless it closes first")
        case "alerts" if delay.get("within"):
            shared_template = _("after %(alerts)s alerts of the integration within %(within)s")
            template = shared_template if is_shared else _("after %(alerts)s alerts within %(within)s")
        case "alerts":
            shared_template = _("after %(alerts)s alerts of the integration")
            template = shared_template if is_shared else _("after %(alerts)s alerts")
        case "every":
            shared_template = _("at most once every %(every)s per integration")
            template = shared_template if is_shared else _("at most once every %(every)s")
        case "until":
            template = _("when support hours %(until)s begin")
        case _:
            template = _("immediately")
    return template % values


def _route(row: RouteRow, place: str, prefix: str, places: ErrorPlaces, *, is_final: bool) -> dict[str, Any]:
    places.rows[place] = prefix
    places.rows |= {f"{place}.{key}": f"{prefix}.{name}" for key, name in _PLACES.items()}
    route: dict[str, Any] = {key: text for name, key in _TEXTS.items() if (text := getattr(row, name))}
    when = condition_form.condition_of(row.when, f"{place}.when", f"{prefix}.when", places, is_final=is_final)
    if when is not None:
        route["when"] = when
    kind, _colon, name = row.during.partition(":")
    if name:
        route["during"] = {"not": name} if kind == "out" else name
    own_recipients = (("users", row.users), ("groups", row.groups))
    if recipients := {key: list(names) for key, names in own_recipients if names is not None}:
        route["recipients"] = recipients
    if row.is_log_only:
        route["action"] = "record"
    if (delay := delay_of(row.delay)) is not None:
        route["delay"] = delay
    if row.other_keys:
        try:
            more = json.loads(row.other_keys)
        except ValueError:
            raise rejected_at(
                place, sentence("the settings not shown in the form are invalid"), "invalid_route"
            ) from None
        route |= more if isinstance(more, dict) else {}
    return route


def _read(post: QueryDict, prefix: str) -> RouteRow:
    return RouteRow(
        name=str(post.get(f"{prefix}.name", "")).strip(),
        when=condition_form.read_conditions(post.dict(), f"{prefix}.when"),
        during=str(post.get(f"{prefix}.during", "")),
        policy=str(post.get(f"{prefix}.policy", "")),
        users=_read_names(post, f"{prefix}.users"),
        groups=_read_names(post, f"{prefix}.groups"),
        client_table=str(post.get(f"{prefix}.client_table", "")),
        priority=str(post.get(f"{prefix}.priority", "")),
        is_log_only=post.get(f"{prefix}.action", "") == "record",
        delay=_read_fields(post, f"{prefix}.delay", NOISE_FIELDS["delay"]),
        other_keys=str(post.get(f"{prefix}.more", "")),
    )


def _names(names: object) -> tuple[str, ...] | None:
    return tuple(map(str, names)) if isinstance(names, list | tuple) else None


def _read_names(post: QueryDict, field_name: str) -> tuple[str, ...] | None:
    """Return the posted names: those of the chips, and the one that was picked last."""
    posted = dict.fromkeys(name for name in map(str, post.getlist(field_name)) if name)
    names = tuple(name for name in posted if name != NO_ONE)
    return names if names or NO_ONE in posted else None


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
        """Return the row of `targets` that contains the row chosen last, or "" if none was chosen."""
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
            row = self.places.row(place)
            sentence_text = problem.reason.localized()
            text = field_error_text(problem) if row else sentence_text[:1].upper() + sentence_text[1:]
            (self.errors.setdefault(row, []) if row else self.problems).append(text)


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


#: Prefix of the rows that have a name → their part of the mapping.
_NAMED = {"t": "tags", "c": "custom"}


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of the form. `default` is the first source of the integration type's default, or empty, and
    `default_fallbacks` are those tried after it, if it gives no value."""

    prefix: str
    name: str
    label: str
    entry: FieldEntry
    default: str = ""
    default_fallbacks: tuple[str, ...] = ()

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The sources that are tried after the first one."""
        if self.entry.origin is ValueOrigin.PATHS:
            return tuple(filter(str.strip, self.entry.text.splitlines()))[1:]
        return self.default_fallbacks if self.entry.origin is ValueOrigin.DEFAULT else ()

    @property
    def target(self) -> str:
        """Identifier under which a click on a payload value fills the row: the field's name, or the row's prefix."""
        return self.prefix.removeprefix("f-")


class MappingTab(EditorTab):
    keys = ("mapping", "dedup_key")

    def __init__(self, kind: IntegrationKind) -> None:
        super().__init__(kind)
        self.entries: dict[str, FieldEntry] = {}
        #: The tags ("t") and custom fields ("c") by the prefix of their rows.
        self.named: dict[str, list[tuple[str, FieldEntry]]] = {}
        self.key = ""

    def load(self, parts: Mapping[str, Any]) -> None:
        mapping = _mapping(parts.get("mapping"), "mapping")
        self.entries = {
            name: condition_form.entry_of(mapping.get(name), is_set=name in mapping) for name in (*FIELDS, *mapping)
            if name not in ("tags", "custom")
        }  # fmt: skip
        for prefix, group in _NAMED.items():
            entries = _mapping(mapping.get(group), f"mapping.{group}")
            self.named[prefix] = [(str(name), condition_form.entry_of(entry)) for name, entry in entries.items()]
        self.key = str(parts.get("dedup_key") or "")

    def read(self, post: QueryDict) -> None:
        self.entries = {name: _entry(post, f"f-{name}") for name in FIELDS}
        self.named = {prefix: _named(post, prefix) for prefix in _NAMED}
        self.key = str(post.get("key", "")).replace("\r\n", "\n")

    def apply_action(self, action: Sequence[str]) -> str:
        match action:
            case ["add", "tag" | "custom" as kind]:
                prefix = kind[0]
                free = next((name for name in TAGS if name not in dict(self.named["t"])), "") if prefix == "t" else ""
                self.named[prefix].append((free, FieldEntry(ValueOrigin.PATHS)))
                self.target = f"{prefix}-{len(self.named[prefix]) - 1}"
            case ["remove", row]:
                rows, number = self._named_row(row)
                if rows:
                    self.target = ""
                    return _("%(name)s removed") % {"name": rows.pop(number)[0] or _("Field")}
        return ""

    def pick(self, path: str, comparison: ComparisonRow) -> str:
        label = dict(self.targets()).get(self.target, "") if self.target else ""
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
        rows = self.named.get(prefix, [])
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
        for prefix, group in _NAMED.items():
            entries: dict[str, Any] = {}
            for number, (name, entry) in enumerate(self.named.get(prefix, [])):
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
        return [self._row(name) for name in FIELDS if name not in _PRIMARY_FIELDS and name != "dedup_key"]

    def tag_rows(self) -> list[FieldRow]:
        return self._named_rows("t")

    def custom_rows(self) -> list[FieldRow]:
        return self._named_rows("c")

    def _named_rows(self, prefix: str) -> list[FieldRow]:
        rows = enumerate(self.named.get(prefix, []))
        return [FieldRow(f"{prefix}-{number}", name, name, entry) for number, (name, entry) in rows]

    def every_row(self) -> list[FieldRow]:
        return [*self.rows(), *self.other_rows(), *self.tag_rows(), *self.custom_rows(), self.key_row()]

    def key_row(self) -> FieldRow:
        return FieldRow("key", "dedup_key", _("dedup key"), FieldEntry(ValueOrigin.TEMPLATE, self.key))

    def targets(self) -> list[tuple[str, str]]:
        # At first none, so that a stray click changes nothing.
        return [("", _("choose a field")), *((row.target, row.label or _("this field")) for row in self.every_row())]

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
        """Return (name, description) of the type's default tags that the integration does not override."""
        return self._default_entries("t")

    def default_custom(self) -> list[tuple[str, str]]:
        """Return the same of its default custom fields."""
        return self._default_entries("c")

    def _default_entries(self, prefix: str) -> list[tuple[str, str]]:
        defaults, own = self.kind.mapping.get(_NAMED[prefix]), dict(self.named.get(prefix, []))
        defaults = defaults if isinstance(defaults, Mapping) else {}
        return [(name, condition_form.describe_mapping(entry)) for name, entry in defaults.items() if name not in own]

    def _row(self, name: str) -> FieldRow:
        first, *others = condition_form.describe_sources(self.kind.mapping[name]) if name in self.kind.mapping else [""]
        entry = self.entries.get(name, FieldEntry())
        return FieldRow(f"f-{name}", name, local_term(FIELDS[name].label), entry, first, tuple(others))


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
                name, path = _row_editor_tab(row)
                if name in self.groups:
                    self.groups[name] = condition_form.change(self.groups[name], path, row_action)
                    return _("Condition removed") if row_action == "remove" else ""
        return ""

    def pick(self, path: str, comparison: ComparisonRow) -> str:
        name, row_path = _row_editor_tab(self.target)
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
        return [row for name, group in self.groups.items() for row, _node in condition_form.comparisons(group, name)]

    def sentences(self) -> list[tuple[str, RuleRow]]:
        """Return (row path, rule) of every rule, for its sentence."""
        return [(row.name, row) for row in self.rows()]

    def _default_rule(self, name: str) -> Any:
        if name == "filters":
            return self.kind.filters
        rule = self.kind.rules.get(name)
        return False if rule is None else rule


def field_labels() -> dict[str, str]:
    return {name: local_term(FIELDS[name].label) for name in FIELDS}


def _row_editor_tab(row: str) -> tuple[str, tuple[int, ...]]:
    """Split a row path: "open.0.1" → ("open", (0, 1))."""
    name, *path = row.split(".")
    return name, tuple(int(step) for step in path if step.isdecimal() and len(step) < 5)


#: The target of a click that adds a route.
NEW_ROUTE = "new"

#: The window of a grouping that a report suggests.
_GROUPING_WINDOW = "30m"


class RoutingTab(EditorTab):
    """The ordered routes, and the delay, grouping and limits that apply to all of them."""

    keys = ("routes", *KEYS)

    def __init__(self, kind: IntegrationKind) -> None:
        super().__init__(kind)
        self.routes: tuple[RouteRow, ...] = ()
        self.noise: dict[str, dict[str, str]] = {}

    def load(self, parts: Mapping[str, Any]) -> None:
        self.routes = route_rows(parts.get("routes"))
        self.noise = rows_of(parts)

    def read(self, post: QueryDict) -> None:
        self.routes = read_routes(post)
        self.noise = {part: _read_fields(post, f"suppression.{part}", names) for part, names in NOISE_FIELDS.items()}

    def prefill(self, query: QueryDict) -> bool:
        group_by = query.get("group_by", "").replace("\x00", "")[:500]
        if not group_by:
            return False
        self.noise["grouping"] = {"within": _GROUPING_WINDOW, **self.noise.get("grouping", {}), "by": group_by}
        return True

    def apply_action(self, action: Sequence[str]) -> str:
        match action:
            case ["route", number, row_action] if number.isdecimal() and len(number) < 5:
                self.routes = change(self.routes, int(number), row_action)
                return _("Route removed") if row_action == "remove" else ""
            case ["cond", row, row_action]:
                route_number, path = self._condition_row(row)
                if route_number is not None:
                    when = condition_form.change(self.routes[route_number].when, path, row_action)
                    self.routes = with_when(self.routes, route_number, when)
                    return _("Condition removed") if row_action == "remove" else ""
        return ""

    def pick(self, path: str, comparison: ComparisonRow) -> str:
        number, row_path = self._condition_row(self.target)
        if number is None:
            self.routes = change(self.routes, 0, "add")
            number = len(self.routes) - 1
            self.target = f"routes.{number}"
        when = condition_form.with_comparison(self.routes[number].when, row_path, comparison)
        self.routes = with_when(self.routes, number, when)
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

    def numbered(self) -> list[tuple[int, str, RouteRow]]:
        """Return (number from 0, row path, route) of every route."""
        return [(number, f"routes.{number}", route) for number, route in enumerate(self.routes)]

    def every_comparison(self) -> list[str]:
        groups = ((f"{row}.when", route.when) for _number, row, route in self.numbered())
        return [path for row, when in groups for path, _node in condition_form.comparisons(when, row)]

    def sentences(self) -> list[tuple[str, RouteRow]]:
        """Return (row path, route) of every route, for its sentence."""
        return [(row, route) for _, row, route in self.numbered()]

    def _parts(self) -> dict[str, Any]:
        for part in KEYS:
            self.places.rows[part] = f"suppression.{part}"
        routes = routes_of(self.routes, self.places, is_final=self.is_final)
        return {"routes": routes, **parts_of(self.noise)}
