"""Merges the files of one `apply` into settings and objects by resource, each with its location. Changes nothing.

Resolves `{env: NAME}` and `{file: PATH}` for secrets, and handles renames (`was`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tocsin.configure.resources import EVERY_KEY, RESOURCES, SETTINGS, TOP_KEYS, Resource
from tocsin.configure.yaml_loader import NodePath, YamlDocument
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.validation.object_reader import raise_all

_MAX_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ConfigObject:
    """One object as described in a file."""

    resource: Resource
    name: str
    #: Its previous name, if the file has `was`.
    previous_name: str | None
    spec: dict[str, Any]
    document: YamlDocument
    path: NodePath

    def locate(self, problem: Rejected) -> list[Rejected]:
        """The problem, or each of several, with file, line and object in its message."""
        return [
            _with_location(self.document, self.path, single_problem, f"{self.resource.label} {self.name}")
            for single_problem in split_problems(problem)
        ]


@dataclass(slots=True)
class ConfigFiles:
    """The merged content of all files."""

    settings: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, list[ConfigObject]] = field(default_factory=dict)
    #: The top-level keys present, which limit what --prune may delete.
    keys: set[str] = field(default_factory=set)
    #: Problems of the files themselves, reported together with those of their content.
    problems: list[Rejected] = field(default_factory=list)
    #: Case-folded names that unreadable objects may have.
    unreadable_names: set[str] = field(default_factory=set)
    _settings_from: list[tuple[YamlDocument, str]] = field(default_factory=list)

    def skip(self, value: object, problem: Rejected) -> None:
        """Records the problem of a part that is skipped; references to it are then not reported."""
        self.problems.extend(split_problems(problem))
        self.unreadable_names.update(iter_texts(value))

    def locate_setting(self, problem: Rejected) -> list[Rejected]:
        """A problem with a setting, with file and line in its message."""
        located = []
        for single_problem in split_problems(problem):
            name = single_problem.field or ""
            document = next((doc for doc, key in self._settings_from if key == name), None)
            located.append(
                _with_location(document, (SETTINGS,), single_problem, "settings") if document else single_problem
            )
        return located


def collect(documents: Sequence[YamlDocument]) -> ConfigFiles:
    """Merges the documents. Unreadable parts are recorded in `problems` with file and line.

    Such as an unknown top-level key, a duplicate object, or a missing secret.
    """
    sources = ConfigFiles()
    for document in documents:
        if document.value is None:
            continue
        if not isinstance(document.value, Mapping):
            problem = _rejection_at(document, (), "a configuration begins with keys such as users: or integrations:.")
            sources.skip(document.value, problem)
            continue
        for key, value in document.value.items():
            try:
                _collect_key(document, key, value, sources)
            except Rejected as problem:
                sources.skip(value, problem)
    return sources


def _collect_key(document: YamlDocument, key: str, value: Any, sources: ConfigFiles) -> None:
    if key == SETTINGS:
        _collect_settings(document, value, sources)
    elif (resource := next((resource for resource in RESOURCES if resource.key == key), None)) is not None:
        sources.keys.add(key)
        for index, item in enumerate(_list(document, key, value)):
            try:
                _collect_entry(document, resource, (key, index), item, sources)
            except Rejected as problem:
                sources.skip(item, problem)
    else:
        matches = get_close_matches(key, TOP_KEYS, n=1)
        hint = f'did you mean "{matches[0]}"?' if matches else f"known: {', '.join(TOP_KEYS)}."
        raise _rejection_at(document, (key,), f'unknown key "{key}"; {hint}')


def _collect_settings(document: YamlDocument, value: Any, sources: ConfigFiles) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise _rejection_at(document, (SETTINGS,), "settings are named values.")
    sources.keys.add(SETTINGS)
    for name, setting in value.items():
        if name in sources.settings:
            raise _rejection_at(document, (SETTINGS, name), f'the setting "{name}" is there twice.')
        sources.settings[name] = setting
        sources._settings_from.append((document, name))


def _list(document: YamlDocument, key: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _rejection_at(document, (key,), f"{key} is a list: each entry begins with a dash.")
    return value


def _collect_entry(document: YamlDocument, resource: Resource, path: NodePath, item: Any, sources: ConfigFiles) -> None:
    if not isinstance(item, Mapping):
        raise _rejection_at(document, path, f"each of {resource.key} is an object with named values.")
    spec = {key: value for key, value in item.items() if key != "was"}
    name = spec.get(resource.name_key)
    if not isinstance(name, str) or not name.strip():
        problem = "is needed." if name is None else "must be text; put it in quotes."
        raise _rejection_at(document, (*path, resource.name_key), f"{resource.name_key}: {problem}")
    previous_name = item.get("was")
    if previous_name is not None and not isinstance(previous_name, str):
        raise _rejection_at(document, (*path, "was"), "was: must be the name that it had before.")
    problems: list[Rejected] = []
    for key in spec.keys() if EVERY_KEY in resource.secret_keys else spec.keys() & resource.secret_keys:
        spec[key] = _resolve_secrets(document, (*path, key), spec[key], problems)
    raise_all(problems)
    entry = ConfigObject(resource, name.strip(), previous_name.strip() if previous_name else None, spec, document, path)
    entries = sources.entries.setdefault(resource.key, [])
    for other in entries:
        if other.name.casefold() == entry.name.casefold():
            location = f"{other.document.name}:{other.document.line(other.path)}"
            raise _rejection_at(
                document, path, f"there are two of {resource.label} {entry.name}; the other is at {location}."
            )
    entries.append(entry)


def _resolve_secrets(document: YamlDocument, path: NodePath, value: Any, problems: list[Rejected]) -> Any:
    """The value with its secrets resolved; missing ones are recorded in `problems`."""
    try:
        if isinstance(value, Mapping):
            if set(value) == {"env"}:
                return _from_environment(document, path, value["env"])
            if set(value) == {"file"}:
                return _from_file(document, path, value["file"])
            return {key: _resolve_secrets(document, (*path, key), item, problems) for key, item in value.items()}
        if isinstance(value, list):
            return [_resolve_secrets(document, (*path, index), item, problems) for index, item in enumerate(value)]
    except Rejected as problem:
        problems.append(problem)
    return value


def _from_environment(document: YamlDocument, path: NodePath, name: Any) -> str:
    secret = os.environ.get(name) if isinstance(name, str) else None
    if not secret:
        raise _rejection_at(document, path, f"the environment variable {name} is not set.")
    return secret


def _from_file(document: YamlDocument, path: NodePath, name: Any) -> str:
    """The text of a file, without trailing line breaks; relative paths are resolved against the document's folder."""
    if not isinstance(name, str) or "\0" in name:
        raise _rejection_at(document, path, "file: must be a path.")
    file = document.folder / Path(name).expanduser()
    try:
        text = file.read_text(encoding="utf-8") if file.stat().st_size <= _MAX_SECRET_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise _rejection_at(document, path, f"the file {file} cannot be read: {reason}.") from None
    secret = text.rstrip("\r\n")
    if not secret:
        raise _rejection_at(
            document, path, f"the file {file} is empty, or larger than {_MAX_SECRET_BYTES // 1024} KiB."
        )
    return secret


def iter_texts(value: object) -> Iterator[str]:
    """Every text in a value, case-folded: the names it may refer to."""
    match value:
        case str():
            yield value.strip().casefold()
        case Mapping():
            for key, item in value.items():
                yield from iter_texts(key)
                yield from iter_texts(item)
        case list():
            for item in value:
                yield from iter_texts(item)


def split_problems(problem: Rejected) -> Sequence[Rejected]:
    """The individual problems of a rejection."""
    return problem.problems if isinstance(problem, RejectedAll) else [problem]


def _rejection_at(document: YamlDocument, path: NodePath, sentence: str) -> Rejected:
    return Rejected("invalid_yaml", f"{document.name}:{document.line(path)}: {sentence}")


def _with_location(document: YamlDocument, path: NodePath, problem: Rejected, object_label: str) -> Rejected:
    line = document.line(path, problem.field)
    field_name = problem.field
    detail = (
        problem.detail if not field_name or problem.detail.startswith(field_name) else f"{field_name}: {problem.detail}"
    )
    return Rejected(problem.code, f"{document.name}:{line}: {object_label}: {detail}", field_name)
