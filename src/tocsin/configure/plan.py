"""Applies configuration files in one transaction, or previews the changes.

A preview applies them and rolls back, so it shows exactly what `apply` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from io import StringIO
from typing import Any

from django.db import transaction
from django.db.models import Model
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.configure.config_files import SETTINGS, ConfigFiles, ConfigObject, iter_texts, split_problems
from tocsin.core.config import settings_store
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import Param, Reason, Term, Text, sentence
from tocsin.core.validation.inputs import AT_PATH, raise_all
from tocsin.resources.registry import RESOURCES
from tocsin.resources.resource import Resource

#: The audit actor of `tocsin apply`.
ACTOR = AuditActor(None, "tocsin apply", "yaml")


class PlanAction(StrEnum):
    """The change to an object."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One line of the plan: an object, its change, and the keys that differ."""

    change: PlanAction
    label: str
    name: str
    keys: tuple[str, ...] = ()
    previous_name: str | None = None

    def __str__(self) -> str:
        renamed = f" (was {self.previous_name})" if self.previous_name else ""
        keys = f": {', '.join(self.keys)}" if self.keys else ""
        return f"{self.change:<9} {self.label} {self.name}{renamed}{keys}"


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """All changes of a run, in order."""

    lines: tuple[PlanLine, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return all(line.change is PlanAction.UNCHANGED for line in self.lines)

    def count(self, change: PlanAction) -> int:
        """The number of objects with this change."""
        return sum(line.change is change for line in self.lines)


def preview(sources: ConfigFiles, *, prune: bool, now: datetime, actor: AuditActor = ACTOR) -> ConfigPlan:
    """Returns what `apply` would do, and raises what it would raise. Changes nothing."""
    with transaction.atomic():
        plan = _run(sources, prune=prune, now=now, actor=actor)
        transaction.set_rollback(True)
    return plan


def apply(
    sources: ConfigFiles,
    *,
    prune: bool,
    now: datetime,
    actor: AuditActor = ACTOR,
    on_plan: Callable[[ConfigPlan], None] = lambda plan: None,
) -> ConfigPlan:
    """Applies everything or nothing.

    With `prune`, objects not in the files are deleted, for resources whose key the files contain; likewise, settings
    not in the files are reset to their defaults. `on_plan` is called with the plan before the commit. Raises Rejected
    or RejectedAll with file, line and object in the messages.
    """
    with transaction.atomic():
        plan = _run(sources, prune=prune, now=now, actor=actor)
        on_plan(plan)
        if plan.is_empty:
            # Objects saved without a change are not written.
            transaction.set_rollback(True)
    return plan


def _run(sources: ConfigFiles, *, prune: bool, now: datetime, actor: AuditActor) -> ConfigPlan:
    settings_store.lock()
    errors = _ErrorCollector(sources)
    lines = _settings(sources, prune, actor, now, errors)
    for resource in RESOURCES:
        lines += _save_all(_sort_by_reference(sources.entries.get(resource.key, [])), actor, now, errors)
    lines = _save_deferred_fields(lines, sources, actor, now, errors)
    raise_all(errors.problems)
    if prune:
        for resource in reversed(RESOURCES):
            if resource.key in sources.keys:
                lines += _prune(resource, sources.entries.get(resource.key, []), actor, now, errors)
        raise_all(errors.problems)
    return ConfigPlan(tuple(lines))


class _ErrorCollector:
    """Collects all problems of the files in order, so that they can be fixed at once.

    Omits consequential errors, such as a missing user whose own entry was rejected.
    """

    def __init__(self, sources: ConfigFiles) -> None:
        self.problems: list[Rejected] = list(sources.problems)
        #: Case-folded names of entries that could not be saved.
        self._missing = set(sources.unreadable_names)

    def add(self, entry: ConfigObject, problem: Rejected) -> None:
        """Records the problem of an entry that is not saved."""
        missing_names = self._missing & set(iter_texts(entry.spec)) - {entry.name.casefold()}
        for single in split_problems(problem):
            # Not if it is only that an object refers to one of the missing names.
            if single.code != "not_found" or not any(_names(single.reason, name) for name in missing_names):
                self.problems.extend(entry.locate(single))
        self._missing.add(entry.name.casefold())


def _names(value: Param, name: str) -> bool:
    match value:
        case Reason():
            return any(_names(param, name) for _, param in value.params)
        case str():
            return value.strip().casefold() == name
        case _:
            return False


def _sort_by_reference(entries: Sequence[ConfigObject]) -> list[ConfigObject]:
    """The entries, each after those of its own kind that it refers to; cycles keep their order."""
    ordered: list[ConfigObject] = []
    by_name = {entry.name.casefold(): entry for entry in entries}

    def add(entry: ConfigObject, in_progress: frozenset[str]) -> None:
        for name in entry.resource.depends_on(entry.spec):
            other = by_name.get(name.casefold())
            if other is not None and other not in ordered and name.casefold() not in in_progress:
                add(other, in_progress | {entry.name.casefold()})
        if entry not in ordered:
            ordered.append(entry)

    for entry in entries:
        add(entry, frozenset({entry.name.casefold()}))
    return ordered


def _settings(
    sources: ConfigFiles, prune: bool, actor: AuditActor, now: datetime, errors: _ErrorCollector
) -> list[PlanLine]:
    if SETTINGS not in sources.keys:
        return []
    requested = dict(sources.settings)
    if prune:
        requested |= {
            name: settings_store.SETTINGS[name].default
            for name in settings_store.non_default_settings()
            if name not in requested
        }
    previous = {name: settings_store.get(name) for name in requested if name in settings_store.SETTINGS}
    try:
        changed = audit.change_settings(requested, actor=actor, now=now)
    except Rejected as problem:
        errors.problems.extend(sources.locate_setting(problem))
        return []
    keys = tuple(name for name in previous if previous[name] != settings_store.get(name))
    return [PlanLine(PlanAction.UPDATE if changed else PlanAction.UNCHANGED, SETTINGS, "of the installation", keys)]


def _save_all(
    entries: Iterable[ConfigObject], actor: AuditActor, now: datetime, errors: _ErrorCollector
) -> list[PlanLine]:
    """Saves all entries of one resource."""
    lines: list[PlanLine] = []
    for entry in entries:
        try:
            lines.append(_save(entry, actor, now))
        except Rejected as problem:
            errors.add(entry, problem)
    return lines


def _save(entry: ConfigObject, actor: AuditActor, now: datetime) -> PlanLine:
    resource = entry.resource
    existing, previous_name = _find_existing(entry)
    previous_spec = _stored_spec(resource, existing) if existing is not None else None
    spec = {key: value for key, value in entry.spec.items() if key not in resource.deferred_fields}
    saved = resource.save(spec, existing=existing, actor=actor, now=now)
    if previous_spec is None:
        return PlanLine(PlanAction.CREATE, resource.label, entry.name)
    # Reload the object: it may cache its previous state.
    current_spec = _stored_spec(resource, resource.rows().get(pk=saved.pk))
    if previous_spec == current_spec:
        return PlanLine(PlanAction.UNCHANGED, resource.label, entry.name)
    keys = tuple(key for key in {**current_spec, **previous_spec} if previous_spec.get(key) != current_spec.get(key))
    return PlanLine(PlanAction.UPDATE, resource.label, entry.name, keys, previous_name)


def _stored_spec(resource: Resource[Any], row: Model) -> dict[str, Any]:
    """The object's spec, including secrets if the known keys can decrypt them."""
    try:
        return resource.yaml_spec(row, with_secrets=True)
    except Permanent:
        return resource.yaml_spec(row, with_secrets=False)


def _save_deferred_fields(
    lines: list[PlanLine], sources: ConfigFiles, actor: AuditActor, now: datetime, errors: _ErrorCollector
) -> list[PlanLine]:
    """Saves keys that refer to later objects, and adds them to the plan lines."""
    changed: dict[tuple[str, str], tuple[str, ...]] = {}
    for resource in RESOURCES:
        for entry in sources.entries.get(resource.key, []):
            keys = sorted(entry.spec.keys() & resource.deferred_fields.keys())
            row = resource.find_named(entry.name) if keys else None
            for key in keys if row is not None else ():
                requested = [] if entry.spec[key] is None else entry.spec[key]
                try:
                    if resource.deferred_fields[key].save(row, requested, actor=actor, now=now):
                        changed_keys = changed.get((resource.label, entry.name), ())
                        changed[resource.label, entry.name] = tuple(sorted((*changed_keys, key)))
                except Rejected as problem:
                    errors.add(entry, problem)
    return [
        replace(line, change=PlanAction.UPDATE, keys=(*line.keys, *added))
        if (added := changed.get((line.label, line.name))) and line.change is not PlanAction.CREATE
        else line
        for line in lines
    ]


def _find_existing(entry: ConfigObject) -> tuple[Model | None, str | None]:
    """The object that the entry refers to, and its old name if this run renames it."""
    existing = entry.resource.find_named(entry.name)
    if entry.previous_name is None or entry.previous_name.casefold() == entry.name.casefold():
        return existing, None
    old = entry.resource.find_named(entry.previous_name)
    if old is None or existing is None:
        return existing or old, None if old is None else entry.previous_name
    problem = sentence(
        "{previous_name} and {name} both exist already; delete one of them, or remove was.",
        previous_name=entry.previous_name,
        name=entry.name,
    )
    raise Rejected("name_taken", AT_PATH(path="was", problem=problem), "was")


def _prune(
    resource: Resource[Any], entries: Iterable[ConfigObject], actor: AuditActor, now: datetime, errors: _ErrorCollector
) -> list[PlanLine]:
    kept_names = {entry.name.casefold() for entry in entries}
    lines: list[PlanLine] = []
    for row in resource.list_all():
        name = resource.name(row)
        if name.casefold() in kept_names:
            continue
        try:
            resource.delete(row, actor=actor, now=now)
        except Rejected as problem:
            label = Term(resource.label)
            reason = sentence(
                "--prune: {resource} {name}: {problem}", resource=label, name=name, problem=problem.reason
            )
            errors.problems.append(Rejected(problem.code, reason))
        else:
            lines.append(PlanLine(PlanAction.DELETE, resource.label, name))
    return lines


# ---------- export
# Exports the configuration as the YAML that `apply` reads; applying it again changes nothing.


_MAX_FLOW_CHARS = 80
_NOT_EXPORTED = Text("Cannot export {resource} {name}: {problem}")

#: The order of keys in conditions, windows and reminders, which JSON in the database does not preserve.
_KEY_SEQUENCE = (
    *("name", "when", "field", "operator", "value", "match_case", "words", "not", "all", "any"),
    *("days", "from", "to", "before"),
    *("trigger", "on", "moment", "start", "stop", "actions", "do"),
)
_ORDER = {key: number for number, key in enumerate(_KEY_SEQUENCE)}

#: Words and times that YAML 1.1 readers would misinterpret, and texts that the library would write incorrectly: those
#: beginning with ? or : within a line, and unusual line breaks.
_AMBIGUOUS = re.compile(
    r"y|n|yes|no|on|off|[0-9]+(:[0-9]+)+|[?:].*|.*[\x85\u2028\u2029\ufeff].*", re.IGNORECASE | re.DOTALL
)


def export_configuration(*, with_secrets: bool) -> dict[str, Any]:
    """The complete configuration by top-level key, in the order `apply` needs; empty keys are omitted.

    Raises Rejected("unreadable") for an object that a newer version wrote.
    """
    with transaction.atomic():
        # Prevents changes meanwhile, so that referenced objects are included.
        settings_store.lock()
        configuration: dict[str, Any] = {}
        if settings := settings_store.non_default_settings(with_secrets=with_secrets):
            configuration[SETTINGS] = settings
        for resource in RESOURCES:
            rows = list(resource.list_all())
            for row in rows:
                if problem := resource.unreadable(row):
                    label, name = Term(resource.label), resource.name(row)
                    raise Rejected("unreadable", _NOT_EXPORTED(resource=label, name=name, problem=problem))
            if rows:
                configuration[resource.key] = [resource.yaml_spec(row, with_secrets=with_secrets) for row in rows]
    return configuration


def write(value: dict[str, Any]) -> str:
    """The value as YAML 1.2; "" if empty."""
    if not value:
        return ""
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    buffer = StringIO()
    yaml.dump(_normalize(value), buffer)
    return buffer.getvalue()


def _normalize(value: Any) -> Any:
    """The same value with keys in their usual order, and short lists and conditions on one line."""
    match value:
        case dict():
            # Sorting is stable: unlisted keys keep their order, after the listed ones.
            keys = sorted(value, key=lambda key: _ORDER.get(key, len(_ORDER)))
            mapping = CommentedMap({_normalize(key): _normalize(value[key]) for key in keys})
            if "operator" in value and not any(isinstance(nested, dict) for nested in value.values()):
                mapping.fa.set_flow_style()
            return mapping
        case list():
            items = CommentedSeq(_normalize(item) for item in value)
            if all(not isinstance(item, dict | list) for item in value) and len(str(value)) < _MAX_FLOW_CHARS:
                items.fa.set_flow_style()
            return items
        case str() if _AMBIGUOUS.fullmatch(value):
            return DoubleQuotedScalarString(value)
        case _:
            return value
