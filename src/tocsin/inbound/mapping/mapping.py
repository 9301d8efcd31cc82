"""Maps payload values to fields. Compiled once per configuration version.

A field is defined by a path, a list of alternatives (the first with a value wins), or an object with one of `path`,
`paths`, `template`, `literal`, and any of `only`, `nobody`, `map`, `else`, `when` (see `inbound.mapping.value_source`).
A name that is not one of Tocsin's fields is a custom field; `tags` and `custom` contain named ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tocsin.core.reasons import Reason, ReasonType, Term
from tocsin.inbound.expressions.fields import (
    CLEANERS,
    CUSTOM_LENGTH,
    FIELDS,
    MAX_CUSTOM,
    MAX_TAGS,
    TAG_LENGTH,
    FieldKind,
    Value,
    clean_line,
    clean_text,
)
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.text_format import one_line
from tocsin.inbound.mapping.extraction import Extraction
from tocsin.inbound.mapping.value_source import NOBODY, Alternative, EntryCompiler, ExtractedValue, rejection

type Cleaner = Callable[[object, int], Value]
type PickValue = Callable[[list[object], object, dict[str, Value]], object]

#: The number of plans cached, one for each combination of shapes in a sender's messages.
_MAX_PLANS: Final = 256

#: Kinds whose values must be understood: an unknown value adds a note.
_MUST_BE_UNDERSTOOD: Final = {
    FieldKind.PRIORITY: ReasonType(
        "mapping.priority_not_understood", '{field} "{value}" is not mapped to critical, high, medium or low'
    ),
    FieldKind.MOMENT: ReasonType("mapping.time_not_understood", '{field} "{value}" is not a time that Tocsin can read'),
}

_NOT_A_MAPPING = ReasonType("mapping.malformed", "must map fields to value sources")
_NOT_A_FIELD_GROUP = ReasonType("mapping.malformed_field_group", "must map names to value sources")
_TOO_MANY_TAGS = ReasonType("mapping.too_many_tags", "at most {maximum} tags; these are {length}")
_TOO_MANY_CUSTOM = ReasonType("mapping.too_many_custom_fields", "at most {maximum} custom fields; these are {length}")
_DUPLICATE_NAME = ReasonType("mapping.duplicate_name", "is a tag and a custom field; names are unique")
_INVALID_NAME = ReasonType("mapping.invalid_name", "a field's name is text of 1 to 100 characters; this is {name}")
_RESERVED_NAME = ReasonType("mapping.reserved_name", "is the name of a standard field; map it at the top level")
_CIRCULAR = ReasonType("mapping.circular_template", "its template has a circular reference")


@dataclass(frozen=True, slots=True)
class MappedField:
    """One field and its alternatives; `pick` returns the value, NOBODY, or None."""

    name: str
    alternatives: tuple[Alternative, ...]
    cleaner: Cleaner
    length: int
    pick: PickValue


class _MappingPlan:
    """The fields that payloads with one trail can fill. `direct` fields come from a single plain path each."""

    __slots__ = ("direct", "picked")

    def __init__(
        self, direct: tuple[tuple[str, int, Cleaner, int], ...], picked: tuple[tuple[str, PickValue], ...]
    ) -> None:
        self.direct = direct
        self.picked = picked


class CompiledMapping:
    """`apply(payload)` maps a payload; `names` are the fields, tags and custom fields that it may return."""

    def __init__(
        self,
        extraction: Extraction,
        fields: tuple[MappedField, ...],
        tags: tuple[MappedField, ...],
        custom: tuple[MappedField, ...],
    ) -> None:
        self.extraction = extraction
        self.fields = fields
        self.tags = tags
        self.custom = custom
        self.names = frozenset(field.name for group in (fields, tags, custom) for field in group)
        self._full_plan = _MappingPlan((), tuple((field.name, field.pick) for field in fields))
        self._plans: dict[tuple[int, ...], _MappingPlan] = {}
        self._tag_plan = tuple((field.name, field.pick) for field in tags)
        self._custom_plan = tuple((field.name, field.pick) for field in custom)
        self._must_be_understood = tuple(f for f in fields if FIELDS[f.name].kind in _MUST_BE_UNDERSTOOD)

    def apply(self, payload: object) -> MappedFields:
        """Maps a payload. Never raises."""
        slots, trail = self.extraction.read_with_trail(payload)
        plan = self._full_plan if trail is None else self._plans.get(trail) or self._build_plan(trail, payload)
        values: dict[str, Value] = {}
        for name, slot, clean, length in plan.direct:
            candidate = slots[slot]
            if candidate is not None and (value := clean(candidate, length)) is not None:
                values[name] = value
        for name, pick in plan.picked:
            candidate = pick(slots, payload, values)
            if candidate is not None:
                values[name] = None if candidate is NOBODY else candidate  # type: ignore[assignment]
        notes: tuple[Reason, ...] = ()
        for field in self._must_be_understood:
            if field.name not in values and (note := _note(field, slots, payload, values)):
                notes += (note,)
        tags = _texts(self._tag_plan, slots, payload, values) if self._tag_plan else {}
        custom = _texts(self._custom_plan, slots, payload, values) if self._custom_plan else {}
        return MappedFields(values, tags, custom, notes)

    def _build_plan(self, trail: tuple[int, ...], payload: object) -> _MappingPlan:
        """Builds the plan for a trail, without alternatives whose path is missing in all payloads of that trail."""
        filled = self.extraction.fillable_slots(payload)
        direct: list[tuple[str, int, Cleaner, int]] = []
        picked: list[tuple[str, PickValue]] = []
        for field in self.fields:
            remaining = tuple(a for a in field.alternatives if a.slot < 0 or a.slot in filled)
            if len(remaining) == 1 and remaining[0].is_plain:
                direct.append((field.name, remaining[0].slot, field.cleaner, field.length))
            elif remaining:
                picked.append((field.name, _picker(remaining, field.cleaner, field.length)))
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        plan = self._plans[trail] = _MappingPlan(tuple(direct), tuple(picked))
        return plan


def _texts(
    plan: tuple[tuple[str, PickValue], ...],
    slots: list[object],
    payload: object,
    values: dict[str, Value],
) -> dict[str, str]:
    picked = {name: pick(slots, payload, values) for name, pick in plan}
    return {name: value for name, value in picked.items() if isinstance(value, str)}


def _note(field: MappedField, slots: list[object], payload: object, values: dict[str, Value]) -> Reason | None:
    """Returns a note about a value that is present but not understood."""
    known_field = FIELDS[field.name]
    for alternative in field.alternatives:
        candidate = alternative.find(slots, payload, values)
        value_text = None if candidate is None or candidate is NOBODY else clean_line(candidate, 100)
        if value_text is not None:
            note = _MUST_BE_UNDERSTOOD[known_field.kind]
            return note(field=Term(known_field.label), value=one_line(value_text))
    return None


def compile_mapping(
    definition: object,
    settings: Mapping[str, object] | None = None,
    field_path: str = "mapping",
    *,
    is_folding: bool = False,
) -> CompiledMapping:
    """Compiles a mapping. `is_folding`: its paths find names in another spelling too. Raises
    Rejected("invalid_mapping", "invalid_path" or "invalid_condition") with the field."""
    if not isinstance(definition, Mapping):
        raise rejection(field_path, _NOT_A_MAPPING())
    groups = _group_fields(definition, field_path)
    names = frozenset(name for group in groups for name in group)
    compiler = EntryCompiler(Extraction(is_folding=is_folding), settings or {}, names & FIELDS.keys())
    known, tags, custom = groups
    nested = definition.get("custom") or {}
    fields = tuple(
        _known_field(compiler, name, known[name], f"{field_path}.{name}") for name in FIELDS if name in known
    )
    mapping = CompiledMapping(
        compiler.extraction,
        _dependency_order(fields, field_path),
        tuple(_custom_field(compiler, n, d, f"{field_path}.tags.{n}", clean_line, TAG_LENGTH) for n, d in tags.items()),
        tuple(
            _custom_field(compiler, n, d, f"{field_path}.{'custom.' * (n in nested)}{n}", clean_text, CUSTOM_LENGTH)
            for n, d in custom.items()
        ),
    )
    compiler.extraction.freeze()
    return mapping


type _Group = dict[str, object]


def _group_fields(definition: Mapping[object, object], field_path: str) -> tuple[_Group, _Group, _Group]:
    """Returns known fields, tags and custom fields by name; null removes one."""
    known: _Group = {}
    custom: _Group = {}
    tags: _Group = {}
    for name, entry in definition.items():
        if entry is None:
            continue
        if name in ("tags", "custom"):
            if not isinstance(entry, Mapping):
                raise rejection(f"{field_path}.{name}", _NOT_A_FIELD_GROUP())
            (tags if name == "tags" else custom).update(
                {_check_name(n, f"{field_path}.{name}", is_nested=True): d for n, d in entry.items() if d is not None}
            )
        elif name in FIELDS:
            known[str(name)] = entry
        else:
            custom[_check_name(name, field_path)] = entry
    for limit, group, problem in ((MAX_TAGS, tags, _TOO_MANY_TAGS), (MAX_CUSTOM, custom, _TOO_MANY_CUSTOM)):
        if len(group) > limit:
            raise rejection(field_path, problem(maximum=limit, length=len(group)))
    if duplicates := tags.keys() & custom.keys():
        raise rejection(f"{field_path}.{min(duplicates)}", _DUPLICATE_NAME())
    return known, tags, custom


def _check_name(name: object, field_path: str, *, is_nested: bool = False) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or not name.isprintable():
        raise rejection(field_path, _INVALID_NAME(name=repr(str(name)[:40])))
    if is_nested and name in FIELDS:
        raise rejection(f"{field_path}.{name}", _RESERVED_NAME())
    return name


def _known_field(compiler: EntryCompiler, name: str, definition: object, field_path: str) -> MappedField:
    field = FIELDS[name]
    return _field(compiler, name, definition, field_path, CLEANERS[field.kind], field.length)


def _custom_field(
    compiler: EntryCompiler, name: str, definition: object, field_path: str, cleaner: Cleaner, length: int
) -> MappedField:
    return _field(compiler, name, definition, field_path, cleaner, length)


def _field(
    compiler: EntryCompiler, name: str, definition: object, field_path: str, cleaner: Cleaner, length: int
) -> MappedField:
    alternatives = tuple(compiler.alternatives(definition, field_path))
    return MappedField(name, alternatives, cleaner, length, _picker(alternatives, cleaner, length))


def _picker(alternatives: tuple[Alternative, ...], cleaner: Cleaner, length: int) -> PickValue:
    """Returns a function for the first alternative with a value, cleaned. Plain paths are read without a call."""
    steps = tuple((a.slot if a.is_plain else -1, a.slot, a.find) for a in alternatives)

    def pick(slots: list[object], payload: object, values: dict[str, Value]) -> object:
        for plain_slot, slot, find in steps:
            candidate: ExtractedValue
            if plain_slot >= 0:
                candidate = slots[plain_slot]
                if candidate is None:
                    continue
            else:
                if slot >= 0 and slots[slot] is None:
                    continue
                candidate = find(slots, payload, values)
                if candidate is None:
                    continue
                if candidate is NOBODY:
                    return NOBODY
            value = cleaner(candidate, length)
            if value is not None:
                return value
        return None

    return pick


def _dependency_order(fields: tuple[MappedField, ...], field_path: str) -> tuple[MappedField, ...]:
    """Sorts fields so that templates come after the fields they refer to. Raises Rejected for a circular reference."""
    remaining = {f.name: f for f in fields}
    ordered: list[MappedField] = []
    while remaining:
        ready = [
            f for f in remaining.values() if not (set().union(*(a.fields for a in f.alternatives)) & remaining.keys())
        ]
        if not ready:
            name = next(iter(remaining))
            raise rejection(f"{field_path}.{name}", _CIRCULAR())
        for field in ready:
            ordered.append(field)
            del remaining[field.name]
    return tuple(ordered)
