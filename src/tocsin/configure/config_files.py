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

from tocsin.configure.yaml_loader import AT_LINE, NodePath, YamlDocument, rejection_at
from tocsin.core.config.settings_store import SECRETS
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason, Term, Text, sentence
from tocsin.core.validation.inputs import AT_PATH, REQUIRED, raise_all
from tocsin.resources.registry import RESOURCES
from tocsin.resources.resource import EVERY_KEY, Resource

_NOT_A_LIST = Text("{key} is a list: each entry begins with a dash.")
_NOT_AN_OBJECT = Text("each of {key} is an object with named values.")
_NOT_TEXT = Text("must be text; put it in quotes.")

SETTINGS = "settings"

#: The top-level keys in the order of a file.
TOP_KEYS = (SETTINGS, *(resource.key for resource in RESOURCES))

_MAX_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ConfigObject:
    """One object as described in a file."""

    resource: Resource[Any]
    name: str
    #: Its previous name, if the file has `was`.
    previous_name: str | None
    spec: dict[str, Any]
    document: YamlDocument
    path: NodePath

    def locate(self, problem: Rejected) -> list[Rejected]:
        """The problem, or each of several, with file, line and object in its message."""
        located = []
        for single in split_problems(problem):
            label, at_field = Term(self.resource.label), _at_field(single)
            reason = sentence("{resource} {name}: {problem}", resource=label, name=self.name, problem=at_field)
            located.append(_with_location(self.document, self.path, single, reason))
        return located


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
            reason = sentence("settings: {problem}", problem=_at_field(single_problem))
            located.append(
                _with_location(document, (SETTINGS,), single_problem, reason) if document else single_problem
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
            unknown = sentence("a configuration begins with keys such as users: or integrations:.")
            sources.skip(document.value, _rejection_at(document, (), unknown))
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
        unknown = (
            sentence('unknown key "{key}"; did you mean "{match}"?', key=key, match=matches[0])
            if matches
            else sentence('unknown key "{key}"; known: {keys}.', key=key, keys=", ".join(TOP_KEYS))
        )
        raise _rejection_at(document, (key,), unknown)


def _collect_settings(document: YamlDocument, value: Any, sources: ConfigFiles) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise _rejection_at(document, (SETTINGS,), sentence("settings are named values."))
    sources.keys.add(SETTINGS)
    for name, setting in value.items():
        if name in sources.settings:
            raise _rejection_at(document, (SETTINGS, name), sentence('the setting "{name}" is there twice.', name=name))
        problems: list[Rejected] = []
        is_secret = name in SECRETS
        sources.settings[name] = (
            _resolve_secrets(document, (SETTINGS, name), setting, problems) if is_secret else setting
        )
        raise_all(problems)
        sources._settings_from.append((document, name))


def _list(document: YamlDocument, key: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _rejection_at(document, (key,), _NOT_A_LIST(key=key))
    return value


def _collect_entry(
    document: YamlDocument, resource: Resource[Any], path: NodePath, item: Any, sources: ConfigFiles
) -> None:
    if not isinstance(item, Mapping):
        raise _rejection_at(document, path, _NOT_AN_OBJECT(key=resource.key))
    spec = {key: value for key, value in item.items() if key != "was"}
    name = spec.get(resource.name_column)
    if not isinstance(name, str) or not name.strip():
        reason = AT_PATH(path=resource.name_column, problem=REQUIRED() if name is None else _NOT_TEXT())
        raise _rejection_at(document, (*path, resource.name_column), reason)
    previous_name = item.get("was")
    if previous_name is not None and not isinstance(previous_name, str):
        raise _rejection_at(
            document, (*path, "was"), AT_PATH(path="was", problem=sentence("must be the name that it had before."))
        )
    problems: list[Rejected] = []
    for key in spec.keys() if EVERY_KEY in resource.secret_keys else spec.keys() & resource.secret_keys:
        spec[key] = _resolve_secrets(document, (*path, key), spec[key], problems)
    raise_all(problems)
    entry = ConfigObject(resource, name.strip(), previous_name.strip() if previous_name else None, spec, document, path)
    entries = sources.entries.setdefault(resource.key, [])
    for other in entries:
        if other.name.casefold() == entry.name.casefold():
            duplicate = sentence(
                "there are two of {resource} {name}; the other is at {file}:{line}.",
                resource=Term(resource.label),
                name=entry.name,
                file=other.document.name,
                line=str(other.document.line(other.path)),
            )
            raise _rejection_at(document, path, duplicate)
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
        raise _rejection_at(document, path, sentence("the environment variable {name} is not set.", name=str(name)))
    return secret


def _from_file(document: YamlDocument, path: NodePath, name: Any) -> str:
    """The text of a file, without trailing line breaks; relative paths are resolved against the document's folder."""
    if not isinstance(name, str) or "\0" in name:
        raise _rejection_at(document, path, sentence("file: must be a path."))
    file = document.folder / Path(name).expanduser()
    try:
        text = file.read_text(encoding="utf-8") if file.stat().st_size <= _MAX_SECRET_BYTES else ""
    except OSError as error:
        unreadable = sentence(
            "the file {file} cannot be read: {error}.", file=str(file), error=error.strerror or str(error)
        )
        raise _rejection_at(document, path, unreadable) from None
    except UnicodeDecodeError:
        raise _rejection_at(document, path, sentence("the file {file} is not UTF-8.", file=str(file))) from None
    secret = text.rstrip("\r\n")
    if not secret:
        unusable = sentence(
            "the file {file} is empty, or larger than {maximum} KiB.", file=str(file), maximum=_MAX_SECRET_BYTES // 1024
        )
        raise _rejection_at(document, path, unusable)
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


def _rejection_at(document: YamlDocument, path: NodePath, problem: Reason) -> Rejected:
    return rejection_at(document.name, document.line(path), problem)


def _with_location(document: YamlDocument, path: NodePath, problem: Rejected, reason: Reason) -> Rejected:
    line = str(document.line(path, problem.field))
    return Rejected(problem.code, AT_LINE(file=document.name, line=line, problem=reason), problem.field)


def _at_field(problem: Rejected) -> Reason:
    """The problem's reason, beginning with its field."""
    reason = problem.reason
    if not problem.field or reason.code == AT_PATH.code:
        return reason
    return AT_PATH(path=problem.field, problem=reason)
