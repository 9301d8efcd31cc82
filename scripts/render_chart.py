"""Renders packaging/helm/tocsin without Helm: `render_chart.py [VALUES.yaml]` prints what `helm template tocsin` would.

Knows the part of Go's templates that the chart uses, and refuses the rest: `if`, `else`, `with`, `define`, `include`,
paths, strings, pipelines, and the functions in `_call`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

CHART = Path(__file__).resolve().parent.parent / "packaging" / "helm" / "tocsin"

_TOKEN = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_WORD = re.compile(r'"[^"]*"|\S+')


class UnknownSyntax(Exception):
    """The chart uses what this renderer does not know; the text is the action."""


@dataclass(slots=True)
class _Block:
    """`if` or `with` (`expression` is its condition), `define` (its name), or the whole file."""

    keyword: str
    expression: str = ""
    body: list[_Block | str | tuple[str]] = field(default_factory=list)
    otherwise: list[_Block | str | tuple[str]] | None = None


def render(values: Mapping[str, Any], release: str = "tocsin", chart: Path = CHART) -> dict[str, str]:
    """The rendered templates by file name, without empty ones. `values` is merged into values.yaml."""
    root = {
        "Values": _merged(load(chart / "values.yaml"), values),
        "Chart": {"AppVersion": str(load(chart / "Chart.yaml")["appVersion"])},
        "Release": {"Name": release, "Namespace": "default", "Service": "Helm"},
    }
    files = {path.name: _parse(path.read_text()) for path in sorted((chart / "templates").iterdir())}
    names = {part.expression: part for block in files.values() for part in block.body if isinstance(part, _Block)}
    template = _Template(root, {name: part for name, part in names.items() if part.keyword == "define"})
    texts = {name: template.text(block.body, root) for name, block in files.items() if not name.startswith("_")}
    return {name: text for name, text in texts.items() if text.strip()}


def load(path: Path) -> Any:
    """A YAML file, read as Kubernetes reads it: 0440 is an octal number."""
    return reader().load(path)


def reader() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return yaml


def _merged(defaults: Any, values: Mapping[str, Any]) -> Any:
    merged = dict(defaults)
    for key, value in values.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _parse(text: str) -> _Block:
    open_blocks = [_Block("file")]
    for part in _split(text):
        block = open_blocks[-1]
        target = block.body if block.otherwise is None else block.otherwise
        if isinstance(part, str):
            target.append(part)
            continue
        keyword, _, expression = part[0].partition(" ")
        match keyword:
            case "if" | "with" | "define":
                inner = _Block(keyword, expression.strip().strip('"') if keyword == "define" else expression)
                target.append(inner)
                open_blocks.append(inner)
            case "else" if not expression and block.keyword in ("if", "with"):
                block.otherwise = []
            case "end" if len(open_blocks) > 1:
                open_blocks.pop()
            case _:
                target.append(part)
    if len(open_blocks) > 1:
        raise UnknownSyntax(f"{open_blocks[-1].keyword} {open_blocks[-1].expression} has no end")
    return open_blocks[0]


def _split(text: str) -> Iterator[str | tuple[str]]:
    """Texts, and actions as a tuple of one. A hyphen inside the braces removes the white space beside it."""
    position, is_trimmed = 0, False
    for match in _TOKEN.finditer(text):
        before = text[position : match.start()]
        before = before.lstrip() if is_trimmed else before
        yield before.rstrip() if match[1] else before
        yield (match[2],)
        position, is_trimmed = match.end(), bool(match[3])
    yield text[position:].lstrip() if is_trimmed else text[position:]


@dataclass(frozen=True, slots=True)
class _Template:
    root: Mapping[str, Any]
    definitions: Mapping[str, _Block]

    def text(self, parts: list[_Block | str | tuple[str]], dot: Any) -> str:
        return "".join(self._part(part, dot) for part in parts)

    def _part(self, part: _Block | str | tuple[str], dot: Any) -> str:
        match part:
            case str():
                return part
            case (expression,):
                value = self.evaluate(expression, dot)
                return str(value).lower() if isinstance(value, bool) else str(value)
            case _Block("define"):
                return ""
        value = self.evaluate(part.expression, dot)
        if value:
            return self.text(part.body, value if part.keyword == "with" else dot)
        return self.text(part.otherwise or [], dot)

    def evaluate(self, expression: str, dot: Any) -> Any:
        result: tuple[Any, ...] = ()
        for command in expression.split("|"):
            words = _WORD.findall(command)
            if len(words) == 1 and words[0][0] in '.$"':
                result = (self._operand(words[0], dot),)
            else:
                result = (self._call(words[0], *(self._operand(word, dot) for word in words[1:]), *result),)
        return result[0]

    def _operand(self, word: str, dot: Any) -> Any:
        if word.startswith('"'):
            return word[1:-1]
        if word.isdecimal():
            return int(word)
        start, _, path = word.partition(".")
        if start not in ("", "$") or not word:
            raise UnknownSyntax(word)
        value = self.root if start == "$" else dot
        for name in filter(None, path.split(".")):
            value = value.get(name)
        return value

    def _call(self, function: str, *arguments: Any) -> Any:
        match function, arguments:
            case "include", (str(name), dot):
                return self.text(self.definitions[name].body, dot)
            case "toYaml", (value,):
                return json.dumps(value)  # which is YAML
            case "nindent", (int(width), str(text)):
                return "\n" + "\n".join(" " * width + line if line else line for line in text.split("\n"))
            case "default", (fallback, value):
                return value or fallback
            case "not", (value,):
                return not value
            case "sha256sum", (str(text),):
                return hashlib.sha256(text.encode()).hexdigest()
        raise UnknownSyntax(f"{function} with {len(arguments)} arguments")


if __name__ == "__main__":
    print("".join(f"---\n# Source: {name}\n{text.strip()}\n" for name, text in render(
        load(Path(sys.argv[1])) if len(sys.argv) > 1 else {}
    ).items() if name.endswith(".yaml")), end="")  # fmt: skip
