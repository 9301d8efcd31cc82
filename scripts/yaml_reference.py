"""Writes docs/reference/yaml.md, every key of the YAML with type, limits, default and meaning. Run by `make reference`.

The keys are read from the typed specs. A test says when the file is out of date.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import django

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "reference" / "yaml.md"

INTRODUCTION = """\
# YAML reference

Every key of the [configuration as YAML](../how-to/configuration.md), by object. The bodies of the [REST API](api.md)
have the same form. Null counts as absent. An unknown key is an error.

This page is written by `make reference`.
"""


def main() -> None:
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The whole page: a section for each top key, then one for each kind of nested object."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    django.setup()
    sections, nested = [INTRODUCTION], {}
    for key, (spec, kinds, deferred_fields) in _specs().items():
        schema = spec.json_schema()
        nested |= schema.pop("$defs", {})
        for kind in (*kinds, *(field.entry_type for field in deferred_fields.values())):
            kind_schema = kind.json_schema()
            nested |= kind_schema.pop("$defs", {}) | {kind.__name__: kind_schema}
        for name, field in deferred_fields.items():
            items = {"$ref": f"#/$defs/{field.entry_type.__name__}"}
            schema["properties"][name] = {"type": "array", "items": items, "description": field.description}
        sections.append(_section(f"## {key}", _without_aliases(schema, nested)))
    objects = {name: _without_aliases(schema, nested) for name, schema in nested.items() if "properties" in schema}
    sections.append("\n## Nested objects\n")
    sections += [_section(f"### {_title(name)}", objects[name]) for name in sorted(objects, key=_title)]
    return "".join(sections)


def _specs() -> dict[str, tuple[Any, Any, Any]]:
    """By top key: the spec, those of its kinds, and the keys that are saved on their own."""
    from tocsin.core.config.settings_store import settings_spec
    from tocsin.resources.registry import RESOURCES

    return {
        "settings": (settings_spec(), (), {}),
        **{resource.key: (resource.spec_type, resource.kind_specs, resource.deferred_fields) for resource in RESOURCES},
    }


def _without_aliases(value: Any, definitions: Mapping[str, Any]) -> Any:
    """Returns a schema with the definitions in it that are no objects, such as a choice between objects."""
    if isinstance(value, list):
        return [_without_aliases(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value and "properties" not in (definition := definitions[value["$ref"].rpartition("/")[2]]):
        return _without_aliases({**definition, **{k: v for k, v in value.items() if k != "$ref"}}, definitions)
    return {key: _without_aliases(item, definitions) for key, item in value.items()}


def _section(heading: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        f"| `{name}` | {_type(field)} | {'required' if name in required else _default(field)} | {_description(field)} |"
        for name, field in sorted(schema["properties"].items(), key=lambda item: item[0] not in required)
    ]
    return "\n".join(
        ["", heading, "", _summary(schema), "", "| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _summary(schema: Mapping[str, Any]) -> str:
    """The first paragraph of the docstring, without sentences about the context of `Spec.read`."""
    text = " ".join(str(schema.get("description", "")).split("\n\n")[0].split())
    return re.sub(r" (Its context|With `labels` as context)[^.]*\.", "", text)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = _title(schema["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.lower().replace(' ', '-')})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"] if choice)
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema['items'])}" + _limit(schema, "maxItems", "entries", unless=1000)
        case "string" if "pattern" in schema:
            return _text_type(schema)
        case "string":
            return "text" + _limit(schema, "maxLength", "characters")
        case "integer":
            return f"integer, {schema['minimum']:,} to {schema['maximum']:,}" if "minimum" in schema else "integer"
        case "object":
            return "object with a value for each name"
        case list() as kinds:
            return " or ".join(_type({**schema, "type": kind}) for kind in kinds)
        case None:
            return "any"
        case kind:
            return str(kind)


def _limit(schema: Mapping[str, Any], key: str, unit: str, unless: int | None = None) -> str:
    maximum = schema.get(key)
    return "" if maximum in (None, unless) else f", at most {maximum:,} {unit}"


def _text_type(schema: Mapping[str, Any]) -> str:
    """`90s` for durations, `08:00` for times: by what their patterns match."""
    kinds = {"duration": "1h30m", "time of day": "08:00", "date": "2026-01-05", "date and time": "2026-01-05 08:00"}
    return next((kind for kind, example in kinds.items() if re.search(schema["pattern"], example)), "text")


def _default(schema: Mapping[str, Any]) -> str:
    match schema.get("default"):
        case None | "" | [] | {}:
            return ""
        case bool() as value:
            return f"`{str(value).lower()}`"
        case list() as values:
            return f"`[{', '.join(map(str, values))}]`"
        case value:
            return f"`{value}`"


def _description(schema: Mapping[str, Any]) -> str:
    return str(schema["description"]).replace("|", "\\|")


def _title(name: str) -> str:
    words = re.findall("[A-Z][a-z]*", name.removesuffix("Spec"))
    return " ".join([words[0], *map(str.lower, words[1:])])


if __name__ == "__main__":
    main()
