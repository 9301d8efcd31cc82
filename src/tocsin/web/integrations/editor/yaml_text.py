"""Reads and writes parts of a definition as YAML 1.2, with the position of errors."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, as_reason

_TOO_LONG = ReasonType("config.text_too_long", "The text has more than {limit} characters.")
_ALIASES = ReasonType("config.aliases_expand", "The aliases expand to too much: write the text without aliases.")
_TOO_DEEP = ReasonType("config.nested_too_deeply", "The text is nested too deeply.")
_UNREADABLE_VALUE = ReasonType("config.unreadable_value", "A number, date or binary value in the text cannot be read.")

#: Limits on length, and on nodes after expanding aliases.
MAX_YAML_CHARS = 200_000
MAX_NODES = 50_000


class _PlainConstructor(SafeConstructor):
    """Constructor without merge keys. YAML 1.2 has none, and a few lines of them can expand beyond available memory."""

    def flatten_mapping(self, node: MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(
                    problem="merge keys (<<) are not taken: write it out", problem_mark=key.start_mark
                )
        super().flatten_mapping(node)


def write(value: object) -> str:
    """Return the YAML of a part; "" for an empty part."""
    if value in (None, {}, [], ""):
        return ""
    stream = StringIO()
    yaml = _yaml()
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("...\n")


def read(text: str, field: str) -> Any:
    """Parse the YAML of a part; None for an empty text. Raises Rejected with line and column."""
    if len(text) > MAX_YAML_CHARS:
        raise Rejected("invalid", _TOO_LONG(limit=MAX_YAML_CHARS), field)
    try:
        value = _yaml().load(text)
        _count(value, [0])
    except YAMLError as error:
        raise Rejected("invalid", as_reason(_describe_error(error)), field) from None
    except RecursionError:
        raise Rejected("invalid", _TOO_DEEP(), field) from None
    except ValueError:
        raise Rejected("invalid", _UNREADABLE_VALUE(), field) from None
    return value


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _PlainConstructor
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    return yaml


def _describe_error(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "this is not YAML"
    return f"Line {mark.line + 1}, column {mark.column + 1}: {problem}." if mark else f"{problem}."


def _count(value: object, counter: list[int]) -> None:
    counter[0] += 1
    if counter[0] > MAX_NODES:
        raise Rejected("invalid", _ALIASES(), None)
    if isinstance(value, Mapping):
        for part in value.values():
            _count(part, counter)
    elif isinstance(value, list):
        for part in value:
            _count(part, counter)
