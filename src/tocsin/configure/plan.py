"""Applies configuration files in one transaction, or previews the changes.

A preview applies them and rolls back, so it shows exactly what `apply` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import transaction
from django.db.models import Model

from tocsin.access import settings_commands
from tocsin.access.audit import AuditActor
from tocsin.configure.config_files import ConfigFiles, ConfigObject, each, texts
from tocsin.configure.resources import NOUNS, SETTINGS, Resource
from tocsin.core.config import config_version, settings_store
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.validation.object_reader import raise_all

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
    word: str
    name: str
    keys: tuple[str, ...] = ()
    was: str | None = None

    def __str__(self) -> str:
        renamed = f" (was {self.was})" if self.was else ""
        keys = f": {', '.join(self.keys)}" if self.keys else ""
        return f"{self.change:<9} {self.word} {self.name}{renamed}{keys}"


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
    announce: Callable[[ConfigPlan], None] = lambda plan: None,
) -> ConfigPlan:
    """Applies everything or nothing.

    With `prune`, objects not in the files are deleted, for resources whose key the files contain; likewise, settings
    not in the files are reset to their defaults. `announce` is called with the plan before the commit. Raises Rejected
    or RejectedAll with file, line and object in the messages.
    """
    with transaction.atomic():
        plan = _run(sources, prune=prune, now=now, actor=actor)
        announce(plan)
        if plan.is_empty:
            # Objects saved without a change are not written.
            transaction.set_rollback(True)
    return plan


def _run(sources: ConfigFiles, *, prune: bool, now: datetime, actor: AuditActor) -> ConfigPlan:
    config_version.lock()
    wrong = _ErrorCollector(sources)
    lines = _settings(sources, prune, actor, now, wrong)
    for noun in NOUNS:
        lines += _saved(_in_order(sources.entries.get(noun.key, [])), actor, now, wrong)
    lines = _with_late_keys(lines, sources, actor, now, wrong)
    raise_all(wrong.problems)
    if prune:
        for noun in reversed(NOUNS):
            if noun.key in sources.keys:
                lines += _pruned(noun, sources.entries.get(noun.key, []), actor, now, wrong)
        raise_all(wrong.problems)
    return ConfigPlan(tuple(lines))


class _ErrorCollector:
    """Collects all problems of the files in order, so that they can be fixed at once.

    Omits consequential errors, such as a missing user whose own entry was rejected.
    """

    def __init__(self, sources: ConfigFiles) -> None:
        self.problems: list[Rejected] = list(sources.problems)
        #: Case-folded names of entries that could not be saved.
        self._missing = set(sources.unread)

    def add(self, entry: ConfigObject, problem: Rejected) -> None:
        """Records the problem of an entry that is not saved."""
        named = self._missing & set(texts(entry.spec)) - {entry.name.casefold()}
        for one in each(problem):
            if not any(f'"{name}"' in one.detail.casefold() for name in named):
                self.problems.extend(entry.located(one))
        self._missing.add(entry.name.casefold())


def _in_order(entries: Sequence[ConfigObject]) -> list[ConfigObject]:
    """The entries, each after those of its own kind that it refers to; cycles keep their order."""
    found: list[ConfigObject] = []
    by_name = {entry.name.casefold(): entry for entry in entries}

    def add(entry: ConfigObject, on_the_way: frozenset[str]) -> None:
        for name in entry.noun.refers(entry.spec):
            other = by_name.get(name.casefold())
            if other is not None and other not in found and name.casefold() not in on_the_way:
                add(other, on_the_way | {entry.name.casefold()})
        if entry not in found:
            found.append(entry)

    for entry in entries:
        add(entry, frozenset({entry.name.casefold()}))
    return found


def _settings(
    sources: ConfigFiles, prune: bool, actor: AuditActor, now: datetime, wrong: _ErrorCollector
) -> list[PlanLine]:
    if SETTINGS not in sources.keys:
        return []
    wanted = dict(sources.settings)
    if prune:
        wanted |= {
            name: settings_store.SETTINGS[name].default
            for name in settings_store.non_default_settings()
            if name not in wanted
        }
    before = {name: settings_store.get(name) for name in wanted if name in settings_store.SETTINGS}
    try:
        changed = settings_commands.change_settings(wanted, actor=actor, now=now)
    except Rejected as problem:
        wrong.problems.extend(sources.locate_setting(problem))
        return []
    keys = tuple(name for name in before if before[name] != settings_store.get(name))
    return [PlanLine(PlanAction.UPDATE if changed else PlanAction.UNCHANGED, SETTINGS, "of the installation", keys)]


def _saved(entries: Iterable[ConfigObject], actor: AuditActor, now: datetime, wrong: _ErrorCollector) -> list[PlanLine]:
    """Saves all entries of one resource."""
    lines: list[PlanLine] = []
    for entry in entries:
        try:
            lines.append(_save(entry, actor, now))
        except Rejected as problem:
            wrong.add(entry, problem)
    return lines


def _save(entry: ConfigObject, actor: AuditActor, now: datetime) -> PlanLine:
    noun = entry.noun
    existing, was = _existing(entry)
    before = _stored(noun, existing) if existing is not None else None
    spec = {key: value for key, value in entry.spec.items() if key not in noun.late}
    saved = noun.save(spec, existing=existing, actor=actor, now=now)
    if before is None:
        return PlanLine(PlanAction.CREATE, noun.word, entry.name)
    # Reload the object: it may cache its previous state.
    after = _stored(noun, noun.rows().get(pk=saved.pk))
    if before == after:
        return PlanLine(PlanAction.UNCHANGED, noun.word, entry.name)
    keys = tuple(key for key in {**after, **before} if before.get(key) != after.get(key))
    return PlanLine(PlanAction.UPDATE, noun.word, entry.name, keys, was)


def _stored(noun: Resource, row: Model) -> dict[str, Any]:
    """The object's spec, including secrets if the known keys can decrypt them."""
    try:
        return noun.spec(row, True)
    except Permanent:
        return noun.spec(row, False)


def _with_late_keys(
    lines: list[PlanLine], sources: ConfigFiles, actor: AuditActor, now: datetime, wrong: _ErrorCollector
) -> list[PlanLine]:
    """Saves keys that refer to later objects, and adds them to the plan lines."""
    changed: dict[tuple[str, str], tuple[str, ...]] = {}
    for noun in NOUNS:
        for entry in sources.entries.get(noun.key, []):
            keys = sorted(entry.spec.keys() & noun.late.keys())
            row = noun.find(entry.name) if keys else None
            for key in keys if row is not None else ():
                wanted = [] if entry.spec[key] is None else entry.spec[key]
                try:
                    if noun.late[key](row, wanted, actor=actor, now=now):
                        known = changed.get((noun.word, entry.name), ())
                        changed[noun.word, entry.name] = tuple(sorted((*known, key)))
                except Rejected as problem:
                    wrong.add(entry, problem)
    return [_with_keys(line, changed.get((line.word, line.name), ())) for line in lines]


def _with_keys(line: PlanLine, keys: tuple[str, ...]) -> PlanLine:
    if not keys or line.change is PlanAction.CREATE:
        return line
    return replace(line, change=PlanAction.UPDATE, keys=(*line.keys, *keys))


def _existing(entry: ConfigObject) -> tuple[Model | None, str | None]:
    """The object that the entry refers to, and its old name if this run renames it."""
    found = entry.noun.find(entry.name)
    if entry.was is None or entry.was.casefold() == entry.name.casefold():
        return found, None
    old = entry.noun.find(entry.was)
    if old is None or found is None:
        return found or old, None if old is None else entry.was
    raise Rejected(
        "name_taken",
        f"was: there are both {entry.was} and {entry.name} already; delete one of them, or take was away.",
        "was",
    )


def _pruned(
    noun: Resource, entries: Iterable[ConfigObject], actor: AuditActor, now: datetime, wrong: _ErrorCollector
) -> list[PlanLine]:
    kept = {entry.name.casefold() for entry in entries}
    lines: list[PlanLine] = []
    for row in noun.every():
        name = noun.name(row)
        if name.casefold() in kept:
            continue
        try:
            noun.delete(row, actor=actor, now=now)
        except Rejected as problem:
            wrong.problems.append(Rejected(problem.code, f"--prune: {noun.word} {name}: {problem.detail}"))
        else:
            lines.append(PlanLine(PlanAction.DELETE, noun.word, name))
    return lines
