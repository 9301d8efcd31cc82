"""Parses YAML by the YAML 1.2 core schema into plain values, with the line of everything for error messages.

`on`, `no`, `off` and dates are text. Keys are text. Knows nothing about the meaning of values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, as_reason, sentence
from tocsin.core.validation.inputs import NESTED_TOO_DEEPLY

AT_LINE = Text("{file}:{line}: {problem}")

_UNREADABLE = Text("cannot be read: {error}.")
_TOO_LARGE = Text("is larger than {maximum} MiB.")
_NOT_UTF8 = Text("is not UTF-8.")
_YAML_ERROR = Text("is not YAML: {error}")
_TOO_MANY_VALUES = Text("there are more than {maximum} values, aliases counted each time.")
_DUPLICATE_KEY = Text('the key "{key}" is there twice.')

#: Limits against oversized files, and against aliases that repeat the same content over and over.
MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_VALUES = 500_000

type PathStep = str | int
type NodePath = tuple[PathStep, ...]

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "timestamp", "str", "merge", "value"))

# The core schema: https://yaml.org/spec/1.2.2/#103-core-schema
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAX_NUMBER_CHARS = 40


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """The value of one file, with the 1-based line of each key and element."""

    name: str
    folder: Path
    value: Any
    lines: dict[NodePath, int] = field(repr=False)

    def line(self, base: NodePath, field_path: str | None = None) -> int:
        """The line of `field_path` below `base`, such as `contact_methods[0].channel`, or of its nearest existing
        parent."""
        path = base
        remaining = field_path or ""
        while remaining and (step := self._next(path, remaining)) is not None:
            path, remaining = (*path, step[0]), step[1]
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def _next(self, path: NodePath, remaining: str) -> tuple[PathStep, str] | None:
        """The first step of `remaining`, and the remainder. Keys may contain dots; the longest existing key wins."""
        if index := re.match(r"\[(\d+)\]\.?", remaining):
            element = int(index[1])
            return (element, remaining[index.end() :]) if (*path, element) in self.lines else None
        ends = [match.start() for match in re.finditer(r"[.\[]|$", remaining)]
        for end in reversed(ends):
            if (*path, remaining[:end]) in self.lines:
                return remaining[:end], remaining[end:].removeprefix(".")
        return None


def read(path: Path) -> YamlDocument:
    """Parses a file. Raises Rejected("invalid_yaml") with file and line."""
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise _rejection(str(path), _UNREADABLE(error=error.strerror or str(error))) from None
    if size > MAX_FILE_BYTES:
        raise _rejection(str(path), _TOO_LARGE(maximum=MAX_FILE_BYTES // 1024 // 1024))
    return parse(content, str(path), path.parent)


def parse(content: bytes | str, name: str, folder: Path) -> YamlDocument:
    """Parses `content`; `name` is used in messages, and `folder` resolves relative paths.

    Raises Rejected("invalid_yaml") with the line: not YAML, not UTF-8, several documents, a duplicate key, an unknown
    tag.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise rejection_at(name, line, _NOT_UTF8()) from None
    reader = _Reader(name)
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        value = reader.value(node, ()) if node is not None else None
    except MarkedYAMLError as error:
        raise _refused(name, error) from None
    except YAMLStreamError as error:
        raise _rejection(name, as_reason(" ".join(str(error).split()))) from None
    except YAMLError as error:
        raise _rejection(name, _YAML_ERROR(error=" ".join(str(error).split())[:200])) from None
    except KeyError:  # what ruamel.yaml raises for a version that it does not know
        raise _rejection(name, sentence("the version of its %YAML line is not known.")) from None
    except RecursionError:
        raise _rejection(name, NESTED_TOO_DEEPLY()) from None
    return YamlDocument(name, folder, value, reader.lines)


class _Reader:
    """Converts nodes to values."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self.lines: dict[NodePath, int] = {}

    def value(self, node: Node, path: NodePath) -> Any:
        """The value of a node; records its line, unless its key's line is recorded."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._refuse(node, _TOO_MANY_VALUES(maximum=MAX_VALUES))
        self.lines.setdefault(path, node.start_mark.line + 1)
        match node:
            case MappingNode():
                return {key: self.value(child, (*path, key)) for key, child in self._entries(node, path)}
            case SequenceNode():
                return [self.value(child, (*path, position)) for position, child in enumerate(node.value)]
            case _:
                assert isinstance(node, ScalarNode)
                return self._scalar(node)

    def _entries(self, node: MappingNode, path: NodePath) -> Iterator[tuple[str, Node]]:
        seen_keys: set[str] = set()
        for key_node, child in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._refuse(key_node, sentence("a key must be text."))
            key = key_node.value
            if key in seen_keys:
                raise self._refuse(key_node, _DUPLICATE_KEY(key=key))
            seen_keys.add(key)
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            yield key, child

    def _scalar(self, node: ScalarNode) -> Any:
        text, tag = node.value, str(node.tag)
        if tag not in _TAGS:
            raise self._refuse(node, sentence('the tag "{tag}" is not known.', tag=tag))
        is_plain = node.style is None or node.style == ""
        if not is_plain or (tag == f"{_TAG}str" and self._is_special(text)):
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if len(text) <= _MAX_NUMBER_CHARS:
            if _INT.fullmatch(text):
                return int(text)
            if _OTHER_BASE.fullmatch(text):
                return int(text, 0)
            if _FLOAT.fullmatch(text):
                return float(text)
        return text

    @staticmethod
    def _is_special(text: str) -> bool:
        """Whether a plain text has another meaning; tagged `!!str`, it is text nevertheless."""
        return text in _NULL or text in _BOOL or bool(_FLOAT.fullmatch(text) or _OTHER_BASE.fullmatch(text))

    def _refuse(self, node: Node, problem: Reason) -> Rejected:
        return rejection_at(self._name, node.start_mark.line + 1, problem)


def _refused(name: str, error: MarkedYAMLError) -> Rejected:
    position = error.problem_mark or error.context_mark
    line = position.line + 1 if position is not None else 1
    message = " ".join(part for part in (error.context, error.problem) if part)
    return rejection_at(name, line, _YAML_ERROR(error=f"{message or 'it cannot be read'}."))


def rejection_at(name: str, line: int, problem: Reason) -> Rejected:
    """Returns the rejection of a line of the file `name`."""
    return Rejected("invalid_yaml", AT_LINE(file=name, line=str(line), problem=problem))


def _rejection(name: str, problem: Reason) -> Rejected:
    return Rejected("invalid_yaml", sentence("{file}: {problem}", file=name, problem=problem))
