"""Flat objects: configured objects whose columns are the fields of their spec.

A spec is read, stored, written and audited, and what an object refers to is found, by that one description: a field is
stored in the column of its name, names of other objects by their id (`Reference`). What is more is the own step of the
kind. Callers check permissions first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, get_args

from django.apps import apps
from django.db.models import Model
from pydantic.fields import FieldInfo

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.validation.spec import Reference, Spec, SpecErrors
from tocsin.people.models import find_group, names_check

#: The names of objects by the label of their model and id.
type NamesById = Mapping[str, Mapping[int, str]]


class OwnStep[M: Model, S: Spec](Protocol):
    """What a kind does besides: sets further columns, then yields while the row is saved. `before` is the former spec,
    None for a new object."""

    def __call__(self, read: S, row: M, /, *, before: Mapping[str, Any] | None, now: datetime) -> Iterator[None]: ...


# Without slots: before Python 3.12.3 a generic class with frozen slots cannot be called by its parameters.
@dataclass(frozen=True)
class FlatObject[M: Model, S: Spec]:
    """One kind of flat object; `object_type` is as in the audit log."""

    object_type: str
    model: type[M]
    spec_type: type[S]
    #: Given the existing object, returns a further check for `Spec.read`. By default, of the name and the owner.
    check: Callable[[M | None], Callable[[Any, SpecErrors], None]] | None = None
    own_step: OwnStep[M, S] | None = None
    #: The keys of a spec that have no column of their own.
    further_keys: Callable[[M], Mapping[str, Any]] | None = None

    def save(self, spec: Mapping[str, object], *, existing: M | None = None, actor: AuditActor, now: datetime) -> M:
        """Creates an object, or changes `existing` to match the spec. Raises Rejected, naming each field."""
        with boundary.config_command():
            read = self.read(spec, existing)
            before = self.spec(existing) if existing else None
            row = existing or self.model()
            self.fill(row, read)
            with contextmanager(self.own_step)(read, row, before=before, now=now) if self.own_step else nullcontext():
                row.save()
                for column in self._columns:
                    if column.is_many:
                        getattr(row, column.name).set(getattr(read, column.name))
            named: Any = row
            audit.record_config_audit(self.object_type, named, before, self.spec(row), actor=actor, now=now)
        return row

    def read(self, spec: Mapping[str, object], existing: M | None = None) -> S:
        """Parses a spec. Raises Rejected, naming each field."""
        check: Any = self.check(existing) if self.check else names_check(self.model, existing)
        with boundary.as_viewer():
            ids: dict[str, Any] = {
                label: {name.lower(): number for number, name in names.items()} for label, names in self.names().items()
            }
        return self.spec_type.read(spec, check=check, **ids)

    def fill(self, row: M, read: S) -> None:
        """Sets the columns to what was read."""
        for column in self._columns:
            value = getattr(read, column.name)
            if column.name == _OWNER:
                setattr(row, _OWNER, find_group(value))
            elif not column.is_many:
                setattr(row, column.attribute, [_stored(item) for item in value] if isinstance(value, tuple) else value)

    def spec(self, row: M, names: NamesById | None = None) -> dict[str, Any]:
        """Returns an object as in YAML and the API, without empty values and default flags."""
        names = self.names() if names is None else names
        written = ((column, column.written(row, names)) for column in self._columns)
        return {
            column.key: value
            for column, value in written
            if (value != column.field.default if isinstance(value, bool) else value)
        } | dict(self.further_keys(row) if self.further_keys else ())

    def names(self, _rows: Sequence[M] = ()) -> NamesById:
        """Loads the names of everything that objects of this kind may refer to."""
        labels = {reference.kind for column in self._columns for _name, reference in column.references()}
        return {label: dict(_model(label).objects.values_list("pk", "name")) for label in labels}

    def references(self, row: M) -> dict[type[Model], list[int]]:
        """Returns the ids of what an object refers to, by model."""
        ids: dict[type[Model], list[int]] = {}
        for column in self._columns:
            for name, reference in column.references():
                value = getattr(row, column.attribute) if not column.is_many else ()
                entries = value if isinstance(value, list | tuple) else [value]
                found = [entry.get(name) for entry in entries] if name else entries
                ids.setdefault(_model(reference.kind), []).extend(number for number in found if number is not None)
        return ids

    @cached_property
    def _columns(self) -> tuple[_Column, ...]:
        stored = {field.name: field for field in self.model._meta.get_fields()}
        return tuple(
            _Column(name, field, bool(stored[name].many_to_many), getattr(stored[name], "attname", name))
            for name, field in self.spec_type.model_fields.items()
            if name in stored
        )


#: The column of the group that owns an object.
_OWNER = "group"


@dataclass(frozen=True)
class _Column:
    """A field of the spec with a column. `is_many`: a relation to many rows, whose references do not prevent a
    deletion."""

    name: str
    field: FieldInfo
    is_many: bool
    #: The attribute of a row with its value: the id for a relation to one row.
    attribute: str

    @property
    def key(self) -> str:
        return self.field.alias or self.name

    @cached_property
    def entry_type(self) -> type[Spec] | None:
        """The type of the entries of a list of objects."""
        kind = next(iter(get_args(self.field.annotation)), None)
        return kind if isinstance(kind, type) and issubclass(kind, Spec) else None

    def references(self) -> Iterator[tuple[str, Reference]]:
        """Yields the references of the column itself, with "", and of the fields of its entries."""
        fields = self.entry_type.model_fields if self.entry_type else {}
        for name, field in {"": self.field, **fields}.items():
            yield from ((name, marker) for marker in field.metadata if isinstance(marker, Reference))

    def written(self, row: Model, names: NamesById) -> Any:
        """Returns the column's value as in a spec."""
        if self.name == _OWNER:
            owner = getattr(row, _OWNER)
            return owner.name if owner else ""
        value, references = getattr(row, self.attribute), dict(self.references())
        if self.is_many:
            return sorted(other.name for other in value.all())
        if "" in references:
            known = names[references[""].kind]
            if not isinstance(value, list | tuple):
                return known.get(value)
            return [known[number] for number in value if number in known]
        if references and self.entry_type:
            return [_written_entry(self.entry_type, entry, references, names) for entry in value]
        return value


def _written_entry(
    kind: type[Spec], entry: Mapping[str, Any], references: Mapping[str, Reference], names: NamesById
) -> dict[str, Any]:
    written = {
        field.alias or name: names[references[name].kind].get(entry[name]) if name in references else entry[name]
        for name, field in kind.model_fields.items()
        if entry.get(name) is not None
    }
    return {key: value for key, value in written.items() if value is not None}


def _stored(item: object) -> object:
    return item.to_column() if isinstance(item, Spec) else item


def _model(label: str) -> Any:
    return apps.get_model(label)
